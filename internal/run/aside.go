package run

import (
	"cmp"
	"fmt"
	"net/url"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/sluice-etl/sluice/internal/quarantine"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/transform"
)

// Quarantine says what becomes of records that cannot be rows. The zero value
// is what Sluice does where a pipeline says nothing.
type Quarantine struct {
	// Store is how much of such a record is kept; empty is StoreAuto.
	Store QuarantineStore
	// MaxShare is the largest share of the records that a run reads that may be
	// set aside, above 0 and up to 1, once it has read 100. 0: 0.1.
	MaxShare float64
	// MaxRecords is how many a run may set aside; nil: any number. More than
	// either allows fails the run before anything is committed.
	MaxRecords *int
}

// QuarantineStore says how much is kept of a record set aside.
type QuarantineStore string

// The kinds of storing.
const (
	StoreAuto      QuarantineStore = "auto"      // StoreRaw where the contract keeps every value as it came
	StoreRaw       QuarantineStore = "raw"       // the whole record as it was served
	StoreReference QuarantineStore = "reference" // why, when and where it was met, and its id
)

const (
	defaultAsideShare = 0.1
	// judgedFrom is how many records a run has to read before their share says
	// anything.
	judgedFrom = 100
	// judgedEarly is how many records set aside are enough to stop at once where
	// their share is too large, so that a source which is broken fills no disk.
	judgedEarly = 10_000
)

// aside is where the records of a run go that cannot be rows.
type aside struct {
	store    quarantine.Store
	pipeline string
	raw      bool
	// redact leaves the value of a filter by a custom field out of requests.
	redact     bool
	share      float64
	maxRecords *int
	seen       map[xxh3.Uint128]bool // records set aside by this process
}

// quarantine returns the pipeline's records set aside.
func (e *Engine) quarantine(pipeline string) quarantine.Store {
	return quarantine.In(e.Store.Dir(), pipeline, e.Disk)
}

func (r *syncRun) newAside() *aside {
	q, keeps := r.job.Quarantine, r.job.Contract.KeepsAll()
	a := &aside{
		store: r.quarantine(r.job.Pipeline), pipeline: r.job.Pipeline,
		raw:    q.Store == StoreRaw || keeps && q.Store != StoreReference,
		redact: !keeps, share: cmp.Or(q.MaxShare, defaultAsideShare), maxRecords: q.MaxRecords,
		seen: map[xxh3.Uint128]bool{},
	}
	if r.kind != kindSync && r.kind != kindBackfill { // they do not read to fill the tables
		a.share, a.maxRecords = 1, nil
	}
	return a
}

// before reports whether a record was set aside on an earlier page of this run,
// byte for byte the same, and takes note of it.
func (a *aside) before(r transform.Reject) bool {
	sum := xxh3.Hash128(r.Raw)
	before := a.seen[sum]
	a.seen[sum] = true
	return before
}

// keep keeps rejected records where the next run does not touch them.
func (a *aside) keep(runID string, part int, rejects []transform.Reject) error {
	if len(rejects) == 0 {
		return nil
	}
	records := make([]quarantine.Record, len(rejects))
	for i, r := range rejects {
		records[i] = quarantine.Record{At: r.At.UTC(), Reason: r.Reason, ID: r.ID, Request: r.Request, Position: r.Position}
		if a.raw {
			records[i].Raw = string(r.Raw)
		} else if !plausibleID(r.ID) {
			records[i].ID = "" // some other value stands in its place
		}
		if a.redact {
			records[i].Request = redacted(r.Request)
		}
	}
	return a.store.Write(runID, part, records)
}

// plausibleID reports whether a text may be the id of a contact, and not some
// other value, an object for instance, in its place.
func plausibleID(id string) bool {
	const allowed = "-_:.0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"
	return id != "" && len(id) <= 128 && strings.Trim(id, allowed) == ""
}

// redactedParam is the parameter that holds a value of contacts.
const redactedParam = "custom_field_value"

// redacted is a request without the value of a custom field.
func redacted(request string) string {
	path, query, _ := strings.Cut(request, "?")
	if !strings.Contains(query, redactedParam) {
		return request
	}
	pairs := strings.Split(query, "&")
	for i, pair := range pairs {
		name, _, _ := strings.Cut(pair, "=")
		if plain, err := url.QueryUnescape(name); err != nil || plain == redactedParam {
			pairs[i] = redactedParam + "=(redacted)"
		}
	}
	return path + "?" + strings.Join(pairs, "&")
}

// reasonsOf counts rejected records by reason.
func reasonsOf(rejects []transform.Reject) quarantine.Counts {
	if len(rejects) == 0 {
		return nil
	}
	out := quarantine.Counts{}
	for _, r := range rejects {
		out.Add(shortReason(r.Reason), 1)
	}
	return out
}

// maxReason bounds a reason where reasons are counted, in characters: it may
// name a key, which has any length.
const maxReason = 160

func shortReason(reason string) string {
	if r := []rune(reason); len(r) > maxReason {
		return string(r[:maxReason-3]) + "..."
	}
	return reason
}

// reasons sums up why records were set aside by a run, earlier processes of it
// included; nil for none.
func reasons(parts []partRecord) quarantine.Counts {
	var out quarantine.Counts
	for _, p := range parts {
		if p.Rejects == 0 {
			continue
		}
		if out == nil {
			out = quarantine.Counts{}
		}
		named := int64(0)
		for _, reason := range p.Reasons.Sorted() {
			out.Add(reason, p.Reasons[reason])
			named += p.Reasons[reason]
		}
		if rest := p.Rejects - named; rest > 0 { // of a journal that did not say
			out.Add(quarantine.OtherReasons, rest)
		}
	}
	return out
}

// check says, as a *QuarantineLimitError, that too much was set aside. At the
// end of a run it knows all the records read; before, it speaks up where what
// comes does not matter any more, or would have to be very much.
func (a *aside) check(c counts, parts []partRecord, end bool) error {
	e := &QuarantineLimitError{Pipeline: a.pipeline, Aside: c.Rejects, Read: c.Rows + c.Rejects, Dir: a.store.Dir()}
	tooMany := a.maxRecords != nil && c.Rejects > int64(*a.maxRecords)
	large := e.Read >= judgedFrom && float64(c.Rejects) > a.share*float64(e.Read)
	switch {
	case tooMany:
		e.MaxRecords = a.maxRecords
	case large && (end || c.Rejects >= judgedEarly):
		e.MaxShare = a.share
	default:
		return nil
	}
	e.Reasons = reasons(parts)
	return e
}

// QuarantineLimitError is a run that had to set more records aside than the
// pipeline allows. Nothing was committed, the cursor stays, and the next run
// reads anew.
type QuarantineLimitError struct {
	Pipeline    string
	Aside, Read int64 // records
	Reasons     map[string]int64
	MaxShare    float64 // the limit that was passed, 0 where it is the other
	MaxRecords  *int    // nil where it is the other
	Dir         string  // of the records set aside
}

// shownReasons is how many reasons an error names.
const shownReasons = 3

func (e *QuarantineLimitError) Error() string {
	limit := fmt.Sprintf("%.3g%%, more than the %.4g%% that quarantine.max_share allows", 100*float64(e.Aside)/float64(e.Read), 100*e.MaxShare)
	if e.MaxRecords != nil {
		limit = fmt.Sprintf("more than the %d that quarantine.max_records allows", *e.MaxRecords)
	}
	counts := quarantine.Counts(e.Reasons)
	var some []string
	for i, reason := range counts.Sorted() {
		if i == shownReasons {
			some = append(some, "...")
			break
		}
		some = append(some, fmt.Sprintf("%s (%d)", reason, counts[reason]))
	}
	return fmt.Sprintf("check records set aside: %d of the %d records read, %s: %s", e.Aside, e.Read, limit, strings.Join(some, "; "))
}

// Hint says what to do.
func (e *QuarantineLimitError) Hint() string {
	return fmt.Sprintf("nothing was committed and the cursor stays. `sluice quarantine list %s` shows them: mend the source, or the contract, and run again; where they are to be left out, allow more under quarantine in the pipeline", state.Typed(e.Pipeline))
}
