package state

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/schemas"
)

// BundleFormat is the version of Bundle that this build writes.
const BundleFormat = 1

// Bundle is all of a state in one, for copies of it.
type Bundle struct {
	FormatVersion int                        `json:"format_version"`
	Resources     json.RawMessage            `json:"resources"` // null for none
	Pipelines     map[string]json.RawMessage `json:"pipelines"`
}

// ErrRefused means that a document may not take the place of the stored one.
var ErrRefused = errors.New("document refused")

// RefusedError is a document that is not put in the place of the stored one.
type RefusedError struct {
	Pipeline string // empty for the resources
	Reason   string
	Lost     []string // what the stored document has and this one has not
	Next     string   // what to do
}

func (e *RefusedError) Error() string {
	text := fmt.Sprintf("push state of %s: %s", titled(e.Pipeline), e.Reason)
	if len(e.Lost) > 0 {
		text += "; lost would be:\n- " + strings.Join(e.Lost, "\n- ")
	}
	return text
}

// Is makes errors.Is(err, ErrRefused) hold.
func (e *RefusedError) Is(target error) bool { return target == ErrRefused }

// Hint says what to do.
func (e *RefusedError) Hint() string { return e.Next }

const forceHint = "nothing was changed; with --force it takes the place of what is stored, of which a copy is kept"

// Pushed says what became of one document.
type Pushed struct {
	Pipeline string `json:"pipeline"` // empty for the resources
	Path     string `json:"path"`
	Serial   int64  `json:"serial"`
	Same     bool   `json:"same"`             // it was there already
	Backup   string `json:"backup,omitempty"` // of what stood there
	// Lost is what the document that stood there had and this one has not.
	Lost []string `json:"lost,omitempty"`
	// Raised is the number of the next package where that was kept from going
	// back, 0 where it was not.
	Raised int64 `json:"next_package_raised_to,omitempty"`
}

// Parsed is what was read of a file: documents, each whole by itself.
type Parsed struct {
	Resources *Resources
	Pipelines map[string]*Pipeline
}

// Parse reads a document of a pipeline or of resources, or a Bundle. name is
// what errors call it.
func Parse(name string, data []byte) (*Parsed, error) {
	var top struct {
		FormatVersion *int                       `json:"format_version"`
		Pipeline      *string                    `json:"pipeline"`
		Items         json.RawMessage            `json:"items"`
		Resources     json.RawMessage            `json:"resources"`
		Pipelines     map[string]json.RawMessage `json:"pipelines"`
	}
	if err := json.Unmarshal(data, &top); err != nil {
		return nil, &CorruptError{Path: name, Reason: reason(data, err)}
	}
	out := &Parsed{Pipelines: map[string]*Pipeline{}}
	var err error
	switch {
	case top.Pipeline != nil:
		out.Pipelines[*top.Pipeline], err = decode(name, *top.Pipeline, data)
	case top.Items != nil:
		out.Resources, err = decodeInto(name, NewResources(), data)
	case top.Pipelines == nil && top.Resources == nil:
		return nil, &CorruptError{Path: name, Reason: "it is neither the state of a pipeline nor of resources, nor what `sluice state pull` prints"}
	case top.FormatVersion == nil:
		return nil, &CorruptError{Path: name, Reason: "it has no format_version, so it is no state of Sluice's"}
	case *top.FormatVersion > BundleFormat:
		return nil, &FutureError{Path: name, Version: *top.FormatVersion, Supported: BundleFormat}
	default:
		err = out.unbundle(name, data)
	}
	if err != nil {
		return nil, err
	}
	return out, nil
}

func (p *Parsed) unbundle(name string, data []byte) error {
	var b Bundle
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	if err := dec.Decode(&b); err != nil {
		return &CorruptError{Path: name, Reason: reason(data, err)}
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return &CorruptError{Path: name, Reason: "something follows the document"}
	}
	var err error
	if len(b.Resources) > 0 && string(b.Resources) != "null" {
		if p.Resources, err = decodeInto(name+" (resources)", NewResources(), b.Resources); err != nil {
			return err
		}
	}
	for _, pipeline := range sortedKeys(b.Pipelines) {
		if p.Pipelines[pipeline], err = decode(name+" ("+titled(pipeline)+")", pipeline, b.Pipelines[pipeline]); err != nil {
			return err
		}
	}
	return nil
}

// errAsItIs ends a push of what is there already.
var errAsItIs = errors.New("it is there already")

// Push puts p in the place of what is stored of its pipeline, of which a copy
// is kept. A document of another lineage, of an older serial, of the same serial
// with another content, or without packages that wait or columns that tables
// have, is a *RefusedError, unless force is set. check may refuse what is about
// to be replaced. In one lineage the number of the next package never goes
// back. A dry run changes nothing.
func (s *Store) Push(ctx context.Context, p *Pipeline, force, dryRun bool, check func(stored *Pipeline) error) (Pushed, error) {
	out := Pushed{Pipeline: p.Pipeline, Path: s.Path(p.Pipeline)}
	saved, backup, err := s.Edit(ctx, p.Pipeline, func(stored *Pipeline) error {
		out.Serial, out.Raised = stored.Serial, 0
		if err := errors.Join(stored.moved(), check(stored)); err != nil {
			return err
		}
		if stored.Serial > 0 {
			out.Lost = missing(stored, p)
			needed := out.Lost
			out.Lost = append(slices.Clone(needed), older(stored, p)...)
			if alike(stored, p) {
				return errAsItIs
			}
			if err := refusal(stored, p, needed, out.Lost); err != nil && !force {
				return err
			}
		}
		next := *p
		next.Claims, next.MovedTo = nil, ""
		if stored.Lineage == p.Lineage && next.NextPackage < stored.NextPackage {
			next.NextPackage = stored.NextPackage
			out.Raised = next.NextPackage
		}
		next.Serial, next.Saves = max(p.Serial, stored.Serial+1)-1, stored.Saves // the save counts it
		if dryRun {
			return errAsItIs
		}
		*stored = next
		return nil
	})
	return pushed(out, saved, backup, err, dryRun)
}

// PushResources is Push of the document of resources.
func (s *Store) PushResources(ctx context.Context, r *Resources, force, dryRun bool) (Pushed, error) {
	out := Pushed{Path: s.ResourcesPath()}
	saved, backup, err := edit(ctx, s, NewResources(), func(stored *Resources) error {
		out.Serial, out.Lost = stored.Serial, nil
		for _, address := range sortedKeys(stored.Items) {
			if _, kept := r.Items[address]; !kept {
				out.Lost = append(out.Lost, "what is remembered of "+address)
			}
		}
		if alike(stored, r) {
			return errAsItIs
		}
		if err := refusal(stored, r, nil, out.Lost); err != nil && !force && stored.Serial > 0 {
			return err
		}
		next := *r
		next.Serial, next.Saves = max(r.Serial, stored.Serial+1)-1, stored.Saves
		if dryRun {
			return errAsItIs
		}
		*stored = next
		return nil
	})
	return pushed(out, saved, backup, err, dryRun)
}

func pushed(out Pushed, saved head, backup string, err error, dryRun bool) (Pushed, error) {
	switch {
	case errors.Is(err, errAsItIs):
		out.Same = !dryRun
		return out, nil
	case err != nil:
		return out, err
	}
	out.Serial, out.Backup = *saved.meta().serial, backup
	return out, nil
}

// alike reports whether two documents say the same, whoever saved them.
func alike[D document[D]](a, b D) bool {
	bare := func(d D) D {
		c := d.copied()
		*c.meta().writer, *c.meta().saves = "", nil
		return c
	}
	x, errX := json.Marshal(bare(a))
	y, errY := json.Marshal(bare(b))
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

// refusal says why a document may not take the place of the stored one; nil
// where it may. needed is what nothing brings back.
func refusal(stored, d head, needed, lost []string) error {
	e := &RefusedError{Lost: lost, Next: forceHint}
	if p, ok := d.(*Pipeline); ok {
		e.Pipeline = p.Pipeline
	}
	was, is := stored.meta(), d.meta()
	switch {
	case *was.lineage != *is.lineage:
		e.Reason = fmt.Sprintf("it is of lineage %s, the stored one of %s: another history, which the destinations do not take for theirs", *is.lineage, *was.lineage)
	case *is.serial < *was.serial:
		e.Reason = fmt.Sprintf("its serial is %d, the stored one's is %d, which is newer", *is.serial, *was.serial)
	case *is.serial == *was.serial:
		e.Reason = fmt.Sprintf("both have serial %d, and differ", *is.serial)
		e.Next = "nothing was changed; give it a higher serial if it is an edited copy of the stored one, or use --force: a copy of that is kept"
	case len(needed) > 0:
		e.Reason = "the stored one has what no run brings back by itself"
		e.Lost = needed
	default:
		return nil
	}
	return e
}

// missing lists what p lacks of stored that no run brings back by itself.
func missing(stored, p *Pipeline) (lost []string) {
	if stored.Lineage != p.Lineage {
		return []string{"the history that the destinations know"}
	}
	for _, name := range sortedKeys(stored.Destinations) {
		d := p.Destinations[name]
		var packages, rows int64
		for _, ref := range stored.Destinations[name].Queue {
			if d == nil || d.NeedsFull == nil && ref.Serial > d.Position && !slices.ContainsFunc(d.Queue, func(q PackageRef) bool { return q.Serial == ref.Serial && q.RunID == ref.RunID }) {
				packages++
				rows += ref.Rows
			}
		}
		if packages > 0 {
			lost = append(lost, fmt.Sprintf("%d package(s) with %d row(s) that wait for destination %s", packages, rows, name))
		}
	}
	var columns []string
	for _, e := range stored.Registry {
		if i := slices.IndexFunc(p.Registry, func(o schemas.RegistryEntry) bool { return o.Ref() == e.Ref() }); i < 0 || p.Registry[i].Column != e.Column || p.Registry[i].Type != e.Type {
			columns = append(columns, e.Column)
		}
	}
	if n := len(columns); n > 0 {
		lost = append(lost, fmt.Sprintf("what is known of %d column(s) of the tables, such as %s", n, columns[0]))
	}
	return lost
}

// older lists what p has of an earlier time than stored; the next run reads it
// again.
func older(stored, p *Pipeline) (lost []string) {
	if stored.Cursor != nil && (p.Cursor == nil || p.Cursor.Before(*stored.Cursor)) {
		to := "nothing, so that the next run reads everything"
		if p.Cursor != nil {
			to = p.Cursor.UTC().Format(time.RFC3339Nano)
		}
		lost = append(lost, fmt.Sprintf("the cursor %s: it goes back to %s", stored.Cursor.UTC().Format(time.RFC3339Nano), to))
	}
	runs := 0
	for _, r := range stored.Runs {
		if !slices.ContainsFunc(p.Runs, func(o RunRecord) bool { return o.RunID == r.RunID }) {
			runs++
		}
	}
	if runs > 0 {
		lost = append(lost, fmt.Sprintf("the record of %d run(s)", runs))
	}
	if !reflect.DeepEqual(stored.Source, p.Source) && !stored.Source.IsZero() {
		lost = append(lost, "which source was read: "+stored.Source.String())
	}
	return lost
}
