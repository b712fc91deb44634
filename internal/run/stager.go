package run

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

// sealBytes bounds a part's memory where contacts are large: 131,072 contacts
// of the usual size take about a third of it.
const sealBytes = 256 << 20

// counts are what a run has done so far; they survive a kill with the journal.
type counts struct {
	Rows       int64 `json:"rows"` // staged, duplicates not counted
	Pages      int64 `json:"pages"`
	Requests   int64 `json:"requests"`
	Retries    int64 `json:"retries"`
	Rejects    int64 `json:"rejects"`
	Duplicates int64 `json:"duplicates"`
}

// stager is the extract.Sink of one run: it turns accepted pages into sealed
// parts. A mark is journalled only with the part that holds every row up to it.
type stager struct {
	dir        string // run directory
	quarantine string // file name prefix for records set aside
	runID      string
	chunk      *transform.Chunk
	registry   *schemas.Registry
	journal    *journal
	clock      clock.Clock
	verify     load.Verify
	sealRows   int
	sealAfter  time.Duration
	fs         atomicfile.FS

	phase    string
	progress *progressRecord // covered by staged rows
	parts    []partRecord
	counts   counts
	nextRow  int64
	// readSince is the earliest moment at which rows of this run were read; it is
	// kept over a kill.
	readSince  *time.Time
	opened     time.Time // when the chunk took its first row
	info       extract.PageInfo
	rows       []extract.Row
	clients    map[string]bool
	known      map[schemas.FieldRef]schemas.RegistryEntry // journalled
	observe    func(*stager)
	sealedPart func(partRecord)
	account    func() // brings counts up to date with the client's
}

var _ extract.Sink = (*stager)(nil)

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
	return s.rows, nil
}

// Stage implements extract.Sink.
func (s *stager) Stage(ctx context.Context, skip []bool) error {
	if s.chunk.Rows() == 0 {
		s.opened = s.clock.Now()
	}
	kept := s.chunk.Keep(skip, transform.Meta{ExtractedAt: s.info.ReceivedAt, FirstRow: s.nextRow, Request: s.info.Request})
	s.nextRow += int64(kept)
	s.counts.Rows += int64(kept)
	s.counts.Duplicates += int64(len(s.rows) - kept)
	s.counts.Pages++
	for _, id := range s.chunk.ClientIDs() {
		s.clients[id] = true
	}
	full := s.chunk.Rows() >= s.sealRows || s.chunk.Bytes() >= sealBytes
	if full || s.clock.Now().Sub(s.opened) >= s.sealAfter {
		return s.seal(ctx)
	}
	return nil
}

// Advance implements extract.Sink.
func (s *stager) Advance(_ context.Context, p extract.Progress) error {
	s.progress = &progressRecord{Mark: time.UnixMicro(p.Mark).UTC(), Final: time.UnixMicro(p.Final).UTC()}
	s.noteRead(p)
	if s.observe != nil {
		s.observe(s)
	}
	return nil
}

func (s *stager) noteRead(p extract.Progress) {
	if p.ReadSince == 0 {
		return
	}
	if at := time.UnixMicro(p.ReadSince).UTC(); s.readSince == nil || at.Before(*s.readSince) {
		s.readSince = &at
	}
}

// seal writes what the chunk holds as a part and journals it with the
// progress that it completes.
func (s *stager) seal(ctx context.Context) error {
	if s.chunk.Rows() == 0 {
		return nil
	}
	s.account()
	sealed, err := s.chunk.Seal(s.registry, s.runID, memory.DefaultAllocator)
	if err != nil {
		return fmt.Errorf("seal part: %w", err)
	}
	defer sealed.Record.Release()
	n := len(s.parts) + 1
	if err := s.setAside(n, sealed.Rejects); err != nil {
		return err
	}
	part := partRecord{
		File: fmt.Sprintf("part-%04d.parquet", n), Rows: sealed.Record.NumRows(),
		Phase: s.phase, Progress: s.progress, ReadSince: s.readSince, NextRow: s.nextRow,
		Misfits: sealed.Misfits, Rejects: int64(len(sealed.Rejects)), Counts: s.counts,
	}
	s.counts.Rejects += part.Rejects
	part.Counts.Rejects = s.counts.Rejects
	for id := range s.clients {
		part.Clients = append(part.Clients, id)
	}
	if part.Rows > 0 {
		stats, err := s.write(ctx, part.File, sealed)
		if err != nil {
			return fmt.Errorf("write part %s: %w", part.File, err)
		}
		part.Bytes, part.SHA256 = stats.Bytes, stats.SHA256
	} else {
		part.File = ""
	}
	for _, e := range s.registry.Entries() {
		if s.known[e.Ref()] != e {
			part.Columns = append(part.Columns, e)
			s.known[e.Ref()] = e
		}
	}
	if err := s.journal.append(record{Part: &part}); err != nil {
		return err
	}
	s.parts = append(s.parts, part)
	s.sealedPart(part)
	return nil
}

// write makes one part file, read back before it is published.
func (s *stager) write(ctx context.Context, name string, sealed *transform.Sealed) (parquetfile.Stats, error) {
	path := filepath.Join(s.dir, name)
	w, err := parquetfile.Create(path, parquetfile.Options{Schema: sealed.Record.Schema(), FS: s.fs})
	if err != nil {
		return parquetfile.Stats{}, err
	}
	defer w.Abort()
	if err := w.Write(sealed.Record); err != nil {
		return parquetfile.Stats{}, err
	}
	stats, err := w.Finish()
	if err != nil {
		return parquetfile.Stats{}, err
	}
	if err := parquetfile.Verify(ctx, w.TempPath(), stats, parquetfile.Mode(s.verify)); err != nil {
		return parquetfile.Stats{}, err
	}
	return stats, w.Publish()
}

// quarantined is a record set aside, as its file has it, one object a line.
type quarantined struct {
	RunID    string `json:"run_id"`
	Reason   string `json:"reason"`
	ID       string `json:"id,omitempty"`
	Request  string `json:"request"`
	Position int    `json:"position"`
	Raw      string `json:"raw"`
}

// setAside keeps rejected records where the next run does not touch them.
func (s *stager) setAside(part int, rejects []transform.Reject) error {
	if len(rejects) == 0 {
		return nil
	}
	var out []byte
	for _, r := range rejects {
		line, err := json.Marshal(quarantined{
			RunID: s.runID, Reason: r.Reason, ID: r.ID, Request: r.Request, Position: r.Position, Raw: string(r.Raw),
		})
		if err != nil {
			return fmt.Errorf("write quarantine: %w", err)
		}
		out = append(append(out, line...), '\n')
	}
	path := fmt.Sprintf("%s-%04d.ndjson", s.quarantine, part)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return fmt.Errorf("write quarantine: %w", err)
	}
	if err := atomicfile.WriteFileOn(s.fs, path, out, 0o600); err != nil {
		return fmt.Errorf("write quarantine: %w", err)
	}
	return nil
}
