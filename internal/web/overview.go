package web

import (
	"cmp"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/internal/monitor"
)

// manyPipelines is how many make the overview a list instead of cards.
const manyPipelines = 12

// shownProblems is how many the verdict names.
const shownProblems = 5

// Overview is the page of all pipelines.
type Overview struct {
	Frame
	Verdict  Verdict
	Groups   []Group
	Problems bool // only those that are not fine are shown
	Small    bool
	All, Bad int
}

// Verdict says in a line whether all is well.
type Verdict struct {
	Class, Mark, Text string
	Lines             []VerdictLine // what is not
	More              int
	Later             string // of those that have not run yet
	Running           string
}

// VerdictLine is one thing that is not well.
type VerdictLine struct {
	Class, Mark, Name, URL, Text string
	Hints                        []string
}

// Group is pipelines of one name in the file.
type Group struct {
	ID, Name, Text string // Name empty for a pipeline of its own
	Rows           []Row
}

func (p *Page) overview(w http.ResponseWriter, r *http.Request) {
	problems := r.URL.Query().Get("show") == "problems"
	v := p.overviewOf(p.o.Monitor.Snapshot(r.Context()), problems)
	v.Frame = p.frame(w, r, v.Verdict.Text)
	v.Here = "overview"
	q := url.Values{"of": {"overview"}}
	if problems {
		q.Set("show", "problems")
	}
	v.Live = "/live?" + q.Encode()
	p.render(w, http.StatusOK, "overview", v)
}

// overviewOf is the overview without its frame.
func (p *Page) overviewOf(s monitor.Snapshot, problems bool) Overview {
	v := Overview{Verdict: verdict(s), Problems: problems, Small: len(s.Pipelines) > manyPipelines, All: len(s.Pipelines)}
	bases := map[string]int{}
	for _, st := range s.Pipelines {
		bases[base(st.Name)]++
	}
	lastBase := ""
	worst := map[string][]Row{}
	for _, st := range s.Pipelines {
		r := row(st, s.At, v.Small)
		r.CanRun = p.o.Actions != nil
		if !r.Fine {
			v.Bad++
		}
		b := base(st.Name)
		worst[b] = append(worst[b], r)
		if problems && r.Fine {
			continue
		}
		grouped := bases[b] > 1 || b != st.Name
		if len(v.Groups) == 0 || b != lastBase || !grouped {
			g := Group{ID: "g-" + partID(b)}
			if grouped {
				g.Name = b
			}
			// Pipelines of their own stand in one group as long as they follow
			// one another.
			if grouped || len(v.Groups) == 0 || v.Groups[len(v.Groups)-1].Name != "" {
				v.Groups = append(v.Groups, g)
			}
		}
		lastBase = b
		g := &v.Groups[len(v.Groups)-1]
		g.Rows = append(g.Rows, r)
	}
	for i, g := range v.Groups {
		if g.Name != "" {
			v.Groups[i].Text = tally(worst[g.Name])
		}
	}
	return v
}

// base is the name in the file of a pipeline that for_each made.
func base(name string) string {
	b, _, _ := strings.Cut(name, "[")
	return b
}

// tally counts pipelines by how they are.
func tally(rows []Row) string {
	words := map[string]int{}
	for _, r := range rows {
		words[r.Badge.Word]++
	}
	var parts []string
	for _, w := range []string{"Failed", "Unknown", "Late", "Look", "Never run", "Fine"} {
		if n := words[w]; n > 0 {
			parts = append(parts, count(n)+" "+strings.ToLower(w))
		}
	}
	return counted(len(rows), "account", "accounts") + ": " + strings.Join(parts, ", ")
}

// weight orders healths by how much they matter.
func weight(s monitor.Status) int {
	switch s.Health {
	case monitor.Failing:
		return 0
	case monitor.Unknown:
		return 1
	case monitor.Late:
		return 2
	case monitor.Healthy: // with something wrong beside
		return 3
	case monitor.Never:
		return 4
	default:
		return 5
	}
}

// verdict sums up everything.
func verdict(s monitor.Snapshot) Verdict {
	var v Verdict
	var wrong []monitor.Status
	never := 0
	for _, p := range s.Pipelines {
		switch {
		case p.Health == monitor.Never && len(p.Failures) == 0:
			never++
		case !fine(p):
			wrong = append(wrong, p)
		}
	}
	v.Running = runningText(s.Pipelines)
	slices.SortStableFunc(wrong, func(a, b monitor.Status) int { return cmp.Compare(weight(a), weight(b)) })
	for i, p := range wrong {
		if i == shownProblems {
			v.More = len(wrong) - shownProblems
			break
		}
		v.Lines = append(v.Lines, verdictLine(p, s.At))
	}
	if len(wrong) > 0 && never > 0 {
		v.Later = neverText(s.Pipelines, never, s.At, false)
	}
	switch {
	case len(s.Pipelines) == 0:
		v.Class, v.Mark, v.Text = quiet, "–", "There are no pipelines."
	case len(wrong) == 0 && never == 0:
		v.Class, v.Mark, v.Text = good, "✓", allFine(s.Pipelines)
	case len(wrong) == 0:
		v.Class, v.Mark, v.Text = quiet, "–", neverText(s.Pipelines, never, s.At, never < len(s.Pipelines))
	case len(s.Pipelines) == 1:
		v.Class, v.Mark, v.Text = v.Lines[0].Class, v.Lines[0].Mark, wrong[0].Name+" needs a look."
	default:
		v.Class, v.Mark = v.Lines[0].Class, v.Lines[0].Mark
		v.Text = fmt.Sprintf("%s of %s %s a look.", count(len(wrong)), counted(len(s.Pipelines), "pipeline", "pipelines"), map[bool]string{true: "needs", false: "need"}[len(wrong) == 1])
	}
	return v
}

func allFine(list []monitor.Status) string {
	oldest := slices.MaxFunc(list, func(a, b monitor.Status) int { return cmp.Compare(a.Age, b.Age) }).Age
	switch len(list) {
	case 1:
		return list[0].Name + " is fine; its data is " + about(oldest) + " old."
	case 2:
		return "Both pipelines are fine; the oldest data is " + about(oldest) + " old."
	default:
		return "All " + count(len(list)) + " pipelines are fine; the oldest data is " + about(oldest) + " old."
	}
}

func neverText(list []monitor.Status, never int, now time.Time, others bool) string {
	var next time.Time
	name := ""
	for _, p := range list {
		if p.Health != monitor.Never {
			continue
		}
		name = p.Name
		if !p.Next.IsZero() && (next.IsZero() || p.Next.Before(next)) {
			next = p.Next
		}
	}
	text := name + " has not run yet"
	if never > 1 {
		text = count(never) + " pipelines have not run yet"
	}
	if others {
		text += ", the others are fine"
	}
	if !next.IsZero() && next.After(now) {
		text += "; the next run is in " + about(next.Sub(now))
	}
	return text + "."
}

func runningText(list []monitor.Status) string {
	var names []string
	waiting := 0
	for _, p := range list {
		for _, l := range p.Live {
			if l.Waiting {
				waiting++
			} else {
				names = append(names, p.Name)
			}
		}
	}
	text := ""
	switch len(names) {
	case 0:
	case 1, 2, 3:
		text = strings.Join(slices.Compact(names), ", ") + " running now"
	default:
		text = counted(len(names), "run", "runs") + " going on now"
	}
	if waiting > 0 {
		text = strings.TrimPrefix(text+", "+count(waiting)+" waiting", ", ")
	}
	return text
}

// verdictLine says what is wrong with one pipeline.
func verdictLine(s monitor.Status, now time.Time) VerdictLine {
	text, hints := problem(s)
	b := badge(s.Health)
	if b.Class == good {
		b.Class, b.Mark = warn, "!"
	}
	l := VerdictLine{Class: b.Class, Mark: b.Mark, Name: s.Name, URL: pipelineURL(s.Name), Hints: hints}
	text = firstLine(text, 300)
	switch s.Health {
	case monitor.Failing:
		at := ""
		if t := failedAt(s); !t.IsZero() {
			at = " " + strings.TrimPrefix(moment(t, now, s.Location), "today ")
			if strings.HasPrefix(moment(t, now, s.Location), "today ") {
				at = " at" + at
			}
		}
		l.Text = " failed" + at + ": " + text
		if s.Retry != nil {
			l.Text += "; it tries again " + when(s.Retry.At, now, s.Location).Relative
		}
	default:
		l.Text = ": " + text
	}
	return l
}

// failedAt is when a pipeline's last sync failed.
func failedAt(s monitor.Status) time.Time {
	if len(s.Failures) > 0 && s.Failures[0].Kind == kindSync {
		return s.Failures[0].At
	}
	if s.Last != nil && s.Last.FinishedAt != nil {
		return *s.Last.FinishedAt
	}
	return time.Time{}
}
