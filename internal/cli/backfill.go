package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
)

type backfillOptions struct {
	from, to string
	by       string
	window   string
	parallel int // 0: the source's concurrency
	dryRun   bool
	json     bool
}

const backfillLong = `Reads the contacts created from --from up to, and not including, --to once more,
and merges them. Newer rows that the tables hold stay, and the cursor does not
move, so that it can run beside the nightly run.

The range is read in windows, several at a time. A window that fails does not
stop the others; nothing is merged before all are read, and the same command
goes on with what is left, as it does after Ctrl-C or a power cut.

A date such as 2024-03-01 means the beginning of that day in the pipeline's
timezone; an instant such as 2024-03-01T12:00:00Z may be given as well.

--by updated_at reads the contacts whose last change lies in the range. Those
that have changed again since are not in it: they have moved on.

Of a pipeline with sync: recent or snapshot the range holds what the pipeline
asks the source for: contacts with a recent message, or those that its filters
let through. What has left these is not marked by a backfill.`

const backfillExample = `  sluice backfill nightly --from 2024-03-01 --to 2024-06-01 --dry-run
  sluice backfill nightly --from 2024-03-01 --to 2024-06-01 --window 7d`

func (a *app) backfillCommand() *cobra.Command {
	var o backfillOptions
	c := command(&cobra.Command{
		Use:               "backfill PIPELINE --from D --to D [flags]",
		Short:             "Reads a range of dates again and merges it",
		Long:              backfillLong,
		Example:           backfillExample,
		Args:              onePipeline,
		RunE:              func(c *cobra.Command, args []string) error { return a.backfill(c.Context(), args[0], o) },
		ValidArgsFunction: a.completePipelines,
	})
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.from, "from", "", "where the range begins: a date or an instant")
	f.StringVar(&o.to, "to", "", "where it ends, not part of it; in the future: now")
	f.StringVar(&o.by, "by", "created_at", "the time that lies in the range: created_at or updated_at")
	f.StringVar(&o.window, "window", "1d", "the length of a window, such as 1d or 6h")
	f.IntVar(&o.parallel, "parallel", 0, "how many are read at once (default and most: the source's concurrency)")
	f.BoolVar(&o.dryRun, "dry-run", false, "only estimate what would be read, with a few requests")
	f.BoolVar(&o.json, "json", false, "print events to stdout, one JSON object a line, the last of type run_finished")
	return c
}

func (a *app) backfill(ctx context.Context, name string, o backfillOptions) (err error) {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	p, err := pipeline(cfg, name)
	if err != nil {
		return err
	}
	b, err := o.resolve(p.Timezone)
	if err != nil {
		return &usageError{command: "sluice backfill", err: err}
	}
	store, err := a.store(cfg)
	if err != nil {
		return err
	}
	s := a.newSources()
	defer func() { err = errors.Join(err, s.close()) }()
	a.noteBackfill(p, b)
	if o.dryRun {
		err = a.dryRun(ctx, cfg, p, store, s, b, o)
	} else {
		bounds := run.Window{From: b.From, To: b.To}
		if now := a.Clock.Now(); now.Before(b.To) {
			bounds.To = now.In(p.Timezone)
		}
		view := a.runView(cfg, p, runOptions{json: o.json, backfilled: fmt.Sprintf("%s by %s", bounds, b.Key)})
		err = a.runOne(ctx, cfg, p, store, s, view, func(e *run.Engine, j run.Job) (run.Summary, error) {
			return e.Backfill(ctx, j, b)
		})
	}
	if errors.Is(err, run.ErrRange) {
		return &usageError{command: "sluice backfill", err: err}
	}
	return a.awaited(cfg, p, err)
}

// flagError says what is wrong with the value of a flag; the page has fields of
// the same names.
type flagError struct{ flag, what string }

func (e *flagError) Error() string {
	if strings.HasPrefix(e.what, ":") {
		return "--" + e.flag + e.what
	}
	return "--" + e.flag + " " + e.what
}

// resolve reads the flags; dates are those of loc.
func (o backfillOptions) resolve(loc *time.Location) (run.Backfill, error) {
	b := run.Backfill{Parallel: o.parallel}
	var err error
	if b.From, err = parseInstant("from", o.from, loc); err != nil {
		return b, err
	}
	if b.To, err = parseInstant("to", o.to, loc); err != nil {
		return b, err
	}
	switch o.by {
	case extract.ByCreated.String():
		b.Key = extract.ByCreated
	case extract.ByUpdated.String():
		b.Key = extract.ByUpdated
	default:
		return b, &flagError{"by", fmt.Sprintf("is %q, allowed are created_at and updated_at", o.by)}
	}
	if b.Window, err = config.ParseDuration(o.window); err != nil {
		return b, &flagError{"window", ": " + err.Error()}
	}
	if b.Window < time.Second {
		return b, &flagError{"window", fmt.Sprintf("is %s, the least is 1s", o.window)}
	}
	if o.parallel < 0 || o.parallel > 64 {
		return b, &flagError{"parallel", fmt.Sprintf("is %d, allowed are 1 to 64, and 0 for the source's concurrency", o.parallel)}
	}
	return b, nil
}

// parseInstant reads a date, as the beginning of that day in loc, or an
// instant.
func parseInstant(flag, text string, loc *time.Location) (time.Time, error) {
	if text == "" {
		return time.Time{}, &flagError{flag, "is missing: give a date such as 2024-03-01"}
	}
	if d, err := time.Parse(time.DateOnly, text); err == nil {
		return run.StartOfDay(d.Year(), d.Month(), d.Day(), loc), nil
	}
	t, err := time.Parse(time.RFC3339Nano, text)
	if err != nil {
		return time.Time{}, &flagError{flag, fmt.Sprintf("is %q, neither a date such as 2024-03-01 nor an instant such as 2024-03-01T12:00:00Z", text)}
	}
	return t.In(loc), nil
}

// noteBackfill says on stderr where a backfill is not what one might think.
func (a *app) noteBackfill(p *config.Pipeline, b run.Backfill) {
	note := func(text string) { _, _ = fmt.Fprintf(a.err, "%s: note: %s\n", p.Name, text) }
	if now := a.Clock.Now(); now.Before(b.To) && b.From.Before(now) {
		note("--to lies in the future: the range ends now")
	}
	if b.Key == extract.ByUpdated {
		note("by updated_at the range holds the contacts whose last change lies in it;\n  those that have changed again since have moved on and are not read")
	}
}

// dryRun prints what a backfill would read.
func (a *app) dryRun(ctx context.Context, cfg *config.Config, p *config.Pipeline, store *state.Store, s *sources, b run.Backfill, o backfillOptions) (err error) {
	job, closeLoaders, err := a.job(ctx, cfg, p, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLoaders()) }()
	engine := &run.Engine{Store: store, Clock: a.Clock, Log: a.log}
	e, err := engine.Estimate(ctx, job, b)
	if err != nil {
		return err
	}
	var text string
	if o.json {
		text, err = estimateJSON(p, b, e)
	} else {
		text = a.estimateText(p, b, e)
	}
	if err != nil {
		return err
	}
	if _, err := io.WriteString(a.Streams.Out, text); err != nil {
		return fmt.Errorf("print estimate: %w", err)
	}
	return nil
}

func estimateJSON(p *config.Pipeline, b run.Backfill, e run.Estimate) (string, error) {
	type window struct {
		run.Window
		Contacts int64 `json:"contacts"`
	}
	out := struct {
		Type       string   `json:"type"`
		Pipeline   string   `json:"pipeline"`
		By         string   `json:"by"`
		Contacts   int64    `json:"contacts"`
		Pages      int64    `json:"pages"`
		DurationMS int64    `json:"duration_ms"`
		Requests   int64    `json:"requests"` // of the estimate
		Windows    []window `json:"windows"`
	}{Type: "backfill_estimate", Pipeline: p.Name, By: b.Key.String(), Contacts: e.Contacts, Pages: e.Pages, DurationMS: e.Duration.Milliseconds(), Requests: e.Requests}
	for _, w := range e.Windows {
		out.Windows = append(out.Windows, window{w.Window, w.Contacts})
	}
	line, err := json.Marshal(out)
	if err != nil {
		return "", fmt.Errorf("print estimate: %w", err)
	}
	return string(line) + "\n", nil
}

// shownEstimates is how many windows an estimate lists.
const shownEstimates = 60

func (a *app) estimateText(p *config.Pipeline, b run.Backfill, e run.Estimate) string {
	var out strings.Builder
	g := grid{columns: []column{{name: "window"}, {name: "about", right: true}}}
	for i, w := range e.Windows {
		if i == shownEstimates {
			break
		}
		g.rows = append(g.rows, []string{w.String(), count(w.Contacts)})
	}
	g.write(&out, a.outWidth())
	if left := len(e.Windows) - shownEstimates; left > 0 {
		fmt.Fprintf(&out, "(and %s; --json prints all)\n", counted(left, "window", "windows"))
	}
	fmt.Fprintf(&out, "\n%s: about %s by %s in %s\n", p.Name, counted(e.Contacts, "contact", "contacts"), b.Key, counted(len(e.Windows), "window", "windows"))
	fmt.Fprintf(&out, "  reading them takes about %s, %s\n", counted(e.Pages, "request", "requests"), duration(e.Duration))
	fmt.Fprintf(&out, "  estimated with %s; nothing was changed\n", counted(e.Requests, "request", "requests"))
	return out.String()
}
