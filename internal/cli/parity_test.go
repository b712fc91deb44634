package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// twoLakes are two destinations of one pipeline.
var twoLakes = strings.NewReplacer("lake: {type: parquet, path: out}", "lake: {type: parquet, path: out}\n  copy: {type: parquet, path: copy}", "destinations: lake", "destinations: [lake, copy]", "destinations: [lake]", "destinations: [lake, copy]").Replace(small)

func TestVerifyParityComparesDestinations(t *testing.T) {
	t.Parallel()
	w := newWorld(t, twoLakes)
	var b strings.Builder
	add := func(code int, args ...string) result {
		t.Helper()
		r := w.sluice(t, args...).mustBe(t, code)
		text := regexp.MustCompile(`[0-9a-f]{8}-[0-9a-f-]{27}`).ReplaceAllString(r.out+r.err, "ID")
		b.WriteString("$ sluice " + strings.Join(args, " ") + "\n" + text + "\n")
		return r
	}
	add(0, "verify", "--parity")
	w.sluice(t, "run").mustBe(t, 0)
	add(0, "verify", "--parity", "nightly")
	add(1, "verify", "--parity", "--source", "nightly")
	add(1, "verify", "--parity", "--seed", "5", "nightly")
	copied := strings.NewReplacer("lake, copy", "copy, later", "  copy: {", "  later: {type: parquet, path: later}\n  copy: {").Replace(twoLakes)
	w.write(t, "pipelines.yaml", copied)
	add(0, "verify", "--parity", "nightly")
	r := add(0, "verify", "--parity", "--json", "nightly")
	var line struct {
		Type, Pipeline string
		Wrong          int
		Pairs          []struct{ Waiting int }
	}
	if err := json.Unmarshal([]byte(r.out), &line); err != nil || line.Type != "parity" || len(line.Pairs) != 1 || line.Pairs[0].Waiting != 40 || line.Wrong != 0 {
		t.Errorf("%v: %+v", err, line)
	}
	w.write(t, "pipelines.yaml", twoLakes)
	if err := os.RemoveAll(filepath.Join(w.dir, "copy")); err != nil {
		t.Fatal(err)
	}
	add(1, "verify", "--parity", "nightly")
	w.write(t, "pipelines.yaml", small)
	add(1, "verify", "--parity")
	add(1, "verify", "--parity", "nightly")
	golden(t, "verify/parity.txt", b.String())
}
