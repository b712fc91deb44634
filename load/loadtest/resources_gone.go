package loadtest

import (
	"context"
	"errors"

	"github.com/apache/arrow/go/v17/arrow"
	gocmp "github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/load"
)

// refusal calls all three and checks their errors, and that nothing changed.
func (p *placed) refusal(ctx context.Context, lineage string, check func(what string, err error)) {
	p.t.Helper()
	before := p.fingerprint()
	_, err := p.loader().Survey(ctx, lineage, Table())
	check("survey", err)
	check("converge", p.loader().Converge(ctx, load.Convergence{Lineage: lineage, Table: Table()}))
	check("destroy", p.loader().Destroy(ctx, load.Destruction{Lineage: lineage, Stages: true}))
	if p.fingerprint() != before {
		p.t.Error("something changed")
	}
}

func resourcesForeign(p *placed) {
	p.Spoil(p.t)
	p.refusal(p.t.Context(), p.lineage, func(what string, err error) {
		// There is nothing of Sluice's to destroy.
		if !errors.Is(err, load.ErrForeign) && (what != "destroy" || err != nil) {
			p.t.Errorf("%s of what another program wrote gives %v", what, err)
		}
	})
	another := p.fresh(p.t)
	q := &placed{bench: bench{Harness: another.Harness, t: p.t, lineage: p.lineage}, Place: another, fresh: p.fresh}
	for _, committed := range []bool{false, true} {
		q.converge(Table())
		if committed {
			q.commit(q.build(Spec{Serial: 1, Rows: []Row{Contact("a", inMonth(1), at(1))}}))
		}
		for _, lineage := range []string{"lineage-b", ""} {
			q.refusal(q.t.Context(), lineage, func(what string, err error) {
				if lineage == "" && what != "survey" {
					if err == nil {
						q.t.Errorf("%s without a lineage succeeds", what)
					}
					return
				}
				if !errors.Is(err, load.ErrForeign) {
					q.t.Errorf("%s of another state's table gives %v", what, err)
				}
			})
		}
	}
}

func resourcesCancelled(p *placed) {
	ctx, cancel := context.WithCancel(p.t.Context())
	cancel()
	for _, made := range []bool{false, true} {
		if made {
			p.commit(p.build(Spec{Serial: 1, Rows: []Row{Contact("a", inMonth(1), at(1))}}))
		}
		p.refusal(ctx, p.lineage, func(what string, err error) {
			if !errors.Is(err, context.Canceled) {
				p.t.Errorf("a cancelled %s gives %v", what, err)
			}
		})
	}
}

// full is a table with rows, stages and views.
func (p *placed) full() []load.Package {
	p.t.Helper()
	packages := p.packages()
	for _, pkg := range packages {
		p.commit(pkg)
	}
	p.replaceStages(StagesOf("run-002"))
	p.converge(packages[0].Table)
	return packages
}

func destroyAll(p *placed) {
	packages := p.full()
	p.destroy(false)
	p.wantPosition(0)
	for _, r := range p.survey(packages[0].Table) {
		if stages := r.Name == StagesTable && r.Kind == load.KindTable; r.Kind == load.KindTable && stages != (r.Have != nil) {
			p.t.Errorf("table %s has %v", r.Name, r.Have)
		} else if r.Kind == load.KindView && r.Have != nil {
			p.t.Errorf("view %s is still there", r.Name)
		}
	}
	if d := gocmp.Diff(StagesOf("run-002").Stages, p.Stages(p.t)); d != "" {
		p.t.Errorf("stages that were to stay (-want +got):\n%s", d)
	}
	before := p.fingerprint()
	p.destroy(false)
	if p.fingerprint() != before {
		p.t.Error("destroying again changed the destination")
	}
	p.destroy(true)
	p.destroy(true)
	for _, r := range p.survey(packages[0].Table) {
		if r.Have != nil && r.Kind != load.KindDataset {
			p.t.Errorf("%s %s is still there", r.Kind, r.Name)
		}
	}
	if left := p.Left(p.t); len(left) > 0 {
		p.t.Errorf("left: %q", left)
	}
	// All at once ends in the same.
	p.full()
	p.destroy(true)
	if left := p.Left(p.t); len(left) > 0 {
		p.t.Errorf("left, when all went at once: %q", left)
	}
	// So does a table without rows.
	p.converge(packages[0].Table)
	p.destroy(true)
	if left := p.Left(p.t); len(left) > 0 {
		p.t.Errorf("left of a table without rows: %q", left)
	}
}

func destroyThenCommit(p *placed) {
	p.full()
	p.destroy(true)
	p.lineage = "lineage-b" // of another state
	s := Spec{Serial: 1, Lineage: p.lineage, Rows: []Row{Contact("b", inMonth(2), at(1), "name", "Bo")}}
	pkg := p.build(s)
	p.wantCounts(p.commit(pkg), load.Result{New: 1, Versions: 1})
	p.wantRows("current", p.read(), Expect(pkg, s, 0, "insert"))
	p.wantRows("history", p.history(), Expect(pkg, s, 0, "insert"))
	p.wantPosition(1)
	p.wantSound()
}

func destroyOnlyThat(p *placed) {
	packages := p.full()
	unchanged := p.Neighbour(p.t)
	var second load.Lister
	var before []Row
	if p.Second != nil {
		l := open(p.t, p.Second(p.t))
		pkg := p.build(Spec{Serial: 1, Lineage: "lineage-c", Rows: []Row{Contact("x", inMonth(1), at(1), "name", "Xi")}})
		if _, err := l.Commit(p.t.Context(), pkg); err != nil {
			p.t.Fatal(err)
		}
		if err := l.Converge(p.t.Context(), load.Convergence{Lineage: "lineage-c", Table: pkg.Table}); err != nil {
			p.t.Fatal(err)
		}
		var ok bool
		if second, ok = l.(load.Lister); ok {
			before = p.theirs(second)
		}
	}
	for range 2 {
		p.destroy(false)
		unchanged(p.t)
	}
	if d := gocmp.Diff(StagesOf("run-002").Stages, p.Stages(p.t)); d != "" {
		p.t.Errorf("stages (-want +got):\n%s", d)
	}
	if p.Second == nil {
		return
	}
	if second != nil {
		p.wantRows("the other table", p.theirs(second), before...)
	}
	l := open(p.t, p.Second(p.t))
	if at, err := l.Check(p.t.Context(), "lineage-c"); err != nil || at != 1 {
		p.t.Errorf("the other table is at %d, %v", at, err)
	}
	list, err := l.Survey(p.t.Context(), "lineage-c", packages[0].Table)
	if err != nil {
		p.t.Fatal(err)
	}
	if d := gocmp.Diff([]string{}, Unlike(list)); d != "" {
		p.t.Errorf("the other table (-want +got):\n%s", d)
	}
}

// theirs lists the rows of the second table.
func (p *placed) theirs(l load.Lister) (rows []Row) {
	p.t.Helper()
	err := l.List(p.t.Context(), load.Listing{Lineage: "lineage-c"}, func(rec arrow.Record) error {
		rows = append(rows, Rows(p.t, rec)...)
		return nil
	})
	if err != nil {
		p.t.Fatalf("list the other table: %v", err)
	}
	return rows
}

func destroyNothing(p *placed) {
	before := p.fingerprint()
	p.destroy(true)
	if p.fingerprint() != before {
		p.t.Error("the destruction left a trace")
	}
	p.wantPosition(0)
}
