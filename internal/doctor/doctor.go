// Package doctor asks a contacts endpoint a few dozen questions and says how it
// behaves: what an export over it may rest on, and what that means for the
// configuration. It reads pages, a contact and the list of pipelines; it writes
// nothing anywhere.
package doctor

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/clock"
)

// DefaultBudget is how many requests an examination may take unless told
// otherwise: enough for every check, with a few to spare for repeats.
const DefaultBudget = 50

const (
	defaultLookback = time.Hour
	defaultPageSize = 1000
	fullLimit       = 1000 // the largest limit that the vendor's page allows
)

// Options says what to examine.
type Options struct {
	// Source is where the endpoint is and how to talk to it. Its Filters and
	// MaxRetries are not used: the endpoint itself is examined, and repeats
	// count against Budget. Rate and timeouts hold.
	Source extract.Source
	// Budget is the most requests sent, repeats included. 0: DefaultBudget.
	Budget int
	// PageSize and Lookback are what the configuration holds now, to compare
	// with what is found. 0: 1000 contacts; one hour. A negative Lookback: none.
	PageSize int
	Lookback time.Duration
	// DaysAlone says that the configuration has combine_filters: false.
	DaysAlone bool
	// Clock stamps requests, for the skew. nil: the machine's.
	Clock clock.Clock
}

func (o Options) withDefaults() Options {
	if o.Budget == 0 {
		o.Budget = DefaultBudget
	}
	if o.PageSize <= 0 {
		o.PageSize = defaultPageSize
	}
	switch {
	case o.Lookback == 0:
		o.Lookback = defaultLookback
	case o.Lookback < 0:
		o.Lookback = 0
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	return o
}

// Status sums up a check.
type Status string

// The statuses.
const (
	OK      Status = "ok"      // as documented, or as Sluice needs it
	Note    Status = "note"    // worth knowing; exports are right, perhaps with another setting
	Problem Status = "problem" // an export would fail or miss something
	Unknown Status = "unknown" // could not be seen
)

// Check is one question and its answer.
type Check struct {
	Name     string `json:"name"`
	Status   Status `json:"status"`
	Found    string `json:"found"`    // what was seen, with figures
	Means    string `json:"means"`    // for the configuration; may be empty
	Requests int    `json:"requests"` // sent for it; later checks use its pages
}

// Suggestion is a setting that fits what was found better than the one there
// is.
type Suggestion struct {
	// Key is the path in pipelines.yaml as in the table of keys, such as
	// "sources.*.page_size".
	Key     string `json:"key"`
	Setting string `json:"setting"` // as one would write it: "page_size: 100"
	Why     string `json:"why"`
}

// Report is the outcome of an examination.
type Report struct {
	Source      string       `json:"source"` // scheme and host
	Checks      []Check      `json:"checks"`
	Suggestions []Suggestion `json:"suggestions"`
	Requests    int          `json:"requests"` // sent, repeats included
	Budget      int          `json:"budget"`
}

// Count returns how many checks have the status.
func (r Report) Count(s Status) int {
	n := 0
	for _, c := range r.Checks {
		if c.Status == s {
			n++
		}
	}
	return n
}

// Run examines the source. A source that cannot be reached, or refuses the key,
// is a finding and no error; errors are those of the options (such as an
// *extract.SourceError) and the end of ctx. Run blocks for as long as the
// requests take at the source's rate.
func Run(ctx context.Context, o Options) (Report, error) {
	o = o.withDefaults()
	if o.Budget < 1 {
		return Report{}, fmt.Errorf("check doctor options: the budget is %d requests, must be at least 1", o.Budget)
	}
	e, err := newExam(o)
	if err != nil {
		return Report{}, err
	}
	defer e.close()
	report := Report{Source: o.Source.Identity(), Budget: o.Budget, Suggestions: []Suggestion{}}
	early := 0 // requests that prepared for a later check
	for _, s := range steps() {
		check, err := e.perform(ctx, s)
		if err != nil {
			return Report{}, err
		}
		switch check.Name {
		case "":
			early = check.Requests
			continue
		case lateRows:
			check.Requests += early
		}
		report.Checks = append(report.Checks, check)
	}
	report.Requests = e.sent
	report.Suggestions = append(report.Suggestions, e.suggestions...)
	e.redact(&report)
	return report, nil
}

// suggest adds a setting; of several for one key the first stands.
func (e *exam) suggest(key, setting, why string) {
	for _, s := range e.suggestions {
		if s.Key == key {
			return
		}
	}
	e.suggestions = append(e.suggestions, Suggestion{Key: key, Setting: setting, Why: why})
}

// shortestKey is how long a key must be to be searched for: a shorter one is
// rather a word. The client's errors are clean without it.
const shortestKey = 8

// redact takes the key out of whatever the endpoint echoed into the report.
func (e *exam) redact(r *Report) {
	key := e.o.Source.APIKey.Reveal()
	if len(key) < shortestKey {
		return
	}
	clean := func(s *string) { *s = strings.ReplaceAll(*s, key, "[redacted]") }
	for i := range r.Checks {
		clean(&r.Checks[i].Found)
		clean(&r.Checks[i].Means)
	}
	for i := range r.Suggestions {
		clean(&r.Suggestions[i].Why)
	}
}

// errBudget says that a request was not sent because none is left.
var errBudget = errors.New("the budget of requests is used up")
