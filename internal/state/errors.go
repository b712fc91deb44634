package state

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"
	"time"
)

// The identities of this package's errors. The types below carry the data and
// give what to do by Hint.
var (
	// ErrStale means that the document was saved by someone else since it was loaded.
	ErrStale = errors.New("state has moved on")
	// ErrHeld means that another process holds the lock.
	ErrHeld = errors.New("lock is held")
	// ErrForeignSource means that the state was made from another source.
	ErrForeignSource = errors.New("state belongs to another source")
	// ErrCorrupt means that a document cannot be read as state.
	ErrCorrupt = errors.New("state is damaged")
	// ErrFuture means that a newer version of Sluice wrote the document.
	ErrFuture = errors.New("state is of a newer format")
)

// StaleError is a Save that lost against another one.
type StaleError struct {
	Pipeline string // empty for the resources
	Path     string
	Loaded   int64 // serial that the caller had loaded
	Stored   int64 // serial that stands in the file
	// OtherLineage is set when the file is not even of the same history.
	OtherLineage bool
}

func (e *StaleError) Error() string {
	if e.OtherLineage {
		return fmt.Sprintf("save state of %s: %s was replaced by another history (its serial is %d, ours %d)", titled(e.Pipeline), e.Path, e.Stored, e.Loaded)
	}
	return fmt.Sprintf("save state of %s: %s is at serial %d, this process had loaded serial %d", titled(e.Pipeline), e.Path, e.Stored, e.Loaded)
}

// Is makes errors.Is(err, ErrStale) hold.
func (e *StaleError) Is(target error) bool { return target == ErrStale }

// Hint says what to do.
func (e *StaleError) Hint() string {
	if e.Pipeline == "" {
		return "another process saved it meanwhile and its version was kept: run the same command again"
	}
	return "another process saved it meanwhile and its version was kept; see `sluice runs " + Typed(e.Pipeline) + "`, then run again"
}

// HeldError names who holds a lock.
type HeldError struct {
	Pipeline string
	Kind     string
	Path     string
	Holder   Holder // its zero value where the holder did not leave a name
	// Seen is the last sign of life of a holder that may be on another machine,
	// and Lapses when its claim is over if none follows, both in the bucket's
	// time; zero for a process of this machine, whose lock is the kernel's.
	Seen, Lapses time.Time
}

// Holder is the process that holds a lock.
type Holder struct {
	PID     int       `json:"pid"`
	Host    string    `json:"host"`
	Command string    `json:"command"`
	Since   time.Time `json:"since"`
}

func (h Holder) String() string {
	if h.PID == 0 {
		return "another process"
	}
	var b strings.Builder
	fmt.Fprintf(&b, "process %d", h.PID)
	if h.Host != "" {
		fmt.Fprintf(&b, " on %s", h.Host)
	}
	if h.Command != "" {
		fmt.Fprintf(&b, " (%s)", h.Command)
	}
	if !h.Since.IsZero() {
		fmt.Fprintf(&b, " since %s", h.Since.UTC().Format(time.RFC3339))
	}
	return b.String()
}

func (e *HeldError) Error() string {
	held := fmt.Sprintf("lock pipeline %s for %s: held by %s", e.Pipeline, e.Kind, e.Holder)
	if !e.Seen.IsZero() {
		held += ", last seen " + e.Seen.UTC().Format(time.RFC3339)
	}
	return held
}

// Is makes errors.Is(err, ErrHeld) hold.
func (e *HeldError) Is(target error) bool { return target == ErrHeld }

// Hint says what to do.
func (e *HeldError) Hint() string {
	if !e.Lapses.IsZero() {
		return "wait for it to end, or stop it; if that process or its machine is dead, run again after " +
			e.Lapses.UTC().Format(time.RFC3339) + ": without a sign of life until then, this run takes over by itself"
	}
	return "wait for it to end, or stop it; the lock goes with the process, there is no file to remove"
}

// TakenOverError is a run whose place another one has taken, as it gave no sign
// of life for too long. What it has staged was not sealed.
type TakenOverError struct {
	Pipeline string
	Kind     string
	By       Holder // its zero value where that one has ended as well
}

func (e *TakenOverError) Error() string {
	by := "another run"
	if e.By.PID != 0 {
		by = e.By.String()
	}
	return fmt.Sprintf("save the %s of pipeline %s: %s took over from this run meanwhile", e.Kind, e.Pipeline, by)
}

// Is makes errors.Is(err, ErrStale) hold.
func (e *TakenOverError) Is(target error) bool { return target == ErrStale }

// Hint says what to do.
func (e *TakenOverError) Hint() string {
	return "this process was stopped, or cut off from the bucket, for minutes; nothing is lost: the run that took over, or the next one, reads what this one has read"
}

// LostPackageError is a sealed package that the bucket does not hold as it was
// put there.
type LostPackageError struct {
	Path string // of the object
	Err  error
}

func (e *LostPackageError) Error() string {
	return fmt.Sprintf("fetch sealed package: %s: %v", e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *LostPackageError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *LostPackageError) Hint() string {
	return "something removed or changed it in the bucket; restore it there, or read everything again with `sluice run --full`"
}

// ForeignSourceError is a state that was made from another source than the
// configured one.
type ForeignSourceError struct {
	Pipeline   string
	Recorded   SourceIdentity // in state
	Configured SourceIdentity // now
}

func (e *ForeignSourceError) Error() string {
	return fmt.Sprintf("check source of pipeline %s: its state was made from %s, the source now is %s", e.Pipeline, e.Recorded, e.Configured)
}

// Is makes errors.Is(err, ErrForeignSource) hold.
func (e *ForeignSourceError) Is(target error) bool { return target == ErrForeignSource }

// Hint says what to do.
func (e *ForeignSourceError) Hint() string {
	return "nothing was changed. To read the other source, give it a pipeline of its own name with a table of its own, or another `state.path` with another destination path; to go on with this one, set the source's url and key back"
}

// CorruptError is a document that is not usable as state. It is never
// overwritten.
type CorruptError struct {
	Path   string
	Reason string
}

func (e *CorruptError) Error() string {
	return fmt.Sprintf("read state %s: %s", e.Path, e.Reason)
}

// Is makes errors.Is(err, ErrCorrupt) hold.
func (e *CorruptError) Is(target error) bool { return target == ErrCorrupt }

// Hint says what to do.
func (e *CorruptError) Hint() string {
	return "the file was left as it is. Restore it from a backup; without one, move it away and choose a new destination path: the next run then reads everything again"
}

// FutureError is a document of a format that this build does not know.
type FutureError struct {
	Path      string
	Version   int    // of the document
	Supported int    // the newest that this build reads
	Writer    string // version of Sluice that wrote it, if it says so
}

func (e *FutureError) Error() string {
	writer := ""
	if e.Writer != "" {
		writer = " by sluice " + e.Writer
	}
	return fmt.Sprintf("read state %s: it is of format %d, written%s; this version reads formats up to %d", e.Path, e.Version, writer, e.Supported)
}

// Is makes errors.Is(err, ErrFuture) hold.
func (e *FutureError) Is(target error) bool { return target == ErrFuture }

// Hint says what to do.
func (e *FutureError) Hint() string {
	return "use a version of sluice at least as new as the one that wrote it; the file was left as it is"
}

// AccessError is a state directory, file or object that the system does not let
// us use.
type AccessError struct {
	Op   string // verb and noun, such as "write state"
	Path string
	Err  error
}

func (e *AccessError) Error() string {
	// The layers below name temporary files, which only confuse here.
	var p *fs.PathError
	if errors.As(e.Err, &p) {
		return fmt.Sprintf("%s %s: %s: %v", e.Op, e.Path, p.Op, p.Err)
	}
	return fmt.Sprintf("%s %s: %v", e.Op, e.Path, e.Err)
}

// Unwrap returns the system's error.
func (e *AccessError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *AccessError) Hint() string {
	var inner interface{ Hint() string }
	switch {
	case errors.As(e.Err, &inner) && inner.Hint() != "":
		return inner.Hint()
	case inBucket(e.Path):
		return "see that the bucket can be reached, and that the account which runs sluice may read, write and delete objects in it (role roles/storage.objectUser), then run again"
	}
	return "make the directory readable, writable and not full for the user who runs sluice, or point `state.path` to one that is"
}

// EmergencyError is a state that could not be saved where it belongs.
type EmergencyError struct {
	Pipeline string // empty for the resources
	Path     string // where it belongs
	// Rescue is the file that holds the document instead, mode 0600; empty
	// when that failed too, and then Document is all there is.
	Rescue    string
	RescueErr error // why Rescue is empty
	// Generation is that of the object at Path that the document was to
	// replace, 0 for none; of no meaning for a file.
	Generation int64
	Document   []byte // the document itself
	Err        error  // why the save failed

	push string // the command that recovers it, but for the file; empty: a copy does
}

func (e *EmergencyError) Error() string {
	if e.Rescue == "" {
		return fmt.Sprintf("save state of %s: %v; writing it elsewhere failed too: %v", titled(e.Pipeline), e.Err, e.RescueErr)
	}
	return fmt.Sprintf("save state of %s: %v; it was written to %s instead", titled(e.Pipeline), e.Err, e.Rescue)
}

// Unwrap returns why the save failed.
func (e *EmergencyError) Unwrap() error { return e.Err }

// Hint gives the command that recovers the state.
func (e *EmergencyError) Hint() string {
	if e.Rescue == "" {
		return "mend what stands in the way of " + e.Path + ", then run again: the run repeats what was not recorded"
	}
	if e.push != "" {
		return "mend what stands in the way, then recover it with: " + e.Command()
	}
	return "mend what stands in the way, then recover it before the next run with: " + e.Command()
}
