package state

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/google/uuid"
)

// ResourcesFormat is the version of the document of resources that this build
// writes. It grows when an older build could misread a newer document.
const ResourcesFormat = 1

const resourcesDoc = "resources.json"

// The kinds of resources.
const (
	KindDataset  = "dataset"
	KindTable    = "table"
	KindView     = "view"
	KindPipeline = "pipeline"
)

// Resources is the document that says what was made at the destinations, and
// how it was last set up. It is what a plan compares with, never the proof that
// something stands there.
type Resources struct {
	// FormatVersion is set when the document is saved; one with a greater one is
	// refused.
	FormatVersion int `json:"format_version"`
	// Lineage is a UUID made when the document is first saved and never changed.
	Lineage string `json:"lineage"`
	// Serial grows by one with each save that changed something; 0 means never
	// saved. A saved plan is bound to it.
	Serial int64 `json:"serial"`
	// SluiceVersion is the build that saved the document.
	SluiceVersion string `json:"sluice_version,omitempty"`
	// Saves are as those of a Pipeline.
	Saves []string `json:"saves,omitempty"`
	// Moving names the destinations that are being given another name, from and
	// to: stopped on the way, the same command does the rest.
	Moving map[string]string `json:"moving,omitempty"`
	// Items are the resources by address, such as destination.lake.table.contacts
	// or pipeline.nightly.
	Items map[string]Resource `json:"items"`
}

// Resource is one thing that was made, as it was last set up.
type Resource struct {
	Kind string `json:"kind"`
	// Pipeline is the one that it was made for; empty where several share it.
	Pipeline string `json:"pipeline,omitempty"`
	// Destination is where it stands, and Type the kind of that destination;
	// empty for a pipeline.
	Destination string `json:"destination,omitempty"`
	Type        string `json:"type,omitempty"`
	// Place is the path or URL of it, for people.
	Place string `json:"place,omitempty"`
	// Attributes are those last applied.
	Attributes map[string]string `json:"attributes,omitempty"`
	AppliedAt  time.Time         `json:"applied_at"`
}

// NewResources returns the document where nothing was made yet.
func NewResources() *Resources {
	return &Resources{FormatVersion: ResourcesFormat, Items: map[string]Resource{}}
}

func (r *Resources) stored() string      { return resourcesDoc }
func (r *Resources) title() string       { return titled("") }
func (r *Resources) label() string       { return "resources" }
func (r *Resources) fresh() *Resources   { return NewResources() }
func (r *Resources) become(q *Resources) { *r = *q }

func (r *Resources) copied() *Resources {
	q := *r
	return &q
}

func (r *Resources) meta() meta {
	return meta{format: &r.FormatVersion, newest: ResourcesFormat, lineage: &r.Lineage, serial: &r.Serial, writer: &r.SluiceVersion, saves: &r.Saves}
}

// addressPart is what stands between the dots of an address, brackets apart.
var addressPart = regexp.MustCompile(`^[^.\[\]\s]+(\[[^\[\]]*\])?$`)

// ValidAddress reports whether an address is one of a kind of resource.
func ValidAddress(address, kind string) bool {
	parts := splitAddress(address)
	for _, p := range parts {
		if !addressPart.MatchString(p) {
			return false
		}
	}
	switch kind {
	case KindPipeline:
		return len(parts) == 2 && parts[0] == KindPipeline
	case KindDataset:
		return len(parts) == 3 && parts[0] == "destination" && parts[2] == kind
	case KindTable, KindView:
		return len(parts) == 4 && parts[0] == "destination" && parts[2] == kind
	}
	return false
}

// splitAddress cuts an address at its dots, those within brackets apart.
func splitAddress(address string) []string {
	var parts []string
	depth, from := 0, 0
	for i, c := range address {
		switch c {
		case '[':
			depth++
		case ']':
			depth--
		case '.':
			if depth <= 0 {
				parts = append(parts, address[from:i])
				from = i + 1
			}
		}
	}
	return append(parts, address[from:])
}

// PipelineAddress is the address of a pipeline.
func PipelineAddress(pipeline string) string { return KindPipeline + "." + pipeline }

// ResourceAddress is the address of what stands at a destination. name is empty
// for a dataset.
func ResourceAddress(destination, kind, name string) string {
	address := "destination." + destination + "." + kind
	if name != "" {
		address += "." + name
	}
	return address
}

func (r *Resources) fault() string {
	if r.Serial < 1 {
		return fmt.Sprintf("serial is %d, the first is 1", r.Serial)
	}
	if err := uuid.Validate(r.Lineage); err != nil || len(r.Lineage) != 36 {
		return fmt.Sprintf("lineage %q is not a UUID", r.Lineage)
	}
	if r.Items == nil {
		return "it has no items"
	}
	for _, address := range sortedKeys(r.Items) {
		item := r.Items[address]
		if !ValidAddress(address, item.Kind) {
			return fmt.Sprintf("%q is no address of kind %q", address, item.Kind)
		}
		if item.Kind != KindPipeline && !strings.HasPrefix(address, "destination."+item.Destination+".") {
			return fmt.Sprintf("%q stands at destination %q", address, item.Destination)
		}
	}
	return ""
}

// ResourcesPath returns the file, or the gs:// URL, of the document of
// resources.
func (s *Store) ResourcesPath() string { return s.where(resourcesDoc) }

// LoadResources returns the document of resources, NewResources where there is
// none.
func (s *Store) LoadResources(ctx context.Context) (*Resources, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	r, _, err := read(ctx, s, NewResources())
	return r, err
}

// UpdateResources lets change alter the document of resources and saves it, as
// Update does for a pipeline's, with the same duties of change. A change that
// leaves it as it is saves nothing. What cannot be written where it belongs is
// written to the rescue directory, and the *EmergencyError gives the command
// that recovers it: what the document says has been done already. Pass a context
// that a cancelled command has not cancelled.
func (s *Store) UpdateResources(ctx context.Context, change func(*Resources) error) (*Resources, error) {
	r, err := update(ctx, s, NewResources(), ifChanged(change))
	return rescue(s, r, err)
}

// ifChanged is change that fails with errSame where it changes nothing.
func ifChanged(change func(*Resources) error) func(*Resources) error {
	return func(r *Resources) error {
		before, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode state of resources: %w", err)
		}
		if err := change(r); err != nil {
			return err
		}
		after, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode state of resources: %w", err)
		}
		if bytes.Equal(before, after) {
			return errSame
		}
		return nil
	}
}
