package state

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
)

// SaveOrRescue is Save for the moment when losing p would lose work: if the
// document cannot be written where it belongs, it is written to the rescue
// directory and the *EmergencyError gives the command that recovers it. A
// *StaleError is returned as it is: the newer document must not be undone.
// Pass a context that a cancelled run has not cancelled.
func (s *Store) SaveOrRescue(ctx context.Context, p *Pipeline) error {
	return s.rescued(p, s.Save(ctx, p))
}

// UpdateOrRescue is Update with SaveOrRescue's care: if the changed state
// cannot be written where it belongs, it is written to the rescue directory
// and the *EmergencyError gives the command that recovers it.
func (s *Store) UpdateOrRescue(ctx context.Context, pipeline string, change func(*Pipeline) error) (*Pipeline, error) {
	p, err := s.Update(ctx, pipeline, change)
	var unsaved *unsavedError
	if errors.As(err, &unsaved) {
		return nil, s.rescued(unsaved.changed, unsaved.err)
	}
	return p, err
}

// rescued writes p elsewhere where err, the outcome of saving it, is a failure
// that lost it.
func (s *Store) rescued(p *Pipeline, err error) error {
	if err == nil || errors.Is(err, ErrStale) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFuture) {
		return err
	}
	_, data, encErr := s.encode(p)
	if encErr != nil {
		return err // p itself is the fault; nothing to rescue
	}
	e := &EmergencyError{Pipeline: p.Pipeline, Path: s.Path(p.Pipeline), Document: data, Err: err}
	e.Rescue, e.RescueErr = s.writeRescue(p.Pipeline, data)
	return e
}

// writeRescue writes data to a new file that only its owner can read.
func (s *Store) writeRescue(pipeline string, data []byte) (path string, err error) {
	f, err := os.CreateTemp(s.rescue, "sluice-state-"+escape(pipeline)+"-*.json")
	if err != nil {
		return "", err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Sync()
	}
	if cerr := f.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return "", errors.Join(err, os.Remove(f.Name()))
	}
	return f.Name(), nil
}

// Command returns the shell command that puts the rescued document in place.
func (e *EmergencyError) Command() string {
	if runtime.GOOS == "windows" {
		return `copy "` + e.Rescue + `" "` + e.Path + `"`
	}
	return "cp " + shellQuote(e.Rescue) + " " + shellQuote(e.Path)
}

// shellQuote quotes s for a POSIX shell where it needs it.
func shellQuote(s string) string {
	if s != "" && strings.Trim(s, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_-./:@%+,") == "" {
		return s
	}
	return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'"
}

// unsavedError carries what Update had changed and could not save.
type unsavedError struct {
	changed *Pipeline
	err     error
}

func (e *unsavedError) Error() string { return e.err.Error() }
func (e *unsavedError) Unwrap() error { return e.err }
