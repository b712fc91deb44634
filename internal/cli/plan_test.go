package cli

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/plan"
)

// settings are attributes, given as name, value, ...
func settings(pairs ...string) []plan.Setting {
	var out []plan.Setting
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, plan.Setting{Name: pairs[i], Value: pairs[i+1]})
	}
	return out
}

// manyColumns are settings of a table's columns.
func manyColumns(n int) []plan.Setting {
	var out []plan.Setting
	for i := range n {
		out = append(out, plan.Setting{Name: fmt.Sprintf("column.cf_customer_%02d", i), Value: "string"})
	}
	return out
}

func TestAPlanShowsEachAttributeAndWhatTheChangeDoes(t *testing.T) {
	t.Parallel()
	method, secret := settings("method", "load", "max_staleness", ""), settings("hash_key", "new", "sync", "recent")
	method[0].Forces, secret[0].Sensitive = true, true
	at := time.Date(2026, 11, 23, 9, 12, 0, 0, time.UTC)
	since := at.Add(-30 * time.Hour)
	p, err := plan.New(plan.Input{
		Resources: []plan.Resource{
			{
				Address: plan.TableAddress("warehouse", "leads"), Kind: plan.KindTable, Destination: "warehouse",
				Have: settings("method", "cdc", "max_staleness", "10m"), Want: method,
				Effects: []string{"One sentence.", "Another one, which is longer than a line of a plan is wide, so that it goes on in the next line."},
			},
			{Address: plan.TableAddress("warehouse", "contacts"), Kind: plan.KindTable, Destination: "warehouse", Have: settings("place", "p.d.contacts", "labels.team", "data"), Want: append(settings("place", "p.d.contacts", "labels.team", "growth"), manyColumns(23)...)},
			{Address: plan.TableAddress("lake", "contacts"), Kind: plan.KindTable, Destination: "lake", Want: append(settings("place", "out/contacts"), manyColumns(41)...)},
			{Address: plan.ViewAddress("lake", "contacts"), Kind: plan.KindView, Destination: "lake", Want: settings("definition", "ab")},
			{Address: plan.ViewAddress("lake", "contacts_all"), Kind: plan.KindView, Destination: "lake", Want: settings("definition", "ab")},
			{Address: plan.ViewAddress("lake", "contacts_as_of"), Kind: plan.KindView, Destination: "lake", Want: settings("definition", "ab"), Have: settings("definition", "cd")},
			{Address: plan.ViewAddress("lake", "old"), Kind: plan.KindView, Destination: "lake", Have: settings("definition", "cd")},
			{Address: plan.TableAddress("gone", "contacts"), Kind: plan.KindTable, Destination: "gone", Applied: settings("place", "elsewhere")},
			{Address: plan.TableAddress("local", "contacts"), Kind: plan.KindTable, Destination: "local", Applied: settings("place", "out/x.duckdb", "column.a", "string"), Have: settings("place", "out/x.duckdb", "column.b", "date"), Want: settings("place", "out/x.duckdb", "column.a", "string")},
			{Address: plan.PipelineAddress("nightly"), Kind: plan.KindPipeline, Have: settings("hash_key", "old", "sync", "incremental"), Want: secret, Effects: []string{"Everything is read again."}},
		},
		Syncs: []plan.Sync{
			{
				Pipeline: "nightly", Mode: "full", Reason: "the contract changed", Counted: true, At: &at, Asked: 34, Contacts: 48210, Pages: 49, Requests: 52, Duration: 25 * time.Second,
				Destinations: []plan.SyncDestination{{Name: "lake", Bytes: 12_300_000, Waiting: 2}, {Name: "warehouse", Seeded: true, Bytes: 14e6, Scanned: 1_200_000_000, Price: 0.0068}, {Name: "local"}},
			},
			{Pipeline: "leads", Mode: "incremental", Reason: "changes since the cursor", Since: &since, Counted: true, At: &at, Asked: 9, Contacts: 120, Reread: 20, Exact: true, Pages: 1, Requests: 4, Duration: 2 * time.Second, Kept: 7, Limit: "max_requests stops it after 3 requests; what it has read by then is kept, and the next run goes on"},
			{Pipeline: "other", Mode: "full", Reason: "first run of this pipeline", CountError: "connection refused"},
		},
	})
	if err != nil {
		t.Fatal(err)
	}
	golden(t, "plan/all.txt", planText(p, plainly))
	if got := strings.NewReplacer("\x1b[31m", "", "\x1b[32m", "", "\x1b[33m", "", "\x1b[0m", "").Replace(planText(p, coloured)); got != planText(p, plainly) {
		t.Errorf("colours change the text:\n%s", got)
	}
	if !strings.Contains(planText(p, coloured), "\x1b[31m-/+\x1b[0m destination.warehouse.table.leads") {
		t.Errorf("a replacement is not red:\n%s", planText(p, coloured))
	}
	// Of the escapes, none comes from a server or a file.
	p.Syncs[2].CountError = "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[32m"
	p.Drift[0].Address += "\x1b[33m"
	text := planText(p, coloured)
	for _, colour := range []string{"\x1b[31m", "\x1b[32m", "\x1b[33m"} {
		for _, mark := range []string{"-/+", "  -", "  +", "  ~", "      -", "      +", "      ~"} {
			text = strings.ReplaceAll(text, colour+mark+"\x1b[0m", mark)
		}
	}
	if strings.ContainsAny(text, "\x1b\x07") || !strings.Contains(text, "contacts\ufffd[33m\n") {
		t.Errorf("an escape went through:\n%q", text)
	}
}

func TestASummaryCountsWhatIsDoneAndRead(t *testing.T) {
	t.Parallel()
	counted := plan.Sync{Counted: true, Contacts: 48210, Pages: 49, Duration: 25 * time.Second}
	exact := plan.Sync{Counted: true, Contacts: 1, Pages: 1, Exact: true}
	for want, p := range map[string]plan.Plan{
		"No changes: the destinations are as the configuration asks for them.":                                                 {},
		"No changes: the destinations are as the configuration asks for them. 1 sync: about 48,210 contacts (49 pages, 25 s).": {Syncs: []plan.Sync{counted}},
		"No changes: the destinations are as the configuration asks for them. 1 sync: 1 contact (1 page, 0.0 s).":              {Syncs: []plan.Sync{exact}},
		"No changes: the destinations are as the configuration asks for them. 2 syncs.":                                        {Syncs: []plan.Sync{exact, {}}},
		"Plan: 2 to add, 1 to change, 0 to destroy. 2 syncs: about 48,211 contacts (50 pages, 25 s).":                          {Changes: []plan.Change{{Action: plan.Create}, {Action: plan.Create}, {Action: plan.Update}}, Syncs: []plan.Sync{counted, exact}},
		"Plan: 0 to add, 0 to change, 1 to replace, 1 to forget, 1 to destroy.":                                                {Changes: []plan.Change{{Action: plan.Replace}, {Action: plan.Forget}, {Action: plan.Destroy}}},
	} {
		if got := planSummary(p); got != want {
			t.Errorf("got  %s\nwant %s", got, want)
		}
	}
}

func TestAPlanChangesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	w.sluice(t, "plan").mustBe(t, 0)
	if made := w.tree(t, "."); len(made) != 1 {
		t.Errorf("a first plan leaves %v", made)
	}
	w.sluice(t, "run").mustBe(t, 0)
	before := w.tree(t, "out", ".sluice/state")
	for _, line := range [][]string{{"plan"}, {"plan", "nightly", "--detailed-exitcode"}, {"plan", "--json"}, {"plan", "--refresh=false"}, {"apply", "--no-data"}} {
		if r := w.sluice(t, line...).mustBe(t, 0); r.err != "" || line[0] == "apply" && r.out != "No changes: the destinations are as the configuration asks for them.\n" {
			t.Errorf("%v: got %q and %q", line, r.out, r.err)
		}
	}
	after := w.tree(t, "out", ".sluice/state")
	for name, was := range before {
		if after[name] != was {
			t.Errorf("a plan has changed %s", name)
		}
	}
}
