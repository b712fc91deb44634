package run

import (
	"fmt"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/internal/state"
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
	GivenUp     int // packages that waited for too long and are given up
	Err         error
}

func (e *DestinationError) Error() string {
	if e.GivenUp > 0 {
		return fmt.Sprintf("commit to destination %q: %v (%s for too long and %s given up)", e.Destination, e.Err,
			packages(e.GivenUp, "waited", "waited"), either(e.GivenUp, "is", "are"))
	}
	if e.Queued == 0 {
		return fmt.Sprintf("open destination %q: %v", e.Destination, e.Err)
	}
	return fmt.Sprintf("commit to destination %q: %v (%s queued)", e.Destination, e.Err, packages(e.Queued, "stays", "stay"))
}

// packages says what n packages do.
func packages(n int, one, many string) string {
	return fmt.Sprintf("%d %s %s", n, either(n, "package", "packages"), either(n, one, many))
}

func either(n int, one, many string) string {
	if n == 1 {
		return one
	}
	return many
}

// Unwrap returns the cause.
func (e *DestinationError) Unwrap() error { return e.Err }

// DestinationsError collects every destination that failed; the others are
// done. Its hint is for those that have packages waiting; what the causes hint
// at stands beside it.
type DestinationsError struct {
	Failed []*DestinationError
	// Alone says that no other destination could take anything either, so that
	// nothing was read.
	Alone bool
}

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

// orNil is nil where nothing failed.
func (e *DestinationsError) orNil() error {
	if len(e.Failed) == 0 {
		return nil
	}
	return e
}

// Hint says what to do.
func (e *DestinationsError) Hint() string {
	queued := false
	for _, f := range e.Failed {
		if f.GivenUp > 0 {
			return "mend the destination and run again: everything is read once more then, to fill it"
		}
		queued = queued || f.Queued > 0
	}
	switch {
	case e.Alone:
		return "nothing was read and nothing changed; mend the destination and run again"
	case queued:
		return "what was extracted is safe and queued; mend the destination and run again"
	default:
		return "the other destinations are up to date; mend the destination and run again"
	}
}

// InterruptedError says that a run was stopped and can go on.
type InterruptedError struct {
	RunID  string
	Staged int64 // contacts that the next run need not fetch again
	// Anew says that nothing is kept: the next run begins from the start.
	Anew bool
	Err  error
}

func (e *InterruptedError) Error() string {
	if e.Anew {
		return fmt.Sprintf("run %s was interrupted", e.RunID)
	}
	return fmt.Sprintf("run %s was interrupted with %d contacts staged", e.RunID, e.Staged)
}

// Unwrap returns the cause.
func (e *InterruptedError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *InterruptedError) Hint() string {
	if e.Anew {
		return "nothing was marked; the same command begins anew"
	}
	return "run the same command again: it goes on from there"
}

// LostPartError is a staged part that the journal names and the disk does not
// hold as it was written.
type LostPartError struct {
	Path string
	// Waiting is the address in state of the destination whose queue names the
	// part; empty for a part of an unfinished run.
	Waiting string
	Err     error
}

func (e *LostPartError) Error() string {
	return fmt.Sprintf("check staged part %s: %v", e.Path, e.Err)
}

// Unwrap returns the cause.
func (e *LostPartError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *LostPartError) Hint() string {
	if e.Waiting != "" {
		// A full read does not help: the queue is offered in its order.
		return fmt.Sprintf("something removed or changed what waits there, or state was restored from before it was committed. Put it back, or give up what waits with `sluice state rm '%s' --force`: the next run reads everything and fills the destination", e.Waiting)
	}
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

// MixedRunError is a run that was begun under one account's key and resumed
// under another's. What it had read is kept.
type MixedRunError struct {
	Dir          string
	Begun, Found []string // client ids
}

func (e *MixedRunError) Error() string {
	return fmt.Sprintf("go on with an unfinished run: its contacts belong to client_id %s, those of the source now to %s",
		strings.Join(e.Begun, ", "), strings.Join(e.Found, ", "))
}

// Hint says what to do.
func (e *MixedRunError) Hint() string {
	return fmt.Sprintf("give the key that the run was begun with, or, if that was the wrong one, remove %s to begin anew", e.Dir)
}

// NoListingError says that no destination can tell which contacts its table
// holds, as none of them has taken every package.
type NoListingError struct{ Pipeline string }

func (e *NoListingError) Error() string {
	return fmt.Sprintf("no destination of pipeline %s is up to date and can list its contacts", e.Pipeline)
}

// Hint says what to do.
func (e *NoListingError) Hint() string {
	return "one destination at least has to have taken every package; mend it and run again"
}

// NotReadyError refuses a backfill, or a reconciliation, of tables that lack
// rows which only a full read brings.
type NotReadyError struct{ Pipeline, Kind, Reason string }

func (e *NotReadyError) Error() string {
	return fmt.Sprintf("%s pipeline %s: it has to read everything first (%s)", e.Kind, e.Pipeline, e.Reason)
}

// Hint says what to do.
func (e *NotReadyError) Hint() string {
	if e.Kind == kindBackfill {
		return fmt.Sprintf("run `sluice run %s`: it reads the range as well, with all the rest", state.Typed(e.Pipeline))
	}
	return fmt.Sprintf("run `sluice run %s` first", state.Typed(e.Pipeline))
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
	return "nothing was read and nothing changed. Columns are only ever added: undo the change, or give the pipeline a new name and table for the new contract. A column that is no longer wanted is listed under exclude: it stays in the table, null from then on"
}

// NoPipelineError is a filter by a pipeline that the account does not have.
type NoPipelineError struct {
	ID    string
	Known []string // "ID (name)" of those that it has
}

func (e *NoPipelineError) Error() string {
	return fmt.Sprintf("filter by pipeline_id: the account has no pipeline %s", e.ID)
}

// Hint says what to do.
func (e *NoPipelineError) Hint() string {
	if len(e.Known) == 0 {
		return "it has none at all; leave the filter out"
	}
	return "it has " + strings.Join(e.Known, ", ")
}

// NoStageError is a filter by pipelines, and stages, that no contact can pass.
type NoStageError struct{ Pipelines, Stages []string }

func (e *NoStageError) Error() string {
	if len(e.Stages) == 0 {
		return fmt.Sprintf("filter by pipeline_id: %s has no stage, so no contact would pass", strings.Join(e.Pipelines, ", "))
	}
	return fmt.Sprintf("filter by pipeline_id and stage_id: no stage of %s is among %s, so no contact would pass", strings.Join(e.Pipelines, ", "), strings.Join(e.Stages, ", "))
}

// Hint says what to do.
func (e *NoStageError) Hint() string {
	return "both filters have to hold; leave one of them out, or name a stage of that pipeline"
}

// SnapshotError refuses to reconcile a pipeline whose every run does so, and
// whose table holds what the source's filters let through alone.
type SnapshotError struct{ Pipeline string }

func (e *SnapshotError) Error() string {
	return fmt.Sprintf("reconcile pipeline %s: it is a snapshot", e.Pipeline)
}

// Hint says what to do.
func (e *SnapshotError) Hint() string {
	return "each of its runs marks the contacts that the source no longer shows; there is nothing to reconcile"
}

// MissingShareError is a source that lacks so many of the table's contacts
// that a fault of it is likelier than their deletion. Nothing was marked.
type MissingShareError struct {
	Found    Reconciled
	MaxShare float64 // 0 to 1
}

func (e *MissingShareError) Error() string {
	return fmt.Sprintf("reconcile: the source lacks %d of the %d contacts of the table (%.2f%%), more than the %.4g%% that may be missing",
		e.Found.Missing, e.Found.Live, 100*float64(e.Found.Missing)/float64(e.Found.Live), 100*e.MaxShare)
}

// Hint says what to do.
func (e *MissingShareError) Hint() string {
	if e.Found.MaxMissing == 0 {
		return fmt.Sprintf("nothing was marked. In a table of %d contacts that share is less than one: allow more with --max-share, as in --max-share 10%%", e.Found.Live)
	}
	return "nothing was marked. Look at the source: is the key that of the same account, does it list everything? If so many contacts were deleted, allow it for this once with --max-share"
}

// NoInfoError is a source that does not give contacts by id which it lists, so
// that its not giving others says nothing.
type NoInfoError struct{ IDs []string }

func (e *NoInfoError) Error() string {
	if len(e.IDs) == 0 {
		return "reconcile: the table holds no contact that the source lists, to try the info endpoint with"
	}
	return fmt.Sprintf("reconcile: the info endpoint knows none of the contacts %s, which the source lists", strings.Join(e.IDs, ", "))
}

// Hint says what to do.
func (e *NoInfoError) Hint() string {
	return "nothing was marked, as deletions cannot be told from faults this way; `sluice doctor` shows what the endpoint answers"
}

// LeftShareError is a run that reads all it asks for and did not meet so many
// of the table's contacts that a fault of the source is likelier. What was read
// is kept, and nothing was marked.
type LeftShareError struct {
	Pipeline   string
	Left, Live int64
}

func (e *LeftShareError) Error() string {
	return fmt.Sprintf("the source no longer shows %d of the %d contacts of the table, more than half", e.Left, e.Live)
}

// Hint says what to do.
func (e *LeftShareError) Hint() string {
	return fmt.Sprintf("nothing was marked. Look at the source: is the key that of the same account, does the filter still mean the same? If so many have left, say so with `sluice run %s --full`", state.Typed(e.Pipeline))
}

// NobodyPassesError is a full read of which no contact passes the filters:
// more often a misspelt value than an account without such contacts.
type NobodyPassesError struct {
	Pipeline string
	Read     int64
}

func (e *NobodyPassesError) Error() string {
	return fmt.Sprintf("none of the %d contacts read passes the filters", e.Read)
}

// Hint says what to do.
func (e *NobodyPassesError) Hint() string {
	return fmt.Sprintf("nothing was written. Check how the values are spelt (`sluice preview %s` shows a page), and whether list rows show the custom field at all (`sluice doctor`); if an empty table is what you want, say so with `sluice run %s --full`", state.Typed(e.Pipeline), state.Typed(e.Pipeline))
}

// DaysAloneError refuses a backfill of recent contacts from a source that does
// not combine `days` with a range of time.
type DaysAloneError struct{ Pipeline string }

func (e *DaysAloneError) Error() string {
	return fmt.Sprintf("backfill pipeline %s: its source does not combine `days` with a range of time", e.Pipeline)
}

// Hint says what to do.
func (e *DaysAloneError) Hint() string {
	return "each of its runs reads all of the window anyway; for contacts outside it use a pipeline with sync: incremental"
}

// DaysOrderError is a source that does not combine `days` with the parameter
// that a walk goes along.
type DaysOrderError struct{ Err error }

func (e *DaysOrderError) Error() string { return e.Err.Error() }

// Unwrap returns the cause.
func (e *DaysOrderError) Unwrap() error { return e.Err }

// Hint says what to do.
func (e *DaysOrderError) Hint() string {
	return "the source may not combine `days` with other parameters: see what `sluice doctor` says, and set combine_filters: false at the source"
}
