package parquet_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/schemas"
)

// verified returns what Verify finds, as "kind path: detail".
func verified(t *testing.T, l load.Verifier) ([]string, load.Verified) {
	t.Helper()
	found := []string{}
	v, err := l.Verify(t.Context(), "lineage-a", func(f load.Fault) {
		found = append(found, fmt.Sprintf("%s %s: %s", f.Kind, f.Path, f.Detail))
	})
	if err != nil {
		t.Fatal(err)
	}
	return found, v
}

func wantSound(t *testing.T, l load.Verifier) {
	t.Helper()
	if found, _ := verified(t, l); len(found) > 0 {
		t.Errorf("verification finds\n%s", strings.Join(found, "\n"))
	}
}

// checkable is a table of several commits: four months, a tombstone, a new
// column, a version that lost.
func checkable(t *testing.T, change ...func(*parquet.Options)) *parquet.Loader {
	t.Helper()
	l := open(t, t.TempDir(), append(change, on(unsynced{}))...)
	var rows []loadtest.Row
	for i := range 40 {
		rows = append(rows, contact(fmt.Sprintf("c%02d", i), 1+i%4, 1, "name", fmt.Sprint(i)))
	}
	extra := []schemas.Column{loadtest.Extra("cf_ticket_x", schemas.Int64)}
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: rows, PartRows: 11}))
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 2, Extra: extra, Rows: []loadtest.Row{
		rows[3].With("name", "x", "cf_ticket_x", 7), rows[4].With(schemas.ColDeletedAt, loadtest.Epoch, schemas.ColHash, loadtest.Hash(rows[4])),
		rows[5].With(schemas.ColUpdatedAt, loadtest.Epoch.AddDate(-1, 0, 0), "name", "old"),
	}}))
	return l
}

func TestASoundTableHasNoFaults(t *testing.T) {
	for _, limit := range []int{0, 1, 7} {
		l := checkable(t, parquet.SetSortLimit(limit))
		before := snapshot(t, l.Dir())
		found, v := verified(t, l)
		if len(found) > 0 {
			t.Errorf("verification finds\n%s", strings.Join(found, "\n"))
		}
		m := manifest(t, l.Dir())
		want := load.Verified{Contacts: 40, Versions: 43, Files: int64(len(m.Current) + len(m.History))}
		for _, f := range append(m.Current, m.History...) {
			want.Bytes += f.Bytes
		}
		if d := cmp.Diff(want, v); d != "" {
			t.Errorf("verified (-want +got):\n%s", d)
		}
		if d := cmp.Diff(before, snapshot(t, l.Dir())); d != "" {
			t.Errorf("verification changes the table:\n%s", d)
		}
	}
}

func TestATableThatIsNotThereHasNoFaultsAndNoTrace(t *testing.T) {
	root := t.TempDir()
	wantSound(t, open(t, root))
	if entries, err := os.ReadDir(root); err != nil || len(entries) > 0 {
		t.Errorf("it left %v, %v", entries, err)
	}
	l := checkable(t)
	if _, err := l.Verify(t.Context(), "another", nil); !errors.Is(err, load.ErrForeign) {
		t.Errorf("another state's table: %v", err)
	}
}

func TestVerificationCompletesWhatWasRecorded(t *testing.T) {
	l := checkable(t)
	m := manifest(t, l.Dir())
	if err := os.Remove(filepath.Join(l.Dir(), "_manifests", "latest.json")); err != nil {
		t.Fatal(err)
	}
	wantSound(t, l)
	if got := manifest(t, l.Dir()); got.Number != m.Number {
		t.Errorf("latest.json is of commit %d, want %d", got.Number, m.Number)
	}
}

// rewrite replaces a file of the table by one with other rows, and has the
// manifest say so: what a faulty merge would leave.
func rewrite(t *testing.T, l *parquet.Loader, rel string, change func([]loadtest.Row) []loadtest.Row) {
	t.Helper()
	path := filepath.Join(l.Dir(), rel)
	m := manifest(t, l.Dir())
	rows := query(t, duck(t), fmt.Sprintf("SELECT * FROM read_parquet('%s', hive_partitioning=false)", path))
	schema := m.Schema.Arrow()
	rec := loadtest.Record(t, schema, change(rows))
	defer rec.Release()
	w, err := parquetfile.Create(path, parquetfile.Options{Schema: schema})
	if err == nil {
		err = w.Write(rec)
	}
	if err != nil {
		t.Fatal(err)
	}
	stats, err := w.Finish()
	if err := orElse(err, w.Publish()); err != nil {
		t.Fatal(err)
	}
	at := func(column string) *parquet.Range {
		c, _ := stats.Column(column)
		from, err1 := time.Parse(time.RFC3339Nano, c.Min)
		to, err2 := time.Parse(time.RFC3339Nano, c.Max)
		if err := orElse(err1, err2); err != nil {
			t.Fatal(err)
		}
		return &parquet.Range{Min: from, Max: to}
	}
	for _, list := range [][]parquet.File{m.Current, m.History} {
		for i := range list {
			if list[i].Path == rel {
				list[i].Rows, list[i].Bytes, list[i].SHA256 = stats.Rows, stats.Bytes, stats.SHA256
				list[i].CreatedAt, list[i].UpdatedAt, list[i].ExtractedAt = at("created_at"), at("updated_at"), at("_sluice_extracted_at")
			}
		}
	}
	setManifest(t, l, m)
}

func setManifest(t *testing.T, l *parquet.Loader, m *parquet.Manifest) {
	t.Helper()
	data, err := json.Marshal(m)
	if err := orElse(err, os.WriteFile(filepath.Join(l.Dir(), "_manifests", "latest.json"), data, 0o600)); err != nil {
		t.Fatal(err)
	}
}

func TestVerificationFindsEveryKindOfFault(t *testing.T) {
	const january, february = "current/created_month=2026-01/contacts.parquet", "current/created_month=2026-02/contacts.parquet"
	const old = "history/extracted_date=2026-09-01/00000001-0001.parquet"
	edit := func(t *testing.T, path string, change func([]byte) []byte) {
		t.Helper()
		data, err := os.ReadFile(path)
		if err := orElse(err, os.WriteFile(path, change(data), 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name  string
		spoil func(s spoiled)
		want  []string // how each begins
	}{
		{"a file is gone", func(s spoiled) {
			t, l := s.T, s.l
			if err := os.Remove(filepath.Join(l.Dir(), february)); err != nil {
				t.Fatal(err)
			}
		}, []string{"missing_file " + february + ": the manifest has it with 10 rows"}},
		{"a file is cut short", func(s spoiled) {
			t, l := s.T, s.l
			edit(t, filepath.Join(l.Dir(), february), func(b []byte) []byte { return b[:len(b)-1] })
		}, []string{"changed_file " + february + ": it has "}},
		{"a byte is flipped", func(s spoiled) {
			t, l := s.T, s.l
			edit(t, filepath.Join(l.Dir(), february), func(b []byte) []byte { b[len(b)/3] ^= 4; return b })
		}, []string{"changed_file " + february + ": "}},
		{"a byte of history is flipped", func(s spoiled) {
			t, l := s.T, s.l
			edit(t, filepath.Join(l.Dir(), old), func(b []byte) []byte { b[len(b)/3] ^= 4; return b })
		}, []string{"changed_file " + old + ": "}},
		{"files that nobody named", func(s spoiled) {
			t, l := s.T, s.l
			for _, rel := range []string{"current/created_month=2026-01/copy.parquet", "history/x.parquet"} {
				plant(t, filepath.Join(l.Dir(), rel))
			}
		}, []string{"unknown_file current/created_month=2026-01/copy.parquet: ", "unknown_file history/x.parquet: "}},
		{"a row twice, once in another month", func(s spoiled) {
			t, l := s.T, s.l
			var moved loadtest.Row
			rewrite(t, l, january, func(rows []loadtest.Row) []loadtest.Row { moved = rows[0]; return rows })
			rewrite(t, l, february, func(rows []loadtest.Row) []loadtest.Row { return append(rows, moved) })
		}, []string{
			"wrong_partition " + february + ": created_at of c00 lies in another month",
			"duplicate_id : contacts that stand more than once: c00 (in 2026-01, 2026-02)",
		}},
		{"history lacks versions", func(s spoiled) {
			t, l := s.T, s.l
			rewrite(t, l, old, func(rows []loadtest.Row) []loadtest.Row { return rows[8:] })
		}, []string{"incomplete_history : history lacks the current version of c00, c08, c12, c24, c28 and 2 more"}},
		{"a version of history is on another day", func(s spoiled) {
			t, l := s.T, s.l
			rewrite(t, l, old, func(rows []loadtest.Row) []loadtest.Row {
				rows[0][schemas.ColExtractedAt] = loadtest.Epoch.AddDate(0, 0, 3)
				return rows
			})
		}, []string{"wrong_partition " + old + ": _sluice_extracted_at of c00 lies on another day"}},
		{"the manifest says other counts, ranges and packages", func(s spoiled) {
			t, l := s.T, s.l
			m := manifest(t, l.Dir())
			m.Current[0].Rows++
			m.Current[1].UpdatedAt.Max = m.Current[1].UpdatedAt.Max.Add(time.Hour)
			m.Package = 1
			setManifest(t, l, m)
		}, []string{
			"wrong_record " + january + ": it has 10 rows, the manifest says 11",
			"wrong_record current/created_month=2026-01/contacts.parquet: it has rows of package 2",
			"wrong_record " + february + ": the range of updated_at",
			"wrong_record current/created_month=2026-04/contacts.parquet: it has rows of package 2",
			"wrong_record history/",
		}},
		{"a file of ids has others", func(s spoiled) {
			t, l := s.T, s.l
			data, err := parquet.EncodeIDs(manifest(t, l.Dir()).Current[0].SHA256, "c00", "c04", "c08", "c12", "c16", "c20", "c24", "c28", "c32", "another")
			if err := orElse(err, os.WriteFile(filepath.Join(l.Dir(), "_ids/created_month=2026-01.ids"), data, 0o600)); err != nil {
				t.Fatal(err)
			}
		}, []string{"wrong_ids _ids/created_month=2026-01.ids: it has other ids than " + january}},
		{"files of ids that are of no use are none", func(s spoiled) {
			t, l := s.T, s.l
			rewrite(t, l, january, func(rows []loadtest.Row) []loadtest.Row { return rows })
			edit(t, filepath.Join(l.Dir(), "_ids/created_month=2026-02.ids"), func(b []byte) []byte { return b[:9] })
		}, nil},
		{"views.sql was changed", func(s spoiled) {
			t, l := s.T, s.l
			edit(t, filepath.Join(l.Dir(), "views.sql"), func(b []byte) []byte { return append(b, ' ') })
		}, []string{"outdated_views views.sql: it was changed"}},
		{"views.sql is gone", func(s spoiled) {
			t, l := s.T, s.l
			if err := os.Remove(filepath.Join(l.Dir(), "views.sql")); err != nil {
				t.Fatal(err)
			}
		}, []string{"outdated_views views.sql: it is missing"}},
		{"a column has another name", func(s spoiled) {
			t, l := s.T, s.l
			m := manifest(t, l.Dir())
			m.Schema.Columns[1].Name = "nickname"
			setManifest(t, l, m)
		}, []string{
			"wrong_schema current/created_month=2026-01", "wrong_schema current/created_month=2026-02", "wrong_schema current/created_month=2026-03",
			"wrong_schema current/created_month=2026-04", "wrong_schema history/", "wrong_schema history/", "outdated_views",
		}},
	} {
		t.Run(strings.ReplaceAll(c.name, ",", ""), func(t *testing.T) {
			t.Parallel()
			l := checkable(t, parquet.SetSortLimit(9))
			c.spoil(spoiled{t, l})
			found, _ := verified(t, l)
			ok := len(found) == len(c.want)
			for i := range min(len(found), len(c.want)) {
				ok = ok && strings.HasPrefix(found[i], c.want[i])
			}
			if !ok {
				t.Errorf("found\n%s\nwant\n%s", strings.Join(found, "\n"), strings.Join(c.want, "\n"))
			}
		})
	}
}

// spoiled is a table in which something is to go wrong.
type spoiled struct {
	*testing.T
	l *parquet.Loader
}

func plant(t *testing.T, path string) {
	t.Helper()
	if err := os.WriteFile(path, []byte("PAR1"), 0o600); err != nil {
		t.Fatal(err)
	}
}
