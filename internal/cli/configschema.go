package cli

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/config"
)

const configSchemaLong = `Prints a JSON Schema (draft 2020-12) of pipelines.yaml, by which an editor
completes keys, shows what they mean and marks what is wrong: with the YAML
language server, write it to a file and begin pipelines.yaml with
  # yaml-language-server: $schema=pipelines.schema.json
It knows keys, types and bounds. References, contract files and what takes
several keys to judge "sluice validate" checks.`

func (a *app) configSchemaCommand() *cobra.Command {
	return command(&cobra.Command{
		Use:               "config-schema",
		Short:             "Prints a JSON Schema of pipelines.yaml",
		Long:              configSchemaLong,
		Example:           "  sluice config-schema > pipelines.schema.json",
		Args:              noArgs,
		RunE:              func(*cobra.Command, []string) error { return a.configSchema() },
		ValidArgsFunction: cobra.NoFileCompletions,
	})
}

func (a *app) configSchema() error {
	text, err := config.JSONSchema()
	if err != nil {
		return err
	}
	if _, err := a.Streams.Out.Write(text); err != nil {
		return fmt.Errorf("print schema: %w", err)
	}
	return nil
}
