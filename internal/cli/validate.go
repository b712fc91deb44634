package cli

import (
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/diag"
)

const validateLong = `Checks pipelines.yaml, the contract files it names and the options of its
sandboxes, and reports everything that is wrong at once, each with its place
and what is allowed. It asks neither sources nor destinations.`

func (a *app) validateCommand() *cobra.Command {
	return command(&cobra.Command{
		Use:               "validate",
		Short:             "Checks pipelines.yaml",
		Long:              validateLong,
		Args:              noArgs,
		RunE:              func(*cobra.Command, []string) error { return a.validate() },
		ValidArgsFunction: cobra.NoFileCompletions,
	})
}

func (a *app) validate() error {
	cfg, err := a.load()
	if err != nil {
		return err
	}
	var faults diag.List
	collect := func(err error) error {
		var list *diag.ListError
		if errors.As(err, &list) {
			faults = append(faults, list.List...)
			return nil
		}
		return err
	}
	for _, src := range cfg.Sources {
		if src.Sandbox() {
			_, err := sandboxOptions(cfg, src)
			if err := collect(err); err != nil {
				return err
			}
		}
	}
	for _, d := range cfg.Destinations {
		if err := collect(usable(cfg, d)); err != nil {
			return err
		}
	}
	seen := map[string]bool{}
	for _, p := range cfg.Pipelines {
		c, err := contract(cfg, p)
		if err == nil {
			_, err = hashKey(cfg, p, c)
		} else if seen[p.Schema] {
			continue // its faults are there
		}
		seen[p.Schema] = true
		if err := collect(err); err != nil {
			return err
		}
	}
	if err := faults.Err(); err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.Streams.Out, "%s is valid: %s, %s, %s\n", cfg.File,
		counted(len(cfg.Sources), "source", "sources"),
		counted(len(cfg.Destinations), "destination", "destinations"),
		counted(len(cfg.Pipelines), "pipeline", "pipelines"))
	if err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	return nil
}

// lineOf returns line n of data, from 1, for a diagnostic's snippet.
func lineOf(data []byte, n int) string {
	lines := strings.Split(string(data), "\n")
	if n < 1 || n > len(lines) {
		return ""
	}
	return strings.TrimSuffix(lines[n-1], "\r")
}
