package metrics

import (
	"os"
	"slices"
	"strings"
	"testing"
)

// table is what the page says of metrics: the text that a scrape has for each.
func table(t *testing.T) string {
	t.Helper()
	list, err := newMetrics().Gatherer().Gather()
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, f := range list {
		if !strings.HasPrefix(f.GetName(), "sluice_") {
			continue
		}
		labels := map[string]bool{}
		for _, m := range f.GetMetric() {
			for _, l := range m.GetLabel() {
				labels["`"+l.GetName()+"`"] = true
			}
		}
		var names []string
		for name := range labels {
			names = append(names, name)
		}
		slices.Sort(names)
		lines = append(lines, "| `"+f.GetName()+"` | "+strings.ToLower(f.GetType().String())+" | "+strings.Join(names, ", ")+" | "+f.GetHelp()+" |\n")
	}
	return "| metric | type | labels | |\n|---|---|---|---|\n" + strings.Join(lines, "")
}

func TestThePageHasEveryMetric(t *testing.T) {
	t.Parallel()
	const path = "../../docs/monitoring.md"
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	head, _, _ := strings.Cut(string(data), "| metric |")
	want := strings.TrimSuffix(head, "METRICS\n") + table(t)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if string(data) != want {
		t.Errorf("%s differs from the metrics: run `make golden`", path)
	}
}
