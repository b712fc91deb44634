package plan

import (
	"slices"
	"time"
)

// Sync is what the next run of a pipeline would read and write, as far as it
// is known beforehand.
type Sync struct {
	Pipeline string `json:"pipeline"`
	Mode     string `json:"mode"`   // full, incremental, recent or snapshot
	Reason   string `json:"reason"` // why it reads that
	// Since is where an incremental run reads from; nil for the others.
	Since *time.Time `json:"since,omitempty"`
	// PlainText are the columns that the contract protects from this run on; what
	// was stored of them before stays as plain text.
	PlainText []string `json:"plain_text,omitempty"`
	// Counted says that the source was asked how much there is; if it could not
	// be, CountError says why. Without it the numbers below are 0.
	Counted    bool   `json:"counted"`
	CountError string `json:"count_error,omitempty"`
	// At is when it was asked, Asked the requests that this took.
	At    *time.Time `json:"at,omitempty"`
	Asked int64      `json:"asked,omitempty"`
	// Contacts are those to read; Reread those of them that an earlier run has
	// read, and that are read again because changes may become visible late.
	// Exact says that nothing of it was guessed and nothing moved meanwhile.
	Contacts int64 `json:"contacts"`
	Reread   int64 `json:"reread"`
	Exact    bool  `json:"exact"`
	// Pages are the requests of the walk, Requests all, Duration about how long
	// they take at the source's rate.
	Pages    int64         `json:"pages"`
	Requests int64         `json:"requests"`
	Duration time.Duration `json:"duration_ns"`
	// Kept are rows that an unfinished run has read already.
	Kept int64 `json:"kept,omitempty"`
	// Limit says which limit of the pipeline stops the run before its end; empty
	// for none.
	Limit string `json:"limit,omitempty"`
	// Stops say which destinations the run cannot go on with, and what helps.
	Stops        []string          `json:"stops,omitempty"`
	Destinations []SyncDestination `json:"destinations"`
}

// SyncDestination is what a run writes to one destination.
type SyncDestination struct {
	Name string `json:"name"`
	// Seeded says that it is filled by a full read: it is new, or has given up
	// what waited for it.
	Seeded bool `json:"seeded,omitempty"`
	// Waiting are packages of earlier runs that it takes first.
	Waiting int `json:"waiting,omitempty"`
	// Bytes are about what is written, Scanned about what BigQuery bills for, by
	// the packages of past runs; 0 where there were none. Price is that of
	// Scanned, in the currency that the rate was given in.
	Bytes   int64   `json:"bytes,omitempty"`
	Scanned int64   `json:"scanned,omitempty"`
	Price   float64 `json:"price,omitempty"`
}

// syncs returns those that the targets name.
func syncs(in Input) []Sync {
	if len(in.Targets) == 0 {
		return in.Syncs
	}
	return slices.DeleteFunc(slices.Clone(in.Syncs), func(s Sync) bool {
		return !slices.ContainsFunc(in.Targets, func(t string) bool { return Covers(t, PipelineAddress(s.Pipeline)) })
	})
}
