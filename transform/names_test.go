package transform_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

// colliding are pages of two windows, which have fields of the same name.
func colliding() [2][]string {
	field := func(key string, i int) string { return somebody(fmt.Sprintf(`"metadata":{"%s":"v%d"}`, key, i)) }
	return [2][]string{
		{field("Lead Source", 1), field("lead-source", 2), field("Común", 3), field("b", 4)},
		{field("lead_source", 5), field("LEAD SOURCE", 6), field("comun", 7), field("b", 8), field("Lead Source", 9)},
	}
}

func chunkOf(t *testing.T, contacts []string) *transform.Chunk {
	t.Helper()
	c := transform.NewChunk(transform.Options{})
	decodeAll(t, c, [][]byte{page(contacts)})
	return c
}

// Within a part it does not matter in which order fields are met.
func TestPartsThatSealInOneOrderGiveOneSetOfNames(t *testing.T) {
	var want []schemas.RegistryEntry
	for turn := range 6 {
		reg := newRegistry(t)
		for _, contacts := range colliding() {
			for range turn {
				contacts = append(contacts[1:], contacts[0])
			}
			if turn%2 == 1 {
				slices.Reverse(contacts)
			}
			seal(t, chunkOf(t, contacts), reg, nil).Record.Release()
		}
		if turn == 0 {
			want = reg.Entries()
			continue
		}
		if diff := cmp.Diff(want, reg.Entries()); diff != "" {
			t.Errorf("turn %d: names differ (-want +got):\n%s", turn, diff)
		}
	}
}

// Windows that are read side by side may seal in any order: which field has
// the plain name is then open, and that all parts agree is not.
func TestWindowsSideBySideAgreeOnNames(t *testing.T) {
	for range 50 {
		reg := newRegistry(t)
		pages := colliding()
		chunks := [2]*transform.Chunk{chunkOf(t, pages[0]), chunkOf(t, pages[1])}
		var sealed [2]*transform.Sealed
		var failed [2]error
		var wg sync.WaitGroup
		for i := range chunks {
			wg.Add(1)
			go func() {
				defer wg.Done()
				sealed[i], failed[i] = chunks[i].Seal(reg, "run", nil)
			}()
		}
		wg.Wait()
		names := map[string]string{}
		for i, s := range sealed {
			if failed[i] != nil {
				t.Fatal(failed[i])
			}
			for _, c := range s.Table.Columns {
				if other, ok := names[c.Source]; ok && c.Origin == schemas.Discovered && other != c.Name {
					t.Errorf("%s is %s in one part and %s in another", c.Source, other, c.Name)
				}
				if c.Origin == schemas.Discovered {
					names[c.Source] = c.Name
				}
			}
			for row, contact := range pages[i] {
				value := contact[strings.LastIndex(contact, `"v`)+1 : len(contact)-3]
				if text := render(s, false); !strings.Contains(text, "= "+value+"\n") {
					t.Errorf("row %d lost %s:\n%s", row, value, text)
				}
			}
			s.Record.Release()
		}
		plain := names["cf_customer:b"]
		if plain != "cf_customer_b" {
			t.Errorf("a field that shares its name with no other is %s", plain)
		}
		again, err := schemas.NewRegistry(schemas.Default(), reg.Entries())
		if err != nil || cmp.Diff(again.Entries(), reg.Entries()) != "" {
			t.Fatal("the names do not hold over a restart:", err)
		}
	}
}
