package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"hash/crc32"
	"os"
	"path/filepath"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/quarantine"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/schemas"
)

// journalFormat is the version of the records below. A journal from the
// future is refused.
const journalFormat = 1

// journalName is the journal's file within a run directory.
const journalName = "journal"

// record is one entry of a run's journal; exactly one of the pointers is set.
type record struct {
	Start  *startRecord  `json:"start,omitempty"`
	Part   *partRecord   `json:"part,omitempty"`
	Phase  *phaseRecord  `json:"phase,omitempty"`
	Sealed *sealedRecord `json:"sealed,omitempty"`
}

// startRecord opens a journal: what the run is, and under which settings its
// parts were staged. A run whose settings changed is not resumed.
type startRecord struct {
	Format    int                  `json:"format"`
	RunID     string               `json:"run_id"`
	Pipeline  string               `json:"pipeline"`
	Mode      string               `json:"mode"`
	Reason    string               `json:"reason"`
	StartedAt time.Time            `json:"started_at"`
	Source    state.SourceIdentity `json:"source"`
	Settings  string               `json:"settings"`              // fingerprint of filters, contract, source and hash key
	HashKey   string               `json:"hash_key_id,omitempty"` // of the key that hashes were made with
	Cursor    *time.Time           `json:"cursor,omitempty"`
	Span      *spanRecord          `json:"span,omitempty"` // of a backfill
}

// partRecord says that a part file is durable, and which stretches of the
// phase's timestamp it completes: every row of them is in it or in a part
// before it.
type partRecord struct {
	File    string             `json:"file"`
	Rows    int64              `json:"rows"`
	Bytes   int64              `json:"bytes"`
	SHA256  string             `json:"sha256"`
	Phase   string             `json:"phase"`
	Covered []extract.Interval `json:"covered,omitempty"` // stretches that this part completes
	Ties    []extract.TieBlock `json:"ties,omitempty"`    // drained by requests for its rows
	// ReadSince is the earliest moment at which rows of the run were read, in
	// the source's time: a scan's changes are those from there on, less the
	// lookback.
	ReadSince *time.Time              `json:"read_since,omitempty"`
	NextRow   int64                   `json:"next_row"`
	Columns   []schemas.RegistryEntry `json:"columns,omitempty"` // settled or changed by this part
	Misfits   map[string]int64        `json:"misfits,omitempty"`
	Discarded map[string]int64        `json:"discarded,omitempty"` // values left out, by field
	LeftOut   []schemas.LeftOut       `json:"left_out,omitempty"`  // the rules that did so
	// Sightings are what the part's rows had of fields without a declared column,
	// ReadAt is when it was made.
	Sightings []schemas.Sighting `json:"sightings,omitempty"`
	ReadAt    time.Time          `json:"read_at,omitzero"`
	Rejects   int64              `json:"rejects,omitempty"` // records set aside
	Reasons   quarantine.Counts  `json:"reasons,omitempty"` // of Rejects
	Outside   int64              `json:"outside,omitempty"` // rows that do not pass the filters
	Clients   []string           `json:"client_ids,omitempty"`
	Info      []infoChange       `json:"info,omitempty"` // contacts without an answer, of this part and parts to come
	Counts    counts             `json:"counts"`
}

// progressRecord is extract.Progress, readable.
type progressRecord struct {
	Mark  time.Time `json:"mark,omitzero"`
	Final time.Time `json:"final,omitzero"`
}

// phaseRecord says that a phase is complete: all its rows are in parts.
type phaseRecord struct {
	Phase     string         `json:"phase"`
	Progress  progressRecord `json:"progress"`
	ReadSince *time.Time     `json:"read_since,omitempty"` // as in partRecord
	Outcome   outcomeRecord  `json:"outcome"`
	Counts    counts         `json:"counts"`
}

// sealedRecord closes a journal. The package counts once state names the run;
// until then the record may be written again with another serial.
type sealedRecord struct {
	Serial   int64           `json:"serial"`
	SealedAt time.Time       `json:"sealed_at"`
	Cursor   *time.Time      `json:"cursor,omitempty"`
	Table    schemas.Table   `json:"table"`
	Coverage json.RawMessage `json:"coverage"`
}

// CorruptJournalError says that a journal holds something other than what was
// written there. Nothing was changed.
type CorruptJournalError struct {
	Path   string
	Offset int64
	Reason string
}

func (e *CorruptJournalError) Error() string {
	return fmt.Sprintf("read journal %s: record at byte %d is corrupt: %s", e.Path, e.Offset, e.Reason)
}

// Hint says what to do.
func (e *CorruptJournalError) Hint() string {
	return fmt.Sprintf("the disk or another program changed it; to give this unfinished run up and fetch its rows again, remove %s and run again (the cursor has not moved past them)", filepath.Dir(e.Path))
}

// A record is framed as "<length> <checksum of the body> <checksum of these
// two> <json>\n", each number eight hexadecimal digits of CRC-32C or length.
// The length has a checksum of its own, so that damage to it is not taken for
// a torn tail, which would drop every record after it.
const (
	frameNumbers = 8 + 1 + 8 + 1
	frameHeader  = frameNumbers + 8 + 1
)

func checksum(b []byte) uint32 { return crc32.Checksum(b, crc32.MakeTable(crc32.Castagnoli)) }

// frame encodes one record.
func frame(r record) ([]byte, error) {
	body, err := json.Marshal(r)
	if err != nil {
		return nil, fmt.Errorf("encode journal record: %w", err)
	}
	out := fmt.Appendf(make([]byte, 0, frameHeader+len(body)+1), "%08x %08x ", len(body), checksum(body))
	out = fmt.Appendf(out, "%08x ", checksum(out))
	return append(append(out, body...), '\n'), nil
}

// parseJournal decodes records up to the end or a torn tail, and returns how
// many bytes are whole.
func parseJournal(path string, data []byte) (records []record, whole int64, err error) {
	// A file system may extend a file with zeros before its data arrive; no
	// record holds a zero byte.
	rest := bytes.TrimRight(data, "\x00")
	for len(rest) > 0 {
		body, size, reason := unframe(rest)
		if reason == "" && size == 0 {
			return records, whole, nil // torn: the last write did not finish
		}
		var r record
		if reason == "" {
			if err := json.Unmarshal(body, &r); err != nil {
				reason = err.Error()
			}
		}
		if reason != "" {
			return nil, 0, &CorruptJournalError{Path: path, Offset: whole, Reason: reason}
		}
		records = append(records, r)
		rest = rest[size:]
		whole += int64(size)
	}
	return records, whole, nil
}

// unframe returns the first record's body and framed size. A size of 0 without
// a reason means the data end before the record does, which is what a kill
// during an append leaves; a reason means damage.
func unframe(data []byte) (body []byte, size int, reason string) {
	if len(data) < frameHeader {
		return nil, 0, ""
	}
	var length, sum, header uint32
	n, err := fmt.Sscanf(string(data[:frameHeader]), "%08x %08x %08x ", &length, &sum, &header)
	exact := fmt.Sprintf("%08x %08x %08x ", length, sum, checksum(data[:frameNumbers]))
	if err != nil || n != 3 || string(data[:frameHeader]) != exact {
		return nil, 0, "its length is damaged"
	}
	size = frameHeader + int(length) + 1
	if len(data) < size {
		return nil, 0, ""
	}
	body = data[frameHeader : size-1]
	if data[size-1] != '\n' || checksum(body) != sum {
		return nil, 0, "its checksum does not match"
	}
	return body, size, ""
}

// journal appends records durably. It is used by one goroutine.
type journal struct {
	path string
	file atomicfile.Log
	err  error // the first write error; the journal is unusable after it
	shut bool
}

// createJournal starts the journal of a new run in dir.
func createJournal(disk atomicfile.Disk, dir string, start startRecord) (*journal, error) {
	path := filepath.Join(dir, journalName)
	f, err := disk.OpenLog(path, true, 0o600)
	if err != nil {
		return nil, fmt.Errorf("create journal: %w", err)
	}
	j := &journal{path: path, file: f}
	if err := j.append(record{Start: &start}); err != nil {
		return nil, errors.Join(err, f.Close())
	}
	if err := disk.SyncDir(dir); err != nil {
		return nil, errors.Join(fmt.Errorf("create journal: flush directory %s: %w", dir, err), f.Close())
	}
	return j, nil
}

// readJournal returns the whole records of the journal in dir and the length
// they take. A missing journal has none.
func readJournal(dir string) ([]record, int64, error) {
	path := filepath.Join(dir, journalName)
	data, err := os.ReadFile(path)
	if errors.Is(err, os.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, fmt.Errorf("read journal: %w", err)
	}
	records, whole, err := parseJournal(path, data)
	if err != nil {
		return nil, 0, err
	}
	if len(records) > 0 {
		switch start := records[0].Start; {
		case start == nil:
			return nil, 0, &CorruptJournalError{Path: path, Reason: "the first record does not start a run"}
		case start.Format > journalFormat:
			return nil, 0, &FutureFormatError{Path: path, Format: start.Format, Known: journalFormat}
		}
	}
	return records, whole, nil
}

// openJournal cuts a torn tail off and goes on after the last whole record.
func openJournal(disk atomicfile.Disk, dir string, whole int64) (*journal, error) {
	path := filepath.Join(dir, journalName)
	f, err := disk.OpenLog(path, false, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open journal: %w", err)
	}
	if err := f.Truncate(whole); err != nil {
		return nil, errors.Join(fmt.Errorf("cut torn journal tail: %w", err), f.Close())
	}
	return &journal{path: path, file: f}, nil
}

// append writes r and syncs it. After an error every later append fails too:
// the tail may be torn, and only a reader can tell.
func (j *journal) append(r record) error {
	if j.err != nil {
		return j.err
	}
	data, err := frame(r)
	if err == nil {
		_, err = j.file.Write(data)
	}
	if err == nil {
		err = j.file.Sync()
	}
	if err != nil {
		j.err = fmt.Errorf("append to journal %s: %w", j.path, atomicfile.WithoutPath(err))
	}
	return j.err
}

// close ends the journal; a second one does nothing.
func (j *journal) close() error {
	if j.shut {
		return nil
	}
	j.shut = true
	if err := j.file.Close(); err != nil {
		return fmt.Errorf("close journal: %w", err)
	}
	return nil
}
