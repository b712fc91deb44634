package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/zeebo/xxh3"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/transform"
)

// comparing is the sink of one walk of a whole comparison.
type comparing struct {
	*comparer
	chunk *transform.Chunk
	rest  *enricher // nil: contacts are compared as the list has them
	page  []byte
	info  extract.PageInfo
	out   []extract.Row
}

var _ extract.WindowSink = (*comparing)(nil)

func (c *comparer) comparing() *comparing {
	return &comparing{comparer: c, chunk: transform.NewChunk(c.r.decoding()), rest: c.r.newEnricher()}
}

// Decode implements extract.Sink.
func (s *comparing) Decode(body []byte, info extract.PageInfo) ([]extract.Row, error) {
	rows, err := s.chunk.Decode(body)
	switch {
	case errors.Is(err, transform.ErrBadPage):
		return nil, fmt.Errorf("%w: %w", extract.ErrBadPage, err)
	case err != nil:
		return nil, fmt.Errorf("decode page: %w", err)
	}
	s.out, s.info = s.out[:0], info
	if s.rest != nil {
		s.page = append(s.page[:0], body...)
	}
	for i := range rows {
		s.out = append(s.out, extract.Row(rows[i]))
	}
	return s.out, nil
}

// Stage implements extract.Sink.
func (s *comparing) Stage(ctx context.Context, skip []bool) error {
	m := transform.Meta{ExtractedAt: s.info.ReceivedAt, Request: s.info.Request}
	if s.rest == nil {
		s.chunk.Keep(skip, m)
	} else if _, err := s.rest.keep(ctx, s.chunk, s.page, skip, m); err != nil {
		return err
	}
	if s.chunk.Rows() < comparedRows {
		return nil
	}
	return s.look()
}

// look compares what has been decoded.
func (s *comparing) look() error {
	if s.chunk.Rows() == 0 {
		return nil
	}
	sealed, err := s.chunk.Seal(s.registry, "", memory.DefaultAllocator)
	if err != nil {
		return fmt.Errorf("decode rows: %w", err)
	}
	defer sealed.Record.Release()
	return s.meet(sealed.Record)
}

// Advance implements extract.Sink.
func (s *comparing) Advance(context.Context, extract.Progress) error { return nil }

// Window implements extract.WindowSink.
func (s *comparing) Window(extract.Interval) error { return nil }

// everything compares all contacts.
func (c *comparer) everything(ctx context.Context) error {
	if c.r.job.Sync == SyncRecent && c.r.job.DaysAlone {
		return &CannotCompareError{Pipeline: c.r.job.Pipeline}
	}
	err := c.list(ctx, func(_ string, r tableRow) {
		c.rows = append(c.rows, r)
		if !r.deleted {
			c.out.Checked++
		}
	})
	if err != nil {
		return err
	}
	c.sortRows()
	days, filters := c.r.job.narrowing()
	var sinks []*comparing
	s := &extract.Scan{
		Client: c.r.client, Key: extract.ByCreated, Remaining: []extract.Interval{{}},
		StopAt: c.began, Lookback: c.r.job.Lookback, PageSize: c.r.job.PageSize, Days: days, Filters: filters,
		Clock: c.r.Clock, Seed: uint64(c.began.UnixNano()), Workers: cmp.Or(c.r.job.Source.Concurrency, defaultWorkers), //nolint:gosec // any bits will do
		Sink: func(int) extract.WindowSink {
			sinks = append(sinks, c.comparing())
			return sinks[len(sinks)-1]
		},
	}
	if _, err := s.Run(ctx); err != nil {
		return err
	}
	for _, sink := range sinks {
		if err := sink.look(); err != nil {
			return err
		}
	}
	var absent []string
	err = c.list(ctx, func(id string, r tableRow) {
		if row := c.find(r.id); row != nil && !row.seen && !row.deleted {
			absent = append(absent, strings.Clone(id))
		}
	})
	if err != nil {
		return err
	}
	return c.absent(ctx, absent)
}

// sample compares some contacts, drawn by the seed.
func (c *comparer) sample(ctx context.Context) error {
	c.out.Seed = cmp.Or(c.how.Seed, xxh3.HashString(c.began.String())|1)
	ids, err := c.draw(ctx, cmp.Or(c.how.Sample, defaultSample))
	if err != nil {
		return err
	}
	c.out.Checked = int64(len(c.rows))
	sink := c.comparing()
	rows := slices.Clone(c.rows)
	slices.SortFunc(rows, func(a, b tableRow) int { return cmp.Compare(a.created, b.created) })
	var absent []string
	for _, row := range rows {
		found, err := c.lookUp(ctx, sink, row)
		if err != nil {
			return fmt.Errorf("look a contact up: %w", err)
		}
		if !found {
			absent = append(absent, ids[row.id])
		}
	}
	if err := sink.look(); err != nil {
		return err
	}
	return c.absent(ctx, absent)
}

// draw chooses n live contacts of the table and returns their ids.
func (c *comparer) draw(ctx context.Context, n int) (map[idKey]string, error) {
	lot := func(k idKey) uint64 { return xxh3.HashSeed(k[:], c.out.Seed) }
	type ticket struct {
		tableRow
		text string
	}
	var drawn []ticket
	var known []idKey
	byLot := func(a, b ticket) int { return cmp.Compare(lot(a.id), lot(b.id)) }
	err := c.list(ctx, func(id string, r tableRow) {
		known = append(known, r.id)
		if r.deleted || (len(drawn) >= 2*n && lot(r.id) > lot(drawn[n-1].id)) {
			return
		}
		drawn = append(drawn, ticket{r, strings.Clone(id)})
		if len(drawn) >= 4*n {
			slices.SortFunc(drawn, byLot)
			drawn = drawn[:2*n]
		}
	})
	if err != nil {
		return nil, err
	}
	slices.SortFunc(drawn, byLot)
	ids := map[idKey]string{}
	for _, t := range drawn[:min(n, len(drawn))] {
		c.rows = append(c.rows, t.tableRow)
		ids[t.id] = t.text
	}
	c.sortRows()
	c.known = newIDSet(known)
	return ids, nil
}

// lookUp reads the list from a contact's created_at on, until it comes or
// later ones do. The other contacts that it meets have to be in the table.
func (c *comparer) lookUp(ctx context.Context, sink *comparing, row tableRow) (found bool, err error) {
	const millisecond = 1000
	before := row.created - row.created%millisecond - millisecond
	limit := min(cmp.Or(c.r.job.PageSize, defaultSample), defaultSample)
	for offset := 0; ; {
		var rows []extract.Row
		q := extract.Query{CreatedAfter: &before, Limit: limit, Offset: offset}
		_, err := c.r.client.Page(ctx, q, func(body []byte, info extract.PageInfo) error {
			var err error
			rows, err = sink.Decode(body, info)
			return err
		})
		if err != nil {
			return false, err
		}
		skip, later := make([]bool, len(rows)), len(rows) == 0
		for i, r := range rows {
			skip[i] = r.ID != row.id || found
			found = found || r.ID == row.id
			later = later || r.Created > row.created
			c.neighbour(r)
		}
		if err := sink.Stage(ctx, skip); err != nil {
			return false, err
		}
		if found || later {
			return found, nil
		}
		offset += len(rows)
	}
}

// neighbour looks whether a contact that was met is in the table, where
// everything at the source should be.
func (c *comparer) neighbour(r extract.Row) {
	if r.Invalid || c.r.job.narrows() || c.known.has(r.ID) {
		return
	}
	i, _ := slices.BinarySearchFunc(c.known, r.ID, compareIDs)
	c.known = slices.Insert(c.known, i, r.ID) // counted once
	if r.Updated > c.r.st.Cursor.UnixMicro() {
		c.out.New++
	} else {
		c.out.Missing++
	}
}
