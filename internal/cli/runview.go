package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/quarantine"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/schemas"
)

// The events of run.Event.Type that views tell apart.
const (
	eventStarted   = "run_started"
	eventProgress  = "progress"
	eventSealed    = "package_sealed"
	eventCommitted = "committed"
	eventFailed    = "commit_failed"
	eventFinished  = "run_finished"
	eventWindow    = "window_failed"
	eventKept      = "backfill_kept"
	eventNote      = "note"
)

// The modes of run.Event.Mode that are not one of run.SyncMode.
const (
	modeFull      = "full"
	modeBackfill  = "backfill"
	modeReconcile = "reconcile"
	modeRetry     = "retry"
)

// runView shows one pipeline's run. Events come from one goroutine at a time.
type runView interface {
	event(e run.Event)
	// close ends what moves on the screen; it may be called twice.
	close()
	summary(ctx context.Context, s run.Summary) error
}

func (a *app) runView(cfg *config.Config, p *config.Pipeline, o runOptions) runView {
	switch {
	case o.json:
		return &jsonView{w: a.Streams.Out, secrets: a.secrets}
	case a.Streams.ErrTerminal:
		return newLiveView(&plainView{app: a, cfg: cfg, p: p, options: o})
	default:
		return &plainView{app: a, cfg: cfg, p: p, options: o}
	}
}

// jsonView prints events as they come.
type jsonView struct {
	w       io.Writer
	secrets *redactor // events carry errors
	err     error     // the first one; later events are dropped
}

func (v *jsonView) event(e run.Event) {
	line, err := json.Marshal(e)
	if err == nil && v.err == nil {
		_, err = v.w.Write(append(v.secrets.clean(line), '\n'))
	}
	if v.err == nil {
		v.err = err
	}
}

func (v *jsonView) close() {}

func (v *jsonView) summary(context.Context, run.Summary) error {
	if v.err != nil {
		return fmt.Errorf("print events: %w", v.err)
	}
	return nil
}

// plainView prints a line a step, for logs: steps on stderr, the summary on
// stdout.
type plainView struct {
	app      *app
	cfg      *config.Config
	p        *config.Pipeline
	options  runOptions
	progress progress
	printed  time.Time
	stored   int64 // contacts written to database files, each file counted
	upserted int64 // contacts written to BigQuery, likewise
}

// plainEvery is how often a run that nobody watches says where it is.
const plainEvery = 10 * time.Second

// note keeps what the view says later.
func (v *plainView) note(e run.Event) {
	v.progress.add(e)
	if e.Type != eventCommitted || e.Result == nil {
		return
	}
	if d := v.cfg.Destination(e.Destination); d != nil {
		rows := e.Result.New + e.Result.Changed + e.Result.Deleted
		switch {
		case isDatabase(d):
			v.stored += rows
		case isWarehouse(d):
			v.upserted += rows
		}
	}
}

func (v *plainView) event(e run.Event) {
	v.note(e)
	switch e.Type {
	case eventStarted:
		v.printed = e.Time
		v.line("%s", started(e, v.p))
	case eventProgress:
		if e.Time.Sub(v.printed) >= plainEvery {
			v.printed = e.Time
			v.line("%s", v.progress.text(e.Time))
		}
	case eventCommitted, eventFailed:
		v.line("%s", committed(e))
	case eventPlainText:
		v.line("note: what the contract protects from now on stays as plain text in what was stored before; the summary says where")
	case eventKept:
		v.line("%s", v.app.keptBackfill(e))
	case eventWindow:
		v.line("window %s failed, the others go on", e.Window)
	}
}

func (v *plainView) line(format string, args ...any) {
	_, _ = fmt.Fprintf(v.app.err, "%s: %s\n", v.p.Name, visible(fmt.Sprintf(format, args...))) // progress: not worth stopping for
}

func (v *plainView) close() {}

// liveView keeps one line at the bottom of the terminal up to date.
type liveView struct {
	*plainView
	mu   sync.Mutex // event and tick
	stop chan struct{}
	once sync.Once
	done sync.WaitGroup
}

// liveEvery is how often the line moves even if nothing else does, so that a
// person sees the program wait and not hang.
const liveEvery = 200 * time.Millisecond

func newLiveView(plain *plainView) *liveView {
	v := &liveView{plainView: plain, stop: make(chan struct{})}
	v.done.Go(v.tick)
	return v
}

func (v *liveView) event(e run.Event) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.note(e)
	if e.Type == eventKept {
		v.line("%s", v.app.keptBackfill(e))
	}
}

func (v *liveView) tick() {
	t := time.NewTicker(liveEvery)
	defer t.Stop()
	for {
		select {
		case <-v.stop:
			return
		case <-t.C:
			v.mu.Lock()
			text := v.progress.text(v.app.Clock.Now())
			v.mu.Unlock()
			v.app.err.set(visible(v.p.Name + "  " + text))
		}
	}
}

func (v *liveView) close() {
	v.once.Do(func() {
		close(v.stop)
		v.done.Wait()
		v.app.err.clear()
	})
}

// started says what the run is about to do.
func started(e run.Event, p *config.Pipeline) string {
	what := "reading what changed"
	switch e.Mode {
	case modeFull:
		what = "reading everything"
	case string(run.SyncRecent):
		what = "reading the contacts with a message within " + counted(p.Days, "day", "days")
	case string(run.SyncSnapshot):
		what = "reading everything"
		if narrowed(p) {
			what += " that the source's filters let through"
		}
	case modeBackfill:
		return "reading again " + e.Reason
	case modeReconcile:
		return "looking for deleted contacts"
	case modeRetry:
		return "trying records again that were set aside"
	}
	if e.Reason != "" {
		what += " (" + e.Reason + ")"
	}
	if e.Contacts > 0 {
		what += ", going on from " + counted(e.Contacts, "contact", "contacts") + " that an unfinished run has kept"
	}
	return what
}

// keptBackfill says that a backfill waits to be gone on with.
func (a *app) keptBackfill(e run.Event) string {
	return fmt.Sprintf("note: an unfinished backfill (%s) is kept: give its command again to go on with it, or remove %s to give it up", e.Reason, a.relative(e.Dir))
}

// narrowed reports whether the source filters what the pipeline reads.
func narrowed(p *config.Pipeline) bool {
	return p.Sync == string(run.SyncSnapshot) && (len(p.Stages) > 0 || len(p.Pipelines) > 0 || p.Field != nil)
}

// committed says what a destination did with a package.
func committed(e run.Event) string {
	if e.Type == eventFailed {
		return e.Destination + " failed" // why is said once, at the end
	}
	if e.Result == nil {
		return e.Destination + " committed"
	}
	deleted := ""
	if e.Result.Deleted > 0 {
		deleted = ", " + count(e.Result.Deleted) + " marked as deleted"
	}
	files := ", " + counted(len(e.Result.Files), "file", "files")
	if len(e.Result.Files) == 0 && e.Result.New+e.Result.Changed+e.Result.Deleted > 0 {
		files = "" // it is a database
	}
	return fmt.Sprintf("%s committed: %s new, %s changed, %s unchanged%s%s", e.Destination,
		count(e.Result.New), count(e.Result.Changed), count(e.Result.Unchanged), deleted, files)
}

// summary ends a run on stdout.
func (v *plainView) summary(ctx context.Context, s run.Summary) error {
	var b strings.Builder
	took := duration(time.Duration(s.DurationMS) * time.Millisecond)
	fmt.Fprintf(&b, "%s: %s in %s", v.p.Name, s.Status, took)
	if r := s.Reconciled; r != nil && r.DryRun {
		b.WriteString("; nothing was changed")
	}
	b.WriteString("\n")
	v.rows(&b, s)
	if v.overflows(ctx) {
		fmt.Fprintf(&b, "  %s as many as a table takes: fields met since then are in %s\n", pad("columns", 11, false), schemas.ColOverflow)
	}
	next := ""
	if s.Reconciled != nil {
		next = v.nextAfter(s.Reconciled)
	}
	if next == "" {
		next = v.app.next(v.cfg, v.p)
	}
	b.WriteString("\n" + next + "\n")
	_, err := io.WriteString(v.app.Streams.Out, visible(b.String()))
	if err != nil {
		return fmt.Errorf("print summary: %w", err)
	}
	return nil
}

// overflows reports whether the source has more fields than a table takes
// columns. It says nothing where state cannot be read: the run is done.
func (v *plainView) overflows(ctx context.Context) bool {
	store, err := v.app.store(v.cfg)
	if err != nil {
		return false
	}
	st, err := store.Load(ctx, v.p.Name)
	return err == nil && slices.ContainsFunc(st.Registry, func(e schemas.RegistryEntry) bool { return e.Scope == schemas.ScopeOverflow })
}

// rows writes what a run did, a line for each kind of thing.
func (v *plainView) rows(b *strings.Builder, s run.Summary) {
	row := func(label, format string, args ...any) {
		fmt.Fprintf(b, "  %s %s\n", pad(label, 11, false), fmt.Sprintf(format, args...))
	}
	if s.Retried != nil {
		v.retried(row, s.Retried)
	}
	if s.Reconciled != nil {
		v.reconciled(row, s.Reconciled)
	} else {
		row("contacts", "%s new, %s changed, %s unchanged", count(s.New), count(s.Changed), count(s.Unchanged))
		if s.Deleted > 0 {
			row("left", "%s no longer among what the pipeline reads, marked as deleted", counted(s.Deleted, "contact", "contacts"))
		}
	}
	if s.Moved > 0 {
		row("moved", "%s to another month of created_at, which is not to change: %s", counted(s.Moved, "contact", "contacts"), fewOf(s.MovedIDs, s.Moved))
	}
	if s.Quarantined > 0 {
		row("set aside", "%s without a usable id, time or other required value, in %s", counted(s.Quarantined, "record", "records"),
			v.app.relative(quarantine.In(v.cfg.State.Path, v.p.Name, nil).Dir()))
		v.reasons(row, s.QuarantinedBy)
	}
	if e := s.Enriched; e != nil {
		row("info", "%s", enriched(e))
	}
	if s.InfoFailed > 0 {
		row("no answer", "%s of the info endpoint, to be asked for again: %s", counted(s.InfoFailed, "contact", "contacts"), fewOf(s.InfoFailedIDs, s.InfoFailed))
	}
	unfit(row, s)
	if ties := repeatedTies(s.Coverage); ties != "" {
		row("repeated", "%s", ties)
	}
	if s.PlainText != nil {
		for i, line := range staysPlain(s.PlainText) {
			row(map[bool]string{true: "plain text"}[i == 0], "%s", line)
		}
	}
	row("requests", "%s, %s", count(s.Requests), counted(s.Retries, "retry", "retries"))
	for _, note := range s.Notes {
		row("note", "%s", note)
	}
	if r := s.Reconciled; r != nil && r.DryRun {
		return
	}
	written := func(label string, n int64, what string, places []string) {
		switch {
		case len(places) == 0:
		case n > 0:
			row(label, "%s%s written to %s", count(n), what, joinNames(places))
		case len(places) == 1:
			row(label, "none written, %s is up to date", places[0])
		default:
			row(label, "none written, %s are up to date", joinNames(places))
		}
	}
	written("files", int64(s.Files), "", v.app.places(v.p, isParquet))
	written("database", v.stored, " rows", v.app.places(v.p, isDatabase))
	written("bigquery", v.upserted, " rows", v.app.places(v.p, isWarehouse))
	if v.options.backfilled != "" {
		row("range", "%s", v.options.backfilled)
	}
	switch {
	case parseTime(s.Cursor).Unix() <= 0: // there is none, or it is at no place yet
	case v.options.backfilled != "", s.Reconciled != nil, s.Retried != nil:
		row("cursor", "%s, as before", s.Cursor)
	default:
		row("cursor", "%s", s.Cursor)
	}
}

// enriched says what the info endpoint had of the contacts.
func enriched(e *run.Enriched) string {
	text := counted(e.Fetched, "contact", "contacts") + " stored with what the info endpoint has more"
	if e.Missing > 0 {
		text += ", " + count(e.Missing) + " that it does not know"
	}
	if e.Unusable > 0 {
		text += ", " + count(e.Unusable) + " as the list has them, for its answer cannot be used"
	}
	if e.Failed > 0 {
		text += ", " + count(e.Failed) + " as the list has them, for it gave no answer"
	}
	return text
}

// next is what to try now, to be copied as it stands.
func (a *app) next(cfg *config.Config, p *config.Pipeline) string {
	if table, query := a.asking(cfg, p); query != "" {
		return "Next: " + query + ` "SELECT platform, count(*) AS contacts FROM ` + table + ` GROUP BY ALL ORDER BY contacts DESC, platform"`
	}
	files := filepath.Join("current", "**", "*.parquet")
	if i := slices.IndexFunc(p.Destinations, isLake); i >= 0 {
		return "Next: read " + a.relative(filepath.Join(p.Destinations[i].Path, p.Table, files)) + " with any tool; views.sql beside it has views for DuckDB"
	}
	if d := p.Destinations[0]; isWarehouse(d) {
		return "Next: " + askBigQuery(d, p.Table, "SELECT platform, COUNT(*) AS contacts FROM %s GROUP BY platform ORDER BY contacts DESC")
	}
	return "Next: read " + p.Destinations[0].Place(p.Table) + "/current/**/*.parquet with any tool that reads Google Cloud Storage; views.sql beside it has views for DuckDB"
}

// fewOf lists a few of n things.
func fewOf(some []string, n int64) string {
	text := strings.Join(some, ", ")
	if int64(len(some)) < n {
		text += ", ..."
	}
	return text
}

// fileFlag repeats -f where it was needed.
func (a *app) fileFlag() string {
	if a.file == defaultFile {
		return ""
	}
	if f, ok := a.Env(envFile); ok && f == a.file {
		return ""
	}
	return " -f " + shellQuote(a.file)
}

func shellQuote(s string) string {
	plain := func(r rune) bool {
		return strings.ContainsRune("./_-+:@%=,", r) || '0' <= r && r <= '9' || 'a' <= r && r <= 'z' || 'A' <= r && r <= 'Z'
	}
	if s != "" && strings.IndexFunc(s, func(r rune) bool { return !plain(r) }) < 0 {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}
