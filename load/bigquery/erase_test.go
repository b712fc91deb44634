//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/loadtest"
)

// eraseEach are contacts to be erased one by one, in a table with another one
// that stays.
func eraseEach(t *testing.T, l *Loader, n int) []string {
	t.Helper()
	rows := []loadtest.Row{loadtest.Contact("stays", loadtest.Epoch, loadtest.Epoch, "name", "one")}
	ids := make([]string, n)
	coverage := `{"found": ["stays"`
	for i := range ids {
		ids[i] = fmt.Sprintf("goes-%03d-", i)
		coverage += fmt.Sprintf(", %q", ids[i])
		rows = append(rows, loadtest.Contact(ids[i], loadtest.Epoch.AddDate(0, -i%3, 0), loadtest.Epoch, "name", "two"))
	}
	commit(t, l, loadtest.Spec{Serial: 1, Rows: rows, Coverage: []byte(coverage + "]}")})
	return ids
}

// traces is how many rows a contact has in the tables, and how many records
// name it.
func traces(t *testing.T, l *Loader, id string) (current, others, named int64) {
	t.Helper()
	o := l.o
	row := read(t, l.remote, fmt.Sprintf("SELECT (SELECT COUNT(*) FROM %s WHERE id = @id) AS a, (SELECT COUNT(*) FROM %s WHERE id = @id) + (SELECT COUNT(*) FROM %s WHERE id = @id) AS b, (SELECT COUNTIF(STRPOS(coverage, @id) > 0) FROM %s) AS c",
		o.quoted(o.Table), o.quoted(o.history()), o.quoted(o.staging()), o.quoted(o.commits())), textParam("id", id))[0]
	return row["a"].(int64), row["b"].(int64), row["c"].(int64)
}

// erased fails unless a contact is gone and the other one is not.
func erased(t *testing.T, l *Loader, what, id string) {
	t.Helper()
	if current, others, named := traces(t, l, id); current+others+named != 0 {
		t.Fatalf("%s: %d rows of the contact are in the table, %d in the others, %d records name it", what, current, others, named)
	}
	if current, others, named := traces(t, l, "stays"); current != 1 || others != 2 || named != 1 {
		t.Fatalf("%s: of another contact there are %d rows in the table, %d in the others, %d records name it", what, current, others, named)
	}
}

func TestAnErasureOfWhichAnyCallFailsOnceIsDoneByTheNext(t *testing.T) {
	t.Parallel()
	for _, method := range allMethods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			if testing.Short() && method != CDC {
				t.Skip("the other methods run without -short")
			}
			s := standIn(t, bqtest.Options{})
			l := loaderAt(t, s, method)
			ids := eraseEach(t, l, 120)
			next := 0
			erase := func(what string, f *bqtest.Fault) (failed bool) {
				id := ids[next]
				next++
				if f != nil {
					s.Inject(*f)
				}
				e := load.Erasure{Lineage: testLineage, ID: id}
				_, err := l.Erase(t.Context(), e)
				s.Heal()
				if err != nil {
					if f == nil {
						t.Fatal(err)
					}
					failed = true
					if _, err := l.Erase(t.Context(), e); err != nil {
						t.Fatalf("%s: the next erasure fails too: %v", what, err)
					}
				}
				erased(t, l, what, id)
				return failed
			}
			calls := counted(s, func() {
				if _, err := l.Erase(t.Context(), load.Erasure{Lineage: testLineage, ID: ids[119]}); err != nil {
					t.Fatal(err)
				}
			})
			calls["job"] = calls["jobs.insert"]
			met, failed := 0, 0
			for _, call := range slices.Sorted(maps.Keys(calls)) {
				for skip := range calls[call] {
					for kind, f := range map[string]bqtest.Fault{
						"refused":     {Status: http.StatusForbidden, Reason: "accessDenied", Code: codes.PermissionDenied},
						"answer lost": {Drop: true, After: true},
					} {
						if kind == "answer lost" && (call == "job" || call == "AppendRows.response") {
							continue // there is none
						}
						f.Call, f.Skip = call, skip
						if erase(fmt.Sprintf("%s %s at call %d", call, kind, skip+1), &f) {
							failed++
						}
						met++
					}
				}
			}
			t.Logf("%d faults, after %d of them the erasure was done again", met, failed)
			if failed == 0 || failed == met {
				t.Error("no erasure failed, or all")
			}
		})
	}
}

func TestAnErasureStoppedBetweenItsStepsIsFoundUnfinishedByTheNext(t *testing.T) {
	t.Parallel()
	for _, method := range allMethods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			l := loaderAt(t, standIn(t, bqtest.Options{}), method)
			ids := eraseEach(t, l, 2)
			for i, id := range ids {
				if method == CDC { // its first step
					if err := l.deleteRow(t.Context(), id); err != nil {
						t.Fatal(err)
					}
				}
				if i == 0 { // and the one before the transaction
					if _, _, err := l.query(t.Context(), "DELETE FROM "+l.o.quoted(l.o.staging())+" WHERE id = @id", textParam("id", id)); err != nil {
						t.Fatal(err)
					}
				}
				got, err := l.Erase(t.Context(), load.Erasure{Lineage: testLineage, ID: id})
				if err != nil || got.History != 1 || !got.Any() {
					t.Errorf("the next erasure found %+v, error %v", got, err)
				}
				erased(t, l, "stopped", id)
				if got, err := l.Erase(t.Context(), load.Erasure{Lineage: testLineage, ID: id}); err != nil || got.Any() {
					t.Errorf("one more erasure found %+v, error %v", got, err)
				}
			}
		})
	}
}

// hands is a clock that is put forward by hand.
type hands struct{ passed atomic.Int64 }

func (h *hands) Now() time.Time { return time.Now().Add(time.Duration(h.passed.Load())).UTC() }

func TestAnErasureReachesVersionsThatQueriesDoNotSeeYet(t *testing.T) {
	t.Parallel()
	now := new(hands)
	l := loaderAt(t, standIn(t, bqtest.Options{Clock: now}), CDC)
	l.o.Clock, l.o.MaxStaleness = now, time.Hour
	row := func(id string, minute int) loadtest.Row {
		return loadtest.Contact(id, loadtest.Epoch, loadtest.Epoch.Add(time.Duration(minute)*time.Minute), "name", fmt.Sprint(minute))
	}
	commit(t, l, loadtest.Spec{Serial: 1, Rows: []loadtest.Row{row("old", 1), row("stays", 1)}})
	now.passed.Add(int64(2 * time.Hour)) // the first package is in the table
	read(t, l.remote, "SELECT id FROM "+l.o.quoted(l.o.Table))
	commit(t, l, loadtest.Spec{Serial: 2, Rows: []loadtest.Row{row("old", 2), row("new", 2)}})
	seen := read(t, l.remote, "SELECT id, name FROM "+l.o.quoted(l.o.Table)+" ORDER BY id")
	if len(seen) != 2 || seen[0]["name"] != "1" {
		t.Fatalf("queries see the second package already, which proves nothing: %v", seen)
	}
	for _, id := range []string{"old", "new"} {
		if _, err := l.Erase(t.Context(), load.Erasure{Lineage: testLineage, ID: id}); err != nil {
			t.Fatal(err)
		}
	}
	now.passed.Add(int64(2 * time.Hour))
	if rows := read(t, l.remote, "SELECT id FROM "+l.o.quoted(l.o.Table)); len(rows) != 1 || rows[0].ID() != "stays" {
		t.Errorf("once the staleness is over the table has %v", rows)
	}
	// A version that comes later is a contact again.
	commit(t, l, loadtest.Spec{Serial: 3, Rows: []loadtest.Row{row("old", 3)}})
	now.passed.Add(int64(2 * time.Hour))
	if rows := read(t, l.remote, "SELECT name FROM "+l.o.quoted(l.o.Table)+" WHERE id = 'old'"); len(rows) != 1 || rows[0]["name"] != "3" {
		t.Errorf("after a later version the table has %v", rows)
	}
}
