//go:build unix && cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)))

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/option"

	"github.com/sluice-etl/sluice/internal/crashtest"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/schemas"
)

const warehousePipelines = `version: 1
sources:
  crm: {type: contacts_api, url: %q, api_key: "${CONTACTS_API_KEY}", requests_per_second: 1000, page_size: 100}
destinations:
  warehouse: {type: bigquery, project: %s, dataset: %s, method: %s, endpoint: %q, grpc_endpoint: %q}
pipelines:
  nightly:
    source: crm
    table: contacts
    lookback: 1s # with an hour, each run would read again what the one before it has lost
    destinations: [warehouse]
`

// warehouse is a stand-in of BigQuery in this process, which a program exports
// to from a sandbox.
type warehouse struct {
	*judge
	s       *bqtest.Server
	client  *bigquery.Client // the judge's
	method  string
	dataset string
	worlds  int
	// calls is how often an undisturbed run makes each call.
	calls map[string]int
	kills map[string]int // by call
	log   []string
}

func newWarehouse(t *testing.T, method string) *warehouse {
	t.Helper()
	s, err := bqtest.Start(t.Context(), bqtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	client, err := bigquery.NewClient(context.WithoutCancel(t.Context()), s.Project(), option.WithEndpoint(s.URL()), option.WithoutAuthentication())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = client.Close()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &warehouse{s: s, client: client, method: method, kills: map[string]int{}}
	sandbox := startSandbox(t, "--contacts", "120", "--seed", "4", "--updated-ties", "40", "--created-ties", "30")
	w.judge = &judge{url: sandbox}
	w.fresh(t)
	return w
}

// fresh begins with no state and no dataset.
func (w *warehouse) fresh(t *testing.T) {
	t.Helper()
	w.worlds++
	w.dataset = fmt.Sprintf("crm_%d", w.worlds)
	w.judge = newJudge(t, t.TempDir(), w.url)
	text := fmt.Sprintf(warehousePipelines, w.url, w.s.Project(), w.dataset, w.method, w.s.URL(), w.s.Addr())
	if err := os.WriteFile(filepath.Join(w.dir, "pipelines.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// change changes the source, and looks at it.
func (w *warehouse) change(t *testing.T, what string) {
	t.Helper()
	call(t, http.MethodPost, w.url+"/_sandbox/mutate", what)
	w.look(t)
}

// same fails unless the table equals the source.
func (w *warehouse) same(t *testing.T, e crashtest.Expect) {
	t.Helper()
	w.look(t)
	var table schemas.Table
	if err := json.Unmarshal(output(t, sluice(t, w.dir, "schema", "nightly", "--json")), &table); err != nil {
		t.Fatal(err)
	}
	faults, err := w.CheckWarehouse(t.Context(), w.client, w.dataset, "contacts", table, e)
	if err != nil {
		t.Fatal(err)
	}
	if len(faults) > 0 {
		t.Fatalf("the table is not the source:\n%s", crashtest.Summary(faults))
	}
	tidy(t, w.dir)
}

// learn lets a command run undisturbed and notes which calls it makes.
func (w *warehouse) learn(t *testing.T, args ...string) {
	t.Helper()
	before := w.s.Calls()
	finished(t, output(t, sluice(t, w.dir, args...)))
	w.calls = map[string]int{}
	for name, n := range w.s.Calls() {
		if n > before[name] {
			w.calls[name] = n - before[name]
		}
	}
}

// point is where a process dies: at the n-th call of a kind, before it takes
// effect or when it has.
type point struct {
	call  string
	n     int
	after bool
}

func (p point) String() string {
	return fmt.Sprintf("call %d of %s, after its effect: %t", p.n, p.call, p.after)
}

// points are those of a command: all, or the first, the last and one between.
func (w *warehouse) points(all bool) []point {
	var out []point
	for _, name := range slices.Sorted(maps.Keys(w.calls)) {
		most := w.calls[name]
		for n := 1; n <= most; n++ {
			if all || n == 1 || n == most || n == 1+most/2 {
				out = append(out, point{name, n, false}, point{name, n, true})
			}
		}
	}
	return out
}

// kill runs a command that dies at a point, if it gets there.
func (w *warehouse) kill(t *testing.T, p point, args ...string) {
	t.Helper()
	started, dead := make(chan *mortal, 1), make(chan struct{})
	w.s.Inject(bqtest.Fault{Call: p.call, Skip: p.n - 1, After: p.after, Drop: true, OnCall: func() {
		_ = (<-started).Process.Kill()
		<-dead // nothing of it comes any more
	}})
	m := startMortal(t, w.dir, args...)
	started <- m
	code := m.end(t)
	close(dead)
	w.s.Heal()
	state := "came to its end"
	if code < 0 {
		state = "was killed"
		w.kills[p.call]++
	} else if code > 0 {
		t.Fatalf("%v ended with %d: %s", args, code, m.stderr.Bytes())
	}
	w.log = append(w.log, fmt.Sprintf("%s %s at %s", strings.Join(args, " "), state, p))
}

// soaked returns the points of the part that SLUICE_SOAK asks for as K/N: the
// stand-in keeps all that it was sent.
func soaked(all []point) []point {
	var k, n int
	if _, err := fmt.Sscanf(os.Getenv("SLUICE_SOAK"), "%d/%d", &k, &n); err != nil || n < 1 {
		return all
	}
	var out []point
	for i := k % n; i < len(all); i += n {
		out = append(out, all[i])
	}
	return out
}

// chosen are so many of points, spread evenly, beginning at so many thirteenths.
func chosen(all []point, want, from int) []point {
	if want >= len(all) {
		return all
	}
	var out []point
	for i := range want {
		out = append(out, all[(i*len(all)/want+from*len(all)/13)%len(all)])
	}
	return out
}

func TestAnExportToBigQueryKilledAtAnyCallConverges(t *testing.T) {
	if testing.Short() || raceEnabled {
		t.Skip("kills the program for many seconds")
	}
	t.Parallel()
	soak, want := os.Getenv("SLUICE_SOAK") != "", max(1, int(envCount(t, "SLUICE_CRASH_KILLS", 12)/12)) //nolint:gosec // small
	for i, method := range []string{"stream", "load", "cdc"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			w := newWarehouse(t, method)
			t.Cleanup(func() {
				if t.Failed() {
					t.Logf("after\n%s", strings.Join(w.log, "\n"))
				}
			})
			take := func(half int) []point {
				if soak {
					return soaked(w.points(true))
				}
				return chosen(w.points(false), want, 1+4*i+half)
			}
			w.look(t)
			w.learn(t, "run", "--json")
			w.same(t, crashtest.Expect{})
			firsts := take(1)
			for at, p := range firsts { // first runs
				if soak && at%20 == 0 {
					t.Logf("first run %d of %d: %s", at+1, len(firsts), p)
				}
				w.fresh(t)
				w.look(t)
				w.kill(t, p, "run", "--json")
				finished(t, output(t, sluice(t, w.dir, "run", "--json")))
				w.same(t, crashtest.Expect{})
			}
			commands := [][]string{
				{"run", "--json"},
				{"reconcile", "nightly", "--json", "--max-share", "50%"},
				{"backfill", "nightly", "--json", "--from", "2023-01-01", "--to", "2026-09-01", "--window", "400d"},
			}
			for k, args := range commands {
				if soak {
					t.Logf("disturbing %s", args[0])
				}
				w.disturb(t, take, k, args)
			}
			total := 0
			for _, n := range w.kills {
				total += n
			}
			t.Logf("%d kills: %v", total, w.kills)
			if total == 0 {
				t.Error("nothing was killed")
			}
		})
	}
}

// disturb kills a command again and again, each time with another source.
func (w *warehouse) disturb(t *testing.T, take func(int) []point, k int, args []string) {
	t.Helper()
	changes := `{"updates": 9, "creates": 3, "bulk": 20}`
	if args[0] == "reconcile" {
		changes = `{"deletes": 3, "updates": 4}`
	}
	w.change(t, changes)
	w.learn(t, args...)
	for _, p := range take(k) {
		w.change(t, changes)
		w.kill(t, p, args...)
		w.change(t, `{"updates": 2}`)
		if args[0] != "run" {
			output(t, sluice(t, w.dir, args...))
		}
		finished(t, output(t, sluice(t, w.dir, "run", "--json")))
		w.same(t, crashtest.Expect{Marked: true, Unseen: true, Beside: true})
	}
}
