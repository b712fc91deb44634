package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
)

type verifyOptions struct {
	json   bool
	source bool
	parity bool
	sample string // a number, or all
	seed   uint64
	values bool
}

const verifyLong = `Checks what the destinations hold. Of Parquet: every file of the manifest by
size and SHA-256, every row of it by two independent Parquet readers, ids unique
over all months, rows in the month of their created_at, each current version in
history, no file that a bare glob would read besides, and views.sql. Nothing is
changed, but a commit that was interrupted is completed first. A table in a
bucket is downloaded for it, a file at a time, and only this machine's runs wait.

Of a DuckDB file: every block by its checksum, ids, the numbers of rows that the
packages have added, each current row with its version in history, value by
value, the order of versions, columns and views. Others may read the file
meanwhile.

It reads all there is, about a minute for 5,000,000 contacts and as much for
each such number of versions, and keeps runs from committing to that table
meanwhile: they wait a minute, and leave their package to the next run then.

With --source it compares a table with the source instead, by the hash of all
exported cells and the pipeline's own filters and policies: a sample of its
contacts, each looked up in the list (about a request each), or all of them by one
full read that stages nothing. It names the columns of some that differ, and tells
apart what changed since (its updated_at at the source is
later; the next run brings it), what changed without updated_at (no incremental
run can see that: see full_every), what the table lacks, and what the source has
no more (see sluice reconcile).

With --parity it compares the destinations of a pipeline with each other, the
first being the measure: every contact, in what is exported of it, its hash, and
whether it is marked as deleted; not in which package brought it. JSON counts as
alike when it means the same. It reads each table once, and months that differ
again. A destination that packages wait for is compared with what it holds; what
it cannot have yet, or BigQuery need not show yet (max_staleness), is counted
apart and no fault. Runs of the pipeline wait to commit meanwhile.

Exit code 0: sound; 1: there are faults, each printed. With --json a line for
each fault (type fault), and one for each table (type verified, or compared); of
--parity one for each pipeline (type parity).`

// shownFaults is how many faults of a table are printed one by one.
const shownFaults = 50

func (a *app) verifyCommand() *cobra.Command {
	var o verifyOptions
	c := command(&cobra.Command{
		Use:     "verify [PIPELINE...] [flags]",
		Short:   "Checks what was exported",
		Long:    verifyLong,
		Example: "  sluice verify\n  sluice verify nightly --json\n  sluice verify --source --sample 500 nightly\n  sluice verify --parity nightly",
		RunE: func(c *cobra.Command, names []string) error {
			if err := o.check(c.Flags().Changed); err != nil {
				return &usageError{command: "sluice verify", err: err}
			}
			switch {
			case o.source:
				return a.compare(c.Context(), names, o)
			case o.parity:
				return a.parity(c.Context(), names, o)
			}
			return a.verify(c.Context(), names, o)
		},
		ValidArgsFunction: a.completePipelines,
	})
	c.Flags().SortFlags = false
	f := c.Flags()
	f.BoolVar(&o.source, "source", false, "compare one pipeline's table with its source")
	f.BoolVar(&o.parity, "parity", false, "compare a pipeline's destinations with each other")
	f.StringVar(&o.sample, "sample", "100", "how many contacts are drawn, or all")
	f.Uint64Var(&o.seed, "seed", 0, "draw the sample of an earlier comparison again (default: another one)")
	f.BoolVar(&o.values, "show-values", false, "print the values that differ, which are personal data")
	f.BoolVar(&o.json, "json", false, "print one JSON object a line")
	return c
}

// check refuses flags that do not go together.
func (o verifyOptions) check(given func(flag string) bool) error {
	switch {
	case o.source && o.parity:
		return errors.New("--source and --parity are two comparisons: one at a time")
	case !o.source && given("sample"):
		return errors.New("--sample goes with --source")
	case !o.source && given("seed"):
		return errors.New("--seed goes with --source")
	case !o.source && !o.parity && given("show-values"):
		return errors.New("--show-values goes with --source and --parity")
	default:
		return nil
	}
}

// checked is a table that was verified, as --json prints it.
type checked struct {
	Type        string `json:"type"` // verified, or skipped: the destination cannot check itself
	Pipeline    string `json:"pipeline"`
	Destination string `json:"destination"`
	load.Verified
	Faults int64 `json:"faults"`
	// PlainText are the columns of which history has values from before the
	// contract protected them.
	PlainText []string `json:"plain_text,omitempty"`
}

// faultLine is a fault as --json prints it.
type faultLine struct {
	Type        string `json:"type"`
	Pipeline    string `json:"pipeline"`
	Destination string `json:"destination"`
	load.Fault
}

func (a *app) verify(ctx context.Context, names []string, o verifyOptions) error {
	cfg, chosen, err := a.loadNamed(names, config.Offline())
	if err != nil {
		return err
	}
	store, err := a.store(cfg)
	if err != nil {
		return err
	}
	var faults, done int64
	for _, p := range chosen {
		st, err := store.Load(ctx, p.Name)
		if err != nil {
			return err
		}
		for _, d := range p.Destinations {
			found, err := a.verifyTable(ctx, cfg, p, d, st, o)
			if err != nil {
				return fmt.Errorf("verify destination %s of pipeline %s: %w", d.Name, p.Name, err)
			}
			if found.Type != typeSkipped {
				done++
			}
			faults += found.Faults
		}
	}
	switch {
	case faults > 0:
		return &userError{
			message: counted(faults, "fault", "faults") + " found",
			hint:    "restore the files named above from a backup and verify again; or move the table's folder, or its DuckDB file, away (in BigQuery, give the pipeline another table) and run with --full, which reads everything once more (history begins anew then)",
		}
	case done == 0:
		return &userError{message: "none of these destinations can be verified", hint: "tables of Parquet files, of DuckDB files and in BigQuery can"}
	}
	return nil
}

const (
	typeVerified = "verified"
	typeSkipped  = "skipped"
)

// verifyTable checks one table and prints what is found.
func (a *app) verifyTable(ctx context.Context, cfg *config.Config, p *config.Pipeline, d *config.Destination, st *state.Pipeline, o verifyOptions) (out checked, err error) {
	out = checked{Type: typeVerified, Pipeline: p.Name, Destination: d.Name}
	l, err := a.loader(ctx, cfg, p, d)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, l.Close()) }()
	v, ok := l.(load.Verifier)
	if !ok {
		out.Type = typeSkipped
		return out, a.printVerified(out, d.Place(p.Table), nil, o)
	}
	var shown []load.Fault
	found := func(f load.Fault) {
		if out.Faults++; o.json || out.Faults <= shownFaults {
			shown = append(shown, f)
		}
	}
	out.Verified, err = v.Verify(ctx, st.Lineage, found)
	if err != nil {
		return out, err
	}
	// A table that is not there has no faults that its loader could know of.
	if known := st.Destinations[d.Name]; out.Files+out.Tables == 0 && out.Faults == 0 && known != nil && known.Position > 0 {
		lost := run.LostTableError{Committed: known.Position}
		found(load.Fault{Kind: "missing_table", Detail: lost.Error()})
	}
	if out.PlainText, err = plainIn(cfg, p, st, d.Name); err != nil {
		return out, err
	}
	return out, a.printVerified(out, d.Place(p.Table), shown, o)
}

func (a *app) printVerified(t checked, place string, shown []load.Fault, o verifyOptions) error {
	var b strings.Builder
	if o.json {
		e := json.NewEncoder(&b)
		for _, f := range shown {
			if err := e.Encode(faultLine{Type: "fault", Pipeline: t.Pipeline, Destination: t.Destination, Fault: f}); err != nil {
				return fmt.Errorf("print faults: %w", err)
			}
		}
		if err := e.Encode(t); err != nil {
			return fmt.Errorf("print faults: %w", err)
		}
	} else {
		a.writeVerified(&b, t, a.relative(place), shown)
	}
	text := b.String()
	if !o.json {
		text = visible(text)
	}
	if _, err := io.WriteString(a.Streams.Out, text); err != nil {
		return fmt.Errorf("print faults: %w", err)
	}
	return nil
}

func (a *app) writeVerified(b *strings.Builder, t checked, place string, shown []load.Fault) {
	in := counted(t.Files, "file", "files")
	if t.Tables > 0 {
		in = counted(t.Tables, "table", "tables")
	}
	what := fmt.Sprintf("%s and %s in %s, %s", counted(t.Contacts, "contact", "contacts"),
		counted(t.Versions, "version", "versions"), in, megabytes(t.Bytes))
	switch {
	case t.Type == typeSkipped:
		fmt.Fprintf(b, "%s: %s: not checked, this kind of destination cannot be yet (%s)\n", t.Pipeline, t.Destination, place)
		return
	case t.Faults == 0 && t.Files+t.Tables == 0:
		fmt.Fprintf(b, "%s: %s: nothing is exported yet (%s)\n", t.Pipeline, t.Destination, place)
		return
	case t.Faults == 0:
		fmt.Fprintf(b, "%s: %s: sound: %s (%s)\n", t.Pipeline, t.Destination, what, place)
		writePlain(b, t.PlainText)
		return
	}
	fmt.Fprintf(b, "%s: %s: %s in %s (%s)\n", t.Pipeline, t.Destination, counted(t.Faults, "fault", "faults"), what, place)
	for _, f := range shown {
		path := ""
		if f.Path != "" {
			path = f.Path + ": "
		}
		fmt.Fprintf(b, "  %s  %s%s\n", pad(strings.ReplaceAll(f.Kind, "_", " "), 18, false), path, f.Detail)
	}
	if left := t.Faults - int64(len(shown)); left > 0 {
		fmt.Fprintf(b, "  and %s more; --json prints them all\n", count(left))
	}
	writePlain(b, t.PlainText)
}

// megabytes is a size as people say it.
func megabytes(n int64) string {
	switch {
	case n < 1_000_000:
		return fmt.Sprintf("%.0f kB", float64(n)/1e3)
	case n < 1_000_000_000:
		return fmt.Sprintf("%.1f MB", float64(n)/1e6)
	default:
		return fmt.Sprintf("%.1f GB", float64(n)/1e9)
	}
}
