package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// FuzzParse: no file makes the loader panic, every fault stands within the
// file, and a key that the environment holds is in no output.
func FuzzParse(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, "../../pipelines.yaml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add([]byte(full))
	f.Add([]byte(manyAccounts))
	f.Add([]byte(strings.ReplaceAll(minimal, "\n", "\r\n")))
	f.Add([]byte("a: &a [*a]\nb: {<<: [*a, *a]}\n? [x]\n: !!int 5\n\"k\\n\": |-\n  ${X}\n"))
	f.Fuzz(func(t *testing.T, data []byte) {
		c, list := Parse("p.yaml", data, "/nonexistent", env("SECRET", "env-secret-471147114711", "CONTACTS_API_KEY", "env-secret-471147114711", "PATH", "/bin"))
		if (c == nil) != list.HasErrors() {
			t.Fatalf("config %v with errors %v", c, list.HasErrors())
		}
		if len(data) <= maxFile {
			placesExist(t, data, list)
		}
		if strings.Contains(rendered(t, list), "env-secret-471147114711") {
			t.Fatalf("the key is in the output:\n%s", rendered(t, list))
		}
		if c != nil {
			_ = c.Hash()
		}
	})
}
