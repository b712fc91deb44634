//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package cli

import (
	"maps"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/schedule"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
)

// bigQuery starts a stand-in of the service for one test.
func bigQuery(t *testing.T) *bqtest.Server {
	t.Helper()
	return bigQueryOf(t, bqtest.Options{})
}

func bigQueryOf(t *testing.T, o bqtest.Options) *bqtest.Server {
	t.Helper()
	s, err := bqtest.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

func TestARunExportsToBigQuery(t *testing.T) {
	t.Parallel()
	s := bigQuery(t)
	w := newWorld(t, strings.NewReplacer("http://127.0.0.1:1", s.URL(), "127.0.0.1:1", s.Addr(), "my-project", s.Project()).Replace(nowhere))
	out := w.sluice(t, "run").mustBe(t, 0).out
	for _, want := range []string{"10 new, 0 changed, 0 unchanged", "bigquery    10 rows written to " + s.Project() + ".crm.contacts", "Next: bq query"} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	if out := w.sluice(t, "run").mustBe(t, 0).out; !strings.Contains(out, "bigquery    none written, "+s.Project()+".crm.contacts is up to date") {
		t.Errorf("got\n%s", out)
	}
	w.sluice(t, "verify").mustBe(t, 0)
}

func TestMetricsCountWhatIsSentToBigQueryAndWhatItBillsFor(t *testing.T) {
	t.Parallel()
	s := bigQuery(t)
	w := newWorld(t, strings.NewReplacer("http://127.0.0.1:1", s.URL(), "127.0.0.1:1", s.Addr(), "my-project", s.Project()).Replace(nowhere))
	d, _ := pagedDaemon(t, w)
	d.instrument()
	entries, err := d.entries(t.Context(), true)
	if err != nil {
		t.Fatal(err)
	}
	if err := entries[0].Run(t.Context(), schedule.Manual); err != nil {
		t.Fatal(err)
	}
	page := httptest.NewRecorder()
	d.metrics.ServeHTTP(page, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	got, want := scraped(t, page.Body.String()), recorded(t, w.sluice(t, "runs", "--json").mustBe(t, 0).out)
	maps.DeleteFunc(want, func(series string, _ int64) bool { return strings.HasPrefix(series, "sluice_runs_total") }) // the scheduler's
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-runs +metrics):\n%s", diff)
	}
	const labels = `{destination="warehouse",pipeline="nightly"}`
	if sent, billed := got["sluice_destination_written_bytes_total"+labels], got["sluice_destination_scanned_bytes_total"+labels]; sent == 0 || billed < 10<<20 {
		t.Errorf("%d bytes sent, %d billed for", sent, billed)
	}
}
