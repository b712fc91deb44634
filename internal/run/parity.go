package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

const (
	// heldRows is how many contacts a comparison of destinations holds at once,
	// at 40 bytes each.
	heldRows = 1 << 20
	// heldCells is how many hashes of cells it holds to say in which columns
	// contacts differ, 8 bytes each.
	heldCells = 1 << 22
	// heldMarks is of how many contacts it does so at most.
	heldMarks    = 1 << 18
	defaultCases = 5
)

// ParityCheck is how Engine.Parity compares.
type ParityCheck struct {
	// Examples is how many contacts of each kind are named. 0: 5. Values has them
	// say what either side holds, and not only in which columns they differ.
	Examples int
	Values   bool
	// HeldRows bounds how many contacts are held at once, at 40 bytes each: a
	// month with more, where destinations differ, is read several times. 0:
	// 1048576.
	HeldRows int
}

// Parity is what a comparison of a pipeline's destinations with each other
// found.
type Parity struct {
	// Destinations in configured order, those that were compared.
	Destinations []Standing `json:"destinations"`
	// Skipped are those whose tables cannot be listed.
	Skipped []string `json:"skipped,omitempty"`
	// Pairs are the first destination, which is the measure, with each other.
	Pairs []ParityPair `json:"pairs"`
}

// Wrong is the number of contacts that differ between destinations and should
// not.
func (p Parity) Wrong() (n int64) {
	for _, pair := range p.Pairs {
		n += pair.Wrong()
	}
	return n
}

// Standing is a destination as it was compared.
type Standing struct {
	Destination string `json:"destination"`
	Contacts    int64  `json:"contacts"` // rows of the table, tombstones included
	Position    int64  `json:"position"` // serial of the last package in it, 0 for none
	// Recorded is what state has for Position, where that is more: the table, or
	// the end of it, was lost.
	Recorded int64 `json:"recorded,omitempty"`
	Queued   int   `json:"queued,omitempty"`
	// NeedsFull says that what waited for it was given up: a full read fills it.
	NeedsFull bool `json:"needs_full,omitempty"`
	// Settled is the serial of the last package that all queries see; below
	// Position where they may lag behind.
	Settled int64 `json:"settled"`
}

// ParityPair is a destination beside the measure, in contacts.
type ParityPair struct {
	Measure     string `json:"measure"`
	Destination string `json:"destination"`
	Same        int64  `json:"same"`         // in every cell
	Differ      int64  `json:"differ"`       // in some cells
	OnlyMeasure int64  `json:"only_measure"` // the destination lacks them
	Only        int64  `json:"only"`         // the measure lacks them
	Twice       int64  `json:"twice"`        // rows beyond the first of a contact, of either
	// Waiting are those whose row in one of them is of a package that the other
	// has not committed, NotVisible of one that its queries may not show yet.
	// Neither is a fault, nor are Tombstones: contacts found deleted, of which
	// only one holds a row. A table that was filled later never had them.
	Waiting    int64 `json:"waiting"`
	NotVisible int64 `json:"not_visible"`
	Tombstones int64 `json:"tombstones"`
	// Columns say how many of the contacts that differ do so in which; they were
	// looked for in Examined of them.
	Columns  []ColumnCount `json:"columns,omitempty"`
	Examined int64         `json:"examined,omitempty"`
	// Retyped are columns that have another type in each.
	Retyped []string `json:"retyped,omitempty"`
	// Months of created_at in which anything differs, faults or not.
	Months   []MonthPair  `json:"months,omitempty"`
	Examples []ParityCase `json:"examples,omitempty"`
}

// Wrong is the number of contacts, and of columns, that should be otherwise.
func (p ParityPair) Wrong() int64 {
	return p.Differ + p.OnlyMeasure + p.Only + p.Twice + int64(len(p.Retyped))
}

// ColumnCount is a column and how many contacts differ in it.
type ColumnCount struct {
	Name     string `json:"name"`
	Contacts int64  `json:"contacts"`
}

// MonthPair is a month and the rows that either table has of it.
type MonthPair struct {
	Month   string `json:"month"` // as 2026-03, of created_at in UTC
	Measure int64  `json:"measure"`
	Rows    int64  `json:"rows"`
}

// ParityCase is one contact that differs.
type ParityCase struct {
	Kind    string       `json:"kind"` // differ, only_measure, only or twice
	ID      string       `json:"id"`
	Columns []ParityCell `json:"columns,omitempty"`
}

// ParityCell is a column in which a contact differs. The values are given where
// they were asked for; nil is null.
type ParityCell struct {
	Name        string  `json:"name"`
	Measure     *string `json:"measure,omitempty"`
	Destination *string `json:"destination,omitempty"`
}

// The kinds of ParityCase.
const (
	parityDiffer      = "differ"
	parityOnlyMeasure = "only_measure"
	parityOnly        = "only"
	parityTwice       = "twice"
)

// NoPairError says that there are no two destinations to compare.
type NoPairError struct{ Pipeline string }

func (e *NoPairError) Error() string {
	return fmt.Sprintf("pipeline %s has no two destinations whose tables can be compared", e.Pipeline)
}

// Hint says what to do.
func (e *NoPairError) Hint() string {
	return "compare the one there is with the source: sluice verify --source " + state.Typed(e.Pipeline)
}

// MovedOnError says that a table changed while it was compared.
type MovedOnError struct {
	Destination   string
	Before, After int64
}

func (e *MovedOnError) Error() string {
	return fmt.Sprintf("package %d came to destination %s, which stood at %d, while it was compared", e.After, e.Destination, e.Before)
}

// Hint says what to do.
func (e *MovedOnError) Hint() string { return "compare again when no run is under way" }

// Parity compares what the destinations of a pipeline hold, the first being the
// measure of the others, by contact. It lists each table once, and adds up
// hashes of the cells by month and column. Months whose sums differ are listed
// again, to find the contacts, and a third time to find the columns. It compares
// what is exported of a contact, its hash, and whether it is marked as deleted.
// _sluice_run_id, _sluice_extracted_at, _sluice_package, _sluice_row and
// _sluice_change are left out always: they say which package brought a version,
// and a destination that was filled later has the same version by another.
//
// Of the job it uses the pipeline, the contract and the destinations. Runs of
// the pipeline on this machine do not commit meanwhile. It changes nothing, but
// a commit that was interrupted may be completed. It blocks until done or ctx
// ends, and holds heldRows contacts at most, whatever the tables have.
func (e *Engine) Parity(ctx context.Context, job Job, how ParityCheck) (out Parity, err error) {
	release, err := e.holdCommits(ctx, job.Pipeline)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, release()) }()
	st, err := e.Store.Load(ctx, job.Pipeline)
	if err != nil {
		return out, err
	}
	registry, err := schemas.NewRegistry(job.Contract, st.Registry)
	if err != nil {
		return out, fmt.Errorf("restore column registry: %w", err)
	}
	how.Examples = cmp.Or(how.Examples, defaultCases)
	how.HeldRows = cmp.Or(how.HeldRows, heldRows)
	p := &parity{how: how, lineage: st.Lineage, index: map[string]int{}, hasher: cellHasher{json: map[string]bool{}}, shown: columnPolicies(registry)}
	for _, c := range registry.Table().Columns {
		p.hasher.json[c.Name] = c.Type == schemas.JSON
	}
	for _, d := range job.Destinations {
		l, ok := d.Loader.(load.Lister)
		if !ok {
			out.Skipped = append(out.Skipped, d.Name)
			continue
		}
		p.sides = append(p.sides, &side{lister: l, months: map[month]*monthSums{}, Standing: standing(st, d.Name)})
	}
	if len(p.sides) < 2 {
		return out, &NoPairError{Pipeline: job.Pipeline}
	}
	if st.Lineage != "" {
		if err := p.run(ctx); err != nil {
			return out, fmt.Errorf("compare destinations: %w", err)
		}
	}
	for _, s := range p.sides {
		out.Destinations = append(out.Destinations, s.Standing)
	}
	out.Pairs = p.pairs
	return out, nil
}

// holdCommits keeps runs on this machine from committing; it waits for one that
// does.
func (e *Engine) holdCommits(ctx context.Context, pipeline string) (release func() error, err error) {
	for {
		release, err = e.Store.LockRun(ctx, pipeline, kindCommit)
		var held *state.HeldError
		if !errors.As(err, &held) {
			return release, err
		}
		if err := clock.Sleep(ctx, commitPoll); err != nil {
			return nil, err
		}
	}
}

func standing(st *state.Pipeline, name string) Standing {
	s := Standing{Destination: name}
	if d := st.Destinations[name]; d != nil {
		s.Recorded, s.Queued, s.NeedsFull = d.Position, len(d.Queue), d.NeedsFull != nil
	}
	return s
}

// parity is one comparison of destinations.
type parity struct {
	how     ParityCheck
	lineage string
	hasher  cellHasher
	shown   map[string]schemas.Policy // of columns whose values are not kept
	sides   []*side
	index   map[string]int // of columns, in all sums
	names   []string       // the columns by index
	pairs   []ParityPair

	keys   []idKey // scratch of one record
	hashes []uint64
}

// side is a destination and what its table adds up to.
type side struct {
	Standing
	lister load.Lister
	months map[month]*monthSums
	types  map[string]arrow.Type // of the columns it has; nil for an empty table
}

// reach is the serial of the last package whose rows should be in the table, and
// shown of the last whose rows every query should give.
func (s *side) reach() int64 { return max(s.Position, s.Recorded) }

func (s *side) shown() int64 {
	if s.Settled == s.Position {
		return s.reach()
	}
	return s.Settled
}

// month counts months from year 0 on.
type month int

func monthOf(micros arrow.Timestamp) month {
	at := time.UnixMicro(int64(micros)).UTC()
	return month(at.Year()*12 + int(at.Month()) - 1)
}

func (m month) first() time.Time {
	return time.Date(0, time.Month(m+1), 1, 0, 0, 0, 0, time.UTC)
}

// monthSums are the rows of a month and, by column, the sums of the hashes of
// their cells.
type monthSums struct {
	rows int64
	sums []uint64
}

func (p *parity) run(ctx context.Context) error {
	for _, s := range p.sides {
		if err := p.look(ctx, s); err != nil {
			return fmt.Errorf("%s: %w", s.Destination, err)
		}
	}
	for _, other := range p.sides[1:] {
		pair, err := p.compare(ctx, p.sides[0], other)
		if err != nil {
			return err
		}
		p.pairs = append(p.pairs, pair)
	}
	for _, s := range p.sides {
		after, err := s.lister.Check(ctx, p.lineage)
		if err != nil {
			return fmt.Errorf("%s: %w", s.Destination, err)
		}
		if after != s.Position {
			return &MovedOnError{Destination: s.Destination, Before: s.Position, After: after}
		}
	}
	return nil
}

// look adds up a table.
func (p *parity) look(ctx context.Context, s *side) (err error) {
	if s.Position, err = s.lister.Check(ctx, p.lineage); err != nil {
		return err
	}
	if s.Recorded <= s.Position {
		s.Recorded = 0
	}
	s.Settled = s.Position
	if l, ok := s.lister.(load.Lagging); ok {
		if s.Settled, err = l.Settled(ctx, p.lineage); err != nil {
			return err
		}
	}
	return s.lister.List(ctx, load.Listing{Lineage: p.lineage}, func(rec arrow.Record) error {
		if s.types == nil {
			s.types = map[string]arrow.Type{}
			for _, f := range rec.Schema().Fields() {
				s.types[f.Name] = f.Type.ID()
			}
		}
		return p.sum(s, rec)
	})
}

// sum adds the cells of a record to the sums of their months.
func (p *parity) sum(s *side, rec arrow.Record) error {
	created, err := namedColumn[*array.Timestamp](rec, schemas.ColCreatedAt)
	if err == nil {
		err = p.identify(rec)
	}
	if err != nil {
		return err
	}
	s.Contacts += rec.NumRows()
	months := make([]*monthSums, created.Len())
	for i := range months {
		m := monthOf(created.Value(i))
		if s.months[m] == nil {
			s.months[m] = &monthSums{}
		}
		months[i] = s.months[m]
		months[i].rows++
	}
	return p.eachColumn(rec, func(column int, hashes []uint64) {
		for i, h := range hashes {
			months[i].add(column, h)
		}
	})
}

func (m *monthSums) add(column int, h uint64) {
	if h == 0 {
		return
	}
	if column >= len(m.sums) {
		m.sums = append(m.sums, make([]uint64, column+1-len(m.sums))...)
	}
	m.sums[column] += h // of 64 bits: two tables add up alike by chance once in 2^64
}

// identify sets keys to those of a record's contacts.
func (p *parity) identify(rec arrow.Record) error {
	ids, err := namedColumn[*array.String](rec, schemas.ColID)
	if err != nil {
		return err
	}
	p.keys = p.keys[:0]
	for i := range ids.Len() {
		p.keys = append(p.keys, hashID(ids.Value(i)))
	}
	p.hashes = slices.Grow(p.hashes[:0], ids.Len())[:ids.Len()]
	return nil
}

// eachColumn gives the hashes of the cells of each column that is compared,
// valid during the call.
func (p *parity) eachColumn(rec arrow.Record, each func(column int, hashes []uint64)) error {
	for i, f := range rec.Schema().Fields() {
		if !isCompared(f.Name) {
			continue
		}
		column, known := p.index[f.Name]
		if !known {
			column = len(p.names)
			p.index[f.Name], p.names = column, append(p.names, f.Name)
		}
		if err := p.hasher.hash(p.keys, f.Name, rec.Column(i), p.hashes); err != nil {
			return err
		}
		each(column, p.hashes)
	}
	return nil
}

// isCompared reports whether a column has to be alike in all destinations.
func isCompared(name string) bool {
	switch name {
	case schemas.ColRunID, schemas.ColExtractedAt, schemas.ColPackage, schemas.ColRow, schemas.ColChange:
		return false
	default:
		return true
	}
}

// differing are the months in which two tables do not add up alike, and the
// columns.
func (p *parity) differing(a, b *side) (months []month, columns map[int]bool) {
	all := maps.Clone(a.months)
	maps.Copy(all, b.months)
	columns = map[int]bool{}
	for _, m := range slices.Sorted(maps.Keys(all)) {
		x, y := cmp.Or(a.months[m], &monthSums{}), cmp.Or(b.months[m], &monthSums{})
		unlike := x.rows != y.rows
		for c := range p.names {
			if x.sum(c) != y.sum(c) {
				columns[c], unlike = true, true
			}
		}
		if unlike {
			months = append(months, m)
		}
	}
	return months, columns
}

func (m *monthSums) sum(column int) uint64 {
	if column >= len(m.sums) {
		return 0
	}
	return m.sums[column]
}

// namedColumn returns a column of rec by name as the type that it has to have.
func namedColumn[T arrow.Array](rec arrow.Record, name string) (col T, err error) {
	at := rec.Schema().FieldIndices(name)
	if len(at) != 1 {
		return col, fmt.Errorf("a listing has %d columns %s", len(at), name)
	}
	return column[T](rec, at[0])
}
