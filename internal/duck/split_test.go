package duck

import (
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestSplitFindsTheStatementsOfAText(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		sql  string
		want []string
	}{
		"nothing":                        {"", nil},
		"blanks and comments":            {" -- nothing;\n /* ; /* nested ; */ ; */ ;; ", nil},
		"one without its semicolon":      {"select 1", []string{"select 1"}},
		"two, the second keeps its line": {"select 1;\n\nselect 2;", []string{"select 1", "\n\nselect 2"}},
		"semicolons in strings":          {`select 'a;''b;', "c;""d" ; x`, []string{`select 'a;''b;', "c;""d" `, " x"}},
		"escape strings":                 {`select e'\';', E'\\'; x`, []string{`select e'\';', E'\\'`, " x"}},
		"a name that ends in e is none":  {`select date'2024-01-01\'; x`, []string{`select date'2024-01-01\'`, " x"}},
		"dollar strings":                 {"select $$;$$, $a$ ; $$ ; $a$, $1; x", []string{"select $$;$$, $a$ ; $$ ; $a$, $1", " x"}},
		"comments in a statement":        {"select 1 -- one;\n, 2 /* ; */;x", []string{"select 1 -- one;\n, 2 /* ; */", "\nx"}},
		"an open string runs to the end": {"select 'a; b", []string{"select 'a; b"}},
		"an open comment hides the rest": {"select 1 /* a; b", []string{"select 1 /* a; b"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := Split(tc.sql)
			if diff := cmp.Diff(tc.want, got); diff != "" {
				t.Errorf("Split(%q) (-want +got):\n%s", tc.sql, diff)
			}
		})
	}
}

func FuzzSplitLosesNoText(f *testing.F) {
	for _, s := range []string{"select 1; select 2", "a 'b;c' ; /* d */ $x$;$x$ -- e", "e'\\", "$", "/*"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, sql string) {
		for _, s := range Split(sql) {
			if !strings.Contains(sql, strings.TrimLeft(s, "\n")) {
				t.Errorf("Split(%q) made up %q", sql, s)
			}
		}
	})
}
