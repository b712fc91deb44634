package extract_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-etl/sluice/extract"
)

// thinStart is a source with a few contacts a month for most of its first year,
// and all others in the rest of two years.
func thinStart(x float64) float64 {
	const few = 0.0005
	if x < few {
		return x / few * 0.45
	}
	return 0.45 + (x-few)/(1-few)*0.55
}

// requestsOf reads a source by a client that sends up to eight at a time, and
// by one walk.
func requestsOf(t *testing.T, src shelf, workers, pageSize int) (scanned, walked int64, sinks []*tally) {
	t.Helper()
	client := func() *extract.Client {
		c, err := extract.NewClient(extract.Source{BaseURL: "https://h", Transport: src, RequestsPerSecond: -1, Concurrency: workers}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return c
	}
	out, sinks := fullRead(t, client(), workers, pageSize, len(src))
	w := &extract.Walk{Client: client(), Key: extract.ByCreated, Lookback: time.Minute, PageSize: pageSize}
	single, err := w.Run(t.Context(), &tally{})
	if err != nil {
		t.Fatal(err)
	}
	return out.Requests, single.Requests, sinks
}

func TestAScanOfASmallSourceCostsLittleMoreThanAWalk(t *testing.T) {
	for name, shape := range shapes {
		// Rows that come in bursts promise, for a while, what is not there.
		factor := 1.1
		if name == "one busy month" || name == "early and late" {
			factor = 2
		}
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				for _, contacts := range []int{0, 1, 300, 999, 1000, 1001, 2500, 10000} {
					scanned, walked, _ := requestsOf(t, newShelf(contacts, time.Now(), shape), 8, 1000)
					t.Logf("%d contacts: the scan takes %d requests, a walk %d", contacts, scanned, walked)
					if contacts <= 1000 && scanned != walked {
						t.Errorf("%d contacts fit a page: the scan takes %d requests, a walk %d", contacts, scanned, walked)
					}
					if float64(scanned) > factor*float64(walked)+3 {
						t.Errorf("%d contacts: the scan takes %d requests, a walk %d", contacts, scanned, walked)
					}
				}
			})
		})
	}
}

func TestAHistoryThatStartsThinIsReadByAllWorkers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const contacts, workers = 200_000, 8
		scanned, walked, sinks := requestsOf(t, newShelf(contacts, time.Now(), thinStart), workers, 1000)
		t.Logf("the scan takes %d requests, a walk %d", scanned, walked)
		if len(sinks) != workers {
			t.Fatalf("%d workers", len(sinks))
		}
		for i, s := range sinks {
			t.Logf("worker %d: %d contacts", i, s.kept)
			if s.kept < contacts/workers/2 {
				t.Errorf("worker %d had %d of %d contacts", i, s.kept, contacts)
			}
		}
	})
}
