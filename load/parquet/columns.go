package parquet

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/schemas"
)

// unite returns the schema of the table after a package: the package's columns
// in its order, and those only the table has before the system columns, by
// name. A column that one side lacks cannot be required. A column whose type
// changed is an error: types never change in place.
func unite(stored, incoming schemas.Table, storedRows bool) (schemas.Table, error) {
	out := schemas.Table{Columns: slices.Clone(incoming.Columns)}
	for i := range out.Columns {
		c := &out.Columns[i]
		k := stored.Index(c.Name)
		switch {
		case k < 0:
			c.Required = c.Required && !storedRows
		case retypes(stored.Columns[k], *c):
			return schemas.Table{}, &Error{
				Message: fmt.Sprintf("column %s is %s in the table and %s in the package", c.Name, stored.Columns[k].Type, c.Type),
				hint:    retypeHint,
			}
		default:
			c.Required = c.Required && stored.Columns[k].Required
		}
	}
	var extra []schemas.Column
	for _, c := range stored.Columns {
		if incoming.Index(c.Name) < 0 {
			c.Required = false
			extra = append(extra, c)
		}
	}
	slices.SortFunc(extra, func(a, b schemas.Column) int { return cmp.Compare(a.Name, b.Name) })
	system := slices.IndexFunc(out.Columns, func(c schemas.Column) bool { return c.Origin == schemas.SystemDefined })
	if system < 0 {
		system = len(out.Columns)
	}
	out.Columns = slices.Insert(out.Columns, system, extra...)
	return out, nil
}

// sameLayout reports whether files of a and b can stand side by side: the same
// columns, in one order, of the same type and nullability.
func sameLayout(a, b schemas.Table) bool {
	return slices.EqualFunc(a.Columns, b.Columns, func(x, y schemas.Column) bool {
		return x.Name == y.Name && x.Required == y.Required && x.Type.Arrow().ID() == y.Type.Arrow().ID()
	})
}

// checkTable refuses a table that lacks a column the merge relies on.
func checkTable(t schemas.Table) error {
	need := map[string]schemas.Type{schemas.ColID: schemas.String, schemas.ColCreatedAt: schemas.Timestamp, schemas.ColUpdatedAt: schemas.Timestamp}
	for _, c := range schemas.SystemColumns() {
		need[c.Name] = c.Type
	}
	seen := make(map[string]bool, len(t.Columns))
	for _, c := range t.Columns {
		if seen[c.Name] {
			return fmt.Errorf("check package: column %s appears twice", c.Name)
		}
		seen[c.Name] = true
		if typ, ok := need[c.Name]; ok && c.Type.Arrow().ID() != typ.Arrow().ID() {
			return fmt.Errorf("check package: column %s is %s, want %s", c.Name, c.Type, typ)
		}
		delete(need, c.Name)
	}
	for name := range need {
		return fmt.Errorf("check package: no column %s", name)
	}
	return nil
}

// filler makes the columns that a file does not hold. Each is made once, as
// long as the longest batch, and sliced.
type filler struct {
	mem  memory.Allocator
	made map[any]arrow.Array
}

func newFiller(mem memory.Allocator) *filler {
	return &filler{mem: mem, made: map[any]arrow.Array{}}
}

type nullsOf arrow.Type

func (f *filler) nulls(t arrow.DataType) arrow.Array {
	return f.once(nullsOf(t.ID()), func() arrow.Array { return array.MakeArrayOfNull(f.mem, t, batchRows) })
}

func (f *filler) text(v string) arrow.Array {
	return f.once(v, func() arrow.Array {
		b := array.NewStringBuilder(f.mem)
		defer b.Release()
		b.Reserve(batchRows)
		b.ReserveData(batchRows * len(v))
		for range batchRows {
			b.Append(v)
		}
		return b.NewArray()
	})
}

func (f *filler) number(v int64) arrow.Array {
	return f.once(v, func() arrow.Array {
		b := array.NewInt64Builder(f.mem)
		defer b.Release()
		b.Reserve(batchRows)
		for range batchRows {
			b.UnsafeAppend(v)
		}
		return b.NewArray()
	})
}

func (f *filler) once(key any, build func() arrow.Array) arrow.Array {
	a, ok := f.made[key]
	if !ok {
		a = build()
		f.made[key] = a
	}
	return a
}

func (f *filler) release() {
	for k, a := range f.made {
		a.Release()
		delete(f.made, k)
	}
}

// shaper turns batches of one file, of batchRows rows at most, into records of
// the table's schema.
type shaper struct {
	schema *arrow.Schema
	from   []int         // file's column of each table column, or -1
	given  []arrow.Array // where there is none: what to slice; owned by the filler
	change int           // the table's _sluice_change
}

// newShaper maps a file's columns to the table's. Columns named in constants
// come from there; others that the file lacks read as null.
func newShaper(fill *filler, file *arrow.Schema, table schemas.Table, schema *arrow.Schema, constants map[string]arrow.Array) (*shaper, error) {
	s := &shaper{schema: schema, from: make([]int, len(table.Columns)), given: make([]arrow.Array, len(table.Columns)), change: table.Index(schemas.ColChange)}
	for i, c := range table.Columns {
		s.from[i] = -1
		if a, ok := constants[c.Name]; ok {
			s.given[i] = a
			continue
		}
		found := file.FieldIndices(c.Name)
		switch {
		case len(found) > 1:
			return nil, fmt.Errorf("column %s appears %d times", c.Name, len(found))
		case len(found) == 1:
			if got := file.Field(found[0]).Type; got.ID() != c.Type.Arrow().ID() {
				return nil, fmt.Errorf("column %s is %s, want %s", c.Name, got, c.Type.Arrow())
			}
			s.from[i] = found[0]
		case c.Required && (constants == nil || i != s.change):
			return nil, fmt.Errorf("required column %s is missing", c.Name)
		default:
			s.given[i] = fill.nulls(c.Type.Arrow())
		}
	}
	for _, f := range file.Fields() {
		if table.Index(f.Name) < 0 {
			return nil, fmt.Errorf("column %s is not in the package's table", f.Name)
		}
	}
	return s, nil
}

// shape returns rec in the table's schema, with change as _sluice_change where
// it is not nil. The caller releases the result.
func (s *shaper) shape(rec arrow.Record, change arrow.Array) arrow.Record {
	n := rec.NumRows()
	cols := make([]arrow.Array, len(s.from))
	for i, from := range s.from {
		switch {
		case change != nil && i == s.change:
			change.Retain()
			cols[i] = change
		case from >= 0:
			cols[i] = rec.Column(from)
			cols[i].Retain()
		default:
			cols[i] = array.NewSlice(s.given[i], 0, n)
		}
	}
	out := array.NewRecord(s.schema, cols, n)
	for _, c := range cols {
		c.Release()
	}
	return out
}
