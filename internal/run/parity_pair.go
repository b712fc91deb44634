package run

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// lastYear is the last that a destination may have times of.
const lastYear = 9999

// pairing compares a table, a being the measure, where it does not add up alike.
type pairing struct {
	*parity
	a, b    *side
	out     ParityPair
	columns map[int]bool // that do not add up alike

	rows   []parityRow // of a, by key
	marked map[idKey]*mark
	months map[month]bool // in which the marked stand
	named  map[string]int // examples, by kind
	slots  int            // marks whose cells are compared
}

// parityRow is what decides of a contact.
type parityRow struct {
	key          idKey
	digest       uint64 // of all cells
	serial       int64  // of its package
	month        int32
	deleted, met bool
}

// mark is a contact of which the id, or the columns that differ, are still to
// be read.
type mark struct {
	kind  string
	slot  int // place of its cells; -1: they are not compared
	named bool
	id    string
	cells map[string]string // of the measure, of a named one
	found []ParityCell
	done  bool
}

// compare finds out in what two tables differ.
func (p *parity) compare(ctx context.Context, a, b *side) (ParityPair, error) {
	q := &pairing{parity: p, a: a, b: b, marked: map[idKey]*mark{}, months: map[month]bool{}, named: map[string]int{}}
	q.out = ParityPair{Measure: a.Destination, Destination: b.Destination}
	for name, t := range a.types {
		if other, both := b.types[name]; both && other != t {
			q.out.Retyped = append(q.out.Retyped, name)
		}
	}
	slices.Sort(q.out.Retyped)
	var months []month
	months, q.columns = p.differing(a, b)
	unlike := map[month]bool{}
	var held int64
	for _, m := range months {
		unlike[m] = true
		pair := MonthPair{Month: m.first().Format("2006-01")}
		if s := a.months[m]; s != nil {
			pair.Measure = s.rows
		}
		if s := b.months[m]; s != nil {
			pair.Rows = s.rows
		}
		held += pair.Measure
		q.out.Months = append(q.out.Months, pair)
	}
	for m, s := range a.months {
		if !unlike[m] {
			q.out.Same += s.rows
		}
	}
	passes := max(1, (held+int64(p.how.HeldRows)-1)/int64(p.how.HeldRows))
	for pass := range passes {
		if err := q.contacts(ctx, months, uint64(pass), uint64(passes)); err != nil { //nolint:gosec // neither is negative
			return q.out, fmt.Errorf("compare %s with %s: %w", b.Destination, a.Destination, err)
		}
	}
	if err := q.explain(ctx); err != nil {
		return q.out, fmt.Errorf("compare %s with %s: %w", b.Destination, a.Destination, err)
	}
	return q.out, nil
}

// eachRow lists months of a table. Each gets the records and the months of
// their rows, -1 for a row that was not asked for.
func (q *pairing) eachRow(ctx context.Context, s *side, months []month, columns []string, each func(rec arrow.Record, at []month) error) error {
	for i := 0; i < len(months); {
		from, last := months[i], months[i]
		for i++; i < len(months) && months[i] == last+1; i++ {
			last++
		}
		l := load.Listing{Lineage: q.lineage, Columns: columns, From: from.first()}
		if until := (last + 1).first(); until.Year() <= lastYear {
			l.Until = until
		}
		if err := q.listed(ctx, s, l, from, last, each); err != nil {
			return fmt.Errorf("%s: %w", s.Destination, err)
		}
	}
	return nil
}

func (q *pairing) listed(ctx context.Context, s *side, l load.Listing, from, last month, each func(rec arrow.Record, at []month) error) error {
	var at []month
	return s.lister.List(ctx, l, func(rec arrow.Record) error {
		created, err := namedColumn[*array.Timestamp](rec, schemas.ColCreatedAt)
		if err == nil {
			err = q.identify(rec)
		}
		if err != nil {
			return err
		}
		at = at[:0]
		for i := range created.Len() {
			m := monthOf(created.Value(i))
			if m < from || m > last {
				m = -1
			}
			at = append(at, m)
		}
		return each(rec, at)
	})
}

// contacts compares one share of the contacts of months.
func (q *pairing) contacts(ctx context.Context, months []month, share, shares uint64) error {
	q.rows = q.rows[:0]
	err := q.digest(ctx, q.a, months, share, shares, func(r parityRow) { q.rows = append(q.rows, r) })
	if err != nil {
		return err
	}
	slices.SortFunc(q.rows, func(x, y parityRow) int { return compareIDs(x.key, y.key) })
	before := len(q.rows)
	q.rows = slices.CompactFunc(q.rows, func(x, y parityRow) bool {
		if x.key == y.key {
			q.mark(parityTwice, x.key, month(x.month))
		}
		return x.key == y.key
	})
	q.out.Twice += int64(before - len(q.rows))
	if err := q.digest(ctx, q.b, months, share, shares, q.meet); err != nil {
		return err
	}
	for i := range q.rows {
		if r := &q.rows[i]; !r.met && !q.excused(r, nil) {
			q.out.OnlyMeasure++
			q.mark(parityOnlyMeasure, r.key, month(r.month))
		}
	}
	return nil
}

// digest gives one share of the rows of months.
func (q *pairing) digest(ctx context.Context, s *side, months []month, share, shares uint64, each func(parityRow)) error {
	var digests []uint64
	return q.eachRow(ctx, s, months, nil, func(rec arrow.Record, at []month) error {
		serials, err := namedColumn[*array.Int64](rec, schemas.ColPackage)
		if err != nil {
			return err
		}
		deleted := rec.Schema().FieldIndices(schemas.ColDeletedAt)
		digests = slices.Grow(digests[:0], len(at))[:len(at)]
		clear(digests)
		err = q.eachColumn(rec, func(column int, hashes []uint64) {
			for i, h := range hashes {
				digests[i] += h * uint64(2*column+1) //nolint:gosec // so that two cells which changed places do not add up alike
			}
		})
		if err != nil {
			return err
		}
		for i, m := range at {
			if m >= 0 && binary.BigEndian.Uint64(q.keys[i][:])%shares == share {
				each(parityRow{
					key: q.keys[i], digest: digests[i], serial: serials.Value(i), month: int32(m), //nolint:gosec // of years up to 9999
					deleted: len(deleted) == 1 && rec.Column(deleted[0]).IsValid(i),
				})
			}
		}
		return nil
	})
}

// meet compares a row with the measure's of the same contact.
func (q *pairing) meet(r parityRow) {
	i, found := slices.BinarySearchFunc(q.rows, r.key, func(x parityRow, k idKey) int { return compareIDs(x.key, k) })
	switch {
	case !found:
		if !q.excused(nil, &r) {
			q.out.Only++
			q.mark(parityOnly, r.key, month(r.month))
		}
	case q.rows[i].met:
		q.out.Twice++
		q.mark(parityTwice, r.key, month(r.month))
	default:
		here := &q.rows[i]
		here.met = true
		switch {
		case here.digest == r.digest:
			q.out.Same++
		case !q.excused(here, &r):
			q.out.Differ++
			q.mark(parityDiffer, r.key, month(here.month), month(r.month))
		}
	}
}

// excused counts a contact that may differ, and reports whether it may. One of
// the rows is nil where a table has none.
func (q *pairing) excused(here, there *parityRow) bool {
	later := func(a, b int64) bool { // than what the other side has
		return (here != nil && here.serial > b) || (there != nil && there.serial > a)
	}
	switch {
	case later(q.a.reach(), q.b.reach()):
		q.out.Waiting++
	case later(q.a.shown(), q.b.shown()):
		q.out.NotVisible++
	case (here == nil || there == nil) && cmp.Or(here, there).deleted:
		q.out.Tombstones++
	default:
		return false
	}
	return true
}

// mark has a contact explained, where there is room.
func (q *pairing) mark(kind string, k idKey, at ...month) {
	m := &mark{kind: kind, slot: -1, named: q.named[kind] < q.how.Examples}
	if kind == parityDiffer && q.slots < min(heldMarks, heldCells/max(1, len(q.columns))) {
		m.slot = q.slots
	}
	if q.marked[k] != nil || (m.slot < 0 && !m.named) {
		return
	}
	if m.slot >= 0 {
		q.slots++
	}
	if m.named {
		q.named[kind]++
	}
	q.marked[k] = m
	for _, month := range at {
		q.months[month] = true
	}
}

// explain reads the ids and cells of marked contacts.
func (q *pairing) explain(ctx context.Context) error {
	if len(q.marked) == 0 {
		return nil
	}
	months := slices.Sorted(maps.Keys(q.months))
	place := map[int]int{} // of a column among those that are compared
	for _, c := range slices.Sorted(maps.Keys(q.columns)) {
		place[c] = len(place)
	}
	cells := make([]uint64, q.slots*len(place))
	err := q.cells(ctx, q.a, months, func(m *mark, column int, hash uint64, text *string) {
		if m.slot >= 0 {
			cells[m.slot*len(place)+place[column]] = hash
		}
		if m.named && text != nil {
			m.cells[q.names[column]] = *text
		}
	})
	if err != nil {
		return err
	}
	// What is left of a cell once the other table's hash is taken away is zero
	// where both are alike, and where neither table has the column.
	for _, m := range q.marked {
		m.done = false
	}
	err = q.cells(ctx, q.b, months, func(m *mark, column int, hash uint64, text *string) {
		if m.slot < 0 {
			return
		}
		i := m.slot*len(place) + place[column]
		cells[i] -= hash
		if m.named && q.how.Values && cells[i] != 0 && text != nil {
			m.found = append(m.found, ParityCell{Name: q.names[column], Destination: text})
		}
	})
	if err != nil {
		return err
	}
	q.report(cells, place)
	return nil
}

// cells gives the cells of the marked contacts, null ones with a hash of 0 and
// no text, in the columns that do not add up alike.
func (q *pairing) cells(ctx context.Context, s *side, months []month, each func(m *mark, column int, hash uint64, text *string)) error {
	if len(s.types) == 0 {
		return nil
	}
	columns := []string{schemas.ColID, schemas.ColCreatedAt}
	for _, c := range slices.Sorted(maps.Keys(q.columns)) {
		if _, has := s.types[q.names[c]]; has && !slices.Contains(columns, q.names[c]) {
			columns = append(columns, q.names[c])
		}
	}
	return q.eachRow(ctx, s, months, columns, func(rec arrow.Record, at []month) error {
		ids, err := namedColumn[*array.String](rec, schemas.ColID)
		if err != nil {
			return err
		}
		rows := map[int]*mark{}
		for i, m := range at {
			if found := q.marked[q.keys[i]]; m >= 0 && found != nil && !found.done {
				found.done, found.id, rows[i] = true, strings.Clone(ids.Value(i)), found
				if found.named && found.cells == nil {
					found.cells = map[string]string{}
				}
			}
		}
		if len(rows) == 0 {
			return nil
		}
		return q.eachColumn(rec, func(column int, hashes []uint64) {
			if !q.columns[column] {
				return
			}
			values := rec.Column(rec.Schema().FieldIndices(q.names[column])[0])
			for i, m := range rows {
				var text *string
				if m.named && values.IsValid(i) {
					v := shown(q.shown[q.names[column]], strings.Clone(values.ValueStr(i)))
					text = &v
				}
				each(m, column, hashes[i], text)
			}
		})
	})
}

// report counts columns, and gives the examples.
func (q *pairing) report(cells []uint64, place map[int]int) {
	counts := make([]int64, len(q.names))
	for _, m := range q.marked {
		var unlike []ParityCell
		for c, at := range place {
			if m.slot >= 0 && cells[m.slot*len(place)+at] != 0 {
				counts[c]++
				unlike = append(unlike, q.cell(m, c))
			}
		}
		if m.slot >= 0 {
			q.out.Examined++
		}
		if m.named {
			slices.SortFunc(unlike, func(x, y ParityCell) int { return cmp.Compare(x.Name, y.Name) })
			q.out.Examples = append(q.out.Examples, ParityCase{Kind: m.kind, ID: m.id, Columns: unlike})
		}
	}
	for c, n := range counts {
		if n > 0 {
			q.out.Columns = append(q.out.Columns, ColumnCount{Name: q.names[c], Contacts: n})
		}
	}
	slices.SortFunc(q.out.Columns, func(x, y ColumnCount) int {
		return cmp.Or(cmp.Compare(y.Contacts, x.Contacts), cmp.Compare(x.Name, y.Name))
	})
	slices.SortFunc(q.out.Examples, func(x, y ParityCase) int { return cmp.Or(cmp.Compare(x.Kind, y.Kind), cmp.Compare(x.ID, y.ID)) })
}

// cell is a column in which a named contact differs.
func (q *pairing) cell(m *mark, column int) ParityCell {
	out := ParityCell{Name: q.names[column]}
	if !q.how.Values {
		return out
	}
	if text, has := m.cells[out.Name]; has {
		out.Measure = &text
	}
	for _, f := range m.found {
		if f.Name == out.Name {
			out.Destination = f.Destination
		}
	}
	return out
}
