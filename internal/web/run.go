package web

import (
	"cmp"
	"context"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/internal/monitor"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
)

// RunPage is the page of one run.
type RunPage struct {
	Frame
	Pipeline, URL, ID string
	Body              RunBody
}

// RunBody is what changes of it while it runs.
type RunBody struct {
	Status, Class string
	Kind          string
	Zone          string
	Live          *Live
	Facts, Counts []Fact
	Error         string
	Hints         []string
	Notes         []string
	Aside         []Item
	AsideCommand  string
	Written       []Fact
	Fields        []FieldRow
	Coverage      *Coverage
	Log           []LogLine
	LogLeft       int
	LogNote       string
}

// LogLine is a line of a run's log.
type LogLine struct{ Time, Text, Class string }

func (p *Page) run(w http.ResponseWriter, r *http.Request) {
	name, id := r.PathValue("name"), r.PathValue("run")
	body, ok := p.runBody(r.Context(), name, id)
	if !ok {
		p.refuse(w, r, http.StatusNotFound, "There is no such run.", "State keeps the last 200 runs of a pipeline.")
		return
	}
	v := RunPage{Frame: p.frame(w, r, name+" · run "+id), Pipeline: name, URL: pipelineURL(name), ID: id, Body: body}
	v.Live = "/live?" + url.Values{"of": {"run"}, "name": {name}, "run": {id}}.Encode()
	p.render(w, http.StatusOK, "run", v)
}

// runBody puts together what is known of a run; false where nothing is.
func (p *Page) runBody(ctx context.Context, name, id string) (RunBody, bool) {
	s, ok := p.o.Monitor.Status(ctx, name)
	if !ok {
		return RunBody{}, false
	}
	b := RunBody{Zone: zone(s.Location)}
	lines, left := p.o.Monitor.Log(name, id)
	b.LogLeft = left
	for _, l := range lines {
		if line := logLine(l, s.Location); line.Text != "" {
			b.Log = append(b.Log, line)
		}
	}
	now := p.o.Clock.Now()
	if i := slices.IndexFunc(s.Live, func(l monitor.Live) bool { return l.RunID == id }); i >= 0 {
		l := live(s.Live[i], now)
		l.URL = ""
		b.Live, b.Status, b.Class, b.Kind = &l, "running", quiet, s.Live[i].Kind
	}
	if f, failed := p.o.Monitor.Failure(name, id); failed {
		b.Status, b.Class, b.Kind, b.Error, b.Hints = "failed", bad, f.Kind, f.Err, f.Hints
	}
	i := slices.IndexFunc(s.Runs, func(r state.RunRecord) bool { return r.RunID == id })
	if i >= 0 {
		b.take(s, s.Runs[i], now)
	}
	if i < 0 && len(lines) == 0 && b.Live == nil {
		return b, false
	}
	if len(b.Log) == 0 {
		b.LogNote = "The log of a run is kept in memory by the process that ran it: of this one, another process did, or it was too long ago."
	}
	for _, f := range s.Fields {
		if f.FirstRun == id {
			b.Fields = append(b.Fields, FieldRow{Source: f.Source, Column: f.Column, Type: f.Type})
		}
	}
	if len(b.Aside) > 0 {
		b.AsideCommand = p.o.Command + " quarantine list " + quoted(name)
	}
	return b, true
}

// take fills in what state remembers of the run.
func (b *RunBody) take(s monitor.Status, r state.RunRecord, now time.Time) {
	if b.Live == nil {
		b.Status, b.Class = r.Status, statusClass(r.Status)
		b.Error = cmp.Or(r.Error, b.Error)
		if r.Status == statusDone {
			b.Hints = nil
		}
	}
	b.Kind = r.Kind
	if r.Mode != "" && r.Mode != r.Kind {
		b.Kind += ", " + r.Mode
	}
	b.Facts = append(b.Facts, Fact{Name: "Began", When: when(r.StartedAt, now, s.Location)})
	if r.FinishedAt != nil {
		b.Facts = append(b.Facts, Fact{Name: "Ended", When: when(*r.FinishedAt, now, s.Location)}, Fact{Name: "Took", Value: tookOf(r)})
	}
	if r.Package > 0 {
		b.Facts = append(b.Facts, Fact{Name: "Package", Value: count(r.Package)})
	}
	b.Facts = append(b.Facts, Fact{Name: "Cursor after", Value: cmp.Or(stamp(r.CursorAfter), "none")})
	number := func(name string, n int64) { b.Counts = append(b.Counts, Fact{Name: name, Value: count(n)}) }
	number("new", r.New)
	number("changed", r.Changed)
	number("unchanged", r.Unchanged)
	if r.Deleted != nil {
		number("gone", *r.Deleted)
	}
	number("rows read", r.Rows)
	number("pages", r.Pages)
	number("requests", r.Requests)
	number("retries", r.Retries)
	number("set aside", r.Quarantined)
	b.Notes, b.Coverage, b.Aside = r.Notes, coverage(r.Coverage), items(r.QuarantinedBy)
	if len(b.Aside) == 0 && r.Quarantined > 0 {
		b.Aside = []Item{{Name: "records", Count: count(r.Quarantined), n: r.Quarantined}}
	}
	for _, name := range slices.Sorted(maps.Keys(r.Written)) {
		text := sized(r.Written[name].Bytes) + " written"
		if n := r.Written[name].Scanned; n > 0 {
			text += ", " + sized(n) + " scanned"
		}
		b.Written = append(b.Written, Fact{Name: name, Value: text})
	}
}

// quoted is a pipeline's name as a shell takes it.
func quoted(name string) string {
	if strings.ContainsAny(name, `["' $`+"`\\!*?&;|<>(){}~#]") {
		return "'" + strings.ReplaceAll(name, "'", `'\''`) + "'"
	}
	return name
}

// logLine is a line of the log, as people read it.
func logLine(l monitor.Line, zone *time.Location) LogLine {
	e := l.Event
	out := LogLine{Time: clockTime(l.Time, zone), Text: eventText(e)}
	switch {
	case e.Type == "commit_failed" || e.Type == "window_failed" || e.Type == "run_finished" && e.Error != "":
		out.Class = bad
	case e.Type == "note" || e.Type == "plain_text_stays" || e.Type == "backfill_kept":
		out.Class = warn
	}
	return out
}

func clockTime(t time.Time, zone *time.Location) string {
	if zone == nil {
		zone = time.UTC
	}
	return t.In(zone).Format("15:04:05")
}

func eventText(e run.Event) string {
	switch e.Type {
	case "run_started":
		return strings.TrimSuffix("began: "+e.Mode+", "+e.Reason, ", ")
	case "progress":
		text := phaseText(e.Phase) + ": " + counted(e.Contacts, "contact", "contacts") + ", " + counted(e.Pages, "page", "pages")
		if e.Mark != "" {
			text += ", up to " + e.Mark
		}
		return text
	case "part_sealed":
		return "a part of the rows is safe: " + counted(e.Contacts, "contact", "contacts")
	case "package_sealed":
		return "everything is read: package " + count(e.Package) + " is made"
	case "committed":
		text := e.Destination + " took package " + count(e.Package)
		if r := e.Result; r != nil {
			text += ": " + count(r.New) + " new, " + count(r.Changed) + " changed, " + count(r.Unchanged) + " unchanged"
			if r.Deleted > 0 {
				text += ", " + count(r.Deleted) + " marked as deleted"
			}
		}
		return text
	case "commit_failed":
		return e.Destination + " did not take package " + count(e.Package) + ": " + e.Error
	case "window_failed":
		return "window " + e.Window.String() + " failed: " + e.Error
	case "stages_replaced":
		return e.Destination + ": the table of stages was replaced"
	case "backfill_kept":
		return "an unfinished backfill is kept (" + e.Reason + ")"
	case "plain_text_stays":
		return "what the contract protects from now on stays as plain text in what was stored before"
	case "run_finished":
		if e.Summary == nil {
			return "ended"
		}
		text := e.Status
		if e.Error != "" {
			text += ": " + e.Error
		}
		return text
	default:
		return cmp.Or(strings.TrimSpace(strings.Join([]string{e.Reason, e.Error}, " ")), strings.ReplaceAll(e.Type, "_", " "))
	}
}
