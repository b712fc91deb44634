package parquet

import (
	"context"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/load"
)

var (
	_ load.Historian = (*Loader)(nil)
	_ load.Historian = (*GSLoader)(nil)
)

// Versions implements load.Historian.
func (l *Loader) Versions(ctx context.Context, lineage string) (int64, error) {
	if err := ctx.Err(); err != nil {
		return 0, err
	}
	t, found, err := inspect(l.dir)
	if err != nil || !found {
		return 0, err
	}
	if _, err := t.ours(l.dir, lineage); err != nil {
		return 0, err
	}
	m := t.latest
	if t.pending != nil {
		m = t.pending
	}
	return m.versions(), nil
}

// Versions implements load.Historian.
func (l *GSLoader) Versions(ctx context.Context, lineage string) (int64, error) {
	t, err := l.look(ctx)
	if err != nil || !t.found() {
		return 0, err
	}
	m, err := t.ours(l.URL(), lineage)
	if err != nil || m == nil {
		return 0, err
	}
	return m.versions(), nil
}

// versions is the number of rows in history.
func (m *Manifest) versions() int64 {
	if m == nil {
		return 0
	}
	var n int64
	for _, f := range m.History {
		n += f.Rows
	}
	return n
}

// hashKeysOf are the ids of the keys that hashes in a new file may be made with:
// that of the package, and those of the files that rows of it are taken from.
func hashKeysOf(own string, from []File) []string {
	var ids []string
	if own != "" {
		ids = append(ids, own)
	}
	for _, f := range from {
		ids = append(ids, f.HashKeys...)
	}
	slices.Sort(ids)
	return slices.Compact(ids)
}

// withHashKeys adds the ids to the metadata of a file.
func withHashKeys(meta map[string]string, ids []string) map[string]string {
	if len(ids) == 0 {
		return meta
	}
	out := load.HashKeyMetadata(strings.Join(ids, ","))
	for k, v := range meta {
		out[k] = v
	}
	return out
}
