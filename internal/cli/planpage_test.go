package cli

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/plan"
)

// fieldsOf lists the JSON fields of a struct.
func fieldsOf(v any) []string {
	var out []string
	typ := reflect.TypeOf(v)
	for i := range typ.NumField() {
		name, _, _ := strings.Cut(typ.Field(i).Tag.Get("json"), ",")
		out = append(out, name)
	}
	slices.Sort(out)
	return out
}

func TestThePageOfPlansNamesEachFieldOfTheJSON(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile(filepath.Join("..", "..", "docs", "plan.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile("(?m)^\\| `([a-z_]+)` \\|")
	for heading, v := range map[string]any{
		"The document": planDocument{}, "A change": plan.Change{}, "An attribute": plan.Attribute{}, "Drift": plan.Drift{},
		"A sync": plan.Sync{}, "A destination of a sync": plan.SyncDestination{}, "What it is bound to": planBinding{},
	} {
		_, rest, found := strings.Cut(string(page), "\n### "+heading+"\n")
		if !found {
			t.Errorf("docs/plan.md has no heading %q", heading)
			continue
		}
		section, _, _ := strings.Cut(rest, "\n#")
		var named []string
		for _, m := range row.FindAllStringSubmatch(section, -1) {
			named = append(named, m[1])
		}
		slices.Sort(named)
		if diff := cmp.Diff(fieldsOf(v), named); diff != "" {
			t.Errorf("docs/plan.md, %s (-program +page):\n%s", heading, diff)
		}
	}
	for _, a := range []plan.Action{plan.Create, plan.Update, plan.Replace, plan.Forget, plan.Destroy} {
		if !strings.Contains(string(page), "| `"+string(a)+"` |") {
			t.Errorf("docs/plan.md does not say what %s is", a)
		}
	}
}
