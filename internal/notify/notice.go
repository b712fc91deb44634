package notify

import (
	"encoding/json"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/sluice-etl/sluice/internal/monitor"
)

// The events that a notice tells of, as Notice.Event has them.
const (
	Failure  = "failure"  // the pipeline fails, and is not tried again by itself before its next time
	Recovery = "recovery" // it is done again
	Stale    = "stale"    // its data is older than its freshness
	Fresh    = "fresh"    // it is no more
	Test     = "test"     // nothing has happened
)

// Version is that of the format of webhooks.
const Version = 1

// mostText is how much of an error is told, in characters: Slack takes 3000.
const mostText = 1500

// Notice is what is told, as a webhook has it. Its fields are a contract.
type Notice struct {
	Version  int       `json:"version"`
	Event    string    `json:"event"`
	Pipeline string    `json:"pipeline,omitempty"`
	At       time.Time `json:"at"`
	// Since is when the trouble began: the first failure in a row, or the moment
	// from which on the data was too old.
	Since *time.Time `json:"since,omitempty"`
	RunID string     `json:"run_id,omitempty"` // of the last run that has ended
	Error string     `json:"error,omitempty"`
	Hint  string     `json:"hint,omitempty"`
	// ApprovalNeeded says that nothing is broken: somebody has to approve changes
	// of tables.
	ApprovalNeeded bool       `json:"approval_needed,omitempty"`
	NextRun        *time.Time `json:"next_run,omitempty"`
	// AgeSeconds is how old the data is, ObjectiveSeconds how old it may become.
	AgeSeconds       int64  `json:"age_seconds,omitempty"`
	ObjectiveSeconds int64  `json:"objective_seconds,omitempty"`
	Page             string `json:"page,omitempty"` // address of the pipeline's page

	trouble string // Failure or Stale: which of them it begins or ends
	begins  bool
}

// due returns what there is to tell of a pipeline, where told are the troubles
// that somebody has been told of, and when each began.
func due(s monitor.Status, told map[string]time.Time, at time.Time) []Notice {
	var list []Notice
	add := func(n Notice, since time.Time) {
		n.Version, n.Pipeline, n.At, n.Since = Version, s.Name, at.UTC(), stamp(since)
		if s.Last != nil && n.RunID == "" && n.trouble == Failure {
			n.RunID = s.Last.RunID
		}
		if n.begins {
			n.NextRun = stamp(s.Next)
		}
		list = append(list, n)
	}
	since, isTold := told[Failure]
	first, n, failing := failure(s)
	switch {
	case failing && !isTold && settled(s):
		add(n, first)
	case !failing && isTold && doneSince(s, since):
		add(Notice{Event: Recovery, trouble: Failure}, since)
	}
	since, isTold = told[Stale]
	if s.Freshness > 0 && !s.ReadAt.IsZero() && s.Late != isTold {
		n := Notice{Event: Fresh, trouble: Stale, AgeSeconds: int64(s.Age.Seconds()), ObjectiveSeconds: int64(s.Freshness.Seconds())}
		if s.Late {
			n.Event, n.begins, since = Stale, true, at.Add(s.Freshness-s.Age)
		}
		add(n, since)
	}
	return list
}

// settled reports whether nothing is under way that may mend a failure.
func settled(s monitor.Status) bool {
	for _, l := range s.Live {
		if l.Kind == kindSync {
			return false
		}
	}
	return !s.Undecided && s.Retry == nil
}

// failure returns since when a pipeline fails, and what is told of it.
func failure(s monitor.Status) (since time.Time, n Notice, failing bool) {
	n = Notice{Event: Failure, trouble: Failure, begins: true}
	for i := len(s.Runs) - 1; i >= 0; i-- {
		r := s.Runs[i]
		if r.Kind != kindSync || r.FinishedAt == nil || r.Status == "interrupted" {
			continue
		}
		if r.Status == "done" {
			break
		}
		if since = *r.FinishedAt; !failing {
			n.RunID, n.Error, failing = r.RunID, r.Error, true
		}
	}
	if len(s.Failures) > 0 && s.Failures[0].Kind == kindSync {
		f := s.Failures[0]
		n.Error, n.Hint, n.ApprovalNeeded = f.Err, strings.Join(f.Hints, "\n"), f.Approval
		if n.RunID = f.RunID; !failing {
			since, failing = f.At, true
		}
	}
	return since, n, failing
}

// doneSince reports whether the last sync that has come to its end is done, and
// ended after a moment.
func doneSince(s monitor.Status, at time.Time) bool {
	for i := len(s.Runs) - 1; i >= 0; i-- {
		if r := s.Runs[i]; r.Kind == kindSync && r.FinishedAt != nil && r.Status != "interrupted" {
			return r.Status == "done" && r.FinishedAt.After(at)
		}
	}
	return false
}

func stamp(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC()
	return &t
}

// Headline says in a line what has happened.
func (n Notice) Headline() string {
	switch {
	case n.Event == Failure && n.ApprovalNeeded:
		return n.Pipeline + " waits for approval: tables have to be changed"
	case n.Event == Failure:
		return n.Pipeline + " failed"
	case n.Event == Recovery:
		return n.Pipeline + " is done again"
	case n.Event == Stale:
		return fmt.Sprintf("%s is late: its data is %s old, and may be %s", n.Pipeline, seconds(n.AgeSeconds), seconds(n.ObjectiveSeconds))
	case n.Event == Fresh:
		return fmt.Sprintf("%s is no more late: its data is %s old", n.Pipeline, seconds(n.AgeSeconds))
	default:
		return "a test: notices arrive here"
	}
}

// seconds says a duration to the minute.
func seconds(n int64) string {
	d := time.Duration(n) * time.Second
	if d >= time.Minute {
		d = d.Round(time.Minute)
		return strings.TrimSuffix(d.String(), "0s")
	}
	return d.String()
}

// cleaned returns the notice without secrets, its texts cut.
func (n Notice) cleaned(clean func(string) string) Notice {
	n.Error, n.Hint = cut(clean(n.Error)), cut(clean(n.Hint))
	return n
}

func cut(s string) string {
	if utf8.RuneCountInString(s) <= mostText {
		return s
	}
	return string([]rune(s)[:mostText]) + "..."
}

// body returns what is sent to a target of a type.
func (n Notice) body(kind string) ([]byte, error) {
	var v any = n
	if kind == slack {
		v = n.slack()
	}
	out, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("encode notice: %w", err)
	}
	return out, nil
}

type slackText struct {
	Type string `json:"type"`
	Text string `json:"text"`
}

type slackBlock struct {
	Type string    `json:"type"`
	Text slackText `json:"text"`
}

type slackMessage struct {
	Text   string       `json:"text"` // for what shows no blocks
	Blocks []slackBlock `json:"blocks"`
}

// escaped is text as Slack takes it: nothing in it is a link or a mention.
func escaped(s string) string {
	return strings.NewReplacer("&", "&amp;", "<", "&lt;", ">", "&gt;").Replace(s)
}

func (n Notice) slack() slackMessage {
	head := "Sluice: " + n.Headline()
	var b strings.Builder
	fmt.Fprintf(&b, "*%s*", escaped(head))
	if n.Error != "" {
		fmt.Fprintf(&b, "\n```%s```", escaped(strings.ReplaceAll(n.Error, "```", "'''")))
	}
	if n.Hint != "" {
		b.WriteString("\n" + escaped(n.Hint))
	}
	var facts []string
	if n.Since != nil {
		facts = append(facts, "since "+n.Since.Format(time.DateTime)+" UTC")
	}
	if n.RunID != "" {
		facts = append(facts, "run "+n.RunID)
	}
	if n.NextRun != nil {
		facts = append(facts, "next run "+n.NextRun.Format(time.DateTime)+" UTC")
	}
	if len(facts) > 0 {
		b.WriteString("\n" + escaped(strings.Join(facts, ", ")))
	}
	if n.Page != "" {
		fmt.Fprintf(&b, "\n<%s|its page>", escaped(n.Page))
	}
	return slackMessage{Text: escaped(head), Blocks: []slackBlock{{Type: "section", Text: slackText{Type: "mrkdwn", Text: b.String()}}}}
}
