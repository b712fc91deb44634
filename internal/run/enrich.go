package run

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

const (
	// enrichedPage is the most contacts of a page where each is asked for by
	// itself: what a kill throws away, besides the unsealed pages, is the page
	// whose contacts are being asked for.
	enrichedPage = 200
	// enrichedBytes bounds the answers that are held before they are decoded,
	// but for those of requests under way.
	enrichedBytes = 32 << 20
	// enrichedTell is how many contacts are asked for between two events.
	enrichedTell = 50
)

// Enriched counts the contacts that a run asked the info endpoint for.
type Enriched struct {
	Fetched  int64 `json:"fetched"`  // stored with what it has more
	Missing  int64 `json:"missing"`  // 404: stored as the list has them
	Unusable int64 `json:"unusable"` // answered with something that cannot be used: stored as the list has them
	// Failed got no answer, however often they were asked for: stored as the list
	// has them, and asked for again by the next run. Again are those of them that
	// had failed before.
	Failed int64 `json:"failed,omitempty"`
	Again  int64 `json:"failed_again,omitempty"`
}

func (e Enriched) total() int64 { return e.Fetched + e.Missing + e.Unusable + e.Failed }

func (e Enriched) plus(n Enriched) Enriched {
	return Enriched{
		Fetched: e.Fetched + n.Fetched, Missing: e.Missing + n.Missing, Unusable: e.Unusable + n.Unusable,
		Failed: e.Failed + n.Failed, Again: e.Again + n.Again,
	}
}

func (e Enriched) since(before Enriched) Enriched {
	return e.plus(Enriched{-before.Fetched, -before.Missing, -before.Unusable, -before.Failed, -before.Again})
}

// EnrichError says that the info endpoint did not tell what `enrich: info` asks
// it for. What was staged before is kept for the next run.
type EnrichError struct {
	Refused bool // the key may not read it
	// Failed of the Asked contacts got no answer, more than a run puts up with; 0
	// where it is about one contact.
	Failed, Asked int64
	Err           error // the last one's
}

func (e *EnrichError) Error() string {
	if e.Failed > 0 {
		return fmt.Sprintf("read contacts by the info endpoint: no answer for %d of %d, the last: %s", e.Failed, e.Asked, e.Err.Error())
	}
	return "read contacts by the info endpoint: " + e.Err.Error()
}

func (e *EnrichError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *EnrichError) Hint() string {
	if e.Refused {
		return "the key reads the list of contacts and not single ones: give it that right, or leave enrich: info out of the pipeline"
	}
	if e.Failed > 0 {
		return "the endpoint is down, or too slow: run again later, it goes on from what was read so far, or leave enrich: info out of the pipeline"
	}
	return "run again: it goes on from what was read so far"
}

// enricher adds to the contacts of a page what the info endpoint has more of
// them. It is shared by the walks of a run.
type enricher struct {
	client   *extract.Client
	rules    infoRules
	decoding transform.Options
	idKey    string // the member that is the contact's id
	workers  int
	// answered is told of each contact that the endpoint had an answer for,
	// failed of one that got none and why: with an error of it the walk ends. Both
	// are called from any goroutine. failed is nil where such a contact is an error
	// by itself.
	answered func(askedFor, Enriched) error
	failed   func(askedFor, error) error
}

// askedFor is a contact of the list to ask for.
type askedFor struct {
	id      string // empty: not to be asked for
	created int64  // microseconds
}

// newEnricher returns nil where the job takes contacts as the list has them. Its
// answered does nothing.
func (r *syncRun) newEnricher() *enricher {
	if !r.job.Enrich {
		return nil
	}
	return newEnricher(r.client, r.decoding(), cmp.Or(r.job.Source.Concurrency, defaultWorkers))
}

func newEnricher(client *extract.Client, decoding transform.Options, workers int) *enricher {
	e := &enricher{
		client: client, rules: newInfoRules(decoding.Contract), decoding: decoding, idKey: schemas.ColID, workers: workers,
		answered: func(askedFor, Enriched) error { return nil },
	}
	for _, col := range decoding.Contract.Columns {
		if col.Name == schemas.ColID {
			e.idKey = col.Ref.Key
		}
	}
	return e
}

// keep is chunk.Keep of the page that the chunk has decoded last, with the
// contacts enriched that are kept. On an error some of the page's rows may be
// in the chunk: they are rows like others, and their mark has not moved.
func (e *enricher) keep(ctx context.Context, chunk *transform.Chunk, page []byte, skip []bool, m transform.Meta) (kept int, err error) {
	records, err := recordsOf(page)
	if err != nil {
		return 0, fmt.Errorf("take page apart: %w", err)
	}
	asked, err := e.choose(records, skip)
	if err != nil {
		return 0, err
	}
	for from := 0; from < len(records) || from == 0; {
		until, err := e.fetch(ctx, records, asked, from)
		if err != nil {
			return kept, err
		}
		// What stands before from has been kept: empty objects hold its place, so
		// that a record which is set aside is found where it stood.
		out, skipped := make([][]byte, until), make([]bool, until)
		for i := range out {
			out[i], skipped[i] = records[i], i < len(skip) && skip[i]
			if i < from {
				out[i], skipped[i] = []byte("{}"), true
			}
		}
		if _, err := chunk.Decode(pageOf(out)); err != nil {
			return kept, fmt.Errorf("decode enriched page: %w", err)
		}
		slice := m
		slice.FirstRow += int64(kept)
		kept += chunk.Keep(skipped, slice)
		clear(records[from:until])
		if from = until; from == 0 {
			break // an empty page
		}
	}
	return kept, nil
}

func pageOf(records [][]byte) []byte {
	return append(append([]byte{'['}, bytes.Join(records, []byte{','})...), ']')
}

// choose returns the contacts to ask for, without those of rows that are not
// kept: skipped, set aside, or outside the filters. A filter by a custom field is
// no reason: the info endpoint may be where the field stands.
func (e *enricher) choose(records []json.RawMessage, skip []bool) ([]askedFor, error) {
	o := e.decoding
	o.Filter, o.Bury, o.BuryField = o.Bury, nil, nil
	passing := transform.NewChunk(o)
	asked := make([]askedFor, len(records))
	for i, record := range records {
		if i < len(skip) && skip[i] {
			continue
		}
		rows, err := passing.Decode(pageOf([][]byte{record}))
		if err != nil {
			return nil, fmt.Errorf("decode record: %w", err)
		}
		created := rows[0].Created // of one row, which the next page replaces
		if passing.Keep(nil, transform.Meta{}) == 0 {
			continue
		}
		members, err := membersOf(record)
		if err != nil {
			return nil, fmt.Errorf("read record: %w", err)
		}
		if k := find(members, e.idKey); k >= 0 {
			asked[i] = askedFor{stringOf(members[k].value), created}
		}
	}
	return asked, nil
}

// fetch enriches records from one on, until all are done or so many bytes are
// held that they should be decoded first, and returns where it came to.
func (e *enricher) fetch(ctx context.Context, records []json.RawMessage, asked []askedFor, from int) (until int, err error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var (
		all   sync.WaitGroup
		mu    sync.Mutex
		held  int
		first error
	)
	until = from
	next := func() (i int, ok bool) {
		mu.Lock()
		defer mu.Unlock()
		if first != nil || held > enrichedBytes {
			return 0, false
		}
		for until < len(asked) && asked[until].id == "" {
			until++
		}
		if until == len(asked) {
			return 0, false
		}
		until++
		return until - 1, true
	}
	for range e.workers {
		all.Go(func() {
			o := e.decoding
			o.Filter, o.Bury, o.BuryField = nil, nil, nil
			checker := transform.NewChunk(o)
			for i, ok := next(); ok; i, ok = next() {
				record, err := e.one(ctx, checker, records[i], asked[i])
				mu.Lock()
				if err != nil && first == nil {
					first = err
					stop()
				}
				records[i] = record
				held += len(record)
				mu.Unlock()
			}
		})
	}
	all.Wait()
	return until, first
}

// one returns a record with what the info endpoint has more of it.
func (e *enricher) one(ctx context.Context, checker *transform.Chunk, record []byte, c askedFor) ([]byte, error) {
	served, found, err := e.client.Contact(ctx, c.id)
	var (
		other   *extract.WrongContactError
		denied  *extract.ForbiddenError
		unknown *extract.UnauthorizedError
	)
	switch {
	case errors.As(err, &other): // merged into another one, it may be
		return record, e.answered(c, Enriched{Unusable: 1})
	case err != nil && e.failed != nil && ctx.Err() == nil && noAnswer(err):
		return record, e.failed(c, err)
	case err != nil:
		return record, &EnrichError{Refused: errors.As(err, &denied) || errors.As(err, &unknown), Err: err}
	case !found:
		return record, e.answered(c, Enriched{Missing: 1})
	}
	joined, err := e.rules.join(record, served)
	if err != nil || !same(checker, record, joined) {
		// A contact is not set aside for what the list does not serve.
		return record, e.answered(c, Enriched{Unusable: 1})
	}
	return joined, e.answered(c, Enriched{Fetched: 1})
}

// same reports whether the decoder takes a joined record, and for the contact
// and version that the list's is.
func same(checker *transform.Chunk, record, joined []byte) bool {
	rows, err := checker.Decode(pageOf([][]byte{record, joined}))
	if err != nil || len(rows) != 2 {
		return false
	}
	a, b := rows[0], rows[1]
	if a.ID != b.ID || a.Created != b.Created || a.Updated != b.Updated {
		return false
	}
	// Rejected records are not counted as kept. The checker forgets the rows
	// that it does not keep, and it keeps one a contact at most.
	return checker.Keep([]bool{true, false}, transform.Meta{}) == 1
}

// noteEnriched counts contacts asked for, and now and then says how many.
func (s *staging) noteEnriched(n Enriched) {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := &s.counts.Info
	*c = c.plus(n)
	if c.total()%enrichedTell == 0 {
		s.emit(Event{Type: "progress", Phase: s.phase, Mark: s.lastMark, Contacts: s.counts.Rows, Pages: s.counts.Pages, Asked: c.copied()})
	}
}

// copied is nil where nothing was asked for.
func (e Enriched) copied() *Enriched {
	if e.total() == 0 {
		return nil
	}
	return &e
}
