package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/clock"
)

const (
	attempts     = 3               // of one request, the first included
	longestWait  = time.Minute     // between two of them, as a Retry-After may ask
	firstBackoff = time.Second     // before the second, doubled before the third
	givenUp      = 3               // requests in a row that failed for good
	dateStep     = time.Second     // a Date header has whole seconds
	slack        = 5 * time.Second // between a message and the update it makes
)

// exam is one examination: what has been asked and seen so far.
type exam struct {
	o       Options
	client  *extract.Client
	keyless *extract.Client // nil where no key is configured

	sent     int
	skipped  int // requests that checks left out would have taken
	failures int // requests in a row that failed
	stopped  string

	pages   []*page
	known   map[string]row // contacts by id, as last seen
	census  census
	counted map[string]bool // contacts in census
	clock   skew
	limits  limits

	first   *page // updated_after from the start, the largest limit
	again   *page // the same once more, where something asked for it
	created *page // created_after from the start, the largest limit
	active  *page // days alone
	recent  *page // updated_after shortly ago, asked early

	keyRefusal *finding // what the key check says where the first request met a refusal

	limit      int    // the largest limit that the endpoint takes
	refusal    string // of fullLimit; empty if it is taken
	capped     int    // rows that a page has at most; 0 for no cap seen
	disordered bool   // updated_after is not answered in order

	aloneWrong string             // why days by itself cannot be paged; empty where nothing speaks against it
	combines   bool               // created_after and days do
	pipelines  []extract.Pipeline // of the account; nil where they could not be read

	suggestions []Suggestion
}

func newExam(o Options) (*exam, error) {
	s := o.Source
	s.MaxRetries = -1 // repeats are the examination's own: they count
	s.Filters = nil
	if s.Hosts == nil {
		s.Hosts = extract.NewHosts()
	}
	client, err := extract.NewClient(s, o.Clock)
	if err != nil {
		return nil, err
	}
	e := &exam{o: o, client: client, limit: fullLimit, known: map[string]row{}, counted: map[string]bool{}, census: newCensus()}
	if s.APIKey == "" {
		return e, nil
	}
	s.APIKey = ""
	e.keyless, err = extract.NewClient(s, o.Clock)
	return e, err
}

func (e *exam) close() {
	e.client.Close()
	if e.keyless != nil {
		e.keyless.Close()
	}
}

func (e *exam) left() int { return e.o.Budget - e.sent }

// finding is what a step has to say.
type finding struct {
	status       Status
	found, means string
}

// step is one check: the requests it takes at most, repeats after a failure
// aside, and how it is made. A step without a name prepares for a later one.
type step struct {
	name string
	cost func(*exam) int
	run  func(*exam, context.Context) (finding, error)
}

// lateRows is the check that lookAtRecent prepares for.
const lateRows = "late rows"

func upTo(n int) func(*exam) int { return func(*exam) int { return n } }

// steps lists the checks in the order in which they are made: each uses the
// pages of those before it.
func steps() []step {
	return []step{
		{"reachable", upTo(2), (*exam).checkReachable},
		{"key", upTo(1), (*exam).checkKey},
		{"", upTo(2), (*exam).lookAtRecent},
		{"order: updated_after", upTo(1), (*exam).checkOrderUpdated},
		{"page cap", (*exam).capCost, (*exam).checkCap},
		{"limit and offset", upTo(1), (*exam).checkOffset},
		{"default limit", upTo(1), (*exam).checkDefaultLimit},
		{"order: created_after", upTo(2), (*exam).checkOrderCreated},
		{"order: days", upTo(len(windows)), (*exam).checkOrderDays},
		{"strictness: updated_after", upTo(tries + 3), (*exam).checkStrictUpdated},
		{"strictness: created_after", upTo(tries + 3), (*exam).checkStrictCreated},
		{"tie order", upTo(samples + repeats), (*exam).checkTies},
		{"activity moves updated_at", upTo(1), (*exam).checkActivity},
		{"timestamps in the future", upTo(1), (*exam).checkFuture},
		{"created_after with days", upTo(2), (*exam).checkCreatedDays},
		{"updated_after with days", upTo(1), (*exam).checkUpdatedDays},
		{"created_after with updated_after", upTo(1), (*exam).checkCreatedUpdated},
		{"stage_id", upTo(1), (*exam).checkStage},
		{"pipelines", upTo(1), (*exam).checkPipelines},
		{"pipeline_id", upTo(1), (*exam).checkPipelineFilter},
		{"custom_field_key", upTo(2), (*exam).checkFieldFilter},
		{"contact by id", upTo(3), (*exam).checkContact},
		{lateRows, upTo(1), (*exam).checkLate},
		{"clock", upTo(0), (*exam).checkClock},
		{"rate limit", upTo(0), (*exam).checkRate},
		{"response time", upTo(0), (*exam).checkTimes},
		{"wrapping", upTo(0), (*exam).checkWrapping},
		{"printed precision", upTo(0), (*exam).checkPrecision},
		{"required fields", upTo(0), (*exam).checkRequired},
		{"platforms", upTo(0), (*exam).checkPlatforms},
		{"custom fields", upTo(0), (*exam).checkCustom},
	}
}

// perform makes one step. Its error is the end of ctx.
func (e *exam) perform(ctx context.Context, s step) (Check, error) {
	before, cost := e.sent, s.cost(e)
	f, err := e.attempt(ctx, s, cost)
	if ctx.Err() != nil {
		return Check{}, fmt.Errorf("examine source: %w", context.Cause(ctx))
	}
	switch {
	case errors.Is(err, errBudget):
		f = finding{
			Unknown,
			fmt.Sprintf("Not asked: it takes up to %s, and %d of %d are left.", plural(cost, "request", "requests"), e.left(), e.o.Budget),
			fmt.Sprintf("--budget %d reaches it.", max(e.o.Budget+1, before+e.skipped+cost)),
		}
		e.skipped += cost
	case err != nil:
		f = unseen(err)
	}
	return Check{Name: s.name, Status: f.status, Found: f.found, Means: f.means, Requests: e.sent - before}, nil
}

func (e *exam) attempt(ctx context.Context, s step, cost int) (finding, error) {
	switch {
	case e.stopped != "" && s.name == "key" && e.keyRefusal != nil:
		return *e.keyRefusal, nil
	case e.stopped != "" && cost > 0:
		return unknown(e.stopped), nil
	case cost > e.left() && e.sent > 0: // the first question is asked in any case
		return finding{}, errBudget
	default:
		return s.run(e, ctx)
	}
}

func unknown(why string) finding { return finding{Unknown, why, ""} }

func unseen(err error) finding { return unknown("Could not be seen: " + sentence(err.Error())) }

// ask asks for a page with the key. A failure that may pass is repeated.
func (e *exam) ask(ctx context.Context, q extract.Query) (*page, error) {
	return e.askWith(ctx, e.client, q, attempts)
}

func (e *exam) askWith(ctx context.Context, c *extract.Client, q extract.Query, attempts int) (*page, error) {
	if e.left() <= 0 {
		return nil, errBudget
	}
	var p *page
	err := e.repeat(ctx, attempts, func() error {
		p = &page{query: q}
		resp, err := c.Page(ctx, q, func(body []byte, info extract.PageInfo) error {
			p.request = shown(info.Request)
			return p.decode(body)
		})
		p.resp = resp
		e.sent += int(resp.Requests)
		e.note(resp, err)
		return err
	})
	if err != nil {
		return nil, err
	}
	e.keep(p)
	return p, nil
}

// shown is a request as a report prints it: unescaped, without the path that
// all have in common, and without the value of a custom field, which may be
// personal.
func shown(request string) string {
	path, raw, _ := strings.Cut(request, "?")
	if values, err := url.ParseQuery(raw); err == nil && values.Has(paramFieldValue) {
		values.Set(paramFieldValue, "...")
		request = path + "?" + values.Encode()
	}
	plain, err := url.QueryUnescape(request)
	if err != nil {
		return request
	}
	return strings.TrimPrefix(plain, "/api/public/contacts")
}

// repeat makes a request until it succeeds, or its failure is no passing one.
func (e *exam) repeat(ctx context.Context, attempts int, once func() error) error {
	for attempt := 1; ; attempt++ {
		err := once()
		if err == nil {
			e.failures = 0
			return nil
		}
		wait, again := pause(err, attempt)
		if !again || attempt == attempts || e.left() <= 0 || ctx.Err() != nil {
			return e.failed(err, attempt)
		}
		if err := clock.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// failed counts a request that failed for good: an endpoint that answers none
// is not asked forty times.
func (e *exam) failed(err error, attempt int) error {
	if attempt > 1 {
		err = fmt.Errorf("after %d attempts: %w", attempt, err)
	}
	var status *extract.StatusError
	if errors.As(err, &status) && status.Status < 500 && status.Status != 429 {
		return err // an answer
	}
	if e.failures++; e.failures >= givenUp {
		e.stopped = fmt.Sprintf("Not asked: %d requests in a row had failed.", givenUp)
	}
	return err
}

// pause says whether a request that failed is worth repeating, and when.
func pause(err error, attempt int) (time.Duration, bool) {
	wait := firstBackoff << (attempt - 1)
	var (
		status    *extract.StatusError
		transport *extract.TransportError
		bad       *extract.PageError
	)
	switch {
	case errors.As(err, &status):
		wait = max(wait, status.RetryAfter)
		passing := status.Status == 429 || status.Status == 408 || status.Status >= 500
		return wait, passing && wait <= longestWait
	case errors.As(err, &transport):
		return wait, !permanent(transport)
	default:
		return wait, errors.As(err, &bad)
	}
}

// note takes what every answer says, failed ones too.
func (e *exam) note(resp extract.Response, err error) {
	e.clock.add(resp)
	e.limits.add(resp, err)
}

// keep remembers a page and the contacts on it.
func (e *exam) keep(p *page) {
	e.pages = append(e.pages, p)
	for i := range p.rows {
		r := &p.rows[i]
		key := r.id
		if key == "" { // its times tell it from others well enough
			key = "no id " + r.created.text + r.updated.text
		}
		if !e.counted[key] {
			e.counted[key] = true
			e.census.add(*r)
		}
		var custom map[fieldName][]string
		if keepsCustom(p.query) {
			custom = customOf(r.fields)
		}
		r.fields = nil // counted: not kept
		if r.id != "" {
			e.known[r.id] = *r
		}
		r.custom = custom // of the page alone
	}
}

// keepsCustom reports whether custom fields of a page are looked at: of the
// first one, and of those that a filter by them brings.
func keepsCustom(q extract.Query) bool {
	return q.UpdatedAfter != nil && *q.UpdatedAfter == 0 && q.Offset == 0 && (len(q.Extra) == 0 || q.Extra.Has(paramFieldKey))
}

// full reports whether p has as many rows as a page can, so that there may be
// more.
func (e *exam) full(p *page) bool {
	most := p.query.Limit
	if e.capped > 0 && (most == 0 || e.capped < most) {
		most = e.capped
	}
	return len(p.rows) >= most
}

// refused returns the endpoint's words where err is a 400.
func refused(err error) (string, bool) {
	var bad *extract.BadRequestError
	if !errors.As(err, &bad) {
		return "", false
	}
	return bad.Body, true
}

// now is the source's time at p, or this machine's where the source does not
// tell, in microseconds since 1970.
func now(p *page) int64 {
	if p.resp.Date.IsZero() || p.resp.Cached {
		return p.resp.ReceivedAt.UnixMicro()
	}
	return p.resp.Date.UnixMicro()
}

// at is a pointer to a time, for queries.
func at(us int64) *int64 { return &us }

// with is a further parameter.
func with(name, value string) url.Values { return url.Values{name: {value}} }
