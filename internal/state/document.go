package state

import (
	"context"
	crand "crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/google/uuid"

	"github.com/sluice-etl/sluice/internal/clock"
)

// head is what the store has to know of a document to keep it.
type head interface {
	stored() string // its name within the backend
	title() string  // as messages call it
	label() string  // as file names call it
	meta() meta
}

// document is a *Pipeline or a *Resources.
type document[D any] interface {
	head
	fault() string // what in it contradicts itself, "" if nothing
	fresh() D      // one of the same name, never saved
	copied() D     // shallow
	become(D)
}

// meta points to the fields that all documents have.
type meta struct {
	format  *int
	newest  int
	lineage *string
	serial  *int64
	writer  *string
	saves   *[]string
}

func (p *Pipeline) stored() string     { return docName(p.Pipeline) }
func (p *Pipeline) title() string      { return titled(p.Pipeline) }
func (p *Pipeline) label() string      { return escape(p.Pipeline) }
func (p *Pipeline) fresh() *Pipeline   { return New(p.Pipeline) }
func (p *Pipeline) become(q *Pipeline) { *p = *q }

func (p *Pipeline) copied() *Pipeline {
	q := *p
	return &q
}

func (p *Pipeline) meta() meta {
	return meta{format: &p.FormatVersion, newest: FormatVersion, lineage: &p.Lineage, serial: &p.Serial, writer: &p.SluiceVersion, saves: &p.Saves}
}

// titled is how messages call a document: that of a pipeline, or of the
// resources where the name is empty.
func titled(pipeline string) string {
	if pipeline == "" {
		return "resources"
	}
	return "pipeline " + pipeline
}

// read returns the document of the blank one's name, that one where there is
// none.
func read[D document[D]](ctx context.Context, s *Store, blank D) (D, version, error) {
	var none D
	data, v, err := s.docs.load(ctx, blank.stored())
	if errors.Is(err, fs.ErrNotExist) {
		return blank, 0, nil
	}
	if err != nil {
		return none, 0, err
	}
	d, err := decodeInto(s.where(blank.stored()), blank, data)
	return d, v, err
}

// outrun says which document was saved since d was loaded.
func outrun[D document[D]](ctx context.Context, s *Store, d D) error {
	stored, _, err := read(ctx, s, d.fresh())
	if err != nil {
		return fmt.Errorf("save state of %s: %w", d.title(), err)
	}
	return stale(s, d, stored)
}

// stale says that d was loaded before stored was saved.
func stale(s *Store, d, stored head) error {
	ours, theirs := d.meta(), stored.meta()
	e := &StaleError{
		Path: s.where(d.stored()), Loaded: *ours.serial, Stored: *theirs.serial,
		OtherLineage: *theirs.lineage != *ours.lineage && *ours.lineage != "" && *theirs.lineage != "",
	}
	if p, ok := d.(*Pipeline); ok {
		e.Pipeline = p.Pipeline
	}
	return e
}

// replace writes d over the document of version v, under the lock.
func replace[D document[D]](ctx context.Context, s *Store, d D, v version) error {
	next, data, err := encode(s, d)
	if err != nil {
		return err
	}
	err = s.docs.save(ctx, d.stored(), data, v)
	if err == nil {
		d.become(next)
		return nil
	}
	if s.shared == nil {
		// Only the directory's flush may have failed: then the new document
		// stands, and d must say so, or its next save would lose against itself.
		now, _, rerr := read(ctx, s, d.fresh())
		if rerr == nil && *now.meta().serial == *next.meta().serial && *now.meta().lineage == *next.meta().lineage {
			d.become(next)
		}
	}
	return err
}

// encode returns what d becomes when saved, and its bytes.
func encode[D document[D]](s *Store, d D) (D, []byte, error) {
	var none D
	next := d.copied()
	m := next.meta()
	*m.format, *m.writer = m.newest, s.version
	*m.serial++
	if s.shared != nil {
		id, err := randomID()
		if err != nil {
			return none, nil, fmt.Errorf("save state of %s: %w", d.title(), err)
		}
		*m.saves = append(slices.Clone((*m.saves)[max(0, len(*m.saves)-MaxSaves+1):]), id)
	}
	if *m.lineage == "" {
		id, err := uuid.NewRandom()
		if err != nil {
			return none, nil, fmt.Errorf("make lineage of %s: %w", d.title(), err)
		}
		*m.lineage = id.String()
	}
	if reason := next.fault(); reason != "" {
		return none, nil, fmt.Errorf("save state of %s: refusing to write what could not be read back: %s", d.title(), reason)
	}
	data, err := json.MarshalIndent(next, "", "  ")
	if err != nil {
		return none, nil, fmt.Errorf("encode state of %s: %w", d.title(), err)
	}
	return next, append(data, '\n'), nil
}

// errSame is a change that leaves a document as it is: nothing is saved.
var errSame = errors.New("nothing changed")

// update loads the document of the blank one's name, lets change alter it and
// saves it, as often as another machine saves in between. Where change fails
// with errSame, what was loaded is returned.
func update[D document[D]](ctx context.Context, s *Store, blank D, change func(D) error) (D, error) {
	return updateAfter(ctx, s, blank, change, func(version) error { return nil })
}

// updateAfter is update that calls before with the version that is about to be
// replaced; errMoved from it is as if another machine had saved.
func updateAfter[D document[D]](ctx context.Context, s *Store, blank D, change func(D) error, before func(version) error) (D, error) {
	var none D
	unlock, err := s.lockSave(ctx, blank)
	if err != nil {
		return none, err
	}
	defer unlock()
	for try := 1; ; try++ {
		d, v, err := read(ctx, s, blank.fresh())
		if err != nil {
			return none, err
		}
		if err := change(d); errors.Is(err, errSame) {
			return d, nil
		} else if err != nil {
			return none, err
		}
		if err = before(v); err == nil {
			err = replace(ctx, s, d, v)
		}
		switch {
		case err == nil:
			return d, nil
		case !errors.Is(err, errMoved):
			_, data, encErr := encode(s, d)
			if encErr != nil {
				data = nil
			}
			return none, &unsavedError{doc: d, data: data, version: v, err: err}
		case try == maxTries:
			return none, outrun(ctx, s, d)
		}
		// The one that was faster is done; wait for no more than that the two
		// do not keep step.
		if err := clock.Sleep(ctx, rand.N(time.Duration(try)*tryWait)); err != nil { //nolint:gosec // only spreads retries
			return none, err
		}
	}
}

// randomID returns a name that nobody else gives: 24 hexadecimal digits.
func randomID() (string, error) {
	var b [12]byte
	if _, err := crand.Read(b[:]); err != nil {
		return "", fmt.Errorf("draw a random id: %w", err)
	}
	return hex.EncodeToString(b[:]), nil
}
