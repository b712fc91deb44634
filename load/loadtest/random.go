package loadtest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

func manyParts(b *bench) {
	one := Spec{Serial: 1, PartRows: 3}
	for i := range 20 {
		one.Rows = append(one.Rows, Contact(fmt.Sprintf("c%02d", i), inMonth(1+i%5), at(i), "name", "first"))
	}
	b.wantCounts(b.commit(b.build(one)), load.Result{New: 20, Versions: 20})
	two := Spec{Serial: 2, PartRows: 4, Extra: []schemas.Column{Extra("cf_ticket_x", schemas.String)}}
	for i := range 20 {
		r := Contact(fmt.Sprintf("c%02d", i), inMonth(1+i%5), at(i), "name", "first")
		if i%2 == 0 {
			r = r.With("name", "second")
		}
		if i > 12 { // the first parts lack the column
			r = r.With("cf_ticket_x", "x")
		}
		two.Rows = append(two.Rows, r)
	}
	p := b.build(two)
	b.wantCounts(b.commit(p), load.Result{Changed: 14, Unchanged: 6, Versions: 14})
	var want []Row
	p1 := load.Package{Serial: 1, RunID: "run-001", Table: p.Table}
	for i := range 20 {
		if i%2 == 0 || i > 12 {
			want = append(want, Expect(p, two, i, "update"))
		} else {
			want = append(want, Expect(p1, one, i, "insert"))
		}
	}
	b.wantRows("current", b.read(), want...)
}

// randomPackages commits packages of rows with colliding ids, times and
// contents, and compares the table with rows applied one by one.
func randomPackages(b *bench) {
	seed := rand.Uint64()
	b.t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	type stored struct {
		row    Row
		serial int64
	}
	current := map[string]stored{}
	versions := map[string]int{} // by id, content and package
	full := Table(Extra("cf_customer_n", schemas.Int64))
	for serial := int64(1); serial <= 6; serial++ {
		s := Spec{Serial: serial, PartRows: 1 + rnd.IntN(40), Extra: []schemas.Column{Extra("cf_customer_n", schemas.Int64)}}
		for range rnd.IntN(120) {
			id := rnd.IntN(40)
			r := Contact(fmt.Sprintf("c%02d", id), inMonth(1+id%4), at(rnd.IntN(4)), "name", string(rune('a'+rnd.IntN(3))))
			if rnd.IntN(3) == 0 {
				r["cf_customer_n"] = int64(rnd.IntN(2))
			}
			if rnd.IntN(8) == 0 {
				r[schemas.ColHash], r[schemas.ColDeletedAt] = Hash(r), at(100)
			}
			s.Rows = append(s.Rows, r)
		}
		p := b.build(s)
		before := map[string]stored{}
		for id, c := range current {
			before[id] = c
		}
		for _, i := range inOrder(s.Rows) {
			r := s.Rows[i]
			had, known := current[r.ID()]
			if known && (Less(r, had.row) || SameVersion(r, had.row)) {
				continue
			}
			if !known && r[schemas.ColDeletedAt] != nil {
				continue // nothing to bury
			}
			change := "update"
			if _, stood := before[r.ID()]; !stood {
				change = "insert"
			}
			if r[schemas.ColDeletedAt] != nil {
				change = "delete"
			}
			p.Table = full
			current[r.ID()] = stored{Expect(p, s, i, change), serial}
		}
		for _, r := range s.Rows {
			if _, there := current[r.ID()]; !there {
				continue
			}
			if old, ok := before[r.ID()]; !ok || !SameVersion(r, old.row) {
				versions[fmt.Sprint(r.ID(), hashOf(r), r[schemas.ColDeletedAt] != nil, serial)] = 1
			}
		}
		for id, c := range current { // a version that went and came back within the package
			if c.serial == serial {
				versions[fmt.Sprint(id, hashOf(c.row), c.row[schemas.ColDeletedAt] != nil, serial)] = 1
			}
		}
		p.Table = full
		b.commit(p)
	}
	var want []Row
	for _, c := range current {
		want = append(want, c.row)
	}
	b.wantRows("current", b.read(), want...)
	got := map[string]int{}
	for _, r := range b.history() {
		got[fmt.Sprint(r.ID(), hashOf(r), r[schemas.ColDeletedAt] != nil, r[schemas.ColPackage])]++
	}
	for k := range versions {
		if got[k] != 1 {
			b.t.Errorf("history holds version %s %d times", k, got[k])
		}
	}
	if len(got) != len(versions) {
		b.t.Errorf("history holds %d versions, want %d", len(got), len(versions))
	}
}

func hashOf(r Row) any {
	if h := r[schemas.ColHash]; h != nil {
		return h
	}
	return Hash(r)
}

// SameVersion reports whether two rows of one id are the same version.
func SameVersion(a, b Row) bool {
	return hashOf(a) == hashOf(b) && (a[schemas.ColDeletedAt] != nil) == (b[schemas.ColDeletedAt] != nil)
}

// Less reports whether a was updated before b.
func Less(a, b Row) bool {
	x, _ := a[schemas.ColUpdatedAt].(time.Time)
	y, _ := b[schemas.ColUpdatedAt].(time.Time)
	return x.Before(y)
}

// inOrder returns the positions of rows by updated_at and arrival.
func inOrder(rows []Row) []int {
	idx := make([]int, len(rows))
	for i := range idx {
		idx[i] = i
	}
	slices.SortStableFunc(idx, func(i, j int) int {
		switch {
		case Less(rows[i], rows[j]):
			return -1
		case Less(rows[j], rows[i]):
			return 1
		default:
			return 0
		}
	})
	return idx
}
