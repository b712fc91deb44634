package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/run"
)

// shownMonths is how many months a text names.
const shownMonths = 6

// parity is verify --parity. Pipelines with one destination are passed over
// where none is named.
func (a *app) parity(ctx context.Context, names []string, o verifyOptions) error {
	cfg, chosen, err := a.loadNamed(names, config.Offline())
	if err != nil {
		return err
	}
	var wrong, done int64
	for _, p := range chosen {
		if len(names) == 0 && len(p.Destinations) < 2 {
			continue
		}
		found, err := a.parityOf(ctx, cfg, p, o)
		if err != nil {
			return fmt.Errorf("pipeline %s: %w", p.Name, err)
		}
		done++
		wrong += found.Wrong()
		if err := a.printParity(p.Name, found, o); err != nil {
			return err
		}
	}
	switch {
	case wrong > 0:
		return &userError{
			message: counted(wrong, "difference", "differences") + " between destinations found",
			hint:    "`sluice verify --source` says which of them is right; to fill one anew, give it another path or table name and run, which reads everything once for it",
		}
	case done == 0:
		return &userError{message: "no pipeline has two destinations to compare", hint: "`sluice verify --source` compares a table with its source"}
	}
	return nil
}

func (a *app) parityOf(ctx context.Context, cfg *config.Config, p *config.Pipeline, o verifyOptions) (out run.Parity, err error) {
	store, err := a.store(cfg)
	if err != nil {
		return out, err
	}
	job := run.Job{Pipeline: p.Name}
	if job.Contract, err = contract(cfg, p); err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, closeDestinations(job)) }()
	if err := a.openDestinations(ctx, cfg, p, &job); err != nil {
		return out, err
	}
	return (&run.Engine{Store: store, Clock: a.Clock, Log: a.log}).Parity(ctx, job, run.ParityCheck{Values: o.values})
}

func (a *app) printParity(pipeline string, p run.Parity, o verifyOptions) error {
	var b strings.Builder
	if o.json {
		line := struct {
			Type     string `json:"type"`
			Pipeline string `json:"pipeline"`
			Wrong    int64  `json:"wrong"`
			run.Parity
		}{"parity", pipeline, p.Wrong(), p}
		if err := json.NewEncoder(&b).Encode(line); err != nil {
			return fmt.Errorf("print comparison: %w", err)
		}
	} else {
		writeParity(&b, pipeline, p)
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

func writeParity(b *strings.Builder, pipeline string, p run.Parity) {
	measure := p.Destinations[0]
	if len(p.Pairs) == 0 {
		fmt.Fprintf(b, "%s: nothing is exported yet\n", pipeline)
		return
	}
	fmt.Fprintf(b, "%s: %s is the measure: %s\n", pipeline, measure.Destination, standingOf(measure))
	for i, pair := range p.Pairs {
		writePair(b, p.Destinations[i+1], measure, pair)
	}
	for _, name := range p.Skipped {
		fmt.Fprintf(b, "  %s: not compared, this kind of destination cannot be listed\n", name)
	}
}

// standingOf says where a destination stands.
func standingOf(s run.Standing) string {
	text := fmt.Sprintf("%s at package %d", counted(s.Contacts, "contact", "contacts"), s.Position)
	if s.Recorded > 0 {
		text += fmt.Sprintf(", where state has it at %d", s.Recorded)
	}
	if s.Queued > 0 {
		text += fmt.Sprintf(", %s for it", counted(int64(s.Queued), "package waits", "packages wait"))
	}
	if s.NeedsFull {
		text += ", to be filled by a full read"
	}
	if s.Settled < s.Position {
		text += fmt.Sprintf(", shown for certain up to package %d", s.Settled)
	}
	return text
}

func writePair(b *strings.Builder, s, measure run.Standing, p run.ParityPair) {
	verdict := "the same"
	switch wrong := p.Wrong(); {
	case wrong > 0:
		verdict = counted(wrong, "difference", "differences")
	case p.Waiting+p.NotVisible > 0:
		verdict = "the same as far as it can be"
	}
	fmt.Fprintf(b, "  %s: %s: %s\n", s.Destination, verdict, standingOf(s))
	row := func(label string, n int64, about string) {
		if n == 0 && label != "same" {
			return
		}
		line := fmt.Sprintf("    %s %s", pad(label, 26, false), count(n))
		if about != "" {
			line += "  " + about
		}
		b.WriteString(line + "\n")
	}
	row("same", p.Same, "")
	row("different", p.Differ, columnCounts(p))
	row("only in "+p.Measure, p.OnlyMeasure, "")
	row("only in "+p.Destination, p.Only, "")
	row("more than once", p.Twice, "`sluice verify` says in which")
	row("of another package", p.Waiting, waitingFor(s, measure))
	row("not visible yet", p.NotVisible, "committed within max_staleness, or a little before")
	row("deleted, in one only", p.Tombstones, "a table that was filled later never had them")
	for _, name := range p.Retyped {
		fmt.Fprintf(b, "    column %s has another type\n", name)
	}
	if p.Wrong() == 0 {
		return
	}
	if len(p.Months) > 0 {
		fmt.Fprintf(b, "    created in %s\n", months(p.Months))
	}
	for _, e := range p.Examples {
		fmt.Fprintf(b, "    %s %s%s\n", pad(caseOf(e.Kind, p), 26, false), e.ID, cellsOf(e, p))
	}
}

// waitingFor says which package a destination waits for.
func waitingFor(s, measure run.Standing) string {
	behind, ahead := s, measure
	if measure.Position < s.Position {
		behind, ahead = measure, s
	}
	return fmt.Sprintf("%s stands at package %d, %s at %d: the next run brings what waits", behind.Destination, behind.Position, ahead.Destination, ahead.Position)
}

func columnCounts(p run.ParityPair) string {
	var out []string
	for _, c := range p.Columns {
		out = append(out, c.Name+" "+count(c.Contacts))
	}
	text := strings.Join(out, ", ")
	if p.Examined < p.Differ && text != "" {
		text += fmt.Sprintf(" (of %s looked at)", count(p.Examined))
	}
	return text
}

// months lists months with their rows.
func months(list []run.MonthPair) string {
	var out []string
	for _, m := range list[:min(len(list), shownMonths)] {
		text := m.Month
		if m.Measure != m.Rows {
			text += fmt.Sprintf(" (%s against %s)", count(m.Measure), count(m.Rows))
		}
		out = append(out, text)
	}
	text := strings.Join(out, ", ")
	if left := len(list) - shownMonths; left > 0 {
		text += fmt.Sprintf(" and %s", counted(int64(left), "other month", "other months"))
	}
	return text
}

func caseOf(kind string, p run.ParityPair) string {
	switch kind {
	case "only_measure":
		return "only in " + p.Measure
	case "only":
		return "only in " + p.Destination
	case "twice":
		return "more than once"
	default:
		return "different"
	}
}

// cellsOf lists where a contact differs.
func cellsOf(e run.ParityCase, p run.ParityPair) string {
	var out []string
	for _, c := range e.Columns {
		text := c.Name
		if c.Measure != nil || c.Destination != nil {
			text += fmt.Sprintf(" (%s %s, %s %s)", p.Measure, valueOf(c.Measure), p.Destination, valueOf(c.Destination))
		}
		out = append(out, text)
	}
	if len(out) == 0 {
		return ""
	}
	return ": " + strings.Join(out, ", ")
}
