package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/config"
)

// dictionaryOptions are the flags of `sluice schema` that ask for a page.
type dictionaryOptions struct {
	want   bool
	out    string // file; empty: stdout
	format string // markdown or html; empty: as out ends, else markdown
}

const (
	formatMarkdown = "markdown"
	formatHTML     = "html"
)

func (o *dictionaryOptions) flags(c *cobra.Command) {
	c.Flags().BoolVar(&o.want, "dictionary", false, "write a page about all tables, views and columns instead")
	c.Flags().StringVarP(&o.out, "output", "o", "", "with --dictionary: the file to write, else stdout")
	c.Flags().StringVar(&o.format, "format", "", "with --dictionary: markdown or html (default: html for a file .html, else markdown)")
}

// check refuses flags that do not go together and settles the format.
func (o *dictionaryOptions) check(asJSON bool) error {
	fault := func(text string) error { return &usageError{command: "sluice schema", err: errors.New(text)} }
	switch {
	case !o.want && (o.out != "" || o.format != ""):
		return fault("--output and --format belong to --dictionary")
	case o.want && asJSON:
		return fault("--json and --dictionary print different things: give one of them")
	case o.format == "":
		o.format = formatMarkdown
		if ext := strings.ToLower(filepath.Ext(o.out)); ext == ".html" || ext == ".htm" {
			o.format = formatHTML
		}
	case o.format != formatMarkdown && o.format != formatHTML:
		return fault(fmt.Sprintf("--format is %q, allowed are markdown and html", o.format))
	}
	return nil
}

// dictionary writes the page about the pipelines in list.
func (a *app) dictionary(ctx context.Context, cfg *config.Config, list []*config.Pipeline, o dictionaryOptions) error {
	var pages []dictPipeline
	for _, p := range list {
		c, err := contract(cfg, p)
		if err != nil {
			return err
		}
		reg, err := a.registry(ctx, cfg, p, c)
		if err != nil {
			return err
		}
		page, err := describe(ctx, p, reg)
		if err != nil {
			return err
		}
		pages = append(pages, page)
	}
	text := dictionaryMarkdown(pages)
	if o.format == formatHTML {
		var err error
		if text, err = dictionaryHTML(pages); err != nil {
			return err
		}
	}
	if o.out != "" {
		return a.writePage(o.out, text)
	}
	if _, err := io.WriteString(a.Streams.Out, text); err != nil {
		return fmt.Errorf("print dictionary: %w", err)
	}
	return nil
}

// writePage publishes text as the file at path, or where a link there leads.
func (a *app) writePage(path, text string) error {
	target := path
	if info, err := os.Stat(path); err == nil {
		if !info.Mode().IsRegular() {
			return &userError{message: fmt.Sprintf("write dictionary: %s is not a regular file", path), hint: "name a file, or leave -o out: the page then goes to stdout"}
		}
		if target, err = filepath.EvalSymlinks(path); err != nil {
			return fmt.Errorf("write dictionary: %w", err)
		}
	}
	if err := atomicfile.WriteFile(target, []byte(text), 0o644); err != nil {
		return &userError{err: fmt.Errorf("write dictionary: %w", err), hint: "choose a file in a directory that exists and that you may write to"}
	}
	_, _ = fmt.Fprintf(a.err, "wrote %s\n", path) // the file is there
	return nil
}

// dictPipeline is what the page says of one pipeline.
type dictPipeline struct {
	ID, Name, Source, Contract, Timezone string
	Destinations                         string
	ViewsAbout                           string // how the views are called, and what their types are
	Tables                               []dictTable
	Views                                []dictView
	Left                                 []dictLeft
}

// dictTable is a table, or something else with rows.
type dictTable struct {
	ID, Name string
	About    string
	Groups   []dictGroup // none: it has the columns of another table
}

type dictGroup struct {
	Title   string
	Columns []dictColumn
}

// HasFields says that there is a field of the source to name for a column.
func (g dictGroup) HasFields() bool {
	return slices.ContainsFunc(g.Columns, func(c dictColumn) bool { return c.Source != "" })
}

// HasSeen says that the registry knows of values of a column.
func (g dictGroup) HasSeen() bool {
	return slices.ContainsFunc(g.Columns, func(c dictColumn) bool { return c.First != "" || c.Observed != "" })
}

type dictColumn struct {
	ID, Name, Type, Null, Description, Source, Policy, First, Last, Observed string
}

// dictView is a view or macro.
type dictView struct {
	ID, Name, About string
	// Extends says that the view has all columns of the table, and those listed
	// besides.
	Extends bool
	Columns []dictViewColumn
}

type dictViewColumn struct{ Name, Type string }

// dictLeft is something that is not exported.
type dictLeft struct{ Field, Why string }

// anchor makes an id of names; what an id cannot hold becomes a dash.
func anchor(names ...string) string {
	return strings.Map(func(r rune) rune {
		if r >= 'a' && r <= 'z' || r >= 'A' && r <= 'Z' || r >= '0' && r <= '9' || strings.ContainsRune("._-", r) {
			return r
		}
		return '-'
	}, strings.Join(names, "."))
}

// writesTo lists where a pipeline writes.
func writesTo(p *config.Pipeline) string {
	var out []string
	for _, d := range p.Destinations {
		out = append(out, d.Name+" ("+d.Type+")")
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
