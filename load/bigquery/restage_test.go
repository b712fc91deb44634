//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"testing"

	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/loadtest"
)

func TestAJobThatOutlivesItsProcessIsWaitedForAndNotRepeated(t *testing.T) {
	t.Parallel()
	for name, after := range map[string]bool{"before its rows are there": false, "when its rows are there": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := standIn(t, bqtest.Options{})
			r := remoteAt(t, s, Options{Method: Load, InFlight: 1})
			rows := many(30)
			p := loadtest.Build(t, loadtest.Spec{Serial: 3, Rows: rows, PartRows: 10})
			for i := range p.Parts { // so that each is a job
				p.Parts[i].Bytes = loadBytes
			}
			table := prepare(t, r, p)
			var n notes
			p.Remember = n.remember
			ctx, kill := context.WithCancel(t.Context())
			goOn := make(chan struct{})
			s.Inject(bqtest.Fault{Call: "job", Skip: 1, After: after, Drop: after, OnCall: func() {
				kill()
				<-goOn
			}})
			if _, err := r.stage(ctx, p, table, false); !errors.Is(err, context.Canceled) {
				t.Fatalf("error %v", err)
			}
			// The next process has asked twice for the second job when that ends.
			s.Inject(bqtest.Fault{Call: "jobs.get", Skip: 3, OnCall: func() { close(goOn) }})
			p.Memo = n.last()
			before := s.Calls()["jobs.insert"]
			got, err := remoteAt(t, s, Options{Method: Load, InFlight: 1}).stage(t.Context(), p, table, false)
			if err != nil {
				t.Fatal(err)
			}
			if made := s.Calls()["jobs.insert"] - before; made != 1 || got.Attempt != 1 {
				t.Errorf("%d jobs in attempt %d, want the third alone in the first", made, got.Attempt)
			}
			arrivedOnce(t, r, p, got, rows)
		})
	}
}

func TestStagedRowsThatAreNotThePackagesAreStagedAnew(t *testing.T) {
	t.Parallel()
	for _, method := range allMethods() {
		for name, harm := range map[string]string{
			"some are gone":     "DELETE FROM %[1]s WHERE _sluice_row < 7",
			"some come twice":   "INSERT INTO %[1]s SELECT * FROM %[1]s WHERE _sluice_row < 7",
			"the table is gone": "DROP TABLE %[1]s",
		} {
			t.Run(string(method)+", "+name, func(t *testing.T) {
				t.Parallel()
				s := standIn(t, bqtest.Options{})
				l := loaderAt(t, s, method)
				rows := many(30)
				p := loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: rows, PartRows: 10})
				var n notes
				p.Remember = n.remember
				s.Inject(bqtest.Fault{Call: "job", Skip: merges(method), Status: http.StatusForbidden, Reason: "accessDenied"})
				if _, err := l.Commit(t.Context(), p); err == nil || n.last() == nil {
					t.Fatalf("the merge was to fail: error %v, note %s", err, n.last())
				}
				read(t, l.remote, fmt.Sprintf(harm, l.o.quoted(l.o.staging())))
				p.Memo = n.last()
				got, err := loaderAt(t, s, method).Commit(t.Context(), p)
				if err != nil {
					t.Fatal(err)
				}
				if got.New != 30 || got.Versions != 30 {
					t.Errorf("result %+v", got)
				}
				var m memo
				if err := json.Unmarshal(n.last(), &m); err != nil || m.Attempt != 2 {
					t.Errorf("the last note is %s, error %v", n.last(), err)
				}
				for _, name := range []string{l.o.Table, l.o.history()} {
					all := read(t, l.remote, "SELECT COUNT(*) AS n, COUNT(DISTINCT id) AS d FROM "+l.o.quoted(name))
					if all[0]["n"] != int64(30) || all[0]["d"] != int64(30) {
						t.Errorf("%s has %v rows of %v contacts, want 30", name, all[0]["n"], all[0]["d"])
					}
				}
			})
		}
	}
}

// merges is how many jobs a first commit runs before it merges: those that load
// its rows.
func merges(method Method) int {
	if method == Load {
		return 1
	}
	return 0
}

func TestACommitKilledWhenAnyOfItsJobsTookEffectIsEndedByTheNext(t *testing.T) {
	t.Parallel()
	for _, method := range allMethods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			s := standIn(t, bqtest.Options{})
			g := newLedger(t, s, method, "crm")
			_ = g.through("first", false, nil)
			calls := counted(s, func() { _ = g.through("second", false, nil) })
			kills := 0
			for k := range calls["job"] {
				what := fmt.Sprintf("killed when job %d of %d took effect", k+1, calls["job"])
				p, want := g.next(false)
				ctx, kill := context.WithCancel(t.Context())
				s.Inject(bqtest.Fault{Call: "job", Skip: k, After: true, OnCall: kill})
				got, err := g.loader().Commit(ctx, p)
				s.Heal()
				if kill(); err != nil {
					kills++
					p.Memo = g.memo
					if got, err = g.loader().Commit(t.Context(), p); err != nil {
						t.Fatalf("%s: %v", what, err)
					}
				}
				if got.New != want.New || got.Changed != want.Changed || got.Deleted != want.Deleted || got.Versions != want.Versions {
					t.Errorf("%s: result %+v, want %+v", what, got, want)
				}
				if err := g.holds(nil); err != nil {
					t.Fatalf("%s: %v", what, err)
				}
			}
			if kills == 0 {
				t.Error("nothing was killed")
			}
			t.Logf("%d kills", kills)
		})
	}
}
