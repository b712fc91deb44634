package views_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

func names(o views.Options) string {
	var out []string
	for _, v := range views.List(o) {
		out = append(out, v.Name)
	}
	return strings.Join(out, " ")
}

func TestAReportWhoseNameIsTakenGoesByTheTables(t *testing.T) {
	t.Parallel()
	o := views.Options{Columns: loadtest.Table(), Taken: []string{"customers", "active", "runs", "contacts_runs", "contacts"}}
	want := "contacts_all contacts contacts_history contacts_as_of(t) contacts_customers contacts_active(days) activity_daily" +
		" engagement_by_channel unattended reengagement(days) stage_funnel new_and_updated"
	if d := cmp.Diff(want, names(o)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if text := views.SQL(o); !strings.Contains(text, `CREATE OR REPLACE VIEW "contacts_customers" AS`) || strings.Contains(text, `VIEW "customers"`) {
		t.Error("the SQL makes other views than are listed")
	}
}

func TestRowsComeFromWhereTheCallerSays(t *testing.T) {
	t.Parallel()
	text := views.SQL(views.Options{Columns: loadtest.Table(), Current: `x."now"`, History: `x."then"`, Runs: "FROM x.runs"})
	for part, n := range map[string]int{`FROM x."now"`: 1, `FROM x."then"`: 2, "FROM x.runs;": 1, "WHERE false": 0} {
		if strings.Count(text, part) != n {
			t.Errorf("%q stands there %d times, want %d", part, strings.Count(text, part), n)
		}
	}
	if text := views.SQL(views.Options{}); text != "" {
		t.Errorf("views of a table without columns: %s", text)
	}
}

// A contract may declare a known column with another type.
func TestReportsDoWithoutColumnsOfTypesTheyCannotReckonWith(t *testing.T) {
	t.Parallel()
	o := views.Options{Columns: loadtest.Table()}
	o.Columns.Columns = slices.Clone(o.Columns.Columns)
	for name, typ := range map[string]schemas.Type{"last_message_at": schemas.String, "blocked": schemas.String, "active_ticket_v2_current_stage_id": schemas.Int64} {
		o.Columns.Columns[o.Columns.Index(name)].Type = typ
	}
	if d := cmp.Diff("contacts_all contacts contacts_history contacts_as_of(t) new_and_updated runs", names(o)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	if text := views.SQL(o); strings.Contains(text, `"blocked" IS NOT TRUE`) {
		t.Error("a text is taken for true or false")
	}
}
