package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/state"
)

// shownRuns is how many of the last runs show prints.
const shownRuns = 5

func (a *app) stateShowCommand() *cobra.Command {
	asJSON := false
	c := command(&cobra.Command{
		Use:     "show ADDRESS [flags]",
		Short:   "Shows what is remembered of one address",
		Long:    "Shows a pipeline (its cursor, source, destinations with what waits for them, and last\nruns), one of its destinations, or something that was made at a destination, as it was\nlast set up.",
		Example: "  sluice state show pipeline.nightly\n  sluice state show destination.lake.table.contacts --json",
		Args:    oneAddress,
		RunE: func(c *cobra.Command, args []string) error {
			return a.stateShow(c.Context(), args[0], asJSON)
		},
		ValidArgsFunction: a.completeAddresses,
	})
	c.Flags().BoolVar(&asJSON, "json", false, "print a JSON object")
	return c
}

// oneAddress asks for exactly one argument, an address.
func oneAddress(c *cobra.Command, args []string) error {
	if len(args) == 1 {
		return nil
	}
	return &usageError{command: c.CommandPath(), err: fmt.Errorf("%s needs one address, got %d", c.CommandPath(), len(args))}
}

// shownPipeline is what show --json prints of a pipeline.
type shownPipeline struct {
	Address      string                      `json:"address"`
	Kind         string                      `json:"kind"`
	Path         string                      `json:"path"`
	Lineage      string                      `json:"lineage"`
	Serial       int64                       `json:"serial"`
	Cursor       *time.Time                  `json:"cursor"`
	LastFull     *time.Time                  `json:"last_full"`
	Source       state.SourceIdentity        `json:"source"`
	Filters      string                      `json:"filters"`
	Contract     string                      `json:"contract"`
	HashKey      string                      `json:"hash_key_id,omitempty"`
	NextPackage  int64                       `json:"next_package"`
	Columns      int                         `json:"columns"`
	Discovered   int                         `json:"discovered_columns"`
	Destinations map[string]shownDestination `json:"destinations"`
	Runs         []state.RunRecord           `json:"runs"` // the last, newest first
}

type shownDestination struct {
	Position     int64              `json:"position"`
	Queue        []state.PackageRef `json:"queue"`
	Rows         int64              `json:"queued_rows"`
	Error        string             `json:"error,omitempty"`
	FailingSince *time.Time         `json:"failing_since,omitempty"`
	NeedsFull    *time.Time         `json:"needs_full,omitempty"`
}

// shownResource is what show --json prints of a resource.
type shownResource struct {
	Address string `json:"address"`
	state.Resource
}

func (a *app) stateShow(ctx context.Context, address string, asJSON bool) error {
	r, err := a.remembered(ctx)
	if err != nil {
		return err
	}
	var b strings.Builder
	var whole any
	name, destination, isPipeline := r.pipelineOf(address)
	item, isResource := r.resources.Items[address]
	switch {
	case isPipeline:
		p, err := r.store.Load(ctx, name)
		if err != nil {
			return err
		}
		shown := showPipeline(r.store, p)
		d, has := shown.Destinations[destination]
		switch {
		case destination == "":
			whole = shown
			writeShownPipeline(&b, shown)
		case has:
			whole = d
			writeShownDestination(&b, address, d)
		default:
			return a.unknownAddress(r, address)
		}
	case isResource:
		whole = shownResource{Address: address, Resource: item}
		writeShownResource(&b, address, item)
	default:
		return a.unknownAddress(r, address)
	}
	if asJSON {
		line, err := json.MarshalIndent(whole, "", "  ")
		if err != nil {
			return fmt.Errorf("print state: %w", err)
		}
		return a.printState(string(line) + "\n")
	}
	return a.printState(b.String())
}

func showPipeline(store *state.Store, p *state.Pipeline) shownPipeline {
	out := shownPipeline{
		Address: state.PipelineAddress(p.Pipeline), Kind: state.KindPipeline, Path: store.Path(p.Pipeline), Lineage: p.Lineage, Serial: p.Serial,
		Cursor: p.Cursor, LastFull: p.LastFull, Source: p.Source, Filters: p.Filters, Contract: p.Contract, HashKey: p.HashKey, NextPackage: p.NextPackage,
		Columns: len(p.Columns), Discovered: len(p.Registry), Destinations: map[string]shownDestination{}, Runs: []state.RunRecord{},
	}
	for name, d := range p.Destinations {
		s := shownDestination{Position: d.Position, Queue: d.Queue, Error: d.Error, FailingSince: d.FailingSince, NeedsFull: d.NeedsFull}
		if s.Queue == nil {
			s.Queue = []state.PackageRef{}
		}
		for _, ref := range d.Queue {
			s.Rows += ref.Rows
		}
		out.Destinations[name] = s
	}
	for _, r := range slices.Backward(p.Runs[max(0, len(p.Runs)-shownRuns):]) {
		out.Runs = append(out.Runs, r)
	}
	return out
}

// shownRow writes a labelled line, none for an empty value.
func shownRow(b *strings.Builder, label, value string) {
	if value != "" {
		fmt.Fprintf(b, "  %s %s\n", pad(label, 14, false), oneLine(value))
	}
}

func shownTime(t *time.Time) string {
	if t == nil {
		return ""
	}
	return t.UTC().Format(time.RFC3339Nano)
}

func writeShownPipeline(b *strings.Builder, p shownPipeline) {
	fmt.Fprintf(b, "%s\n", visible(p.Address))
	if p.Cursor == nil {
		shownRow(b, "cursor", "none: the next run reads everything")
	}
	shownRow(b, "cursor", shownTime(p.Cursor))
	shownRow(b, "last full", shownTime(p.LastFull))
	shownRow(b, "source", p.Source.String())
	shownRow(b, "filters", p.Filters)
	shownRow(b, "contract", p.Contract)
	shownRow(b, "hash key", p.HashKey)
	shownRow(b, "columns", fmt.Sprintf("%s of the contract, %s discovered", count(p.Columns), count(p.Discovered)))
	shownRow(b, "next package", count(p.NextPackage))
	shownRow(b, "lineage", p.Lineage)
	shownRow(b, "serial", count(p.Serial))
	shownRow(b, "document", p.Path)
	for _, name := range slices.Sorted(maps.Keys(p.Destinations)) {
		b.WriteString("\n")
		writeShownDestination(b, p.Address+".destination."+name, p.Destinations[name])
	}
	if len(p.Runs) == 0 {
		return
	}
	b.WriteString("\nlast runs\n")
	for _, r := range p.Runs {
		fmt.Fprintf(b, "  %s  %s %s, %s new, %s changed", r.StartedAt.UTC().Format(time.DateTime), pad(r.Mode, 11, false), r.Status, count(r.New), count(r.Changed))
		if r.Error != "" {
			b.WriteString(": " + shortened(r.Error))
		}
		b.WriteString("\n")
	}
}

func writeShownDestination(b *strings.Builder, address string, d shownDestination) {
	fmt.Fprintf(b, "%s\n", visible(address))
	position := "nothing committed yet"
	if d.Position > 0 {
		position = "package " + count(d.Position)
	}
	shownRow(b, "position", position)
	queue := "nothing waits"
	if len(d.Queue) > 0 {
		var serials []string
		for _, ref := range d.Queue {
			serials = append(serials, count(ref.Serial))
		}
		queue = fmt.Sprintf("%s with %s: %s", counted(len(d.Queue), "package", "packages"), counted(d.Rows, "row", "rows"), strings.Join(serials, ", "))
	}
	shownRow(b, "queue", queue)
	if d.NeedsFull != nil {
		shownRow(b, "needs full", "since "+shownTime(d.NeedsFull))
	}
	if d.FailingSince != nil {
		shownRow(b, "failing", "since "+shownTime(d.FailingSince))
	}
	shownRow(b, "error", shortened(d.Error))
}

func writeShownResource(b *strings.Builder, address string, r state.Resource) {
	fmt.Fprintf(b, "%s\n", visible(address))
	shownRow(b, "pipeline", r.Pipeline)
	shownRow(b, "type", r.Type)
	shownRow(b, "place", r.Place)
	shownRow(b, "applied", r.AppliedAt.UTC().Format(time.RFC3339))
	if len(r.Attributes) == 0 {
		return
	}
	b.WriteString("  attributes\n")
	width := 0
	for name := range r.Attributes {
		width = max(width, displayWidth(oneLine(name)))
	}
	for _, name := range slices.Sorted(maps.Keys(r.Attributes)) {
		fmt.Fprintf(b, "    %s = %s\n", pad(oneLine(name), width, false), oneLine(r.Attributes[name]))
	}
}
