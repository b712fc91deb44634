package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/state"
)

// DestinationAddress is what the addresses at a destination begin with.
func DestinationAddress(destination string) string { return "destination." + destination }

// TableAddress names a table of a destination.
func TableAddress(destination, table string) string {
	return state.ResourceAddress(destination, KindTable, table)
}

// ViewAddress names a view of a destination.
func ViewAddress(destination, view string) string {
	return state.ResourceAddress(destination, KindView, view)
}

// PipelineAddress names a pipeline.
func PipelineAddress(name string) string { return state.PipelineAddress(name) }

// Covers reports whether a target names an address: it is the address, or what
// stands before a dot or a bracket of it.
func Covers(target, address string) bool {
	rest, ok := strings.CutPrefix(address, target)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// targeted returns the resources that the targets name, those that belong to a
// pipeline with the pipeline, and the datasets that they stand in. Of a removal
// they are the tables with all that goes with them.
func targeted(in Input) ([]Resource, error) {
	if len(in.Targets) == 0 {
		return going(in, slices.Clone(in.Resources))
	}
	for _, t := range in.Targets {
		if !slices.ContainsFunc(in.Resources, func(r Resource) bool { return names(t, r) }) {
			e := &TargetError{Target: t}
			for _, r := range in.Resources {
				if r.Kind != KindView { // of which there are many
					e.Known = append(e.Known, r.Address)
				}
			}
			slices.Sort(e.Known)
			return nil, e
		}
	}
	var out []Resource
	for _, r := range in.Resources {
		if slices.ContainsFunc(in.Targets, func(t string) bool { return names(t, r) }) {
			out = append(out, r)
		}
	}
	if in.Destroy {
		return going(in, out)
	}
	for _, r := range in.Resources {
		stands := func(o Resource) bool { return o.Destination == r.Destination && o.Kind != KindDataset }
		if r.Kind == KindDataset && !slices.ContainsFunc(out, func(o Resource) bool { return o.Address == r.Address }) &&
			slices.ContainsFunc(out, stands) {
			out = append(out, r)
		}
	}
	return out, nil
}

// going returns what is removed with the tables among chosen. What else was
// chosen and goes with a table stays where that table was not: if it was named
// by itself it is an error.
func going(in Input, chosen []Resource) ([]Resource, error) {
	if !in.Destroy {
		return chosen, nil
	}
	has := func(address string) bool {
		return slices.ContainsFunc(chosen, func(r Resource) bool { return r.Address == address })
	}
	var out []Resource
	for _, r := range in.Resources {
		missing := slices.DeleteFunc(slices.Clone(r.With), has)
		switch {
		case len(missing) == 0 && (has(r.Address) || len(r.With) > 0):
			out = append(out, r)
		case slices.Contains(in.Targets, r.Address):
			return nil, &PartError{Address: r.Address, With: missing}
		}
	}
	return out, nil
}

// PartError is a resource that was to be removed without the tables that it
// belongs to.
type PartError struct {
	Address string
	With    []string // of these tables, those that stay
}

func (e *PartError) Error() string {
	return fmt.Sprintf("destroy: %s cannot be removed without %s", e.Address, strings.Join(e.With, ", "))
}

// Hint says what to do.
func (e *PartError) Hint() string {
	return "nothing was removed. Views go with their table, the stages with the last table that uses them: give --target " + strings.Join(e.With, " --target ")
}

// names reports whether a target names a resource.
func names(target string, r Resource) bool {
	return Covers(target, r.Address) || r.Pipeline != "" && Covers(target, PipelineAddress(r.Pipeline))
}

// TargetError is a target that names no resource.
type TargetError struct {
	Target string
	Known  []string // addresses, sorted, without those of views
}

func (e *TargetError) Error() string {
	return fmt.Sprintf("target %q names nothing of the configuration or of state", e.Target)
}

// Hint says what there is.
func (e *TargetError) Hint() string {
	known := e.Known
	more := ""
	if len(known) > 12 {
		more = fmt.Sprintf(" and %d more", len(known)-12)
		known = known[:12]
	}
	return "there is " + strings.Join(known, ", ") + more
}
