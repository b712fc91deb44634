package state

import (
	"context"
	"errors"
	"fmt"
	"slices"
)

// Idle is the time in which no run of a pipeline seals or commits, on this
// machine; in a bucket Check tells of others.
type Idle struct {
	store    *Store
	pipeline string
	held     []func() error
	dead     map[string]bool // claims that are over
}

// Idle takes this machine's locks of a pipeline for the given kinds of runs. A
// *HeldError says that a run has one, here or, where the state is shared by
// machines, elsewhere. Unlike Claim it changes nothing in the document. Release
// it once.
func (s *Store) Idle(ctx context.Context, pipeline string, kinds ...string) (i *Idle, err error) {
	i = &Idle{store: s, pipeline: pipeline, dead: map[string]bool{}}
	defer func() {
		if err != nil {
			err = errors.Join(err, i.Release())
			i = nil
		}
	}()
	for _, kind := range kinds {
		release, err := s.LockRun(ctx, pipeline, kind)
		if err != nil {
			return i, err
		}
		i.held = append(i.held, release)
	}
	if s.shared == nil {
		return i, nil
	}
	p, _, err := read(ctx, s, New(pipeline))
	if err != nil {
		return i, err
	}
	return i, i.bury(ctx, p)
}

// bury looks which claims in p are over, and fails where one is not.
func (i *Idle) bury(ctx context.Context, p *Pipeline) (err error) {
	if len(p.Claims) == 0 {
		return nil
	}
	// A sign of life of our own tells the bucket's time.
	probe := &Claim{store: i.store, pipeline: i.pipeline, kind: "state"}
	if probe.self.ID, err = randomID(); err != nil {
		return fmt.Errorf("look at claims: %w", err)
	}
	now, err := probe.put(ctx, absent)
	if err != nil {
		return &AccessError{Op: "look at claims", Path: i.store.shared.path(probe.beatName(probe.self)), Err: err}
	}
	defer func() { err = errors.Join(err, probe.silence(ctx, now)) }()
	for _, kind := range sortedKeys(p.Claims) {
		other := p.Claims[kind]
		place, err := i.store.place(i.pipeline, kind)
		if err != nil {
			return err
		}
		beat, err := probe.seen(ctx, kind, other)
		switch {
		case err != nil:
			return err
		case other.Place != place && now.updated.Sub(beat.updated) < claimLapses:
			return &HeldError{
				Pipeline: i.pipeline, Kind: kind, Path: i.store.Path(i.pipeline), Holder: other.Holder,
				Seen: beat.updated, Lapses: beat.updated.Add(claimLapses),
			}
		}
		i.dead[other.ID] = true
	}
	return nil
}

// Check says, as a *HeldError, that p has a claim that was made since. Called
// within Edit or Forget, it keeps out the runs of other machines, as the change
// takes effect only if p is still what stands there.
func (i *Idle) Check(p *Pipeline) error {
	for _, kind := range sortedKeys(p.Claims) {
		if c := p.Claims[kind]; !i.dead[c.ID] {
			return &HeldError{Pipeline: i.pipeline, Kind: kind, Path: i.store.Path(i.pipeline), Holder: c.Holder}
		}
	}
	return nil
}

// Release gives the locks up.
func (i *Idle) Release() error {
	var errs []error
	for _, release := range slices.Backward(i.held) {
		errs = append(errs, release())
	}
	i.held = nil
	return errors.Join(errs...)
}
