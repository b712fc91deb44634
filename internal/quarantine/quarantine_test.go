package quarantine_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/quarantine"
)

func TestAFileIsReadAsItWasWrittenAndALineThatIsNoneIsNamed(t *testing.T) {
	dir := t.TempDir()
	s := quarantine.In(dir, "nightly", nil)
	at := time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC)
	if err := s.Write("run", 3, []quarantine.Record{{At: at, Reason: "no id", Raw: "{\"a\": \"<\u00e9>\"}"}, {At: at, ID: "x"}}); err != nil {
		t.Fatal(err)
	}
	got, err := s.Read("run-0003.ndjson")
	if err != nil || len(got) != 2 || got[0].Raw != "{\"a\": \"<\u00e9>\"}" || got[0].Ref != "run-0003.1" || got[1].Ref != "run-0003.2" || !got[1].At.Equal(at) || got[1].RunID != "run" {
		t.Fatalf("%+v, %v", got, err)
	}
	if err := s.Rewrite("run-0003.ndjson", func(r *quarantine.Record) bool { return r.ID == "x" }); err != nil {
		t.Fatal(err)
	}
	if got, err := s.Read("run-0003.ndjson"); err != nil || len(got) != 1 || got[0].Ref != "run-0003.2" {
		t.Errorf("left is %+v, %v", got, err)
	}
	for text, why := range map[string]string{"{\"run_id\":\"r\"}\nnot JSON\n": "line 2", `{"format":99,"run_id":"r"}`: "format 99 is newer"} {
		if err := os.WriteFile(filepath.Join(s.Dir(), "bad-0001.ndjson"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		var bad *quarantine.LineError
		if err := s.All(func(string, quarantine.Record) {}); !errors.As(err, &bad) || !strings.Contains(err.Error(), why) || bad.Hint() == "" {
			t.Errorf("%q: %v", text, err)
		}
		rewritten := s.Rewrite("bad-0001.ndjson", func(*quarantine.Record) bool { return false })
		if data, err := os.ReadFile(filepath.Join(s.Dir(), "bad-0001.ndjson")); rewritten == nil || err != nil || string(data) != text {
			t.Errorf("a file that cannot be read was changed: %q, %v", data, err)
		}
	}
}

func TestReasonsWithoutEndAreCountedTogether(t *testing.T) {
	c := quarantine.Counts{}
	for i := range 1000 {
		c.Add(strings.Repeat("k", i), 1)
	}
	if len(c) > 50 || c.Sum() != 1000 || c.Sorted()[0] != quarantine.OtherReasons {
		t.Errorf("%d reasons, %d records, first %q", len(c), c.Sum(), c.Sorted()[0])
	}
}
