// Package quarantine keeps the records that a run could not make rows of: one
// file for each part of a run that had some, one JSON object a line.
package quarantine

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/state"
)

// Format is the version of the records that this build writes. Those of the
// first one say no version, have no time and always the record as served.
const Format = 2

// Record is a record set aside.
type Record struct {
	Format int `json:"format,omitempty"` // 0: the first
	// Ref names the record for as long as it is kept: its file and a number.
	// Read fills it in where a file of the first format has none.
	Ref   string `json:"ref,omitempty"`
	RunID string `json:"run_id"`
	// At is when the source had served it; Read takes the run's beginning where
	// a file of the first format has none.
	At     time.Time `json:"at,omitzero"`
	Reason string    `json:"reason"` // without any value of the record
	// Tried is when a retry last found that Reason; zero for never.
	Tried    time.Time `json:"tried,omitzero"`
	ID       string    `json:"id,omitempty"` // of the contact; empty where the record has none that is usable
	Request  string    `json:"request"`      // path and query, never a key
	Position int       `json:"position"`     // on the page, from 0
	Raw      string    `json:"raw,omitempty"`
}

// Store is the quarantine of one pipeline. The zero value is of no use.
type Store struct {
	dir  string
	disk atomicfile.FS
}

// In returns the quarantine of a pipeline below the directory of a state. disk
// is what it is written to; nil: the operating system's.
func In(stateDir, pipeline string, disk atomicfile.FS) Store {
	if disk == nil {
		disk = atomicfile.OS{}
	}
	return Store{dir: filepath.Join(stateDir, "quarantine", state.FileName(pipeline)), disk: disk}
}

// Dir returns the directory, which may not exist.
func (s Store) Dir() string { return s.dir }

const suffix = ".ndjson"

// Write keeps the records of one part of a run, in the place of what was kept
// of that part before. It gives each its name and the run.
func (s Store) Write(runID string, part int, records []Record) error {
	base := fmt.Sprintf("%s-%04d", runID, part)
	for i := range records {
		records[i].Ref, records[i].RunID = refOf(base, i+1), runID
	}
	if err := atomicfile.MakeDirs(s.disk, s.dir, 0o700); err != nil {
		return fmt.Errorf("write quarantine: %w", err)
	}
	return s.put(base+suffix, records)
}

func refOf(base string, n int) string { return fmt.Sprintf("%s.%d", base, n) }

func (s Store) put(name string, records []Record) error {
	var out []byte
	for _, r := range records {
		r.Format = Format
		line, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("write quarantine: %w", err)
		}
		out = append(append(out, line...), '\n')
	}
	if err := atomicfile.WriteFileOn(s.disk, filepath.Join(s.dir, name), out, 0o600); err != nil {
		return fmt.Errorf("write quarantine: %w", err)
	}
	return nil
}

// Files returns the names of the files, oldest run first. A quarantine that
// does not exist has none.
func (s Store) Files() ([]string, error) {
	entries, err := os.ReadDir(s.dir) // sorted
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list quarantine: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasSuffix(e.Name(), suffix) && !atomicfile.IsTemp(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Read returns the records of a file. A line that is none is a *LineError, one
// of a later format too.
func (s Store) Read(name string) ([]Record, error) {
	path := filepath.Join(s.dir, name)
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read quarantine: %w", err)
	}
	var out []Record
	n := 0
	for line := range strings.Lines(string(data)) {
		n++
		if strings.TrimSpace(line) == "" {
			continue
		}
		var r Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return nil, &LineError{Path: path, Line: n, Reason: "it is no record"}
		}
		if r.Format > Format {
			return nil, &LineError{Path: path, Line: n, Reason: fmt.Sprintf("its format %d is newer than this version of sluice knows (%d)", r.Format, Format)}
		}
		if r.Ref == "" {
			r.Ref = refOf(strings.TrimSuffix(name, suffix), n)
		}
		if r.At.IsZero() {
			r.At = began(r.RunID)
		}
		out = append(out, r)
	}
	return out, nil
}

var runTime = regexp.MustCompile(`^\d{8}T\d{6}Z`)

// began is when a run began, which its id begins with; the epoch where it does
// not: nothing was read before it.
func began(runID string) time.Time {
	if t, err := time.Parse("20060102T150405Z", runTime.FindString(runID)); err == nil {
		return t
	}
	return time.Unix(0, 0).UTC()
}

// LineError is a line of a file that cannot be read. Nothing was changed.
type LineError struct {
	Path   string
	Line   int // from 1
	Reason string
}

func (e *LineError) Error() string {
	return fmt.Sprintf("read quarantine: line %d of %s: %s", e.Line, e.Path, e.Reason)
}

// Hint says what to do.
func (e *LineError) Hint() string {
	return "use the version of sluice that wrote it, or take the line out of the file"
}

// All calls each with every record, file by file, in order.
func (s Store) All(each func(file string, r Record)) error {
	names, err := s.Files()
	if err != nil {
		return err
	}
	for _, name := range names {
		records, err := s.Read(name)
		if err != nil {
			return err
		}
		for _, r := range records {
			each(name, r)
		}
	}
	return nil
}

// Rewrite gives each record of a file to f, and keeps those for which it
// returns true, as f has changed them. A file that is left without any goes;
// one that stays as it is, is not written.
func (s Store) Rewrite(name string, f func(*Record) (keep bool)) error {
	records, err := s.Read(name)
	if err != nil {
		return err
	}
	var kept []Record
	for _, r := range records {
		if f(&r) {
			kept = append(kept, r)
		}
	}
	switch {
	case slices.Equal(kept, records):
		return nil
	case len(kept) > 0:
		return s.put(name, kept)
	}
	if err := s.disk.Remove(filepath.Join(s.dir, name)); err != nil {
		return fmt.Errorf("remove from quarantine: %w", err)
	}
	if err := s.disk.SyncDir(s.dir); err != nil {
		return fmt.Errorf("remove from quarantine: %w", err)
	}
	return nil
}

// Counts counts reasons, or kinds of them.
type Counts map[string]int64

// maxReasons bounds how many reasons are told apart: they name keys that a
// source may invent without end.
const maxReasons = 40

// OtherReasons stands for all those beyond the bound.
const OtherReasons = "other reasons"

// Add counts n more of a reason.
func (c Counts) Add(reason string, n int64) {
	if _, known := c[reason]; !known && len(c) >= maxReasons {
		reason = OtherReasons
	}
	c[reason] += n
}

// Sorted returns the reasons, the most frequent first.
func (c Counts) Sorted() []string {
	out := make([]string, 0, len(c))
	for reason := range c {
		out = append(out, reason)
	}
	slices.SortFunc(out, func(a, b string) int {
		if c[a] != c[b] {
			return int(c[b] - c[a])
		}
		return strings.Compare(a, b)
	})
	return out
}

// Sum returns how many there are.
func (c Counts) Sum() (n int64) {
	for _, m := range c {
		n += m
	}
	return n
}
