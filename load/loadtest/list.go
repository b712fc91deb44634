package loadtest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// Rows returns the rows of a record, a null as nil.
func Rows(tb testing.TB, rec arrow.Record) []Row {
	tb.Helper()
	out := make([]Row, rec.NumRows())
	for i := range out {
		out[i] = Row{}
		for c, col := range rec.Columns() {
			out[i][rec.ColumnName(c)] = valueAt(tb, col, i)
		}
	}
	return out
}

func valueAt(tb testing.TB, col arrow.Array, i int) any {
	tb.Helper()
	if col.IsNull(i) {
		return nil
	}
	switch a := col.(type) {
	case *array.String:
		return string([]byte(a.Value(i))) // a copy: the record is valid for a while only
	case *array.Int64:
		return a.Value(i)
	case *array.Float64:
		return a.Value(i)
	case *array.Boolean:
		return a.Value(i)
	case *array.Timestamp:
		return a.Value(i).ToTime(arrow.Microsecond).UTC()
	case *array.Date32:
		return a.Value(i).ToTime().UTC()
	default:
		tb.Fatalf("a record has a column of %s", col.DataType())
		return nil
	}
}

// lister opens the loader and calls f, or skips the case if the loader does not
// list.
func (b *bench) lister(f func(load.Lister)) {
	b.t.Helper()
	l := b.New(b.t)
	defer func() {
		if err := l.Close(); err != nil {
			b.t.Errorf("close: %v", err)
		}
	}()
	lister, ok := l.(load.Lister)
	if !ok {
		b.t.Skip("the loader does not list")
	}
	f(lister)
}

// list returns the rows of a listing, having checked that each record has the
// columns asked for.
func (b *bench) list(l load.Lister, q load.Listing) ([]Row, error) {
	b.t.Helper()
	if q.Lineage == "" {
		q.Lineage = b.lineage
	}
	rows := []Row{}
	err := l.List(b.t.Context(), q, func(rec arrow.Record) error {
		var names []string
		for _, f := range rec.Schema().Fields() {
			names = append(names, f.Name)
		}
		if q.Columns != nil && !slices.Equal(names, q.Columns) {
			b.t.Errorf("a record has the columns %v, want %v", names, q.Columns)
		}
		rows = append(rows, Rows(b.t, rec)...)
		return nil
	})
	return rows, err
}

// wantListing checks that a listing has the rows of Read, in the columns asked for.
func (b *bench) wantListing(columns ...string) {
	b.t.Helper()
	b.lister(func(l load.Lister) {
		got, err := b.list(l, load.Listing{Columns: columns})
		if err != nil {
			b.t.Fatal(err)
		}
		want := b.read()
		if columns != nil {
			for i, r := range want {
				want[i] = Row{}
				for _, c := range columns {
					want[i][c] = r[c]
				}
			}
		}
		b.wantRows("listing", got, want...)
	})
}

// listed fills the table: four months, a tombstone, a change and a new column.
func listed(b *bench) {
	b.lister(func(load.Lister) {}) // skips
	ana := Contact("ana", inMonth(1), at(1), "name", "Ana", "blocked", true, "last_message_at", at(0))
	b.commit(b.build(Spec{Serial: 1, Rows: []Row{
		ana, Contact("bo", inMonth(2), at(1), "name", "Bo"), Contact("cy", inMonth(3), at(1)), Contact("di", inMonth(2), at(1), "name", ""),
	}}))
	b.commit(b.build(Spec{Serial: 2, Extra: []schemas.Column{Extra("cf_customer_n", schemas.Int64), Extra("cf_customer_day", schemas.Date)}, Rows: []Row{
		ana.With(schemas.ColDeletedAt, at(30), schemas.ColHash, Hash(ana)),
		Contact("bo", inMonth(2), at(2), "name", "Bob", "cf_customer_n", 7),
		Contact("eve", inMonth(5), at(2), "cf_customer_day", time.Date(1980, 2, 29, 0, 0, 0, 0, time.UTC)),
	}}))
}

func listAll(b *bench) {
	listed(b)
	b.wantListing()
	if rows := b.read(); len(rows) != 5 {
		b.t.Errorf("the table has %d rows", len(rows))
	}
	b.lister(func(l load.Lister) { // in the order of the table
		err := l.List(b.t.Context(), load.Listing{Lineage: b.lineage}, func(rec arrow.Record) error {
			want := Table(Extra("cf_customer_n", schemas.Int64), Extra("cf_customer_day", schemas.Date)).Arrow()
			for i, f := range rec.Schema().Fields() {
				if i >= want.NumFields() || f.Name != want.Field(i).Name || !arrow.TypeEqual(f.Type, want.Field(i).Type) {
					b.t.Errorf("column %d is %s of %s", i, f.Name, f.Type)
				}
			}
			return nil
		})
		if err != nil {
			b.t.Error(err)
		}
		if _, err := b.list(l, load.Listing{}); err != nil {
			b.t.Errorf("the second listing: %v", err)
		}
		if _, err := l.Commit(b.t.Context(), b.build(Spec{Serial: 3, Rows: []Row{Contact("bo", inMonth(2), at(3), "name", "Bobby")}})); err != nil {
			b.t.Errorf("the commit after it: %v", err)
		}
		if _, err := b.list(l, load.Listing{}); err != nil {
			b.t.Errorf("the listing after that: %v", err)
		}
	})
	b.wantListing()
}

func listColumns(b *bench) {
	listed(b)
	b.wantListing(schemas.ColDeletedAt, schemas.ColID)
	b.wantListing(schemas.ColID, "cf_customer_n", "name", schemas.ColUpdatedAt)
	b.wantListing("cf_customer_day", schemas.ColID)
	for _, columns := range [][]string{{"nobody"}, {schemas.ColID, "cf_customer_N"}} {
		b.lister(func(l load.Lister) {
			if rows, err := b.list(l, load.Listing{Columns: columns}); err == nil || len(rows) > 0 {
				b.t.Errorf("columns %v give %d rows, %v", columns, len(rows), err)
			}
		})
	}
}

func listBounds(b *bench) {
	listed(b)
	for _, q := range []load.Listing{
		{From: inMonth(2)},
		{Until: inMonth(2)},
		{Until: inMonth(2).Add(time.Microsecond)},
		{From: inMonth(2), Until: inMonth(2).Add(1)}, // a nanosecond
		{From: inMonth(2).Add(time.Microsecond), Until: inMonth(5)},
		{From: inMonth(6)},
		{Until: inMonth(0)},
	} {
		b.lister(func(l load.Lister) {
			rows, err := b.list(l, q)
			if err != nil {
				b.t.Fatal(err)
			}
			seen := map[string]int{}
			for _, r := range rows {
				seen[r.ID()]++
			}
			for _, r := range b.read() {
				created, _ := r[schemas.ColCreatedAt].(time.Time)
				within := !created.Before(q.From) && (q.Until.IsZero() || created.Before(q.Until))
				if n := seen[r.ID()]; n > 1 || (within && n == 0) {
					b.t.Errorf("from %v until %v: %s is listed %d times", q.From, q.Until, r.ID(), n)
				}
				delete(seen, r.ID())
			}
			if len(seen) > 0 {
				b.t.Errorf("listed and not in the table: %v", seen)
			}
		})
	}
}

func listNothing(b *bench) {
	before := b.fingerprint()
	none := func() {
		b.lister(func(l load.Lister) {
			rows, err := b.list(l, load.Listing{Columns: []string{schemas.ColID}})
			if err != nil || len(rows) > 0 {
				b.t.Errorf("listing gives %v, %v", rows, err)
			}
		})
	}
	none()
	if b.fingerprint() != before {
		b.t.Error("the listing left a trace")
	}
	b.commit(b.build(Spec{Serial: 1}))
	none()
}

func listForeign(b *bench) {
	listed(b)
	before := b.fingerprint()
	b.lister(func(l load.Lister) {
		rows, err := b.list(l, load.Listing{Lineage: "lineage-b"})
		if !errors.Is(err, load.ErrForeign) || len(rows) > 0 {
			b.t.Errorf("another state's table gives %d rows, %v", len(rows), err)
		}
	})
	if b.fingerprint() != before {
		b.t.Error("it changed")
	}
}

func listStops(b *bench) {
	listed(b)
	b.lister(func(l load.Lister) {
		ctx, cancel := context.WithCancel(b.t.Context())
		cancel()
		err := l.List(ctx, load.Listing{Lineage: b.lineage}, func(arrow.Record) error {
			b.t.Error("a record after the end of the context")
			return nil
		})
		if !errors.Is(err, context.Canceled) {
			b.t.Errorf("a cancelled listing gives %v", err)
		}
		ctx, cancel = context.WithCancel(b.t.Context())
		defer cancel()
		given := int64(0)
		err = l.List(ctx, load.Listing{Lineage: b.lineage}, func(rec arrow.Record) error {
			given += rec.NumRows()
			cancel()
			return nil
		})
		if all := int64(len(b.read())); !errors.Is(err, context.Canceled) && given < all {
			b.t.Errorf("a listing cancelled after %d of %d rows gives %v", given, all, err)
		}
		calls, full := 0, errors.New("no more")
		err = l.List(b.t.Context(), load.Listing{Lineage: b.lineage}, func(arrow.Record) error {
			calls++
			return full
		})
		if !errors.Is(err, full) || calls != 1 {
			b.t.Errorf("a listing that is refused ends after %d records with %v", calls, err)
		}
	})
	b.wantListing()
}
