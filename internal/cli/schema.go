package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf16"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

const schemaLong = `Prints the columns of a pipeline's table: those of the contract, those found
in the data so far, and Sluice's own. Of a column that the data brought it says
the key that it comes from, when values of it were first and last seen, and how
many of each kind were read. It asks neither source nor destination. Views that
are left out, or show other contacts, because of the contract are named below.

Without a name it prints the columns of each pipeline. --dictionary writes one
page about their tables, views and columns, and what is not exported, to give
to those who query them.`

func (a *app) schemaCommand() *cobra.Command {
	var asJSON bool
	var page dictionaryOptions
	c := command(&cobra.Command{
		Use:     "schema [PIPELINE] [flags]",
		Short:   "Prints the columns of a pipeline's table",
		Long:    schemaLong,
		Example: "  sluice schema nightly\n  sluice schema nightly --json | jq -r '.columns[].name'\n  sluice schema --dictionary -o dictionary.html",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return onePipeline(c, args)
		},
		RunE:              func(c *cobra.Command, args []string) error { return a.schema(c.Context(), args, asJSON, page) },
		ValidArgsFunction: a.completePipelines,
	})
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a pipeline")
	page.flags(c)
	return c
}

func (a *app) schema(ctx context.Context, names []string, asJSON bool, page dictionaryOptions) error {
	if err := page.check(asJSON); err != nil {
		return err
	}
	cfg, err := a.load(config.Offline())
	if err != nil {
		return err
	}
	list := cfg.Pipelines
	if len(names) > 0 {
		p, err := pipeline(cfg, names[0])
		if err != nil {
			return err
		}
		list = []*config.Pipeline{p}
	}
	if page.want {
		return a.dictionary(ctx, cfg, list, page)
	}
	var b strings.Builder
	for i, p := range list {
		c, err := contract(cfg, p)
		if err != nil {
			return err
		}
		reg, err := a.registry(ctx, cfg, p, c)
		if err != nil {
			return err
		}
		columns, notes := registered(reg), views.Notes(viewsOf(p, reg.Table()))
		if err := a.markPlain(ctx, cfg, p, reg, columns); err != nil {
			return err
		}
		if asJSON {
			if err := writeSchemaJSON(&b, p.Name, columns, notes); err != nil {
				return err
			}
			continue
		}
		if len(list) > 1 {
			b.WriteString(strings.Repeat("\n", min(i, 1)) + p.Name + "\n")
		}
		a.writeSchema(&b, columns)
		if len(reg.Entries()) == 0 {
			b.WriteString("(no fields beyond the contract have been met yet)\n")
		}
		writePlainIn(&b, columns)
		for _, note := range notes {
			fmt.Fprintf(&b, "view %s\n", note)
		}
	}
	if _, err := io.WriteString(a.Streams.Out, b.String()); err != nil {
		return fmt.Errorf("print schema: %w", err)
	}
	return nil
}

// fieldColumn is a column with what is known of its field.
type fieldColumn struct {
	schemas.Column
	// LeftOut says that the contract has the field left out: the column is null
	// in all rows written from now on.
	LeftOut bool           `json:"left_out,omitempty"`
	Policy  schemas.Policy `json:"policy,omitempty"` // what is stored of values; empty for Sluice's own columns
	// When values were seen, and how many of each kind; absent for declared
	// columns all of whose values have fitted.
	FirstSeen *time.Time       `json:"first_seen,omitempty"`
	LastSeen  *time.Time       `json:"last_seen,omitempty"`
	LastRun   string           `json:"last_run,omitempty"`
	Observed  map[string]int64 `json:"observed,omitempty"`
	// PlainIn are the destinations of which history has values from before the
	// contract protected them.
	PlainIn []string `json:"plain_text_in,omitempty"`
}

// registered returns the columns of the table with what the registry knows of
// their fields.
func registered(reg *schemas.Registry) []fieldColumn {
	known := map[string]schemas.RegistryEntry{}
	for _, e := range reg.Entries() {
		known[e.Ref().String()] = e
	}
	table := reg.Table()
	out := make([]fieldColumn, len(table.Columns))
	for i, col := range table.Columns {
		out[i].Column = col
		ref, err := schemas.ParseFieldRef(col.Source)
		if err != nil {
			continue // it is one of Sluice's own
		}
		if ref.Scope != schemas.ScopeOverflow {
			rule := reg.Contract().Rule(ref)
			out[i].Policy, out[i].LeftOut = rule.Policy, !rule.Wanted
		}
		e := known[col.Source]
		if !e.FirstSeen.IsZero() {
			out[i].FirstSeen, out[i].LastSeen = &e.FirstSeen, &e.LastSeen
		}
		out[i].LastRun, out[i].Observed = e.LastRun, e.Observed
	}
	return out
}

// origin says why the table has the column.
func (c fieldColumn) origin() string {
	if c.LeftOut {
		return string(c.Origin) + ", left out"
	}
	return string(c.Origin)
}

// observed lists how many values of each kind were read, the most frequent
// first.
func (c fieldColumn) observed() string {
	kinds := slices.SortedFunc(maps.Keys(c.Observed), func(x, y string) int {
		return cmp.Or(cmp.Compare(c.Observed[y], c.Observed[x]), cmp.Compare(x, y))
	})
	for i, kind := range kinds {
		kinds[i] = strings.ReplaceAll(kind, "_", " ") + " " + count(c.Observed[kind])
	}
	return strings.Join(kinds, ", ")
}

// writeSchema prints the columns for people: days in UTC.
func (a *app) writeSchema(b *strings.Builder, columns []fieldColumn) {
	const longest = 60 // of a key
	g := grid{columns: []column{{name: "column"}, {name: "type"}, {name: "null"}, {name: "origin"}, {name: "policy"}, {name: "source"}}}
	seen := slices.ContainsFunc(columns, func(c fieldColumn) bool { return c.FirstSeen != nil })
	if seen {
		g.columns = append(g.columns, column{name: "first seen"}, column{name: "last seen"}, column{name: "observed"})
	}
	g.columns = append(g.columns, column{name: "description"})
	day := func(t *time.Time) string {
		if t == nil {
			return ""
		}
		return t.UTC().Format(time.DateOnly)
	}
	long := false
	for _, col := range columns {
		null := "yes"
		if col.Required {
			null = "no"
		}
		source := printable(oneLine(col.Source))
		short := cut(source, longest)
		long = long || short != source
		row := []string{col.Name, string(col.Type), null, col.origin(), string(col.Policy), short}
		if seen {
			row = append(row, day(col.FirstSeen), day(col.LastSeen), col.observed())
		}
		g.rows = append(g.rows, append(row, oneLine(col.Description)))
	}
	left, cutValues := g.write(b, a.outWidth())
	if note := omissions(left, cutValues || long); note != "" {
		fmt.Fprintf(b, "(%s; --json prints all)\n", note)
	}
}

// writeSchemaJSON prints the columns for programs. What a terminal would not
// print as it stands is escaped, in keys above all: they are the source's.
func writeSchemaJSON(b *strings.Builder, name string, columns []fieldColumn, notes []string) error {
	var doc strings.Builder
	e := json.NewEncoder(&doc)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(struct {
		Pipeline string        `json:"pipeline"`
		Columns  []fieldColumn `json:"columns"`
		Views    []string      `json:"view_notes,omitempty"` // what views lack because of the contract
	}{name, columns, notes}); err != nil {
		return fmt.Errorf("print schema: %w", err)
	}
	b.WriteString(printable(doc.String()))
	return nil
}

// printable spells what is neither printed nor a space or line break as JSON
// does: control characters, and those that turn the order of text around or
// hide in it.
func printable(s string) string {
	var b strings.Builder
	for _, r := range s {
		switch {
		case r == '\n' || unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			high, low := utf16.EncodeRune(r)
			fmt.Fprintf(&b, `\u%04x\u%04x`, high, low)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	return b.String()
}
