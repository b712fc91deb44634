package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/config"
)

const schemaLong = `Prints the columns of a pipeline's table: those of the contract, those found
in the data so far, and Sluice's own. It asks neither source nor destination.`

func (a *app) schemaCommand() *cobra.Command {
	var asJSON bool
	c := command(&cobra.Command{
		Use:               "schema PIPELINE [flags]",
		Short:             "Prints the columns of a pipeline's table",
		Long:              schemaLong,
		Example:           "  sluice schema nightly\n  sluice schema nightly --json | jq -r '.columns[].name'",
		Args:              onePipeline,
		RunE:              func(c *cobra.Command, args []string) error { return a.schema(c.Context(), args[0], asJSON) },
		ValidArgsFunction: a.completePipelines,
	})
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object")
	return c
}

func (a *app) schema(ctx context.Context, name string, asJSON bool) error {
	cfg, err := a.load(config.Offline())
	if err != nil {
		return err
	}
	p, err := pipeline(cfg, name)
	if err != nil {
		return err
	}
	c, err := contract(cfg, p)
	if err != nil {
		return err
	}
	reg, err := a.registry(ctx, cfg, p, c)
	if err != nil {
		return err
	}
	table := reg.Table()
	var b strings.Builder
	if asJSON {
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(false)
		e.SetIndent("", "  ")
		if err := e.Encode(table); err != nil {
			return fmt.Errorf("print schema: %w", err)
		}
	} else {
		g := grid{columns: []column{{name: "column"}, {name: "type"}, {name: "null"}, {name: "origin"}, {name: "source"}, {name: "description"}}}
		for _, col := range table.Columns {
			null := "yes"
			if col.Required {
				null = "no"
			}
			g.rows = append(g.rows, []string{col.Name, string(col.Type), null, string(col.Origin), oneLine(col.Source), oneLine(col.Description)})
		}
		left, cutValues := g.write(&b, a.outWidth())
		if note := omissions(left, cutValues); note != "" {
			fmt.Fprintf(&b, "(%s; --json prints all)\n", note)
		}
		if len(reg.Entries()) == 0 {
			b.WriteString("(no fields beyond the contract have been met yet)\n")
		}
	}
	if _, err := io.WriteString(a.Streams.Out, b.String()); err != nil {
		return fmt.Errorf("print schema: %w", err)
	}
	return nil
}
