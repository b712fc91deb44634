package state

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-etl/sluice/schemas"
)

// FormatVersion is the version of the document that this build writes. It
// grows when an older build could misread a newer document.
const FormatVersion = 1

// MaxRuns is how many run records a document keeps; older ones are dropped.
const MaxRuns = 200

// MaxSaves is how many saves a document names: more than others can make while
// a process that got no answer to one of its own looks what became of it.
const MaxSaves = 64

// MaxClientIDs bounds SourceIdentity.ClientIDs, so that a source with a
// client id per contact cannot make the document grow without end.
const MaxClientIDs = 256

// Pipeline is the state document of one pipeline.
type Pipeline struct {
	// FormatVersion is set by Save; a document with a greater one is refused.
	FormatVersion int `json:"format_version"`
	// Lineage is a UUID made at the first Save and never changed: it tells
	// this history of packages from any other of the same name.
	Lineage string `json:"lineage"`
	// Serial grows by one with each Save; 0 means never saved.
	Serial   int64  `json:"serial"`
	Pipeline string `json:"pipeline"`
	// SluiceVersion is the build that saved the document, set by Save.
	SluiceVersion string `json:"sluice_version,omitempty"`
	// Saves are the ids of the last MaxSaves saves, this one's last, where the
	// document is shared by machines: a process that got no answer knows by
	// them whether its save took effect.
	Saves []string `json:"saves,omitempty"`

	// Source is the source that filled the tables. Its zero value means that
	// none has been read yet.
	Source SourceIdentity `json:"source"`
	// Cursor is the end of the contiguous final prefix of updated_at (DESIGN
	// section 3.4), to the microsecond; nil before the first full read ends.
	Cursor *time.Time `json:"cursor,omitempty"`
	// LastFull is when the last run that read everything began; nil for none.
	LastFull *time.Time `json:"last_full,omitempty"`
	// Filters is the fingerprint of the filters that the cursor was earned
	// under; empty for none.
	Filters string `json:"filters,omitempty"`
	// Contract is the hash of the contract that the last package was made by.
	Contract string `json:"contract,omitempty"`
	// HashKey is the id of the key that the last package's hashes were made
	// with; empty where its contract hashes nothing.
	HashKey string `json:"hash_key_id,omitempty"`
	// Policies are what the last package's contract stores of values where it
	// does not keep them: by field, as schemas.FieldRef prints it, and by scope
	// for those that it does not declare.
	Policies map[string]schemas.Policy `json:"policies,omitempty"`
	// LeftOut are the rules by which values were left out that the source showed
	// since the last full read began: where a contract lets them in, everything
	// has to be read again.
	LeftOut []schemas.LeftOut `json:"left_out,omitempty"`
	// Columns are those of the contract that the last package was made by: no
	// later contract may retype them or leave them out.
	Columns []Column `json:"columns,omitempty"`
	// InfoFailed are the contacts that got no answer of the info endpoint, those
	// that were asked for longest ago first.
	InfoFailed []InfoFailed `json:"info_failed,omitempty"`
	// NextPackage is the serial that the next sealed package takes; the first
	// package is 1.
	NextPackage int64 `json:"next_package"`
	// Registry holds the columns discovered so far, in the order in which
	// schemas.Registry gives them.
	Registry []schemas.RegistryEntry `json:"registry,omitempty"`
	// Destinations by name: how far each has come.
	Destinations map[string]*Destination `json:"destinations,omitempty"`
	// Claims say, where the document is shared by machines, which process
	// extracts, by kind of run; see Store.Claim.
	Claims map[string]Claimant `json:"claims,omitempty"`
	// Started are when the daemon last began a run, by kind; nil for never.
	Started map[string]time.Time `json:"started,omitempty"`
	// Runs are the last MaxRuns runs, oldest first.
	Runs []RunRecord `json:"runs,omitempty"`
	// Told are the troubles that somebody was told of and that have not been told
	// to be over, by kind, and when each began: no other process tells of it
	// again, and whichever sees its end tells that.
	Told map[string]time.Time `json:"told,omitempty"`
	// MovedTo is the name that the pipeline is being given: until that is done,
	// the document is read by nobody else. Empty otherwise.
	MovedTo string `json:"moved_to,omitempty"`
}

// Column is a contract's column as the tables have it.
type Column struct {
	Name   string       `json:"name"`
	Type   schemas.Type `json:"type"`
	Source string       `json:"source"` // as schemas.FieldRef prints it
}

// SourceIdentity says which account of which endpoint was read.
type SourceIdentity struct {
	Scheme string `json:"scheme,omitempty"` // https, http or sandbox
	Host   string `json:"host,omitempty"`   // host[:port], lower case; may be empty for sandbox
	// ClientIDs are the distinct client_id values seen in contacts, sorted, at
	// most MaxClientIDs.
	ClientIDs []string `json:"client_ids,omitempty"`
}

// Destination is where one destination stands with this pipeline.
type Destination struct {
	// Position is the serial of the last package committed there, 0 for none.
	Position int64 `json:"position"`
	// Queue holds the sealed packages not yet committed there, by serial.
	Queue []PackageRef `json:"queue,omitempty"`
	// Error is the last commit's error, empty once a commit has succeeded.
	Error string `json:"error,omitempty"`
	// FailingSince is when the present row of failures began; nil for none.
	FailingSince *time.Time `json:"failing_since,omitempty"`
	// PlainText are the columns of which history has values from before the
	// contract protected them, sorted, by the names in the tables.
	PlainText []string `json:"plain_text,omitempty"`
	// NeedsFull is when its queue was given up for being too long; nil for
	// never, or once a package of a full read is queued again.
	NeedsFull *time.Time `json:"needs_full,omitempty"`
}

// PackageRef names a sealed package.
type PackageRef struct {
	Serial   int64     `json:"serial"`
	RunID    string    `json:"run_id"`
	Rows     int64     `json:"rows"`
	Bytes    int64     `json:"bytes,omitempty"` // of its parts
	SealedAt time.Time `json:"sealed_at"`
	// Kept is what Claim.Keep called it in the bucket; empty where its files
	// are on the local disk alone.
	Kept string `json:"kept,omitempty"`
	// Memo is what the destination's loader noted while it committed the
	// package, a JSON object; nil for nothing.
	Memo json.RawMessage `json:"memo,omitempty"`
}

// RunRecord is the summary of one run.
type RunRecord struct {
	RunID        string     `json:"run_id"`
	Kind         string     `json:"kind"`   // sync, backfill, reconcile or retry
	Mode         string     `json:"mode"`   // full, incremental, recent, snapshot, backfill, reconcile or retry
	Status       string     `json:"status"` // done, failed, interrupted, or sealed: its package is made, and nobody has said more
	StartedAt    time.Time  `json:"started_at"`
	FinishedAt   *time.Time `json:"finished_at,omitempty"`
	CursorBefore *time.Time `json:"cursor_before,omitempty"`
	CursorAfter  *time.Time `json:"cursor_after,omitempty"`
	New          int64      `json:"new"`       // contacts the tables did not hold
	Changed      int64      `json:"changed"`   // contacts whose row was replaced
	Unchanged    int64      `json:"unchanged"` // contacts read again and found the same
	// Deleted counts the contacts that were marked as deleted, which Changed does
	// not; nil in a record of before, of which Changed does.
	Deleted     *int64 `json:"deleted,omitempty"`
	Requests    int64  `json:"requests"`
	Retries     int64  `json:"retries"`
	Pages       int64  `json:"pages"`
	Rows        int64  `json:"rows"` // staged
	Quarantined int64  `json:"quarantined"`
	// QuarantinedBy are the records set aside by reason; nil for none, or in a
	// record of before.
	QuarantinedBy map[string]int64 `json:"quarantined_by,omitempty"`
	Package       int64            `json:"package,omitempty"` // serial of the package it sealed, 0 for none
	Error         string           `json:"error,omitempty"`
	// Coverage is the run's coverage record, a JSON object.
	Coverage json.RawMessage `json:"coverage,omitempty"`
	// Notes are what went wrong without making the run fail.
	Notes []string `json:"notes,omitempty"`
	// Written is what its package took at each destination that has committed it
	// in this run; nil in a record of before.
	Written map[string]Written `json:"written,omitempty"`
}

// Written is what a package took at one destination.
type Written struct {
	Bytes int64 `json:"bytes"` // of the files written there, or sent
	// Scanned is what the destination's statements read, as it bills for, in
	// bytes; 0 where it does not tell.
	Scanned int64 `json:"scanned,omitempty"`
}

// New returns the state of a pipeline that has never run. Its serial is 0 and
// it has no lineage until it is saved.
func New(pipeline string) *Pipeline {
	return &Pipeline{
		FormatVersion: FormatVersion,
		Pipeline:      pipeline,
		NextPackage:   1,
		Destinations:  map[string]*Destination{},
	}
}

// Destination returns the entry of the destination called name, making an
// empty one where there is none.
func (p *Pipeline) Destination(name string) *Destination {
	if p.Destinations == nil {
		p.Destinations = map[string]*Destination{}
	}
	d := p.Destinations[name]
	if d == nil {
		d = &Destination{}
		p.Destinations[name] = d
	}
	return d
}

// RecordRun appends r, or replaces the record with the same run id, and drops
// the oldest beyond MaxRuns.
func (p *Pipeline) RecordRun(r RunRecord) {
	if i := slices.IndexFunc(p.Runs, func(o RunRecord) bool { return o.RunID == r.RunID }); i >= 0 {
		p.Runs[i] = r
		return
	}
	p.Runs = append(p.Runs, r)
	if extra := len(p.Runs) - MaxRuns; extra > 0 {
		p.Runs = slices.Delete(p.Runs, 0, extra)
	}
}

// Counts are what a commit did, in contacts.
type Counts struct{ New, Changed, Unchanged, Deleted int64 }

// FinishSealed completes the record of a run that ended, killed it may be,
// between making its package and committing it: another run has committed it
// at now, with these counts of contacts. Other records stay as they are.
func (p *Pipeline) FinishSealed(runID string, now time.Time, c Counts) {
	i := slices.IndexFunc(p.Runs, func(o RunRecord) bool { return o.RunID == runID && o.Status == "sealed" })
	if i < 0 {
		return
	}
	now = now.UTC()
	r := &p.Runs[i]
	r.Status, r.FinishedAt = "done", &now
	r.New, r.Changed, r.Unchanged, r.Deleted = c.New, c.Changed, c.Unchanged, &c.Deleted
}

// NoteTold notes that somebody was told of a trouble, which began at since; a
// zero since that they were told of its end.
func (p *Pipeline) NoteTold(trouble string, since time.Time) {
	if since.IsZero() {
		delete(p.Told, trouble)
		return
	}
	if p.Told == nil {
		p.Told = map[string]time.Time{}
	}
	p.Told[trouble] = since.UTC()
}

// Enqueue adds a sealed package to the queue of every named destination and
// moves NextPackage past it. The package's serial must be NextPackage.
func (p *Pipeline) Enqueue(ref PackageRef, destinations ...string) error {
	if ref.Serial != p.NextPackage {
		return fmt.Errorf("enqueue package %d: the next package of %s is %d", ref.Serial, p.Pipeline, p.NextPackage)
	}
	for _, name := range destinations {
		d := p.Destination(name)
		d.Queue = append(d.Queue, ref)
	}
	p.NextPackage++
	return nil
}

// Committed records that the destination called name has taken every package
// up to serial, and clears its error.
func (p *Pipeline) Committed(name string, serial int64) {
	d := p.Destination(name)
	d.Position = max(d.Position, serial)
	d.Queue = slices.DeleteFunc(d.Queue, func(r PackageRef) bool { return r.Serial <= serial })
	d.Error, d.FailingSince = "", nil
}

// GiveUp forgets what the destination called name has not committed: it needs
// a full read. It returns what was queued.
func (p *Pipeline) GiveUp(name string, now time.Time) []PackageRef {
	d := p.Destination(name)
	queued := d.Queue
	now = now.UTC()
	d.Queue, d.NeedsFull = nil, &now
	return queued
}

// Failed records that a commit to the destination called name failed at now.
func (p *Pipeline) Failed(name string, now time.Time, err error) {
	d := p.Destination(name)
	d.Error = err.Error()
	if d.FailingSince == nil {
		now = now.UTC()
		d.FailingSince = &now
	}
}

// Wanted reports whether some destination still has to take the package: its
// parts may not be removed.
func (p *Pipeline) Wanted(serial int64) bool {
	for _, d := range p.Destinations {
		if slices.ContainsFunc(d.Queue, func(r PackageRef) bool { return r.Serial == serial }) {
			return true
		}
	}
	return false
}
