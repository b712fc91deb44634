package web

import (
	"net/http/httptest"
	"net/url"
	"testing"

	"github.com/sluice-etl/sluice/internal/web/browsertest"
)

func TestEveryPageFitsAPhoneInTheDarkAndAsksNobodyElse(t *testing.T) {
	w := mixed(t, Options{})
	server := httptest.NewServer(w)
	t.Cleanup(server.Close)
	u, err := url.Parse(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	tab := browsertest.Open(t)
	fails, fine := w.docs["orders_crm"].Runs, w.docs["nightly"].Runs
	for _, p := range []struct{ name, path string }{
		{"overview", "/"},
		{"pipeline", "/pipelines/nightly"},
		{"pipeline-failing", "/pipelines/orders_crm"},
		{"run", "/pipelines/nightly/runs/" + fine[len(fine)-1].RunID},
		{"run-failed", "/pipelines/orders_crm/runs/" + fails[len(fails)-1].RunID},
		{"run-live", "/pipelines/weekly_full/runs/20260902T105825Z-abcdef"},
		{"plan", "/plan"},
	} {
		tab.Screen(1280, 900, false, false)
		tab.Go(server.URL + p.path)
		tab.Fits()
		tab.Shot(p.name, true)
		tab.Screen(1280, 900, false, true)
		tab.Shot(p.name+"-dark", true)
		tab.Screen(320, 640, true, false)
		tab.Fits()
		tab.Shot(p.name+"-phone", true)
	}
	tab.Screen(1000, 800, false, false) // docs/page.png
	tab.Go(server.URL + "/")
	tab.Sees("Live")
	tab.Shot("page", false)
	tab.Clean(u.Host)
}
