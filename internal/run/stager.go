package run

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

// sealBytes bounds a part's memory where contacts are large: 131,072 contacts
// of the usual size take about a third of it.
const sealBytes = 256 << 20

// stager is the sink of one walk: it turns accepted pages into sealed parts. A
// stretch is journalled only with the part that holds every row of it.
type stager struct {
	*staging
	chunk     *transform.Chunk
	stretches extract.Stretches
	from      int64              // where the window being read starts
	opened    time.Time          // when the chunk took its first row
	ties      []extract.TieBlock // drained since the last part
	refused   bool               // the chunk could not be sealed
	refusal   error              // the contract has no place for what it holds
	info      extract.PageInfo
	rows      []extract.Row
	page      []byte // as served, where its contacts are to be enriched
}

var (
	_ extract.WindowSink   = (*stager)(nil)
	_ extract.EvidenceSink = (*stager)(nil)
)

func (s *staging) stager() *stager {
	return &stager{staging: s, chunk: transform.NewChunk(s.decoding)}
}

// Window implements extract.WindowSink.
func (s *stager) Window(iv extract.Interval) error {
	s.stretches.Window(iv)
	s.from = iv.From
	return nil
}

// Decode implements extract.Sink.
func (s *stager) Decode(body []byte, info extract.PageInfo) ([]extract.Row, error) {
	rows, err := s.chunk.Decode(body)
	switch {
	case errors.Is(err, transform.ErrBadPage):
		return nil, fmt.Errorf("%w: %w", extract.ErrBadPage, err)
	case err != nil:
		return nil, fmt.Errorf("decode page: %w", err)
	}
	s.rows = s.rows[:0]
	for i := range rows {
		s.rows = append(s.rows, extract.Row(rows[i]))
	}
	s.info = info
	if s.enrich != nil {
		s.page = append(s.page[:0], body...)
	}
	return s.rows, nil
}

// Stage implements extract.Sink.
func (s *stager) Stage(ctx context.Context, skip []bool) error {
	if s.chunk.Rows() == 0 {
		s.opened = s.clock.Now()
	}
	at := s.info.ReceivedAt
	if at.Before(s.began) {
		at = s.began
	}
	if err := s.sameAccount(s.chunk.ClientIDs()); err != nil {
		return err
	}
	kept, err := s.keep(ctx, skip, transform.Meta{ExtractedAt: at, FirstRow: s.numberRows(len(s.rows)), Request: s.info.Request})
	if err != nil {
		return err
	}
	s.keptPage(len(s.rows), kept)
	full := s.chunk.Rows() >= s.sealRows || s.chunk.Bytes() >= sealBytes
	if full || s.clock.Now().Sub(s.opened) >= s.sealAfter {
		return s.seal(ctx)
	}
	return nil
}

// keep moves the rows of the page into the chunk.
func (s *stager) keep(ctx context.Context, skip []bool, m transform.Meta) (int, error) {
	if s.enrich == nil {
		return s.chunk.Keep(skip, m), nil
	}
	return s.enrich.keep(ctx, s.chunk, s.page, skip, m)
}

// Advance implements extract.Sink.
func (s *stager) Advance(_ context.Context, p extract.Progress) error {
	s.stretches.Advance(p)
	s.advanced(s.from, p)
	return nil
}

// Tied implements extract.EvidenceSink.
func (s *stager) Tied(t extract.TieBlock) { s.ties = append(s.ties, t) }

// Dropped implements extract.EvidenceSink.
func (s *stager) Dropped(rows int64) { s.dropped(rows) }

// seal makes what the chunk holds a part, with the stretches it completes.
func (s *stager) seal(ctx context.Context) error {
	if s.refused {
		return nil // it has been said
	}
	sealed, err := s.chunk.Seal(s.registry, s.runID, memory.DefaultAllocator)
	if err != nil {
		s.refused = true
		err = fmt.Errorf("seal part: %w", err)
		var frozen *schemas.FreezeError
		if errors.As(err, &frozen) {
			s.refusal = err // windows that are read at once may each have one
		}
		return err
	}
	defer sealed.Record.Release()
	covered := s.stretches.Seal()
	if sealed.Record.NumRows() == 0 && len(sealed.Rejects) == 0 && len(covered) == 0 && len(s.ties) == 0 {
		return nil
	}
	ties := s.ties
	s.ties = nil
	return s.add(ctx, sealed, covered, ties)
}
