package loadtest

import (
	"math"
	"strings"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

func firstPackage(b *bench) {
	s := Spec{Serial: 1, Coverage: []byte("{\n \"run_id\": \"run-001\"\n}"), Rows: []Row{
		Contact("b", inMonth(2), at(1), "name", "Bo", "platform", "whatsapp", "blocked", false, "last_message_at", at(0)),
		Contact("a", inMonth(1), at(2), "name", "Ana", "blocked", true),
		Contact("c", inMonth(2), at(3)),
	}}
	p := b.build(s)
	b.wantCounts(b.commit(p), load.Result{New: 3, Versions: 3})
	want := []Row{Expect(p, s, 0, "insert"), Expect(p, s, 1, "insert"), Expect(p, s, 2, "insert")}
	b.wantRows("current", b.read(), want...)
	b.wantRows("history", b.history(), want...)
	b.wantPosition(1)
}

func edgeValues(b *bench) {
	extra := []schemas.Column{
		Extra("cf_customer_big", schemas.Int64), Extra("cf_customer_score", schemas.Float64), Extra("cf_customer_birth", schemas.Date),
		Extra("cf_customer_flag", schemas.Bool), Extra("cf_customer_json", schemas.JSON), Extra("cf_customer_seen", schemas.Timestamp),
	}
	date := time.Date(1912, 2, 29, 0, 0, 0, 0, time.UTC)
	s := Spec{Serial: 1, Extra: extra, Rows: []Row{
		Contact("1", inMonth(1), at(1), "name", "", "phone", nil),
		Contact("2", inMonth(1), at(1), "name", "Íñigo 😀 \u202e\u0000 \"x\", \n\t'y'", "phone", strings.Repeat("ñ", 5000)),
		Contact("ü/../%", inMonth(1), at(1), "cf_customer_big", int64(math.MaxInt64), "cf_customer_score", math.MaxFloat64, "cf_customer_birth", date),
		Contact("", inMonth(1), at(1), "cf_customer_big", int64(math.MinInt64), "cf_customer_score", math.SmallestNonzeroFloat64, "cf_customer_flag", false),
		Contact("5", time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC), time.Date(1900, 1, 1, 0, 0, 0, 1000, time.UTC), "cf_customer_json", `{"a":[1,null]}`),
		Contact("6", time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC), time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC), "cf_customer_score", -0.5, "cf_customer_seen", at(7)),
	}}
	p := b.build(s)
	b.wantCounts(b.commit(p), load.Result{New: 6, Versions: 6})
	var want []Row
	for i := range s.Rows {
		want = append(want, Expect(p, s, i, "insert"))
	}
	b.wantRows("current", b.read(), want...)
	b.wantRows("history", b.history(), want...)
}

func recommit(b *bench) {
	one := b.build(Spec{Serial: 1, Rows: []Row{Contact("a", inMonth(1), at(1), "name", "Ana"), Contact("b", inMonth(2), at(1), "name", "Bo")}})
	two := b.build(Spec{Serial: 2, Rows: []Row{Contact("a", inMonth(1), at(2), "name", "Ana2"), Contact("b", inMonth(2), at(1), "name", "Bo")}})
	first := b.commit(one)
	if d := cmp.Diff(uncosted(first), uncosted(b.commit(one))); d != "" {
		b.t.Errorf("the same package gives another result (-first +again):\n%s", d)
	}
	second := b.commit(two)
	b.wantCounts(second, load.Result{Changed: 1, Unchanged: 1, Versions: 1})
	before := b.fingerprint()
	l := b.New(b.t)
	for range 2 {
		again, err := l.Commit(b.t.Context(), two)
		if err != nil {
			b.t.Fatal(err)
		}
		if d := cmp.Diff(uncosted(second), uncosted(again)); d != "" {
			b.t.Errorf("the same package gives another result (-first +again):\n%s", d)
		}
	}
	if err := l.Close(); err != nil {
		b.t.Error(err)
	}
	if d := cmp.Diff(uncosted(first), uncosted(b.commit(one))); d != "" {
		b.t.Errorf("an earlier package gives another result (-first +again):\n%s", d)
	}
	if b.fingerprint() != before {
		b.t.Error("committing again changed the destination")
	}
	b.wantNames("a=Ana2", "b=Bo")
	b.wantHistory("a=Ana@1", "b=Bo@1", "a=Ana2@2")
	b.wantPosition(2)
}

func order(b *bench) {
	b.commit(b.build(Spec{Serial: 1, Rows: []Row{
		Contact("older", inMonth(1), at(5), "name", "kept"),
		Contact("equal", inMonth(1), at(5), "name", "kept"),
		Contact("tie", inMonth(1), at(5), "name", "first"),
		Contact("newer", inMonth(1), at(5), "name", "first"),
		Contact("untouched", inMonth(1), at(5), "name", "kept"),
	}}))
	r := b.commit(b.build(Spec{Serial: 2, Rows: []Row{
		Contact("older", inMonth(1), at(4), "name", "late"),
		Contact("equal", inMonth(1), at(5), "name", "kept"),
		Contact("tie", inMonth(1), at(5), "name", "second"),
		Contact("newer", inMonth(1), at(6), "name", "second"),
	}}))
	b.wantCounts(r, load.Result{Changed: 2, Unchanged: 2, Versions: 3})
	b.wantNames("older=kept", "equal=kept", "tie=second", "newer=second", "untouched=kept")
	for _, row := range b.read() {
		want := int64(1)
		if row["name"] == "second" {
			want = 2
		}
		if row[schemas.ColPackage] != want {
			b.t.Errorf("%s is of package %v, want %d: an unchanged row stays as it is stored", row.ID(), row[schemas.ColPackage], want)
		}
	}
	b.wantHistory("older=kept@1", "equal=kept@1", "tie=first@1", "newer=first@1", "untouched=kept@1", "older=late@2", "tie=second@2", "newer=second@2")
}

func orderInside(b *bench) {
	r := b.commit(b.build(Spec{Serial: 1, PartRows: 2, Rows: []Row{
		Contact("a", inMonth(1), at(1), "name", "one"),
		Contact("a", inMonth(1), at(1), "name", "two"),
		Contact("b", inMonth(1), at(9), "name", "newest"),
		Contact("b", inMonth(1), at(3), "name", "older, though later in the package"),
		Contact("c", inMonth(1), at(1), "name", "same"),
		Contact("c", inMonth(1), at(1), "name", "same"),
	}}))
	b.wantCounts(r, load.Result{New: 3, Versions: 5})
	b.wantNames("a=two", "b=newest", "c=same")
	b.wantHistory("a=one@1", "a=two@1", "b=newest@1", "b=older, though later in the package@1", "c=same@1")
}

func backAndForth(b *bench) {
	b.commit(b.build(Spec{Serial: 1, Rows: []Row{Contact("a", inMonth(1), at(1), "name", "x"), Contact("b", inMonth(1), at(1), "name", "x")}}))
	r := b.commit(b.build(Spec{Serial: 2, Rows: []Row{
		Contact("a", inMonth(1), at(1), "name", "y"), Contact("a", inMonth(1), at(1), "name", "x"), // to y and back
		Contact("b", inMonth(1), at(0), "name", "y"), Contact("b", inMonth(1), at(1), "name", "x"), // y came before x
		Contact("c", inMonth(1), at(1), "name", "x"), Contact("c", inMonth(1), at(1), "name", "y"), Contact("c", inMonth(1), at(1), "name", "x"),
	}}))
	b.wantCounts(r, load.Result{New: 1, Changed: 1, Unchanged: 1, Versions: 5})
	b.wantNames("a=x", "b=x", "c=x")
	b.wantHistory("a=x@1", "b=x@1", "a=y@2", "a=x@2", "b=y@2", "c=y@2", "c=x@2")
	for _, row := range b.read() {
		want := map[string]int64{"a": 1, "b": 1, "c": 6}[row.ID()]
		if row[schemas.ColRow] != want {
			b.t.Errorf("%s is row %v of its package, want %d", row.ID(), row[schemas.ColRow], want)
		}
	}
}

func historyOnce(b *bench) {
	for n := range int64(4) {
		rows := []Row{Contact("still", inMonth(1), at(1), "name", "still")}
		for range 3 { // delivered three times in one run
			rows = append(rows, Contact("moving", inMonth(2), at(int(n)), "name", string(rune('a'+n))))
		}
		b.commit(b.build(Spec{Serial: n + 1, Rows: rows}))
	}
	b.wantNames("still=still", "moving=d")
	b.wantHistory("still=still@1", "moving=a@1", "moving=b@2", "moving=c@3", "moving=d@4")
}

func tombstones(b *bench) {
	ana := Contact("a", inMonth(1), at(1), "name", "Ana")
	b.commit(b.build(Spec{Serial: 1, Rows: []Row{ana, Contact("b", inMonth(1), at(1), "name", "Bo")}}))
	buried := Spec{Serial: 2, Rows: []Row{ana.With(schemas.ColDeletedAt, at(30), schemas.ColHash, Hash(ana)), Contact("unknown", inMonth(3), at(1), schemas.ColDeletedAt, at(31))}}
	p := b.build(buried)
	b.wantCounts(b.commit(p), load.Result{Deleted: 1, Versions: 1})
	b.wantNames("a=Ana!", "b=Bo") // a tombstone for an id the table never held leaves no trace
	for _, row := range b.read() {
		if row.ID() == "a" {
			b.wantRows("tombstone", []Row{row}, Expect(p, buried, 0, "delete"))
		}
	}
	b.wantCounts(b.commit(b.build(Spec{Serial: 3, Rows: buried.Rows[:1]})), load.Result{Unchanged: 1})
	back := Spec{Serial: 4, Rows: []Row{ana}}
	p = b.build(back)
	b.wantCounts(b.commit(p), load.Result{Changed: 1, Versions: 1})
	b.wantNames("a=Ana", "b=Bo")
	for _, row := range b.read() {
		if row.ID() == "a" {
			b.wantRows("returned contact", []Row{row}, Expect(p, back, 0, "update"))
		}
	}
	b.wantHistory("a=Ana@1", "b=Bo@1", "a=Ana!@2", "a=Ana@4")
}

func newColumns(b *bench) {
	age, city := Extra("cf_customer_age", schemas.Int64), Extra("cf_customer_city", schemas.String)
	one := Spec{Serial: 1, Extra: []schemas.Column{city}, Rows: []Row{
		Contact("a", inMonth(1), at(1), "cf_customer_city", "Lima"), Contact("b", inMonth(2), at(1)), Contact("c", inMonth(3), at(1)),
	}}
	b.commit(b.build(one))
	two := Spec{Serial: 2, Extra: []schemas.Column{age, city}, Rows: []Row{Contact("b", inMonth(2), at(2), "cf_customer_age", 41)}}
	p2 := b.build(two)
	b.wantCounts(b.commit(p2), load.Result{Changed: 1, Versions: 1})
	p1 := load.Package{Serial: 1, RunID: "run-001", Table: p2.Table}
	updated := Expect(p2, two, 0, "update")
	updated["cf_customer_age"] = int64(41)
	b.wantRows("current", b.read(), Expect(p1, one, 0, "insert"), updated, Expect(p1, one, 2, "insert"))
}

func missingColumns(b *bench) {
	city := Extra("cf_customer_city", schemas.String)
	one := Spec{Serial: 1, Extra: []schemas.Column{city}, Rows: []Row{Contact("a", inMonth(1), at(1), "cf_customer_city", "Lima"), Contact("b", inMonth(1), at(1), "cf_customer_city", "Quito")}}
	p1 := b.build(one)
	b.commit(p1)
	two := Spec{Serial: 2, Rows: []Row{Contact("b", inMonth(1), at(2), "name", "Bo"), Contact("c", inMonth(4), at(2), "name", "Cy")}}
	p2 := b.build(two)
	b.wantCounts(b.commit(p2), load.Result{New: 1, Changed: 1, Versions: 2})
	p2.Table = p1.Table
	b.wantRows("current", b.read(), Expect(p1, one, 0, "insert"), Expect(p2, two, 0, "update"), Expect(p2, two, 1, "insert"))
}

func typeChange(b *bench) {
	b.commit(b.build(Spec{Serial: 1, Extra: []schemas.Column{Extra("cf_customer_x", schemas.String)}, Rows: []Row{Contact("a", inMonth(1), at(1), "cf_customer_x", "1")}}))
	b.refused(b.build(Spec{Serial: 2, Extra: []schemas.Column{Extra("cf_customer_x", schemas.Int64)}, Rows: []Row{Contact("a", inMonth(1), at(2), "cf_customer_x", 1)}}), nil)
	b.wantPosition(1)
}

func emptyPackage(b *bench) {
	b.wantCounts(b.commit(b.build(Spec{Serial: 1})), load.Result{})
	b.wantNames()
	b.wantHistory()
	b.wantPosition(1)
	b.commit(b.build(Spec{Serial: 2, Rows: []Row{Contact("a", inMonth(1), at(1), "name", "Ana")}}))
	b.wantCounts(b.commit(b.build(Spec{Serial: 5})), load.Result{})
	b.wantNames("a=Ana")
	b.wantPosition(5)
}

func foreignData(b *bench) {
	if b.Spoil == nil {
		b.t.Skip("the destination cannot hold anything else")
	}
	b.Spoil(b.t)
	if _, err := b.position(); err == nil {
		b.t.Error("the check passes")
	}
	b.refused(b.build(Spec{Serial: 1, Rows: []Row{Contact("a", inMonth(1), at(1))}}), load.ErrForeign)
}

func foreignLineage(b *bench) {
	b.commit(b.build(Spec{Serial: 1, Rows: []Row{Contact("a", inMonth(1), at(1), "name", "Ana")}}))
	b.refused(b.build(Spec{Serial: 2, Lineage: "lineage-b", Rows: []Row{Contact("a", inMonth(1), at(2))}}), load.ErrForeign)
	b.wantPosition(1)
	b.lineage = "lineage-b"
	if _, err := b.position(); err == nil {
		b.t.Error("the check passes for another state")
	}
	b.wantNames("a=Ana")
}

func reusedSerial(b *bench) {
	b.commit(b.build(Spec{Serial: 1, Rows: []Row{Contact("a", inMonth(1), at(1), "name", "Ana")}}))
	b.refused(b.build(Spec{Serial: 1, RunID: "another-run", Rows: []Row{Contact("b", inMonth(1), at(1))}}), load.ErrAhead)
	b.wantNames("a=Ana")
}

func checkFresh(b *bench) {
	before := b.fingerprint()
	b.wantPosition(0)
	if b.fingerprint() != before {
		b.t.Error("the check left a trace")
	}
}
