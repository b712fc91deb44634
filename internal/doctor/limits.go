package doctor

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/extract"
)

// limits is what answers say of rates.
type limits struct {
	headers  map[string]string // as last seen
	reset    float64           // seconds, the longest seen
	refused  int               // answers 429
	asked    time.Duration     // the longest Retry-After
	failures map[string]int    // other attempts that failed, by kind
}

func (l *limits) add(r extract.Response, err error) {
	for name, value := range r.RateLimit {
		if name == "retry-after" {
			continue
		}
		if l.headers == nil {
			l.headers = map[string]string{}
		}
		l.headers[name] = value
		if strings.HasSuffix(name, "-reset") {
			l.reset = max(l.reset, number(value))
		}
	}
	var (
		status    *extract.StatusError
		transport *extract.TransportError
		bad       *extract.PageError
	)
	kind := ""
	switch {
	case errors.As(err, &status) && status.Status == 429:
		l.refused++
		l.asked = max(l.asked, status.RetryAfter)
	case errors.As(err, &status) && status.Status >= 500:
		kind = "status " + strconv.Itoa(status.Status)
	case errors.As(err, &transport):
		kind = strings.ReplaceAll(string(transport.Cause), "_", " ")
	case errors.As(err, &bad):
		kind = "broken page"
	}
	if kind != "" {
		if l.failures == nil {
			l.failures = map[string]int{}
		}
		l.failures[kind]++
	}
}

// number reads the leading number of a header's value, 0 where there is none.
func number(s string) float64 {
	end := strings.IndexFunc(s, func(r rune) bool { return (r < '0' || r > '9') && r != '.' })
	if end >= 0 {
		s = s[:end]
	}
	n, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return 0
	}
	return n
}

// perSecond reads a rate from the headers, 0 where they do not give one: a
// policy ("100;w=60", of the RateLimit header drafts of the IETF), or a limit
// with the longest reset seen, which is about the window.
func (l *limits) perSecond() float64 {
	for _, name := range []string{"ratelimit-policy", "x-ratelimit-policy", "ratelimit-limit", "x-ratelimit-limit"} {
		policy := l.headers[name]
		quota := number(policy)
		for part := range strings.SplitSeq(policy, ";") {
			part = strings.TrimSpace(part)
			if q, ok := strings.CutPrefix(part, "q="); ok {
				quota = number(q)
			}
			if w, ok := strings.CutPrefix(part, "w="); ok && quota > 0 && number(w) > 0 {
				return quota / number(w)
			}
		}
	}
	const longest = 86400 // a larger reset is a date, not a span
	for _, name := range []string{"ratelimit-limit", "x-ratelimit-limit"} {
		if quota := number(l.headers[name]); quota > 0 && l.reset > 0 && l.reset <= longest {
			return quota / l.reset
		}
	}
	return 0
}

const keyRate = "sources.*.requests_per_second"

func (e *exam) checkRate(context.Context) (finding, error) {
	l := &e.limits
	configured := e.o.Source.RequestsPerSecond
	if configured == 0 {
		configured = 5 // the client's default
	}
	var found []string
	if len(l.headers) > 0 {
		var parts []string
		for _, name := range slices.Sorted(maps.Keys(l.headers)) {
			parts = append(parts, name+": "+l.headers[name])
		}
		found = append(found, "Answers name a limit ("+list(parts, 6)+").")
	} else {
		found = append(found, "No answer names a limit.")
	}
	if len(l.failures) > 0 {
		var parts []string
		for _, kind := range slices.Sorted(maps.Keys(l.failures)) {
			parts = append(parts, fmt.Sprintf("%s (%d)", kind, l.failures[kind]))
		}
		found = append(found, "Attempts that failed otherwise: "+list(parts, 6)+".")
	}
	rate, status, means := l.perSecond(), OK, ""
	switch {
	case l.refused > 0:
		said := "without Retry-After"
		if l.asked > 0 {
			said = "with Retry-After up to " + span(l.asked)
		}
		found = append(found, fmt.Sprintf("429 came %s in %s, %s.", times(l.refused), plural(e.sent, "request", "requests"), said))
		status, means = Note, "Sluice waits as asked after a 429; a lower requests_per_second avoids it."
		if rate == 0 && configured > 0 {
			rate = configured / 2
		}
	case len(e.pages) > 0:
		found = append(found, fmt.Sprintf("No 429 in %s.", plural(e.sent, "request", "requests")))
	}
	if len(l.failures) > 0 {
		status = Note
		means = strings.TrimSpace("Sluice repeats what fails in passing, for retry_for at most. " + means)
	}
	if rate > 0 && (configured < 0 || rate < configured) {
		value := "requests_per_second: " + plainRate(rate)
		e.suggest(keyRate, value, "the endpoint limits the rate of requests")
		status, means = Note, strings.TrimSpace(means+" Set "+value+".")
	}
	return finding{status, strings.Join(found, " "), means}, nil
}

// plainRate prints a rate with two digits that count, as the file takes it.
func plainRate(rate float64) string {
	rounded, err := strconv.ParseFloat(strconv.FormatFloat(rate, 'g', 2, 64), 64)
	if err != nil {
		rounded = rate
	}
	return strconv.FormatFloat(rounded, 'f', -1, 64)
}

func times(n int) string {
	if n == 1 {
		return "once"
	}
	return strconv.Itoa(n) + " times"
}
