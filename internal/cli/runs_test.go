package cli

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// The query is that of docs/walk.md.
func TestTheRecordOfARunIsInRunsJSONAndBesideTheDataAndDuckDBRepeatsItsDigest(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := newWorld(t, strings.Replace(small, "contacts=40", "contacts=1500&created_ties=1100", 1))
	w.sluice(t, "run").mustBe(t, 0)
	past := events(t, w.sluice(t, "runs", "--json").mustBe(t, 0).out)
	coverage, _ := past[0]["coverage"].(map[string]any)
	if len(past) != 1 || coverage == nil {
		t.Fatalf("runs --json prints %v", past)
	}
	files, err := filepath.Glob(filepath.Join(w.dir, "out", "contacts", "_sluice_runs", "*.json"))
	if err != nil || len(files) != 1 {
		t.Fatalf("beside the data stand %v %v", files, err)
	}
	data, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	var beside map[string]any
	if err := json.Unmarshal(data, &beside); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(coverage, beside); diff != "" {
		t.Errorf("runs --json has another record than the table (-runs +table):\n%s", diff)
	}
	ids, _ := coverage["ids"].(map[string]any)
	want := fmt.Sprintf("n,digest\n%v,%v\n", ids["count"], ids["md5_xor"])
	got := w.sluice(t, "query", "SELECT count(*) AS n, lower(to_hex(bit_xor(md5_number(id)))) AS digest FROM contacts_all").mustBe(t, 0).out
	if got != want || ids["count"] != 1500.0 {
		t.Errorf("DuckDB says %q, the record %q", got, want)
	}
	got = w.sluice(t, "query", "SELECT coverage->'$.phases[0].outcome.ties[0].size' AS size, coverage->'$.phases[0].outcome.ties[0].statistical' AS statistical FROM runs").mustBe(t, 0).out
	if got != "size,statistical\n1100,false\n" {
		t.Errorf("the view runs says of the tie %q", got)
	}
}
