//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"testing"

	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/loadtest"
)

// billed is what the service says of the jobs that ran within f: what their
// statements were billed for, and how many there were.
func billed(t *testing.T, l *Loader, f func()) (bytes, jobs int64) {
	t.Helper()
	seen := map[string]bool{}
	each := func(visit func(id string, billed int64)) {
		token := ""
		for {
			page, err := l.rest.Jobs.List(l.o.Project).Projection("full").PageToken(token).Context(t.Context()).Do()
			if err != nil {
				t.Fatal(err)
			}
			for _, j := range page.Jobs {
				if j.Statistics != nil && j.Statistics.Query != nil {
					visit(j.JobReference.JobId, j.Statistics.Query.TotalBytesBilled)
				}
			}
			if token = page.NextPageToken; token == "" {
				return
			}
		}
	}
	each(func(id string, _ int64) { seen[id] = true })
	f()
	each(func(id string, b int64) {
		if !seen[id] {
			bytes, jobs = bytes+b, jobs+1
		}
	})
	return bytes, jobs
}

func TestAResultTellsWhatTheStatementsOfTheCommitWereBilledFor(t *testing.T) {
	t.Parallel()
	for _, method := range allMethods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			l := loaderAt(t, standIn(t, bqtest.Options{}), method)
			var first, again int64
			for serial := int64(1); serial <= 3; serial++ {
				p := loadtest.Build(t, loadtest.Spec{Serial: min(serial, 2), Rows: many(30)}) // the second one twice
				var got int64
				want, jobs := billed(t, l, func() {
					r, err := l.Commit(t.Context(), p)
					if err != nil {
						t.Fatal(err)
					}
					got = r.BytesScanned
				})
				if got != want || got < 10<<20 || jobs < 2 {
					t.Errorf("commit %d: %d bytes, the service has billed %d for %d statements", serial, got, want, jobs)
				}
				if serial == 2 {
					first = got
				}
				again = got
			}
			if again >= first {
				t.Errorf("a commit that only looks scans %d bytes, the one that did it %d", again, first)
			}
		})
	}
}

func TestWhereNothingIsBilledTheBytesReadCount(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		s    jobStats
		want int64
	}{{jobStats{Billed: 10, Processed: 3}, 10}, {jobStats{Processed: 3}, 3}, {jobStats{Processed: 3, Cached: true}, 0}, {jobStats{}, 0}} {
		if got := c.s.scanned(); got != c.want {
			t.Errorf("%+v scanned %d bytes, want %d", c.s, got, c.want)
		}
	}
}
