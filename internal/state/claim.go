package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/clock"
)

const (
	// beatEvery is how often a run that holds a claim gives a sign of life.
	beatEvery = time.Minute
	// claimLapses is how long after its last sign of life a claim may be taken
	// over from another machine. It decides who works in vain, never what is
	// saved.
	claimLapses = 5 * time.Minute

	claimsDir = "claims"
)

// Claimant is the process that extracts for one kind of run.
type Claimant struct {
	// ID is of this claim alone, and the name under which its run is kept.
	ID string `json:"id"`
	// Place tells one local directory from any other: who has the kernel's
	// lock there knows that an earlier claimant of that place is dead.
	Place string `json:"place"`
	Holder
}

// Claim is the right of one run to seal a package. It is used by one goroutine.
type Claim struct {
	store    *Store
	pipeline string
	kind     string
	unlock   func() error
	self     Claimant // zero where no bucket is shared
	beating  sync.WaitGroup
	stop     context.CancelFunc
	kept     map[string]*keptRun // by directory

	mu   sync.Mutex
	beat object // the last sign of life
}

// Claim takes LockRun's lock and, where the state is shared by machines, claims
// the kind of run in the document. A *HeldError says that another run has it.
// It gives signs of life, also when ctx has ended, until Release.
func (s *Store) Claim(ctx context.Context, pipeline, kind string) (*Claim, error) {
	unlock, err := s.LockRun(ctx, pipeline, kind)
	if err != nil {
		return nil, err
	}
	c := &Claim{store: s, pipeline: pipeline, kind: kind, unlock: unlock, kept: map[string]*keptRun{}, stop: func() {}}
	if s.shared == nil {
		return c, nil
	}
	if err := c.take(ctx); err != nil {
		return nil, errors.Join(err, unlock())
	}
	return c, nil
}

// take puts the claim into the document.
func (c *Claim) take(ctx context.Context) (err error) {
	if c.self, err = c.store.claimant(c.pipeline, c.kind); err != nil {
		return err
	}
	// The first sign of life comes before the claim, so that nobody takes it
	// for a dead one's. Its time is what the others' are compared with: all are
	// the bucket's.
	if c.beat, err = c.put(ctx, absent); err != nil {
		return &AccessError{Op: "claim run", Path: c.store.shared.path(c.beatName(c.self)), Err: err}
	}
	var over []object // signs of life of claims that end by this one
	_, err = c.store.Update(ctx, c.pipeline, func(p *Pipeline) error {
		over = nil
		for kind, other := range p.Claims {
			beat, err := c.seen(ctx, kind, other)
			switch {
			case err != nil:
				return err
			case kind == c.kind && other.Place == c.self.Place, c.beat.updated.Sub(beat.updated) >= claimLapses:
				over = append(over, beat)
				delete(p.Claims, kind)
			case kind == c.kind:
				return &HeldError{
					Pipeline: c.pipeline, Kind: kind, Path: c.store.Path(c.pipeline), Holder: other.Holder,
					Seen: beat.updated, Lapses: beat.updated.Add(claimLapses),
				}
			}
		}
		if p.Claims == nil {
			p.Claims = map[string]Claimant{}
		}
		p.Claims[c.kind] = c.self
		return nil
	})
	if err != nil {
		// Without the sign of life the claim, should it yet appear, is dead.
		return errors.Join(err, c.silence(ctx, c.beat))
	}
	c.begin(ctx)
	for _, other := range over {
		if err := c.silence(ctx, other); err != nil {
			return errors.Join(err, c.release(ctx))
		}
	}
	return nil
}

// claimant describes this process. The lock of the kind is held.
func (s *Store) claimant(pipeline, kind string) (Claimant, error) {
	id, err := randomID()
	if err != nil {
		return Claimant{}, fmt.Errorf("claim run: %w", err)
	}
	place, err := s.place(pipeline, kind)
	if err != nil {
		return Claimant{}, err
	}
	return Claimant{ID: id, Place: place, Holder: s.holder()}, nil
}

// place returns the id that the local directory has for a kind of run, making
// one where it has none. The lock of the kind is held.
func (s *Store) place(pipeline, kind string) (string, error) {
	path := filepath.Join(s.lockDir(), escape(pipeline)+"."+escape(kind)+".place")
	data, err := os.ReadFile(path)
	if id := strings.TrimSpace(string(data)); err == nil && id != "" {
		return id, nil
	}
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", &AccessError{Op: "read place", Path: path, Err: err}
	}
	id, err := randomID()
	if err != nil {
		return "", fmt.Errorf("name place: %w", err)
	}
	removeTemps(path)
	if err := atomicfile.WriteFileOn(s.fsys, path, []byte(id+"\n"), filePerm); err != nil {
		return "", &AccessError{Op: "write place", Path: path, Err: err}
	}
	return id, nil
}

// beatName is the object by which a claimant of this claim's pipeline gives
// signs of life. It stands apart from the document, which would otherwise be
// saved anew every minute.
func (c *Claim) beatName(of Claimant) string {
	return claimsDir + "/" + escape(c.pipeline) + "." + of.ID
}

// put gives a sign of life in the place of the one of the given generation.
func (c *Claim) put(ctx context.Context, generation int64) (object, error) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	return c.store.shared.put(ctx, c.beatName(c.self), []byte(c.kind+"\n"), generation)
}

// seen returns the last sign of life of another claimant, of the zero time
// where it has ended.
func (c *Claim) seen(ctx context.Context, kind string, other Claimant) (object, error) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	name := c.beatName(other)
	obj, err := c.look(ctx, name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return object{name: name}, nil
	case err != nil:
		return object{}, &AccessError{Op: "look at the claim for " + kind, Path: c.store.shared.path(name), Err: err}
	}
	return obj, nil
}

// look describes a sign of life; fs.ErrNotExist where there is none. A listing
// gives the time of the last put, which not every answer to get has.
func (c *Claim) look(ctx context.Context, name string) (object, error) {
	found, err := c.store.shared.list(ctx, name)
	if err != nil {
		return object{}, err
	}
	for _, obj := range found {
		if obj.name == name {
			return obj, nil
		}
	}
	return object{}, fs.ErrNotExist
}

// silence removes a claimant's sign of life, also where it has just given
// another one.
func (c *Claim) silence(ctx context.Context, beat object) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), stateTimeout)
	defer cancel()
	if beat.generation == absent {
		return nil
	}
	err := c.store.shared.remove(ctx, beat.name, beat.generation)
	if errors.Is(err, errMoved) {
		err = c.store.shared.remove(ctx, beat.name, anyGeneration)
	}
	if err != nil {
		return &AccessError{Op: "end claim", Path: c.store.shared.path(beat.name), Err: err}
	}
	return nil
}

// begin gives signs of life until stop.
func (c *Claim) begin(ctx context.Context) {
	ctx, c.stop = context.WithCancel(context.WithoutCancel(ctx))
	c.beating.Go(func() {
		for clock.Sleep(ctx, beatEvery) == nil && c.again(ctx) {
		}
	})
}

// again gives another sign of life, and reports whether the claim may still
// hold. One that fails is made up for by the next.
func (c *Claim) again(ctx context.Context) bool {
	obj, err := c.put(ctx, c.lastBeat().generation)
	if errors.Is(err, errMoved) {
		// Whoever takes over removes it; else the answer to ours was lost.
		look, cancel := context.WithTimeout(ctx, stateTimeout)
		defer cancel()
		obj, err = c.look(look, c.beatName(c.self))
	}
	if err == nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		c.beat = obj
	}
	return !errors.Is(err, fs.ErrNotExist)
}

func (c *Claim) lastBeat() object {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.beat
}

// Check says, as a *TakenOverError, that p is of a time when another run had
// taken over. Called within Update, it keeps a run that slept from sealing: the
// save takes effect only if p is still what stands there. Always nil where
// machines share nothing.
func (c *Claim) Check(p *Pipeline) error {
	if c.store.shared == nil || p.Claims[c.kind].ID == c.self.ID {
		return nil
	}
	return &TakenOverError{Pipeline: c.pipeline, Kind: c.kind, By: p.Claims[c.kind].Holder}
}

// Release ends the claim and gives the lock up, whatever else fails, and also
// where ctx has ended. Call it once. After an error the claim is over all the
// same, or lapses by itself.
func (c *Claim) Release(ctx context.Context) error {
	return errors.Join(c.release(ctx), c.unlock())
}

// release is Release but for the lock.
func (c *Claim) release(ctx context.Context) error {
	c.stop()
	c.beating.Wait()
	if c.store.shared == nil {
		return nil
	}
	ctx = context.WithoutCancel(ctx)
	over := errors.New("taken over")
	_, err := c.store.Update(ctx, c.pipeline, func(p *Pipeline) error {
		if c.Check(p) != nil {
			return over
		}
		delete(p.Claims, c.kind)
		return nil
	})
	if errors.Is(err, over) {
		err = nil
	}
	return errors.Join(err, c.silence(ctx, c.lastBeat()))
}
