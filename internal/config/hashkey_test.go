package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

const longKey = "0f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c4b5a69788796a5b4c3d2e1f0"

func hashKeyFile(line string) string {
	return `version: 1
sources:
  crm: {type: contacts_api, url: sandbox://}
destinations:
  lake: {type: parquet, path: out}
pipelines:
  nightly:
    source: crm
    destinations: lake
` + line
}

func TestAHashKeyComesFromAVariableOrAFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "key"), []byte(longKey+"\r\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for line, want := range map[string]string{
		"    hash_key: ${SLUICE_HASH_KEY}\n": longKey,
		"    hash_key_file: key\n":           longKey,
		"":                                   "",
	} {
		c, list := Parse("pipelines.yaml", []byte(hashKeyFile(line)), dir, env("SLUICE_HASH_KEY", longKey))
		if c == nil || len(list) > 0 {
			t.Errorf("%q is refused:\n%s", line, rendered(t, list))
			continue
		}
		if got := c.Pipelines[0].HashKey; got.Reveal() != want || got.IsZero() != (want == "") {
			t.Errorf("%q gives another key", line)
		}
	}
}

func TestAHashKeyDoesNotChangeWhatTheFileAsksFor(t *testing.T) {
	with, _ := Parse("pipelines.yaml", []byte(hashKeyFile("    hash_key: ${SLUICE_HASH_KEY}\n")), "/srv", env("SLUICE_HASH_KEY", longKey))
	without, _ := Parse("pipelines.yaml", []byte(hashKeyFile("")), "/srv", none)
	if with == nil || without == nil || with.Hash() != without.Hash() {
		t.Error("a key is part of the file's hash")
	}
}

func TestOfflineAPipelineMayLackItsHashKey(t *testing.T) {
	text := []byte(hashKeyFile("    hash_key: ${SLUICE_HASH_KEY}\n"))
	if c, list := Parse("pipelines.yaml", text, "/srv", none); c != nil || !strings.Contains(rendered(t, list), "SLUICE_HASH_KEY is not set") {
		t.Errorf("a run begins without the key:\n%s", rendered(t, list))
	}
	if c, list := Parse("pipelines.yaml", text, "/srv", none, Offline()); c == nil || len(list) > 0 {
		t.Errorf("a command that needs no key wants it:\n%s", rendered(t, list))
	}
}
