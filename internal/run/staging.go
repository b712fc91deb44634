package run

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

// counts are what a run has done so far; they survive a kill with the journal.
type counts struct {
	Rows     int64 `json:"rows"` // staged, duplicates not counted
	Pages    int64 `json:"pages"`
	Requests int64 `json:"requests"`
	Retries  int64 `json:"retries"`
	Rejects  int64 `json:"rejects"`
	// Info are the contacts that the info endpoint was asked for.
	Info Enriched `json:"info,omitzero"`
	// RetriesBy are the retries by what had failed.
	RetriesBy map[extract.Cause]int64 `json:"retries_by,omitempty"`
	// Duplicates are rows not staged, as they had been, byte for byte.
	Duplicates int64 `json:"duplicates,omitempty"`
}

// staging is what the stagers of one run share: its directory, journal and
// registry, and the account of what has been done. Its methods may be called
// from all of them at once.
type staging struct {
	metadata  map[string]string // of the parts
	dir       string            // run directory
	aside     *aside
	runID     string
	decoding  transform.Options
	registry  *schemas.Registry
	clock     clock.Clock
	verify    load.Verify
	sealRows  int // of one stager's part
	sealAfter time.Duration
	fs        atomicfile.FS
	stats     func() extract.Stats // of the client of this process
	before    counts               // by earlier processes of this run
	// began is when the last run ended: what is read now was read later, also
	// where the machine's clock has been set back since, for the order of
	// versions goes by that time.
	began time.Time
	// account refuses client ids that belong to another account.
	account func(clientIDs []string) error
	enrich  *enricher // nil: contacts are taken as the list has them
	info    *infoLog  // with enrich alone

	mu      sync.Mutex
	journal *journal
	phase   string
	walked  []extract.Interval // of the phase, by marks
	begin   int64              // where the phase's rows begin
	fixed   bool               // begin is given, not found
	parts   []partRecord
	numbers int // parts begun, journalled or not
	counts  counts
	seen    int64 // rows of the pages of this process, staged or not
	looks   bool  // at rows rather than staging them: they are what is shown
	// lastMark is where the last progress was, as events have it.
	lastMark string
	nextRow  int64
	// readSince is the earliest moment at which rows of this run were read; it
	// is kept over a kill.
	readSince *time.Time
	clients   map[string]bool
	known     map[schemas.FieldRef]schemas.RegistryEntry // journalled
	emit      func(Event)
}

// numberRows reserves _sluice_row numbers for up to n rows.
func (s *staging) numberRows(n int) int64 {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := s.nextRow
	s.nextRow += int64(n)
	return first
}

// sameAccount notes the client ids of a page before its rows are kept, and
// fails where they are another account's.
func (s *staging) sameAccount(clientIDs []string) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, id := range clientIDs {
		s.clients[id] = true
	}
	return s.account(slices.Sorted(maps.Keys(s.clients)))
}

// keptPage accounts for a page: rows seen, of which kept were staged.
func (s *staging) keptPage(rows, kept int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.seen += int64(rows)
	s.counts.Rows += int64(kept)
	s.counts.Pages++
}

// dropped accounts for rows that had been staged before.
func (s *staging) dropped(rows int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Duplicates += rows
}

// advanced notes and shows how far the walk of a window that starts at from
// has come. Where several windows are read at once, the mark shown is where
// one walk over as much time would be.
func (s *staging) advanced(from int64, p extract.Progress) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.noteRead(p.ReadSince)
	s.update()
	ev := Event{Type: "progress", Phase: s.phase, Contacts: s.counts.Rows, Pages: s.counts.Pages}
	if s.looks {
		ev.Contacts = s.seen
	}
	if s.phase != phaseRecent { // which comes nowhere along a timestamp
		ev.Mark = time.UnixMicro(s.reached(from, p.Mark)).UTC().Format(time.RFC3339Nano)
	}
	s.lastMark, ev.Asked = ev.Mark, s.counts.Info.copied()
	s.emit(ev)
}

// reached adds the stretch from from to mark to what has been walked, and
// returns where one walk over as much time would be; mu is held.
func (s *staging) reached(from, mark int64) int64 {
	if len(s.walked) == 0 && !s.fixed {
		s.begin = max(from, mark)
	}
	s.walked = extract.MergeIntervals(append(s.walked, extract.Interval{From: from, Until: mark}))
	at := s.begin
	for _, iv := range s.walked {
		at += max(iv.Until-max(iv.From, s.begin), 0)
	}
	return at
}

// begins starts a phase.
func (s *staging) begins(phase string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase, s.walked, s.begin, s.fixed, s.lastMark = phase, nil, 0, false, ""
}

// beginsAt starts a phase over a range that is known, and of which something
// may have been read before.
func (s *staging) beginsAt(phase string, from int64, covered []extract.Interval) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.phase, s.walked, s.begin, s.fixed, s.lastMark = phase, covered, from, true, ""
}

// share divides a part's rows among the stagers that work at once.
func (s *staging) share(workers int) {
	s.sealRows = max(s.sealRows/workers, min(s.sealRows, leastSealRows))
}

// tell emits an event while windows are being read.
func (s *staging) tell(ev Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.emit(ev)
}

// noteRead keeps the earliest of the given moments; mu is held.
func (s *staging) noteRead(since int64) {
	if since == 0 {
		return
	}
	if at := time.UnixMicro(since).UTC(); s.readSince == nil || at.Before(*s.readSince) {
		s.readSince = &at
	}
}

// update brings the counts up to date with the client's; mu is held.
func (s *staging) update() {
	stats := s.stats()
	s.counts.Requests = s.before.Requests + stats.Requests
	s.counts.Retries = s.before.Retries + stats.TotalRetries()
	s.counts.RetriesBy = maps.Clone(s.before.RetriesBy)
	for cause, n := range stats.Retries {
		if s.counts.RetriesBy == nil {
			s.counts.RetriesBy = map[extract.Cause]int64{}
		}
		s.counts.RetriesBy[cause] += n
	}
}

// totals returns the counts as of now.
func (s *staging) totals() counts {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.update()
	return s.counts
}

// nobodyPasses reports whether rows were read and none of them passes the
// filters.
func (s *staging) nobodyPasses() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	var rows, outside int64
	for _, p := range s.parts {
		rows += p.Rows
		outside += p.Outside
	}
	return rows > 0 && rows == outside
}

// covered returns the stretches of a phase that durable parts hold.
func (s *staging) covered(phase string) []extract.Interval {
	s.mu.Lock()
	defer s.mu.Unlock()
	var ivs []extract.Interval
	for _, p := range s.parts {
		if p.Phase == phase {
			ivs = append(ivs, p.Covered...)
		}
	}
	return extract.MergeIntervals(ivs)
}

// tiesOf returns the ties of a phase, those that earlier processes drained
// included, in order.
func (s *staging) tiesOf(phase string) []extract.TieBlock {
	s.mu.Lock()
	defer s.mu.Unlock()
	ties := []extract.TieBlock{}
	for _, p := range s.parts {
		if p.Phase == phase {
			ties = append(ties, p.Ties...)
		}
	}
	slices.SortStableFunc(ties, func(a, b extract.TieBlock) int { return cmp.Compare(a.At, b.At) })
	return ties
}

// add makes a part durable with the stretches it completes, and journals it.
func (s *staging) add(ctx context.Context, sealed *transform.Sealed, covered []extract.Interval, ties []extract.TieBlock) error {
	s.mu.Lock()
	s.numbers++
	n := s.numbers
	rejects := slices.DeleteFunc(sealed.Rejects, s.aside.before)
	s.mu.Unlock()
	if err := s.aside.keep(s.runID, n, rejects); err != nil {
		return err
	}
	part := partRecord{
		Rows: sealed.Record.NumRows(), Covered: covered, Ties: ties, Rejects: int64(len(rejects)), Reasons: reasonsOf(rejects), Outside: sealed.Buried,
		Misfits: sealed.Misfits, Discarded: sealed.Discarded, LeftOut: sealed.LeftOut, Sightings: sealed.Sightings, ReadAt: s.now(),
	}
	if part.Rows > 0 {
		part.File = fmt.Sprintf("part-%04d.parquet", n)
		stats, err := s.write(ctx, part.File, sealed.Record.Schema(), func(w *parquetfile.Writer) error { return w.Write(sealed.Record) })
		if err != nil {
			return fmt.Errorf("write part %s: %w", part.File, err)
		}
		part.Bytes, part.SHA256 = stats.Bytes, stats.SHA256
	}
	if err := s.journalPart(part); err != nil {
		return err
	}
	return s.checkAside(false)
}

// checkAside fails where more was set aside than the pipeline allows.
func (s *staging) checkAside(end bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.aside.check(s.counts, s.parts, end)
}

// now is the time, and never before the last run ended.
func (s *staging) now() time.Time {
	if now := s.clock.Now().UTC(); now.After(s.began) {
		return now
	}
	return s.began.UTC()
}

// addWritten is add of a part whose records rows writes; none of them is one
// that the walk has read.
func (s *staging) addWritten(ctx context.Context, schema *arrow.Schema, rows func(*parquetfile.Writer) error) error {
	s.mu.Lock()
	s.numbers++
	part := partRecord{File: fmt.Sprintf("part-%04d.parquet", s.numbers)}
	s.mu.Unlock()
	stats, err := s.write(ctx, part.File, schema, rows)
	if err != nil {
		return fmt.Errorf("write part %s: %w", part.File, err)
	}
	part.Rows, part.Bytes, part.SHA256 = stats.Rows, stats.Bytes, stats.SHA256
	return s.journalPart(part)
}

// journalPart makes a durable part count.
func (s *staging) journalPart(part partRecord) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.counts.Rejects += part.Rejects
	s.update()
	part.Phase, part.ReadSince, part.NextRow, part.Counts, part.Info = s.phase, s.readSince, s.nextRow, s.counts, s.takeInfo()
	for id := range s.clients {
		part.Clients = append(part.Clients, id)
	}
	for _, e := range s.registry.Entries() {
		if !s.known[e.Ref()].Same(e) {
			part.Columns = append(part.Columns, e)
			s.known[e.Ref()] = e
		}
	}
	if err := s.journal.append(record{Part: &part}); err != nil {
		return err
	}
	s.parts = append(s.parts, part)
	s.emit(Event{Type: "part_sealed", Phase: s.phase, Contacts: s.counts.Rows, Pages: s.counts.Pages})
	return nil
}

// write makes one part file of the records that rows writes, read back before
// it is published.
func (s *staging) write(ctx context.Context, name string, schema *arrow.Schema, rows func(*parquetfile.Writer) error) (parquetfile.Stats, error) {
	path := filepath.Join(s.dir, name)
	w, err := parquetfile.Create(path, parquetfile.Options{Schema: schema, FS: s.fs, Metadata: s.metadata})
	if err != nil {
		return parquetfile.Stats{}, err
	}
	defer w.Abort()
	if err := rows(w); err != nil {
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
