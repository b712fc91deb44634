package loadtest

import (
	"cmp"
	"fmt"
	"maps"
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
	current := map[string]Row{}
	versions := map[string]int{} // by id, content and package
	full := Table(Extra("cf_customer_n", schemas.Int64))
	for serial := int64(1); serial <= 6; serial++ {
		s := Spec{Serial: serial, PartRows: 1 + rnd.IntN(40), Extra: []schemas.Column{Extra("cf_customer_n", schemas.Int64)}}
		for range rnd.IntN(120) {
			s.Rows = append(s.Rows, randomRow(rnd))
		}
		p := b.build(s)
		p.Table = full
		rnd.Shuffle(len(p.Parts), func(i, j int) { p.Parts[i], p.Parts[j] = p.Parts[j], p.Parts[i] })
		before := maps.Clone(current)
		rows := make([]Row, len(s.Rows))
		for i := range rows {
			rows[i] = Expect(p, s, i, "")
		}
		slices.SortFunc(rows, Compare)
		for _, r := range rows {
			had, known := current[r.ID()]
			if known && (Compare(r, had) <= 0 || SameVersion(r, had)) {
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
			current[r.ID()] = r.With(schemas.ColChange, change)
		}
		for _, r := range s.Rows {
			if _, there := current[r.ID()]; !there {
				continue
			}
			if old, ok := before[r.ID()]; !ok || !SameVersion(r, old) {
				versions[fmt.Sprint(r.ID(), hashOf(r), r[schemas.ColDeletedAt] != nil, serial)] = 1
			}
		}
		for id, c := range current { // a version that went and came back within the package
			if c[schemas.ColPackage] == serial {
				versions[fmt.Sprint(id, hashOf(c), c[schemas.ColDeletedAt] != nil, serial)] = 1
			}
		}
		b.commit(p)
	}
	b.wantRows("current", b.read(), slices.Collect(maps.Values(current))...)
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
	b.wantSound()
}

// randomRow is one of 40 contacts in one of few contents, updated before or
// after it was read.
func randomRow(rnd *rand.Rand) Row {
	id := rnd.IntN(40)
	created := inMonth(1 + id%4)
	if rnd.IntN(8) == 0 { // it never changes, and a loader is not to rely on it
		created = inMonth(1 + rnd.IntN(5))
	}
	r := Contact(fmt.Sprintf("c%02d", id), created, at(rnd.IntN(5)), "name", string(rune('a'+rnd.IntN(3))))
	if rnd.IntN(3) == 0 {
		r["cf_customer_n"] = int64(rnd.IntN(2))
	}
	if rnd.IntN(8) == 0 {
		r[schemas.ColHash], r[schemas.ColDeletedAt] = Hash(r), at(100)
	}
	r[schemas.ColExtractedAt] = at(1 + rnd.IntN(4))
	return r
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

// Compare orders stored rows of one id as load.Loader says: a row replaces
// another only if it is the greater one.
func Compare(a, b Row) int {
	timeIn := func(r Row, column string) time.Time {
		t, _ := r[column].(time.Time)
		return t
	}
	counts := func(r Row) time.Time {
		updated, extracted := timeIn(r, schemas.ColUpdatedAt), timeIn(r, schemas.ColExtractedAt)
		if extracted.Before(updated) {
			return extracted
		}
		return updated
	}
	number := func(r Row, column string) int64 {
		n, _ := r[column].(int64)
		return n
	}
	return cmp.Or(
		counts(a).Compare(counts(b)),
		timeIn(a, schemas.ColExtractedAt).Compare(timeIn(b, schemas.ColExtractedAt)),
		cmp.Compare(number(a, schemas.ColPackage), number(b, schemas.ColPackage)),
		cmp.Compare(number(a, schemas.ColRow), number(b, schemas.ColRow)),
	)
}
