package web

import (
	"cmp"
	"context"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/internal/monitor"
	"github.com/sluice-etl/sluice/internal/state"
)

// shownFields is how many of the columns found last a pipeline's page lists.
const shownFields = 20

// PipelinePage is the page of one pipeline.
type PipelinePage struct {
	Frame
	Row     Row
	Details Details
	Form    BackfillForm
	Said    string // what became of a form
	Problem string
	Hints   []string
	CanAct  bool
}

// Details are the parts of a pipeline's page below its row.
type Details struct {
	Facts    []Fact
	Queues   []Queue
	Failures []FailureView
	Skips    []FailureView // jobs that stood back
	Runs     []RunRow
	Zone     string
	Fields   []FieldRow
	Fielded  int
}

// Fact is a name with a value.
type Fact struct {
	Name, Value, Note string
	When              *When
}

// FailureView is a job that failed.
type FailureView struct {
	Kind, Text, URL string
	At              *When
	Hints           []string
}

// RunRow is a past run in a table.
type RunRow struct {
	ID, URL, Started, UTC, Kind, Status, Class, Took     string
	New, Changed, Unchanged, Gone, Rows, Requests, Aside string
	Retries, Error                                       string
}

// FieldRow is a column that was found in the source's answers.
type FieldRow struct {
	Source, Column, Type string
	First                *When
	FirstRun, URL        string
}

// BackfillForm is the form of a backfill, with what was typed.
type BackfillForm struct {
	BackfillRequest
	Errors  map[string]string
	Dates   bool // both can be shown as dates
	Message string
}

func (p *Page) pipeline(w http.ResponseWriter, r *http.Request) {
	s, ok := p.o.Monitor.Status(r.Context(), r.PathValue("name"))
	if !ok {
		p.refuse(w, r, http.StatusNotFound, "There is no pipeline of that name.", "The daemon reads the pipelines file once, at its start.")
		return
	}
	said := map[string]string{"run": "The run was asked for. It shows above as soon as it has begun.", "backfill": "The backfill was asked for. It shows above as soon as it has begun."}[r.URL.Query().Get("did")]
	p.showPipeline(w, r, http.StatusOK, s, PipelinePage{Said: said})
}

// showPipeline sends the page of a pipeline.
func (p *Page) showPipeline(w http.ResponseWriter, r *http.Request, code int, s monitor.Status, v PipelinePage) {
	now := p.o.Clock.Now()
	v.Frame = p.frame(w, r, s.Name)
	v.Live = "/live?" + url.Values{"of": {"pipeline"}, "name": {s.Name}}.Encode()
	v.Row, v.Details, v.CanAct = row(s, now, false), details(s, now), p.o.Actions != nil
	v.Form.By, v.Form.Window = cmp.Or(v.Form.By, "created_at"), cmp.Or(v.Form.Window, "1d")
	v.Form.Dates = isDate(v.Form.From) && isDate(v.Form.To)
	p.render(w, code, "pipeline", v)
}

// isDate reports whether a field for dates can show a text.
func isDate(text string) bool {
	_, err := time.Parse(time.DateOnly, text)
	return text == "" || err == nil
}

func details(s monitor.Status, now time.Time) Details {
	d := Details{Zone: zone(s.Location), Fielded: len(s.Fields), Facts: facts(s, now)}
	for _, q := range s.Queues {
		d.Queues = append(d.Queues, queued(q, s, now))
	}
	for _, f := range s.Failures {
		d.Failures = append(d.Failures, failureView(s, f, now))
	}
	for _, f := range s.Skips {
		d.Skips = append(d.Skips, failureView(s, f, now))
	}
	for _, r := range slices.Backward(s.Runs) {
		d.Runs = append(d.Runs, runRow(s, r))
	}
	fields := slices.Clone(s.Fields)
	slices.SortStableFunc(fields, func(a, b monitor.Field) int { return b.FirstSeen.Compare(a.FirstSeen) })
	for _, f := range fields[:min(shownFields, len(fields))] {
		row := FieldRow{Source: f.Source, Column: f.Column, Type: f.Type, First: when(f.FirstSeen, now, s.Location), FirstRun: f.FirstRun}
		if f.FirstRun != "" {
			row.URL = runURL(s.Name, f.FirstRun)
		}
		d.Fields = append(d.Fields, row)
	}
	return d
}

func failureView(s monitor.Status, f monitor.Failure, now time.Time) FailureView {
	v := FailureView{Kind: kindText(f.Kind), Text: f.Err, At: when(f.At, now, s.Location), Hints: f.Hints}
	if f.RunID != "" {
		v.URL = runURL(s.Name, f.RunID)
	}
	return v
}

func facts(s monitor.Status, now time.Time) []Fact {
	list := []Fact{{Name: "Source", Value: s.Source}, {Name: "Table", Value: s.Table}, {Name: "Sync", Value: s.Sync}}
	schedule := cmp.Or(s.Schedule, "none: it runs when it is asked to")
	list = append(list, Fact{Name: "Schedule", Value: schedule, Note: zone(s.Location)})
	list = append(list, Fact{Name: "Next run", When: when(s.Next, now, s.Location), Value: "none is planned"})
	if s.Reconcile != "" {
		list = append(list, Fact{Name: "Reconciliation", Value: s.Reconcile, Note: zone(s.Location)},
			Fact{Name: "Next reconciliation", When: when(s.NextReconcile, now, s.Location), Value: "none is planned"})
	}
	cursor := Fact{Name: "Cursor", Value: "none yet", Note: "changes up to then are read for good"}
	if s.Cursor != nil && s.Cursor.Unix() > 0 {
		cursor.When = when(*s.Cursor, now, s.Location)
	}
	list = append(list, cursor)
	if s.Freshness > 0 {
		list = append(list, Fact{Name: "Data may be", Value: about(s.Freshness) + " old"})
	}
	return list
}

func statusClass(status string) string {
	switch status {
	case statusDone:
		return good
	case "failed":
		return bad
	default:
		return warn
	}
}

func runRow(s monitor.Status, r state.RunRecord) RunRow {
	kind := r.Kind
	if r.Mode != r.Kind && r.Mode != "" {
		kind = r.Mode
	}
	gone := ""
	if r.Deleted != nil {
		gone = count(*r.Deleted)
	}
	return RunRow{
		ID: r.RunID, URL: runURL(s.Name, r.RunID), Started: exact(r.StartedAt, s.Location), UTC: exact(r.StartedAt, time.UTC) + " UTC",
		Kind: kind, Status: r.Status, Class: statusClass(r.Status), Took: tookOf(r), New: count(r.New), Changed: count(r.Changed),
		Unchanged: count(r.Unchanged), Gone: gone, Rows: count(r.Rows), Requests: count(r.Requests), Retries: count(r.Retries),
		Aside: count(r.Quarantined), Error: firstLine(r.Error, 120),
	}
}

func (p *Page) runNow(w http.ResponseWriter, r *http.Request) {
	s, ok := p.acting(w, r)
	if !ok {
		return
	}
	p.o.Log.InfoContext(r.Context(), "the page was asked for a run", "pipeline", s.Name, "from", r.RemoteAddr)
	if err := p.o.Actions.RunNow(r.Context(), s.Name); err != nil {
		p.showPipeline(w, r, http.StatusConflict, s, PipelinePage{Problem: sentence(err), Hints: p.hints(err)})
		return
	}
	http.Redirect(w, r, pipelineURL(s.Name)+"?did=run", http.StatusSeeOther)
}

func (p *Page) backfill(w http.ResponseWriter, r *http.Request) {
	s, ok := p.acting(w, r)
	if !ok {
		return
	}
	typed := func(name string) string { return strings.TrimSpace(r.PostFormValue(name)) }
	req := BackfillRequest{Pipeline: s.Name, From: typed("from"), To: typed("to"), By: typed("by"), Window: typed("window"), Parallel: typed("parallel")}
	p.o.Log.InfoContext(r.Context(), "the page was asked for a backfill", "pipeline", s.Name, "from", r.RemoteAddr)
	err := p.o.Actions.Backfill(r.Context(), req)
	if err == nil {
		http.Redirect(w, r, pipelineURL(s.Name)+"?did=backfill", http.StatusSeeOther)
		return
	}
	form := BackfillForm{BackfillRequest: req, Errors: map[string]string{}}
	v, code := PipelinePage{}, http.StatusUnprocessableEntity
	switch f := fieldError(err); {
	case f != nil && f.Field != "":
		form.Errors[f.Field] = f.Message
		form.Message = "Nothing was started: look at the field that is marked."
	case f != nil:
		form.Message = f.Message
	default:
		v.Problem, v.Hints, code = sentence(err), p.hints(err), http.StatusConflict
	}
	v.Form = form
	p.showPipeline(w, r, code, s, v)
}

// sentence is an error as a sentence.
func sentence(err error) string {
	if errors.Is(err, context.Canceled) {
		return "It was stopped."
	}
	text := strings.TrimSpace(err.Error())
	if text == "" {
		return "It failed."
	}
	return strings.ToUpper(text[:1]) + text[1:]
}

// acting is the pipeline that a form is about; false where the request was
// refused.
func (p *Page) acting(w http.ResponseWriter, r *http.Request) (monitor.Status, bool) {
	if !p.sentByForm(w, r) {
		return monitor.Status{}, false
	}
	s, ok := p.o.Monitor.Status(r.Context(), r.PathValue("name"))
	if !ok || p.o.Actions == nil {
		p.refuse(w, r, http.StatusNotFound, "There is no pipeline of that name.", "")
		return s, false
	}
	return s, true
}
