package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/url"
	"strings"

	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

type previewOptions struct {
	rows     int  // contacts shown
	json     bool // one JSON object
	contract bool // a contract file instead
}

const previewLong = `Fetches one page of contacts, narrowed by what the pipeline has the source
filter, shows a few of them, and the columns that the page would give: their
types, how much of them is null, and up to three of the shortest values, as the
contract has them stored. It writes nothing: no state, no files.

With enrich: info it asks for 20 contacts, or as many as are shown, and the info
endpoint for each of them, one request a contact under the source's limits.

A column marked + is new: the pipeline has not exported it yet. One marked !
takes the text of values that do not fit. What the contract leaves out is listed
with its reason, and so are records that would be set aside.

--contract prints a contract file that declares all columns found, to be edited.`

func (a *app) previewCommand() *cobra.Command {
	var o previewOptions
	c := command(&cobra.Command{
		Use:     "preview [PIPELINE] [flags]",
		Short:   "Shows a sample of the source and its columns",
		Long:    previewLong,
		Example: "  sluice preview nightly --rows 3\n  sluice preview nightly --contract > crm.yaml",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return nil
			}
			return onePipeline(c, args)
		},
		RunE:              func(c *cobra.Command, args []string) error { return a.preview(c.Context(), args, o) },
		ValidArgsFunction: a.completePipelines,
	})
	c.Flags().IntVar(&o.rows, "rows", 5, "how many contacts to show, 0 for the columns alone")
	c.Flags().BoolVar(&o.json, "json", false, "print one JSON object")
	c.Flags().BoolVar(&o.contract, "contract", false, "print a contract file that declares the columns found")
	return c
}

func (a *app) preview(ctx context.Context, args []string, o previewOptions) error {
	switch {
	case o.rows < 0 || o.rows > 1000:
		return &usageError{command: "sluice preview", err: fmt.Errorf("--rows is %d, allowed are 0 to 1000", o.rows)}
	case o.json && o.contract:
		return &usageError{command: "sluice preview", err: errors.New("--json and --contract print different things: give one of them")}
	}
	cfg, err := a.load()
	if err != nil {
		return err
	}
	p, err := onlyPipeline(cfg, args)
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
	s, err := a.takeSample(ctx, cfg, p, c, known, o.rows)
	if err != nil {
		return err
	}
	defer s.sealed.Record.Release()

	var text string
	switch {
	case o.contract:
		text, err = contractFile(p, s)
	case o.json:
		text, err = previewJSON(p, s, o.rows)
	default:
		text = previewText(p, s, o.rows, a.outWidth())
	}
	if err != nil {
		return err
	}
	if _, err := io.WriteString(a.Streams.Out, text); err != nil {
		return fmt.Errorf("print preview: %w", err)
	}
	return nil
}

// onlyPipeline returns the pipeline that is named, or the only one there is.
func onlyPipeline(cfg *config.Config, args []string) (*config.Pipeline, error) {
	if len(args) > 0 {
		return pipeline(cfg, args[0])
	}
	if len(cfg.Pipelines) == 1 {
		return cfg.Pipelines[0], nil
	}
	names := make([]string, len(cfg.Pipelines))
	for i, p := range cfg.Pipelines {
		names[i] = p.Name
	}
	return nil, &userError{
		message: fmt.Sprintf("%s has %s", cfg.File, counted(len(names), "pipeline", "pipelines")),
		hint:    "name one of them: " + strings.Join(names, ", "),
	}
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

// pageSample is a page of the source, as the pipeline would store it.
type pageSample struct {
	contract *schemas.Contract
	registry *schemas.Registry // that of state, and what the page adds
	before   schemas.Table     // the table without the page
	sealed   *transform.Sealed
	requests int64         // attempts, those to the info endpoint included
	asked    *run.Enriched // of enrich: info
	// frozen says why a run would fail: the contract has no place for a value.
	frozen *schemas.FreezeError
	// served are all fields of the page, with those that the contract leaves
	// out: names and counts, no values.
	served []schemas.Sighting
}

// takeSample asks for one page and decodes it: as a run would, and once more
// without the contract, to tell what it leaves out. Nothing of the latter but
// the fields' names is kept.
func (a *app) takeSample(ctx context.Context, cfg *config.Config, p *config.Pipeline, c *schemas.Contract, known *schemas.Registry, rows int) (*pageSample, error) {
	key, err := hashKey(cfg, p, c)
	if err != nil {
		return nil, err
	}
	s := &pageSample{contract: c, registry: known, before: known.Table()}
	o := transform.Options{Contract: c, HashKey: key, Filter: p.Filters}
	page, meta, err := a.fetchSample(ctx, cfg, p, o, s, rows)
	if err != nil {
		return nil, err
	}
	s.sealed, err = sealPage(page, meta, o, known)
	if errors.As(err, &s.frozen) {
		o.Contract = thawed(c)
		s.sealed, err = sealPage(page, meta, o, known)
	}
	if err != nil {
		return nil, err
	}
	open := unrestricted(c)
	fresh, err := schemas.NewRegistry(open, nil)
	if err != nil {
		s.sealed.Record.Release()
		return nil, err
	}
	all, err := sealPage(page, meta, transform.Options{Contract: open}, fresh)
	if err != nil {
		s.sealed.Record.Release()
		return nil, err
	}
	s.served = all.Sightings
	all.Record.Release()
	return s, nil
}

// enrichedSample is how many contacts are looked at where each is asked for by
// itself, unless more are shown.
const enrichedSample = 20

// fetchSample returns the body of one page, as a run would take it.
func (a *app) fetchSample(ctx context.Context, cfg *config.Config, p *config.Pipeline, o transform.Options, s *pageSample, rows int) (page []byte, meta transform.Meta, err error) {
	sources := a.newSources()
	defer func() { err = errors.Join(err, sources.close()) }()
	source, _, err := sources.open(ctx, cfg, p.Source)
	if err != nil {
		return nil, meta, err
	}
	source.Private = !o.Contract.KeepsAll()
	client, err := extract.NewClient(source, a.Clock)
	if err != nil {
		return nil, meta, err
	}
	defer client.Close()
	q := sampleQuery(p)
	if p.Enrich == enrichInfo {
		q.Limit = min(q.Limit, max(rows, enrichedSample))
	}
	response, err := client.Page(ctx, q, func(body []byte, info extract.PageInfo) error {
		meta.Request = info.Request
		if _, err := transform.NewChunk(o).Decode(body); err != nil {
			if errors.Is(err, transform.ErrBadPage) {
				return fmt.Errorf("%w: %w", extract.ErrBadPage, err)
			}
			return err
		}
		page = bytes.Clone(body)
		return nil
	})
	if err != nil {
		return nil, meta, err
	}
	if p.Enrich == enrichInfo {
		var asked run.Enriched
		if page, asked, err = run.EnrichPage(ctx, client, o, source.Concurrency, page); err != nil {
			return nil, meta, err
		}
		s.asked = &asked
	}
	meta.ExtractedAt, s.requests = response.ReceivedAt, client.Stats().Requests
	return page, meta, nil
}

// sealPage decodes a page that is known to be one. The caller releases the
// record.
func sealPage(page []byte, meta transform.Meta, o transform.Options, reg *schemas.Registry) (*transform.Sealed, error) {
	chunk := transform.NewChunk(o)
	if _, err := chunk.Decode(page); err != nil {
		return nil, fmt.Errorf("decode page: %w", err)
	}
	chunk.Keep(nil, meta)
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
