package cli

import (
	"encoding/json"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/duck"
	"github.com/sluice-etl/sluice/internal/run"
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
)

// runView shows one pipeline's run. Events come from one goroutine at a time.
type runView interface {
	event(e run.Event)
	// close ends what moves on the screen; it may be called twice.
	close()
	summary(s run.Summary) error
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

func (v *jsonView) summary(run.Summary) error {
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
}

// plainEvery is how often a run that nobody watches says where it is.
const plainEvery = 10 * time.Second

func (v *plainView) event(e run.Event) {
	v.progress.add(e)
	switch e.Type {
	case eventStarted:
		v.printed = e.Time
		v.line("%s", started(e))
	case eventProgress:
		if e.Time.Sub(v.printed) >= plainEvery {
			v.printed = e.Time
			v.line("%s", v.progress.text(e.Time))
		}
	case eventCommitted, eventFailed:
		v.line("%s", committed(e))
	case eventWindow:
		v.line("window %s failed, the others go on", e.Window)
	}
}

func (v *plainView) line(format string, args ...any) {
	_, _ = fmt.Fprintf(v.app.err, "%s: %s\n", v.p.Name, visible(fmt.Sprintf(format, args...))) // progress: not worth stopping for
}

func (v *plainView) close() {}

func (v *plainView) summary(s run.Summary) error {
	return v.app.printSummary(v.cfg, v.p, s, v.options)
}

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
	v.progress.add(e)
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
func started(e run.Event) string {
	what := "reading what changed"
	switch e.Mode {
	case "full":
		what = "reading everything"
	case "backfill":
		return "reading again " + e.Reason
	}
	if e.Reason != "" {
		what += " (" + e.Reason + ")"
	}
	return what
}

// committed says what a destination did with a package.
func committed(e run.Event) string {
	if e.Type == eventFailed {
		return e.Destination + " failed" // why is said once, at the end
	}
	if e.Result == nil {
		return e.Destination + " committed"
	}
	return fmt.Sprintf("%s committed: %s new, %s changed, %s unchanged, %s", e.Destination,
		count(e.Result.New), count(e.Result.Changed), count(e.Result.Unchanged), counted(len(e.Result.Files), "file", "files"))
}

// printSummary ends a run on stdout.
func (a *app) printSummary(cfg *config.Config, p *config.Pipeline, s run.Summary, o runOptions) error {
	var b strings.Builder
	took := duration(time.Duration(s.DurationMS) * time.Millisecond)
	fmt.Fprintf(&b, "%s: %s in %s\n", p.Name, s.Status, took)
	row := func(label, format string, args ...any) {
		fmt.Fprintf(&b, "  %s %s\n", pad(label, 11, false), fmt.Sprintf(format, args...))
	}
	row("contacts", "%s new, %s changed, %s unchanged", count(s.New), count(s.Changed), count(s.Unchanged))
	if s.Quarantined > 0 {
		row("set aside", "%s without a usable id, time or other required value, in %s", counted(s.Quarantined, "record", "records"),
			a.relative(filepath.Join(cfg.State.Path, "quarantine", p.Name)))
	}
	if ties := repeatedTies(s.Coverage); ties != "" {
		row("repeated", "%s", ties)
	}
	row("requests", "%s, %s", count(s.Requests), counted(s.Retries, "retry", "retries"))
	if s.Files > 0 {
		row("files", "%s written to %s", count(s.Files), joinNames(a.tableDirs(p)))
	} else {
		be := "is"
		if len(p.Destinations) > 1 {
			be = "are"
		}
		row("files", "none written, %s %s up to date", joinNames(a.tableDirs(p)), be)
	}
	switch {
	case o.backfilled != "":
		row("range", "%s", o.backfilled)
		row("cursor", "%s, as before", s.Cursor)
	case s.Cursor != "":
		row("cursor", "%s", s.Cursor)
	}
	b.WriteString("\n" + a.next(cfg, p) + "\n")
	_, err := io.WriteString(a.Streams.Out, visible(b.String()))
	if err != nil {
		return fmt.Errorf("print summary: %w", err)
	}
	return nil
}

func (a *app) tableDirs(p *config.Pipeline) []string {
	dirs := make([]string, len(p.Destinations))
	for i, d := range p.Destinations {
		dirs[i] = a.relative(filepath.Join(d.Path, p.Table))
	}
	return dirs
}

// next is what to try now, to be copied as it stands.
func (a *app) next(cfg *config.Config, p *config.Pipeline) string {
	d := p.Destinations[0]
	if !duck.Available {
		return "Next: read " + a.relative(filepath.Join(d.Path, p.Table, "current", "**", "*.parquet")) + " with any tool; views.sql beside it has views for DuckDB"
	}
	sql := "SELECT platform, count(*) AS contacts FROM " + tableName(cfg, d, p.Table) + " GROUP BY ALL ORDER BY contacts DESC, platform"
	return "Next: sluice" + a.fileFlag() + ` query "` + sql + `"`
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
