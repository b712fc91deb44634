package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// withoutSizes takes what a library's version may change out of a text.
func withoutSizes(s string) string {
	return regexp.MustCompile(`\d+ kB|\d+\.\d MB|\d+ bytes`).ReplaceAllString(s, "N bytes")
}

func TestVerifyMissesATableThatRunsHaveFilled(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	w.sluice(t, "run").mustBe(t, 0)
	if err := os.RemoveAll(filepath.Join(w.dir, "out", "contacts", "current")); err != nil {
		t.Fatal(err)
	}
	if r := w.sluice(t, "query", "FROM contacts").mustBe(t, 1); !strings.HasPrefix(r.err, "error: files of the table contacts are missing, such as DIR/out/contacts/current/") {
		t.Error(r.err)
	}
	if err := os.RemoveAll(filepath.Join(w.dir, "out")); err != nil {
		t.Fatal(err)
	}
	r := w.sluice(t, "verify").mustBe(t, 1)
	if !strings.Contains(r.out, "missing table") || !strings.Contains(r.out, "packages up to 1 were committed") {
		t.Error(r.out)
	}
}

func TestVerifySaysWhatIsWrong(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	golden(t, "verify/before.txt", w.sluice(t, "verify").mustBe(t, 0).out)
	w.sluice(t, "run").mustBe(t, 0)
	r := w.sluice(t, "verify", "nightly").mustBe(t, 0)
	golden(t, "verify/sound.txt", withoutSizes(r.out))

	files, err := filepath.Glob(filepath.Join(w.dir, "out", "contacts", "current", "*", "*.parquet"))
	if err != nil || len(files) < 3 {
		t.Fatal(files, err)
	}
	if err := os.Remove(files[0]); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(files[1], 100); err != nil {
		t.Fatal(err)
	}
	w.write(t, "out/contacts/current/mine.parquet", "PAR1")
	w.write(t, "out/contacts/views.sql", "SELECT 1")
	r = w.sluice(t, "verify").mustBe(t, 1)
	golden(t, "verify/faults.txt", withoutSizes(r.out)+"\n"+r.err)

	r = w.sluice(t, "verify", "--json").mustBe(t, 1)
	lines := strings.Split(strings.TrimSpace(r.out), "\n")
	var last struct {
		Type, Pipeline, Destination string
		Faults, Contacts            int
	}
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Type != "verified" || last.Faults != len(lines)-1 || last.Faults != 4 {
		t.Errorf("%d lines, the last is %+v, %v:\n%s", len(lines), last, err, r.out)
	}
}
