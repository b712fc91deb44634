package cli

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/diag"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
)

const stateLong = `State remembers how far each pipeline has come, what waits for a destination, and
what was made there. These commands look at it and mend it by hand; none of them
touches what stands at a destination.

Addresses name what it has: pipeline.NAME, pipeline.NAME.destination.D,
destination.D.table.NAME, destination.D.view.NAME, destination.D.dataset. Quote
those with brackets: 'pipeline.nightly["acme"]'.

Every change keeps a copy of what stood there, the last ten of each document, and
says where.`

func (a *app) stateCommand() *cobra.Command {
	c := command(&cobra.Command{
		Use:   "state COMMAND",
		Short: "Shows and mends what Sluice remembers",
		Long:  stateLong,
		Args:  noArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	})
	c.AddCommand(a.stateListCommand(), a.stateShowCommand(), a.statePullCommand(), a.statePushCommand(), a.stateRmCommand(), a.stateMvCommand())
	return c
}

// remembered is all of a state, read at once.
type remembered struct {
	store     *state.Store
	engine    *run.Engine
	resources *state.Resources
	pipelines []string // that have a document
}

func (a *app) remembered(ctx context.Context) (*remembered, error) {
	cfg, err := a.load(config.Offline())
	if err != nil {
		return nil, err
	}
	r := &remembered{}
	if r.store, err = a.store(cfg); err != nil {
		return nil, err
	}
	r.engine = &run.Engine{Store: r.store, Clock: a.Clock, Log: a.log}
	if r.resources, err = r.store.LoadResources(ctx); err != nil {
		return nil, err
	}
	r.pipelines, err = r.store.Pipelines(ctx)
	return r, err
}

// addresses are those of all resources and pipelines, sorted.
func (r *remembered) addresses() []string {
	var all []string
	for address := range r.resources.Items {
		all = append(all, address)
	}
	for _, p := range r.pipelines {
		all = append(all, state.PipelineAddress(p))
	}
	slices.Sort(all)
	return slices.Compact(all)
}

// pipelineOf takes an address of a pipeline, or of one of its destinations,
// apart. ok says that it is one that state has.
func (r *remembered) pipelineOf(address string) (pipeline, destination string, ok bool) {
	rest, is := strings.CutPrefix(address, "pipeline.")
	if !is {
		return "", "", false
	}
	if slices.Contains(r.pipelines, rest) {
		return rest, "", true
	}
	i := strings.LastIndex(rest, ".destination.")
	if i < 0 || !slices.Contains(r.pipelines, rest[:i]) {
		return "", "", false
	}
	return rest[:i], rest[i+len(".destination."):], true
}

// unknownAddress says that state has nothing of an address.
func (a *app) unknownAddress(r *remembered, address string) error {
	hint := "`sluice" + a.fileFlag() + " state list` lists what there is"
	if near := diag.Suggest(address, r.addresses()); near != "" {
		hint = fmt.Sprintf("did you mean %s? %s", near, hint)
	}
	return &userError{message: "state has nothing at the address " + address, hint: hint}
}

func (a *app) printState(text string) error {
	if _, err := io.WriteString(a.Streams.Out, text); err != nil {
		return fmt.Errorf("print state: %w", err)
	}
	return nil
}

// completeAddresses offers what state has.
func (a *app) completeAddresses(c *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
	r, err := a.remembered(c.Context())
	if err != nil {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	return r.addresses(), cobra.ShellCompDirectiveNoFileComp
}

func (a *app) stateListCommand() *cobra.Command {
	asJSON := false
	c := command(&cobra.Command{
		Use:     "list [ADDRESS-PREFIX] [flags]",
		Short:   "Lists the addresses of pipelines and of what was made",
		Long:    "Lists the addresses that state has, one a line, sorted: pipelines, and the datasets,\ntables and views that were made at destinations. With a prefix, such as\ndestination.lake, those at it or below it.",
		Example: "  sluice state list\n  sluice state list destination.lake\n  sluice state list --json | jq -r 'select(.kind == \"table\") | .place'",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return &usageError{command: c.CommandPath(), err: fmt.Errorf("sluice state list takes one prefix, got %d", len(args))}
			}
			return nil
		},
		RunE:              func(c *cobra.Command, args []string) error { return a.stateList(c.Context(), args, asJSON) },
		ValidArgsFunction: a.completeAddresses,
	})
	c.Flags().BoolVar(&asJSON, "json", false, "print one JSON object a line")
	return c
}

// listedAddress is what list --json prints.
type listedAddress struct {
	Address     string `json:"address"`
	Kind        string `json:"kind"`
	Pipeline    string `json:"pipeline,omitempty"`
	Destination string `json:"destination,omitempty"`
	Place       string `json:"place,omitempty"`
}

func (a *app) stateList(ctx context.Context, args []string, asJSON bool) error {
	r, err := a.remembered(ctx)
	if err != nil {
		return err
	}
	all := r.addresses()
	if len(args) == 1 {
		prefix := strings.TrimSuffix(args[0], ".")
		all = slices.DeleteFunc(all, func(address string) bool {
			rest, ok := strings.CutPrefix(address, prefix)
			return !ok || rest != "" && rest[0] != '.' && rest[0] != '['
		})
		if len(all) == 0 {
			return a.unknownAddress(r, args[0])
		}
	}
	var b strings.Builder
	for _, address := range all {
		if !asJSON {
			b.WriteString(visible(address) + "\n")
			continue
		}
		item := r.resources.Items[address]
		pipeline, _, _ := r.pipelineOf(address)
		line, err := json.Marshal(listedAddress{Address: address, Kind: cmp.Or(item.Kind, state.KindPipeline), Pipeline: cmp.Or(item.Pipeline, pipeline), Destination: item.Destination, Place: item.Place})
		if err != nil {
			return fmt.Errorf("print state: %w", err)
		}
		b.Write(append(line, '\n'))
	}
	return a.printState(b.String())
}

type statePullOptions struct {
	pipeline  string
	resources bool
}

func (a *app) statePullCommand() *cobra.Command {
	var o statePullOptions
	c := command(&cobra.Command{
		Use:     "pull [flags]",
		Short:   "Prints the documents of state",
		Long:    "Prints state as it is stored: all of it as one JSON object, or one document alone.\nMessages of failed runs in it may name contacts.",
		Example: "  sluice state pull > state.json\n  sluice state pull --pipeline nightly | jq .cursor",
		Args:    noArgs,
		RunE:    func(c *cobra.Command, _ []string) error { return a.statePull(c.Context(), o) },
	})
	f := c.Flags()
	f.SortFlags = false
	f.StringVar(&o.pipeline, "pipeline", "", "only the document of this pipeline")
	f.BoolVar(&o.resources, "resources", false, "only the document of resources")
	return c
}

func (a *app) statePull(ctx context.Context, o statePullOptions) error {
	if o.pipeline != "" && o.resources {
		return &usageError{command: "sluice state pull", err: errors.New("--pipeline and --resources ask for one document each: give one of them, or none for all")}
	}
	cfg, err := a.load(config.Offline())
	if err != nil {
		return err
	}
	store, err := a.store(cfg)
	if err != nil {
		return err
	}
	switch {
	case o.pipeline != "":
		data, err := store.Stored(ctx, o.pipeline)
		if errors.Is(err, fs.ErrNotExist) {
			names, err := store.Pipelines(ctx)
			if err != nil {
				return err
			}
			return &userError{message: fmt.Sprintf("pipeline %q has no state", o.pipeline), hint: diag.Hint(o.pipeline, names)}
		}
		if err != nil {
			return err
		}
		return a.printState(string(data))
	case o.resources:
		data, err := store.StoredResources(ctx)
		if errors.Is(err, fs.ErrNotExist) {
			return &userError{message: "nothing is remembered of resources yet", hint: "`sluice" + a.fileFlag() + " apply` makes them and remembers what it made"}
		}
		if err != nil {
			return err
		}
		return a.printState(string(data))
	}
	return a.statePullAll(ctx, store)
}

func (a *app) statePullAll(ctx context.Context, store *state.Store) error {
	all := state.Bundle{FormatVersion: state.BundleFormat, Resources: json.RawMessage("null"), Pipelines: map[string]json.RawMessage{}}
	data, err := store.StoredResources(ctx)
	switch {
	case err == nil:
		all.Resources = data
	case !errors.Is(err, fs.ErrNotExist):
		return err
	}
	names, err := store.Pipelines(ctx)
	if err != nil {
		return err
	}
	for _, name := range names {
		if all.Pipelines[name], err = store.Stored(ctx, name); err != nil {
			return err
		}
	}
	out, err := json.MarshalIndent(all, "", "  ")
	if err != nil {
		return &userError{err: fmt.Errorf("print state: a document is no JSON: %w", err), hint: "`sluice" + a.fileFlag() + " state pull --pipeline NAME` prints one as it stands"}
	}
	return a.printState(string(out) + "\n")
}
