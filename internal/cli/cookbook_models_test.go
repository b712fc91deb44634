//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/duck"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
)

// python runs the recipes in Python, where SLUICE_PYTHON names one that has the
// packages of .ci/requirements.txt: all in one session, from the directory of
// pipelines.yaml, at the time of the kitchen.
func (k kitchen) python(t *testing.T, recipes []recipe, got map[int]string) {
	t.Helper()
	python := os.Getenv("SLUICE_PYTHON")
	if python == "" {
		t.Log("NOT CHECKED: the recipes in Python (SLUICE_PYTHON names no Python)")
		return
	}
	script, err := filepath.Abs(filepath.Join("testdata", "cookbook.py"))
	if err != nil {
		t.Fatal(err)
	}
	var blocks []map[string]any
	for _, r := range recipes {
		if r.words == "python" {
			blocks = append(blocks, map[string]any{"line": r.line, "code": r.code})
		}
	}
	in, err := json.Marshal(blocks)
	if err != nil {
		t.Fatal(err)
	}
	c := exec.CommandContext(t.Context(), python, script, k.at())
	c.Dir, c.Stdin = k.dir, bytes.NewReader(in)
	var errs bytes.Buffer
	c.Stderr = &errs
	out, err := c.Output()
	if err != nil {
		t.Errorf("python: %v\n%s", err, errs.String())
		return
	}
	printed := map[string]string{}
	if err := json.Unmarshal(out, &printed); err != nil || len(printed) != len(blocks) {
		t.Fatalf("python printed %s: %v", out, err)
	}
	for _, r := range recipes {
		if r.words == "python" {
			got[r.line] = printed[strconv.Itoa(r.line)]
		}
	}
}

// model is a model of dbt as it would send it: over source, into this. Without
// this it is built as a whole. It knows no more of Jinja than the page needs.
func (r recipe) model(source, this string) string {
	sql := regexp.MustCompile(`\{\{ config\(.*\) \}\}`).ReplaceAllString(r.code, "")
	sql = regexp.MustCompile(`\{\{ source\('crm', '(\w+)'\) \}\}`).ReplaceAllString(sql, source)
	if this == "" {
		return regexp.MustCompile(`(?s)\{% if is_incremental\(\) %\}.*?\{% endif %\}`).ReplaceAllString(sql, "")
	}
	return strings.NewReplacer("{% if is_incremental() %}", "", "{% endif %}", "", "{{ this }}", this).Replace(sql)
}

// builds has a model that stands at an early package catch up: then it is what
// building it anew gives.
func (k kitchen) builds(t *testing.T, db *duck.DB, r recipe) {
	t.Helper()
	const seen = 2
	then := fmt.Sprintf(`(SELECT * FROM contacts_history WHERE _sluice_package <= %d
		QUALIFY row_number() OVER (PARTITION BY id ORDER BY _sluice_package DESC, _sluice_row DESC) = 1)`, seen)
	whole := r.model("$1", "")
	if strings.ContainsAny(whole, "{}") {
		t.Errorf("line %d: this stays of dbt:\n%s", r.line, whole)
	}
	ask := func(sql string) string {
		res, err := db.Query(t.Context(), sql, 0)
		if err != nil {
			t.Fatalf("line %d: %v\n%s", r.line, err, sql)
		}
		if len(res.Rows) == 0 {
			return ""
		}
		return res.Rows[0][0].Text
	}
	ask("CREATE TEMP TABLE model AS " + r.model(then, ""))
	ask("CREATE TEMP TABLE added AS " + r.model("$1", "model"))
	before, added, all := ask("SELECT count(*) FROM model"), ask("SELECT count(*) FROM added"), ask("SELECT count(*) FROM contacts_all")
	if added == "0" || before == all {
		t.Errorf("line %d: of %s rows %s are added to %s", r.line, all, added, before)
	}
	ask("DELETE FROM model WHERE id IN (SELECT id FROM added)")
	ask("INSERT INTO model FROM added")
	if got := ask("SELECT count(*) FROM ((FROM model EXCEPT ALL (" + whole + ")) UNION ALL ((" + whole + ") EXCEPT ALL FROM model))"); got != "0" {
		t.Errorf("line %d: the model that caught up and the one that was built anew differ in %s rows", r.line, got)
	}
	_, rows, err := k.bigQuery(t, "SELECT COUNT(*) FROM ("+r.model("crm.$1", fmt.Sprintf("(SELECT %d AS _sluice_package)", seen))+")")
	if err != nil || len(rows) != 1 || rows[0] != added {
		t.Errorf("line %d: BigQuery adds %v rows, DuckDB %s: %v", r.line, rows, added, err)
	}
}

func TestTheCookbookAnswersOverAllAccounts(t *testing.T) {
	t.Parallel()
	f := newFleet(t, map[string]int{"acme": 12, "globex": 8})
	s := bigQueryOf(t, bqtest.Options{Clock: f.hands})
	f.writes(t, fmt.Sprintf("%s\n  warehouse: {type: bigquery, project: %s, dataset: crm, endpoint: %q, grpc_endpoint: %q}", fleetFiles, s.Project(), s.URL(), s.Addr()),
		", verify: off, stages: off", "acme", "globex")
	f.sluice(t, "run").mustBe(t, 0)
	k := kitchen{served{nil, f.world, f.hands}, s}
	lines, recipes := cookbook(t)
	lake, database := k.engine(t, "lake"), k.engine(t, "db")
	got := map[int]string{}
	var shown *duck.Result
	for _, r := range recipes {
		switch r.words {
		case "sql accounts":
			if shown = k.asks(t, lake, r); shown == nil {
				continue
			}
			got[r.line] = tableText(shown, 0)
			k.agrees(t, database, r, got[r.line])
		case "sql bigquery accounts":
			k.compares(t, r, shown)
		default:
		}
	}
	if len(got) == 0 {
		t.Error("the page asks nothing over all accounts")
	}
	answers(t, lines, recipes, got)
}
