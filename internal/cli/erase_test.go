package cli

import (
	"strings"
	"testing"
)

// aContact returns the id of some contact that a world has exported.
func aContact(t *testing.T, w *world) string {
	t.Helper()
	r := w.sluice(t, "query", "SELECT id FROM contacts ORDER BY id LIMIT 1", "--format", "csv").mustBe(t, 0)
	_, id, _ := strings.Cut(strings.TrimSpace(r.out), "\n")
	return strings.TrimSpace(id)
}

func TestEraseSaysWhatItRemovesAndAsks(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := newWorld(t, small)
	w.sluice(t, "run").mustBe(t, 0)
	id := aContact(t, w)
	var b strings.Builder
	add := func(what string, r result, code int) {
		t.Helper()
		r.mustBe(t, code)
		b.WriteString("$ " + what + "\n" + strings.ReplaceAll(r.out+r.err, id, "ID") + "\n")
	}
	before := w.tree(t, "out/contacts/current", "out/contacts/history", ".sluice/state")
	add("sluice erase", w.sluice(t, "erase"), 1)
	add("sluice erase --id nobody", w.sluice(t, "erase", "--id", "nobody", "--yes"), 0)
	add("sluice erase --id ID --dry-run", w.sluice(t, "erase", "--id", id, "--dry-run"), 0)
	add("sluice erase --id ID", w.sluice(t, "erase", "--id", id), 3)
	add("sluice erase --id ID --json", w.sluice(t, "erase", "--id", id, "--json"), 3)
	no := Streams{InTerminal: true, OutTerminal: true, ErrTerminal: true, In: strings.NewReader("y\n")}
	add("sluice erase --id ID (answered y)", w.run(t, no, "erase", "--id", id), 3)
	if after := w.tree(t, "out/contacts/current", "out/contacts/history", ".sluice/state"); len(after) != len(before) {
		t.Error("something was removed")
	}
	for path, data := range w.tree(t, "out/contacts/current", "out/contacts/history", ".sluice/state") {
		if before[path] != data {
			t.Errorf("%s was changed", path)
		}
	}
	yes := Streams{InTerminal: true, OutTerminal: true, ErrTerminal: true, In: strings.NewReader("yes\n")}
	add("sluice erase --id ID (answered yes)", w.run(t, yes, "erase", "--id", id), 0)
	golden(t, "erase.txt", b.String())
	if r := w.sluice(t, "query", "SELECT count(*) FROM contacts_history WHERE id = '"+id+"'", "--format", "csv").mustBe(t, 0); !strings.Contains(r.out, "0") {
		t.Errorf("it is still there: %s", r.out)
	}
	w.sluice(t, "verify").mustBe(t, 0)
	if r := w.sluice(t, "erase", "--id", aContact(t, w), "--yes", "--json").mustBe(t, 0); strings.Count(r.out, `"type":"erased"`) != 1 {
		t.Errorf("got\n%s", r.out)
	}
}
