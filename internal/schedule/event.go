package schedule

import "time"

// Trigger says why a job is run.
type Trigger string

// The triggers.
const (
	Timed   Trigger = "schedule" // its time has come
	CatchUp Trigger = "catch-up" // its time came while nothing was there to run it
	Retry   Trigger = "retry"    // it failed before
	Manual  Trigger = "manual"   // somebody asked for it
)

// EventType says what has happened to a job.
type EventType string

// The types, in the order in which a job meets them.
const (
	Next   EventType = "next"   // At is when it runs next, jitter included
	Missed EventType = "missed" // At, the first of Times, passed while no scheduler was there; it is run once now
	// Skipped: Times have passed while it was running, or without being made up for.
	// With Err it had begun, and stood back as another process is at it.
	Skipped  EventType = "skipped"
	Queued   EventType = "queued"   // a time, At, has passed while it was running: it runs again after
	Waiting  EventType = "waiting"  // as many jobs are running as may at once
	Started  EventType = "started"  // for the Attempt-th time
	Finished EventType = "finished" // after Took
	Failed   EventType = "failed"   // with Err, after Took
	// Retrying and GivenUp follow on Failed, and on Skipped with Err, one of them, unless the scheduler is
	// stopping.
	Retrying EventType = "retrying" // it is run again At, for the last time at Until
	GivenUp  EventType = "given_up" // Err is not retried any more: for good, or because Until has come
)

// Event is one thing that has happened to a job.
type Event struct {
	Type EventType
	Time time.Time
	// Name and Kind are those of the Entry.
	Name, Kind string
	Trigger    Trigger
	At, Until  time.Time
	Attempt    int // from 1
	Times      int // 10000 stands for that and more
	Took       time.Duration
	Err        error
}
