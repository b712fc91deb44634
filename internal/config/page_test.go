package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// page renders the reference of all keys from the table that the loader
// checks against, so that the two cannot differ.
func page() string {
	var b strings.Builder
	b.WriteString(`# pipelines.yaml, key by key

This page is made from the table that the program itself checks files against
(` + "`make golden`" + ` renews it; a test compares the two). ` + "`sluice validate`" + ` reports
everything that is wrong with a file at once, each fault with its place.

` + "`*`" + ` stands for a name of your choice. ` + "`${VAR}`" + ` and ` + "`${VAR:-default}`" + ` are replaced in
values, ` + "`$${`" + ` is a literal ` + "`${`" + `.

| key | value | default | |
|---|---|---|---|
`)
	for _, k := range Keys() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Path, valueOf(k), defaultOf(k), cell(describe(k)))
	}
	return b.String()
}

func valueOf(k Key) string {
	switch {
	case len(k.Allowed) > 0:
		return "`" + strings.Join(k.Allowed, "`, `") + "`"
	case k.Min != "" && k.Max != "":
		return strings.TrimSpace(fmt.Sprintf("%s, %s to %s %s", k.Type, k.Min, k.Max, k.Unit))
	case k.Min != "":
		return strings.TrimSpace(fmt.Sprintf("%s, from %s %s", k.Type, k.Min, k.Unit))
	default:
		return string(k.Type)
	}
}

func defaultOf(k Key) string {
	switch {
	case k.Required:
		return "required"
	case k.Default == "":
		return ""
	default:
		return "`" + cell(k.Default) + "`"
	}
}

func describe(k Key) string {
	s := k.Description
	if k.Of != "" {
		s += " (of type " + strings.Join(strings.Fields(k.Of), ", ") + ")"
	}
	return s
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func TestTheConfigurationPageIsMadeFromTheTableOfKeys(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "configuration.md")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(page()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != page() {
		t.Errorf("%s differs from the table of keys: run `make golden`", path)
	}
}
