package cli

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/plan"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// planOptions say what a plan is to look at.
type planOptions struct {
	pipelines []string
	targets   []string
	destroy   bool
	// unseen takes what was last applied for what stands at the destinations.
	unseen bool
	// noData leaves out what the next runs would read.
	noData bool
	// everywhere looks at all destinations, also at those without a target.
	everywhere bool
}

// estate is what a plan was made from: the configuration, the destinations and
// state.
type estate struct {
	cfg    *config.Config
	chosen []*config.Pipeline
	store  *state.Store
	// destroy says that all of it is to be removed.
	destroy bool
	record  *state.Resources // as last applied

	plan  plan.Plan
	found []plan.Resource
	// names are the resources of destinations by address, as loaders call them,
	// users the pipelines of those chosen that ask for one, in the file's order.
	names map[string]load.ResourceName
	users map[string][]string
	syncs []plan.Sync
}

// look makes a plan of the pipelines named, all where none is.
func (a *app) look(ctx context.Context, o planOptions) (_ *estate, err error) {
	var options []config.Option
	if o.noData || o.destroy {
		options = append(options, config.Offline())
	}
	cfg, chosen, err := a.loadNamed(o.pipelines, options...)
	if err != nil {
		return nil, err
	}
	store, err := a.store(cfg)
	if err != nil {
		return nil, err
	}
	e := &estate{cfg: cfg, chosen: chosen, store: store, destroy: o.destroy, names: map[string]load.ResourceName{}, users: map[string][]string{}}
	if e.record, err = store.LoadResources(ctx); err != nil {
		return nil, err
	}
	s := a.newSources()
	defer func() { err = errors.Join(err, s.close()) }()
	o.everywhere = e.unknownTarget(o.targets)
	for _, p := range chosen {
		if err := a.lookAt(ctx, e, p, s, o); err != nil {
			return nil, fmt.Errorf("plan pipeline %s: %w", p.Name, err)
		}
	}
	e.addForgotten(o)
	e.plan, err = plan.New(plan.Input{Resources: e.found, Syncs: e.syncs, Destroy: o.destroy, Targets: o.targets})
	return e, err
}

// lookAt adds what belongs to one pipeline.
func (a *app) lookAt(ctx context.Context, e *estate, p *config.Pipeline, s *sources, o planOptions) (err error) {
	counted := o.counts(p)
	job, err := a.planJob(ctx, e.cfg, p, s, o)
	defer func() { err = errors.Join(err, closeDestinations(job)) }()
	if err != nil {
		return err
	}
	engine := &run.Engine{Store: e.store, Clock: a.Clock, Log: a.log}
	survey, err := engine.Survey(ctx, job)
	if err != nil {
		return renamedError(e.cfg, p, e.record, a.unseenError(err))
	}
	var lost []string
	for _, d := range survey.Destinations {
		if d.Going != nil && !o.destroy {
			return d.Going
		} else if d.Going != nil {
			d.Resources = remains(p)
		}
		if text := noteLost(p, d); text != "" {
			lost = append(lost, text)
		}
		e.add(p, e.cfg.Destination(d.Name), d.Resources)
	}
	if o.unseen {
		e.addUnseen(p, survey.Table)
	}
	var effects []string
	if !o.destroy {
		job := job // of the destinations their names are enough, also of those not looked at
		job.Destinations = nil
		for _, d := range p.Destinations {
			job.Destinations = append(job.Destinations, run.Destination{Name: d.Name})
		}
		out, err := engine.Outlook(ctx, job, counted)
		if err != nil {
			return err
		}
		if out.Mode == "full" && out.Since == nil && survey.Ran {
			effects = []string{"The next run reads everything: " + out.Reason + "."}
		}
		if counted {
			sync := syncOf(p, out)
			sync.Stops = lost
			e.syncs = append(e.syncs, sync)
		}
	}
	e.addPipeline(p, job, survey.Ran, effects)
	return nil
}

// planJob opens what a plan of a pipeline needs: the source where it is to be
// counted, the destinations where they are looked at. What it has opened is in
// the job also where it fails.
func (a *app) planJob(ctx context.Context, cfg *config.Config, p *config.Pipeline, s *sources, o planOptions) (run.Job, error) {
	job, err := a.bareJob(ctx, cfg, p, s, o.counts(p))
	if err != nil || o.unseen {
		return job, err
	}
	seen := *p
	seen.Destinations = slices.DeleteFunc(slices.Clone(p.Destinations), func(d *config.Destination) bool { return !o.sees(p, d) })
	return job, a.openDestinations(ctx, cfg, &seen, &job)
}

// add notes what stands at one destination of a pipeline. What several pipelines
// share is noted once.
func (e *estate) add(p *config.Pipeline, d *config.Destination, list []load.Resource) {
	for _, r := range list {
		r = e.named(p, d, r)
		address := state.ResourceAddress(d.Name, r.Kind, addressName(p, d, r))
		e.names[address] = load.ResourceName{Kind: r.Kind, Name: r.Name}
		if r.Want != nil {
			e.users[address] = append(e.users[address], p.Name)
		}
		own, with := e.belongs(p, d, r)
		union := load.IsUnion(r)
		found := plan.Resource{
			Address: address, Kind: r.Kind, Pipeline: own, Destination: d.Name, With: with,
			Want: e.settings(d, r.Want), Have: e.settings(d, r.Have), Applied: e.applied(address),
			Keeps: d.PreventDestroy && r.Kind == load.KindTable, Holds: holdings(r.Holds), Effects: r.Effects, Blocked: r.Blocked,
		}
		i := slices.IndexFunc(e.found, func(o plan.Resource) bool { return o.Address == address })
		switch {
		case i < 0:
			e.found = append(e.found, found)
		case e.found[i].Want == nil:
			e.found[i] = found
		case union: // made by the last account, when the tables of all are there; each knows its own columns
			if slices.Equal(e.found[i].Want, e.found[i].Have) {
				e.found[i] = found
			}
			e.found[i].Pipeline = own
		}
	}
}

// addUnseen notes the tables of a pipeline from what was last applied, without
// looking at the destinations. What it asks for is known as far as the file and
// the columns say it: its place and columns.
func (e *estate) addUnseen(p *config.Pipeline, table schemas.Table) {
	for _, d := range p.Destinations {
		address := plan.TableAddress(d.Name, p.Table)
		e.names[address] = load.ResourceName{Kind: load.KindTable, Name: p.Table}
		applied := e.applied(address)
		want := []plan.Setting{}
		for _, s := range applied {
			switch {
			case s.Name == "place":
				want = append(want, e.placed(d, p)...)
			case !strings.HasPrefix(s.Name, load.ColumnAttribute("")):
				want = append(want, s)
			}
		}
		if applied == nil {
			want = append(want, e.placed(d, p)...)
		}
		want = append(want, planSettings(load.ColumnAttributes(table))...)
		e.found = append(e.found, plan.Resource{
			Address: address, Kind: load.KindTable, Pipeline: p.Name, Destination: d.Name,
			Want: want, Applied: applied, Unseen: true, Keeps: d.PreventDestroy,
		})
	}
	for address, item := range e.record.Items {
		known := slices.ContainsFunc(e.found, func(r plan.Resource) bool { return r.Address == address })
		used := slices.ContainsFunc(p.Destinations, func(d *config.Destination) bool { return d.Name == item.Destination })
		stages := address == plan.TableAddress(item.Destination, p.StagesTable)
		if known || !used || item.Kind == state.KindTable && !stages || item.Kind == state.KindView && item.Pipeline != p.Name {
			continue
		}
		e.found = append(e.found, plan.Resource{
			Address: address, Kind: item.Kind, Pipeline: item.Pipeline, Destination: item.Destination,
			Want: e.applied(address), Applied: e.applied(address), Unseen: true,
		})
	}
}

// placed is where the file has a pipeline's table.
func (e *estate) placed(d *config.Destination, p *config.Pipeline) []plan.Setting {
	return e.settings(d, []load.Attribute{{Name: "place", Value: d.Place(p.Table)}})
}

// addPipeline notes the pipeline itself. One that has run before anybody
// remembered what was applied is as it should be.
func (e *estate) addPipeline(p *config.Pipeline, job run.Job, ran bool, effects []string) {
	address := plan.PipelineAddress(p.Name)
	want, applied := pipelineSettings(p, job), e.applied(address)
	if p.Source.Scheme == "" { // its variables are not set, and need not be
		want = append(want, slices.DeleteFunc(slices.Clone(applied), func(s plan.Setting) bool { return s.Name != "source" })...)
	}
	have := applied
	if have == nil && ran {
		have = want
	}
	e.found = append(e.found, plan.Resource{
		Address: address, Kind: plan.KindPipeline, Pipeline: p.Name, Want: want, Have: have, Applied: applied, Effects: effects,
	})
}

// addForgotten notes what was applied and nothing asks for any more.
func (e *estate) addForgotten(o planOptions) {
	for address, item := range e.record.Items {
		if slices.ContainsFunc(e.found, func(r plan.Resource) bool { return r.Address == address }) {
			continue
		}
		if len(o.pipelines) > 0 && !slices.ContainsFunc(e.chosen, func(p *config.Pipeline) bool { return p.Name == item.Pipeline }) {
			continue // of another pipeline than those asked for
		}
		r := plan.Resource{Address: address, Kind: item.Kind, Pipeline: item.Pipeline, Destination: item.Destination, Applied: e.applied(address)}
		switch p := e.cfg.Pipeline(item.Pipeline); {
		case item.Kind == state.KindTable:
			r.Effects = []string{e.forgottenText(address, item)}
		case item.Kind == state.KindView && p != nil && !o.unseen && slices.Contains(p.Destinations, e.cfg.Destination(item.Destination)):
			r.Effects = []string{"It is gone, or what has its name is not ours and is left as it is."}
		}
		e.found = append(e.found, r)
	}
}

// applied are the settings that state remembers of an address; nil for none.
func (e *estate) applied(address string) []plan.Setting {
	item, ok := e.record.Items[address]
	if !ok {
		return nil
	}
	out := []plan.Setting{}
	for name, value := range item.Attributes {
		out = append(out, plan.Setting{Name: name, Value: value})
	}
	slices.SortFunc(out, func(a, b plan.Setting) int { return strings.Compare(a.Name, b.Name) })
	return out
}

// settings are the attributes of what stands at a destination. Places on this
// machine are as the file has them: a folder that moves with its file is no
// change.
func (e *estate) settings(d *config.Destination, list []load.Attribute) []plan.Setting {
	out := planSettings(list)
	for i, s := range out {
		if rel, err := filepath.Rel(e.cfg.Dir, s.Value); s.Name == "place" && d.Local() && err == nil && filepath.IsLocal(rel) {
			out[i].Value = filepath.ToSlash(rel)
		}
	}
	return out
}

// planSettings are a loader's attributes as a plan has them.
func planSettings(list []load.Attribute) []plan.Setting {
	if list == nil {
		return nil
	}
	out := []plan.Setting{}
	for _, a := range list {
		out = append(out, plan.Setting{Name: a.Name, Value: a.Value, Forces: a.Forces, Usual: a.Usual})
	}
	return out
}

// holdings says in words how much a table holds; empty for nothing.
func holdings(h load.Holdings) string {
	if h.Contacts == 0 && h.Versions == 0 {
		return ""
	}
	text := counted(h.Contacts, "contact", "contacts") + " and " + counted(h.Versions, "version", "versions")
	if h.Files > 0 {
		text += " in " + counted(h.Files, "file", "files")
	}
	if h.Bytes > 0 {
		text += ", " + megabytes(h.Bytes)
	}
	return text
}

// pipelineSettings are what a pipeline does, in words that fit a line.
func pipelineSettings(p *config.Pipeline, job run.Job) []plan.Setting {
	var out []plan.Setting
	add := func(name, value string) {
		if value != "" {
			out = append(out, plan.Setting{Name: name, Value: value})
		}
	}
	var destinations []string
	for _, d := range p.Destinations {
		destinations = append(destinations, d.Name)
	}
	if p.Source.Scheme != "" {
		add("source", p.Source.Scheme+"://"+p.Source.Host)
	}
	add("table", p.Table)
	add("destinations", strings.Join(destinations, ", "))
	add("contract", job.Contract.Hash()[:min(12, len(job.Contract.Hash()))])
	if job.HashKey != nil {
		out = append(out, plan.Setting{Name: "hash_key", Value: job.HashKey.ID(), Sensitive: true})
	}
	add("sync", p.Sync)
	if p.Days > 0 {
		add("days", count(p.Days))
	}
	add("lookback", p.Lookback.String())
	if p.FullEvery > 0 {
		add("full_every", p.FullEvery.String())
	}
	for _, name := range slices.Sorted(maps.Keys(p.Filters)) {
		add("filters."+name, strings.Join(p.Filters[name], ", "))
	}
	add("filters.stage_id", strings.Join(p.Stages, ", "))
	add("filters.pipeline_id", strings.Join(p.Pipelines, ", "))
	if f := p.Field; f != nil {
		value := f.Value
		if !job.Contract.KeepsAll() { // it may be what a policy keeps out of tables; the full read shows that it changed
			value = "(hidden)"
		}
		add("filters.custom_field", strings.TrimSpace(f.Entity+" "+f.Key+" = "+value))
	}
	add("enrich", p.Enrich)
	add("stages", p.StagesTable)
	add("union_view", p.UnionView)
	add("verify", p.Verify)
	add("schedule", p.Schedule)
	add("timezone", p.Timezone.String())
	return out
}

// syncOf is what the next run of a pipeline would read, as a plan has it.
func syncOf(p *config.Pipeline, o run.Outlook) plan.Sync {
	s := plan.Sync{Pipeline: p.Name, Mode: o.Mode, Reason: o.Reason, Since: o.Since, Kept: o.Kept, PlainText: o.PlainText}
	if c := o.Count; c != nil {
		at := c.At
		s.Counted, s.At, s.Asked = true, &at, c.Asked
		s.Contacts, s.Reread, s.Exact, s.Pages, s.Requests, s.Duration = c.Contacts, c.Reread, c.Exact, c.Pages, c.Requests, c.Duration
		s.Limit = limitText(p, c)
	} else if o.CountError != nil {
		s.CountError = o.CountError.Error()
	}
	for _, d := range o.Destinations {
		out := plan.SyncDestination{Name: d.Name, Seeded: d.Seeded, Waiting: d.Waiting, Bytes: d.Bytes, Scanned: d.Scanned}
		if i := slices.IndexFunc(p.Destinations, func(c *config.Destination) bool { return c.Name == d.Name }); i >= 0 {
			out.Price = float64(d.Scanned) / (1 << 40) * p.Destinations[i].PricePerTiB
		}
		s.Destinations = append(s.Destinations, out)
	}
	return s
}

// limitText says which limit stops a run before its end; empty for none.
func limitText(p *config.Pipeline, c *run.SourceCount) string {
	const goesOn = ": what it has read by then is kept, and the next run goes on"
	switch {
	case p.MaxRequests > 0 && c.Requests > p.MaxRequests:
		return "max_requests stops the run after " + counted(p.MaxRequests, "request", "requests") + goesOn
	case p.MaxBytes > 0 && c.Bytes > p.MaxBytes:
		return "max_bytes stops the run before " + megabytes(p.MaxBytes) + " of about " + megabytes(c.Bytes) + goesOn
	default:
		return ""
	}
}
