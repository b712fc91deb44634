package run_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/schemas"
)

// planted is a text that stands in values which the policies hide.
const planted = "Planted"

// protecting is a pipeline into a lake and a database whose contract hashes,
// masks and drops, renames, and has more fields than columns; some fields had
// another type before.
func protecting(t *testing.T) (*world, *dressed, run.Job, func(...string)) {
	t.Helper()
	w := newWorld(t, contacts(120))
	local, spoil := w.database()
	d := &dressed{change: func(c map[string]any) { c["shoe_size"] = 41 }}
	key, err := schemas.NewHashKey([]byte(strings.Repeat("k", schemas.MinHashKey)))
	if err != nil {
		t.Fatal(err)
	}
	job := w.job(append(w.lakes("lake"), local)...)
	job.Source.Transport, job.HashKey = d, key
	w.mustRun(job)
	found := 0
	for _, e := range w.state().Registry {
		if _, declared := schemas.Default().Column(e.Ref()); !declared {
			found++
		}
	}
	text := strings.NewReplacer(
		"path: phone\n    type: string", "path: phone\n    type: string\n    policy: hash",
		"path: email\n    type: string", "path: email\n    type: string\n    policy: mask",
	).Replace(string(schemas.BuiltIn())) + fmt.Sprintf("\nundeclared: hash\nrename: {hat_size: hat}\nexclude: [secret]\nmax_columns: %d\n", found+1)
	if job.Contract, err = schemas.ParseContract("crm.yaml", []byte(text)); err != nil {
		t.Fatal(err)
	}
	d.change = func(c map[string]any) {
		id := c["id"].(string)
		c["shoe_size"], c["hat_size"], c["zebra"], c["secret"] = planted+" shoe "+id, planted+" hat "+id, planted+" zebra "+id, planted+" secret"
		c["phone"], c["email"] = "+56 9 8765 "+id[:4], planted+"@example.com"
	}
	w.mustRun(job)
	return w, d, job, spoil
}

// untold fails where a result names a planted value.
func untold(t *testing.T, what string, result any) {
	t.Helper()
	data, err := json.Marshal(result)
	if err != nil {
		t.Fatal(err)
	}
	if text := string(data); strings.Contains(text, planted) || strings.Contains(text, "8765") {
		t.Errorf("%s names a value that the policy hides:\n%s", what, text)
	}
}

func TestTablesUnderPoliciesCompareAndOneDifferenceIsFoundWithoutTellingTheValue(t *testing.T) {
	slow(t)
	w, _, job, spoil := protecting(t)
	w.both("SELECT count(*) FILTER (length(phone) = 64), count(*) FILTER (email = '***@example.com'), count(*) FILTER (length(hat) = 64), count(*) FILTER (length(shoe_size__text) = 64), count(other_fields__json) FROM ALL", "120|120|120|120|120")
	p := w.parity(job, run.ParityCheck{Values: true})
	wantPair(t, "under policies", p.Pairs[0], run.ParityPair{Same: 120})
	ids := w.ids(10)
	zeros := strings.Repeat("0", 64)
	for i, c := range []struct{ column, value, shown string }{
		{"phone", zeros, `"` + zeros + `"`},
		{"phone", planted + " 8765", "(hidden: not as its policy has it)"},
		{"email", planted + "@example.com", "(hidden: not as its policy has it)"},
		{"hat", planted, "(hidden: not as its policy has it)"},
		{"shoe_size__text", planted, "(hidden: not as its policy has it)"},
		{"other_fields__json", `{"contact:zebra":"` + planted + `"}`, "(hidden: not as its policy has it)"},
	} {

		spoil("UPDATE " + table + " SET " + c.column + " = '" + c.value + "' WHERE id = '" + ids[i] + "'")
		p := w.parity(job, run.ParityCheck{Values: true})
		pair := p.Pairs[0]
		if pair.Differ != int64(i+1) {
			t.Errorf("%s: %d differ, want %d", c.column, pair.Differ, i+1)
		}
		seen := false
		for _, e := range pair.Examples {
			for _, cell := range e.Columns {
				if e.ID == ids[i] && cell.Name == c.column && cell.Destination != nil {
					seen = strings.Trim(*cell.Destination, `"`) == strings.Trim(c.shown, `"`)
				}
			}
		}
		if !seen && i < 5 { // five examples are given
			t.Errorf("%s is not shown as %s: %+v", c.column, c.shown, pair.Examples)
		}
		untold(t, "parity of "+c.column, p)
	}
}

func TestATableUnderPoliciesComparesWithItsSourceAndOneDifferenceIsFound(t *testing.T) {
	slow(t)
	w, d, job, spoil := protecting(t)
	compare := func(how run.Comparison) run.Compared {
		t.Helper()
		how.Values = true
		c, err := (&run.Engine{Store: w.store, Clock: clock.System{}}).Compare(t.Context(), job, how)
		if err != nil {
			t.Fatal(err)
		}
		untold(t, "the comparison", c)
		return c
	}
	for _, how := range []run.Comparison{{All: true}, {Sample: 50, Seed: 7}, {All: true, Destination: "local"}} {
		if c := compare(how); c.Same != c.Checked || c.Checked < 50 || c.Wrong() != 0 {
			t.Errorf("as it was read: %+v", c)
		}
	}
	id, change := w.ids(1)[0], d.change
	for column, field := range map[string]string{"phone": "phone", "hat": "hat_size", "shoe_size__text": "shoe_size", "other_fields__json": "zebra"} {
		d.change = func(c map[string]any) {
			if change(c); c["id"] == id {
				c[field] = "+56 9 8765 0000 " + planted
			}
		}
		c := compare(run.Comparison{All: true})
		if c.Unseen != 1 || len(c.Examples) != 1 || c.Examples[0].ID != id || len(c.Examples[0].Columns) != 1 || c.Examples[0].Columns[0].Name != column {
			t.Errorf("another %s: %+v", field, c)
		}
	}
	d.change = func(c map[string]any) {
		if change(c); c["id"] == id {
			c["secret"], c["email"] = planted+" else", planted+"2@example.com" // neither of which is stored
		}
	}
	if c := compare(run.Comparison{All: true}); c.Wrong() != 0 || c.Same != 120 {
		t.Errorf("what is dropped or masked differs: %+v", c)
	}
	d.change = change
	spoil("UPDATE " + table + " SET phone = '" + planted + "', _sluice_hash = _sluice_hash + 1 WHERE id = '" + id + "'")
	c := compare(run.Comparison{All: true, Destination: "local"})
	if c.Unseen != 1 || len(c.Examples) != 1 || len(c.Examples[0].Columns) != 1 {
		t.Fatalf("planted in the table: %+v", c)
	}
	if cell := c.Examples[0].Columns[0]; cell.Name != "phone" || *cell.Table != "(hidden: not as its policy has it)" || len(strings.Trim(*cell.Source, `"`)) != 64 {
		t.Errorf("it says %s is %q, %q", cell.Name, *cell.Table, *cell.Source)
	}
}
