//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package cli

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	bq "google.golang.org/api/bigquery/v2"
	"google.golang.org/api/option"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/duck"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
)

// kitchen is what the cookbook's queries are asked of: one account over some
// nights, in Parquet, DuckDB and BigQuery.
type kitchen struct {
	served
	warehouse *bqtest.Server
}

const cookbookPipelines = `version: 1
state: {path: .sluice}
sources:
  crm: {type: contacts_api, url: %q, api_key: "${KEY}", requests_per_second: 1000}
destinations:
  lake: {type: parquet, path: out}
  local: {type: duckdb, path: out/contacts.duckdb}
  warehouse: {type: bigquery, project: %s, dataset: crm, endpoint: %q, grpc_endpoint: %q}
pipelines:
  nightly: {source: crm, destinations: [lake, local, warehouse], verify: off, timezone: America/Santiago}
`

// newKitchen exports 1,000 contacts at three in the morning of Santiago, three
// nights in a row, while they change by day, and looks for deleted ones. It is
// nine in the morning when it returns.
func newKitchen(t *testing.T) kitchen {
	t.Helper()
	h, start := &hands{}, time.Date(2026, 9, 1, 7, 0, 0, 0, time.UTC)
	h.now.Store(&start)
	o := sandbox.DefaultOptions()
	o.Contacts = 1000
	server, url := startSandbox(t, o, h)
	s := bigQueryOf(t, bqtest.Options{Clock: h})
	k := kitchen{served{server, newWorld(t, fmt.Sprintf(cookbookPipelines, url, s.Project(), s.URL(), s.Addr())), h}, s}
	k.clock, k.env["KEY"] = h, sandboxKey
	k.sluice(t, "run").mustBe(t, 0)
	k.spoils(t)
	for range 2 {
		for _, later := range []time.Duration{8 * time.Hour, 7 * time.Hour} { // at eleven and at six
			k.move(later)
			k.Mutate(sandbox.Mutation{Updates: 12, Creates: 4, Deletes: 1, Stages: 8})
		}
		k.move(9 * time.Hour)
		k.sluice(t, "run").mustBe(t, 0)
	}
	k.move(time.Hour)
	k.sluice(t, "reconcile", "nightly", "--max-share", "5%").mustBe(t, 0)
	k.move(5 * time.Hour)
	return k
}

// spoils gives three contacts budgets that are no numbers.
func (k kitchen) spoils(t *testing.T) {
	t.Helper()
	var dump strings.Builder
	if err := k.Dump(&dump); err != nil {
		t.Fatal(err)
	}
	for n, line := range strings.SplitN(dump.String(), "\n", 4)[:3] {
		var c struct{ ID string }
		if err := json.Unmarshal([]byte(line), &c); err != nil {
			t.Fatal(err)
		}
		budget := sandbox.Field{Key: "Presupuesto (CLP)", Value: json.RawMessage(`"` + []string{"por definir", "2 UF", "por definir"}[n] + `"`)}
		if err := k.Update(c.ID, sandbox.Change{Customer: []sandbox.Field{budget}}); err != nil {
			t.Fatal(err)
		}
	}
}

// engine is DuckDB over a destination, as sluice query opens it, at the time of
// the kitchen.
func (k kitchen) engine(t *testing.T, destination string) *duck.DB {
	t.Helper()
	a := &app{Program: Program{Env: func(name string) (string, bool) { v, ok := k.env[name]; return v, ok }, Clock: k.clock}, file: k.file()}
	cfg, err := a.load(config.Offline())
	if err != nil {
		t.Fatal(err)
	}
	from, err := scopeOf(cfg, destination)
	if err != nil {
		t.Fatal(err)
	}
	db, _, err := a.openScope(t.Context(), cfg, from)
	if err != nil {
		t.Fatal(err)
	}
	k.stops(t, db)
	return db
}

// stops has the time of a database stand still, and closes it in the end. A
// temporary macro comes before the function of its name, in views too.
func (k kitchen) stops(t *testing.T, db *duck.DB) {
	t.Helper()
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := db.Query(t.Context(), "SET threads = 1; CREATE TEMP MACRO now() AS TIMESTAMPTZ '"+k.at()+"'", 0); err != nil {
		t.Fatal(err)
	}
}

// at is the time of the kitchen, as SQL has it.
func (k kitchen) at() string { return k.clock.Now().UTC().Format("2006-01-02 15:04:05+00") }

func TestTheCookbookAnswersAsItShows(t *testing.T) {
	t.Parallel()
	lines, recipes := cookbook(t)
	k := newKitchen(t)
	lake, local := k.engine(t, "lake"), k.engine(t, "local")
	got := map[int]string{}
	last := recipe{}
	var shown *duck.Result
	for _, r := range recipes {
		switch r.words {
		case "sql":
			last, shown = r, k.asks(t, lake, r)
			if shown == nil {
				continue
			}
			got[r.line] = tableText(shown, 0)
			k.agrees(t, local, r, got[r.line])
			if !r.shown {
				t.Errorf("line %d: the page shows no answer", r.line)
			}
		case "sql bigquery":
			if last.section != r.section || last.line == 0 {
				t.Errorf("line %d: there is no query for DuckDB before it", r.line)
				continue
			}
			k.compares(t, r, shown)
			last = recipe{}
		case "sql dbt":
			k.builds(t, lake, r)
		default:
		}
	}
	k.python(t, recipes, got)
	answers(t, lines, recipes, got)
}

// asks runs a recipe in DuckDB. It has to have rows unless the page shows none.
func (k kitchen) asks(t *testing.T, db *duck.DB, r recipe) *duck.Result {
	t.Helper()
	res, err := db.Query(t.Context(), r.code, 0)
	if err != nil {
		t.Errorf("line %d: %v", r.line, err)
		return nil
	}
	if len(res.Rows) == 0 && !strings.Contains(r.answer, "(0 rows)") {
		t.Errorf("line %d: the answer is empty", r.line)
	}
	return res
}

// agrees asks another database, which has to answer the same.
func (k kitchen) agrees(t *testing.T, db *duck.DB, r recipe, want string) {
	t.Helper()
	if res := k.asks(t, db, r); res != nil && tableText(res, 0) != want {
		t.Errorf("line %d: (-files +database)\n%s", r.line, cmp.Diff(want, tableText(res, 0)))
	}
}

// compares asks BigQuery, which has to give the rows that DuckDB gave.
func (k kitchen) compares(t *testing.T, r recipe, want *duck.Result) {
	t.Helper()
	columns, rows, err := k.bigQuery(t, r.code)
	if err != nil {
		t.Errorf("line %d: %v", r.line, err)
		return
	}
	if want == nil {
		return
	}
	var text []string
	for _, row := range want.Rows {
		var cells []string
		for _, v := range row {
			cells = append(cells, plainCell(v))
		}
		text = append(text, strings.Join(cells, " | "))
	}
	var names []string
	for _, c := range want.Columns {
		names = append(names, c.Name)
	}
	if diff := cmp.Diff(append([]string{strings.Join(names, " | ")}, text...), append([]string{strings.Join(columns, " | ")}, rows...)); diff != "" {
		t.Errorf("line %d: (-DuckDB +BigQuery)\n%s", r.line, diff)
	}
}

// plainCell spells a number in one way, whatever its type.
func plainCell(v duck.Value) string {
	if v.Null {
		return "NULL"
	}
	if f, err := strconv.ParseFloat(v.Text, 64); err == nil {
		return strconv.FormatFloat(f, 'g', -1, 64)
	}
	return v.Text
}

// bigQuery asks the stand-in: names of columns, and a line for each row, spelled
// as plainCell spells what DuckDB prints.
func (k kitchen) bigQuery(t *testing.T, sql string) (columns, rows []string, err error) {
	t.Helper()
	client, err := bq.NewService(t.Context(), option.WithEndpoint(k.warehouse.URL()), option.WithoutAuthentication())
	if err != nil {
		t.Fatal(err)
	}
	legacy := false
	res, err := client.Jobs.Query(k.warehouse.Project(), &bq.QueryRequest{
		Query: sql, UseLegacySql: &legacy, FormatOptions: &bq.DataFormatOptions{UseInt64Timestamp: true},
	}).Context(t.Context()).Do()
	if err != nil {
		return nil, nil, err
	}
	for _, f := range res.Schema.Fields {
		columns = append(columns, f.Name)
	}
	for _, row := range res.Rows {
		var cells []string
		for i, c := range row.F {
			cells = append(cells, warehouseCell(t, res.Schema.Fields[i], c.V))
		}
		rows = append(rows, strings.Join(cells, " | "))
	}
	return columns, rows, nil
}

// warehouseCell spells a cell of BigQuery's REST API as DuckDB prints the value.
func warehouseCell(t *testing.T, f *bq.TableFieldSchema, v any) string {
	t.Helper()
	switch {
	case v == nil:
		return "NULL"
	case f.Mode == "REPEATED":
		var items []string
		list, _ := v.([]any)
		for _, item := range list {
			cell, _ := item.(map[string]any)
			items = append(items, fmt.Sprint(cell["v"]))
		}
		return "[" + strings.Join(items, ", ") + "]"
	case f.Type == "TIMESTAMP":
		us, err := strconv.ParseInt(fmt.Sprint(v), 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		return time.UnixMicro(us).UTC().Format("2006-01-02 15:04:05.999999+00")
	default:
		return plainCell(duck.Value{Text: fmt.Sprint(v)})
	}
}
