package cli

import (
	"encoding/json"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/schemas"
)

// strange is a key that would move a terminal's cursor, turn its text around,
// and go on for ever.
const strange = "a\x1b[2Jb\u009bc\u202ed\u200be\U000e0041f\ng" + "ñ漢"

func TestKeysThatATerminalWouldObeyAreSpelledOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	w.sluice(t, "run", "nightly").mustBe(t, 0)
	store, err := state.Open(filepath.Join(w.dir, ".sluice"), w.clock)
	if err != nil {
		t.Fatal(err)
	}
	long := strange + strings.Repeat("long", 300)
	if _, err := store.Update(t.Context(), "nightly", func(p *state.Pipeline) error {
		reg, err := schemas.NewRegistry(schemas.Default(), p.Registry)
		if err != nil {
			return err
		}
		ref := schemas.FieldRef{Scope: schemas.ScopeContact, Key: long}
		reg.Settle(ref, schemas.KindInt, "r")
		reg.Misfit(ref, "r")
		reg.Saw([]schemas.Sighting{{Scope: ref.Scope, Key: ref.Key, Values: map[string]int64{"int": 1234, "string": 5, "empty": 6}}}, "r", time.Date(2026, 8, 31, 23, 59, 0, 0, time.UTC))
		p.Registry = reg.Entries()
		return nil
	}); err != nil {
		t.Fatal(err)
	}
	text, doc := w.sluice(t, "schema", "nightly").mustBe(t, 0).out, w.sluice(t, "schema", "--json").mustBe(t, 0).out
	for _, out := range []string{text, doc} {
		if i := strings.IndexAny(out, "\x1b\u009b\u202e\u200b\U000e0041"); i >= 0 {
			t.Errorf("printed as it stands: %q", out[i:min(i+20, len(out))])
		}
	}
	if !strings.Contains(text, "int 1,234, empty 6, string 5") || !strings.Contains(text, "2026-08-31") || strings.Contains(text, strings.Repeat("long", 100)) {
		t.Errorf("got\n%s", text)
	}
	var got struct {
		Pipeline string
		Columns  []struct {
			Name, Origin, Source, Policy string
			LastRun                      string `json:"last_run"`
			FirstSeen                    string `json:"first_seen"`
			Observed                     map[string]int64
		}
	}
	if err := json.Unmarshal([]byte(doc), &got); err != nil {
		t.Fatal(err)
	}
	var origins []string
	for _, c := range got.Columns {
		if c.Source != "contact:"+long {
			continue
		}
		origins = append(origins, c.Origin)
		if c.Policy != "keep" || c.LastRun != "r" || c.FirstSeen != "2026-08-31T23:59:00Z" || !maps.Equal(c.Observed, map[string]int64{"int": 1234, "string": 5, "empty": 6}) {
			t.Errorf("got %+v", c)
		}
	}
	if got.Pipeline != "nightly" || !slices.Equal(origins, []string{"discovered", "misfit"}) {
		t.Errorf("%s has the field as %v", got.Pipeline, origins)
	}
}

func TestASchemaTellsWhatTheContractLeavesOut(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.Replace(small, "table: contacts", "table: contacts, schema: crm.yaml", 1))
	w.write(t, "crm.yaml", string(schemas.BuiltIn()))
	w.sluice(t, "run", "nightly").mustBe(t, 0)
	w.write(t, "crm.yaml", string(schemas.BuiltIn())+"\nexclude: [phone, cf_ticket.ciudad]\n")
	for range 2 { // before the run under it, and after
		out := w.sluice(t, "schema", "nightly").mustBe(t, 0).out
		if n := strings.Count(out, ", left out"); n != 2 || !strings.Contains(out, "phone  ") || !strings.Contains(out, "cf_ticket_ciudad  ") {
			t.Errorf("%d columns are left out:\n%s", n, out)
		}
		if strings.Count(out, "\nview customers is left out: the contract leaves out phone\n") != 1 || strings.Count(out, "\nview ") != 1 {
			t.Errorf("it is not said what views lack:\n%s", out)
		}
		w.sluice(t, "run", "nightly").mustBe(t, 0)
	}
}

func TestAFrozenRunSaysWhichLineToChange(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.Replace(small, "table: contacts", "table: contacts, schema: crm.yaml", 1))
	w.write(t, "crm.yaml", string(schemas.BuiltIn())+"\nnew_columns: freeze\n")
	r := w.sluice(t, "run", "nightly").mustBe(t, 1)
	line := 2 + strings.Count(string(schemas.BuiltIn()), "\n")
	if text := strings.Join(strings.Fields(r.err), " "); !strings.Contains(text, "is new (") || !strings.Contains(text, "nothing was committed") || !strings.Contains(text, "crm.yaml:"+count(line)) {
		t.Errorf("got\n%s", r.err)
	}
}

func TestASummaryCountsValuesThatDoNotFitAndThoseLeftOut(t *testing.T) {
	var b strings.Builder
	row := func(label, format string, args ...any) {
		b.WriteString(label + ": " + fmt.Sprintf(format, args...) + "\n")
	}
	unfit(row, run.Summary{
		Misfits:   map[string]int64{"score": 2, "a": 1, "b": 1, "c": 1, "d": 1, "e": 1},
		Discarded: map[string]int64{"contact:\x1bx": 1200},
	})
	want := "misfits: 7 values not of the type of the column, stored as text beside it: score__text 2, a__text 1, b__text 1, c__text 1, d__text 1, and 1 more\n" +
		"discarded: 1,200 values that the contract has no place for: contact:\\x1bx 1,200\n"
	if b.String() != want {
		t.Errorf("got\n%s", b.String())
	}
	b.Reset()
	if unfit(row, run.Summary{}); b.Len() > 0 {
		t.Errorf("got %q", b.String())
	}
}
