package duckdb

import (
	"context"
	"crypto/md5"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"math/big"
	"strconv"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

// verify compares what the transaction has put into the two tables with the
// package's parts. DuckDB reads its tables and Go reads the parts, each with a
// Parquet reader, or none, of its own; both spell every stored row out as text,
// _sluice_row in it, and add up the rows' digests: a value that is wrong, in
// the wrong row or column, missing or there twice gives another sum. Full: all
// rows. Sample: those in the first row group of one part. Off: none, and the
// numbers of rows alone were compared, on writing.
func (m *merge) verify(ctx context.Context) error {
	if m.pkg.Verify == load.VerifyOff || m.result.Versions == 0 {
		return nil
	}
	parts, limit, only := m.pkg.Parts, int64(math.MaxInt64), ""
	if m.pkg.Verify == load.VerifySample {
		one := parts[int(m.pkg.Serial%int64(len(parts)))]
		var err error
		if limit, err = firstGroup(one.Path); err != nil {
			return err
		}
		parts = []load.Part{one}
		only = fmt.Sprintf(` AND "_sluice_row" IN (SELECT "_sluice_row" FROM %s WHERE file_row_number < %d)`, reader([]string{one.Path}, ", file_row_number = true"), limit)
	}
	fates, err := m.fates(ctx)
	if err != nil {
		return err
	}
	want, err := m.readParts(ctx, parts, limit, fates)
	if err != nil {
		return fmt.Errorf("read parts back: %w", err)
	}
	for i, rel := range []string{m.table.history(), m.table.current()} {
		var got digest
		sum := new(big.Int)
		text := fmt.Sprintf(`SELECT count(*), coalesce(sum(md5_number_lower(%s)), 0)::VARCHAR FROM %s WHERE "_sluice_package" = %d%s`,
			m.spelling(), rel, m.pkg.Serial, only)
		var digits string
		if err := m.get(ctx, []any{&got.rows, &digits}, text); err != nil {
			return fmt.Errorf("read table back: %w", err)
		}
		if _, ok := sum.SetString(digits, 10); !ok {
			return fmt.Errorf("read table back: %q is no sum", digits)
		}
		got.sum = *sum
		if got.rows != want[i].rows || got.sum.Cmp(&want[i].sum) != 0 {
			return &Error{
				Message: fmt.Sprintf("what %s holds of package %d differs from its parts (%d rows, %d expected): nothing was stored", rel, m.pkg.Serial, got.rows, want[i].rows),
				Path:    m.path,
				hint:    "Memory or disk is faulty, or this is a fault of sluice or DuckDB: keep the state directory and report it.",
			}
		}
	}
	return nil
}

// digest stands for rows in any order.
type digest struct {
	rows int64
	sum  big.Int
}

func firstGroup(path string) (int64, error) {
	r, err := parquetfile.Open(path)
	if err != nil {
		return 0, damaged(err)
	}
	groups := r.RowGroups()
	if err := r.Close(); err != nil {
		return 0, err
	}
	if len(groups) == 0 {
		return 0, nil
	}
	return groups[0], nil
}

// The bits of a row's fate.
const (
	fateStored uint8 = 1 << iota
	fateWins
	fateKnown
	fateDeleted
)

// fates reads sluice_fate, by row number: a byte for each row of the package.
func (m *merge) fates(ctx context.Context) ([]uint8, error) {
	var top int64
	if err := m.get(ctx, []any{&top}, "SELECT max(n) FROM sluice_fate WHERE (SELECT min(n) FROM sluice_fate) >= 0"); err != nil {
		return nil, fmt.Errorf("read row numbers: %w", err)
	}
	if top > 64*m.parts.rows+1<<20 {
		return nil, damaged(fmt.Errorf("row number %d in a package of %d rows", top, m.parts.rows))
	}
	fates := make([]uint8, top+1)
	var n int64
	var bits uint8
	err := m.each(ctx, []any{&n, &bits}, func() error { fates[n] = bits; return nil },
		"SELECT n, (1 + 2 * wins::INT + 4 * known::INT + 8 * deleted::INT)::UTINYINT FROM sluice_fate")
	return fates, err
}

// spelling is a row as text in SQL; appendRow is the same in Go. A value ends
// where its text says: strings begin with their length in bytes.
func (m *merge) spelling() string {
	var cells []string
	for _, c := range m.columns.Columns {
		name := views.QuoteName(c.Name)
		var cell string
		switch c.Type {
		case schemas.Int64:
			cell = name + "::VARCHAR || ';'"
		case schemas.Float64:
			cell = name + "::BIT::VARCHAR"
		case schemas.Bool:
			cell = "CASE WHEN " + name + " THEN 't' WHEN NOT " + name + " THEN 'f' END"
		case schemas.Timestamp:
			cell = "epoch_us(" + name + ")::VARCHAR || ';'"
		case schemas.Date:
			cell = "(" + name + " - DATE '1970-01-01')::VARCHAR || ';'"
		case schemas.String, schemas.JSON:
			cell = "strlen(" + name + ")::VARCHAR || ':' || " + name
		default:
			cell = "strlen(" + name + ")::VARCHAR || ':' || " + name
		}
		cells = append(cells, "coalesce("+cell+", '~')")
	}
	return "concat(" + strings.Join(cells, ", ") + ")"
}

// readParts returns the digests of the rows that history and current get.
func (m *merge) readParts(ctx context.Context, parts []load.Part, limit int64, fates []uint8) (sums [2]digest, err error) {
	for _, p := range parts {
		if err := m.readPart(ctx, p.Path, limit, fates, &sums); err != nil {
			return sums, err
		}
	}
	return sums, nil
}

func (m *merge) readPart(ctx context.Context, path string, limit int64, fates []uint8, sums *[2]digest) (err error) {
	r, err := parquetfile.Open(path)
	if err != nil {
		return damaged(err)
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	rows, err := r.Read(parquetfile.ReadOptions{})
	if err != nil {
		return damaged(err)
	}
	from := make([]int, len(m.columns.Columns))
	for i, c := range m.columns.Columns {
		from[i] = -1
		if found := rows.Schema().FieldIndices(c.Name); len(found) == 1 {
			from[i] = found[0]
		}
	}
	for limit > 0 {
		if err := ctx.Err(); err != nil {
			return err
		}
		rec, err := rows.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return damaged(err)
		}
		m.addRecord(rec, from, min(limit, rec.NumRows()), fates, sums)
		limit -= rec.NumRows()
		rec.Release()
	}
	return nil
}

// addRecord adds the first rows of a record to the digests.
func (m *merge) addRecord(rec arrow.Record, from []int, rows int64, fates []uint8, sums *[2]digest) {
	columns := make([]arrow.Array, len(from))
	numbers := -1
	for i, k := range from {
		if k >= 0 {
			columns[i] = rec.Column(k)
		}
		if m.columns.Columns[i].Name == schemas.ColRow {
			numbers = i
		}
	}
	order, ok := columns[numbers].(*array.Int64)
	if !ok {
		return // its absence was found when the parts were opened; no row then matches
	}
	var text []byte
	var one big.Int
	for row := range int(rows) {
		n := order.Value(row)
		if n < 0 || n >= int64(len(fates)) || fates[n] == 0 {
			continue
		}
		text = text[:0]
		for i, c := range m.columns.Columns {
			text = m.appendCell(text, c, columns[i], row, fates[n])
		}
		sum := md5.Sum(text)
		one.SetUint64(binary.LittleEndian.Uint64(sum[8:]))
		for i := range sums {
			if i == 0 || fates[n]&fateWins != 0 {
				sums[i].rows++
				sums[i].sum.Add(&sums[i].sum, &one)
			}
		}
	}
}

// appendCell spells one value of a stored row.
func (m *merge) appendCell(b []byte, c schemas.Column, a arrow.Array, row int, fate uint8) []byte {
	text := func(s string) []byte {
		b = append(strconv.AppendInt(b, int64(len(s)), 10), ':')
		return append(b, s...)
	}
	switch c.Name {
	case schemas.ColRunID:
		return text(m.pkg.RunID)
	case schemas.ColPackage:
		return append(strconv.AppendInt(b, m.pkg.Serial, 10), ';')
	case schemas.ColChange:
		switch {
		case fate&fateDeleted != 0:
			return text("delete")
		case fate&fateKnown != 0:
			return text("update")
		default:
			return text("insert")
		}
	}
	if a == nil || a.IsNull(row) {
		return append(b, '~')
	}
	switch a := a.(type) {
	case *array.String:
		return text(a.Value(row))
	case *array.Int64:
		return append(strconv.AppendInt(b, a.Value(row), 10), ';')
	case *array.Timestamp:
		return append(strconv.AppendInt(b, int64(a.Value(row)), 10), ';')
	case *array.Date32:
		return append(strconv.AppendInt(b, int64(a.Value(row)), 10), ';')
	case *array.Boolean:
		if a.Value(row) {
			return append(b, 't')
		}
		return append(b, 'f')
	case *array.Float64:
		return fmt.Appendf(b, "%064b", math.Float64bits(a.Value(row)))
	default:
		return append(b, '?') // no column has such a type; the sums differ
	}
}
