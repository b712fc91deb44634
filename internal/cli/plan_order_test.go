//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package cli

import (
	"bytes"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"path"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
)

// ordered notes in which order a dataset, tables and views of BigQuery are made
// and removed.
type ordered struct {
	mu     sync.Mutex
	tables []string // by name, of those that were made
	steps  []string
}

// through is the URL of a proxy that notes what a stand-in is asked.
func (o *ordered) through(t *testing.T, s *bqtest.Server) string {
	t.Helper()
	to, err := url.Parse(s.URL())
	if err != nil {
		t.Fatal(err)
	}
	proxy := httputil.NewSingleHostReverseProxy(to)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		r.Body = io.NopCloser(bytes.NewReader(body))
		o.note(r, body)
		proxy.ServeHTTP(w, r)
	}))
	t.Cleanup(server.Close)
	return server.URL
}

func (o *ordered) note(r *http.Request, body []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	last := path.Base(r.URL.Path)
	switch {
	case r.Method == http.MethodPost && last == "datasets":
		o.steps = append(o.steps, "make the dataset")
	case r.Method == http.MethodPost && last == "tables":
		var table struct {
			TableReference struct{ TableID string }
		}
		if json.Unmarshal(body, &table) == nil {
			o.tables = append(o.tables, table.TableReference.TableID)
		}
		o.steps = append(o.steps, "make a table")
	case r.Method == http.MethodPost && bytes.Contains(body, []byte("CREATE OR REPLACE VIEW")):
		o.steps = append(o.steps, "make a view")
	case r.Method == http.MethodDelete && strings.Contains(r.URL.Path, "/datasets/"):
		o.steps = append(o.steps, map[bool]string{true: "remove a table", false: "remove a view"}[slices.Contains(o.tables, last)])
	}
}

// taken returns the steps since the last call, each kind once where it is
// repeated.
func (o *ordered) taken() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	steps := slices.Compact(o.steps)
	o.steps = nil
	return strings.Join(steps, ", ")
}

// inOrder checks that texts stand in another, one after the other.
func inOrder(t *testing.T, out string, texts ...string) {
	t.Helper()
	rest := out
	for _, text := range texts {
		_, after, ok := strings.Cut(rest, text)
		if !ok {
			t.Fatalf("no %q, or not at its place, in\n%s", text, out)
		}
		rest = after
	}
}

func TestAnApplyMakesFirstWhatTheRestStandsInAndReadsAndADestroyRemovesThatLast(t *testing.T) {
	t.Parallel()
	var o ordered
	s := bigQuery(t)
	w := newWorld(t, strings.NewReplacer("URL", o.through(t, s), "ADDR", s.Addr(), "PROJECT", s.Project(), "destinations: warehouse", "destinations: [warehouse, lake]").Replace(drifting))
	r := w.sluice(t, "apply", "nightly", "--auto-approve", "-v").mustBe(t, 0)
	if got := o.taken(); !strings.HasPrefix(got+",", "make the dataset, make a table, make a view,") {
		t.Errorf("the apply does %s", got)
	}
	inOrder(t, r.out[strings.Index(r.out, "Plan: "):],
		"destination.warehouse.dataset: created", "destination.warehouse.table.contacts: created", "destination.warehouse.view.contacts_active: created",
		"destination.lake.table.contacts: created", "destination.lake.view.contacts: created", "pipeline.nightly: created", "Apply complete", "nightly: done")

	w.sluice(t, "destroy", "nightly", "--auto-approve").mustBe(t, 0)
	if got := o.taken(); got != "remove a view, remove a table" {
		t.Errorf("the destroy does %s", got)
	}
}
