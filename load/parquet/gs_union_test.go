package parquet_test

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/gcs"
	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/schemas"
)

// accountsOf opens loaders of the tables of several accounts, which share a view.
func accountsOf(t *testing.T, c *gcs.Client, n int) []*parquet.GSLoader {
	t.Helper()
	var tables []string
	for i := range n {
		tables = append(tables, fmt.Sprintf("contacts_%d", i))
	}
	var out []*parquet.GSLoader
	for _, table := range tables {
		out = append(out, openGS(t, c, func(o *parquet.GSOptions) {
			o.Table, o.Union = table, load.Union{Name: "everybody", Tables: tables}
		}))
	}
	return out
}

// union is the object with the view of these accounts.
func union(t *testing.T, s *gcstest.Server) string {
	t.Helper()
	return string(s.Objects(t, gsBucket, "exports/crm/")["everybody.sql"])
}

func gsCommit(t *testing.T, l *parquet.GSLoader, p load.Package) {
	t.Helper()
	if _, err := l.Commit(t.Context(), p); err != nil {
		t.Fatalf("commit package %d to %s: %v", p.Serial, l.URL(), err)
	}
}

// viewsOfUnion are what a survey says that the view over accounts lacks.
func viewsOfUnion(t *testing.T, l *parquet.GSLoader, table schemas.Table) string {
	t.Helper()
	list, err := l.Survey(t.Context(), "lineage-a", table)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, line := range loadtest.Unlike(list) {
		if strings.Contains(line, "everybody") {
			out = append(out, line)
		}
	}
	return strings.Join(out, "; ")
}

// isUnion reports whether a request writes the view over accounts.
func isUnion(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.Contains(r.URL.RawQuery, "everybody.sql")
}

func TestGSViewOverAccountsHasBothOfTwoThatCommitAtOnce(t *testing.T) {
	s := gcstest.Start(t, gsBucket)
	other := accountsOf(t, gsClient(t, s, nil), 2)[1]
	// The second account commits after the first has read what there is, and
	// before it writes the view.
	for serial := int64(1); serial < 3; serial++ {
		tr := &transport{}
		done := false
		tr.before = func(_ int, r *http.Request) {
			if isUnion(r) && !done {
				done = true
				p := gsPackage(t, serial, "other")
				if serial == 2 {
					p = wider(t)
				}
				gsCommit(t, other, p) //nolint:contextcheck // as another process does
			}
		}
		first := accountsOf(t, gsClient(t, s, tr), 2)[0]
		p := gsPackage(t, serial, "first")
		if serial == 2 { // a new column of its own makes it write
			p = loadtest.Build(t, loadtest.Spec{Serial: 2, Verify: load.VerifyOff, Coverage: []byte(`{}`), Extra: []schemas.Column{loadtest.Extra("cf_customer_first", schemas.String)}, Rows: []loadtest.Row{contact("a", 1, 2, "name", "first")}})
		}
		gsCommit(t, first, p)
		if !done {
			t.Fatal("the view was not written")
		}
	}
	text := union(t, s)
	for _, want := range []string{`FROM "contacts_0"`, `FROM "contacts_1"`, `CAST(NULL AS VARCHAR) AS "cf_customer_first"`, `CAST(NULL AS VARCHAR) AS "cf_customer_x"`, "CREATE SECRET (TYPE gcs"} {
		if !strings.Contains(text, want) {
			t.Errorf("the view has no %s:\n%s", want, text)
		}
	}
}

// wider is the second package of an account, with a column more.
func wider(t *testing.T) load.Package {
	t.Helper()
	return loadtest.Build(t, loadtest.Spec{
		Serial: 2, Verify: load.VerifyOff, Coverage: []byte(`{}`), Extra: []schemas.Column{loadtest.Extra("cf_customer_x", schemas.String)},
		Rows: []loadtest.Row{contact("a", 1, 2, "name", "other")},
	})
}

func TestGSViewOverAccountsThatWasNotWrittenIsToldAndMadeByTheNextCommit(t *testing.T) {
	s := gcstest.Start(t, gsBucket)
	accounts := accountsOf(t, gsClient(t, s, nil), 2)
	gsCommit(t, accounts[0], gsPackage(t, 1, "one"))
	gsCommit(t, accounts[1], gsPackage(t, 1, "one"))
	s.SetFault(func(_ int, r *http.Request) gcstest.Fault {
		if isUnion(r) {
			return gcstest.Forbid
		}
		return gcstest.None
	})
	p := wider(t)
	if _, err := accounts[1].Commit(t.Context(), p); !errors.Is(err, gcs.ErrDenied) {
		t.Fatalf("a commit whose view could not be written gives %v", err)
	}
	s.SetFault(nil)
	if got := viewsOfUnion(t, accounts[1], p.Table); got != "view everybody has columns of before, not all" {
		t.Errorf("a survey says %q", got)
	}
	if strings.Contains(union(t, s), "cf_customer_x") {
		t.Fatal("the view was written")
	}
	gsCommit(t, accounts[1], p) // as the next run does: the package is there already
	if got := viewsOfUnion(t, accounts[1], p.Table); got != "" || !strings.Contains(union(t, s), "cf_customer_x") {
		t.Errorf("a survey says %q of\n%s", got, union(t, s))
	}
}

func TestGSViewOverAccountsThatSomebodyElseWroteStays(t *testing.T) {
	s := gcstest.Start(t, gsBucket)
	l := accountsOf(t, gsClient(t, s, nil), 1)[0]
	s.Put(gsBucket, "exports/crm/everybody.sql", []byte("SELECT 'mine';\n"))
	p := gsPackage(t, 1, "one")
	gsCommit(t, openGS(t, gsClient(t, s, nil), func(o *parquet.GSOptions) {
		o.Table, o.Union = "contacts_0", load.Union{Name: "before", Tables: []string{"contacts_0"}}
	}), p)
	only := []load.ResourceName{{Kind: load.KindView, Name: "before"}}
	if err := l.Converge(t.Context(), load.Convergence{Lineage: "lineage-a", Table: p.Table, Only: only}); err != nil {
		t.Fatal(err)
	}
	if text, stays := s.Objects(t, gsBucket, "exports/crm/")["before.sql"]; stays {
		t.Errorf("the view that is not wanted is still there:\n%s", text)
	}
	err := l.Converge(t.Context(), load.Convergence{Lineage: "lineage-a", Table: p.Table})
	if !errors.Is(err, load.ErrForeign) || !strings.Contains(err.Error(), "gs://lake/exports/crm/everybody.sql") || !strings.Contains(hinted(err), "union_view") {
		t.Errorf("a convergence gives %v; %s", err, hinted(err))
	}
	if err := l.Destroy(t.Context(), load.Destruction{Lineage: "lineage-a"}); err != nil {
		t.Fatal(err)
	}
	if got := union(t, s); got != "SELECT 'mine';\n" {
		t.Errorf("it is now %q", got)
	}
}

// Many accounts commit one after the other: what each asks for must not grow with
// their number.
func TestGSCommitAsksNoMoreForAViewOverManyAccountsThanForOneOverFew(t *testing.T) {
	asked := func(n int) int {
		s := gcstest.Start(t, gsBucket)
		accounts := accountsOf(t, gsClient(t, s, nil), n)
		for _, l := range accounts {
			gsCommit(t, l, gsPackage(t, 1, "one"))
		}
		s.SetFault(nil)
		gsCommit(t, accounts[0], gsPackage(t, 2, "two"))
		return s.SetFault(nil)
	}
	if few, many := asked(2), asked(5); few != many {
		t.Errorf("a commit takes %d requests with 2 accounts, and %d with 5", few, many)
	}
}
