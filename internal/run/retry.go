package run

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/internal/quarantine"
	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

// Retry says which of the records set aside Engine.Retry takes up.
type Retry struct {
	Run string // those of one run; empty: all
}

// Retried is what a retry has found, in records.
type Retried struct {
	Records int64 `json:"records"` // taken up
	Passed  int64 `json:"passed"`  // rows now: committed, or queued for each destination
	Fetched int64 `json:"fetched"` // of Passed, as the source has the contact by now
	Kept    int64 `json:"kept"`    // that stay set aside
	// KeptBy are the Kept by reason.
	KeptBy map[string]int64 `json:"kept_by,omitempty"`
	// Unknown are those of Kept of which nothing is left to try: they were not
	// stored, and have no id to fetch them by.
	Unknown int64 `json:"unknown"`
}

// Retry makes rows of the records set aside that can be rows by now, and
// commits them as a package of their own. One that is stored is decoded again
// under the job's contract; where that fails, and one that is not stored, the
// contact is fetched again by its id. A record leaves the quarantine once every
// destination's queue has its row; what still fails stays, with the reason of
// today. It runs beside other runs of the pipeline, and a row that is older
// than the table's loses. It blocks until done or ctx ends; stopped before its
// package is made it changes nothing, and after it the same call ends in the
// same table.
func (e *Engine) Retry(ctx context.Context, job Job, o Retry) (Summary, error) {
	return e.start(ctx, &syncRun{job: job, kind: kindRetry, retry: &retry{o: o}})
}

// retry is what a retry was asked for and has found.
type retry struct {
	o     Retry
	found Retried
	// fates are those of the records taken up, by file and name: empty for one
	// that passed, else why it stays.
	fates map[string]map[string]string
}

// retryAside stages the records set aside that can be rows by now.
func (r *syncRun) retryAside(ctx context.Context, st *staging) error {
	r.retry.fates = map[string]map[string]string{}
	r.summary.Retried = &r.retry.found
	st.begins(phaseRetry)
	registry, err := schemas.NewRegistry(r.job.Contract, st.registry.Entries())
	if err != nil {
		return fmt.Errorf("restore column registry: %w", err)
	}
	x := &retrier{
		run: r, st: st, sink: st.stager(), now: st.began, registry: registry,
		chunk: transform.NewChunk(st.decoding), fetched: map[string]string{},
	}
	store := r.quarantine(r.job.Pipeline)
	files, err := store.Files()
	if err != nil {
		return err
	}
	for _, file := range files {
		records, err := store.Read(file)
		if err != nil {
			return err
		}
		for _, rec := range records {
			if r.retry.o.Run != "" && rec.RunID != r.retry.o.Run {
				continue
			}
			if err := x.one(ctx, file, rec); err != nil {
				return sealAll(ctx, []*stager{x.sink}, fmt.Errorf("retry record %s: %w", rec.Ref, err))
			}
		}
	}
	if err := sealAll(ctx, []*stager{x.sink}, nil); err != nil {
		return fmt.Errorf("retry records set aside: %w", err)
	}
	r.session.parts = st.parts
	return r.session.endPhase(phaseRecord{Phase: phaseRetry, Outcome: markedOutcome(r.retry.found.Passed), Counts: st.totals(), ReadSince: st.readSince})
}

// settle lets the records that passed leave the quarantine, and gives the
// others their reason of today. Killed on the way, the next retry takes the
// rest up again, and ends in the same table.
func (r *syncRun) settle() error {
	store := r.quarantine(r.job.Pipeline)
	now := r.Clock.Now().UTC()
	for file, fates := range r.retry.fates {
		err := store.Rewrite(file, func(rec *quarantine.Record) bool {
			why, taken := fates[rec.Ref]
			if !taken {
				return true
			}
			rec.Reason, rec.Tried = why, now
			return why != ""
		})
		if err != nil && !errors.Is(err, fs.ErrNotExist) { // somebody has removed the file meanwhile
			return fmt.Errorf("settle records set aside: %w", err)
		}
	}
	return nil
}

// endRetry seals what a retry has staged, if anything, and settles the rest.
func (r *syncRun) endRetry(ctx context.Context, registry *schemas.Registry) error {
	if r.session.rows() > 0 {
		if _, err := r.session.readIDs(ctx); err != nil {
			return err
		}
		if err := r.sealPackage(ctx, registry, nil); err != nil {
			return err
		}
	}
	return r.settle()
}

// retrier takes up one record after the other.
type retrier struct {
	run      *syncRun
	st       *staging
	sink     *stager
	now      time.Time         // no row is read before it, as in staging.began
	registry *schemas.Registry // as the stager's, for trying a record
	chunk    *transform.Chunk
	fetched  map[string]string // contacts asked for, as retry.fates
}

// one decides the fate of a record.
func (x *retrier) one(ctx context.Context, file string, rec quarantine.Record) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	found := &x.run.retry.found
	found.Records++
	why, fetched := rec.Reason, false
	if rec.Raw != "" {
		body := []byte("[" + rec.Raw + "]")
		if why = x.fault(body); why == "" {
			if err := x.stageRaw(ctx, body, rec); err != nil {
				return err
			}
		}
	}
	switch {
	case why == "":
	case rec.ID == "" || !plausibleID(rec.ID):
		if rec.Raw == "" {
			found.Unknown++
		}
	default:
		again, err := x.fetchOnce(ctx, rec.ID)
		if err != nil {
			return err
		}
		fetched = again == ""
		if fetched || rec.Raw == "" {
			why = again
		}
	}
	if x.run.retry.fates[file] == nil {
		x.run.retry.fates[file] = map[string]string{}
	}
	x.run.retry.fates[file][rec.Ref] = why
	switch {
	case why != "":
		found.Kept++
		if found.KeptBy == nil {
			found.KeptBy = map[string]int64{}
		}
		quarantine.Counts(found.KeptBy).Add(shortReason(why), 1)
	case fetched:
		found.Fetched++
		found.Passed++
	default:
		found.Passed++
	}
	x.st.tell(Event{Type: "progress", Phase: phaseRetry, Contacts: found.Records})
	return nil
}

// fault returns why a page of one record would not become a row, "" where it
// would. The record leaves no trace.
func (x *retrier) fault(body []byte) string {
	if _, err := x.chunk.Decode(body); err != nil {
		return "what is stored cannot be read: " + err.Error()
	}
	x.chunk.Keep(nil, transform.Meta{})
	sealed, err := x.chunk.Seal(x.registry, x.st.runID, memory.DefaultAllocator)
	if err != nil {
		x.chunk = transform.NewChunk(x.st.decoding)
		return "it does not fit the table: " + err.Error()
	}
	defer sealed.Record.Release()
	if len(sealed.Rejects) > 0 {
		return sealed.Rejects[0].Reason
	}
	return ""
}
