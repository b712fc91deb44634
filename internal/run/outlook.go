package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/transform"
)

// Outlook is what the next sync of a job would read and write, as far as state
// and a few requests tell.
type Outlook struct {
	Mode, Reason string
	// Since is where an incremental sync reads from; nil for the others.
	Since *time.Time
	// PlainText are the columns that the contract protects from now on; what was
	// stored of them before stays as it came. Sorted.
	PlainText []string
	// Kept are the rows that an unfinished run has staged, which this one goes on
	// with.
	Kept         int64
	Count        *SourceCount // nil where it was not asked for, or failed
	CountError   error
	Destinations []DestinationOutlook // in the job's order
}

// SourceCount is how much there is to read.
type SourceCount struct {
	At    time.Time
	Asked int64 // requests made for it
	// Contacts are about those to read, Reread those of them that the run before
	// has read. Exact says that both were found by their places in the list, and
	// that the list did not move meanwhile.
	Contacts, Reread int64
	Exact            bool
	Pages            int64 // about: of the walk
	Requests         int64 // about: Pages, what proves the end, single contacts
	Bytes            int64 // about: of the answers
	Duration         time.Duration
}

// DestinationOutlook is what is known of one destination.
type DestinationOutlook struct {
	Name string
	// Seeded says that it has no package of this pipeline yet, or gave up its
	// queue, and that the sync fills it.
	Seeded  bool
	Waiting int // packages of earlier runs
	// Bytes are about what the sync writes there, Scanned about what its
	// statements read, by past packages; 0 where there is none.
	Bytes, Scanned int64
}

// proofRequests is what it takes to show that a list has ended, about.
const proofRequests = 3

// Outlook tells what Run would read. It changes nothing, and asks the source
// only where count is set, at most EstimateBudget times; a source that cannot be
// counted is no error. What Run would refuse before it reads anything is.
func (e *Engine) Outlook(ctx context.Context, job Job, count bool) (Outlook, error) {
	if err := job.checkHashKey(); err != nil {
		return Outlook{}, err
	}
	st, err := e.Store.Load(ctx, job.Pipeline)
	if err != nil {
		return Outlook{}, err
	}
	if job.Identity.Scheme != "" { // else nobody said which source it is
		if err := state.CheckSource(st, job.Identity); err != nil {
			return Outlook{}, err
		}
	}
	if err := checkContract(st, job.Contract); err != nil {
		return Outlook{}, err
	}
	r := &syncRun{Engine: e, job: job, kind: kindSync, st: st, began: e.Clock.Now()}
	for _, d := range job.Destinations {
		r.ready = append(r.ready, d.Name)
	}
	var out Outlook
	var pager *extract.Client
	if count || len(job.Pipelines) > 0 && job.Source.BaseURL != "" {
		source := job.Source
		source.MaxRequests, source.MaxBytes = 0, 0
		if pager, err = extract.NewClient(source, e.Clock); err != nil {
			return Outlook{}, err
		}
		defer pager.Close()
		r.job, err = job.resolve(ctx, pager) // the filters' fingerprint depends on it
		if err != nil && (ctx.Err() != nil || !errors.As(err, new(*unansweredError))) {
			return Outlook{}, err
		}
		out.CountError, count = err, count && err == nil
	}
	if len(r.job.Pipelines) > 0 { // nobody told what they stand for: taken for what they were
		same := *st
		if st.Filters != "" {
			same.Filters = r.job.selection()
		}
		r.st = &same
	}
	out.Mode, out.Reason = r.mode()
	if out.Mode == modeIncremental {
		out.Since = st.Cursor
	}
	if st.Contract != "" {
		out.PlainText = nowProtected(st, job.Contract)
	}
	if out.Kept, err = r.kept(out.Mode); err != nil {
		return Outlook{}, err
	}
	if count {
		if out.Count, out.CountError = r.countSource(ctx, pager, out); ctx.Err() != nil {
			return Outlook{}, out.CountError
		}
	}
	out.Destinations = r.destinationOutlooks(out)
	return out, nil
}

// kept is how many rows the next sync finds staged.
func (r *syncRun) kept(mode string) (int64, error) {
	runs := filepath.Dir(r.Store.RunDir("x"))
	names, err := runDirs(runs, r.job.Pipeline)
	if err != nil {
		return 0, err
	}
	want := r.wanted()
	for _, name := range names {
		if kindOf(runIDOf(name)) != kindSync || r.accounted(runIDOf(name)) {
			continue
		}
		records, _, err := readJournal(filepath.Join(runs, name))
		if err != nil {
			return 0, err
		}
		if len(records) == 0 {
			continue
		}
		start := records[0].Start
		if start.Mode != mode || start.Settings != want.Settings || !sameTime(start.Cursor, want.Cursor) {
			continue
		}
		var rows int64
		for _, rec := range records {
			if rec.Part != nil {
				rows += rec.Part.Rows
			}
		}
		return rows, nil
	}
	return 0, nil
}

// countSource asks the source how much the sync would read.
func (r *syncRun) countSource(ctx context.Context, client *extract.Client, o Outlook) (*SourceCount, error) {
	if r.job.Sync == SyncRecent && r.job.DaysAlone {
		return nil, errors.New("the source takes `days` by itself alone, so that no place in its list can be asked for")
	}
	now := r.began
	p := &prober{pager: client, job: r.job, key: extract.ByCreated, chunk: transform.NewChunk(transform.Options{Contract: r.job.Contract, HashKey: r.job.HashKey})}
	borders := []time.Time{time.UnixMicro(0), now}
	if o.Since != nil {
		p.key = extract.ByUpdated
		seen := lastRead(r.st)
		if !seen.After(*o.Since) || seen.After(now) {
			seen = *o.Since
		}
		borders = []time.Time{*o.Since, seen, now}
	}
	p.from = interval(borders[0], now).From
	places, err := p.places(ctx, borders)
	if err != nil {
		return nil, fmt.Errorf("count contacts: %w", err)
	}
	last := len(borders) - 1
	out := &SourceCount{At: now, Contacts: places[last] - places[0], Reread: places[last-1] - places[0]}
	if last == 1 {
		out.Reread = 0
	}
	if out.Exact, err = p.exact(ctx, borders[1:]); err != nil {
		return nil, fmt.Errorf("count contacts: %w", err)
	}
	out.Asked = client.Stats().Requests
	r.cost(out, p)
	return out, nil
}

// lastRead is when the last sync that sealed a package began: what was changed
// before has been read then.
func lastRead(st *state.Pipeline) time.Time {
	for _, rec := range slices.Backward(st.Runs) {
		if rec.Kind == kindSync && rec.Package > 0 {
			return rec.StartedAt
		}
	}
	return time.Time{}
}

// cost tells what reading so much takes.
func (r *syncRun) cost(c *SourceCount, p *prober) {
	size := int64(max(r.job.PageSize, 1))
	workers := 1
	if p.key == extract.ByCreated {
		workers = cmp.Or(r.job.Source.Concurrency, defaultWorkers)
	}
	if r.job.Enrich {
		size = min(size, enrichedPage)
	}
	c.Pages = (c.Contacts + size - 1) / size
	c.Requests = c.Pages + proofRequests
	if p.key == extract.ByCreated { // and the changes since it began
		c.Requests += proofRequests
	}
	if p.met > 0 {
		c.Bytes = p.bytes / p.met * c.Contacts
	}
	if r.job.Enrich {
		c.Requests += c.Contacts
		workers = cmp.Or(r.job.Source.Concurrency, defaultWorkers)
	}
	c.Duration = p.duration(c.Requests, workers, r.job.Source.RequestsPerSecond)
}

// exact reports whether the borders lie between two neighbours of the list, and
// the end still is where it was.
func (p *prober) exact(ctx context.Context, borders []time.Time) (bool, error) {
	for _, b := range borders {
		before, after := p.bracket(interval(b, b).From + 1)
		if after.offset-before.offset > 1 {
			return false, nil
		}
	}
	for i := range p.samples[:max(0, len(p.samples)-1)] {
		if p.samples[i].at > p.samples[i+1].at {
			return false, nil
		}
	}
	end := p.samples[len(p.samples)-1]
	before, _ := p.bracket(endOfList)
	now, err := p.probe(ctx, end.offset)
	if errors.Is(err, errBudget) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	moved := end.at == endOfList && now != endOfList || before.at > end.at
	return !moved, nil
}

// pastPackages is how many of the last packages tell what the next one takes.
const pastPackages = 10

// destinationOutlooks tells what is known of the destinations.
func (r *syncRun) destinationOutlooks(o Outlook) []DestinationOutlook {
	var out []DestinationOutlook
	for _, d := range r.job.Destinations {
		known := r.st.Destinations[d.Name]
		l := DestinationOutlook{Name: d.Name, Seeded: known == nil || known.NeedsFull != nil}
		if known != nil {
			l.Waiting = len(known.Queue)
		}
		var rows, packages, bytes, scanned int64
		for _, rec := range slices.Backward(r.st.Runs) {
			w, ok := rec.Written[d.Name]
			if !ok || rec.Mode != o.Mode {
				continue
			}
			rows, bytes, scanned = rows+rec.Rows, bytes+w.Bytes, scanned+w.Scanned
			if packages++; packages == pastPackages {
				break
			}
		}
		if packages > 0 {
			// A merge reads what is there, however few rows come.
			l.Bytes, l.Scanned = bytes/packages, scanned/packages
			if o.Count != nil && rows > 0 {
				l.Bytes = int64(float64(bytes) / float64(rows) * float64(o.Count.Contacts))
			}
		}
		out = append(out, l)
	}
	return out
}
