package sandbox

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"
)

// DefaultKey is the API key a sandbox accepts unless told otherwise. It is
// public on purpose: a pipeline that points at a sandbox must use it.
const DefaultKey = "sandbox"

// MaxContacts bounds Options.Contacts: above it the start takes longer than a
// person waits.
const MaxContacts = 20_000_000

// Options is everything a sandbox can be told. The zero value is an empty
// source without faults; DefaultOptions is what the command line starts from.
// Every field is a flag (Flags) and, the last group apart, a parameter of a
// sandbox:// URL (ParseURL) under the same name.
type Options struct {
	// Contacts is how many contacts exist at the start. 0: none. Default 10000.
	Contacts int
	// Seed chooses the data, the mutations and the faults. Contact i is a
	// function of (Seed, i) alone. Default 1.
	Seed uint64

	// Latency is added to every answer. 0: none.
	Latency time.Duration
	// LatencyJitter is the width of a uniform random addition to Latency. 0: none.
	LatencyJitter time.Duration
	// RateLimit is in requests per second over all clients; beyond it the
	// answer is 429. 0: no limit.
	RateLimit float64
	// RateBurst is how many requests may come at once under RateLimit.
	// 0: RateLimit rounded up.
	RateBurst int
	// RetryAfter says how a 429 carries Retry-After: "seconds" (default),
	// "date", "none", or "mix", which takes them in turn.
	RetryAfter string
	// RetryAfterDelay is the wait an injected 429 asks for, printed in whole
	// seconds. 0: one second.
	RetryAfterDelay time.Duration

	// The faults. Each is a share of requests, or every Nth request; see Rate.
	// They strike GET requests of the public API before anything happens.

	Fault500      Rate // 500 with a JSON message
	Fault502      Rate // 502 with an HTML page, as a proxy sends it
	FaultReset    Rate // the connection is reset without an answer
	FaultTruncate Rate // the JSON stops half way under a matching Content-Length
	FaultCut      Rate // the connection closes half way through the body, in turn with a Content-Length and chunked
	FaultStall    Rate // nothing more comes, in turn before the headers and half way through the body
	Fault429      Rate // 429, see RetryAfter
	FaultDisorder Rate // the first and the last contact of the page change places

	// FaultLimit is how many faults are injected in all. 0: no bound.
	FaultLimit int
	// StallFor bounds a stall; then the connection is reset. 0: two minutes.
	StallFor time.Duration

	// Changes per second of the clock, applied when somebody looks and, under
	// Start, ten times a second. 0: none.

	Updates float64 // contacts changed per second
	Creates float64 // contacts created per second
	Deletes float64 // contacts deleted per second

	// Changes per request for a page, applied before it is answered, the same
	// for the same seed. Fractions add up: 0.5 is every second request. 0: none.

	UpdatesPerRequest float64
	CreatesPerRequest float64
	DeletesPerRequest float64

	// BulkEvery gives BulkSize random contacts one exact updated_at on every
	// BulkEvery-th request for a page. 0: never.
	BulkEvery int
	// BulkSize belongs to BulkEvery. 0: none.
	BulkSize int
	// SilentShare is the share (0 to 1) of updates that leave updated_at alone.
	SilentShare float64
	// LateShare is the share (0 to 1) of updates and creations that become
	// visible after their updated_at: LateDelay and LateRequests later.
	LateShare float64
	// LateDelay is the longest such delay; each is uniform in (0, LateDelay]. 0: none.
	LateDelay time.Duration
	// LateRequests is for how many requests for a page such a change stays
	// invisible. 0: none.
	LateRequests int

	// Ties in the data at the start. 0: only those that chance brings.

	UpdatedTies   int // contacts that share one exact updated_at
	UpdatedMsTies int // contacts whose updated_at prints as one millisecond
	CreatedTies   int // contacts that share one exact created_at
	CreatedMsTies int // contacts whose created_at prints as one millisecond
	// Future is how many contacts have an updated_at in the year 2099. 0: none.
	Future int

	// ShuffleTies returns contacts with one exact timestamp in a new order on
	// every request. False: in one order for ever.
	ShuffleTies bool
	// PageCap is the most contacts a page has, whatever limit says. 0: no cap.
	PageCap int
	// PageExtra is how many contacts a page has beyond the limit. 0: none.
	PageExtra int
	// DaysAlone serves days by itself, newest message first, where it comes
	// with created_after or updated_after: a source that does not combine
	// them. False: all filters combine.
	DaysAlone bool
	// Wrap is "data" or "contacts" to answer {"data": [...]} or
	// {"contacts": [...]} in place of a bare array; "" or "none" for the array.
	Wrap string

	// BareList leaves custom fields out of the list: the info endpoint alone has
	// them. False: both have them.
	BareList bool
	// Forbid says what the key may not read, which is answered 403: "info",
	// "pipeline" or "both"; "" or "none" for nothing.
	Forbid string

	// Skew is how far the sandbox's clock is ahead of the given one; negative
	// for behind. 0: not at all.
	Skew time.Duration
	// ClockStep moves the sandbox's clock ahead on every request for a page,
	// so that a standing clock still passes. 0: not at all.
	ClockStep time.Duration
	// Date is what the Date header holds: "on" (default) the sandbox's clock;
	// "off" no header; "cached" a time DateAge ago, with an Age header.
	Date string
	// DateAge belongs to Date "cached", in whole seconds. 0: five minutes.
	DateAge time.Duration
	// NoGzip turns compression off. False: gzip for clients that accept it.
	NoGzip bool

	// APIKey is what x-api-key must hold. "": DefaultKey. Flag only.
	APIKey string
	// AllowRemote lets Start listen on an address that is not loopback. Flag only.
	AllowRemote bool
}

// DefaultOptions returns 10000 contacts of seed 1, without faults or changes.
func DefaultOptions() Options {
	return Options{Contacts: 10_000, Seed: 1, RetryAfter: "seconds", Date: "on", APIKey: DefaultKey}
}

// Rate says how often something happens: with probability Share, or on every
// Every-th request where that is set. The zero Rate is never.
type Rate struct {
	Share float64 // 0 to 1
	Every int     // > 0: requests Every, 2*Every, ...
}

// String prints r as ParseRate reads it.
func (r Rate) String() string {
	if r.Every > 0 {
		return "every:" + strconv.Itoa(r.Every)
	}
	return strconv.FormatFloat(r.Share, 'g', -1, 64)
}

var errRate = errors.New("must be a share from 0 to 1 such as 0.05, a percentage such as 5%, or every:N with N from 1")

// ParseRate reads "0.05", "5%" or "every:20".
func ParseRate(s string) (Rate, error) {
	if n, ok := strings.CutPrefix(s, "every:"); ok {
		every, err := strconv.Atoi(n)
		if err != nil || every < 1 {
			return Rate{}, errRate
		}
		return Rate{Every: every}, nil
	}
	number, percent := strings.CutSuffix(s, "%")
	share, err := strconv.ParseFloat(number, 64)
	if percent {
		share /= 100
	}
	if err != nil || !inRange(share, 0, 1) {
		return Rate{}, errRate
	}
	return Rate{Share: share}, nil
}

func inRange(f, low, high float64) bool { return !math.IsNaN(f) && f >= low && f <= high }

// faultRates returns the rates by kind of fault.
func (o *Options) faultRates() [faultKinds]Rate {
	return [faultKinds]Rate{
		fault500: o.Fault500, fault502: o.Fault502, faultReset: o.FaultReset,
		faultTruncate: o.FaultTruncate, faultCut: o.FaultCut, faultStall: o.FaultStall,
		fault429: o.Fault429, faultDisorder: o.FaultDisorder,
	}
}

// normalize fills what the zero value leaves to a default.
func (o *Options) normalize() {
	fill := func(s *string, value string) {
		if *s == "" {
			*s = value
		}
	}
	fill(&o.RetryAfter, "seconds")
	fill(&o.Date, "on")
	fill(&o.Wrap, "none")
	fill(&o.Forbid, "none")
	fill(&o.APIKey, DefaultKey)
	wait := func(d *time.Duration, value time.Duration) {
		if *d == 0 {
			*d = value
		}
	}
	wait(&o.RetryAfterDelay, time.Second)
	wait(&o.StallFor, 2*time.Minute)
	wait(&o.DateAge, 5*time.Minute)
	if o.RateBurst == 0 {
		o.RateBurst = int(math.Ceil(o.RateLimit))
	}
}

// check reports every value out of its range: a struct filled by hand passes
// the same rules as flags and URLs.
func (o *Options) check() error {
	var faults []error
	for _, p := range o.params() {
		if err := p.value.Set(p.value.String()); err != nil {
			faults = append(faults, fmt.Errorf("option %s: %w, got %q", p.name, err, p.value.String()))
		}
	}
	return errors.Join(faults...)
}
