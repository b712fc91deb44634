package cli

import (
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/duck"
)

func TestOnlyCommandsThatAskTheSourceNeedItsVariables(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	w.sluice(t, "run").mustBe(t, 0)
	w.write(t, "pipelines.yaml", strings.Replace(small, `url: "sandbox://?contacts=40&seed=1"`, `url: "${X}", api_key: "${Y}"`, 1))
	reading := []string{"runs", "schema|nightly"}
	if duck.Available {
		reading = append(reading, "query|FROM contacts")
	}
	for _, line := range reading {
		if r := w.sluice(t, strings.Split(line, "|")...).mustBe(t, 0); r.out == "" || r.err != "" {
			t.Errorf("%s: stdout %q, stderr %q", line, r.out, r.err)
		}
	}
	if got := w.sluice(t, "__complete", "runs", "").mustBe(t, 0).out; !strings.HasPrefix(got, "nightly\n") {
		t.Errorf("completion offers %q", got)
	}
	for _, line := range []string{"validate", "run", "preview nightly", "schedule", "doctor"} {
		r := w.sluice(t, strings.Fields(line)...).mustBe(t, 1)
		if !strings.Contains(r.err, "variable X is not set") || !strings.Contains(r.err, "variable Y is not set") {
			t.Errorf("%s: %s", line, r.err)
		}
	}
}
