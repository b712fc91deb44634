package web

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/internal/monitor"
	"github.com/sluice-etl/sluice/internal/state"
)

const (
	kindSync     = "sync"
	statusDone   = "done"
	statusSealed = "sealed"
)

// The classes of what is shown, which are its colours. What they say stands in
// words beside them.
const (
	good  = "good"
	warn  = "warn"
	bad   = "bad"
	quiet = "none"
)

// Badge is a status in a word, with a mark and a colour.
type Badge struct{ Class, Mark, Word string }

func badge(h monitor.Health) Badge {
	switch h {
	case monitor.Healthy:
		return Badge{good, "✓", "Fine"}
	case monitor.Late:
		return Badge{warn, "!", "Late"}
	case monitor.Failing:
		return Badge{bad, "✕", "Failed"}
	case monitor.Never:
		return Badge{quiet, "–", "Never run"}
	case monitor.Unknown:
		return Badge{bad, "?", "Unknown"}
	default:
		return Badge{quiet, "?", string(h)}
	}
}

// fine reports whether nobody has to look at a pipeline.
func fine(s monitor.Status) bool {
	return s.Health == monitor.Healthy && len(s.Failures) == 0 && !slices.ContainsFunc(s.Queues, troubled)
}

func troubled(q monitor.Queue) bool { return q.Error != "" || q.NeedsFull }

// Row is a pipeline of the overview.
type Row struct {
	ID, Name, URL string
	Badge         Badge
	Fine, Unknown bool
	Problem       string // in a line; empty for none
	Hints         []string
	Next, Again   *When // the next run, and the next try of one that failed
	AgainUntil    *When
	Schedule      string
	Zone          string
	Last          *Last
	Fresh         Fresh
	Live          []Live
	Queues        []Queue // those that are not empty
	Charts        []Chart
	Small         bool
	CanRun        bool
}

// Last is the last run that has ended.
type Last struct {
	At             *When
	URL, Took      string
	Status, Counts string
	Done           bool
}

// Fresh is how old the data is.
type Fresh struct {
	Text, Class, Title string
	// Bar is how much of the time allowed has passed, in percent; negative where
	// nobody has said how much is.
	Bar float64
}

// Live is a job that runs, or waits.
type Live struct {
	Title, URL, Detail string
	Percent            int // of the phase; negative where unknown
	Percented          string
	Committed, Failed  []string
}

// Queue is what waits for a destination.
type Queue struct {
	Name, Type, Place    string
	Position             int64
	Packages, Rows, Size string
	Waiting              bool
	Oldest, Since        *When
	Error                string
	NeedsFull            bool
}

func row(s monitor.Status, now time.Time, small bool) Row {
	r := Row{
		ID: "p-" + partID(s.Name), Name: s.Name, URL: pipelineURL(s.Name), Badge: badge(s.Health), Fine: fine(s), Unknown: s.Health == monitor.Unknown,
		Next: when(s.Next, now, s.Location), Schedule: s.Schedule, Zone: zone(s.Location), Fresh: fresh(s), Small: small,
	}
	r.Problem, r.Hints = problem(s)
	if r.Badge.Class == good && r.Problem != "" {
		r.Badge = Badge{warn, "!", "Look"}
	}
	if s.Retry != nil {
		r.Again, r.AgainUntil = when(s.Retry.At, now, s.Location), when(s.Retry.Until, now, s.Location)
	}
	if s.Last != nil {
		r.Last = last(s, now)
	}
	for _, l := range s.Live {
		r.Live = append(r.Live, live(l, now))
	}
	for _, q := range s.Queues {
		if q.Packages > 0 || troubled(q) {
			r.Queues = append(r.Queues, queued(q, s, now))
		}
	}
	r.Charts = charts(s.Runs, s.Location)
	if small && len(r.Charts) > 0 {
		r.Charts = r.Charts[:1]
	}
	return r
}

// partID is a name as the id of an element, different for different names.
func partID(name string) string {
	var b strings.Builder
	for _, c := range []byte(name) {
		if c >= 'a' && c <= 'z' || c >= '0' && c <= '9' {
			b.WriteByte(c)
		} else {
			fmt.Fprintf(&b, "_%02x", c)
		}
	}
	return b.String()
}

func zone(l *time.Location) string {
	if l == nil {
		return "UTC"
	}
	return l.String()
}

// problem says in a line what is wrong with a pipeline, and what to do.
func problem(s monitor.Status) (text string, hints []string) {
	failed := func(kind string) *monitor.Failure {
		for i := range s.Failures {
			if (s.Failures[i].Kind == kindSync) == (kind == kindSync) {
				return &s.Failures[i]
			}
		}
		return nil
	}
	switch {
	case s.Health == monitor.Unknown:
		return "its state cannot be read: " + s.Err.Error(), nil
	case s.Health == monitor.Failing && failed(kindSync) != nil:
		f := failed(kindSync)
		return f.Err, f.Hints
	case s.Health == monitor.Failing && s.Last.Error == "" && s.Last.Status == statusSealed:
		return "it was stopped before a destination had taken what it read", nil
	case s.Health == monitor.Failing && s.Last.Error == "":
		return "it was " + s.Last.Status, nil
	case s.Health == monitor.Failing:
		return s.Last.Error, nil
	case s.Health == monitor.Late:
		return "its data is " + about(s.Age) + " old, " + about(s.Freshness) + " are allowed", nil
	case failed("") != nil:
		f := failed("")
		return f.Kind + " failed: " + f.Err, f.Hints
	}
	for _, q := range s.Queues {
		switch {
		case q.Error != "":
			return "destination " + q.Name + ": " + q.Error, nil
		case q.NeedsFull:
			return "destination " + q.Name + " was given up for failing too long: a full read fills it", nil
		}
	}
	return "", nil
}

func last(s monitor.Status, now time.Time) *Last {
	r := s.Last
	ended := r.StartedAt
	if r.FinishedAt != nil {
		ended = *r.FinishedAt
	}
	return &Last{
		At: when(ended, now, s.Location), URL: runURL(s.Name, r.RunID), Took: tookOf(*r),
		Status: r.Status, Counts: counts(*r), Done: r.Status == statusDone,
	}
}

func tookOf(r state.RunRecord) string {
	if r.FinishedAt == nil {
		return ""
	}
	return took(r.FinishedAt.Sub(r.StartedAt))
}

func counts(r state.RunRecord) string {
	text := count(r.New) + " new, " + count(r.Changed) + " changed"
	if r.Deleted != nil && *r.Deleted > 0 {
		text += ", " + count(*r.Deleted) + " gone"
	}
	return text
}

func fresh(s monitor.Status) Fresh {
	f := Fresh{Bar: -1, Class: quiet, Text: "no data yet"}
	if !s.FreshAt.IsZero() {
		f.Text, f.Title = about(s.Age)+" old", "The last good run began "+exact(s.FreshAt, s.Location)+" ("+zone(s.Location)+")"
	}
	if s.Health == monitor.Unknown && s.FreshAt.IsZero() {
		f.Text = "not known"
		return f
	}
	if s.Freshness <= 0 {
		return f
	}
	f.Text += ", " + about(s.Freshness) + " allowed"
	f.Bar = min(100, 100*float64(s.Age)/float64(s.Freshness))
	switch {
	case s.Late:
		f.Class = bad
	case f.Bar > 90:
		f.Class = warn
	default:
		f.Class = good
	}
	return f
}

// phases are the engine's words for what a run does, as people say it.
func phaseText(phase string) string {
	switch phase {
	case "":
		return "starting"
	case "scan":
		return "reading all contacts"
	case "changes":
		return "reading changes"
	case "recent":
		return "reading recent contacts"
	case "backfill":
		return "reading the range again"
	case "walk":
		return "looking for deleted contacts"
	case "confirm":
		return "asking for missing contacts"
	case "info":
		return "asking for details"
	case "retry":
		return "trying records that were set aside"
	default:
		return phase
	}
}

func kindText(kind string) string {
	switch kind {
	case kindSync:
		return "Run"
	case "backfill":
		return "Backfill"
	case "reconcile":
		return "Reconciliation"
	case "retry":
		return "Retry of records"
	default:
		return kind
	}
}

func live(l monitor.Live, now time.Time) Live {
	v := Live{Percent: -1, Committed: l.Committed, Failed: l.Failed}
	if l.Waiting {
		v.Title = kindText(l.Kind) + " waits for its turn"
		v.Detail = "for " + about(now.Sub(l.Since)) + ": as many run as may at once"
		return v
	}
	v.Title = kindText(l.Kind) + " is running"
	if l.RunID != "" {
		v.URL = runURL(l.Pipeline, l.RunID)
	}
	parts := []string{phaseText(l.Phase)}
	if l.Mode == "full" && l.Kind == kindSync {
		parts[0] += " (full)"
	}
	if l.Contacts > 0 || l.Pages > 0 {
		parts = append(parts, counted(l.Contacts, "contact", "contacts"), counted(l.Pages, "page", "pages"))
	}
	parts = append(parts, "for "+took(now.Sub(l.Since)))
	if l.Attempt > 1 {
		parts = append(parts, fmt.Sprintf("attempt %d", l.Attempt))
	}
	if l.Trigger != "" {
		parts = append(parts, "started by "+triggerText(string(l.Trigger)))
	}
	v.Detail = strings.Join(parts, " · ")
	if l.Share >= 0 {
		v.Percent, v.Percented = int(l.Share*100), percent(l.Share)
	}
	return v
}

func triggerText(t string) string {
	switch t {
	case "schedule":
		return "the schedule"
	case "catch-up":
		return "a time that was missed"
	case "retry":
		return "the failure before"
	case "manual":
		return "hand"
	default:
		return t
	}
}

func queued(q monitor.Queue, s monitor.Status, now time.Time) Queue {
	return Queue{
		Name: q.Name, Type: q.Type, Place: q.Place, Position: q.Position,
		Packages: counted(q.Packages, "package", "packages"), Rows: counted(q.Rows, "row", "rows"), Size: sized(q.Bytes), Waiting: q.Packages > 0,
		Oldest: when(q.Oldest, now, s.Location), Since: when(q.FailingSince, now, s.Location), Error: q.Error, NeedsFull: q.NeedsFull,
	}
}
