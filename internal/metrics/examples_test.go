package metrics

import (
	"encoding/json"
	"os"
	"regexp"
	"strings"
	"testing"
)

var metricName = regexp.MustCompile(`\bsluice_[a-z_]+\b`)

func TestRulesAndDashboardNameMetricsThatThereAre(t *testing.T) {
	t.Parallel()
	known := map[string]bool{}
	list, err := newMetrics().Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range list {
		known[f.GetName()] = true
	}
	for _, path := range []string{"prometheus/alerts.yaml", "prometheus/alerts_test.yaml", "grafana/dashboard.json"} {
		data, err := os.ReadFile("../../examples/" + path)
		if err != nil {
			t.Fatal(err)
		}
		names := metricName.FindAllString(string(data), -1)
		for _, name := range names {
			if base, _, _ := strings.Cut(name, "_bucket"); !known[base] {
				t.Errorf("%s: there is no metric %s", path, name)
			}
		}
		if len(names) < 10 {
			t.Errorf("%s names %d metrics", path, len(names))
		}
	}
}

func TestTheDashboardAsksTheDataSourceThatIsChosen(t *testing.T) {
	t.Parallel()
	data, err := os.ReadFile("../../examples/grafana/dashboard.json")
	if err != nil {
		t.Fatal(err)
	}
	var d struct {
		Panels []struct {
			ID         int
			Title      string
			Datasource struct{ UID string }
			Targets    []struct {
				Expr       string
				Datasource struct{ UID string }
			}
		}
	}
	if err := json.Unmarshal(data, &d); err != nil {
		t.Fatal(err)
	}
	ids := map[int]bool{}
	for _, p := range d.Panels {
		if ids[p.ID] || p.Title == "" || len(p.Targets) == 0 || p.Datasource.UID != "${datasource}" {
			t.Errorf("panel %d: %+v", p.ID, p)
		}
		ids[p.ID] = true
		for _, target := range p.Targets {
			if target.Expr == "" || target.Datasource.UID != "${datasource}" {
				t.Errorf("panel %s: %+v", p.Title, target)
			}
		}
	}
}
