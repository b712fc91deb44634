package bigquery

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/load/loadtest"
	sqlviews "github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

func viewNames(list []view) string {
	var out []string
	for _, v := range list {
		if v.Function {
			out = append(out, v.Name+"()")
		} else {
			out = append(out, v.Name)
		}
	}
	return strings.Join(out, " ")
}

func santiago(t *testing.T) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation("America/Santiago")
	if err != nil {
		t.Fatal(err)
	}
	return zone
}

// UPDATE_GOLDEN=1 go test rewrites the expectation.
func TestTheViewsAreThese(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	list := viewsSQL(viewOptions{
		Project: "my-project", Dataset: "crm", Table: "contacts", Columns: loadtest.Table(), Timezone: santiago(t),
		Labels: map[string]string{"team": "data", "env": ""},
	})
	for _, v := range list {
		b.WriteString(v.SQL + ";\n\n")
		if !ownView(v.Comment) || ownView("Mine.") {
			t.Errorf("%s is not told apart by its description, %q", v.Name, v.Comment)
		}
	}
	golden := filepath.Join("testdata", "views.sql")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(golden, []byte(b.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), b.String()); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
}

// The configuration refuses a table with the name of something that belongs to
// another: it knows all of these names.
func TestNoTableCanHaveTheNameOfAnothersViewOrTable(t *testing.T) {
	t.Parallel()
	names := []string{"contacts" + historySuffix, "contacts" + stagingSuffix, "contacts" + commitsSuffix}
	for _, v := range viewsSQL(viewOptions{Table: "contacts", Columns: loadtest.Table()}) {
		names = append(names, v.Name)
	}
	for _, name := range names {
		c, list := config.Parse("p.yaml", []byte(`version: 1
sources: {crm: {type: contacts_api, url: "https://api.example.com", api_key: "${K}"}}
destinations: {w: {type: bigquery, project: my-project, dataset: crm}}
pipelines: {one: {source: crm, destinations: w}, two: {source: crm, destinations: w, table: `+name+`}}
`), "/srv", func(string) (string, bool) { return "key", true })
		if c != nil || len(list) != 1 || !strings.Contains(list[0].Summary, "belongs to table contacts") {
			t.Errorf("%s: got %v", name, list)
		}
	}
}

// Whoever knows the views of one destination knows those of the other.
func TestBigQueryHasTheViewsThatDuckDBHas(t *testing.T) {
	t.Parallel()
	have := map[string]bool{"_history": true} // the table itself
	for _, v := range viewsSQL(viewOptions{Table: "contacts", Columns: loadtest.Table()}) {
		have[strings.TrimPrefix(v.Name, "contacts")] = true
	}
	for _, v := range sqlviews.List(sqlviews.Options{Columns: loadtest.Table()}) {
		name := "_" + v.Bare
		if suffix, own := strings.CutPrefix(v.Bare, "contacts"); own {
			name = suffix
		}
		switch name {
		case "": // the table has its name
			name = "_active"
		case "_active":
			name = "_active_within"
		}
		if !have[name] {
			t.Errorf("DuckDB's %s has no counterpart", v.Name)
		}
	}
}

func TestAViewWithoutItsColumnsIsLeftOut(t *testing.T) {
	t.Parallel()
	table := loadtest.Table()
	var few schemas.Table
	for _, c := range table.Columns {
		if c.Origin == schemas.SystemDefined || c.Required || c.Name == "last_message_at" {
			few.Columns = append(few.Columns, c)
		}
	}
	got := viewNames(viewsSQL(viewOptions{Table: "contacts", Columns: few}))
	if want := "contacts_all contacts_active contacts_as_of() contacts_active_within() contacts_new_and_updated contacts_runs"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if list := viewsSQL(viewOptions{Table: "contacts"}); len(list) != 0 {
		t.Errorf("views of a table without columns: %s", viewNames(list))
	}
}

func TestAViewOverColumnsOfOtherTypesIsLeftOut(t *testing.T) {
	t.Parallel()
	odd := loadtest.Table()
	odd.Columns = slices.Clone(odd.Columns)
	for name, typ := range map[string]schemas.Type{"last_message_at": schemas.String, "blocked": schemas.String, "active_ticket_v2_current_stage_id": schemas.Int64} {
		odd.Columns[odd.Index(name)].Type = typ
	}
	list := viewsSQL(viewOptions{Table: "contacts", Columns: odd})
	if got, want := viewNames(list), "contacts_all contacts_active contacts_as_of() contacts_new_and_updated contacts_runs"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, v := range list {
		if strings.Contains(v.SQL, "blocked IS NOT TRUE") {
			t.Errorf("%s takes a text for true or false", v.Name)
		}
	}
}

func TestANameThatSomethingElseHasIsLeftToIt(t *testing.T) {
	t.Parallel()
	got := viewNames(viewsSQL(viewOptions{Table: "contacts", Columns: loadtest.Table(), Taken: []string{"Contacts_Active", "customers", "contacts_runs"}}))
	if want := "contacts_all contacts_as_of() contacts_activity_daily contacts_new_and_updated"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

func TestNamesOfAViewsOwnGiveWayToColumns(t *testing.T) {
	t.Parallel()
	extra := func(name string, k schemas.Type) schemas.Column { return loadtest.Extra(name, k) }
	list := viewsSQL(viewOptions{Table: "contacts", Columns: loadtest.Table(
		extra("t", schemas.String), extra("days", schemas.Int64), extra("waiting_hours", schemas.Int64), extra("silent_days", schemas.Int64),
		extra("created_date", schemas.String),
	)})
	for _, v := range list {
		for _, bad := range []string{"(t TIMESTAMP)", "(days INT64)", "AS waiting_hours\n", "AS silent_days\n", "AS `created_date`"} {
			if strings.Contains(v.SQL, bad) {
				t.Errorf("%s has %q:\n%s", v.Name, bad, v.SQL)
			}
		}
		if v.Name == "contacts_as_of" && !strings.Contains(v.SQL, "_sluice_extracted_at <= t__") {
			t.Errorf("the parameter is not used:\n%s", v.SQL)
		}
	}
}

func TestTextIsQuotedAsBigQueryReadsIt(t *testing.T) {
	t.Parallel()
	w := &viewWriter{}
	if got, want := w.text("it's a \\ and\r\na line"), `'it\'s a \\ and\r\na line'`; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}
