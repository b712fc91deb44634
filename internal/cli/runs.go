package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
)

type runsOptions struct {
	json  bool
	limit int // 0 for all
}

const runsLong = `Lists past runs, the newest first, from state: up to 200 of each pipeline are
kept.

gone counts the contacts of the table that a run marked as deleted, having found
that the source no longer shows them (sync: recent and snapshot), or has none of
that id any more (reconcile).`

func (a *app) runsCommand() *cobra.Command {
	var o runsOptions
	c := command(&cobra.Command{
		Use:               "runs [PIPELINE...] [flags]",
		Short:             "Lists past runs",
		Long:              runsLong,
		Example:           "  sluice runs nightly --limit 5\n  sluice runs --json | jq -c 'select(.status != \"done\")'",
		RunE:              func(c *cobra.Command, names []string) error { return a.runs(c.Context(), names, o) },
		ValidArgsFunction: a.completePipelines,
	})
	c.Flags().SortFlags = false
	c.Flags().BoolVar(&o.json, "json", false, "print one JSON object a line, coverage included")
	c.Flags().IntVar(&o.limit, "limit", 20, "the most runs; 0 for all")
	return c
}

// pastRun is a run record with its pipeline, as --json prints it.
type pastRun struct {
	Pipeline string `json:"pipeline"`
	state.RunRecord
}

func (a *app) runs(ctx context.Context, names []string, o runsOptions) error {
	if o.limit < 0 {
		return &usageError{command: "sluice runs", err: fmt.Errorf("--limit is %d, allowed are 0 (all) and more", o.limit)}
	}
	cfg, chosen, err := a.loadNamed(names, config.Offline())
	if err != nil {
		return err
	}
	store, err := a.store(cfg)
	if err != nil {
		return err
	}
	var all []pastRun
	for _, p := range chosen {
		st, err := store.Load(ctx, p.Name)
		if err != nil {
			return err
		}
		for _, r := range st.Runs {
			all = append(all, pastRun{Pipeline: p.Name, RunRecord: r})
		}
	}
	slices.SortStableFunc(all, func(x, y pastRun) int {
		return cmp.Or(y.StartedAt.Compare(x.StartedAt), cmp.Compare(x.Pipeline, y.Pipeline))
	})
	shown := all
	if o.limit > 0 && len(shown) > o.limit {
		shown = shown[:o.limit]
	}
	var b strings.Builder
	if err := a.writeRuns(&b, shown, len(all), o.json); err != nil {
		return err
	}
	if _, err := io.WriteString(a.Streams.Out, b.String()); err != nil {
		return fmt.Errorf("print runs: %w", err)
	}
	return nil
}

func (a *app) writeRuns(b *strings.Builder, runs []pastRun, all int, asJSON bool) error {
	if asJSON {
		for _, r := range runs {
			line, err := json.Marshal(r)
			if err != nil {
				return fmt.Errorf("print runs: %w", err)
			}
			b.Write(append(line, '\n'))
		}
		return nil
	}
	if all == 0 {
		b.WriteString("No runs yet: `sluice" + a.fileFlag() + " run` makes the first.\n")
		return nil
	}
	g := grid{columns: []column{
		{name: "started (UTC)"},
		{name: "pipeline"},
		{name: "status"},
		{name: "mode"},
		{name: "new", right: true},
		{name: "changed", right: true},
		{name: "unchanged", right: true},
		{name: "gone", right: true},
		{name: "requests", right: true},
		{name: "took", right: true},
		{name: "cursor"},
		{name: "run"},
		{name: "error"},
	}}
	for _, r := range runs {
		took, cursor := "", ""
		if r.FinishedAt != nil {
			took = duration(r.FinishedAt.Sub(r.StartedAt))
		}
		if r.CursorAfter != nil && r.CursorAfter.Unix() > 0 {
			cursor = r.CursorAfter.UTC().Format(time.RFC3339Nano)
		}
		g.rows = append(g.rows, []string{
			r.StartedAt.UTC().Format(time.DateTime), r.Pipeline, r.Status, r.Mode, count(r.New), count(r.Changed),
			count(r.Unchanged), gone(r.RunRecord), count(r.Requests), took, cursor, r.RunID, shortened(r.Error),
		})
	}
	left, cutValues := g.write(b, a.outWidth())
	if len(runs) < all {
		fmt.Fprintf(b, "(the last %s of %s; --limit 0 shows all)\n", count(len(runs)), counted(all, "run", "runs"))
	}
	if note := omissions(left, cutValues); note != "" {
		fmt.Fprintf(b, "(%s; --json prints all)\n", note)
	}
	return nil
}

// gone says how many contacts a run marked as deleted; "" for a kind of run that
// marks none. A record of before has only how many it meant to mark.
func gone(r state.RunRecord) string {
	switch {
	case r.Deleted != nil && *r.Deleted > 0:
		return count(*r.Deleted)
	case !slices.Contains([]string{string(run.SyncRecent), string(run.SyncSnapshot), modeReconcile}, r.Mode):
		return ""
	case r.Deleted != nil:
		return "0"
	}
	var record struct {
		Marked int64 `json:"marked"`
	}
	if len(r.Coverage) == 0 || json.Unmarshal(r.Coverage, &record) != nil {
		return ""
	}
	return count(record.Marked)
}
