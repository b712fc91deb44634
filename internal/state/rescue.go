package state

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
)

// UpdateOrRescue is Update for the moment when losing the change would lose
// work: if the changed state cannot be written where it belongs, it is written
// to the rescue directory and the *EmergencyError gives the command that
// recovers it. A *StaleError is returned as it is: the newer document must not
// be undone. Pass a context that a cancelled run has not cancelled.
func (s *Store) UpdateOrRescue(ctx context.Context, pipeline string, change func(*Pipeline) error) (*Pipeline, error) {
	p, err := s.Update(ctx, pipeline, change)
	return rescue(s, p, err)
}

// rescue writes what an update could not save to the rescue directory.
func rescue[D document[D]](s *Store, saved D, err error) (D, error) {
	var unsaved *unsavedError
	if !errors.As(err, &unsaved) || errors.Is(err, ErrCorrupt) || errors.Is(err, ErrFuture) {
		return saved, err
	}
	var none D
	if unsaved.data == nil {
		return none, unsaved.err // the change itself is the fault; nothing to rescue
	}
	e := &EmergencyError{
		Path: s.where(unsaved.doc.stored()), Generation: int64(unsaved.version), Document: unsaved.data, Err: unsaved.err,
	}
	if p, ok := unsaved.doc.(*Pipeline); ok {
		e.Pipeline = p.Pipeline
	} else {
		e.push = s.push
	}
	e.Rescue, e.RescueErr = s.writeRescue(unsaved.doc.label(), unsaved.data)
	return none, e
}

// writeRescue writes data to a new file that only its owner can read.
func (s *Store) writeRescue(label string, data []byte) (path string, err error) {
	f, err := os.CreateTemp(s.rescue, "sluice-state-"+label+"-*.json")
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

// Command returns the shell command that puts the rescued document in place; in
// a bucket, unless another has been saved meanwhile.
func (e *EmergencyError) Command() string {
	if e.push != "" {
		return e.push + " " + shellQuote(e.Rescue)
	}
	if inBucket(e.Path) {
		return fmt.Sprintf("gcloud storage cp --if-generation-match=%d %s %s", e.Generation, shellQuote(e.Rescue), shellQuote(e.Path))
	}
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

// unsavedError carries what Update had changed and could not save, and the
// version that it was to replace.
type unsavedError struct {
	doc     head
	data    []byte // of it as it was to be saved; nil where that is what failed
	version version
	err     error
}

func (e *unsavedError) Error() string { return e.err.Error() }
func (e *unsavedError) Unwrap() error { return e.err }
