package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/diag"
	"github.com/sluice-etl/sluice/internal/quarantine"
	"github.com/sluice-etl/sluice/internal/run"
)

const quarantineLong = `Records without a usable id, time or other required value are set aside: they
are in no table, and the run goes on. What is kept of them is up to quarantine
in pipelines.yaml: the whole record where the contract keeps all values, else
why, when and where it was met, and its id.`

func (a *app) quarantineCommand() *cobra.Command {
	c := command(&cobra.Command{
		Use:   "quarantine COMMAND",
		Short: "Shows records set aside, retries or drops them",
		Long:  quarantineLong,
		Args:  noArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	})
	c.AddCommand(a.quarantineListCommand(), a.quarantineShowCommand(), a.quarantineRetryCommand(), a.quarantineDropCommand())
	return c
}

type quarantineListOptions struct {
	json  bool
	limit int // 0 for all
}

func (a *app) quarantineListCommand() *cobra.Command {
	var o quarantineListOptions
	c := command(&cobra.Command{
		Use:               "list [PIPELINE] [flags]",
		Short:             "Lists records set aside",
		Long:              "Lists the records set aside, of one pipeline or of all, the newest first, and counts\nthem by reason.",
		Example:           "  sluice quarantine list nightly\n  sluice quarantine list --json | jq -r .reason | sort | uniq -c",
		Args:              atMostOnePipeline,
		RunE:              func(c *cobra.Command, names []string) error { return a.quarantineList(names, o) },
		ValidArgsFunction: a.completePipelines,
	})
	c.Flags().SortFlags = false
	c.Flags().BoolVar(&o.json, "json", false, "print one JSON object a line, without the records themselves")
	c.Flags().IntVar(&o.limit, "limit", 20, "the most records; 0 for all")
	return c
}

// atMostOnePipeline asks for a pipeline's name, or none.
func atMostOnePipeline(c *cobra.Command, args []string) error {
	if len(args) > 1 {
		return onePipeline(c, args)
	}
	return nil
}

// asideRecord is a record set aside as the commands print it.
type asideRecord struct {
	Pipeline string `json:"pipeline"`
	File     string `json:"file"`
	Stored   bool   `json:"stored"` // as it was served
	quarantine.Record
}

// aside returns the records set aside of the pipelines, oldest run first.
func (a *app) aside(cfg *config.Config, pipelines []*config.Pipeline) ([]asideRecord, error) {
	var out []asideRecord
	for _, p := range pipelines {
		store := quarantine.In(cfg.State.Path, p.Name, nil)
		err := store.All(func(file string, r quarantine.Record) {
			out = append(out, asideRecord{Pipeline: p.Name, File: filepath.Join(store.Dir(), file), Stored: r.Raw != "", Record: r})
		})
		if err != nil {
			return nil, err
		}
	}
	return out, nil
}

func (a *app) quarantineList(names []string, o quarantineListOptions) error {
	if o.limit < 0 {
		return &usageError{command: "sluice quarantine list", err: fmt.Errorf("--limit is %d, allowed are 0 (all) and more", o.limit)}
	}
	cfg, chosen, err := a.loadNamed(names, config.Offline())
	if err != nil {
		return err
	}
	all, err := a.aside(cfg, chosen)
	if err != nil {
		return err
	}
	var shown []asideRecord // the newest first
	for i := len(all) - 1; i >= 0 && (o.limit == 0 || len(shown) < o.limit); i-- {
		shown = append(shown, all[i])
	}
	var b strings.Builder
	if o.json {
		for _, r := range shown {
			r.Raw = ""
			if err := printRecord(&b, r); err != nil {
				return err
			}
		}
	} else {
		a.writeAside(&b, shown, all)
	}
	return a.printQuarantine(b.String())
}

func printRecord(b *strings.Builder, r asideRecord) error {
	line, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("print quarantine: %w", err)
	}
	b.Write(append(line, '\n'))
	return nil
}

func (a *app) printQuarantine(text string) error {
	if _, err := io.WriteString(a.Streams.Out, text); err != nil {
		return fmt.Errorf("print quarantine: %w", err)
	}
	return nil
}

func (a *app) writeAside(b *strings.Builder, shown, all []asideRecord) {
	if len(all) == 0 {
		b.WriteString("No record is set aside.\n")
		return
	}
	g := grid{columns: []column{{name: "record"}, {name: "pipeline"}, {name: "contact"}, {name: "reason"}, {name: "met (UTC)"}, {name: "stored"}, {name: "retried (UTC)"}}}
	for _, r := range shown {
		stored, tried := "no", ""
		if r.Stored {
			stored = "yes"
		}
		if !r.Tried.IsZero() {
			tried = r.Tried.UTC().Format(time.DateTime)
		}
		g.rows = append(g.rows, []string{oneLine(r.Ref), r.Pipeline, oneLine(r.ID), oneLine(r.Reason), r.At.UTC().Format(time.DateTime), stored, tried})
	}
	left, cutValues := g.write(b, a.outWidth())
	if len(shown) < len(all) {
		fmt.Fprintf(b, "(the last %s of %s; --limit 0 shows all)\n", count(len(shown)), counted(len(all), "record", "records"))
	}
	if note := omissions(left, cutValues); note != "" {
		fmt.Fprintf(b, "(%s; --json prints all)\n", note)
	}
	by := quarantine.Counts{}
	for _, r := range all {
		by.Add(r.Reason, 1)
	}
	b.WriteString("\n")
	writeReasons(b, by)
	b.WriteString("\nNext: sluice" + a.fileFlag() + " quarantine show " + shellQuote(shown[0].Ref) + "\n")
}

// writeReasons lists reasons with how many records have each.
func writeReasons(b *strings.Builder, by quarantine.Counts) {
	for _, reason := range by.Sorted() {
		fmt.Fprintf(b, "  %s  %s\n", pad(count(by[reason]), 9, true), oneLine(reason))
	}
}

func (a *app) quarantineShowCommand() *cobra.Command {
	asJSON := false
	c := command(&cobra.Command{
		Use:     "show RECORD|CONTACT|FILE... [flags]",
		Short:   "Shows single records set aside",
		Long:    "Shows records set aside with all that is kept of them: those of a name that list\nprints, of a contact's id, or of a file. Control characters are spelt out; --json\nprints records as they are.",
		Example: "  sluice quarantine show 20260901T120000Z-1a2b3c-0001.1\n  sluice quarantine show 0b0e7a52-6f0c-4f0e-9d53-2f6b1c8e4d11 --json | jq -r .raw",
		RunE:    func(c *cobra.Command, args []string) error { return a.quarantineShow(args, asJSON) },
	})
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line, the record as it was served in raw")
	return c
}

func (a *app) quarantineShow(args []string, asJSON bool) error {
	if len(args) == 0 {
		return &usageError{command: "sluice quarantine show", err: errors.New("sluice quarantine show needs the name of a record, the id of a contact or a file")}
	}
	cfg, err := a.load(config.Offline())
	if err != nil {
		return err
	}
	all, err := a.aside(cfg, cfg.Pipelines)
	if err != nil {
		return err
	}
	var b strings.Builder
	shown := map[string]bool{}
	for _, arg := range args {
		found := false
		for _, r := range all {
			if !r.is(arg) {
				continue
			}
			found = true
			if shown[r.Pipeline+"/"+r.Ref] {
				continue
			}
			shown[r.Pipeline+"/"+r.Ref] = true
			if asJSON {
				if err := printRecord(&b, r); err != nil {
					return err
				}
			} else {
				if b.Len() > 0 {
					b.WriteString("\n")
				}
				a.writeRecord(&b, r)
			}
		}
		if !found {
			return a.noRecord(arg, all)
		}
	}
	return a.printQuarantine(b.String())
}

// is reports whether arg names the record, its contact or its file.
func (r asideRecord) is(arg string) bool {
	abs, err := filepath.Abs(arg)
	return arg == r.Ref || r.ID != "" && strings.EqualFold(arg, r.ID) || arg == filepath.Base(r.File) || err == nil && abs == r.File
}

func (a *app) noRecord(arg string, all []asideRecord) error {
	names := make([]string, len(all))
	for i, r := range all {
		names[i] = r.Ref
	}
	hint := "`sluice" + a.fileFlag() + " quarantine list` names them"
	if near := diag.Suggest(arg, names); near != "" {
		hint = fmt.Sprintf("did you mean %q? %s", near, hint)
	}
	return &userError{message: fmt.Sprintf("no record set aside is, has or is in %q", arg), hint: hint}
}

func (a *app) writeRecord(b *strings.Builder, r asideRecord) {
	row := func(label, value string) {
		if value != "" {
			fmt.Fprintf(b, "  %s %s\n", pad(label, 9, false), oneLine(value))
		}
	}
	fmt.Fprintf(b, "%s\n", oneLine(r.Ref))
	row("reason", r.Reason)
	row("pipeline", r.Pipeline)
	row("contact", r.ID)
	row("run", r.RunID)
	row("met", r.At.UTC().Format(time.RFC3339))
	if !r.Tried.IsZero() {
		row("retried", r.Tried.UTC().Format(time.RFC3339))
	}
	row("request", r.Request)
	row("position", count(r.Position+1)+" of the page")
	row("file", a.relative(r.File))
	if !r.Stored {
		row("record", "not stored")
		return
	}
	row("record", r.Raw)
}

type quarantineDropOptions struct {
	run, before string
	yes, json   bool
}

func (a *app) quarantineDropCommand() *cobra.Command {
	var o quarantineDropOptions
	c := command(&cobra.Command{
		Use:               "drop [PIPELINE] [flags]",
		Short:             "Removes records set aside, for good",
		Long:              "Removes the records set aside, of one pipeline or of all, or those that the flags\nmean. It asks; away from a terminal it needs --yes. Nothing else has them: a contact\nthat the source still serves so is set aside again by the next run that meets it.",
		Example:           "  sluice quarantine drop nightly --before 2026-09-01\n  sluice quarantine drop nightly --run 20260901T120000Z-1a2b3c --yes",
		Args:              atMostOnePipeline,
		RunE:              func(c *cobra.Command, names []string) error { return a.quarantineDrop(c.Context(), names, o) },
		ValidArgsFunction: a.completePipelines,
	})
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.run, "run", "", "only those of the run of this id")
	f.StringVar(&o.before, "before", "", "only those met before a date, of the pipeline's timezone, or an instant")
	f.BoolVar(&o.yes, "yes", false, "do not ask")
	f.BoolVar(&o.json, "json", false, "print a JSON object for each pipeline")
	return c
}

// droppedLine is what drop --json prints.
type droppedLine struct {
	Type     string `json:"type"` // dropped
	Pipeline string `json:"pipeline"`
	Records  int64  `json:"records"`
}

func (a *app) quarantineDrop(ctx context.Context, names []string, o quarantineDropOptions) error {
	cfg, chosen, err := a.loadNamed(names, config.Offline())
	if err != nil {
		return err
	}
	meant := map[string]run.Dropping{}
	var b strings.Builder
	total := 0
	for _, p := range chosen {
		d := run.Dropping{Run: o.run}
		if o.before != "" {
			if d.Before, err = parseInstant("before", o.before, p.Timezone); err != nil {
				return &usageError{command: "sluice quarantine drop", err: err}
			}
		}
		records, err := a.aside(cfg, []*config.Pipeline{p})
		if err != nil {
			return err
		}
		n := 0
		for _, r := range records {
			if d.Has(r.Record) {
				n++
			}
		}
		if n > 0 {
			meant[p.Name] = d
			total += n
			fmt.Fprintf(&b, "%s: %s to remove\n", p.Name, counted(n, "record", "records"))
		}
	}
	switch {
	case o.json:
	case total == 0:
		return a.printQuarantine("No record set aside is meant.\n")
	default:
		if err := a.printQuarantine(b.String()); err != nil {
			return err
		}
	}
	if total == 0 {
		return nil
	}
	if err := a.approve(ctx, o.yes, o.json); err != nil {
		return err
	}
	return a.dropAside(ctx, cfg, chosen, meant, o.json)
}

func (a *app) dropAside(ctx context.Context, cfg *config.Config, chosen []*config.Pipeline, meant map[string]run.Dropping, asJSON bool) error {
	store, err := a.store(cfg)
	if err != nil {
		return err
	}
	e := &run.Engine{Store: store, Clock: a.Clock, Log: a.log}
	for _, p := range chosen {
		d, some := meant[p.Name]
		if !some {
			continue
		}
		n, err := e.DropAside(ctx, p.Name, d)
		if err != nil {
			return fmt.Errorf("pipeline %s: %w", p.Name, err)
		}
		text := fmt.Sprintf("%s: %s removed\n", p.Name, counted(n, "record", "records"))
		if asJSON {
			line, err := json.Marshal(droppedLine{Type: "dropped", Pipeline: p.Name, Records: n})
			if err != nil {
				return fmt.Errorf("print quarantine: %w", err)
			}
			text = string(line) + "\n"
		}
		if err := a.printQuarantine(text); err != nil {
			return err
		}
	}
	return nil
}
