package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/sluice-etl/sluice/internal/run"
)

// comparison reads the flags of verify --source.
func (o verifyOptions) comparison() (run.Comparison, error) {
	how := run.Comparison{Seed: o.seed, Values: o.values}
	if o.sample == "all" {
		how.All = true
		return how, nil
	}
	n, err := strconv.Atoi(o.sample)
	if err != nil || n < 1 || n > 1_000_000 {
		return how, fmt.Errorf("--sample is %q, allowed are 1 to 1000000 and all", o.sample)
	}
	how.Sample = n
	return how, nil
}

// compare is verify --source.
func (a *app) compare(ctx context.Context, names []string, o verifyOptions) (err error) {
	how, err := o.comparison()
	if err == nil && len(names) != 1 {
		err = errors.New("--source needs the name of one pipeline")
	}
	if err != nil {
		return &usageError{command: "sluice verify", err: err}
	}
	cfg, err := a.load()
	if err != nil {
		return err
	}
	p, err := pipeline(cfg, names[0])
	if err != nil {
		return err
	}
	store, err := a.store(cfg)
	if err != nil {
		return err
	}
	s := a.newSources()
	defer func() { err = errors.Join(err, s.close()) }()
	job, closeLoaders, err := a.job(ctx, cfg, p, s)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, closeLoaders()) }()
	c, err := (&run.Engine{Store: store, Clock: a.Clock, Log: a.log}).Compare(ctx, job, how)
	if err != nil {
		return err
	}
	if err := a.printCompared(p.Name, c, o); err != nil {
		return err
	}
	if n := c.Wrong(); n > 0 {
		return &userError{
			message: counted(n, "contact is", "contacts are") + " not in the table as at the source",
			hint:    "`sluice run --full " + p.Address() + "` reads everything again; full_every in pipelines.yaml has that done now and then",
		}
	}
	return nil
}

func (a *app) printCompared(pipeline string, c run.Compared, o verifyOptions) error {
	var b strings.Builder
	if o.json {
		line := struct {
			Type     string `json:"type"`
			Pipeline string `json:"pipeline"`
			run.Compared
		}{"compared", pipeline, c}
		if err := json.NewEncoder(&b).Encode(line); err != nil {
			return fmt.Errorf("print comparison: %w", err)
		}
	} else {
		writeCompared(&b, pipeline, c)
	}
	text := b.String()
	if !o.json {
		text = visible(text)
	}
	if _, err := io.WriteString(a.Streams.Out, text); err != nil {
		return fmt.Errorf("print comparison: %w", err)
	}
	return nil
}

func writeCompared(b *strings.Builder, pipeline string, c run.Compared) {
	how := "all " + counted(c.Checked, "contact", "contacts")
	if c.Seed != 0 {
		how = fmt.Sprintf("%s drawn with --seed %d", counted(c.Checked, "contact", "contacts"), c.Seed)
	}
	fmt.Fprintf(b, "%s: %s against the source: %s, %s\n", pipeline, c.Destination, how, counted(c.Requests, "request", "requests"))
	row := func(label string, n int64, about string) {
		if n == 0 && label != "same" {
			return
		}
		line := fmt.Sprintf("  %s %s", pad(label, 26, false), count(n))
		if about != "" {
			line += "  " + about
		}
		b.WriteString(line + "\n")
	}
	row("same", c.Same, "")
	row("changed since", c.Since, "updated_at at the source is later: the next run brings them")
	row("changed without updated_at", c.Unseen, "no incremental run sees that")
	row("updated_at moved back", c.Backwards, "the row with the later one stands")
	row("missing in the table", c.Missing, "changed before the cursor, and not there")
	row("new at the source", c.New, "the next run brings them")
	row("deleted at the source", c.Deleted, "`sluice reconcile` marks them")
	row("not listed", c.Unlisted, "the source has them by id, and not where the list should")
	row("not listed, not asked for", c.Unasked, "more than are asked for by id")
	for _, d := range c.Examples {
		fmt.Fprintf(b, "  %s %s%s\n", pad(d.Kind, 10, false), d.ID, columnsOf(d))
	}
}

// columnsOf lists where a contact differs.
func columnsOf(d run.Difference) string {
	var out []string
	for _, c := range d.Columns {
		text := c.Name
		if c.Table != nil || c.Source != nil {
			text += fmt.Sprintf(" (%s, at the source %s)", valueOf(c.Table), valueOf(c.Source))
		}
		out = append(out, text)
	}
	if len(out) == 0 {
		return ""
	}
	return ": " + strings.Join(out, ", ")
}

func valueOf(s *string) string {
	if s == nil {
		return "null"
	}
	return strconv.Quote(*s)
}
