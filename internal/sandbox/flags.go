package sandbox

import (
	"errors"
	"fmt"
	"math"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/pflag"
)

// Scheme is the URL scheme of a sandbox that runs in process.
const Scheme = "sandbox"

// param is one option under its name in URLs: the single table that flags,
// URLs and checks are made from.
type param struct {
	name  string
	usage string
	value *setting
	local bool // a flag only, never part of a URL
}

// setting is a pflag.Value over one field of Options.
type setting struct {
	set func(string) error
	get func() string
	typ string
}

var _ pflag.Value = (*setting)(nil)

func (s *setting) Set(text string) error { return s.set(text) }
func (s *setting) String() string        { return s.get() }
func (s *setting) Type() string          { return s.typ }

func intSetting(p *int, low, high int) *setting {
	return &setting{typ: "int", get: func() string { return strconv.Itoa(*p) }, set: func(s string) error {
		n, err := strconv.Atoi(s)
		if err != nil || n < low || n > high {
			return fmt.Errorf("must be a whole number from %d to %d", low, high)
		}
		*p = n
		return nil
	}}
}

func countSetting(p *int) *setting { return intSetting(p, 0, math.MaxInt32) }

func seedSetting(p *uint64) *setting {
	return &setting{typ: "uint", get: func() string { return strconv.FormatUint(*p, 10) }, set: func(s string) error {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			return errors.New("must be a whole number from 0 to 18446744073709551615")
		}
		*p = n
		return nil
	}}
}

func floatSetting(p *float64, high float64) *setting {
	get := func() string { return strconv.FormatFloat(*p, 'g', -1, 64) }
	return &setting{typ: "float", get: get, set: func(s string) error {
		f, err := strconv.ParseFloat(s, 64)
		if err != nil || !inRange(f, 0, high) {
			return fmt.Errorf("must be a number from 0 to %g", high)
		}
		*p = f
		return nil
	}}
}

func waitSetting(p *time.Duration, low time.Duration) *setting {
	get := func() string {
		if *p == 0 {
			return "0"
		}
		return p.String()
	}
	return &setting{typ: "duration", get: get, set: func(s string) error {
		d, err := time.ParseDuration(s)
		switch {
		case err != nil:
			return errors.New("must be a duration such as 50ms, 2s or 1h")
		case d < low:
			return errors.New("must not be negative")
		}
		*p = d
		return nil
	}}
}

func boolSetting(p *bool) *setting {
	return &setting{typ: "bool", get: func() string { return strconv.FormatBool(*p) }, set: func(s string) error {
		b, err := strconv.ParseBool(s)
		if err != nil {
			return errors.New("must be true or false")
		}
		*p = b
		return nil
	}}
}

func rateSetting(p *Rate) *setting {
	return &setting{typ: "rate", get: func() string { return p.String() }, set: func(s string) error {
		r, err := ParseRate(s)
		if err == nil {
			*p = r
		}
		return err
	}}
}

func wordSetting(p *string, allowed ...string) *setting {
	return &setting{typ: "string", get: func() string { return *p }, set: func(s string) error {
		if s != "" && !slices.Contains(allowed, s) {
			return errors.New("must be one of " + strings.Join(allowed, ", "))
		}
		*p = s
		return nil
	}}
}

func textSetting(p *string) *setting {
	return &setting{typ: "string", get: func() string { return *p }, set: func(s string) error { *p = s; return nil }}
}

// params lists every option, bound to o.
func (o *Options) params() []param {
	const backward = time.Duration(math.MinInt64)
	return []param{
		{name: "contacts", usage: "contacts that exist at the start", value: intSetting(&o.Contacts, 0, MaxContacts)},
		{name: "seed", usage: "chooses data, changes and faults", value: seedSetting(&o.Seed)},

		{name: "latency", usage: "added to every answer", value: waitSetting(&o.Latency, 0)},
		{name: "latency_jitter", usage: "width of a random addition to latency", value: waitSetting(&o.LatencyJitter, 0)},
		{name: "rate_limit", usage: "requests per second before 429; 0 for no limit", value: floatSetting(&o.RateLimit, 1e6)},
		{name: "rate_burst", usage: "requests that may come at once under rate_limit; 0 for one second's worth", value: countSetting(&o.RateBurst)},
		{name: "retry_after", usage: "Retry-After of a 429: seconds, date, none or mix", value: wordSetting(&o.RetryAfter, "seconds", "date", "none", "mix")},
		{name: "retry_after_delay", usage: "wait that an injected 429 asks for; 0 for 1s", value: waitSetting(&o.RetryAfterDelay, 0)},

		{name: "fault_500", usage: "500 with JSON: a share, a percentage or every:N", value: rateSetting(&o.Fault500)},
		{name: "fault_502", usage: "502 with HTML", value: rateSetting(&o.Fault502)},
		{name: "fault_reset", usage: "connection reset", value: rateSetting(&o.FaultReset)},
		{name: "fault_truncate", usage: "JSON that stops half way, with a matching length", value: rateSetting(&o.FaultTruncate)},
		{name: "fault_cut", usage: "connection closed half way through the body", value: rateSetting(&o.FaultCut)},
		{name: "fault_stall", usage: "an answer that stops coming", value: rateSetting(&o.FaultStall)},
		{name: "fault_429", usage: "429 whatever the rate", value: rateSetting(&o.Fault429)},
		{name: "fault_disorder", usage: "a page out of order", value: rateSetting(&o.FaultDisorder)},
		{name: "fault_limit", usage: "faults injected in all; 0 for no bound", value: countSetting(&o.FaultLimit)},
		{name: "stall_for", usage: "longest stall; 0 for 2m", value: waitSetting(&o.StallFor, 0)},

		{name: "updates", usage: "contacts changed per second", value: floatSetting(&o.Updates, 1e6)},
		{name: "creates", usage: "contacts created per second", value: floatSetting(&o.Creates, 1e6)},
		{name: "deletes", usage: "contacts deleted per second", value: floatSetting(&o.Deletes, 1e6)},
		{name: "updates_per_request", usage: "contacts changed before each page", value: floatSetting(&o.UpdatesPerRequest, 1e6)},
		{name: "creates_per_request", usage: "contacts created before each page", value: floatSetting(&o.CreatesPerRequest, 1e6)},
		{name: "deletes_per_request", usage: "contacts deleted before each page", value: floatSetting(&o.DeletesPerRequest, 1e6)},
		{name: "bulk_every", usage: "a bulk update before every Nth page; 0 for never", value: countSetting(&o.BulkEvery)},
		{name: "bulk_size", usage: "contacts in a bulk update, all with one updated_at", value: countSetting(&o.BulkSize)},
		{name: "silent_share", usage: "share of updates that leave updated_at alone", value: floatSetting(&o.SilentShare, 1)},
		{name: "late_share", usage: "share of updates and creations that become visible late", value: floatSetting(&o.LateShare, 1)},
		{name: "late_delay", usage: "longest time until a late change is visible", value: waitSetting(&o.LateDelay, 0)},
		{name: "late_requests", usage: "pages answered until a late change is visible", value: countSetting(&o.LateRequests)},

		{name: "updated_ties", usage: "contacts with one exact updated_at", value: countSetting(&o.UpdatedTies)},
		{name: "updated_ms_ties", usage: "contacts whose updated_at prints alike", value: countSetting(&o.UpdatedMsTies)},
		{name: "created_ties", usage: "contacts with one exact created_at", value: countSetting(&o.CreatedTies)},
		{name: "created_ms_ties", usage: "contacts whose created_at prints alike", value: countSetting(&o.CreatedMsTies)},
		{name: "future", usage: "contacts with an updated_at in 2099", value: countSetting(&o.Future)},

		{name: "shuffle_ties", usage: "ties in a new order on every request", value: boolSetting(&o.ShuffleTies)},
		{name: "page_cap", usage: "most contacts in a page, whatever the limit; 0 for no cap", value: countSetting(&o.PageCap)},
		{name: "page_extra", usage: "contacts in a page beyond the limit", value: countSetting(&o.PageExtra)},
		{name: "days_alone", usage: "days given with created_after or updated_after is served alone", value: boolSetting(&o.DaysAlone)},
		{name: "wrap", usage: "key that wraps the array: none, data or contacts", value: wordSetting(&o.Wrap, "none", "data", "contacts")},
		{name: "bare_list", usage: "custom fields are left out of the list, and only the info endpoint has them", value: boolSetting(&o.BareList)},
		{name: "forbid", usage: "what the key may not read: none, info, pipeline or both", value: wordSetting(&o.Forbid, "none", "info", "pipeline", "both")},

		{name: "skew", usage: "how far the sandbox's clock is ahead; negative for behind", value: waitSetting(&o.Skew, backward)},
		{name: "clock_step", usage: "time that passes with each page, besides the clock's", value: waitSetting(&o.ClockStep, 0)},
		{name: "date", usage: "Date header: on, off or cached", value: wordSetting(&o.Date, "on", "off", "cached")},
		{name: "date_age", usage: "age of a cached Date; 0 for 5m", value: waitSetting(&o.DateAge, 0)},
		{name: "no_gzip", usage: "never compress", value: boolSetting(&o.NoGzip)},

		{name: "api_key", usage: "key that x-api-key must hold", value: textSetting(&o.APIKey), local: true},
		{name: "allow_remote", usage: "allow an address that is not loopback", value: boolSetting(&o.AllowRemote), local: true},
	}
}

// Flags defines every option on fs, bound to o, with o's values as defaults:
// call it on DefaultOptions. Names are those of the URL with hyphens.
func (o *Options) Flags(fs *pflag.FlagSet) {
	for _, p := range o.params() {
		f := fs.VarPF(p.value, strings.ReplaceAll(p.name, "_", "-"), "", p.usage)
		if p.value.typ == "bool" {
			f.NoOptDefVal = "true"
		}
	}
}

// ParseURL reads sandbox://?contacts=10000&seed=1&... over DefaultOptions. It
// reports every faulty parameter at once, each with what was given and what is
// allowed.
func ParseURL(raw string) (Options, error) {
	o := DefaultOptions()
	u, err := url.Parse(raw)
	if err != nil {
		return Options{}, fmt.Errorf("parse sandbox URL: %w", err)
	}
	if u.Scheme != Scheme {
		return Options{}, fmt.Errorf("parse sandbox URL: scheme is %q, must be %q", u.Scheme, Scheme)
	}
	if u.Host != "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.Opaque != "" || u.Fragment != "" {
		return Options{}, errors.New("parse sandbox URL: only parameters may follow, as in sandbox://?contacts=10000&seed=1")
	}
	query, err := url.ParseQuery(u.RawQuery)
	if err != nil {
		return Options{}, fmt.Errorf("parse sandbox URL: %w", err)
	}
	byName := make(map[string]param)
	for _, p := range o.params() {
		byName[p.name] = p
	}
	var faults []error
	for _, key := range sortedKeys(query) {
		if err := setParam(byName, key, query[key]); err != nil {
			faults = append(faults, err)
		}
	}
	if len(faults) > 0 {
		return Options{}, fmt.Errorf("parse sandbox URL: %w", errors.Join(faults...))
	}
	return o, nil
}

func setParam(byName map[string]param, key string, values []string) error {
	p, ok := byName[strings.ReplaceAll(key, "-", "_")]
	switch {
	case !ok:
		return unknownParam(byName, key)
	case p.local:
		return fmt.Errorf("parameter %q: not part of a URL; `sluice sandbox` takes it as --%s", key, strings.ReplaceAll(p.name, "_", "-"))
	case len(values) > 1:
		return fmt.Errorf("parameter %q: given %d times, must be given once", key, len(values))
	}
	text := values[0]
	if text == "" && p.value.typ == "bool" {
		text = "true" // a bare name, as on the command line
	}
	if text == "" && p.value.typ == "string" {
		return fmt.Errorf("parameter %q: must not be empty", key)
	}
	if err := p.value.Set(text); err != nil {
		return fmt.Errorf("parameter %q: %w, got %q", key, err, text)
	}
	return nil
}

func unknownParam(byName map[string]param, key string) error {
	var names []string
	for name, p := range byName {
		if !p.local {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	best, distance := "", 4
	for _, name := range names {
		if d := editDistance(strings.ToLower(key), name); d < distance {
			best, distance = name, d
		}
	}
	if best != "" {
		return fmt.Errorf("parameter %q: unknown; did you mean %q?", key, best)
	}
	return fmt.Errorf("parameter %q: unknown; allowed are %s", key, strings.Join(names, ", "))
}

// editDistance is Levenshtein's, in bytes.
func editDistance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost++
			}
			diagonal = row[j+1]
			row[j+1] = min(cost, row[j+1]+1, row[j]+1)
		}
	}
	return row[len(b)]
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
