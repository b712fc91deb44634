package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// setAside is a world of which records are in quarantine, of both formats.
func setAside(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, small)
	w.sluice(t, "run").mustBe(t, 0)
	dir := filepath.Join(".sluice", "quarantine", "nightly")
	w.write(t, filepath.Join(dir, "20260701T030000Z-aaaaaa-0001.ndjson"),
		`{"run_id":"20260701T030000Z-aaaaaa","reason":"created_at is missing, null or not a timestamp","id":"0b0e7a52-6f0c-4f0e-9d53-2f6b1c8e4d11","request":"/api/public/contacts?limit=100&created_after=1970-01-01T00:00:00.000Z","position":3,"raw":"{\"id\":\"0b0e7a52-6f0c-4f0e-9d53-2f6b1c8e4d11\",\"name\":\"Ana\\u001b[31m\"}"}`+"\n")
	w.write(t, filepath.Join(dir, "20260830T030000Z-bbbbbb-0002.ndjson"),
		`{"format":2,"ref":"20260830T030000Z-bbbbbb-0002.1","run_id":"20260830T030000Z-bbbbbb","at":"2026-08-30T03:00:02Z","reason":"id is missing, null or not a string","request":"/api/public/contacts?limit=100&updated_after=2026-08-29T03:00:00.000Z","position":0}`+"\n"+
			`{"format":2,"ref":"20260830T030000Z-bbbbbb-0002.2","run_id":"20260830T030000Z-bbbbbb","at":"2026-08-30T03:00:02Z","reason":"updated_at is missing, null or not a timestamp","tried":"2026-08-31T10:00:00Z","id":"`+goneID+`","request":"/api/public/contacts?limit=100&updated_after=2026-08-29T03:00:00.000Z","position":7}`+"\n")
	return w
}

const goneID = "5e3cf1de-7a4b-4c1e-9a53-0d2f6b8c1e47"

func TestRecordsSetAsideAreListedShownAndDropped(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	if got := w.sluice(t, "quarantine", "list").mustBe(t, 0).out; got != "No record is set aside.\n" {
		t.Errorf("none are listed as %q", got)
	}
	w = setAside(t)
	golden(t, "quarantine/list.txt", w.sluice(t, "quarantine", "list", "nightly").mustBe(t, 0).out)
	shown := w.sluice(t, "quarantine", "show", "20260701T030000Z-aaaaaa-0001.1", strings.ToUpper(goneID), "20260830T030000Z-bbbbbb-0002.ndjson").mustBe(t, 0).out
	golden(t, "quarantine/show.txt", shown)
	if strings.Contains(shown, "\x1b") {
		t.Error("a control character reaches the terminal")
	}
	listed := w.sluice(t, "quarantine", "list", "--json", "--limit", "2").mustBe(t, 0).out
	var first asideRecord
	if err := json.Unmarshal([]byte(strings.SplitN(listed, "\n", 2)[0]), &first); err != nil || first.Ref != "20260830T030000Z-bbbbbb-0002.2" || first.Stored || strings.Count(listed, "\n") != 2 {
		t.Errorf("the list is %s, %v", listed, err)
	}
	golden(t, "quarantine/unknown.txt", w.sluice(t, "quarantine", "show", "20260701T030000Z-aaaaaa-0001.2").mustBe(t, 1).err)

	asked := w.sluice(t, "quarantine", "drop", "nightly", "--before", "2026-08-01").mustBe(t, exitApproval)
	if !strings.Contains(asked.out, "nightly: 1 record to remove") || !strings.Contains(asked.err, "--yes") {
		t.Errorf("away from a terminal: %s%s", asked.out, asked.err)
	}
	if got := w.sluice(t, "quarantine", "drop", "nightly", "--before", "2026-08-01", "--yes").mustBe(t, 0).out; !strings.HasSuffix(got, "nightly: 1 record removed\n") {
		t.Errorf("it says %q", got)
	}
	if got := w.sluice(t, "quarantine", "drop", "--run", "20260830T030000Z-bbbbbb", "--yes", "--json").mustBe(t, 0).out; got != `{"type":"dropped","pipeline":"nightly","records":2}`+"\n" {
		t.Errorf("it says %q", got)
	}
	if left, err := os.ReadDir(filepath.Join(w.dir, ".sluice", "quarantine", "nightly")); err != nil || len(left) > 0 {
		t.Errorf("left are %v, %v", left, err)
	}
}

func TestARetrySaysWhatPassedAndWhyTheOthersStay(t *testing.T) {
	t.Parallel()
	w := setAside(t)
	got := w.sluice(t, "quarantine", "retry", "nightly").mustBe(t, 0)
	for _, want := range []string{
		"  set aside   3 records taken up\n", "  passed      0, 0 of them fetched again\n", "  stay        3\n",
		"1: the source has no contact of this id any more (it answers 404)\n", "sluice quarantine drop nightly` removes them here\n",
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("%q is not in\n%s", want, got.out)
		}
	}
	w.sluice(t, "quarantine", "drop", "--yes").mustBe(t, 0)
	if got := w.sluice(t, "quarantine", "retry").mustBe(t, 0).out; got != "nightly: no record is set aside\n" {
		t.Errorf("without any it says %q", got)
	}
}
