package duckdb

import (
	"context"
	"database/sql"
	"fmt"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

// listRows is how many rows a listed batch has at most.
const listRows = 8192

// List implements load.Lister. The database is open for reading meanwhile.
func (l *Loader) List(ctx context.Context, o load.Listing, each func(arrow.Record) error) error {
	return l.reading(ctx, func(s *session) error {
		t, err := s.inspect(ctx, l.o.Table)
		if err != nil || !t.found {
			return err
		}
		if err := t.ours(l.o.Path, o.Lineage); err != nil {
			return err
		}
		columns, err := t.columns.Select(o.Columns)
		if err != nil {
			return fmt.Errorf("list table %s: %w", t.name, err)
		}
		return s.list(ctx, t, columns, o, l.batch(columns), each)
	})
}

func (l *Loader) batch(columns schemas.Table) *array.RecordBuilder {
	return array.NewRecordBuilder(l.mem, columns.Arrow())
}

// list releases b.
func (s *session) list(ctx context.Context, t stored, columns schemas.Table, o load.Listing, b *array.RecordBuilder, each func(arrow.Record) error) error {
	defer b.Release()
	cells := make([]cell, len(columns.Columns))
	into := make([]any, len(cells))
	names := make([]string, len(cells))
	for i, c := range columns.Columns {
		cells[i] = newCell(c.Type, b.Field(i))
		into[i], names[i] = cells[i].into, views.QuoteName(c.Name)
	}
	flush := func() error {
		rec := b.NewRecord()
		defer rec.Release()
		if rec.NumRows() == 0 {
			return nil
		}
		return each(rec)
	}
	text := "SELECT " + strings.Join(names, ", ") + " FROM " + t.current()
	var where []string
	var args []any
	for _, bound := range []struct {
		at time.Time
		op string
	}{{o.From, ">="}, {o.Until.Add(time.Microsecond - 1), "<"}} { // bounds are cut to microseconds
		if !bound.at.Before(time.Time{}.Add(time.Microsecond)) {
			where = append(where, `"created_at" `+bound.op+" ?::TIMESTAMPTZ")
			args = append(args, bound.at.UTC())
		}
	}
	if len(where) > 0 {
		text += " WHERE " + strings.Join(where, " AND ")
	}
	n := 0
	err := s.each(ctx, into, func() error {
		for _, c := range cells {
			c.add()
		}
		if n++; n < listRows {
			return nil
		}
		n = 0
		return flush()
	}, text, args...)
	if err != nil {
		return err
	}
	return flush()
}

// cell takes one value of a row from the driver to a builder.
type cell struct {
	into any
	add  func()
}

func newCell(t schemas.Type, b array.Builder) cell {
	switch b := b.(type) {
	case *array.Int64Builder:
		v := new(sql.Null[int64])
		return cell{v, func() { addOrNull(b, v.Valid, func() { b.Append(v.V) }) }}
	case *array.Float64Builder:
		v := new(sql.Null[float64])
		return cell{v, func() { addOrNull(b, v.Valid, func() { b.Append(v.V) }) }}
	case *array.BooleanBuilder:
		v := new(sql.Null[bool])
		return cell{v, func() { addOrNull(b, v.Valid, func() { b.Append(v.V) }) }}
	case *array.TimestampBuilder:
		v := new(sql.Null[time.Time])
		return cell{v, func() { addOrNull(b, v.Valid, func() { b.Append(arrow.Timestamp(v.V.UnixMicro())) }) }}
	case *array.Date32Builder:
		v := new(sql.Null[time.Time])
		return cell{v, func() { addOrNull(b, v.Valid, func() { b.Append(arrow.Date32FromTime(v.V)) }) }}
	case *array.StringBuilder:
		v := new(sql.Null[string])
		return cell{v, func() { addOrNull(b, v.Valid, func() { b.Append(v.V) }) }}
	default:
		panic("no column has type " + string(t)) // schemas.Type.Arrow gives the types above
	}
}

func addOrNull(b array.Builder, valid bool, add func()) {
	if valid {
		add()
		return
	}
	b.AppendNull()
}
