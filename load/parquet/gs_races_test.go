package parquet_test

import (
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
)

func TestGSCommitsAtOnceEndAsOneAfterTheOther(t *testing.T) {
	packages := chain(t, 2)
	want, results := undisturbed(t, packages...)
	s := gcstest.Start(t, gsBucket)
	var wg sync.WaitGroup
	for worker := range 3 {
		l := openGS(t, gsClient(t, s, nil))
		wg.Go(func() {
			for i, p := range packages {
				r, err := l.Commit(t.Context(), p)
				if err != nil {
					t.Errorf("worker %d, package %d: %v", worker, p.Serial, err)
					return
				}
				if d := cmp.Diff(results[i], r); d != "" {
					t.Errorf("worker %d, package %d: another result (-want +got):\n%s", worker, p.Serial, d)
				}
			}
		})
	}
	wg.Wait()
	if d := differences(want, gsState(t, s)); d != "" {
		t.Error(d)
	}
}

func TestGSCommitsAtOnceSurviveFaults(t *testing.T) {
	packages := chain(t, 1)
	want, _ := undisturbed(t, packages...)
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for round := range uint64(2) {
		s := gcstest.Start(t, gsBucket)
		var mu sync.Mutex
		rnd := rand.New(rand.NewPCG(seed, round))
		s.SetFault(func(int, *http.Request) gcstest.Fault {
			mu.Lock()
			defer mu.Unlock()
			if rnd.IntN(12) > 0 {
				return gcstest.None
			}
			return gcstest.Fault(1 + rnd.IntN(6))
		})
		var wg sync.WaitGroup
		for range 2 {
			l := openGS(t, gsClient(t, s, nil))
			wg.Go(func() {
				for _, p := range packages {
					for { // as the engine does: the same package until it is in
						if _, err := l.Commit(t.Context(), p); err == nil {
							break
						}
					}
				}
			})
		}
		wg.Wait()
		s.SetFault(nil)
		if _, err := openGS(t, gsClient(t, s, nil)).Commit(t.Context(), packages[4]); err != nil {
			t.Error(err)
		}
		if d := differences(want, gsState(t, s)); d != "" {
			t.Errorf("round %d: %s", round, d)
		}
	}
}

// A reader that lists current and then downloads what it found sees every
// contact once, while commits run and are stopped.
func TestGSReadersSeeEveryContactOnce(t *testing.T) {
	packages := chain(t, 4)
	s := gcstest.Start(t, gsBucket)
	l := openGS(t, gsClient(t, s, nil))
	if _, err := l.Commit(t.Context(), packages[0]); err != nil {
		t.Fatal(err)
	}
	reads := 0
	read := func() {
		reads++
		rows := query(t, duck(t), "SELECT count(*) AS n, count(DISTINCT id) AS ids, count(name) AS named FROM ("+bareGlob(mirror(t, s))+")")
		if rows[0]["n"] != int64(12) || rows[0]["ids"] != int64(12) || rows[0]["named"] != int64(12) {
			t.Errorf("a reader sees %v", rows[0])
		}
	}
	for _, p := range packages[1:] {
		s.SetFault(func(_ int, r *http.Request) gcstest.Fault {
			if strings.Contains(r.URL.Path, "/rewriteTo/") && strings.Contains(r.URL.Path, "/current/") {
				read()
			}
			return gcstest.None
		})
		one := openGS(t, gsClient(t, s, nil), func(o *parquet.GSOptions) { o.Transfers = 1 })
		if _, err := one.Commit(t.Context(), p); err != nil {
			t.Fatal(err)
		}
	}
	if reads < 8 {
		t.Errorf("%d reads", reads)
	}
}

// A contact whose created_at changed stands in its new month before it leaves
// the old one, however many objects are copied at once.
func TestGSContactThatMovesIsNeverMissing(t *testing.T) {
	s := gcstest.Start(t, gsBucket)
	l := openGS(t, gsClient(t, s, nil), func(o *parquet.GSOptions) { o.Transfers = 8 })
	first := []loadtest.Row{contact("stays", 1, 1), contact("moves", 1, 1), contact("other", 3, 1)}
	if _, err := l.Commit(t.Context(), loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: first})); err != nil {
		t.Fatal(err)
	}
	var copied []string
	s.SetFault(func(_ int, r *http.Request) gcstest.Fault {
		_, to, isCopy := strings.Cut(r.URL.Path, "/rewriteTo/b/lake/o/"+gsTable)
		if isCopy && strings.HasPrefix(to, "current/") {
			copied = append(copied, to) // one at a time, or the race detector says so
			if _, arrived := s.Objects(t, gsBucket, gsTable)["current/created_month=2026-02/contacts.parquet"]; !arrived && strings.Contains(to, "2026-01") {
				t.Error("it leaves before it has arrived")
			}
			if rows := query(t, duck(t), "SELECT id FROM ("+bareGlob(mirror(t, s))+") WHERE id = 'moves'"); len(rows) == 0 {
				t.Errorf("it is missing before %s is copied", to)
			}
		}
		return gcstest.None
	})
	p := loadtest.Build(t, loadtest.Spec{Serial: 2, Rows: []loadtest.Row{contact("moves", 2, 2), contact("other", 3, 2, "name", "x")}})
	r, err := l.Commit(t.Context(), p)
	if err != nil || r.Moved != 1 {
		t.Fatalf("result is %+v, %v", r, err)
	}
	if n := len(copied); n != 3 || !strings.Contains(copied[n-1], "2026-01") {
		t.Errorf("copied were %v", copied)
	}
	if rows := query(t, duck(t), "SELECT id FROM ("+bareGlob(mirror(t, s))+")"); len(rows) != 3 {
		t.Errorf("it holds %v", rows)
	}
}
