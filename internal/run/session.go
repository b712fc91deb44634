package run

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sort"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/schemas"
)

// The modes of a run and the phases of its walk.
const (
	modeFull        = "full"        // everything by created_at, then the changes since it began
	modeIncremental = "incremental" // the changes since the cursor
	modeBackfill    = "backfill"    // a range of time, once more
	modeReconcile   = "reconcile"   // what the source no longer has
	modeRetry       = "retry"       // records that were set aside
	phaseScan       = "scan"
	phaseChanges    = "changes"
	phaseRecent     = "recent"  // by last_message_at, where the source does not combine filters
	phaseMissing    = "missing" // contacts of the table that were not among those read
	phaseWalk       = "walk"    // of all ids
	phaseConfirm    = "confirm" // of single contacts
	phaseBackfill   = "backfill"
	phaseRetry      = "retry" // of records set aside
	phaseInfo       = "info"  // of contacts that got no answer before
)

// session is one run's staging area: its directory, its journal, and what the
// journal says has been done.
type session struct {
	start   startRecord
	disk    atomicfile.Disk
	dir     string
	journal *journal
	parts   []partRecord
	phases  map[string]phaseRecord
	resumed bool

	// For the coverage record.
	digest     *digest
	reconciled *Reconciled
}

// phases returns the phases in the order in which a run has them.
func phases() []string {
	return []string{phaseScan, phaseChanges, phaseRecent, phaseMissing, phaseBackfill, phaseWalk, phaseConfirm, phaseRetry}
}

// newRunID names a run so that names sort by time, and all but those of a sync
// end with their kind.
func newRunID(now time.Time, kind string) (string, error) {
	var random [3]byte
	if _, err := rand.Read(random[:]); err != nil {
		return "", fmt.Errorf("name run: %w", err)
	}
	id := now.UTC().Format("20060102T150405Z") + "-" + hex.EncodeToString(random[:])
	if kind != kindSync {
		id += "-" + kind
	}
	return id, nil
}

// kindOf returns the kind of run that an id names.
func kindOf(runID string) string {
	if parts := strings.SplitN(runID, "-", 3); len(parts) == 3 {
		return parts[2]
	}
	return kindSync
}

// newSession creates a run's directory and journal.
func newSession(disk atomicfile.Disk, dir string, start startRecord) (*session, error) {
	if err := atomicfile.MakeDirs(disk, dir, 0o700); err != nil {
		return nil, fmt.Errorf("create run directory: %w", err)
	}
	start.Format = journalFormat
	j, err := createJournal(disk, dir, start)
	if err != nil {
		return nil, err
	}
	return &session{start: start, disk: disk, dir: dir, journal: j, phases: map[string]phaseRecord{}}, nil
}

// numbers returns the highest number that a part has.
func (s *session) numbers() int {
	highest := 0
	for _, p := range s.parts {
		var n int
		if _, err := fmt.Sscanf(p.File, "part-%d.parquet", &n); err == nil {
			highest = max(highest, n)
		}
	}
	return max(highest, len(s.parts))
}

// leftover is what the directory of an earlier run of a pipeline holds.
type leftover struct {
	disk    atomicfile.Disk
	dir     string
	records []record
	whole   int64
}

func (l leftover) start() *startRecord { return l.records[0].Start }

// serial returns the number of the package that the run sealed, 0 for none.
func (l leftover) serial() int64 {
	for _, r := range slices.Backward(l.records) {
		if r.Sealed != nil {
			return r.Sealed.Serial
		}
	}
	return 0
}

// leftovers returns the run directories of a pipeline's runs of one kind,
// oldest first. A directory whose journal holds no whole record is the trace
// of a run that died before it fetched anything; it is removed. The caller
// holds the pipeline's lock for that kind.
func leftovers(disk atomicfile.Disk, runsDir, pipeline, kind string) ([]leftover, error) {
	names, err := runDirs(runsDir, pipeline)
	if err != nil {
		return nil, err
	}
	var found []leftover
	for _, name := range names {
		if kindOf(runIDOf(name)) != kind {
			continue
		}
		dir := filepath.Join(runsDir, name)
		records, whole, err := readJournal(dir)
		if err != nil {
			return nil, err
		}
		if len(records) == 0 {
			if err := disk.RemoveAll(dir); err != nil {
				return nil, fmt.Errorf("remove empty run directory: %w", err)
			}
			continue
		}
		found = append(found, leftover{disk: disk, dir: dir, records: records, whole: whole})
	}
	return found, nil
}

// runDirs returns the names of a pipeline's run directories, oldest first.
func runDirs(runsDir, pipeline string) ([]string, error) {
	entries, err := os.ReadDir(runsDir) // sorted
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return nil, fmt.Errorf("list runs: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && pipelineOf(e.Name()) == state.FileName(pipeline) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// A run's directory is named PIPELINE.RUN-ID, so that one pipeline never
// reads, let alone removes, what another is writing. Pipeline names have no dot.
func runDirName(pipeline, runID string) string { return state.FileName(pipeline) + "." + runID }

// pipelineOf is the first half of a run directory's name, as state.FileName
// gives it.
func pipelineOf(dirName string) string {
	name, _, _ := strings.Cut(dirName, ".")
	return name
}

func runIDOf(dirName string) string {
	_, id, _ := strings.Cut(dirName, ".")
	return id
}

// resume continues an unfinished run: the torn tail and every file that the
// journal does not name go; what it names is kept.
func (l leftover) resume() (*session, error) {
	s := &session{start: *l.start(), disk: l.disk, dir: l.dir, phases: map[string]phaseRecord{}, resumed: true}
	named := map[string]bool{journalName: true}
	for _, r := range l.records {
		switch {
		case r.Part != nil:
			s.parts = append(s.parts, *r.Part)
			named[r.Part.File] = true
		case r.Phase != nil:
			s.phases[r.Phase.Phase] = *r.Phase
		}
	}
	entries, err := os.ReadDir(l.dir)
	if err != nil {
		return nil, fmt.Errorf("list run directory: %w", err)
	}
	for _, e := range entries {
		if named[e.Name()] {
			continue
		}
		if err := l.disk.RemoveAll(filepath.Join(l.dir, e.Name())); err != nil {
			return nil, fmt.Errorf("remove unjournalled file: %w", err)
		}
	}
	for _, p := range s.parts {
		if err := checkPart(l.dir, p); err != nil {
			return nil, err
		}
	}
	if s.journal, err = openJournal(l.disk, l.dir, l.whole); err != nil {
		return nil, err // a session without a journal cannot be closed
	}
	return s, nil
}

// checkPart says whether a journalled part is still there in full.
func checkPart(dir string, p partRecord) error {
	if p.File == "" {
		return nil
	}
	info, err := os.Stat(filepath.Join(dir, p.File))
	if err == nil && info.Size() == p.Bytes {
		return nil
	}
	if err == nil {
		err = fmt.Errorf("it has %d bytes, the journal says %d", info.Size(), p.Bytes)
	}
	return &LostPartError{Path: filepath.Join(dir, p.File), Err: err}
}

// columns returns the registry entries that the parts journalled over those of
// state: what the run has settled before it was killed stays settled.
func (s *session) columns(known []schemas.RegistryEntry) []schemas.RegistryEntry {
	byRef := map[schemas.FieldRef]int{}
	out := append([]schemas.RegistryEntry(nil), known...)
	for i, e := range out {
		byRef[e.Ref()] = i
	}
	for _, p := range s.parts {
		for _, e := range p.Columns {
			if i, ok := byRef[e.Ref()]; ok {
				e.Misfit = e.Misfit || out[i].Misfit
				out[i] = seenAs(e, out[i]).JoinFields(out[i])
				continue
			}
			byRef[e.Ref()] = len(out)
			out = append(out, e)
		}
	}
	return out
}

// clientIDs returns the client ids seen by the parts, sorted.
func (s *session) clientIDs() []string {
	seen := map[string]bool{}
	for _, p := range s.parts {
		for _, id := range p.Clients {
			seen[id] = true
		}
	}
	out := make([]string, 0, len(seen))
	for id := range seen {
		out = append(out, id)
	}
	sort.Strings(out)
	return out
}

// rows is the number of staged rows, duplicates included.
func (s *session) rows() int64 {
	var n int64
	for _, p := range s.parts {
		n += p.Rows
	}
	return n
}

// bytes is the size of the staged parts.
func (s *session) bytes() int64 {
	var n int64
	for _, p := range s.parts {
		n += p.Bytes
	}
	return n
}

// endPhase journals that a phase is complete.
func (s *session) endPhase(p phaseRecord) error {
	if err := s.journal.append(record{Phase: &p}); err != nil {
		return err
	}
	s.phases[p.Phase] = p
	return nil
}

// discard removes the run's directory: nothing in it is wanted any more.
func (s *session) discard() error {
	err := s.journal.close()
	return errors.Join(err, removeRun(s.disk, s.dir))
}

// removeRun deletes a run directory. The journal goes first, so that a kill in
// between leaves a directory that counts as empty and not one that lacks parts.
func removeRun(disk atomicfile.Disk, dir string) error {
	if err := disk.Remove(filepath.Join(dir, journalName)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return fmt.Errorf("remove run: %w", err)
	}
	if err := disk.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove run: %w", err)
	}
	return nil
}
