package plan

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/state"
)

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

// covers reports whether a target names an address: it is the address, or what
// stands before a dot or a bracket of it.
func covers(target, address string) bool {
	rest, ok := strings.CutPrefix(address, target)
	return ok && (rest == "" || rest[0] == '.' || rest[0] == '[')
}

// targeted returns the resources that the targets name, those that belong to a
// pipeline with the pipeline, and the datasets that they stand in.
func targeted(in Input) ([]Resource, error) {
	if len(in.Targets) == 0 {
		return slices.Clone(in.Resources), nil
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
	for _, r := range in.Resources {
		stands := func(o Resource) bool { return o.Destination == r.Destination && o.Kind != KindDataset }
		if r.Kind == KindDataset && !in.Destroy && !slices.ContainsFunc(out, func(o Resource) bool { return o.Address == r.Address }) &&
			slices.ContainsFunc(out, stands) {
			out = append(out, r)
		}
	}
	return out, nil
}

// names reports whether a target names a resource.
func names(target string, r Resource) bool {
	return covers(target, r.Address) || r.Pipeline != "" && covers(target, PipelineAddress(r.Pipeline))
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
