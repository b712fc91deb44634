//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package cli

import (
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
)

// methods is a pipeline into a stand-in of BigQuery and a lake, and one beside
// it into the lake alone.
const methods = `version: 1
sources:
  crm: {type: contacts_api, url: "sandbox://?contacts=10&seed=1"}
destinations:
  warehouse: {type: bigquery, project: PROJECT, dataset: crm, method: stream, endpoint: "URL", grpc_endpoint: "ADDR"}
  lake: {type: parquet, path: out}
pipelines:
  nightly: {source: crm, destinations: [warehouse, lake]}
  other: {source: crm, table: others, destinations: lake}
`

// steady takes what depends on the columns of the day out of a text.
func steady(s string) string {
	return regexp.MustCompile(`[0-9.]+ ([KM]iB|bytes)`).ReplaceAllString(s, "SIZE")
}

func TestAnotherMethodIsShownApprovedAndThenDone(t *testing.T) {
	t.Parallel()
	s := bigQuery(t)
	yaml := strings.NewReplacer("URL", s.URL(), "ADDR", s.Addr(), "PROJECT", s.Project()).Replace(methods)
	w := newWorld(t, yaml)
	w.sluice(t, "run").mustBe(t, 0)
	w.write(t, "pipelines.yaml", strings.Replace(yaml, "method: stream", "method: cdc", 1))

	waits := w.sluice(t, "run", "--full").mustBe(t, 3)
	golden(t, "plan/run_stderr.txt", steady(waits.err))
	if !strings.Contains(waits.out, "other: done") || !strings.Contains(waits.err, "nightly: lake committed") {
		t.Errorf("others did not go on:\n%s\n%s", waits.out, waits.err)
	}
	alone := w.sluice(t, "reconcile", "nightly").mustBe(t, 3)
	if !strings.Contains(alone.err, "-/+ destination.warehouse.table.contacts must be replaced") {
		t.Errorf("reconcile says\n%s", alone.err)
	}
	// The file names another method, so a plan of the other pipeline has nothing.
	w.sluice(t, "plan", "other", "--detailed-exitcode").mustBe(t, 0)
	shown := w.sluice(t, "plan").mustBe(t, 0)
	golden(t, "plan/plan.txt", steady(shown.out))
	if again := w.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 2); again.out != shown.out || again.err != "" {
		t.Errorf("with --detailed-exitcode a plan is\n%s%s", again.out, again.err)
	}

	golden(t, "plan/unapproved_stderr.txt", w.sluice(t, "apply").mustBe(t, 3).err)
	no := w.run(t, Streams{InTerminal: true, In: strings.NewReader("y\n")}, "apply").mustBe(t, 3)
	golden(t, "plan/refused_stderr.txt", no.err)
	w.sluice(t, "run", "nightly").mustBe(t, 3)

	yes := w.run(t, Streams{InTerminal: true, In: strings.NewReader("yes\n")}, "apply").mustBe(t, 0)
	golden(t, "plan/apply.txt", steady(yes.out))
	if out := w.sluice(t, "run").mustBe(t, 0).out; !strings.Contains(out, "nightly: done") {
		t.Errorf("got\n%s", out)
	}
	w.sluice(t, "verify", "--parity").mustBe(t, 0)
	w.write(t, "pipelines.yaml", yaml)
	back := w.sluice(t, "apply", "nightly", "--auto-approve").mustBe(t, 0)
	if !strings.Contains(back.out, `"cdc" -> "stream"  # forces replacement`) || !strings.Contains(back.out, "Apply complete: 0 added, 0 changed, 1 replaced, 0 destroyed.") {
		t.Errorf("got\n%s%s", back.out, back.err)
	}
	w.sluice(t, "run").mustBe(t, 0)
	w.sluice(t, "verify", "--parity").mustBe(t, 0)
	w.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 0)
}

func TestAnApplyThatFailsSaysHowItGoesOn(t *testing.T) {
	t.Parallel()
	s := bigQuery(t)
	yaml := strings.NewReplacer("URL", s.URL(), "ADDR", s.Addr(), "PROJECT", s.Project()).Replace(methods)
	w := newWorld(t, yaml)
	w.sluice(t, "run", "nightly").mustBe(t, 0)
	w.write(t, "pipelines.yaml", strings.Replace(yaml, "method: stream", "method: cdc", 1))
	s.Inject(bqtest.Fault{Call: "tables.insert", Status: 403, Reason: "accessDenied", Message: "Access Denied: Table crm.contacts__rebuilt"})
	failed := w.sluice(t, "apply", "--auto-approve").mustBe(t, 1)
	golden(t, "plan/failed_stderr.txt", failed.err)
	begun := w.sluice(t, "plan").mustBe(t, 0)
	if !strings.Contains(begun.out, "A change from stream to cdc was begun and did not end") {
		t.Errorf("a plan says\n%s", begun.out)
	}
	// Not even the method that the table has goes on before that.
	w.write(t, "pipelines.yaml", yaml)
	w.sluice(t, "run", "nightly").mustBe(t, 3)
	w.sluice(t, "apply", "--auto-approve").mustBe(t, 0)
	w.sluice(t, "run", "nightly").mustBe(t, 0)
	w.sluice(t, "verify", "--parity").mustBe(t, 0)
}
