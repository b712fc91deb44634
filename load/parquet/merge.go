package parquet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	mathbits "math/bits"
	"os"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// span is the rows of one month in one part.
type span struct {
	month month
	rows  int64
}

// merge brings one package together with what current holds, month by month,
// into staged files. At any time it holds the keys of one month, a batch of
// each part that has rows in it, and a row group of each file being written;
// before that, 8 bytes for each row of the package.
type merge struct {
	dir    string
	pkg    load.Package
	mem    memory.Allocator
	table  schemas.Table
	schema *arrow.Schema
	fill   *filler
	out    *output

	stored    map[month]File                                                // current before the package
	fetch     func(ctx context.Context, files []File, small []string) error // as Loader has it
	keepEmpty bool                                                          // as Loader has it
	rewrite   bool                                                          // every file of current, to the new schema
	parts     []*part
	history   *historyWriter
	current   []File // written for current
	removed   []File // of current: nothing is left of them
	result    load.Result

	arrivals map[month][]uint64 // hashes of the package's ids; until findMoved
	movers   movers
	leave    map[month]bool  // current loses rows of movers there
	losers   map[string]bool // files of current that lose rows of movers and get none
}

// part is one staged file of the package.
type part struct {
	keys   *cursor // key columns
	rows   *cursor // all columns
	spans  []span  // not yet merged, ascending
	shaper *shaper // made at the first row that is written
}

func (m *merge) run(ctx context.Context) (err error) {
	defer func() {
		for _, p := range m.parts {
			err = errors.Join(err, p.keys.close(), p.rows.close())
		}
		m.history.abort()
	}()
	for _, p := range m.pkg.Parts {
		spans, err := planPart(ctx, p, m.arrivals)
		if err != nil {
			return fmt.Errorf("read part %s: %w", p.Path, err)
		}
		m.parts = append(m.parts, &part{
			keys:  &cursor{path: p.Path, columns: keyColumns, want: p.Rows},
			rows:  &cursor{path: p.Path, want: p.Rows},
			spans: spans,
		})
	}
	m.shareBatches()
	if err := m.findMoved(ctx); err != nil {
		return fmt.Errorf("look for contacts in other months: %w", err)
	}
	for _, mo := range m.months() {
		if err := m.month(ctx, mo); err != nil {
			return fmt.Errorf("merge month %s: %w", mo, err)
		}
	}
	return m.history.close(ctx)
}

// months returns the months to visit: those the package touches, those that
// contacts leave, and all that current has where it is rewritten.
func (m *merge) months() []month {
	set := map[month]bool{}
	for _, p := range m.parts {
		for _, s := range p.spans {
			set[s.month] = true
		}
	}
	for mo := range m.leave {
		set[mo] = true
	}
	if m.rewrite {
		for mo := range m.stored {
			set[mo] = true
		}
	}
	var out []month
	for mo := range set {
		out = append(out, mo)
	}
	slices.Sort(out)
	return out
}

// planPart finds which rows of a part belong to which month, and adds hashes of
// their ids to arrivals.
func planPart(ctx context.Context, p load.Part, arrivals map[month][]uint64) (spans []span, err error) {
	c := &cursor{path: p.Path, columns: []string{schemas.ColCreatedAt, schemas.ColID}, want: p.Rows}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.open(); err != nil { // also where the part says it has no rows
		return nil, err
	}
	var hashes []uint64
	err = c.take(ctx, p.Rows, func(rec arrow.Record) error {
		created, ok := rec.Column(0).(*array.Timestamp)
		if !ok || created.NullN() > 0 {
			return errors.New("created_at is missing, null or of another type")
		}
		if hashes, err = appendHashes(hashes[:0], rec.Column(1)); err != nil {
			return err
		}
		for times, at := created.TimestampValues(), 0; at < len(times); {
			mo := monthOf(int64(times[at]))
			from, to := mo.bounds()
			n := 1
			for at+n < len(times) && int64(times[at+n]) >= from && int64(times[at+n]) < to {
				n++
			}
			switch last := len(spans) - 1; {
			case last >= 0 && mo == spans[last].month:
				spans[last].rows += int64(n)
			case last >= 0 && mo < spans[last].month:
				return fmt.Errorf("rows are not grouped by month of created_at: %s after %s", mo, spans[last].month)
			default:
				spans = append(spans, span{month: mo, rows: int64(n)})
			}
			arrivals[mo] = append(arrivals[mo], hashes[at:at+n]...)
			at += n
		}
		return nil
	})
	return spans, err
}

// The rows that all open parts together have in memory, and the least of one
// part: below it, batches cost more than they save.
const (
	openRows  = 4 * batchRows
	leastRows = 1024
)

// shareBatches gives the parts that are open at a time, from their first month
// to their last, a share each of the rows in memory: there are nine where
// 5,000,000 contacts are read in four windows, and more where a package holds
// changes of all months.
func (m *merge) shareBatches() {
	opens := map[month]int64{} // parts that begin, less those that ended with the month before
	for _, p := range m.parts {
		if n := len(p.spans); n > 0 {
			opens[p.spans[0].month]++
			opens[p.spans[n-1].month+1]--
		}
	}
	var open, most int64
	for _, mo := range slices.Sorted(maps.Keys(opens)) {
		open += opens[mo]
		most = max(most, open)
	}
	rows := max(openRows/max(most, openRows/batchRows), leastRows)
	for _, p := range m.parts {
		p.keys.batchRows, p.rows.batchRows = rows, rows
	}
}

// spanOf returns the rows a part has in mo.
func (p *part) spanOf(mo month) int64 {
	if len(p.spans) > 0 && p.spans[0].month == mo {
		return p.spans[0].rows
	}
	return 0
}

// month merges one partition.
func (m *merge) month(ctx context.Context, mo month) error {
	keys, err := m.readKeys(ctx, mo)
	if err != nil {
		return err
	}
	file, exists := m.stored[mo]
	var gone *bits // rows of the stored file that are replaced
	stay := file.Rows
	if exists && (len(keys.keys) > 0 || m.leave[mo]) {
		if gone, err = m.meetCurrent(ctx, mo, file, keys); err != nil {
			return fmt.Errorf("read %s: %w", file.Path, err)
		}
		stay -= gone.count()
	}
	keys.takeOver(mo, m.movers)
	current, history := keys.decide(&m.result)
	var to *outFile
	switch {
	case m.leave[mo] && !current && stay == 0 && !m.keepEmpty:
		m.removed = append(m.removed, file)
	case current || (exists && (m.rewrite || m.leave[mo])):
		var from []File
		if exists && stay > 0 {
			from = append(from, file)
		}
		if to, err = m.out.create(currentPath(mo), from...); err != nil {
			return err
		}
		defer to.w.Abort()
		to.month, to.hashes = mo, make([]uint64, 0, stay)
		if exists {
			if err := m.copyCurrent(ctx, file, gone, to); err != nil {
				return fmt.Errorf("copy %s: %w", file.Path, err)
			}
		}
	}
	if err := m.copyParts(ctx, mo, keys, current || history, to); err != nil {
		return err
	}
	// Before the file of current is finished and read back, which takes memory
	// of its own: until then history holds the month's rows too.
	if err := m.history.monthDone(); err != nil || to == nil {
		return err
	}
	written, err := to.finish(ctx)
	if err != nil {
		return err
	}
	m.current = append(m.current, written)
	if m.leave[mo] && !current {
		m.losers[written.Path] = true
	}
	return nil
}

// readKeys reads the package's keys of one month.
func (m *merge) readKeys(ctx context.Context, mo month) (*partition, error) {
	var total int64
	for _, p := range m.parts {
		total += p.spanOf(mo)
	}
	keys := newPartition(total)
	for _, p := range m.parts {
		n := p.spanOf(mo)
		if n == 0 {
			continue
		}
		s, err := p.keys.schema()
		if err != nil {
			return nil, err
		}
		kr, err := newKeyReader(s)
		if err != nil {
			return nil, fmt.Errorf("read part %s: %w", p.keys.path, err)
		}
		if err := p.keys.take(ctx, n, func(rec arrow.Record) error { return kr.each(rec, keys.add) }); err != nil {
			return nil, fmt.Errorf("read part %s: %w", p.keys.path, err)
		}
	}
	keys.added()
	return keys, nil
}

// meetCurrent compares the stored file with the package's keys and returns the
// rows to leave out.
func (m *merge) meetCurrent(ctx context.Context, mo month, file File, keys *partition) (*bits, error) {
	gone := newBits(file.Rows)
	row := int64(0)
	err := m.eachStoredKey(ctx, file, func(id string, k key) {
		leaves, known := m.movers.leaves(mo, id)
		if leaves || (!known && !keys.meet(id, k)) {
			gone.set(row)
		}
		row++
	})
	return gone, err
}

// copyCurrent copies the stored rows that stay, in their order.
func (m *merge) copyCurrent(ctx context.Context, file File, gone *bits, to *outFile) error {
	row := int64(0)
	var idx []int32
	return m.copyRows(ctx, file, to, func(rec arrow.Record) ([]int32, error) {
		idx = idx[:0]
		for i := range int32(rec.NumRows()) { //nolint:gosec // a batch has batchRows rows at most
			if gone == nil || !gone.get(row) {
				idx = append(idx, i)
			}
			row++
		}
		return idx, nil
	})
}

// copyRows appends the rows of a file of the table that keep names, in batches
// and in the table's schema.
func (m *merge) copyRows(ctx context.Context, file File, to *outFile, keep func(rec arrow.Record) ([]int32, error)) (err error) {
	c := &cursor{path: at(m.dir, file.Path), want: file.Rows}
	defer func() { err = errors.Join(err, c.close()) }()
	s, err := c.schema()
	if err != nil {
		return err
	}
	sh, err := newShaper(m.fill, s, m.table, m.schema, nil)
	if err != nil {
		return err
	}
	return c.take(ctx, file.Rows, func(rec arrow.Record) error {
		idx, err := keep(rec)
		if err != nil {
			return err
		}
		return m.writeRows(sh.shape(rec, nil), idx, to)
	})
}

// writeRows writes the rows of rec that idx names, and releases rec.
func (m *merge) writeRows(rec arrow.Record, idx []int32, to *outFile) error {
	defer rec.Release()
	if len(idx) == 0 {
		return nil
	}
	rows, err := pick(m.mem, rec, idx)
	if err != nil {
		return err
	}
	defer rows.Release()
	return to.write(rows)
}

// copyParts writes the package's rows of one month to history and, those that
// won, to the current file.
func (m *merge) copyParts(ctx context.Context, mo month, keys *partition, wanted bool, to *outFile) error {
	row := 0
	for _, p := range m.parts {
		n := p.spanOf(mo)
		if n == 0 {
			continue
		}
		p.spans = p.spans[1:]
		if !wanted {
			p.rows.skip(n)
		} else {
			if err := m.copyPart(ctx, p, n, keys, row, to); err != nil {
				return fmt.Errorf("read part %s: %w", p.rows.path, err)
			}
		}
		row += int(n)
		if len(p.spans) == 0 {
			if err := errors.Join(p.keys.close(), p.rows.close()); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *merge) copyPart(ctx context.Context, p *part, n int64, keys *partition, row int, to *outFile) error {
	if p.shaper == nil {
		s, err := p.rows.schema()
		if err != nil {
			return err
		}
		if p.shaper, err = newShaper(m.fill, s, m.table, m.schema, m.constants()); err != nil {
			return err
		}
	}
	extracted := m.table.Index(schemas.ColExtractedAt)
	var versions, winners []int32
	return p.rows.take(ctx, n, func(rec arrow.Record) error {
		versions, winners = versions[:0], winners[:0]
		first := row
		for i := range int32(rec.NumRows()) { //nolint:gosec // a batch has batchRows rows at most
			switch keys.fate[row] {
			case rowCurrent:
				winners = append(winners, i)
				versions = append(versions, i)
			case rowHistory:
				versions = append(versions, i)
			}
			row++
		}
		if len(versions) == 0 {
			return nil
		}
		change := m.changes(keys, first, int(rec.NumRows()))
		shaped := p.shaper.shape(rec, change)
		change.Release()
		if len(winners) > 0 {
			shaped.Retain()
			if err := m.writeRows(shaped, winners, to); err != nil {
				shaped.Release()
				return err
			}
		}
		defer shaped.Release()
		return m.history.write(ctx, m.mem, shaped, extracted, versions)
	})
}

// constants are the columns that are the same in every row of the package.
func (m *merge) constants() map[string]arrow.Array {
	return map[string]arrow.Array{
		schemas.ColRunID:   m.fill.text(m.pkg.RunID),
		schemas.ColPackage: m.fill.number(m.pkg.Serial),
	}
}

// changes returns _sluice_change of n rows. The caller releases it.
func (m *merge) changes(keys *partition, first, n int) arrow.Array {
	b := array.NewStringBuilder(m.mem)
	defer b.Release()
	b.Reserve(n)
	b.ReserveData(n * len(changeInsert))
	for row := first; row < first+n; row++ {
		b.Append(keys.change(row))
	}
	return b.NewArray()
}

// unreadable explains that a file of the table, or a part, is not what was written.
func unreadable(err error) error {
	if errors.Is(err, parquetfile.ErrDamaged) {
		return &Error{
			Message: "a file of the table or of the package is damaged", Err: err,
			hint: "The disk, or another program, changed it after it was checked. If it is the table's, restore its folder from a backup, or move it away and run with --full.",
		}
	}
	if !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return &Error{
		Message: "a file of the table or of the package is gone", Err: err,
		hint: "Something else removed it. If it is the table's, restore its folder from a backup, or move it away and run with --full.",
	}
}

// bits is a set of row numbers.
type bits []uint64

func newBits(n int64) *bits {
	b := make(bits, (n+63)/64)
	return &b
}

func (b bits) set(i int64) { b[i/64] |= 1 << (i % 64) }
func (b bits) count() (n int64) {
	for _, w := range b {
		n += int64(mathbits.OnesCount64(w))
	}
	return n
}

func (b bits) get(i int64) bool { return b[i/64]&(1<<(i%64)) != 0 }

// byPath orders files as directories list them.
func byPath(a, b File) int { return cmp.Compare(a.Path, b.Path) }
