package loadtest

import (
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// unionFollows lets two accounts have one view, under changing names.
func unionFollows(p *placed) {
	if p.Account == nil || p.Count == nil {
		p.t.Skip("there are no views over accounts here")
	}
	const one, two = "contacts", "globex"
	account := func(table, view string) resourceful {
		p.t.Helper()
		return open(p.t, p.Account(p.t, table, load.Union{Name: view, Tables: []string{two, one}}))
	}
	bring := func(table, view string, s Spec) load.Package {
		p.t.Helper()
		pkg := p.build(s)
		pkg.Lineage = p.lineage
		if _, err := account(table, view).Commit(p.t.Context(), pkg); err != nil {
			p.t.Fatalf("commit to %s: %v", table, err)
		}
		return pkg
	}
	first := bring(one, "everybody", Spec{Serial: 1, Rows: []Row{Contact("a", inMonth(1), at(1)), Contact("b", inMonth(2), at(1))}})
	if got := p.Count(p.t, "everybody"); got != 2 {
		p.t.Errorf("with one of two accounts the view has %d rows", got)
	}
	wide := Extra("cf_customer_x", schemas.Int64)
	second := bring(two, "everybody", Spec{Serial: 1, Extra: []schemas.Column{wide}, Rows: []Row{Contact("a", inMonth(1), at(1), wide.Name, 7)}})
	unlike := func(table, view string, columns schemas.Table) []string {
		p.t.Helper()
		list, err := account(table, view).Survey(p.t.Context(), p.lineage, columns)
		if err != nil {
			p.t.Fatal(err)
		}
		return slices.DeleteFunc(Unlike(list), func(line string) bool { return !strings.HasPrefix(line, "view ") })
	}
	is := func(when, table, view string, pkg load.Package, want ...string) {
		p.t.Helper()
		if got := unlike(table, view, pkg.Table); !slices.Equal(got, want) {
			p.t.Errorf("%s, of views it is said: %q, want %q", when, got, want)
		}
	}
	converge := func(table, view string, pkg load.Package) {
		p.t.Helper()
		if err := account(table, view).Converge(p.t.Context(), load.Convergence{Lineage: p.lineage, Table: pkg.Table}); err != nil {
			p.t.Fatalf("converge: %v", err)
		}
	}
	is("with both", one, "everybody", first)
	is("with both", two, "everybody", second)
	if got := p.Count(p.t, "everybody"); got != 3 {
		p.t.Errorf("with both accounts the view has %d rows", got)
	}

	is("under another name", one, "all_of_them", first, "view all_of_them is missing", "view everybody is not wanted")
	converge(one, "all_of_them", first)
	for _, table := range []string{one, two} { // for the second there is nothing left to do
		is("renamed", table, "all_of_them", map[string]load.Package{one: first, two: second}[table])
	}
	if got := p.Count(p.t, "all_of_them"); got != 3 {
		p.t.Errorf("renamed, the view has %d rows", got)
	}
	is("switched off", two, "", second, "view all_of_them is not wanted")
	converge(two, "", second)
	is("switched off", one, "", first)

	converge(one, "everybody", first)
	if err := account(one, "everybody").Destroy(p.t.Context(), load.Destruction{Lineage: p.lineage}); err != nil {
		p.t.Fatal(err)
	}
	if got := p.Count(p.t, "everybody"); got != 1 {
		p.t.Errorf("without the first account the view has %d rows", got)
	}
	if err := account(two, "everybody").Destroy(p.t.Context(), load.Destruction{Lineage: p.lineage}); err != nil {
		p.t.Fatal(err)
	}
	for _, left := range p.Left(p.t) {
		if strings.Contains(left, "everybody") {
			p.t.Errorf("without any account %s is there", left)
		}
	}
}
