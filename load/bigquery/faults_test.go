//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"context"
	"fmt"
	"maps"
	"net/http"
	"os"
	"slices"
	"testing"
	"time"

	"google.golang.org/grpc/codes"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/schemas"
)

// soak reports whether every case is wanted, which takes many minutes: with
// SLUICE_SOAK=1, or every one of a part, with SLUICE_SOAK=K/N. The stand-in keeps
// all that it was sent, so that a process which meets all of them takes 10 GiB.
func soak() bool { return os.Getenv("SLUICE_SOAK") != "" }

// soaked returns the cases of the part that SLUICE_SOAK asks for.
func soaked[T any](all []T) []T {
	var k, n int
	if _, err := fmt.Sscanf(os.Getenv("SLUICE_SOAK"), "%d/%d", &k, &n); err != nil || n < 1 {
		return all
	}
	var out []T
	for i := k % n; i < len(all); i += n {
		out = append(out, all[i])
	}
	return out
}

// ledger commits packages to a table and knows what it has to hold.
type ledger struct {
	t        *testing.T
	s        *bqtest.Server
	method   Method
	dataset  string
	serial   int64
	extra    []schemas.Column
	live     map[string]string // name by id; "" for a tombstone
	versions int64
	memo     []byte
}

func newLedger(t *testing.T, s *bqtest.Server, method Method, dataset string) *ledger {
	t.Helper()
	return &ledger{t: t, s: s, method: method, dataset: dataset, live: map[string]string{}}
}

func (g *ledger) loader() *Loader {
	g.t.Helper()
	l, err := New(g.t.Context(), Options{
		Project: g.s.Project(), Dataset: g.dataset, Table: "contacts", CreateDataset: true, Method: g.method,
		Endpoint: g.s.URL(), GRPCEndpoint: g.s.Addr(),
	})
	if err != nil {
		g.t.Fatal(err)
	}
	g.t.Cleanup(func() { _ = l.Close() })
	l.first = 20 * time.Microsecond
	return l
}

// next builds a package of two new contacts, and of changes and a deletion of
// older ones; with a new column if widen. want is what committing it gives.
func (g *ledger) next(widen bool) (p load.Package, want load.Result) {
	g.t.Helper()
	g.serial++
	n := int(g.serial)
	if widen {
		g.extra = append(g.extra, loadtest.Extra(fmt.Sprintf("cf_customer_%03d", n), schemas.Int64))
	}
	at := loadtest.Epoch.Add(time.Duration(n) * time.Minute)
	row := func(i int, name string) loadtest.Row {
		r := loadtest.Contact(fmt.Sprintf("c%04d", i), loadtest.Epoch.AddDate(0, -(i%3)-1, 0), at, "name", name)
		for _, c := range g.extra[max(0, len(g.extra)-1):] {
			r = r.With(c.Name, int64(n))
		}
		return r
	}
	var rows []loadtest.Row
	name := fmt.Sprintf("name %d", n)
	for i := 2 * n; i < 2*n+2; i++ {
		rows = append(rows, row(i, name))
		g.live[rows[len(rows)-1].ID()] = name
		want.New++
	}
	for i := max(2, 2*n-6); i < 2*n-1; i += 2 {
		rows = append(rows, row(i, name))
		g.live[rows[len(rows)-1].ID()] = name
		want.Changed++
	}
	if i := 2*n - 1; i > 2 {
		rows = append(rows, row(i, name).With(schemas.ColDeletedAt, at))
		g.live[rows[len(rows)-1].ID()] = ""
		want.Deleted++
	}
	want.Versions = int64(len(rows))
	g.versions += want.Versions
	p = loadtest.Build(g.t, loadtest.Spec{Serial: g.serial, Rows: rows, Extra: slices.Clone(g.extra), PartRows: 4})
	g.memo = nil
	p.Remember = func(_ context.Context, memo []byte) error {
		g.memo = slices.Clone(memo)
		return nil
	}
	return p, want
}

// holds compares the tables with what they have to hold; before, if not nil, is
// what each contact may be besides.
func (g *ledger) holds(before map[string]string) error {
	l := g.loader()
	seen := map[string]bool{}
	for _, r := range read(g.t, l.remote, "SELECT id, name, _sluice_deleted_at FROM "+l.o.quoted(l.o.Table)) {
		name, _ := r["name"].(string)
		if r[schemas.ColDeletedAt] != nil {
			name = ""
		}
		want, there := g.live[r.ID()]
		was, stood := before[r.ID()]
		switch {
		case seen[r.ID()]:
			return fmt.Errorf("%s stands there twice", r.ID())
		case there && name == want:
		case before == nil, !stood || name != was:
			return fmt.Errorf("%s is %q, want %q", r.ID(), name, want)
		}
		seen[r.ID()] = true
	}
	must := g.live
	if before != nil {
		must = before
	}
	for id := range must {
		if !seen[id] {
			return fmt.Errorf("%s is missing", id)
		}
	}
	if before != nil {
		return nil
	}
	h := read(g.t, l.remote, "SELECT COUNT(*) AS n, COUNT(DISTINCT CONCAT(id, ' ', CAST(_sluice_hash AS STRING), ' ', CAST(_sluice_deleted_at IS NULL AS STRING))) AS d FROM "+l.o.quoted(l.o.history()))
	if h[0]["n"] != g.versions || h[0]["d"] != g.versions {
		return fmt.Errorf("history has %v rows of %v versions, want %d", h[0]["n"], h[0]["d"], g.versions)
	}
	return nil
}

// through commits a package while a fault is there, and once more without it
// if that fails. It returns the error of the first.
func (g *ledger) through(what string, widen bool, f *bqtest.Fault) error {
	g.t.Helper()
	before := maps.Clone(g.live)
	p, want := g.next(widen)
	if f != nil {
		g.s.Inject(*f)
	}
	got, failed := g.loader().Commit(g.t.Context(), p)
	g.s.Heal()
	if failed != nil {
		if len(before) > 0 {
			if err := g.holds(before); err != nil {
				g.t.Fatalf("%s: after %v: %v", what, failed, err)
			}
		}
		p.Memo = g.memo
		var err error
		if got, err = g.loader().Commit(g.t.Context(), p); err != nil {
			g.t.Fatalf("%s: after %v the next commit fails too: %v", what, failed, err)
		}
	}
	if want.Files = got.Files; got.New != want.New || got.Changed != want.Changed || got.Deleted != want.Deleted || got.Versions != want.Versions || got.Unchanged != 0 {
		g.t.Fatalf("%s: after %v the result is %+v, want %+v", what, failed, got, want)
	}
	if err := g.holds(nil); err != nil {
		g.t.Fatalf("%s: after %v: %v", what, failed, err)
	}
	return failed
}

// kinds are the faults of a call.
func kinds(s *bqtest.Server, call string) map[string]bqtest.Fault {
	out := map[string]bqtest.Fault{"slow": {Delay: 3 * time.Millisecond, Times: 3}}
	add := func(name string, f bqtest.Fault) {
		out[name+" once"], out[name+" for good"] = f, f
		lasting := f
		lasting.Times = -1
		out[name+" for good"] = lasting
		if call != "job" {
			f.After = true
			out[name+" once, after the effect"] = f
		}
	}
	switch call {
	case "CreateWriteStream", "AppendRows", "AppendRows.response", "FinalizeWriteStream", "BatchCommitWriteStreams", "GetWriteStream":
		for _, code := range []codes.Code{codes.Unavailable, codes.Aborted, codes.ResourceExhausted, codes.Internal, codes.PermissionDenied} {
			add(code.String(), bqtest.Fault{Code: code})
		}
		forgotten := bqtest.Fault{Code: codes.Unavailable, Times: 1, OnCall: func() { s.ForgetStreams() }}
		out["streams forgotten before"] = forgotten
		forgotten.After = true
		out["streams forgotten after"] = forgotten
	default:
		for reason, code := range map[string]int{
			"backendError": http.StatusServiceUnavailable, "rateLimitExceeded": http.StatusForbidden, "quotaExceeded": http.StatusForbidden,
			"internalError": http.StatusInternalServerError, "accessDenied": http.StatusForbidden, "jobRateLimitExceeded": http.StatusTooManyRequests,
		} {
			add(reason, bqtest.Fault{Status: code, Reason: reason})
		}
	}
	if call != "job" && call != "AppendRows.response" {
		add("connection lost", bqtest.Fault{Drop: true})
	}
	return out
}

// faultCase is a fault at the n-th call of a commit.
type faultCase struct {
	name  string
	fault bqtest.Fault
}

// cases are the faults of what an undisturbed commit calls; without soak every
// kind of each call is met at one place, which goes round.
func cases(s *bqtest.Server, calls map[string]int, turn int) []faultCase {
	var out []faultCase
	for _, call := range slices.Sorted(maps.Keys(calls)) {
		all := kinds(s, call)
		for _, kind := range slices.Sorted(maps.Keys(all)) {
			skips := []int{0, calls[call] - 1, calls[call] / 2}
			if !soak() {
				turn++
				skips = skips[turn%3 : turn%3+1]
			}
			slices.Sort(skips)
			for _, skip := range slices.Compact(skips) {
				f := all[kind]
				f.Call, f.Skip = call, skip
				out = append(out, faultCase{fmt.Sprintf("%s at call %d of %s", kind, skip+1, call), f})
			}
		}
	}
	return out
}

// counted is how often something makes each call.
func counted(s *bqtest.Server, f func()) map[string]int {
	before := s.Calls()
	f()
	after := s.Calls()
	for call, n := range before {
		if after[call] -= n; after[call] == 0 {
			delete(after, call)
		}
	}
	return after
}

// progress says where a soak is, which runs for the better part of an hour.
func progress(t *testing.T, k, of int, name string) {
	t.Helper()
	if soak() && k%20 == 0 {
		t.Logf("case %d of %d: %s", k+1, of, name)
	}
}

// some leaves out most cases unless all are wanted.
func some(all []faultCase, want, from int) []faultCase {
	if soak() {
		return soaked(all)
	}
	if len(all) <= want {
		return all
	}
	var out []faultCase
	for i := range want {
		out = append(out, all[(i*len(all)/want+from)%len(all)])
	}
	return out
}

func TestThroughEveryFaultOfEveryCallAPackageTakesEffectOnce(t *testing.T) {
	t.Parallel()
	for i, method := range allMethods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			s := standIn(t, bqtest.Options{})
			g := newLedger(t, s, method, "crm")
			calls := counted(s, func() { _ = g.through("undisturbed", false, nil) })
			calls["job"] = calls["jobs.insert"]
			want := 15
			if testing.Short() {
				want = 6
			}
			met, failed := 0, 0
			firsts := some(cases(s, calls, i), want/3, i)
			for k, c := range firsts { // the first package
				progress(t, k, len(firsts), c.name)
				first := newLedger(t, s, method, fmt.Sprintf("crm_%d", k))
				if first.through("first package, "+c.name, false, &c.fault) != nil {
					failed++
				}
				met++
			}
			calls = counted(s, func() { _ = g.through("undisturbed", true, nil) })
			calls["job"] = calls["jobs.insert"]
			later := some(cases(s, calls, i), want, i)
			for k, c := range later {
				progress(t, k, len(later), c.name)
				// A table has few columns to spare for this.
				if g.through(c.name, c.fault.Call == "tables.patch", &c.fault) != nil {
					failed++
				}
				met++
			}
			t.Logf("%d faults, %d commits failed and were made again", met, failed)
			if failed == 0 || failed == met {
				t.Error("no commit failed, or all")
			}
		})
	}
}
