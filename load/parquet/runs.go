package parquet

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/zeebo/xxh3"

	"github.com/sluice-etl/sluice/internal/atomicfile"
)

// Every run leaves a coverage record, also one that brought nothing. Those of
// the latest runs are files of their own; older ones are packed, many to a
// file, because a table that is synced every five minutes gets a hundred
// thousand of them a year and every query of runs opens each.
const (
	runSuffix     = ".json"
	archivePrefix = "archive-"
	archiveSuffix = ".jsonl.gz"
)

func archiveName(n int64) string { return fmt.Sprintf("%s%08d%s", archivePrefix, n, archiveSuffix) }

// archiveNumber is the inverse of archiveName.
func archiveNumber(name string) (int64, bool) {
	var n int64
	if _, err := fmt.Sscanf(name, archivePrefix+"%d", &n); err != nil {
		return 0, false
	}
	return n, archiveName(n) == name
}

// archived is a line of an archive.
type archived struct {
	RunID    string          `json:"run_id"`
	Coverage json.RawMessage `json:"coverage"`
}

// hasRuns reports whether there is any coverage record, packed or not.
func hasRuns(dir string) bool {
	f, err := os.Open(filepath.Join(dir, runsDir))
	if err != nil {
		return false
	}
	defer func() { _ = f.Close() }() // read only
	for {
		names, err := f.Readdirnames(64)
		if slices.ContainsFunc(names, isRunFile) {
			return true
		}
		if err != nil {
			return false
		}
	}
}

func isRunFile(name string) bool {
	_, archive := archiveNumber(name)
	return archive || strings.HasSuffix(name, runSuffix)
}

// archiveRuns packs the records of the oldest runs once there are ArchiveRuns
// of them besides those of m.Results. The records are removed when the archive
// is in place; nothing else depends on it, so a failure is left to the next
// commit, which finds every record still there.
func (l *Loader) archiveRuns(m *Manifest) error {
	dir := filepath.Join(l.dir, runsDir)
	loose, newest, err := looseRuns(dir, m)
	if err != nil || len(loose) < l.o.ArchiveRuns {
		return err
	}
	loose = loose[:l.o.ArchiveRuns] // one archive for a commit
	packed, err := archivedLines(filepath.Join(dir, archiveName(newest)))
	if err != nil {
		packed = nil // nothing is removed on its account
	}
	pack, already, err := packRuns(dir, loose, packed)
	switch {
	case err != nil:
		return err
	case len(already) > 0:
		// A commit was stopped after it had published the archive.
		return l.removeRuns(dir, already)
	case len(pack.runs) == 0:
		return nil
	}
	if err := l.publishArchive(archiveName(newest+1), pack); err != nil {
		return err
	}
	return l.removeRuns(dir, pack.runs)
}

func (l *Loader) removeRuns(dir string, names []string) error {
	for _, name := range names {
		if err := l.o.FS.Remove(filepath.Join(dir, name)); err != nil {
			return explain("remove packed record", filepath.Join(dir, name), err)
		}
	}
	return nil
}

// looseRuns lists the records that may be packed, by name, which is by time,
// and the number of the newest archive, 0 if none.
func looseRuns(dir string, m *Manifest) (loose []string, newest int64, err error) {
	entries, err := os.ReadDir(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, 0, nil
	}
	if err != nil {
		return nil, 0, explain("list", dir, err)
	}
	keep := make(map[string]bool, len(m.Results))
	for _, c := range m.Results {
		keep[c.RunID+runSuffix] = true
	}
	for _, e := range entries {
		if n, ok := archiveNumber(e.Name()); ok {
			newest = max(newest, n)
		} else if strings.HasSuffix(e.Name(), runSuffix) && e.Type().IsRegular() && !keep[e.Name()] {
			loose = append(loose, e.Name())
		}
	}
	return loose, newest, nil
}

// archive is an archive under construction.
type archive struct {
	data  bytes.Buffer // compressed
	runs  []string     // file names of the records in it
	lines []xxh3.Uint128
}

// packRuns packs the records of dir that names names, but for those whose line
// is in packed: these are already in an archive.
func packRuns(dir string, names []string, packed map[xxh3.Uint128]bool) (a *archive, already []string, err error) {
	a = &archive{}
	z := gzip.NewWriter(&a.data)
	for _, name := range names {
		line, err := archiveLine(dir, name)
		if err != nil {
			continue // not one of ours: it stays
		}
		h := xxh3.Hash128(line)
		if packed[h] {
			already = append(already, name)
			continue
		}
		a.runs, a.lines = append(a.runs, name), append(a.lines, h)
		if _, err := z.Write(append(line, '\n')); err != nil {
			return nil, nil, fmt.Errorf("pack coverage records: %w", err)
		}
	}
	if err := z.Close(); err != nil {
		return nil, nil, fmt.Errorf("pack coverage records: %w", err)
	}
	return a, already, nil
}

func archiveLine(dir, name string) ([]byte, error) {
	data, err := os.ReadFile(filepath.Join(dir, name))
	if err != nil {
		return nil, err
	}
	return json.Marshal(archived{RunID: strings.TrimSuffix(name, runSuffix), Coverage: data})
}

// publishArchive puts an archive in place once it has been read back.
func (l *Loader) publishArchive(name string, a *archive) error {
	staged, to := filepath.Join(l.dir, stagingDir, name), filepath.Join(l.dir, runsDir, name)
	if err := atomicfile.WriteFileOn(flushOnce{l.o.FS}, staged, a.data.Bytes(), fileMode); err != nil {
		return explain("write file", staged, err)
	}
	back, err := archivedLines(staged)
	if err != nil {
		return err
	}
	for _, h := range a.lines {
		if !back[h] {
			return fmt.Errorf("read %s back: a line differs", staged)
		}
	}
	if err := l.o.FS.Rename(staged, to); err != nil {
		return explain("publish", to, err)
	}
	return explain("flush folder", filepath.Dir(to), l.o.FS.SyncDir(filepath.Dir(to)))
}

// archivedLines returns the hashes of an archive's lines; none where there is
// no archive.
func archivedLines(path string) (map[xxh3.Uint128]bool, error) {
	f, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("open archive: %w", err)
	}
	defer func() { _ = f.Close() }() // read only
	z, err := gzip.NewReader(f)
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", path, err)
	}
	lines := map[xxh3.Uint128]bool{}
	for r := bufio.NewReader(z); ; {
		line, err := r.ReadBytes('\n')
		if errors.Is(err, io.EOF) && len(line) == 0 {
			return lines, nil
		}
		if err != nil {
			return nil, fmt.Errorf("read %s: %w", path, err)
		}
		lines[xxh3.Hash128(bytes.TrimSuffix(line, []byte("\n")))] = true
	}
}
