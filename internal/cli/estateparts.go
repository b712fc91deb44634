package cli

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/plan"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
)

// counts reports whether the plan is to tell what the next run of a pipeline
// would read.
func (o planOptions) counts(p *config.Pipeline) bool {
	return !o.noData && !o.destroy && (len(o.targets) == 0 || slices.ContainsFunc(o.targets, func(t string) bool {
		return plan.Covers(t, plan.PipelineAddress(p.Name))
	}))
}

// sees reports whether the plan is to look at a destination of a pipeline: one
// without a target may be down.
func (o planOptions) sees(p *config.Pipeline, d *config.Destination) bool {
	return len(o.targets) == 0 || o.everywhere || slices.ContainsFunc(o.targets, func(t string) bool {
		at := plan.DestinationAddress(d.Name)
		return plan.Covers(t, plan.PipelineAddress(p.Name)) || plan.Covers(t, at) || plan.Covers(at, t)
	})
}

// unknownTarget reports whether a target names nothing that the file or state
// has, as far as can be told without looking.
func (e *estate) unknownTarget(targets []string) bool {
	return slices.ContainsFunc(targets, func(t string) bool {
		for _, p := range e.chosen {
			if plan.Covers(t, plan.PipelineAddress(p.Name)) {
				return false
			}
			for _, d := range p.Destinations {
				if at := plan.DestinationAddress(d.Name); plan.Covers(t, at) || plan.Covers(at, t) {
					return false
				}
			}
		}
		for address := range e.record.Items {
			if plan.Covers(t, address) {
				return false
			}
		}
		return true
	})
}

// unseenError says of a destination that could not be looked at how to plan
// without it. Other errors are returned as they are.
func (a *app) unseenError(err error) error {
	var unseen *run.SurveyError
	if !errors.As(err, &unseen) {
		return err
	}
	own := append(hints(err), "nothing was changed. To plan without it, name others with --target; `sluice"+a.fileFlag()+" plan --refresh=false` looks at none of them, and trusts what was last applied")
	return &userError{err: err, hint: strings.Join(own, "\n")}
}

// renamedError says of a table that another state wrote, where that was a pipeline
// which the file no longer has, how this one takes over from it. Other errors are
// returned as they are.
func renamedError(cfg *config.Config, p *config.Pipeline, record *state.Resources, err error) error {
	if !errors.Is(err, load.ErrForeign) {
		return err
	}
	for _, d := range p.Destinations {
		old := record.Items[plan.TableAddress(d.Name, p.Table)].Pipeline
		if old == "" || cfg.Pipeline(old) != nil {
			continue
		}
		own := fmt.Sprintf("pipeline %s is gone from the file and wrote this table: `sluice state mv %s %s` if it was renamed",
			state.Typed(old), shellQuote(plan.PipelineAddress(old)), shellQuote(plan.PipelineAddress(p.Name)))
		return &userError{err: err, hint: strings.Join(append([]string{own}, hints(err)...), "\n")}
	}
	return err
}

// noteLost notes, where the table of a pipeline is gone from a destination to
// which packages were committed, what making it anew means. It returns what the
// next run says to a table that lacks packages, empty where none does.
func noteLost(p *config.Pipeline, d run.DestinationSurvey) string {
	if d.Lost == nil {
		return ""
	}
	for i, r := range d.Resources {
		if r.Kind == load.KindTable && r.Name == p.Table && r.Have == nil && len(r.Effects) == 0 {
			d.Resources[i].Effects = []string{
				"It has been there: is its disk mounted, is its place right? It is made without rows, and begins anew with the next `sluice run --full`.",
			}
		}
	}
	return "destination." + d.Name + " takes nothing: " + d.Lost.Error() + "; `sluice run " + p.Name + " --full` fills it again"
}

// remains are the resources of a pipeline's table whose destruction was stopped:
// nobody knows more of them than that the rest has to go.
func remains(p *config.Pipeline) []load.Resource {
	none := []load.Attribute{}
	out := []load.Resource{{Kind: load.KindTable, Name: p.Table, Want: none, Have: none}}
	if p.StagesTable != "" {
		out = append(out, load.Resource{Kind: load.KindTable, Name: p.StagesTable, Want: none, Have: none})
	}
	return out
}

// forgottenText says what becomes of a table that nothing names any more.
func (e *estate) forgottenText(address string, item state.Resource) string {
	for _, r := range e.found {
		if d := e.cfg.Destination(r.Destination); d != nil && r.Kind == item.Kind && r.Applied == nil && r.Want != nil &&
			slices.ContainsFunc(r.Want, func(s plan.Setting) bool { return s.Name == "place" && s.Value == item.Place }) &&
			strings.TrimPrefix(r.Address, plan.DestinationAddress(r.Destination)) == strings.TrimPrefix(address, plan.DestinationAddress(item.Destination)) {
			return fmt.Sprintf("It stays, and is %s now, which everything is read for. If destination %s was only renamed, `sluice state mv %s %s` before this keeps all as it is.",
				r.Address, item.Destination, plan.DestinationAddress(item.Destination), plan.DestinationAddress(r.Destination))
		}
	}
	return "It stays at " + item.Place + ", with its views, and nothing is written there any more. What waits for it is dropped."
}

// named is a resource as it will be called. In a database the first table has
// the short names of views; where its views are not there yet, the loader of
// another one cannot know that they will be.
func (e *estate) named(p *config.Pipeline, d *config.Destination, r load.Resource) load.Resource {
	if isParquet(d) || r.Kind != load.KindView || r.Have != nil || load.IsUnion(r) || strings.HasPrefix(r.Name, p.Table) {
		return r
	}
	users := e.users[plan.ViewAddress(d.Name, r.Name)]
	if len(users) == 0 || slices.Contains(users, p.Name) {
		return r
	}
	r.Name = p.Table + "_" + r.Name
	r.Want = []load.Attribute{} // its text is known once it is made
	return r
}

// belongs tells the pipeline that a resource belongs to, none where several of
// the file share it, and the tables that it is removed with.
func (e *estate) belongs(p *config.Pipeline, d *config.Destination, r load.Resource) (own string, with []string) {
	switch {
	case r.Kind == load.KindDataset:
		for _, o := range e.cfg.Pipelines {
			if slices.Contains(o.Destinations, d) {
				with = append(with, plan.TableAddress(d.Name, o.Table))
			}
		}
		return "", with
	case r.Kind == load.KindTable && r.Name == p.Table:
		return p.Name, nil
	case r.Kind != load.KindTable:
		return p.Name, []string{plan.TableAddress(d.Name, p.Table)}
	}
	own = p.Name
	for _, o := range e.cfg.Pipelines {
		if o.StagesTable != r.Name || !slices.Contains(o.Destinations, d) {
			continue
		}
		with = append(with, plan.TableAddress(d.Name, o.Table))
		if o.Name != p.Name {
			own = ""
		}
	}
	return own, with
}

// addressName is how an address calls a resource. The views over Parquet files
// stand in a file of each table, where names of several tables may be the same.
func addressName(p *config.Pipeline, d *config.Destination, r load.Resource) string {
	if isParquet(d) && r.Kind == load.KindView && !load.IsUnion(r) && !strings.HasPrefix(r.Name, p.Table) {
		return p.Table + "_" + r.Name
	}
	return r.Name
}

// doneBy reports whether a change at a destination is made together with what
// belongs to a pipeline. What several share is made with the first that asks for
// it, and removed with the last.
func (e *estate) doneBy(c plan.Change, p *config.Pipeline) bool {
	users := e.users[c.Address]
	switch {
	case c.Pipeline != "":
		return c.Pipeline == p.Name
	case len(users) == 0:
		return true
	case e.destroy:
		return users[len(users)-1] == p.Name
	default:
		return users[0] == p.Name
	}
}
