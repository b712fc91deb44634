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

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/diag"
	"github.com/sluice-etl/sluice/internal/doctor"
)

type doctorOptions struct {
	budget int // requests
	json   bool
}

const doctorLong = `Asks the endpoint of a source how it behaves: whether it is reachable and takes
the key, keeps the order and the filters that it documents, how long its pages
are, what it does with ties, how its clock stands, what its contacts hold; and
says what each means for pipelines.yaml. It reads pages, a contact and the list
of pipelines, at the source's rate, within a budget of requests, and writes
nothing: no state, no files.

ok       as documented, or as an export needs it
note     worth knowing; exports are right, perhaps with another setting
problem  an export would fail or miss something: exit code 1
unknown  could not be seen`

func (a *app) doctorCommand() *cobra.Command {
	var o doctorOptions
	c := command(&cobra.Command{
		Use:   "doctor [SOURCE] [flags]",
		Short: "Examines how the endpoint of a source behaves",
		Long:  doctorLong,
		Example: `  sluice doctor
  sluice doctor crm --budget 20 --json`,
		Args:              atMostOneSource,
		RunE:              func(c *cobra.Command, args []string) error { return a.doctor(c.Context(), args, o) },
		ValidArgsFunction: a.completeSources,
	})
	c.Flags().IntVar(&o.budget, "budget", doctor.DefaultBudget, "how many requests may be sent, repeats included")
	c.Flags().BoolVar(&o.json, "json", false, "print the report as one JSON object")
	return c
}

func atMostOneSource(c *cobra.Command, args []string) error {
	if len(args) > 1 {
		return &usageError{command: c.CommandPath(), err: fmt.Errorf("%s takes one source, got %d", c.CommandPath(), len(args))}
	}
	return nil
}

// mostRequests bounds --budget: an examination takes fewer.
const mostRequests = 1000

func (a *app) doctor(ctx context.Context, args []string, o doctorOptions) error {
	if o.budget < 1 || o.budget > mostRequests {
		return &usageError{command: "sluice doctor", err: fmt.Errorf("--budget is %d, allowed are 1 to %d", o.budget, mostRequests)}
	}
	cfg, err := a.load()
	if err != nil {
		return err
	}
	src, err := theSource(cfg, args)
	if err != nil {
		return err
	}
	report, err := a.examine(ctx, cfg, src, o)
	if err != nil {
		return err
	}
	if err := a.printReport(src, report, o); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	if n := report.Count(doctor.Problem); n > 0 {
		return &exitCodeError{code: exitError, err: fmt.Errorf("source %s has %s", src.Name, counted(n, "problem", "problems"))}
	}
	return nil
}

// theSource finds the source named on the command line, or the only one.
func theSource(cfg *config.Config, args []string) (*config.Source, error) {
	names := make([]string, 0, len(cfg.Sources))
	for _, s := range cfg.Sources {
		names = append(names, s.Name)
	}
	if len(args) == 0 {
		if len(cfg.Sources) == 1 {
			return cfg.Sources[0], nil
		}
		return nil, &userError{
			message: fmt.Sprintf("%s has %d sources", cfg.File, len(names)),
			hint:    "name the one to examine: " + strings.Join(names, ", "),
		}
	}
	if s := cfg.Source(args[0]); s != nil {
		return s, nil
	}
	return nil, &userError{
		message: fmt.Sprintf("no source is called %q in %s", args[0], cfg.File),
		hint:    diag.Hint(args[0], names),
	}
}

func (a *app) examine(ctx context.Context, cfg *config.Config, src *config.Source, o doctorOptions) (_ doctor.Report, err error) {
	s := a.newSources()
	defer func() { err = errors.Join(err, s.close()) }()
	source, _, err := s.open(ctx, cfg, src)
	if err != nil {
		return doctor.Report{}, err
	}
	return doctor.Run(ctx, doctor.Options{
		Source: source, Budget: o.budget, PageSize: src.PageSize, Lookback: lookback(cfg, src), DaysAlone: !src.CombineFilters, Clock: a.Clock,
	})
}

// lookback is the shortest of the pipelines that read src, which has the least
// to spare. Without a pipeline it is left to the default; none at all is
// negative, as doctor.Options takes it.
func lookback(cfg *config.Config, src *config.Source) time.Duration {
	least := time.Duration(0)
	for _, p := range cfg.Pipelines {
		if p.Source != src {
			continue
		}
		d := p.Lookback
		if d == 0 {
			d = -1
		}
		if least == 0 || d < least {
			least = d
		}
	}
	return least
}

func (a *app) printReport(src *config.Source, r doctor.Report, o doctorOptions) error {
	if o.json {
		e := json.NewEncoder(a.Streams.Out)
		e.SetEscapeHTML(false)
		return e.Encode(r)
	}
	where := r.Source
	if src.Sandbox() {
		where = "a sandbox in this process"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "Source %s: %s\n\n", src.Name, where)
	writeChecks(&b, r.Checks, a.outWidth())
	writeSuggestions(&b, src.Name, r.Suggestions)
	fmt.Fprintf(&b, "\n%s: %d ok, %s, %s, %d unknown. %s of at most %s.\n",
		counted(len(r.Checks), "check", "checks"), r.Count(doctor.OK), counted(r.Count(doctor.Note), "note", "notes"),
		counted(r.Count(doctor.Problem), "problem", "problems"), r.Count(doctor.Unknown),
		counted(r.Requests, "request", "requests"), count(r.Budget))
	_, err := io.WriteString(a.Streams.Out, visible(b.String()))
	return err
}

// narrowest and widest are the columns that findings take.
const narrowest, widest = 40, 90

// writeChecks prints each check with its finding and, below it, what that
// means. width is the terminal's, 0 for none.
func writeChecks(b *strings.Builder, checks []doctor.Check, width int) {
	names, states := 0, 0
	checks = together(checks)
	for _, c := range checks {
		names, states = max(names, displayWidth(c.Name)), max(states, displayWidth(string(c.Status)))
	}
	margin := states + len(gap) + names + len(gap)
	room := widest
	if width > 0 {
		room = min(widest, max(narrowest, width-margin-1))
	}
	for _, c := range checks {
		head := pad(string(c.Status), states, false) + gap + pad(c.Name, names, false) + gap
		for _, line := range wrapText(oneLine(c.Found), room) {
			b.WriteString(head + line + "\n")
			head = strings.Repeat(" ", margin)
		}
		lead := "> "
		for _, line := range wrapText(oneLine(c.Means), room-len(lead)) {
			if line == "" {
				continue
			}
			b.WriteString(head + lead + line + "\n")
			lead = "  "
		}
	}
}

// together makes one line of neighbours that say the same.
func together(checks []doctor.Check) []doctor.Check {
	var out []doctor.Check
	for i := 0; i < len(checks); {
		c := checks[i]
		j := i + 1
		for j < len(checks) && checks[j].Status == c.Status && checks[j].Found == c.Found && checks[j].Means == c.Means {
			j++
		}
		if more := j - i - 1; more > 0 {
			c.Name = c.Name + " and " + count(more) + " more"
		}
		out = append(out, c)
		i = j
	}
	return out
}

// writeSuggestions prints the settings that fit better as lines for the file.
func writeSuggestions(b *strings.Builder, source string, list []doctor.Suggestion) {
	if len(list) == 0 {
		b.WriteString("\nSuggested settings: none.\n")
		return
	}
	b.WriteString("\nSuggested settings\n")
	for _, part := range []struct{ prefix, title string }{
		{"sources.*.", "source " + source},
		{"pipelines.*.", "pipelines that read it"},
	} {
		title := part.title
		for _, s := range list {
			if !strings.HasPrefix(s.Key, part.prefix) {
				continue
			}
			if title != "" {
				b.WriteString("  " + title + "\n")
				title = ""
			}
			fmt.Fprintf(b, "    %s  # %s\n", s.Setting, oneLine(s.Why))
		}
	}
}

// completeSources offers the sources of the pipelines file.
func (a *app) completeSources(_ *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
	cfg, list := config.Load(a.file, a.Env, config.Offline())
	if cfg == nil || list.HasErrors() || len(given) > 0 {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	var names []string
	for _, s := range cfg.Sources {
		names = append(names, s.Name)
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
