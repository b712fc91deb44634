package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/duck"
	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

type previewOptions struct {
	rows int // contacts shown
}

const previewLong = `Fetches one page of contacts, narrowed by what the pipeline has the source
filter, shows a few of them, and the columns that the page would give. It writes
nothing: no state, no files.

A column is new where the pipeline has not exported it yet.`

func (a *app) previewCommand() *cobra.Command {
	var o previewOptions
	c := command(&cobra.Command{
		Use:               "preview PIPELINE [flags]",
		Short:             "Shows a sample of the source and its columns",
		Long:              previewLong,
		Example:           "  sluice preview nightly --rows 3",
		Args:              onePipeline,
		RunE:              func(c *cobra.Command, args []string) error { return a.preview(c.Context(), args[0], o) },
		ValidArgsFunction: a.completePipelines,
	})
	c.Flags().IntVar(&o.rows, "rows", 5, "how many contacts to show, 0 for the columns alone")
	return c
}

func (a *app) preview(ctx context.Context, name string, o previewOptions) (err error) {
	if o.rows < 0 || o.rows > 1000 {
		return &usageError{command: "sluice preview", err: fmt.Errorf("--rows is %d, allowed are 0 to 1000", o.rows)}
	}
	cfg, err := a.load()
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
	known, err := a.registry(ctx, cfg, p, c)
	if err != nil {
		return err
	}
	before := known.Table()
	sealed, err := a.fetchSample(ctx, cfg, p, c, known)
	if err != nil {
		return err
	}
	defer sealed.Record.Release()

	var b strings.Builder
	if sealed.Record.NumRows() == 0 {
		b.WriteString("The source returned no contacts.\n")
	} else if o.rows > 0 {
		a.writeSample(&b, sealed, o.rows)
	}
	b.WriteString("\n")
	writeColumns(&b, sealed, before, a.outWidth())
	for _, r := range sealed.Rejects {
		name := fmt.Sprintf("record %d of the page", r.Position+1)
		if r.ID != "" {
			name = "contact " + r.ID
		}
		fmt.Fprintf(&b, "set aside: %s: %s\n", name, r.Reason)
	}
	if _, err := io.WriteString(a.Streams.Out, visible(strings.TrimLeft(b.String(), "\n"))); err != nil {
		return fmt.Errorf("print preview: %w", err)
	}
	return nil
}

// outWidth is the width results may take, 0 for any.
func (a *app) outWidth() int {
	if !a.Streams.OutTerminal {
		return 0
	}
	return a.Streams.width()
}

// registry returns what the pipeline knows of its columns, without changing it.
func (a *app) registry(ctx context.Context, cfg *config.Config, p *config.Pipeline, c *schemas.Contract) (*schemas.Registry, error) {
	store, err := a.store(cfg)
	if err != nil {
		return nil, err
	}
	st, err := store.Load(ctx, p.Name)
	if err != nil {
		return nil, err
	}
	return schemas.NewRegistry(c, st.Entries(c))
}

// fetchSample asks for one page and decodes it.
func (a *app) fetchSample(ctx context.Context, cfg *config.Config, p *config.Pipeline, c *schemas.Contract, reg *schemas.Registry) (_ *transform.Sealed, err error) {
	key, err := hashKey(cfg, p, c)
	if err != nil {
		return nil, err
	}
	s := a.newSources()
	defer func() { err = errors.Join(err, s.close()) }()
	source, _, err := s.open(ctx, cfg, p.Source)
	if err != nil {
		return nil, err
	}
	source.Private = !c.KeepsAll()
	client, err := extract.NewClient(source, a.Clock)
	if err != nil {
		return nil, err
	}
	defer client.Close()
	chunk := transform.NewChunk(transform.Options{Contract: c, HashKey: key, Filter: p.Filters})
	var request string
	response, err := client.Page(ctx, sampleQuery(p), func(body []byte, info extract.PageInfo) error {
		request = info.Request
		_, err := chunk.Decode(body)
		if errors.Is(err, transform.ErrBadPage) {
			return fmt.Errorf("%w: %w", extract.ErrBadPage, err)
		}
		return err
	})
	if err != nil {
		return nil, err
	}
	chunk.Keep(nil, transform.Meta{ExtractedAt: response.ReceivedAt, Request: request})
	return chunk.Seal(reg, "preview", memory.DefaultAllocator)
}

// sampleQuery asks for a page of what the pipeline has the source give: as its walk
// does, where the source combines filters.
func sampleQuery(p *config.Pipeline) extract.Query {
	epoch := int64(0)
	q := extract.Query{UpdatedAfter: &epoch, Limit: p.Source.PageSize, Days: p.Days}
	if p.Days > 0 && !p.Source.CombineFilters {
		q.UpdatedAfter = nil
	}
	if !narrowed(p) {
		return q
	}
	q.Extra = url.Values{}
	if len(p.Stages) > 0 {
		q.Extra["stage_id"] = p.Stages
	}
	if len(p.Pipelines) > 0 {
		q.Extra["pipeline_id"] = p.Pipelines
	}
	if f := p.Field; f != nil {
		q.Extra.Set("custom_field_key", f.Key)
		q.Extra.Set("custom_field_value", f.Value)
		if f.Entity != "" {
			q.Extra.Set("entity_type", f.Entity)
		}
	}
	return q
}

// writeSample prints the first rows, without the columns that are null in all
// of them and without Sluice's own.
func (a *app) writeSample(b *strings.Builder, sealed *transform.Sealed, rows int) {
	rec := sealed.Record
	n := min(rows, int(rec.NumRows()))
	var g grid
	g.rows = make([][]string, n)
	for i, c := range sealed.Table.Columns {
		if c.Origin == schemas.SystemDefined || allNull(rec.Column(i), n) {
			continue
		}
		g.columns = append(g.columns, column{name: c.Name, right: c.Type == schemas.Int64 || c.Type == schemas.Float64})
		for r := range n {
			g.rows[r] = append(g.rows[r], arrowCell(rec.Column(i), r))
		}
	}
	left, cutValues := g.write(b, a.outWidth())
	fmt.Fprintf(b, "(%s of a page of %s)\n", counted(n, "contact", "contacts"), count(rec.NumRows()))
	if note := omissions(left, cutValues); note != "" {
		fmt.Fprintf(b, "(%s)\n", note)
	}
}

func allNull(col arrow.Array, n int) bool {
	for r := range n {
		if !col.IsNull(r) {
			return false
		}
	}
	return true
}

func arrowCell(col arrow.Array, r int) string {
	if col.IsNull(r) {
		return "NULL"
	}
	return cell(duck.Value{Text: col.ValueStr(r)})
}

// writeColumns prints the schema that the page gives, with examples.
func writeColumns(b *strings.Builder, sealed *transform.Sealed, before schemas.Table, width int) {
	const examples, longest = 3, 40
	g := grid{columns: []column{{name: "column"}, {name: "type"}, {name: "from"}, {name: "nulls", right: true}, {name: "examples"}}}
	rec := sealed.Record
	for i, c := range sealed.Table.Columns {
		if c.Origin == schemas.SystemDefined {
			continue
		}
		col := rec.Column(i)
		nulls := "-"
		if n := rec.NumRows(); n > 0 {
			nulls = fmt.Sprintf("%d%%", int64(col.NullN())*100/n)
		}
		var seen []string
		for r := 0; r < col.Len() && len(seen) < examples; r++ {
			if v := cut(arrowCell(col, r), longest); !col.IsNull(r) && !slices.Contains(seen, v) {
				seen = append(seen, v)
			}
		}
		origin := string(c.Origin)
		if before.Index(c.Name) < 0 {
			origin += ", new"
		}
		g.rows = append(g.rows, []string{c.Name, string(c.Type), origin, nulls, strings.Join(seen, " | ")})
	}
	g.write(b, width)
}
