package run

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/transform"
)

// EstimateBudget is the most requests that an estimate makes.
const EstimateBudget = 60

// estimateShare is how near a count has to be, as a share of all contacts of
// the range, before no more requests are spent on it.
const estimateShare = 0.005

// Estimate is what a backfill would read, as far as a few requests tell.
type Estimate struct {
	From, To time.Time // To cut to now
	Windows  []WindowEstimate
	Contacts int64 // about
	Pages    int64 // about: requests of the backfill itself, those for single contacts included
	Requests int64 // made for the estimate
	// Duration is about what the backfill's requests take at the source's rate
	// and at the latency met.
	Duration time.Duration
}

// WindowEstimate is one window's share.
type WindowEstimate struct {
	Window
	Contacts int64 // about
}

// Estimate asks for single contacts at some offsets of the range, at most
// EstimateBudget times, and tells from their times how many lie in each
// window. It reads state to see whether the backfill would be refused, and
// changes nothing.
func (e *Engine) Estimate(ctx context.Context, job Job, b Backfill) (Estimate, error) {
	s, err := newSpan(job, b, e.Clock.Now())
	if err != nil {
		return Estimate{}, err
	}
	st, err := e.Store.Load(ctx, job.Pipeline)
	if err != nil {
		return Estimate{}, err
	}
	client, err := extract.NewClient(job.Source, e.Clock)
	if err != nil {
		return Estimate{}, err
	}
	defer client.Close()
	if job, err = job.resolve(ctx, client); err != nil {
		return Estimate{}, err
	}
	if reason := unprepared(st, job); reason != "" {
		return Estimate{}, &NotReadyError{Pipeline: job.Pipeline, Kind: kindBackfill, Reason: reason}
	}
	p := &prober{pager: client, job: job, key: s.key, from: interval(s.from, s.to).From, chunk: transform.NewChunk(transform.Options{Contract: job.Contract, HashKey: job.HashKey})}
	out := Estimate{From: s.from, To: s.to}
	borders := cutTime(s.from, s.to, s.step)
	places, err := p.places(ctx, borders)
	if err != nil {
		return Estimate{}, fmt.Errorf("estimate backfill: %w", err)
	}
	for i, from := range borders[:len(borders)-1] {
		out.Windows = append(out.Windows, WindowEstimate{
			Window: Window{From: from, To: borders[i+1]}, Contacts: max(0, places[i+1]-places[i]),
		})
	}
	out.Contacts = places[len(places)-1] - places[0]
	out.Pages = s.pages(out, int64(max(job.PageSize, 1)))
	if job.Enrich {
		out.Pages += out.Contacts
	}
	out.Requests = client.Stats().Requests
	out.Duration = p.duration(out.Pages, s.parallel, job.Source.RequestsPerSecond)
	return out, nil
}

// pages is the number of requests that the windows take: each group ends with
// a page that it shares with what follows.
func (s *span) pages(e Estimate, size int64) int64 {
	var jobs []windowJob
	for _, w := range e.Windows {
		jobs = append(jobs, windowJob{w.Window, interval(w.From, w.To)})
	}
	var pages int64
	i := 0
	for _, g := range group(jobs, s.parallel*groupsEach) {
		var contacts int64
		for range g {
			contacts += e.Windows[i].Contacts
			i++
		}
		pages += contacts/size + 1
	}
	return pages
}

// prober finds out where borders lie in the list of a range's contacts.
type prober struct {
	pager   extract.Pager
	job     Job
	key     extract.Key
	from    int64
	chunk   *transform.Chunk
	asked   int64
	waited  time.Duration
	bytes   int64 // of the contacts met
	met     int64
	samples []place // by offset
}

// place is a contact's time at an offset of the list; endOfList past its end.
type place struct{ offset, at int64 }

const endOfList = math.MaxInt64

var errBudget = errors.New("the budget is used up")

// places returns about how many contacts of the list lie before each border.
func (p *prober) places(ctx context.Context, borders []time.Time) ([]int64, error) {
	at := make([]int64, len(borders))
	for i, b := range borders {
		at[i] = interval(b, b).From + 1 // printed after it: not before the border
	}
	last := at[len(at)-1]
	// Where the range ends, by ever longer steps.
	for offset := int64(0); ; offset = max(1000, offset*4) {
		t, err := p.probe(ctx, offset)
		if err != nil {
			return nil, err
		}
		if t >= last {
			break
		}
	}
	for {
		lo, hi := p.widest(at)
		total := p.guess(last)
		if hi-lo <= 1 || float64(hi-lo) <= estimateShare*float64(total) {
			break
		}
		_, err := p.probe(ctx, lo+(hi-lo)/2)
		if errors.Is(err, errBudget) {
			break
		}
		if err != nil {
			return nil, err
		}
	}
	out := make([]int64, len(at))
	for i, t := range at[1:] {
		out[i+1] = p.guess(t)
	}
	return out, nil
}

// bracket returns the samples on both sides of a time.
func (p *prober) bracket(t int64) (before, after place) {
	before = place{-1, p.from}
	for _, s := range p.samples {
		if s.at >= t {
			return before, s
		}
		before = s
	}
	return before, before
}

// widest returns the bracket of the border about which least is known.
func (p *prober) widest(at []int64) (lo, hi int64) {
	for _, t := range at[1:] {
		if b, a := p.bracket(t); a.offset-b.offset > hi-lo {
			lo, hi = b.offset, a.offset
		}
	}
	return lo, hi
}

// guess returns the number of contacts before t, as if they lay evenly between
// the samples around it.
func (p *prober) guess(t int64) int64 {
	before, after := p.bracket(t)
	if after.offset-before.offset <= 1 {
		return after.offset
	}
	share := 0.5
	if after.at != endOfList && after.at > before.at {
		share = float64(t-before.at) / float64(after.at-before.at)
	}
	return before.offset + max(1, int64(math.Ceil(share*float64(after.offset-before.offset))))
}

// probe returns the time of the contact at an offset.
func (p *prober) probe(ctx context.Context, offset int64) (int64, error) {
	if p.asked >= EstimateBudget {
		return 0, errBudget
	}
	p.asked++
	q := extract.Query{Limit: 1, Offset: int(offset)}
	q.Days, q.Extra = p.job.narrowing()
	if p.key == extract.ByCreated {
		q.CreatedAfter = &p.from
	} else {
		q.UpdatedAfter = &p.from
	}
	found := place{offset, endOfList}
	resp, err := p.pager.Page(ctx, q, func(body []byte, _ extract.PageInfo) error {
		rows, err := p.chunk.Decode(body)
		if errors.Is(err, transform.ErrBadPage) {
			return fmt.Errorf("%w: %w", extract.ErrBadPage, err)
		}
		if err == nil && len(rows) > 0 {
			p.bytes, p.met = p.bytes+int64(len(body)), p.met+1
			found.at = rows[0].Updated
			if p.key == extract.ByCreated {
				found.at = rows[0].Created
			}
		}
		return err
	})
	if err != nil {
		return 0, err
	}
	p.waited += resp.ReceivedAt.Sub(resp.SentAt)
	i, _ := slices.BinarySearchFunc(p.samples, offset, func(s place, o int64) int { return int(s.offset - o) })
	p.samples = slices.Insert(p.samples, i, found)
	return found.at, nil
}

// duration is about what so many requests take.
func (p *prober) duration(pages int64, parallel int, perSecond float64) time.Duration {
	d := p.waited / time.Duration(max(p.asked, 1)) * time.Duration(pages) / time.Duration(parallel)
	if perSecond == 0 {
		perSecond = 5 // as extract.Source has it
	}
	if perSecond > 0 {
		d = max(d, time.Duration(float64(pages)/perSecond*float64(time.Second)))
	}
	return d
}
