package bigquery

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// listRows is how many rows a listed batch has at most.
const listRows = 8192

// List implements load.Lister. The months within the bounds are what is read of
// the columns asked for.
func (l *Loader) List(ctx context.Context, o load.Listing, each func(arrow.Record) error) error {
	last, err := l.open(ctx, o.Lineage)
	if err != nil || last == nil {
		return err
	}
	all, err := l.columnsAfter(ctx, last)
	if err != nil {
		return fmt.Errorf("list table %s: %w", l.o.Table, err)
	}
	columns, err := all.Select(o.Columns)
	if err != nil {
		return fmt.Errorf("list table %s: %w", l.o.Table, err)
	}
	return l.listRows(ctx, columns, l.o.quoted(l.o.Table), bounds(o), each)
}

// open returns the record of the last package of a table that is lineage's, nil
// where there is none.
func (l *Loader) open(ctx context.Context, lineage string) (*commitRecord, error) {
	lay, err := l.look(ctx)
	if err != nil {
		return nil, err
	}
	if err := lay.ours(lineage); err != nil || lay.commits == nil {
		return nil, err
	}
	last, err := l.last(ctx)
	if err != nil || last.serial == 0 {
		return nil, err
	}
	if err := l.begun(lay, last); err != nil || lay.current == nil {
		return nil, err
	}
	return last, nil
}

// bounds is the condition for a listing's rows, cut to microseconds.
func bounds(o load.Listing) string {
	var where []string
	if !o.From.IsZero() {
		where = append(where, "created_at >= "+literal(o.From))
	}
	if !o.Until.IsZero() {
		where = append(where, "created_at < "+literal(o.Until.Add(time.Microsecond-1)))
	}
	if len(where) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(where, " AND ")
}

// listRows gives rows of a relation in batches.
func (l *Loader) listRows(ctx context.Context, columns schemas.Table, from, where string, each func(arrow.Record) error) error {
	names := make([]string, len(columns.Columns))
	for i, c := range columns.Columns {
		names[i] = quoteName(c.Name)
	}
	q, _, err := l.query(ctx, "SELECT "+strings.Join(names, ", ")+" FROM "+from+where)
	if err != nil {
		return err
	}
	b := array.NewRecordBuilder(memory.DefaultAllocator, columns.Arrow())
	defer b.Release()
	flush := func() error {
		rec := b.NewRecord()
		defer rec.Release()
		if rec.NumRows() == 0 {
			return nil
		}
		return each(rec)
	}
	n := 0
	err = q.each(ctx, func(row []any) error {
		for i, v := range row {
			if err := add(b.Field(i), v); err != nil {
				return fmt.Errorf("list column %s: %w", columns.Columns[i].Name, err)
			}
		}
		if n++; n < listRows {
			return nil
		}
		n = 0
		return flush()
	})
	if err != nil {
		return err
	}
	return flush()
}

// add appends a value as rows.each gives it.
func add(b array.Builder, v any) error {
	if v == nil {
		b.AppendNull()
		return nil
	}
	switch b := b.(type) {
	case *array.StringBuilder:
		if s, ok := v.(string); ok {
			b.Append(s)
			return nil
		}
	case *array.Int64Builder:
		if n, ok := v.(int64); ok {
			b.Append(n)
			return nil
		}
	case *array.Float64Builder:
		if f, ok := v.(float64); ok {
			b.Append(f)
			return nil
		}
	case *array.BooleanBuilder:
		if x, ok := v.(bool); ok {
			b.Append(x)
			return nil
		}
	case *array.TimestampBuilder:
		if t, ok := v.(time.Time); ok {
			b.Append(arrow.Timestamp(t.UnixMicro()))
			return nil
		}
	case *array.Date32Builder:
		if t, ok := v.(time.Time); ok {
			b.Append(arrow.Date32FromTime(t))
			return nil
		}
	}
	return fmt.Errorf("a %T does not fit %s", v, b.Type())
}
