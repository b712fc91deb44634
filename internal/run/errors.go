package run

import (
	"fmt"
	"strings"
	"time"
)

// FutureFormatError refuses a file that a newer Sluice wrote.
type FutureFormatError struct {
	Path          string
	Format, Known int
}

func (e *FutureFormatError) Error() string {
	return fmt.Sprintf("read %s: format %d is newer than this version of sluice knows (%d)", e.Path, e.Format, e.Known)
}

// Hint says what to do.
func (e *FutureFormatError) Hint() string {
	return "use the version of sluice that wrote it, or a later one"
}

// DestinationError is one destination that did not take its packages. The
// packages stay queued, and the next run offers them again.
type DestinationError struct {
	Destination string
	Queued      int // packages still waiting
	Err         error
}

func (e *DestinationError) Error() string {
	if e.Queued == 0 {
		return fmt.Sprintf("open destination %q: %v", e.Destination, e.Err)
	}
	return fmt.Sprintf("commit to destination %q: %v (%d package(s) stay queued)", e.Destination, e.Err, e.Queued)
}

// Unwrap returns the cause.
func (e *DestinationError) Unwrap() error { return e.Err }

// DestinationsError collects every destination that failed; the others are
// done. Its hint is for those that have packages waiting; what the causes hint
// at stands beside it.
type DestinationsError struct{ Failed []*DestinationError }

func (e *DestinationsError) Error() string {
	lines := make([]string, len(e.Failed))
	for i, f := range e.Failed {
		lines[i] = f.Error()
	}
	return strings.Join(lines, "; ")
}

// Unwrap returns the failures.
func (e *DestinationsError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i, f := range e.Failed {
		errs[i] = f
	}
	return errs
}

// Hint says what to do.
func (e *DestinationsError) Hint() string {
	for _, f := range e.Failed {
		if f.Queued == 0 {
			return "nothing was read and nothing changed; mend the destination and run again"
		}
	}
	return "what was extracted is safe and queued; mend the destination and run again"
}

// InterruptedError says that a run was stopped and can go on.
type InterruptedError struct {
	RunID  string
	Staged int64 // contacts that the next run need not fetch again
	Err    error
}

func (e *InterruptedError) Error() string {
	return fmt.Sprintf("run %s was interrupted with %d contacts staged", e.RunID, e.Staged)
}

// Unwrap returns the cause.
func (e *InterruptedError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *InterruptedError) Hint() string {
	return "run the same command again: it goes on from there"
}

// LostPartError is a staged part that the journal names and the disk does not
// hold as it was written.
type LostPartError struct {
	Path string
	Err  error
}

func (e *LostPartError) Error() string {
	return fmt.Sprintf("check staged part %s: %v", e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *LostPartError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *LostPartError) Hint() string {
	return "something removed or changed a staged file; if its run is still unfinished, remove the run's directory and run again (the cursor has not moved past it), else run with --full"
}

// EmptySourceError is a full read that found no contact at all: more often a
// key of the wrong account than an account without contacts.
type EmptySourceError struct{ Source string }

func (e *EmptySourceError) Error() string {
	return fmt.Sprintf("read contacts: the source %s has none", e.Source)
}

// Hint says what to do.
func (e *EmptySourceError) Hint() string {
	return "check that the key belongs to the account you mean; nothing was written, and the next run tries again"
}

// NotReadyError refuses a backfill of tables that lack rows which only a full
// read brings.
type NotReadyError struct{ Pipeline, Reason string }

func (e *NotReadyError) Error() string {
	return fmt.Sprintf("backfill pipeline %s: it has to read everything first (%s)", e.Pipeline, e.Reason)
}

// Hint says what to do.
func (e *NotReadyError) Hint() string {
	return fmt.Sprintf("run `sluice run %s`: it reads the range as well, with all the rest", e.Pipeline)
}

// ColumnsMovedError says that a run beside this one gave a new field another
// column than this one did.
type ColumnsMovedError struct{ Err error }

func (e *ColumnsMovedError) Error() string {
	return fmt.Sprintf("agree on new columns with a run that ended meanwhile: %v", e.Err)
}

// Unwrap returns the cause.
func (e *ColumnsMovedError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *ColumnsMovedError) Hint() string {
	return "nothing was written; give the same command again, and it takes the columns as they are now"
}

// WindowError is one window of a backfill that could not be read.
type WindowError struct {
	From, To time.Time // in the pipeline's timezone; To is not part of it
	Err      error
}

func (e *WindowError) Error() string {
	return fmt.Sprintf("%s: %v", Window{e.From, e.To}, e.Err)
}

// Unwrap returns the cause.
func (e *WindowError) Unwrap() error { return e.Err }

// WindowsError says which windows of a backfill failed. The others are kept.
type WindowsError struct {
	Failed  []*WindowError
	Untried int // left out, as nothing worked any more
	Windows int // to be read, these included
}

// shownWindows is how many failed windows an error spells out.
const shownWindows = 5

func (e *WindowsError) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "%d of %d windows failed", len(e.Failed), e.Windows)
	if e.Untried > 0 {
		fmt.Fprintf(&b, "; nothing worked any more, so %d were not tried", e.Untried)
	}
	for i, f := range e.Failed {
		if i == shownWindows {
			fmt.Fprintf(&b, "\nand %d more", len(e.Failed)-i)
			break
		}
		fmt.Fprintf(&b, "\n%v", f)
	}
	return b.String()
}

// Unwrap returns the failures.
func (e *WindowsError) Unwrap() []error {
	errs := make([]error, len(e.Failed))
	for i, f := range e.Failed {
		errs[i] = f
	}
	return errs
}

// Hint says what to do.
func (e *WindowsError) Hint() string {
	return "nothing of the range is in the tables yet; what was read is kept, and the same command reads the rest alone"
}

// LostTableError is a table that lacks packages which state knows to be
// committed there: it was moved, deleted or restored, or its disk is not
// mounted. Going on from the cursor would leave its contacts out for good.
type LostTableError struct {
	Holds     int64 // last package in the table, 0 for none
	Committed int64 // last package that state knows to be there
}

func (e *LostTableError) Error() string {
	if e.Holds == 0 {
		return fmt.Sprintf("the table is not there, and packages up to %d were committed to it", e.Committed)
	}
	return fmt.Sprintf("the table holds packages up to %d, and those up to %d were committed to it", e.Holds, e.Committed)
}

// Hint says what to do.
func (e *LostTableError) Hint() string {
	return "put the table back (is its disk mounted, is the path right?), or fill it again with `sluice run --full`; its history begins anew then"
}

// ContractError is a contract that does not fit the tables it made.
type ContractError struct {
	Pipeline string
	Faults   []string
}

func (e *ContractError) Error() string {
	return fmt.Sprintf("check contract of pipeline %s: %s", e.Pipeline, strings.Join(e.Faults, "; "))
}

// Hint says what to do.
func (e *ContractError) Hint() string {
	return "nothing was read and nothing changed. Columns are only ever added: undo the change, or give the pipeline a new name and table for the new contract"
}
