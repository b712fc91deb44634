//go:build unix

package main

import (
	"encoding/json"
	"fmt"
	"maps"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/crashtest"
	"github.com/sluice-etl/sluice/schemas"
)

const columnsPipelines = `version: 1
sources:
  crm: {type: contacts_api, url: %q, api_key: "${CONTACTS_API_KEY}", requests_per_second: 1000, page_size: 10, concurrency: 2}
destinations:
  lake: {type: parquet, path: out}
  local: {type: duckdb, path: out/contacts.duckdb}
pipelines:
  nightly:
    source: crm
    table: contacts
    schema: contract.yaml
    hash_key: %s
    lookback: 1s # with an hour, each run would read again what the one before it has lost
    destinations: [lake, local]
`

// growing is a program that exports a source whose contacts get new fields.
type growing struct {
	*judge
	source  *crashtest.Growth
	page    atomic.Pointer[func()] // called before each page is served
	columns map[string]schemas.Type
}

func newGrowing(t *testing.T) *growing {
	t.Helper()
	g := &growing{columns: map[string]schemas.Type{}}
	endpoint := &crashtest.Endpoint{Clock: clock.System{}, Page: func() {
		if page := g.page.Load(); page != nil {
			(*page)()
		}
	}}
	served := httptest.NewServer(endpoint)
	t.Cleanup(served.Close)
	g.source = crashtest.NewGrowth(endpoint, 60)
	g.judge = newJudge(t, t.TempDir(), served.URL)
	g.Rules = &g.source.Rules
	for name, text := range map[string]string{
		"pipelines.yaml": fmt.Sprintf(columnsPipelines, served.URL, g.source.Rules.HashKey), "contract.yaml": string(g.source.Rules.YAML()),
	} {
		if err := os.WriteFile(filepath.Join(g.dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return g
}

// step changes the source.
func (g *growing) step(t *testing.T, step int) {
	t.Helper()
	if err := g.source.Step(step, clock.System{}.Now()); err != nil {
		t.Fatal(err)
	}
	g.note(t)
}

func (g *growing) note(t *testing.T) {
	t.Helper()
	if err := g.Look(g.source.Endpoint.Dump()); err != nil {
		t.Fatal(err)
	}
}

// same fails unless both destinations have the columns that the program prints,
// and hold by the contract what the source has.
func (g *growing) same(t *testing.T, e crashtest.Expect) schemas.Table {
	t.Helper()
	var table schemas.Table
	if err := json.Unmarshal(output(t, sluice(t, g.dir, "schema", "nightly", "--json")), &table); err != nil {
		t.Fatal(err)
	}
	faults, err := g.Columns(t.Context(), g.table(), table)
	if err != nil {
		t.Fatal(err)
	}
	inLake, err := g.Check(t.Context(), g.table(), table, e)
	if err != nil {
		t.Fatal(err)
	}
	inDatabase, err := g.CheckDatabase(t.Context(), filepath.Join(g.dir, "out", "contacts.duckdb"), "contacts", table, e)
	if err != nil {
		t.Fatal(err)
	}
	if faults = slices.Concat(faults, inLake, inDatabase); len(faults) > 0 {
		t.Fatal(crashtest.Summary(faults))
	}
	return table
}

// grown fails unless the table has the columns of before, as they were, those
// that a step brings, and no others.
func (g *growing) grown(t *testing.T, table schemas.Table, step int) {
	t.Helper()
	here, found := map[string]schemas.Type{}, []string(nil)
	for _, c := range table.Columns {
		here[c.Name] = c.Type
		if _, old := g.columns[c.Name]; !old && c.Origin != schemas.FromContract && c.Origin != schemas.SystemDefined {
			found = append(found, c.Name)
		}
	}
	for name, typ := range g.columns {
		if here[name] != typ {
			t.Errorf("column %s was %s, and is %q", name, typ, here[name])
		}
	}
	want := slices.Clone(g.source.Steps()[step].Columns)
	for _, name := range found {
		i := slices.IndexFunc(want, func(w string) bool {
			prefix, open := strings.CutSuffix(w, "*")
			return w == name || open && strings.HasPrefix(name, prefix)
		})
		if i < 0 {
			t.Errorf("%s brings a column %s", g.source.Steps()[step].Name, name)
			continue
		}
		want = slices.Delete(want, i, i+1)
	}
	if len(want) > 0 {
		t.Errorf("%s brings no columns %v, but %v", g.source.Steps()[step].Name, want, found)
	}
	for _, name := range g.source.Gone() {
		if _, there := here[name]; there {
			t.Errorf("there is a column %s", name)
		}
	}
	g.columns = maps.Clone(here)
}

func TestNewFieldsAreColumnsOfEveryDestinationTheMomentARunEnds(t *testing.T) {
	g := newGrowing(t)
	for step := range g.source.Steps() {
		g.step(t, step)
		finished(t, output(t, sluice(t, g.dir, "run", "--json")))
		g.grown(t, g.same(t, crashtest.Expect{}), step)
	}
	if got := finished(t, output(t, sluice(t, g.dir, "run", "--json", "--full"))); got.New+got.Changed != 0 {
		t.Errorf("a full read finds %d new and %d changed contacts where nothing changed", got.New, got.Changed)
	}
	g.grown(t, g.same(t, crashtest.Expect{}), 2)
	tidy(t, g.dir)
}

func TestARunKilledWhileColumnsAreNewConvergesToTheSame(t *testing.T) {
	if testing.Short() {
		t.Skip("kills the program for seconds; what it kills runs above")
	}
	g := newGrowing(t)
	killed := 0
	for step := range g.source.Steps() {
		g.step(t, step)
		all := []string{"page", "part_sealed", "package_sealed", "committed"}
		for _, at := range []string{all[step%4], all[(step+1)%4]} {
			if g.kill(t, at) {
				killed++
			}
		}
		finished(t, output(t, sluice(t, g.dir, "run", "--json")))
		g.grown(t, g.same(t, crashtest.Expect{Unseen: true}), step)
	}
	tidy(t, g.dir)
	if t.Logf("%d kills", killed); killed < len(g.source.Steps()) {
		t.Errorf("too few of the runs were killed: %d", killed)
	}
}

// kill begins a run and kills it at a page, or once it has said what; it reports
// whether the run had not come to its end before.
func (g *growing) kill(t *testing.T, what string) bool {
	t.Helper()
	reached := make(chan struct{})
	var pages atomic.Int64
	page := func() {
		if pages.Add(1) == 2 {
			close(reached)
		}
	}
	g.page.Store(&page)
	defer g.page.Store(nil)
	m := startMortal(t, g.dir, "run", "--json")
	if what == "page" {
		m.killAt(-1, reached)
	} else {
		m.waitFor(t, `"`+what+`"`)
		_ = m.Process.Kill()
	}
	code := m.end(t)
	if code > 0 {
		t.Fatalf("the run ended with %d: %s", code, m.stderr.Bytes())
	}
	return code < 0
}
