package parquetfile

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
)

// Survey reads the file at path, gives every record to each, which may be nil,
// and returns the Stats of what it read: with them, Verify compares what the
// second implementation reads. bytes and sum are what the file is known to
// have; Survey does not look at them. The record is valid during the call.
func Survey(ctx context.Context, path string, bytes int64, sum string, each func(arrow.Record) error) (stats Stats, err error) {
	r, err := Open(path)
	if err != nil {
		return Stats{}, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	records, err := r.Read(ReadOptions{})
	if err != nil {
		return Stats{}, err
	}
	s := &survey{schema: r.schema, sizes: r.groups, columns: make([]digester, r.schema.NumFields())}
	s.skipEmpty()
	for {
		if err := ctx.Err(); err != nil {
			return Stats{}, fmt.Errorf("read %s: %w", path, err)
		}
		rec, err := records.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return Stats{}, err
		}
		err = s.add(rec)
		if err == nil && each != nil {
			err = each(rec)
		}
		rec.Release()
		if err != nil {
			return Stats{}, err
		}
	}
	return Stats{Rows: r.rows, Bytes: bytes, SHA256: sum, Columns: summarize(s.schema, s.groups), schema: s.schema, groups: s.groups}, nil
}

// survey digests a file as its records come.
type survey struct {
	schema  *arrow.Schema
	sizes   []int64 // rows of each row group
	groups  []groupStats
	rows    int64 // of the row group at hand
	columns []digester
}

// add digests the next record, which never spans two row groups.
func (s *survey) add(rec arrow.Record) error {
	if s.rows == 0 {
		for i, f := range s.schema.Fields() {
			s.columns[i].reset(f.Type)
		}
	}
	for i, c := range rec.Columns() {
		d := &s.columns[i]
		if err := d.array(c); err != nil {
			return err
		}
		// Its bounds may lie in the record's memory.
		d.span.min.s, d.span.max.s = strings.Clone(d.span.min.s), strings.Clone(d.span.max.s)
	}
	s.rows += rec.NumRows()
	if s.rows == s.sizes[len(s.groups)] {
		s.endGroup()
		s.skipEmpty()
	}
	return nil
}

func (s *survey) endGroup() {
	g := groupStats{rows: s.rows, columns: make([]columnDigest, len(s.columns))}
	for i := range s.columns {
		g.columns[i] = s.columns[i].sum()
	}
	s.groups, s.rows = append(s.groups, g), 0
}

// skipEmpty passes over row groups without rows, of which no record comes.
func (s *survey) skipEmpty() {
	for len(s.groups) < len(s.sizes) && s.sizes[len(s.groups)] == 0 {
		for i, f := range s.schema.Fields() {
			s.columns[i].reset(f.Type)
		}
		s.endGroup()
	}
}
