package parquet

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/sluice-etl/sluice/internal/atomicfile"
)

// OpenManifest reads the manifest of the table in dir (<path>/<table>). The
// error wraps fs.ErrNotExist where nothing was ever committed. What is left of a
// table whose destruction was stopped is an error.
func OpenManifest(dir string) (*Manifest, error) {
	if _, err := os.Lstat(filepath.Join(dir, goingName)); err == nil {
		return nil, goingError(dir)
	}
	return readManifest(filepath.Join(dir, manifestsDir, latestName))
}

func readManifest(path string) (*Manifest, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("read manifest: %w", err)
	}
	return decodeManifest(data, path)
}

// decodeManifest reads a manifest that was found at path.
func decodeManifest(data []byte, path string) (*Manifest, error) {
	var version struct {
		FormatVersion *int `json:"format_version"`
	}
	const damaged = "Put back an older manifest from the same folder under this name, or move the table's folder away and run with --full."
	if err := json.Unmarshal(data, &version); err != nil {
		return nil, &Error{Message: "manifest is damaged", Path: path, Err: err, hint: damaged}
	}
	switch {
	case version.FormatVersion == nil:
		return nil, foreign(path, "manifest has no format_version", "Another program wrote it. Give the destination another path.")
	case *version.FormatVersion > FormatVersion:
		return nil, &Error{
			Message: fmt.Sprintf("table has format %d, this version of sluice knows up to %d", *version.FormatVersion, FormatVersion),
			Path:    path, hint: "Use the newer sluice that wrote it.",
		}
	case *version.FormatVersion < 1:
		return nil, &Error{Message: fmt.Sprintf("manifest has format %d, which never existed", *version.FormatVersion), Path: path, hint: damaged}
	}
	var m Manifest
	if err := json.Unmarshal(data, &m); err != nil {
		return nil, &Error{Message: "manifest is damaged", Path: path, Err: err, hint: damaged}
	}
	if m.Lineage == "" || m.Number < 0 || m.Package < 0 {
		return nil, &Error{Message: "manifest lacks lineage, number or package", Path: path, hint: damaged}
	}
	for _, rel := range slices.Concat(m.Published, m.Removed) {
		if !filepath.IsLocal(filepath.FromSlash(rel)) {
			return nil, &Error{Message: fmt.Sprintf("manifest names a file outside the table: %q", rel), Path: path, hint: damaged}
		}
	}
	return &m, nil
}

func encodeManifest(m *Manifest) ([]byte, error) {
	data, err := json.MarshalIndent(m, "", " ")
	if err != nil {
		return nil, fmt.Errorf("encode manifest: %w", err)
	}
	return append(data, '\n'), nil
}

// numberedManifests returns the numbers of the manifests in dir, ascending.
func numberedManifests(dir string) ([]int64, error) {
	entries, err := os.ReadDir(filepath.Join(dir, manifestsDir))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var numbers []int64
	for _, e := range entries { // sorted by name, so by number up to 8 digits
		if n, ok := manifestNumber(e.Name()); ok && e.Type().IsRegular() {
			numbers = append(numbers, n)
		}
	}
	return numbers, nil
}

// table is what stands in a table's directory.
type table struct {
	latest  *Manifest // in place; nil where there is none
	pending *Manifest // recorded and not yet wholly in place
}

// inspect looks at dir without changing anything. found is false for a
// directory that is absent or empty of anything but our own leftovers.
func inspect(dir string) (t table, found bool, err error) {
	latest, err := OpenManifest(dir)
	switch {
	case err == nil:
		t.latest = latest
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNotDir):
	default:
		return table{}, false, explain("read", dir, err)
	}
	numbers, err := numberedManifests(dir)
	if err != nil && !errors.Is(err, errNotDir) {
		return table{}, false, explain("read", dir, err)
	}
	if len(numbers) > 0 {
		if top := numbers[len(numbers)-1]; t.latest == nil || top > t.latest.Number {
			if t.pending, err = readManifest(filepath.Join(dir, manifestsDir, manifestName(top))); err != nil {
				return table{}, false, err
			}
		}
	}
	if t.latest != nil || t.pending != nil {
		return t, true, nil
	}
	return table{}, false, mustBeVacant(dir)
}

// mustBeVacant refuses a directory with anything in it that no interrupted
// first commit of ours left.
func mustBeVacant(dir string) error {
	info, err := os.Stat(dir)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return explain("read", dir, err)
	}
	if !info.IsDir() {
		return foreign(dir, "the table's folder is a file", "Move the file away, or give the destination another path or the pipeline another table name.")
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return explain("read", dir, err)
	}
	for _, e := range entries {
		switch e.Name() {
		case lockName, ".DS_Store", ".gitkeep", ".gitignore":
			continue
		case manifestsDir:
			if left, err := os.ReadDir(filepath.Join(dir, manifestsDir)); err == nil && allTemps(left) {
				continue
			}
		}
		return foreign(dir, fmt.Sprintf("the table's folder holds %q and no manifest of ours", e.Name()),
			"Another program wrote it. Give the destination another path or the pipeline another table name, or move what is there away.")
	}
	return nil
}

func allTemps(entries []fs.DirEntry) bool {
	for _, e := range entries {
		if !atomicfile.IsTemp(e.Name()) {
			return false
		}
	}
	return true
}

// ours returns the manifest that decides, pending before latest, after
// checking that lineage owns the table.
func (t table) ours(dir, lineage string) (*Manifest, error) {
	m := t.pending
	if m == nil {
		m = t.latest
	}
	if m.Lineage == lineage {
		return m, nil
	}
	return nil, foreign(dir,
		fmt.Sprintf("the table was written by another state (lineage %s, pipeline %q), this state has lineage %s", m.Lineage, m.Pipeline, orNone(lineage)),
		"Point state at the one that wrote this table (or restore it from a backup), give the destination another path or the pipeline another table name, or move the table's folder away to start it anew.")
}

func orNone(s string) string {
	if s == "" {
		return "(none yet)"
	}
	return s
}
