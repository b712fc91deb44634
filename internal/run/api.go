// Package run is the engine: the one place where extract, transform, load and
// state meet. It stages pages as Parquet parts with a journal, seals them as a
// package, moves the cursor, and commits the package to every destination.
package run

import (
	"encoding/json"
	"log/slog"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

// Job is one pipeline, resolved: what to read, how, and where it goes.
type Job struct {
	Pipeline string
	Source   extract.Source
	// Identity is the source's scheme and host; state refuses another one, and
	// other client ids.
	Identity state.SourceIdentity
	Contract *schemas.Contract
	// HashKey is the key of the contract's policies hash; nil where it has none.
	HashKey *schemas.HashKey
	// Lookback is how long after its updated_at a change may become visible.
	Lookback time.Duration
	// FullEvery makes a run read everything again when the last run that did
	// began longer ago. 0: only when asked.
	FullEvery time.Duration
	// FullSlack is how much earlier than FullEvery a run may do so, at most a
	// quarter of it: runs of a schedule do not begin at the same moment of each
	// day, and a week after the last full read means seven nights.
	FullSlack time.Duration
	PageSize  int // rows a request, 1 to 1000
	// Sync is how the pipeline reads; empty is SyncIncremental.
	Sync SyncMode
	// Days is the window of SyncRecent: contacts whose last message is within
	// so many days, 1 to 365. 0 for the other modes.
	Days int
	// DaysAlone says that the source does not combine `days` with other
	// parameters: SyncRecent then pages `days` by itself, newest message first.
	DaysAlone bool
	// Filters keep only contacts that match, on our side: column name to
	// allowed values (platform, chat_status, blocked).
	Filters map[string][]string
	// Stages and Pipelines keep contacts whose active ticket stands in one of
	// these stages (UUIDs), and in a stage of one of these pipelines. Field
	// keeps those with a value in a custom field. SyncSnapshot has the source
	// filter by them, and takes one value of each at most; the other modes
	// filter on our side, where leaving is seen.
	Stages, Pipelines []string
	Field             *transform.FieldFilter
	// Enrich has every contact that is new or changed asked for at the info
	// endpoint, one request each, and stored with what that tells besides.
	Enrich bool
	// KeepStages has the destinations keep a table of the source's stages, where
	// they can (load.StageKeeper).
	KeepStages bool
	Full       bool // read everything again
	// Frozen lets no table change: a run that finds new columns fails with a
	// *FrozenError before anything is committed.
	Frozen bool
	Verify load.Verify
	// Quarantine says what becomes of records that cannot be rows.
	Quarantine Quarantine
	// Destinations in configured order; each Loader is opened and closed by the caller.
	Destinations []Destination
}

// SyncMode says what a sync reads.
type SyncMode string

// The modes. Recent and snapshot read all they ask for on every run; a contact
// of the table that the source no longer shows among them is marked as gone.
const (
	SyncIncremental SyncMode = "incremental" // everything once, then what changed
	SyncRecent      SyncMode = "recent"      // contacts with a message within Job.Days
	SyncSnapshot    SyncMode = "snapshot"    // everything that the source's filters let through
)

// Reconciliation is how Engine.Reconcile looks for deleted contacts.
type Reconciliation struct {
	// MaxShare is the largest share of the table's live contacts that may be
	// missing at the source, above 0 and up to 1: more is taken for a fault of
	// the source, and nothing is marked. 0: 0.01.
	MaxShare float64
	// MaxProbes is the most contacts asked for one by one in a run, at least 1;
	// those beyond it are left to the next run. 0: 1000.
	MaxProbes int
	// DryRun marks nothing.
	DryRun bool
}

// Reconciled is what a reconciliation found, in contacts.
type Reconciled struct {
	Live       int64 `json:"live"`        // of the table when it began
	Walked     int64 `json:"walked"`      // that the source showed
	Missing    int64 `json:"missing"`     // of Live, that it did not show
	Gone       int64 `json:"gone"`        // of Missing, that it has no more: marked as deleted
	Unlisted   int64 `json:"unlisted"`    // of Missing, that it still has when asked for by id: left as they are
	Unasked    int64 `json:"unasked"`     // of Missing, beyond MaxProbes: left to the next run
	Returned   int64 `json:"returned"`    // marked as deleted in the table, and there again
	MaxMissing int64 `json:"max_missing"` // what MaxShare allows
	DryRun     bool  `json:"dry_run"`
}

// Destination is a named loader.
type Destination struct {
	Name   string
	Loader load.Loader
	// QueueBytes and QueueAge bound what waits for a destination that fails:
	// beyond either, its packages are given up, and it is filled by a full read
	// once it can take the table again. Bytes of parts, and the time since the
	// oldest of them was sealed. Zero means 10 GiB and 30 days.
	QueueBytes int64
	QueueAge   time.Duration
}

// Engine runs jobs against one state store.
type Engine struct {
	Store *state.Store
	Clock clock.Clock
	Log   *slog.Logger
	// Observe receives progress, from one goroutine at a time; nil for none.
	Observe func(Event)
	// SealRows and SealAfter bound how much a kill refetches: a part is sealed
	// once it has that many rows, or is that old when a page arrives. Zero
	// means 131072 rows and 60 s.
	SealRows  int
	SealAfter time.Duration
	// Disk is what run directories and quarantine are written to. The loaders
	// and the store have their own. nil: the operating system's.
	Disk atomicfile.Disk
}

// Event is one step of a run, as `--json` prints it, one object a line.
type Event struct {
	Type     string    `json:"type"` // run_started, backfill_kept, progress, part_sealed, window_failed, package_sealed, committed, commit_failed, stages_replaced, note (of Reason), plain_text_stays, run_finished
	Time     time.Time `json:"time"`
	RunID    string    `json:"run_id"`
	Pipeline string    `json:"pipeline"`

	Mode     string    `json:"mode,omitempty"`  // full, incremental, recent, snapshot, backfill, reconcile or retry
	Phase    string    `json:"phase,omitempty"` // scan (by created_at), changes (by updated_at), recent (by last_message_at), backfill, walk (of ids), confirm (one by one), info (of contacts without an answer before) or retry (of records set aside)
	Reason   string    `json:"reason,omitempty"`
	Contacts int64     `json:"contacts,omitempty"` // rows staged so far
	Asked    *Enriched `json:"asked,omitempty"`    // progress only, of enrich: info: asked for so far
	Pages    int64     `json:"pages,omitempty"`
	Mark     string    `json:"mark,omitempty"` // RFC 3339: how far the walk has come
	Goal     string    `json:"goal,omitempty"` // RFC 3339: where this phase ends

	Window *Window `json:"window,omitempty"` // window_failed only
	Dir    string  `json:"dir,omitempty"`    // backfill_kept only: of the unfinished backfill, whose range is Reason

	Destination string       `json:"destination,omitempty"`
	Package     int64        `json:"package,omitempty"`
	Result      *load.Result `json:"result,omitempty"`
	Error       string       `json:"error,omitempty"`
	// Written is what the package took at the destination, as the run's record has
	// it; committed only.
	Written *state.Written `json:"-"`

	Plain *PlainText `json:"plain,omitempty"` // plain_text_stays only

	*Summary // run_finished only
}

// Summary is the end of a run. Its fields are the contract of DESIGN section 1.
type Summary struct {
	Status      string   `json:"status"` // done, failed, interrupted
	New         int64    `json:"new"`
	Changed     int64    `json:"changed"`
	Unchanged   int64    `json:"unchanged"`
	Deleted     int64    `json:"deleted"`             // marked as deleted, and not among those changed
	Moved       int64    `json:"moved,omitempty"`     // as load.Result has it
	MovedIDs    []string `json:"moved_ids,omitempty"` // a few of them
	Requests    int64    `json:"requests"`
	Retries     int64    `json:"retries"`
	Quarantined int64    `json:"quarantined"`
	// QuarantinedBy are the records set aside by reason; nil for none.
	QuarantinedBy map[string]int64 `json:"quarantined_by,omitempty"`
	Enriched      *Enriched        `json:"enriched,omitempty"` // of enrich: info
	// InfoFailed are the contacts that wait for an answer of the info endpoint, and
	// that the next run asks for; InfoFailedIDs names a few.
	InfoFailed    int64    `json:"info_failed,omitempty"`
	InfoFailedIDs []string `json:"info_failed_ids,omitempty"`
	Cursor        string   `json:"cursor"` // RFC 3339, empty while there is none
	DurationMS    int64    `json:"duration_ms"`
	Files         int      `json:"files"`
	// Misfits are the values that stand as text beside their column, by column;
	// Discarded those that the contract left out, by field.
	Misfits    map[string]int64 `json:"misfits,omitempty"`
	Discarded  map[string]int64 `json:"discarded,omitempty"`
	Coverage   json.RawMessage  `json:"coverage,omitempty"`
	Notes      []string         `json:"notes,omitempty"`      // what went wrong without making the run fail
	Reconciled *Reconciled      `json:"reconciled,omitempty"` // of a reconciliation only
	// PlainText is what stays as it was after the contract began to protect it.
	PlainText *PlainText `json:"plain_text,omitempty"`
	Retried   *Retried   `json:"retried,omitempty"` // of a retry only
}
