package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/run"
)

type reconcileOptions struct {
	maxShare  string // empty: the file's
	maxProbes int
	// maxProbesGiven: else the file's.
	maxProbesGiven bool
	dryRun         bool
	json           bool
}

const reconcileLong = `Finds contacts that were deleted at the source, which no page of it reports. It
walks all contacts, and asks for each contact of the table that the walk did not
meet by its id. What the source has no more is marked as deleted: it leaves the
view contacts and stays in contacts_all, with the time in _sluice_deleted_at. A
contact that was marked and is there again comes back.

It marks nothing where more contacts are missing than --max-share allows: a
source that shows half of its contacts is broken, more often than not. Stopped
or failed, it marks nothing either. It may run beside other runs of the
pipeline. Defaults come from reconcile in pipelines.yaml, which also sets a
schedule for it.

A pipeline with sync: snapshot needs none of this: each of its runs does it.

With --json the last line has, under reconciled, in contacts: live (of the
table), walked (shown by the source), missing, gone (marked), unlisted (there
when asked for by id, left as they are), unasked (beyond --max-probes, left to
the next run), returned, max_missing, and whether it was a dry_run.`

const reconcileExample = `  sluice reconcile nightly --dry-run
  sluice reconcile nightly --max-share 5%`

func (a *app) reconcileCommand() *cobra.Command {
	var o reconcileOptions
	c := command(&cobra.Command{
		Use:     "reconcile PIPELINE [flags]",
		Short:   "Finds contacts that were deleted at the source",
		Long:    reconcileLong,
		Example: reconcileExample,
		Args:    onePipeline,
		RunE: func(c *cobra.Command, args []string) error {
			o.maxProbesGiven = c.Flags().Changed("max-probes")
			return a.reconcile(c.Context(), args[0], o)
		},
		ValidArgsFunction: a.completePipelines,
	})
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.maxShare, "max-share", "", "the largest share of the table that may be missing (default: the file's, or 1%)")
	f.IntVar(&o.maxProbes, "max-probes", 0, "the most contacts asked for one by one (default: the file's, or 1000)")
	f.BoolVar(&o.dryRun, "dry-run", false, "only say what would be marked")
	f.BoolVar(&o.json, "json", false, "print events to stdout, one JSON object a line, the last of type run_finished")
	return c
}

func (a *app) reconcile(ctx context.Context, name string, o reconcileOptions) (err error) {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	p, err := pipeline(cfg, name)
	if err != nil {
		return err
	}
	how, err := o.resolve(p)
	if err != nil {
		return &usageError{command: "sluice reconcile", err: err}
	}
	store, err := a.store(cfg)
	if err != nil {
		return err
	}
	s := a.newSources()
	defer func() { err = errors.Join(err, s.close()) }()
	view := a.runView(cfg, p, runOptions{json: o.json, flags: o.flags()})
	return a.awaited(cfg, p, a.runOne(ctx, cfg, p, store, s, view, func(e *run.Engine, j run.Job) (run.Summary, error) {
		return e.Reconcile(ctx, j, how)
	}))
}

// reconciliation is what the file says of it; what it leaves out is the
// engine's to choose.
func reconciliation(p *config.Pipeline) run.Reconciliation {
	if p.Reconcile == nil {
		return run.Reconciliation{}
	}
	return run.Reconciliation{MaxShare: p.Reconcile.MaxShare, MaxProbes: p.Reconcile.MaxProbes}
}

// resolve puts the flags over what the file says.
func (o reconcileOptions) resolve(p *config.Pipeline) (run.Reconciliation, error) {
	how := reconciliation(p)
	how.DryRun = o.dryRun
	if o.maxShare != "" {
		share, err := config.ParseShare(o.maxShare)
		if err != nil {
			return how, fmt.Errorf("--max-share: %w", err)
		}
		how.MaxShare = share
	}
	if o.maxProbesGiven {
		if o.maxProbes < 1 {
			return how, fmt.Errorf("--max-probes is %d, allowed are 1 and more", o.maxProbes)
		}
		how.MaxProbes = o.maxProbes
	}
	return how, nil
}

// flags are those to be given again after a dry run.
func (o reconcileOptions) flags() string {
	var b strings.Builder
	if o.maxShare != "" {
		b.WriteString(" --max-share " + shellQuote(o.maxShare))
	}
	if o.maxProbesGiven {
		fmt.Fprintf(&b, " --max-probes %d", o.maxProbes)
	}
	return b.String()
}

// reconciled writes what a reconciliation found.
func (v *plainView) reconciled(row func(label, format string, args ...any), r *run.Reconciled) {
	row("table", "%s, not counting those marked as deleted", counted(r.Live, "contact", "contacts"))
	row("source", "%s", counted(r.Walked, "contact", "contacts"))
	row("missing", "%s, allowed are %s", count(r.Missing), count(r.MaxMissing))
	switch {
	case r.Gone == 0:
		row("gone", "none")
	case r.DryRun:
		row("gone", "%s, not found by id either: would be marked as deleted", count(r.Gone))
	default:
		row("gone", "%s, not found by id either: marked as deleted", count(r.Gone))
	}
	if r.Unlisted > 0 {
		row("still there", "%s when asked for by id, left as they are", count(r.Unlisted))
	}
	if r.Unasked > 0 {
		row("not asked", "%s, beyond max_probes: left to the next run", count(r.Unasked))
	}
	if r.Returned > 0 {
		row("returned", "%s, marked as deleted before and there again", count(r.Returned))
	}
}

// nextAfter is what to try after a reconciliation that found something, as
// next; "" where it found nothing.
func (v *plainView) nextAfter(r *run.Reconciled) string {
	switch {
	case r.Gone == 0:
		return ""
	case r.DryRun:
		return "Next: sluice" + v.app.fileFlag() + " reconcile " + v.p.Address() + v.options.flags
	}
	table, query := v.app.asking(v.cfg, v.p)
	if query == "" {
		return ""
	}
	return "Next: " + query + ` "SELECT id, name, _sluice_deleted_at FROM ` + table + `_all WHERE _sluice_deleted_at IS NOT NULL ORDER BY _sluice_deleted_at DESC"`
}
