//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package cli

import (
	"strings"
	"testing"

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
