package cli

import (
	"fmt"
	"log/slog"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/sluice-etl/sluice/internal/diag"
)

const (
	defaultFile = "pipelines.yaml"
	envFile     = "SLUICE_FILE"
)

const rootLong = `Sluice exports contacts from a contacts endpoint to Parquet, DuckDB and
BigQuery, without skipping one. pipelines.yaml says what is read and where it
goes; state remembers how far each pipeline has come.

Start here:
  sluice init      write a pipelines.yaml that runs as it stands
  sluice plan      see what would be made, and about how much would be read
  sluice apply     do that, once approved
  sluice run       export without being asked, as every night
  sluice query     ask what was exported, in SQL

Exit codes: 0 done; 1 error; 2 changes pending (plan --detailed-exitcode); 3
approval needed; 4 some pipelines failed and others are done; 130 or 143
interrupted. Results go to stdout, everything else to stderr.`

func (a *app) root() *cobra.Command {
	root := command(&cobra.Command{
		Use:   "sluice",
		Short: "Exports contacts to Parquet, DuckDB and BigQuery, and queries them",
		Long:  rootLong,
		Args:  noArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error {
			return a.startLog()
		},
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	})
	root.SetIn(a.Streams.In)
	root.SetOut(a.Streams.Out)
	root.SetErr(a.err)
	root.CompletionOptions.SetDefaultShellCompDirective(cobra.ShellCompDirectiveNoFileComp)
	root.SetFlagErrorFunc(func(c *cobra.Command, err error) error {
		return &usageError{command: c.CommandPath(), err: withSuggestedFlag(c, err)}
	})

	file := defaultFile
	if f, ok := a.Env(envFile); ok && f != "" {
		file = f
	}
	flags := root.PersistentFlags()
	flags.SortFlags = false
	flags.StringVarP(&a.file, "file", "f", file, "the pipelines file; "+envFile+" sets another default")
	// The default as help shows it does not depend on the environment.
	flags.Lookup("file").DefValue = defaultFile
	flags.StringVar(&a.logs, "log-format", "text", "text or json, for log lines; progress and errors are always text")
	flags.BoolVarP(&a.verbose, "verbose", "v", false, "log more")

	root.AddCommand(
		a.runCommand(), a.planCommand(), a.applyCommand(), a.destroyCommand(), a.backfillCommand(), a.reconcileCommand(), a.verifyCommand(), a.eraseCommand(), a.quarantineCommand(), a.scheduleCommand(),
		a.queryCommand(), a.previewCommand(), a.schemaCommand(), a.runsCommand(), a.stateCommand(), a.notifyCommand(),
		a.initCommand(), a.validateCommand(), a.fmtCommand(), a.configSchemaCommand(), a.sandboxCommand(), a.versionCommand(),
		a.doctorCommand(),
	)
	root.InitDefaultHelpCmd()
	return root
}

// withSuggestedFlag adds the flag that was probably meant.
func withSuggestedFlag(c *cobra.Command, err error) error {
	typed, unknown := strings.CutPrefix(err.Error(), "unknown flag: --")
	if !unknown {
		return err
	}
	var names []string
	c.Flags().VisitAll(func(f *pflag.Flag) { names = append(names, f.Name) })
	if near := diag.Suggest(typed, names); near != "" {
		return fmt.Errorf("%w; did you mean --%s?", err, near)
	}
	return err
}

// startLog makes the logger. Commands that a person watches log warnings
// only; schedule, which nobody watches, lowers that to info.
func (a *app) startLog() error {
	level := slog.LevelWarn
	if a.verbose {
		level = slog.LevelDebug
	}
	return a.setLog(level)
}

func (a *app) setLog(level slog.Level) error {
	options := &slog.HandlerOptions{Level: level}
	switch a.logs {
	case "text":
		a.log = slog.New(slog.NewTextHandler(a.err, options))
	case "json":
		a.log = slog.New(slog.NewJSONHandler(a.err, options))
	default:
		return &usageError{command: "sluice", err: fmt.Errorf("--log-format is %q, allowed are text and json", a.logs)}
	}
	return nil
}

// noArgs is cobra.NoArgs with an error that fits ours.
func noArgs(c *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	if !c.HasParent() {
		return &usageError{command: c.CommandPath(), err: fmt.Errorf("unknown command %q%s", args[0], suggestion(c, args[0]))}
	}
	return &usageError{command: c.CommandPath(), err: fmt.Errorf("%s takes no arguments, got %q", c.CommandPath(), strings.Join(args, " "))}
}

func suggestion(c *cobra.Command, typed string) string {
	if c.SuggestionsMinimumDistance <= 0 {
		c.SuggestionsMinimumDistance = 2
	}
	if names := c.SuggestionsFor(typed); len(names) > 0 {
		return fmt.Sprintf("; did you mean %q?", names[0])
	}
	return ""
}

// onePipeline asks for exactly one argument, the pipeline's name.
func onePipeline(c *cobra.Command, args []string) error {
	switch len(args) {
	case 1:
		return nil
	case 0:
		return &usageError{command: c.CommandPath(), err: fmt.Errorf("%s needs the name of a pipeline", c.CommandPath())}
	default:
		return &usageError{command: c.CommandPath(), err: fmt.Errorf("%s takes one pipeline, got %d", c.CommandPath(), len(args))}
	}
}
