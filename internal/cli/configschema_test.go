package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestTheSchemaOfTheFileIsJSONAndNeedsNoFile(t *testing.T) {
	t.Parallel()
	r := newWorld(t, "").sluice(t, "config-schema").mustBe(t, 0)
	var s struct {
		Schema     string `json:"$schema"`
		Properties map[string]struct{ Description string }
	}
	if err := json.Unmarshal([]byte(r.out), &s); err != nil || !strings.Contains(s.Schema, "2020-12") || s.Properties["defaults"].Description == "" || r.err != "" {
		t.Errorf("%v: %+v %s", err, s, r.err)
	}
}

// BenchmarkValidate checks a file of fifty pipelines, which should take less
// than 50 ms.
func BenchmarkValidate(b *testing.B) {
	var text strings.Builder
	text.WriteString("version: 1\nsources:\n  crm: {type: contacts_api, url: \"sandbox://\"}\ndestinations:\n  lake: {type: parquet, path: out}\n  local: {type: duckdb, path: out/crm.duckdb}\npipelines:\n")
	for i := range 50 {
		fmt.Fprintf(&text, "  p%d:\n    source: crm\n    table: t%d\n    destinations: [lake, local]\n    schedule: \"%d 3 * * *\"\n    timezone: America/Santiago\n    filters: {platform: [whatsapp]}\n    stages: off\n", i, i, i)
	}
	file := filepath.Join(b.TempDir(), "pipelines.yaml")
	if err := os.WriteFile(file, []byte(text.String()), 0o600); err != nil {
		b.Fatal(err)
	}
	env := func(string) (string, bool) { return "", false }
	for b.Loop() {
		var errs bytes.Buffer
		if code := Main(b.Context(), Program{Args: []string{"-f", file, "validate"}, Streams: Streams{Out: io.Discard, Err: &errs}, Env: env, Clock: noon}); code != exitDone {
			b.Fatal(errs.String())
		}
	}
}
