package views_test

import (
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/views"
)

func TestATextIsTakenApartIntoItsViews(t *testing.T) {
	t.Parallel()
	for _, o := range []views.Options{
		{Columns: loadtest.Table()},
		{Columns: loadtest.Table(), Table: `odd "name"`, Schema: `a.b "c"`, Stages: `x."y"`},
	} {
		text := views.SQL(o)
		for _, head := range []string{"", "-- Remarks.\n-- And more.\n"} {
			got, list := views.Split(head + text)
			if want := head + schema(o.Schema); got != want {
				t.Errorf("the remarks are %q, want %q", got, want)
			}
			if d := cmp.Diff(head+text, views.Join(got, list)); d != "" {
				t.Errorf("put together again (-want +got):\n%s", d)
			}
			want := views.List(o)
			if !slices.EqualFunc(want, list, func(v views.View, s views.Statement) bool { return v.Bare == s.Name && v.Macro == s.Macro }) {
				t.Errorf("statements are %+v, want %+v", list, want)
			}
		}
	}
	if head, list := views.Split("-- Nothing yet.\n"); head != "-- Nothing yet.\n" || list != nil {
		t.Errorf("a text without views is %q and %v", head, list)
	}
}

// schema makes the schema that views stand in.
func schema(name string) string {
	if name == "" {
		return ""
	}
	return "CREATE SCHEMA IF NOT EXISTS " + views.QuoteName(name) + ";\n"
}

func TestWhatSomebodyWroteBetweenViewsBelongsToTheOneBefore(t *testing.T) {
	t.Parallel()
	_, list := views.Split("\nCREATE OR REPLACE VIEW \"a\" AS\nSELECT 1;\nCREATE VIEW mine AS SELECT 2;\n\nCREATE OR REPLACE VIEW b AS\nSELECT 3;\n")
	if len(list) != 2 || list[0].Name != "a" || list[1].Name != "b" || list[0].Digest() == views.Digest("CREATE OR REPLACE VIEW \"a\" AS\nSELECT 1;\n") {
		t.Errorf("statements are %+v", list)
	}
}
