package cli

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/plan"
)

// planFormat is the version of the plan that --json prints and --out writes. It
// grows when an older reader could misread a newer plan.
const planFormat = 1

// planFilePerm keeps a plan, which names filters and places, to its owner.
const planFilePerm = 0o600

// maxPlanFile bounds what is read as a plan, in bytes.
const maxPlanFile = 64 << 20

// planDocument is a plan as --json prints it and --out saves it; docs/plan.md
// describes it.
type planDocument struct {
	FormatVersion int       `json:"format_version"`
	Type          string    `json:"type"` // plan
	SluiceVersion string    `json:"sluice_version"`
	CreatedAt     time.Time `json:"created_at"`
	// What it was asked for.
	Pipelines []string `json:"pipelines,omitempty"`
	Targets   []string `json:"targets,omitempty"`
	Destroy   bool     `json:"destroy,omitempty"`
	Refreshed bool     `json:"refreshed"`
	// NoData says that what the next runs would read was not asked; applying the
	// plan runs none.
	NoData bool `json:"no_data,omitempty"`

	Changes []plan.Change  `json:"changes"`
	Drift   []plan.Drift   `json:"drift"`
	Syncs   []plan.Sync    `json:"syncs"`
	Summary map[string]int `json:"summary"` // changes by action
	Bound   planBinding    `json:"bound_to"`
}

// planBinding is what a saved plan was made from: where one of these is another
// when it is applied, it is refused. Cursors are not among them.
type planBinding struct {
	Configuration string `json:"configuration"`
	// Lineage and Serial are those of state's resources.
	Lineage string `json:"lineage"`
	Serial  int64  `json:"serial"`
	// Destinations are digests of what stands there, by name.
	Destinations map[string]string `json:"destinations"`
}

// binding is what a plan is bound to.
func (e *estate) binding() planBinding {
	b := planBinding{Configuration: e.cfg.Hash(), Lineage: e.record.Lineage, Serial: e.record.Serial, Destinations: map[string]string{}}
	for _, p := range e.chosen {
		for _, d := range p.Destinations {
			b.Destinations[d.Name] = e.fingerprint(d.Name)
		}
	}
	return b
}

// fingerprint is a digest of what stands at a destination, but for how much it
// holds: a nightly run changes that.
func (e *estate) fingerprint(destination string) string {
	var lines []string
	for _, r := range e.found {
		if r.Destination != destination || r.Kind == plan.KindPipeline {
			continue
		}
		if r.Have == nil {
			lines = append(lines, r.Address+"\x00")
		}
		for _, s := range r.Have {
			lines = append(lines, r.Address+"\x00"+s.Name+"\x00"+s.Value)
		}
	}
	slices.Sort(lines)
	sum := sha256.Sum256([]byte(strings.Join(lines, "\n")))
	return hex.EncodeToString(sum[:8])
}

// document is a plan as it is printed and saved.
func (a *app) document(e *estate, o planOptions) planDocument {
	d := planDocument{
		FormatVersion: planFormat, Type: "plan", SluiceVersion: version(), CreatedAt: a.Clock.Now().UTC(),
		Pipelines: o.pipelines, Targets: o.targets, Destroy: o.destroy, Refreshed: !o.unseen, NoData: o.noData,
		Changes: e.plan.Changes, Drift: e.plan.Drift, Syncs: e.plan.Syncs, Summary: map[string]int{}, Bound: e.binding(),
	}
	for _, action := range []plan.Action{plan.Create, plan.Update, plan.Replace, plan.Forget, plan.Destroy, plan.Blocked} {
		d.Summary[string(action)] = e.plan.Count(action)
	}
	if d.Changes == nil {
		d.Changes = []plan.Change{}
	}
	if d.Drift == nil {
		d.Drift = []plan.Drift{}
	}
	if d.Syncs == nil {
		d.Syncs = []plan.Sync{}
	}
	return d
}

// encode is the document as JSON.
func (d planDocument) encode() ([]byte, error) {
	data, err := json.MarshalIndent(d, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("encode plan: %w", err)
	}
	return append(data, '\n'), nil
}

// savePlan writes a plan to a file.
func savePlan(path string, d planDocument) error {
	data, err := d.encode()
	if err != nil {
		return err
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return fmt.Errorf("save plan: %w", err)
	}
	if err := atomicfile.WriteFile(abs, data, planFilePerm); err != nil {
		return &userError{message: "save plan to " + path, err: err, hint: "nothing was changed; choose a place that can be written to"}
	}
	return nil
}

// readPlan reads a plan that was saved.
func readPlan(path string) (d planDocument, err error) {
	f, err := os.Open(path) //nolint:gosec // the user names it
	if err != nil {
		return d, &userError{message: "read plan", err: err, hint: "`sluice plan --out FILE` saves one"}
	}
	data, err := io.ReadAll(io.LimitReader(f, maxPlanFile+1))
	if err = errors.Join(err, f.Close()); err != nil {
		return d, fmt.Errorf("read plan %s: %w", path, err)
	}
	bad := func(why string) error {
		return &userError{message: path + " is no plan of this version: " + why, hint: "make it anew: `sluice plan --out " + path + "`"}
	}
	if len(data) > maxPlanFile {
		return d, bad(fmt.Sprintf("it has more than %d bytes", maxPlanFile))
	}
	var head struct {
		FormatVersion int    `json:"format_version"`
		Type          string `json:"type"`
		SluiceVersion string `json:"sluice_version"`
	}
	if err := json.Unmarshal(data, &head); err != nil {
		return d, bad("it is not JSON: " + err.Error())
	}
	switch {
	case head.Type != "plan" || head.FormatVersion < 1:
		return d, bad("its type is not plan")
	case head.FormatVersion > planFormat:
		return d, bad(fmt.Sprintf("its format is %d, written by sluice %s; this build reads %d", head.FormatVersion, head.SluiceVersion, planFormat))
	}
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&d); err != nil {
		return d, bad(err.Error())
	}
	return d, nil
}

// refusal says what has changed since a plan was made; nil for nothing.
func (d planDocument) refusal(path string, e *estate, now planDocument) error {
	was, is := d.Bound, now.Bound
	var reasons []string
	if was.Configuration != is.Configuration {
		reasons = append(reasons, e.cfg.File+", a contract file or a variable that it takes a value from has changed")
	}
	if was.Lineage != is.Lineage || was.Serial != is.Serial {
		reasons = append(reasons, fmt.Sprintf("state's resources have changed: serial %d then, %d now", was.Serial, is.Serial))
	}
	for _, name := range slices.Sorted(maps.Keys(is.Destinations)) {
		if was.Destinations[name] != is.Destinations[name] {
			reasons = append(reasons, "what stands at destination "+name+" has changed")
		}
	}
	if len(reasons) == 0 && !reflect.DeepEqual(judged(d.Changes), judged(now.Changes)) {
		reasons = append(reasons, "the changes would be others")
	}
	if len(reasons) == 0 {
		return nil
	}
	return &stalePlanError{path: path, reasons: reasons}
}

// judged are changes without what is only information.
func judged(list []plan.Change) []plan.Change {
	var out []plan.Change
	for _, c := range list {
		c.Holds, c.Effects = "", nil
		out = append(out, c)
	}
	return out
}

// stalePlanError is a saved plan that no longer fits.
type stalePlanError struct {
	path    string
	reasons []string
}

func (e *stalePlanError) Error() string {
	return e.path + " is stale: " + strings.Join(e.reasons, "; ")
}

// Hint says what to do.
func (e *stalePlanError) Hint() string {
	return "nothing was changed. Look at it again: `sluice plan --out " + e.path + "`"
}
