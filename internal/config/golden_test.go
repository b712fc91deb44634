package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/diag"
)

// testEnv holds the variables of the golden files.
func testEnv(name string) (string, bool) {
	v, ok := map[string]string{
		"SECRET":            "env-secret-4711",
		"SECRET_WITH_SPACE": "env secret-4711\n",
		"EMPTY":             "",
		"TYPE":              "contacts_api",
		"HUNDRED":           "100",
		"WORD":              "word",
		"YAML":              "[a, b]: {c: d}",
	}[name]
	return v, ok
}

func rendered(t *testing.T, l diag.List) string {
	t.Helper()
	var b strings.Builder
	if err := l.Render(&b, false); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestFaultsAreReportedWordForWord compares the whole output of each bad file.
// UPDATE_GOLDEN=1 go test rewrites the expectations.
func TestFaultsAreReportedWordForWord(t *testing.T) {
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil || len(files) < 15 {
		t.Fatalf("%d files, %v", len(files), err)
	}
	for _, file := range files {
		name := strings.TrimSuffix(filepath.Base(file), ".yaml")
		t.Run(name, func(t *testing.T) {
			data, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			c, list := Parse(name+".yaml", data, dir, testEnv)
			if c != nil || !list.HasErrors() {
				t.Error("the file was accepted")
			}
			got := rendered(t, list)
			noSecrets(t, got)
			placesExist(t, data, list)
			golden := filepath.Join("testdata", name+".golden")
			if os.Getenv("UPDATE_GOLDEN") != "" {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// noSecrets fails where output holds any of the planted keys: all of them end
// in 4711 or 815.
func noSecrets(t *testing.T, output string) {
	t.Helper()
	for _, s := range []string{"4711", "815", "hunter22", "abcdef123", "xyz12345", "realkey99"} {
		if i := strings.Index(output, s); i >= 0 {
			t.Errorf("the output holds a key: ...%s", output[max(0, i-60):i+len(s)])
		}
	}
}

// placesExist fails where a diagnostic points outside its file.
func placesExist(t *testing.T, data []byte, l diag.List) {
	t.Helper()
	text := strings.NewReplacer("\r\n", "\n", "\r", "\n").Replace(strings.TrimPrefix(string(data), "\ufeff"))
	lines := strings.Split(text, "\n")
	for _, d := range l {
		if d.Line < 1 || d.Line > len(lines) || d.Col < 1 || d.Col > utf8.RuneCountInString(lines[d.Line-1])+1 {
			t.Errorf("%s is outside the file", d.Headline())
		}
	}
}
