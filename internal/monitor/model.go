// Package monitor knows what the pipelines of a daemon are doing, what comes next
// and what has been: the page, the metrics and the notices all tell what it knows.
//
// What has been comes from state, where every process leaves it; what runs now
// from the events of the engine, and what comes next from those of the scheduler.
package monitor

import (
	"time"

	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/schedule"
	"github.com/sluice-etl/sluice/internal/state"
)

// Pipeline is what configuration says of one pipeline.
type Pipeline struct {
	Name, Source, Table, Sync string
	// Schedule and Reconcile are when it runs and is reconciled, as the file has
	// them; empty for never.
	Schedule, Reconcile string
	Location            *time.Location
	Destinations        []Destination
	// Freshness is how old its data may become; 0: nobody has said.
	Freshness time.Duration
}

// Destination is what configuration says of one destination of a pipeline.
type Destination struct {
	Name, Type string
	Place      string // where the table stands, for people
}

// Health says in a word how a pipeline is.
type Health string

// The healths, the worst last.
const (
	Healthy Health = "ok"      // its last run is done
	Never   Health = "never"   // it has not been run yet
	Late    Health = "late"    // its data is older than it may be
	Failing Health = "failing" // its last run failed
	Unknown Health = "unknown" // its state cannot be read
)

// Snapshot is how everything is at one moment.
type Snapshot struct {
	At        time.Time
	Since     time.Time // when the daemon began
	Pipelines []Status  // in the order of the file
}

// Status is how one pipeline is at one moment.
type Status struct {
	Pipeline
	Health Health
	// Next and NextReconcile are when it runs by itself; zero for never.
	Next, NextReconcile time.Time
	Live                []Live // what runs now, or waits for its turn; the one that began first before others
	// Retry is the failed sync that is going to be repeated; nil for none.
	Retry *Repeat
	// Undecided says that the last sync failed and the scheduler has not told yet
	// whether it is repeated.
	Undecided bool
	// Failures are the jobs of this process that failed and that none of their
	// kind has followed which is done, syncs first: state has no record of those
	// that failed before they read anything.
	Failures []Failure
	// Skips are the jobs that stood back last, as another process was at them, of
	// each kind one: they say nothing of how the pipeline is.
	Skips []Failure
	// Last is the last sync that has ended, nil for none.
	Last *state.RunRecord
	// Runs are the runs that state remembers, oldest first.
	Runs []state.RunRecord
	// FreshAt is when the last sync that is done began: the table holds what the
	// source showed then. Zero where none is done.
	FreshAt time.Time
	// Age is the time since FreshAt, or since the daemon began where that is zero;
	// Late says that it is above Freshness.
	Age    time.Duration
	Late   bool
	Cursor *time.Time
	Queues []Queue // as Destinations
	// Told are the troubles that somebody was told of, as state has them.
	Told map[string]time.Time
	// Columns that the registry knows, in the order in which they were found.
	Fields []Field
	// Err says why state could not be read: then the rest is as it was known
	// last, at ReadAt; zero: never.
	Err    error
	ReadAt time.Time
}

// Live is a job that runs, or waits for its turn.
type Live struct {
	Pipeline string
	Kind     string // sync, reconcile or backfill
	Trigger  schedule.Trigger
	Attempt  int       // from 1
	Since    time.Time // when it began; where Waiting, to wait
	Waiting  bool
	// What follows is empty before the engine has begun.
	RunID, Mode, Phase string
	Contacts, Pages    int64
	// Mark and Goal are how far the phase has come and where it ends, as RFC 3339;
	// Share is how much of it that is, from 0 to 1, and negative where unknown.
	Mark, Goal string
	Share      float64
	Committed  []string // destinations, in order
	Failed     []string // destinations

	first string // mark of the phase
}

// Repeat is a failed run that is going to be repeated.
type Repeat struct {
	Attempt   int // that failed, from 1
	At, Until time.Time
	Err       string
}

// Failure is a job of this process that failed.
type Failure struct {
	Kind    string // sync, reconcile or backfill
	RunID   string // empty where it failed before the engine began
	Trigger schedule.Trigger
	Attempt int // from 1
	At      time.Time
	Err     string
	Hints   []string // what to do about it
	// Approval says that it waits for somebody to approve changes of tables, and
	// for nothing else.
	Approval bool
}

// Queue is what waits for one destination.
type Queue struct {
	Destination
	Position     int64 // serial of the last package committed there
	Packages     int
	Rows, Bytes  int64
	Oldest       time.Time // when the first of them was sealed; zero for none
	Error        string    // of the last commit; empty once one has succeeded
	FailingSince time.Time // zero for not at all
	NeedsFull    bool      // its queue was given up: a full read fills it
}

// Field is a column that was found in the source's answers.
type Field struct {
	Source, Column, Type string
	FirstRun             string
	FirstSeen, LastSeen  time.Time // zero where not noted
}

// Line is one line of a run's log.
type Line struct {
	Time time.Time
	// Event is what the engine said. Progress is in it now and then.
	Event run.Event
}
