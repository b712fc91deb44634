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
	want := "contacts_all contacts contacts_history contacts_as_of(t) contacts_customers contacts_active(days) unattended" +
		" reengagement(days) activity_daily engagement_by_channel stage_funnel new_and_updated"
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

// under is a table as a contract with renames, policies and fields left out
// makes it.
func under(t *testing.T, contract string) schemas.Table {
	t.Helper()
	c, err := schemas.ParseContract("crm.yaml", []byte(contract))
	if err != nil {
		t.Fatal(err)
	}
	// Earlier runs had a column of the chat's status.
	reg, err := schemas.NewRegistry(c, []schemas.RegistryEntry{{Scope: schemas.ScopeContact, Key: "chat_status", Column: "chat_status", Type: schemas.String, FirstRun: "r"}})
	if err != nil {
		t.Fatal(err)
	}
	return reg.Table()
}

const renamedContract = `version: 1
columns:
  - {name: id, type: string, required: true}
  - {name: created_at, type: timestamp, required: true}
  - {name: updated_at, type: timestamp, required: true}
  - {name: seen, path: last_message_at, type: timestamp}
  - {name: channel, path: platform, type: string, policy: hash}
  - {name: person, path: ai_customer_id, type: string, policy: mask}
  - {name: bad, path: blocked, type: bool}
  - {name: stage, path: active_ticket_v2.current_stage_id, type: string, policy: hash}
  - {name: platform, path: cf_customer.platform, type: string}
exclude: [chat_status]
`

func TestWhatAContractTakesFromTheViewsIsSaidOnce(t *testing.T) {
	t.Parallel()
	o := views.Options{Columns: under(t, renamedContract), Stages: "x.stages"}
	if d := cmp.Diff("contacts_all contacts contacts_history contacts_as_of(t) active(days) new_and_updated runs", names(o)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	want := []string{
		"contacts shows playground contacts: column channel has policy hash",
		"customers is left out: column person has policy mask",
		"unattended is left out: the contract leaves out chat_status",
		"reengagement is left out: column person has policy mask",
		"activity_daily is left out: column channel has policy hash",
		"engagement_by_channel is left out: column channel has policy hash",
		"stage_funnel is left out: the table has no column of active_ticket_v2.id",
		"contacts names no stages: column stage has policy hash",
	}
	if d := cmp.Diff(want, views.Notes(o)); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	text := views.SQL(o)
	for _, part := range []string{`"bad" IS NOT TRUE`, `"seen" >= now()`, `AS "last_message_date"`} {
		if !strings.Contains(text, part) {
			t.Errorf("%s is not in\n%s", part, text)
		}
	}
	if strings.Contains(text, "'playground'") || strings.Contains(text, "LEFT JOIN") {
		t.Errorf("hashes are compared with values:\n%s", text)
	}
}

func TestTheBuiltInContractTakesNothingFromTheViews(t *testing.T) {
	t.Parallel()
	reg, err := schemas.NewRegistry(schemas.Default(), nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []views.Options{{Columns: reg.Table(), Stages: "x.stages"}, {Columns: loadtest.Table(), Stages: "x.stages"}, {}} {
		if notes := views.Notes(o); len(notes) > 0 {
			t.Errorf("noted: %v", notes)
		}
	}
}
