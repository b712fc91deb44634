//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	bq "google.golang.org/api/bigquery/v2"

	"github.com/sluice-etl/sluice/internal/crashtest"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/loadtest"
)

// lineage is that of the ledger's packages.
const lineage = "lineage-a"

// changes are pairs of methods of which the second has the table made anew.
func changes() [][2]Method {
	return [][2]Method{{Stream, CDC}, {CDC, Stream}, {Load, CDC}, {CDC, Load}}
}

// wants returns the loader's ReplaceError, nil where it has none.
func wants(t *testing.T, l *Loader) *load.ReplaceError {
	t.Helper()
	_, err := l.Check(t.Context(), lineage)
	var e *load.ReplaceError
	if err != nil && !errors.As(err, &e) {
		t.Fatal(err)
	}
	return e
}

func TestAnotherKindOfMethodIsAReplaceThatNobodyDoesUnasked(t *testing.T) {
	t.Parallel()
	for _, c := range changes() {
		s := standIn(t, bqtest.Options{})
		g := newLedger(t, s, c[0], "crm")
		if err := g.through("first", false, nil); err != nil {
			t.Fatal(err)
		}
		g.method = c[1]
		e := wants(t, g.loader())
		if e == nil || e.Attribute != "method" || e.From != string(c[0]) || e.To != string(c[1]) || !strings.HasSuffix(e.Table, ".crm.contacts") {
			t.Fatalf("%v: got %+v", c, e)
		}
		if !strings.Contains(e.Detail, "about 2 rows") || !strings.Contains(e.Hint(), "sluice apply") {
			t.Errorf("%v: it says %q and hints %q", c, e.Detail, e.Hint())
		}
		before := maps.Clone(g.live)
		p, _ := g.next(false)
		if _, err := g.loader().Commit(t.Context(), p); !errors.As(err, &e) {
			t.Errorf("%v: a commit gives %v", c, err)
		}
		if err := g.holds(before); err != nil {
			t.Error(err)
		}
	}
	g := newLedger(t, standIn(t, bqtest.Options{}), Stream, "crm")
	if err := g.through("first", false, nil); err != nil {
		t.Fatal(err)
	}
	g.method = Load
	if e := wants(t, g.loader()); e != nil {
		t.Errorf("from stream to load: %v", e)
	}
	if done, err := g.loader().Replace(t.Context(), lineage); err != nil || done != (load.Replaced{}) {
		t.Errorf("where there is nothing to replace: %+v, %v", done, err)
	}
}

// form is what a table is made as, without what is its alone.
func form(t *testing.T, l *Loader) bq.Table {
	t.Helper()
	m, err := l.table(t.Context(), l.o.Table)
	if err != nil || m == nil {
		t.Fatalf("no table: %v", err)
	}
	out := bq.Table{
		Description: m.Description, Labels: m.Labels, TimePartitioning: m.TimePartitioning, Clustering: m.Clustering,
		TableConstraints: m.TableConstraints, Schema: m.Schema, ExpirationTime: m.ExpirationTime,
	}
	delete(out.Labels, rebuiltLabel)
	return out
}

func TestATableOfAnotherMethodIsMadeAnewWithAllItHolds(t *testing.T) {
	t.Parallel()
	for _, c := range changes() {
		t.Run(fmt.Sprint(c[0], " to ", c[1]), func(t *testing.T) {
			t.Parallel()
			s := standIn(t, bqtest.Options{})
			g, fresh := newLedger(t, s, c[0], "crm"), newLedger(t, s, c[1], "fresh")
			for range 3 {
				if err := errors.Join(g.through("before", false, nil), fresh.through("before", false, nil)); err != nil {
					t.Fatal(err)
				}
			}
			rows := read(t, g.loader().remote, "SELECT * FROM "+g.loader().o.quoted("contacts"))
			g.method = c[1]
			done, err := g.loader().Replace(t.Context(), lineage)
			if err != nil || done.Contacts != int64(len(g.live)) {
				t.Fatalf("got %+v, %v", done, err)
			}
			after := read(t, g.loader().remote, "SELECT * FROM "+g.loader().o.quoted("contacts"))
			loadtest.Sort(rows)
			loadtest.Sort(after)
			if diff := gocmp.Diff(rows, after); diff != "" {
				t.Errorf("rows (-before +after):\n%s", diff)
			}
			if diff := gocmp.Diff(form(t, fresh.loader()), form(t, g.loader())); diff != "" {
				t.Errorf("the table (-a new one +this):\n%s", diff)
			}
			if left, err := g.loader().table(t.Context(), "contacts__rebuilt"); left != nil || err != nil {
				t.Errorf("the table beside it is still there: %v", err)
			}
			if got := read(t, g.loader().remote, "SELECT COUNT(*) AS n FROM crm.contacts_all")[0]["n"]; got != int64(len(g.live)) {
				t.Errorf("the view shows %v", got)
			}
			if e := wants(t, g.loader()); e != nil {
				t.Error(e)
			}
			for range 3 {
				if err := g.through("after", true, nil); err != nil {
					t.Fatal(err)
				}
			}
			if _, err := g.loader().Verify(t.Context(), lineage, func(f load.Fault) { t.Errorf("found %+v", f) }); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestColumnsAndLabelsOfOthersStay(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	g := newLedger(t, s, Stream, "crm")
	if err := g.through("first", false, nil); err != nil {
		t.Fatal(err)
	}
	l := g.loader()
	read(t, l.remote, "ALTER TABLE crm.contacts ADD COLUMN segment STRING OPTIONS (description = 'ours'); UPDATE crm.contacts SET segment = CONCAT('of ', id) WHERE TRUE")
	if _, err := l.rest.Tables.Patch(l.o.Project, "crm", "contacts", &bq.Table{Labels: map[string]string{"team": "sales"}}).Do(); err != nil {
		t.Fatal(err)
	}
	g.method = CDC
	if e := wants(t, g.loader()); e == nil || !strings.Contains(e.Detail, "keep their values: segment. From then on a contact that changes loses them.") {
		t.Errorf("it says %v", e)
	}
	if _, err := g.loader().Replace(t.Context(), lineage); err != nil {
		t.Fatal(err)
	}
	f := form(t, g.loader())
	if c := fieldNamed(f.Schema.Fields, "segment"); c == nil || c.Description != "ours" || f.Labels["team"] != "sales" {
		t.Errorf("column %+v, labels %v", c, f.Labels)
	}
	for _, r := range read(t, l.remote, "SELECT id, segment FROM crm.contacts") {
		if r["segment"] != "of "+r.ID() {
			t.Errorf("%s has %v", r.ID(), r["segment"])
		}
	}
}

func TestAnOlderRowReplacesNoRowThatWasCopied(t *testing.T) {
	t.Parallel()
	g := newLedger(t, standIn(t, bqtest.Options{}), Stream, "crm")
	at := loadtest.Epoch
	contact := func(id, name string, at time.Time) loadtest.Row {
		return loadtest.Contact(id, loadtest.Epoch.AddDate(0, -1, 0), at, "name", name)
	}
	commit := func(serial int64, rows ...loadtest.Row) {
		t.Helper()
		if _, err := g.loader().Commit(t.Context(), loadtest.Build(t, loadtest.Spec{Serial: serial, Rows: rows})); err != nil {
			t.Fatal(err)
		}
	}
	commit(1, contact("a", "new", at), contact("b", "new", at))
	g.method = CDC
	if _, err := g.loader().Replace(t.Context(), lineage); err != nil {
		t.Fatal(err)
	}
	commit(2, contact("a", "old", at.Add(-time.Hour)), contact("b", "newer", at.Add(time.Minute)))
	commit(3, contact("b", "older", at.Add(time.Second)))
	got := map[string]any{}
	for _, r := range read(t, g.loader().remote, "SELECT id, name FROM crm.contacts") {
		got[r.ID()] = r["name"]
	}
	if diff := gocmp.Diff(map[string]any{"a": "new", "b": "newer"}, got); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	if n := read(t, g.loader().remote, "SELECT COUNT(*) AS n FROM crm.contacts_history")[0]["n"]; n != int64(5) {
		t.Errorf("history has %v versions", n)
	}
}

func TestUpsertsThatWereNotSentAreInTheCopy(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	g := newLedger(t, s, CDC, "crm")
	if err := g.through("first", false, nil); err != nil {
		t.Fatal(err)
	}
	p, want := g.next(true)
	// The package's rows are staged by a first connection; its upserts go over a second.
	s.Inject(bqtest.Fault{Call: "GetWriteStream", Times: -1, Status: 403, Code: 7, Message: "no more"})
	if _, err := g.loader().Commit(t.Context(), p); err == nil {
		t.Fatal("the upserts were sent")
	}
	s.Heal()
	if last, err := g.loader().last(t.Context()); err != nil || last.status != statusApplying {
		t.Fatalf("the record is %+v, %v", last, err)
	}
	g.method = Stream
	if _, err := g.loader().Replace(t.Context(), lineage); err != nil {
		t.Fatal(err)
	}
	if err := g.holds(nil); err != nil {
		t.Error(err)
	}
	got, err := g.loader().Commit(t.Context(), p) // which still waits in its queue
	if err != nil || got.New != want.New || got.Changed != want.Changed {
		t.Errorf("got %+v, %v, want %+v", got, err, want)
	}
	if err := errors.Join(g.holds(nil), g.through("after", false, nil)); err != nil {
		t.Error(err)
	}
}

func TestWhatQueriesNeedNotShowYetIsCopiedAndWhatIsErasedIsNot(t *testing.T) {
	t.Parallel()
	g := newLedger(t, standIn(t, bqtest.Options{}), CDC, "crm")
	stale := func() *Loader {
		l := g.loader()
		l.o.MaxStaleness = time.Hour
		return l
	}
	for range 2 {
		p, _ := g.next(false)
		if _, err := stale().Commit(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := stale().Erase(t.Context(), load.Erasure{Lineage: lineage, ID: "c0004"}); err != nil {
		t.Fatal(err)
	}
	delete(g.live, "c0004")
	g.versions--
	g.method = Stream
	if _, err := g.loader().Replace(t.Context(), lineage); err != nil {
		t.Fatal(err)
	}
	if err := g.holds(nil); err != nil {
		t.Error(err)
	}
}

func TestAReplaceThatIsKilledAtAnyCallIsEndedByTheNext(t *testing.T) {
	t.Parallel()
	for i, c := range changes() {
		t.Run(fmt.Sprint(c[0], " to ", c[1]), func(t *testing.T) {
			t.Parallel()
			if testing.Short() && i > 1 {
				t.Skip("the pairs with load run without -short")
			}
			s := standIn(t, bqtest.Options{})
			g := newLedger(t, s, c[0], "crm")
			if err := errors.Join(g.through("first", false, nil), g.through("second", true, nil)); err != nil {
				t.Fatal(err)
			}
			as := func(m Method) *Loader {
				g.method = m
				return g.loader()
			}
			calls := counted(s, func() {
				if _, err := as(c[1]).Replace(t.Context(), lineage); err != nil {
					t.Fatal(err)
				}
			})
			kills, turn, gone := 0, 0, 0
			for _, call := range slices.Sorted(maps.Keys(calls)) {
				for k := range 2 * calls[call] {
					if turn++; !soak() && turn%4 != i { // all of them with SLUICE_SOAK=1
						continue
					}
					from, to := c[kills%2], c[(kills+1)%2]
					if g.method == to { // there and back again
						from, to = to, from
					}
					what := fmt.Sprintf("%s, call %d, after %v", call, k/2+1, k%2 == 1)
					l := as(to)
					ctx, cancel := context.WithCancel(t.Context())
					s.Inject(bqtest.Fault{Call: call, Skip: k / 2, After: k%2 == 1, Drop: true, OnCall: cancel})
					_, err := l.Replace(ctx, lineage)
					s.Heal()
					cancel()
					kills++
					if err == nil {
						continue // fewer calls this way
					}
					gone += g.betweenTables(what, from, to)
					if kills%3 == 0 { // whoever killed it changes his mind
						to = from
					}
					if _, err := as(to).Replace(t.Context(), lineage); err != nil {
						t.Fatalf("%s: the next fails too: %v", what, err)
					}
					if err := g.holds(nil); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
					if err := g.through(what, false, nil); err != nil {
						t.Fatalf("%s: the next package: %v", what, err)
					}
				}
			}
			t.Logf("%d kills, after %d of which there was no table", kills, gone)
			if _, err := g.loader().Verify(t.Context(), lineage, func(f load.Fault) { t.Errorf("found %+v", f) }); err != nil {
				t.Fatal(err)
			}
		})
	}
}

// betweenTables looks at a table while its replace is not through, and says
// whether it was missing: 1 or 0.
func (g *ledger) betweenTables(what string, from, to Method) (gone int) {
	g.t.Helper()
	l := g.loader()
	t, err := l.table(g.t.Context(), l.o.Table)
	if err != nil {
		g.t.Fatal(err)
	}
	if t == nil {
		gone = 1
	} else if err := g.holds(nil); err != nil {
		g.t.Fatalf("%s: before the next: %v", what, err)
	}
	last, err := l.last(g.t.Context())
	if err != nil {
		g.t.Fatal(err)
	}
	if !strings.Contains(string(last.method), underWay) {
		return gone
	}
	for _, g.method = range []Method{from, to} {
		if e := wants(g.t, g.loader()); e == nil || !strings.Contains(e.Detail, "was begun and did not end") {
			g.t.Fatalf("%s: method %s may go on: %+v", what, g.method, e)
		}
		var e *load.ReplaceError
		_, err := g.loader().Erase(g.t.Context(), load.Erasure{Lineage: lineage, ID: "c0002"})
		if !errors.As(err, &e) {
			g.t.Fatalf("%s: an erasure gives %v", what, err)
		}
	}
	return gone
}

func TestANewTableThatLacksItsNameGetsIt(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	g := newLedger(t, s, Stream, "crm")
	if err := g.through("first", false, nil); err != nil {
		t.Fatal(err)
	}
	g.method = CDC
	l := g.loader()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	s.Inject(bqtest.Fault{Call: "tables.patch", After: true, Drop: true, OnCall: cancel}) // the last call before the tables change places
	if _, err := l.Replace(ctx, lineage); err == nil {
		t.Fatal("it was not stopped")
	}
	s.Heal()
	read(t, l.remote, "DROP TABLE crm.contacts") // and there the job that was to rename the new one died
	if e := wants(t, g.loader()); e == nil || !strings.Contains(e.Detail, "The new table is complete, and takes its name.") {
		t.Errorf("it says %+v", e)
	}
	var e *load.ReplaceError
	if err := g.loader().List(t.Context(), load.Listing{Lineage: lineage}, nil); !errors.As(err, &e) {
		t.Errorf("a listing gives %v", err)
	}
	if _, err := g.loader().Replace(t.Context(), lineage); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(g.holds(nil), g.through("after", false, nil)); err != nil {
		t.Error(err)
	}

	g.method = Stream
	s.Inject(bqtest.Fault{Call: "tables.insert", Status: 403, Reason: "accessDenied"})
	if _, err := g.loader().Replace(t.Context(), lineage); err == nil {
		t.Fatal("it was not stopped")
	}
	read(t, l.remote, "DROP TABLE crm.contacts") // by somebody else: nothing is in its place
	if _, err := g.loader().Replace(t.Context(), lineage); err == nil || !strings.Contains(err.Error(), "the table is gone") {
		t.Errorf("got %v", err)
	}
}

func TestAReplaceIsRefusedWhereSomethingElseIsInTheWay(t *testing.T) {
	t.Parallel()
	g := newLedger(t, standIn(t, bqtest.Options{}), Stream, "crm")
	if err := g.through("first", false, nil); err != nil {
		t.Fatal(err)
	}
	g.method = CDC
	if _, err := g.loader().Replace(t.Context(), "lineage-b"); !errors.Is(err, load.ErrForeign) {
		t.Errorf("of another lineage: %v", err)
	}
	read(t, g.loader().remote, "CREATE TABLE crm.contacts__rebuilt (id STRING)")
	if _, err := g.loader().Replace(t.Context(), lineage); !errors.Is(err, load.ErrForeign) {
		t.Errorf("over a table of somebody else's: %v", err)
	}
	read(t, g.loader().remote, "DROP TABLE crm.contacts__rebuilt")
	if _, err := g.loader().Replace(t.Context(), lineage); err != nil {
		t.Fatal(err)
	}
	if err := g.holds(nil); err != nil {
		t.Error(err)
	}
}

// replace makes the warehouse's table anew, as the engine has it done.
func (x *export) replace(to Method) {
	x.t.Helper()
	x.method = to
	_, err := x.with(sync1(false))
	var e *load.ReplaceError
	if !errors.As(err, &e) {
		x.t.Fatalf("a run after the method has changed gives %v", err)
	}
	x.must(func(e run.Engine, job run.Job) (run.Summary, error) {
		st, err := e.Store.Load(x.t.Context(), job.Pipeline)
		if err == nil {
			_, err = job.Destinations[0].Loader.(load.Replacer).Replace(x.t.Context(), st.Lineage)
		}
		return run.Summary{}, err
	})
}

func TestTheTableEqualsASourceThatChangesThroughEveryMethod(t *testing.T) {
	t.Parallel()
	x := newExport(t, Stream, 40)
	x.look()
	x.must(sync1(false))
	for i, to := range []Method{CDC, Stream, CDC, Load} {
		x.change(sandbox.Mutation{Updates: 9, Creates: 3, Bulk: 10})
		x.newFields(i)
		x.replace(to)
		x.must(sync1(false))
		x.same(crashtest.Expect{Unseen: i > 0, Beside: i > 0})
		x.change(sandbox.Mutation{Updates: 9, Creates: 3})
		x.storm.Store(true)
		beside(t, func() { x.must(backfill) }, func() { x.must(sync1(false)) })
		x.storm.Store(false)
		x.must(sync1(false))
		x.same(crashtest.Expect{Unseen: true, Beside: true})
	}
	sound(t, x)
}
