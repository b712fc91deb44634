package run

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/schemas"
)

// coverage is the record of what a run walked and under which assumptions.
type coverage struct {
	RunID     string    `json:"run_id"`
	Pipeline  string    `json:"pipeline"`
	Mode      string    `json:"mode"`
	Reason    string    `json:"reason"`
	StartedAt time.Time `json:"started_at"`
	SealedAt  time.Time `json:"sealed_at"`
	Resumed   bool      `json:"resumed"`
	Source    string    `json:"source"`
	HashKey   string    `json:"hash_key_id,omitempty"` // of the key that hashes were made with
	// Policies are what was stored of values that are not kept, as state has them.
	Policies   map[string]schemas.Policy `json:"policies,omitempty"`
	CursorFrom *time.Time                `json:"cursor_from"`
	CursorTo   *time.Time                `json:"cursor_to"`
	Rows       int64                     `json:"rows"`
	Pages      int64                     `json:"pages"`
	Requests   int64                     `json:"requests"`
	Retries    int64                     `json:"retries"`
	// RetriesBy are the retries by what had failed: rate_limited, server_error,
	// timeout, connection, truncated or bad_page.
	RetriesBy   map[extract.Cause]int64 `json:"retries_by"`
	Duplicates  int64                   `json:"duplicates"`
	Quarantined int64                   `json:"quarantined"`
	// QuarantinedBy are the records set aside by reason.
	QuarantinedBy map[string]int64 `json:"quarantined_by"`
	Misfits       map[string]int64 `json:"misfits"`
	// Discarded are the values that the contract's evolution left out, by field.
	Discarded  map[string]int64 `json:"discarded"`
	IDs        *digest          `json:"ids,omitempty"`      // of the contacts staged
	Enriched   *Enriched        `json:"enriched,omitempty"` // of enrich: info
	Marked     int64            `json:"marked"`             // contacts of the table that were found missing and marked as deleted
	Phases     []phaseRecord    `json:"phases"`             // with the counts of each
	Reconciled *Reconciled      `json:"reconciled,omitempty"`
}

func (s *session) coverage(c counts, contract *schemas.Contract, sealedAt time.Time, cursor *time.Time) (json.RawMessage, error) {
	cov := coverage{
		RunID: s.start.RunID, Pipeline: s.start.Pipeline, Mode: s.start.Mode, Reason: s.start.Reason,
		StartedAt: s.start.StartedAt, SealedAt: sealedAt, Resumed: s.resumed, Source: s.start.Source.String(), HashKey: s.start.HashKey, Policies: policies(contract),
		CursorFrom: s.start.Cursor, CursorTo: cursor,
		Rows: c.Rows, Pages: c.Pages, Requests: c.Requests, Retries: c.Retries,
		Quarantined: c.Rejects, RetriesBy: c.RetriesBy, Enriched: c.Info.copied(), IDs: s.digest, Reconciled: s.reconciled,
	}
	if cov.QuarantinedBy = reasons(s.parts); cov.QuarantinedBy == nil {
		cov.QuarantinedBy = map[string]int64{}
	}
	if cov.RetriesBy == nil {
		cov.RetriesBy = map[extract.Cause]int64{}
	}
	cov.Misfits, cov.Discarded = s.unfit()
	var before counts // the journal has them from the run's beginning on
	for _, name := range phases() {
		if p, ok := s.phases[name]; ok {
			p.Counts, before = p.Counts.since(before), p.Counts
			cov.Phases = append(cov.Phases, p)
		}
	}
	cov.Duplicates = c.Duplicates
	cov.Marked = s.phases[phaseMissing].Outcome.Rows + s.phases[phaseConfirm].Outcome.Rows
	out, err := json.Marshal(cov)
	if err != nil {
		return nil, fmt.Errorf("encode coverage: %w", err)
	}
	return out, nil
}

// unfit counts the values that did not fit, by column, and those that the
// contract's evolution left out, by field.
func (s *session) unfit() (misfits, discarded map[string]int64) {
	misfits, discarded = map[string]int64{}, map[string]int64{}
	for _, p := range s.parts {
		for column, n := range p.Misfits {
			misfits[column] += n
		}
		for field, n := range p.Discarded {
			discarded[field] += n
		}
	}
	return misfits, discarded
}

// since are the counts of what came after before.
func (c counts) since(before counts) counts {
	out := counts{
		Rows: c.Rows - before.Rows, Pages: c.Pages - before.Pages, Requests: c.Requests - before.Requests,
		Retries: c.Retries - before.Retries, Rejects: c.Rejects - before.Rejects, Info: c.Info.since(before.Info),
	}
	out.Duplicates = c.Duplicates - before.Duplicates
	for cause, n := range c.RetriesBy {
		if n -= before.RetriesBy[cause]; n != 0 {
			if out.RetriesBy == nil {
				out.RetriesBy = map[extract.Cause]int64{}
			}
			out.RetriesBy[cause] = n
		}
	}
	return out
}

// outcomeRecord is the part of a walk's outcome that the coverage record keeps.
type outcomeRecord struct {
	Key   string     `json:"key"`
	From  time.Time  `json:"from,omitzero"`
	Until *time.Time `json:"until,omitempty"` // of a backfill: the first moment past it
	// Final are the stretches of Key that are complete for good.
	Final       []stretch          `json:"final"`
	EndReason   extract.EndReason  `json:"end_reason"`
	Windows     int                `json:"windows"` // read side by side, or one after the other
	Pages       int64              `json:"pages"`
	Requests    int64              `json:"requests"`
	Rows        int64              `json:"rows"`
	Duplicates  int64              `json:"duplicates"`
	Discarded   int64              `json:"discarded"`
	OutOfOrder  int64              `json:"out_of_order"`
	Undated     int64              `json:"undated"`
	Ties        []extract.TieBlock `json:"ties"`
	Assumptions []string           `json:"assumptions"`
}

// statistical reports whether some of what was read rests on repetition.
func (o outcomeRecord) statistical() bool {
	return slices.ContainsFunc(o.Ties, func(t extract.TieBlock) bool { return t.Statistical })
}

// markedOutcome is that of a phase that walks nothing.
func markedOutcome(contacts int64) outcomeRecord {
	return outcomeRecord{Key: schemas.ColID, Rows: contacts, Final: []stretch{}, Ties: []extract.TieBlock{}, Assumptions: []string{}}
}

// stretch is an interval of a timestamp, (After, Through].
type stretch struct {
	After   time.Time  `json:"after"`
	Through *time.Time `json:"through,omitempty"` // nil: without end
}

func finalOf(ivs []extract.Interval) []stretch {
	out := []stretch{}
	for _, iv := range ivs {
		s := stretch{After: time.UnixMicro(iv.From).UTC()}
		if iv.Until != 0 {
			through := time.UnixMicro(iv.Until).UTC()
			s.Through = &through
		}
		out = append(out, s)
	}
	return out
}

func outcomeOf(key extract.Key, from time.Time, out extract.Outcome, windows int) outcomeRecord {
	return outcomeRecord{
		Key: key.String(), From: from.UTC(), EndReason: out.EndReason, Windows: windows,
		Pages: out.Pages, Requests: out.Requests, Rows: out.Rows, Duplicates: out.Duplicates,
		Discarded: out.Discarded, OutOfOrder: out.OutOfOrder, Undated: out.Undated,
		Assumptions: out.Assumptions,
	}
}
