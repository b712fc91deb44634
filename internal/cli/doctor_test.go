package cli

import (
	"encoding/json"
	"net"
	"os"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/doctor"
)

// examined is a pipelines file whose sandbox has something to say in most
// checks.
const examined = `version: 1
state: {path: .sluice}
sources:
  crm: {type: contacts_api, url: "sandbox://?contacts=2000&seed=1&page_cap=400&wrap=data&skew=90s&created_ties=30&updated_ties=12&shuffle_ties=true&future=3"}
destinations:
  lake: {type: parquet, path: out}
pipelines:
  nightly: {source: crm, table: contacts, lookback: 10m, destinations: [lake]}
`

func TestDoctorReportsWhatItFoundAndWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, examined)
	r := w.sluice(t, "doctor").mustBe(t, 0)
	golden(t, "doctor/report.txt", r.out)
	if r.err != "" {
		t.Errorf("stderr: %s", r.err)
	}
	entries, err := os.ReadDir(w.dir)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Errorf("the directory holds %v, want pipelines.yaml alone", entries)
	}
	for line := range strings.Lines(w.onTerminal(t, "doctor", "crm").mustBe(t, 0).out) {
		if width := displayWidth(strings.TrimRight(line, "\n")); width > 100 && !strings.Contains(line, "#") {
			t.Errorf("%d columns on a terminal of 100: %s", width, line)
		}
	}
}

func TestDoctorPrintsOneJSONObject(t *testing.T) {
	t.Parallel()
	w := newWorld(t, examined)
	r := w.sluice(t, "doctor", "--json", "--budget", "15").mustBe(t, 0)
	var report doctor.Report
	if err := json.Unmarshal([]byte(r.out), &report); err != nil {
		t.Fatal(err)
	}
	if report.Budget != 15 || report.Requests > 15 || len(report.Checks) < 20 || strings.Count(r.out, "\n") != 1 {
		t.Errorf("got %s", r.out)
	}
	if report.Checks[0].Name != "reachable" || report.Checks[0].Status != doctor.OK {
		t.Errorf("first %+v", report.Checks[0])
	}
}

func TestDoctorExitsWithOneOnAProblem(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.Replace(examined, "&future=3", "&fault_disorder=1", 1))
	r := w.sluice(t, "doctor").mustBe(t, 1)
	if !strings.Contains(r.out, "problem  order: updated_after") || r.err != "" {
		t.Errorf("got %s%s", r.out, r.err)
	}

	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	url := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	start := strings.Index(examined, "sandbox://")
	end := start + strings.Index(examined[start:], `"`)
	w = newWorld(t, examined[:start]+url+examined[end:])
	w.write(t, "pipelines.yaml", strings.Replace(examined[:start]+url+examined[end:], `"}`, `", api_key: "${KEY}"}`, 1))
	w.env["KEY"] = "k-0123456789abcdef"
	r = w.sluice(t, "doctor").mustBe(t, 1)
	if strings.Contains(r.out+r.err, w.env["KEY"]) {
		t.Error("the key is shown")
	}
	golden(t, "doctor/unreachable.txt", strings.ReplaceAll(r.out, url, "http://127.0.0.1:PORT"))
}

func TestDoctorNeedsToKnowWhichSource(t *testing.T) {
	t.Parallel()
	two := strings.Replace(examined, "destinations:", "  erp: {type: contacts_api, url: \"sandbox://?contacts=5\"}\ndestinations:", 1)
	w := newWorld(t, two)
	var b strings.Builder
	for _, line := range []string{"doctor", "doctor cmr", "doctor crm erp", "doctor crm --budget 0"} {
		r := w.sluice(t, strings.Fields(line)...).mustBe(t, 1)
		b.WriteString("$ sluice " + line + "\n" + r.out + r.err + "\n")
	}
	golden(t, "doctor/usage.txt", b.String())
	if got := w.sluice(t, "__complete", "doctor", "").mustBe(t, 0).out; !strings.HasPrefix(got, "crm\nerp\n") {
		t.Errorf("completion: %q", got)
	}
	if r := w.sluice(t, "doctor", "erp").mustBe(t, 0); !strings.Contains(r.out, "5 contacts") {
		t.Errorf("got %s", r.out)
	}
	golden(t, "help/doctor.txt", w.sluice(t, "doctor", "--help").mustBe(t, 0).out)
}
