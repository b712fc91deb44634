package loadtest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// Place is a Harness for what a destination is surveyed, converged and destroyed
// by. Its loaders are of the table contacts, with StagesTable.
type Place struct {
	Harness Harness
	// Second opens a loader of another table at the same destination, with the
	// same table of stages. nil: there is none.
	Second func(t *testing.T) load.Loader
	// Neighbour puts things of others where the table is, in its folder or
	// dataset, and returns what fails the test where they are not as they were.
	// They may keep Check from succeeding once the table is destroyed.
	Neighbour func(t *testing.T) (unchanged func(t *testing.T))
	// Left names what stands there that Sluice made, but for a database, a dataset
	// or a folder that others may use.
	Left func(t *testing.T) []string
	// AddColumn adds a column of text to the table by hand. nil: nobody can.
	AddColumn func(t *testing.T, column string)
	// DropView and ChangeView do so to a view by hand. nil: nobody can.
	DropView, ChangeView func(t *testing.T, view string)
	// Account opens a loader of a table, without stages, with a view over accounts.
	// nil: there are no such views here.
	Account func(t *testing.T, table string, u load.Union) load.Loader
	// Count returns the number of rows of a view. nil: the views are not asked.
	Count func(t *testing.T, view string) int64
}

// RunResources runs the suite of load.Surveyor, load.Converger and
// load.Destroyer; fresh gives each case destinations of its own.
func RunResources(t *testing.T, fresh func(t *testing.T) Place) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*placed)
	}{
		{"a survey of nothing says what is wanted, and leaves no trace", surveyNothing},
		{"convergence makes all that a survey wants, without rows, and then nothing more", convergeAll},
		{"a commit after convergence gives what it gives without", convergeThenCommit},
		{"convergence adds a column, null in all rows", convergeColumn},
		{"convergence looks after what it is to, and leaves the rest", convergeOnly},
		{"a column of somebody else's is seen, and stays", convergeForeignColumn},
		{"a view that was dropped or changed is seen, and made again", convergeViews},
		{"a column of another type is said to be in the way, and nothing changes", convergeRetyped},
		{"a view over accounts has those that are there, and follows its name", unionFollows},
		{"what another state or program wrote is refused", resourcesForeign},
		{"they end with their context", resourcesCancelled},
		{"a destroyed table is gone, and its stages if asked", destroyAll},
		{"a commit after a destruction begins anew", destroyThenCommit},
		{"a destruction leaves all that is not the table's", destroyOnlyThat},
		{"a destruction of nothing leaves no trace", destroyNothing},
	} {
		t.Run(strings.ReplaceAll(c.name, ",", ""), func(t *testing.T) {
			p := fresh(t)
			c.test(&placed{bench: bench{Harness: p.Harness, t: t, lineage: "lineage-a"}, Place: p, fresh: fresh})
		})
	}
}

// placed is a destination under test.
type placed struct {
	bench
	Place
	fresh func(t *testing.T) Place
}

// resourceful is a loader that does all three.
type resourceful interface {
	load.Surveyor
	load.Converger
	load.Destroyer
}

func open(t *testing.T, l load.Loader) resourceful {
	t.Helper()
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	r, ok := l.(resourceful)
	if !ok {
		t.Fatal("the loader does not survey, converge and destroy")
	}
	return r
}

func (p *placed) loader() resourceful {
	p.t.Helper()
	return open(p.t, p.New(p.t))
}

// survey returns the resources, having checked what holds of every survey.
func (p *placed) survey(table schemas.Table) []load.Resource {
	p.t.Helper()
	before := p.fingerprint()
	list, err := p.loader().Survey(p.t.Context(), p.lineage, table)
	if err != nil {
		p.t.Fatalf("survey: %v", err)
	}
	if p.fingerprint() != before {
		p.t.Error("the survey left a trace")
	}
	rank := map[string]int{load.KindDataset: 0, load.KindTable: 1, load.KindView: 2}
	byKind := func(a, b load.Resource) int {
		return cmp.Or(cmp.Compare(rank[a.Kind], rank[b.Kind]), cmp.Compare(a.Name, b.Name))
	}
	if !slices.IsSortedFunc(list, byKind) {
		p.t.Errorf("not in order of kind and name: %s", names(list))
	}
	for i, r := range list {
		if _, known := rank[r.Kind]; !known || i > 0 && byKind(r, list[i-1]) == 0 {
			p.t.Errorf("unknown or twice: %s %s", r.Kind, r.Name)
		}
		if r.Want == nil && r.Have == nil {
			p.t.Errorf("neither wanted nor there: %s %s", r.Kind, r.Name)
		}
		for _, list := range [][]load.Attribute{r.Want, r.Have} {
			seen := map[string]bool{}
			for _, a := range list {
				if a.Name == "" || seen[a.Name] {
					p.t.Errorf("%s %s has no name for an attribute, or has %q twice", r.Kind, r.Name, a.Name)
				}
				seen[a.Name] = true
			}
		}
	}
	return list
}

func names(list []load.Resource) string {
	var out []string
	for _, r := range list {
		out = append(out, r.Kind+" "+r.Name)
	}
	return strings.Join(out, ", ")
}

// Unlike says in what resources are not as they are wanted, a line each. What
// Have alone has is no difference.
func Unlike(list []load.Resource) []string {
	out := []string{}
	for _, r := range list {
		switch {
		case r.Want == nil:
			out = append(out, r.Kind+" "+r.Name+" is not wanted")
			continue
		case r.Have == nil:
			out = append(out, r.Kind+" "+r.Name+" is missing")
			continue
		}
		for _, a := range r.Want {
			i := slices.IndexFunc(r.Have, func(h load.Attribute) bool { return h.Name == a.Name })
			switch {
			case i < 0:
				out = append(out, fmt.Sprintf("%s %s lacks %s", r.Kind, r.Name, a.Name))
			case r.Have[i].Value != a.Value:
				out = append(out, fmt.Sprintf("%s %s has %s %s, not %s", r.Kind, r.Name, a.Name, r.Have[i].Value, a.Value))
			}
		}
	}
	return out
}

// wantUnlike checks in what the destination is not as it is wanted.
func (p *placed) wantUnlike(table schemas.Table, want ...string) []load.Resource {
	p.t.Helper()
	list := p.survey(table)
	if d := gocmp.Diff(append([]string{}, want...), Unlike(list)); d != "" {
		p.t.Errorf("not as wanted (-want +got):\n%s", d)
	}
	return list
}

func (p *placed) converge(table schemas.Table) {
	p.t.Helper()
	p.mustConverge(load.Convergence{Lineage: p.lineage, Table: table})
}

// convergeOnly looks after some resources, or none.
func (p *placed) convergeOnly(table schemas.Table, only ...load.ResourceName) {
	p.t.Helper()
	p.mustConverge(load.Convergence{Lineage: p.lineage, Table: table, Only: append([]load.ResourceName{}, only...)})
}

func (p *placed) mustConverge(c load.Convergence) {
	p.t.Helper()
	if err := p.loader().Converge(p.t.Context(), c); err != nil {
		p.t.Fatalf("converge: %v", err)
	}
}

func (p *placed) destroy(stages bool) {
	p.t.Helper()
	if err := p.loader().Destroy(p.t.Context(), load.Destruction{Lineage: p.lineage, Stages: stages}); err != nil {
		p.t.Fatalf("destroy: %v", err)
	}
}

func (p *placed) resource(list []load.Resource, kind, name string) load.Resource {
	p.t.Helper()
	for _, r := range list {
		if r.Kind == kind && r.Name == name {
			return r
		}
	}
	p.t.Fatalf("no %s %s in %s", kind, name, names(list))
	return load.Resource{}
}

func has(list []load.Attribute, name string) bool {
	return slices.ContainsFunc(list, func(a load.Attribute) bool { return a.Name == name })
}

func surveyNothing(p *placed) {
	p.lineage = ""
	table := Table(Extra("cf_customer_x", schemas.Int64))
	list := p.survey(table)
	for _, r := range list {
		if r.Want == nil || r.Have != nil || r.Holds != (load.Holdings{}) {
			p.t.Errorf("%s %s is %+v, want one that is wanted and missing", r.Kind, r.Name, r)
		}
	}
	contacts := p.resource(list, load.KindTable, "contacts")
	for _, c := range table.Columns {
		if !has(contacts.Want, load.ColumnAttribute(c.Name)) {
			p.t.Errorf("the table is not to have column %s", c.Name)
		}
	}
	p.resource(list, load.KindTable, StagesTable)
	if list[len(list)-1].Kind != load.KindView {
		p.t.Error("there are to be no views")
	}
}

func convergeAll(p *placed) {
	table := Table(Extra("cf_customer_x", schemas.Int64))
	p.converge(table)
	list := p.wantUnlike(table)
	before := p.fingerprint()
	p.converge(table)
	if p.fingerprint() != before {
		p.t.Error("converging again changed the destination")
	}
	p.wantPosition(0)
	p.wantNames()
	p.wantSound()
	if got := p.resource(list, load.KindTable, "contacts").Holds; got.Contacts != 0 || got.Versions != 0 {
		p.t.Errorf("an empty table holds %+v", got)
	}
	if p.Count == nil {
		return
	}
	for _, r := range list {
		if r.Kind == load.KindView && p.Count(p.t, r.Name) != 0 {
			p.t.Errorf("view %s has rows", r.Name)
		}
	}
}

// packages bring contacts, change them, and bury one.
func (p *placed) packages() []load.Package {
	p.t.Helper()
	ana := Contact("a", inMonth(1), at(1), "name", "Ana")
	return []load.Package{
		p.build(Spec{Serial: 1, Coverage: []byte(`{"n":1}`), Rows: []Row{ana, Contact("b", inMonth(2), at(1), "name", "Bo")}}),
		p.build(Spec{Serial: 2, Coverage: []byte(`{"n":2}`), Rows: []Row{Contact("b", inMonth(2), at(2), "name", "Bob"), ana.With(schemas.ColDeletedAt, at(30), schemas.ColHash, Hash(ana))}}),
	}
}

func convergeThenCommit(p *placed) {
	plain := p.fresh(p.t)
	without := &placed{bench: bench{Harness: plain.Harness, t: p.t, lineage: p.lineage}, Place: plain, fresh: p.fresh}
	packages := p.packages()
	p.converge(packages[0].Table)
	for _, pkg := range packages {
		p.wantCounts(p.commit(pkg), counts(without.commit(pkg)))
		p.wantRows("current", p.read(), without.read()...)
		p.wantRows("history", p.history(), without.history()...)
		p.wantPosition(pkg.Serial)
		p.wantSound()
	}
	p.replaceStages(StagesOf("run-002"))
	p.commit(p.build(Spec{Serial: 3, Rows: []Row{Contact("c", inMonth(1), at(3))}}))
	list := p.wantUnlike(packages[0].Table)
	if got := p.resource(list, load.KindTable, "contacts").Holds; got.Contacts != 3 || got.Versions != 5 {
		p.t.Errorf("the table holds %+v, want 3 contacts and 5 versions", got)
	}
	before := p.fingerprint()
	p.converge(packages[0].Table)
	if p.fingerprint() != before {
		p.t.Error("converging what commits have made changed it")
	}
	without.replaceStages(StagesOf("run-002"))
	without.commit(without.build(Spec{Serial: 3, Rows: []Row{Contact("c", inMonth(1), at(3))}}))
	without.wantUnlike(packages[0].Table)
}

func convergeColumn(p *placed) {
	one := Spec{Serial: 1, Rows: []Row{Contact("a", inMonth(1), at(1), "name", "Ana"), Contact("b", inMonth(2), at(1))}}
	p1 := p.build(one)
	p.converge(p1.Table)
	p.commit(p1)
	age := Extra("cf_customer_age", schemas.Int64)
	wide := Table(age)
	unlike := Unlike(p.survey(wide))
	if !slices.Contains(unlike, "table contacts lacks "+load.ColumnAttribute(age.Name)) {
		p.t.Errorf("the column is not missing: %q", unlike)
	}
	p.converge(wide)
	p.wantUnlike(wide)
	p.wantPosition(1)
	p.wantSound()
	p1.Table = wide
	p.wantRows("current", p.read(), Expect(p1, one, 0, "insert"), Expect(p1, one, 1, "insert"))
	two := Spec{Serial: 2, Extra: []schemas.Column{age}, Rows: []Row{Contact("b", inMonth(2), at(2), age.Name, 41)}}
	p2 := p.build(two)
	p.wantCounts(p.commit(p2), load.Result{Changed: 1, Versions: 1})
	updated := Expect(p2, two, 0, "update")
	updated[age.Name] = int64(41)
	p.wantRows("current", p.read(), Expect(p1, one, 0, "insert"), updated)
	// State that knows less, as after a restore, takes nothing away.
	p.converge(Table())
	p.wantRows("current", p.read(), Expect(p1, one, 0, "insert"), updated)
	p.wantSound()
}

func convergeOnly(p *placed) {
	table := Table()
	before := p.fingerprint()
	p.convergeOnly(table)
	if p.fingerprint() != before {
		p.t.Error("looking after nothing left a trace")
	}
	var all, first []load.ResourceName // the table, and what it stands in
	for _, r := range p.survey(table) {
		name := load.ResourceName{Kind: r.Kind, Name: r.Name}
		all = append(all, name)
		if r.Kind == load.KindDataset || name == (load.ResourceName{Kind: load.KindTable, Name: "contacts"}) {
			first = append(first, name)
		}
	}
	p.convergeOnly(table, first...)
	for _, r := range p.survey(table) {
		if wanted := slices.Contains(first, load.ResourceName{Kind: r.Kind, Name: r.Name}); wanted != (r.Have != nil) {
			p.t.Errorf("%s %s has %v", r.Kind, r.Name, r.Have)
		}
	}
	p.wantNames()
	p.wantPosition(0)
	p.convergeOnly(table, all...)
	list := p.wantUnlike(table)
	last := list[len(list)-1]
	if p.DropView == nil || last.Kind != load.KindView {
		return
	}
	p.DropView(p.t, last.Name)
	before = p.fingerprint()
	p.convergeOnly(table, all[:len(all)-1]...)
	if p.fingerprint() != before {
		p.t.Error("looking after the others changed something")
	}
	p.wantUnlike(table, "view "+last.Name+" is missing")
	p.convergeOnly(table, load.ResourceName{Kind: last.Kind, Name: last.Name})
	p.wantUnlike(table)
}

func convergeForeignColumn(p *placed) {
	if p.AddColumn == nil {
		p.t.Skip("nobody can add a column here")
	}
	pkg := p.build(Spec{Serial: 1, Rows: []Row{Contact("a", inMonth(1), at(1))}})
	p.converge(pkg.Table)
	p.commit(pkg)
	const theirs = "zz_score"
	p.AddColumn(p.t, theirs)
	for range 2 {
		got := p.resource(p.wantUnlike(pkg.Table), load.KindTable, "contacts")
		if name := load.ColumnAttribute(theirs); has(got.Want, name) || !has(got.Have, name) {
			p.t.Errorf("the column is not there as somebody else's: %+v", got.Have)
		}
		p.converge(pkg.Table)
	}
}

func convergeViews(p *placed) {
	table := Table()
	p.converge(table)
	for _, c := range []struct {
		by     func(t *testing.T, view string)
		unlike string
	}{{p.DropView, "is missing"}, {p.ChangeView, "has definition"}} {
		if c.by == nil {
			continue
		}
		views := p.survey(table)
		view := views[len(views)-1].Name
		c.by(p.t, view)
		unlike := Unlike(p.survey(table))
		if len(unlike) != 1 || !strings.HasPrefix(unlike[0], "view "+view+" "+c.unlike) {
			p.t.Errorf("view %s is not told from what is wanted: %q", view, unlike)
		}
		p.converge(table)
		p.wantUnlike(table)
	}
}

func convergeRetyped(p *placed) {
	x := func(t schemas.Type) schemas.Table { return Table(Extra("cf_customer_x", t)) }
	p.converge(x(schemas.String))
	p.commit(p.build(Spec{Serial: 1, Extra: []schemas.Column{Extra("cf_customer_x", schemas.String)}, Rows: []Row{Contact("a", inMonth(1), at(1), "cf_customer_x", "1")}}))
	got := p.resource(p.survey(x(schemas.Int64)), load.KindTable, "contacts")
	forces := func(a load.Attribute) bool { return a.Forces }
	if !got.Blocked || len(got.Effects) == 0 || slices.ContainsFunc(got.Want, forces) || !has(got.Want, load.ColumnAttribute("cf_customer_x")) {
		p.t.Errorf("a column of another type is not said to be in the way: %+v", got)
	}
	before := p.fingerprint()
	err := p.loader().Converge(p.t.Context(), load.Convergence{Lineage: p.lineage, Table: x(schemas.Int64)})
	if err == nil || errors.As(err, new(*load.ReplaceError)) {
		p.t.Errorf("converging to another type gives %v, want an error that is no replacement", err)
	}
	if p.fingerprint() != before {
		p.t.Error("it changed")
	}
}
