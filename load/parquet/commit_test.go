package parquet_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/schemas"
)

// contact is created in a month of 2026 and updated some hours past Epoch.
func contact(id string, month, updated int, pairs ...any) loadtest.Row {
	return loadtest.Contact(id, time.Date(2026, time.Month(month), 10, 9, 0, 0, 0, time.UTC), loadtest.Epoch.Add(time.Duration(updated)*time.Hour), pairs...)
}

func build(tb testing.TB, serial int64, rows ...loadtest.Row) load.Package {
	tb.Helper()
	return loadtest.Build(tb, loadtest.Spec{Serial: serial, Rows: rows})
}

func manifest(tb testing.TB, dir string) *parquet.Manifest {
	tb.Helper()
	m, err := parquet.OpenManifest(dir)
	if err != nil {
		tb.Fatal(err)
	}
	return m
}

func modTimes(tb testing.TB, dir string) map[string]string {
	tb.Helper()
	out := map[string]string{}
	files, err := filepath.Glob(filepath.Join(dir, "current", "*", "*.parquet"))
	if err != nil {
		tb.Fatal(err)
	}
	for _, f := range files {
		info, err := os.Stat(f)
		if err != nil {
			tb.Fatal(err)
		}
		out[filepath.Base(filepath.Dir(f))] = info.ModTime().String()
	}
	return out
}

// wantError checks that err says all of parts and carries a hint.
func wantError(t *testing.T, err error, parts ...string) {
	t.Helper()
	if err == nil {
		t.Fatal("no error")
	}
	for _, p := range parts {
		if !strings.Contains(err.Error(), p) {
			t.Errorf("error %q does not say %q", err, p)
		}
	}
	var hinted interface{ Hint() string }
	if !errors.As(err, &hinted) || hinted.Hint() == "" {
		t.Errorf("error %q does not say what to do", err)
	}
}

func TestCommitTouchesOnlyMonthsThatChange(t *testing.T) {
	l := open(t, t.TempDir())
	commit(t, l, build(t, 1, contact("a", 1, 1), contact("b", 2, 1), contact("c", 3, 1)))
	before := modTimes(t, l.Dir())
	if r := commit(t, l, build(t, 2, contact("a", 1, 1), contact("b", 2, 1))); len(r.Files) != 0 || r.Unchanged != 2 {
		t.Errorf("reading the same again gives %+v", r)
	}
	if d := cmp.Diff(before, modTimes(t, l.Dir())); d != "" {
		t.Errorf("reading the same again touched files:\n%s", d)
	}
	r := commit(t, l, build(t, 3, contact("a", 1, 1), contact("b", 2, 2, "name", "Bo")))
	after := modTimes(t, l.Dir())
	if after["created_month=2026-01"] != before["created_month=2026-01"] || after["created_month=2026-03"] != before["created_month=2026-03"] {
		t.Error("a month without changes was touched")
	}
	if after["created_month=2026-02"] == before["created_month=2026-02"] || len(r.Files) != 2 {
		t.Errorf("one month changed, the result is %+v", r)
	}
}

func TestCurrentKeepsItsOrderAndAppends(t *testing.T) {
	l := open(t, t.TempDir())
	commit(t, l, build(t, 1, contact("d", 1, 1), contact("b", 1, 1), contact("c", 1, 1), contact("a", 1, 1)))
	commit(t, l, build(t, 2, contact("z", 1, 2), contact("b", 1, 2, "name", "new"), contact("d", 1, 1)))
	var ids []string
	for _, r := range current(t, l.Dir()) {
		ids = append(ids, r.ID())
	}
	if got := strings.Join(ids, ""); got != "dcazb" {
		t.Errorf("current holds %s, want dcazb", got)
	}
}

func TestNewColumnsReachEveryFile(t *testing.T) {
	l := open(t, t.TempDir())
	commit(t, l, build(t, 1, contact("a", 1, 1), contact("b", 2, 1), contact("c", 3, 1)))
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 2, Rows: []loadtest.Row{contact("c", 3, 2, "cf_ticket_x", "x")}, Extra: []schemas.Column{loadtest.Extra("cf_ticket_x", schemas.String)}}))
	db := duck(t)
	for _, f := range manifest(t, l.Dir()).Current {
		rows := query(t, db, fmt.Sprintf("DESCRIBE FROM '%s'", filepath.Join(l.Dir(), f.Path)))
		var names []string
		for _, r := range rows {
			names = append(names, fmt.Sprint(r["column_name"]))
		}
		var want []string
		for _, c := range loadtest.Table(loadtest.Extra("cf_ticket_x", schemas.String)).Columns {
			want = append(want, c.Name)
		}
		want = append(want, "created_month") // from the path
		if d := cmp.Diff(want, names); d != "" {
			t.Errorf("%s (-want +got):\n%s", f.Path, d)
		}
	}
}

func TestHistorySplitsByDayAndSize(t *testing.T) {
	l := open(t, t.TempDir(), func(o *parquet.Options) { o.HistoryFileRows = 3 })
	var rows []loadtest.Row
	midnight := time.Date(2026, 9, 2, 0, 0, 0, 0, time.UTC)
	for i := range 12 {
		at := midnight.Add(time.Duration(i-7) * time.Minute)
		rows = append(rows, contact(fmt.Sprintf("c%02d", i), 1+i%3, 1, schemas.ColExtractedAt, at))
	}
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 42, Rows: rows, PartRows: 5}))
	got := map[string]int64{}
	for _, f := range manifest(t, l.Dir()).History {
		got[f.Path] = f.Rows
	}
	want := map[string]int64{
		"history/extracted_date=2026-09-01/00000042-0001.parquet": 3,
		"history/extracted_date=2026-09-01/00000042-0002.parquet": 3,
		"history/extracted_date=2026-09-01/00000042-0003.parquet": 1,
		"history/extracted_date=2026-09-02/00000042-0001.parquet": 3,
		"history/extracted_date=2026-09-02/00000042-0002.parquet": 2,
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("history files (-want +got):\n%s", d)
	}
	wrong := query(t, duck(t), fmt.Sprintf("SELECT id FROM read_parquet('%s/history/*/*.parquet', hive_partitioning=true) WHERE timezone('UTC', _sluice_extracted_at)::DATE <> extracted_date", l.Dir()))
	if len(wrong) > 0 || len(history(t, l.Dir())) != 12 {
		t.Errorf("rows in a wrong day: %v", wrong)
	}
}

func TestManifestTellsWhatTheFilesHold(t *testing.T) {
	l := open(t, t.TempDir())
	commit(t, l, build(t, 3, contact("a", 1, 1), contact("b", 1, 5), contact("c", 2, 2)))
	m := manifest(t, l.Dir())
	if m.Number != 1 || m.Package != 3 || m.Lineage != "lineage-a" || m.RunID != "run-003" || m.Rows() != 3 || len(m.Schema.Columns) == 0 {
		t.Errorf("manifest is %+v", m)
	}
	for _, f := range slices.Concat(m.Current, m.History) {
		size, sum, err := parquetfile.Checksum(filepath.Join(l.Dir(), f.Path))
		if err != nil || size != f.Bytes || sum != f.SHA256 {
			t.Errorf("%s: %d bytes, sum %s, %v; manifest says %+v", f.Path, size, sum, err, f)
		}
	}
	want := &parquet.Range{Min: loadtest.Epoch.Add(time.Hour), Max: loadtest.Epoch.Add(5 * time.Hour)}
	if d := cmp.Diff(want, m.Current[0].UpdatedAt); d != "" {
		t.Errorf("range of updated_at (-want +got):\n%s", d)
	}
	if d := cmp.Diff(&parquet.Range{Min: loadtest.Epoch.Add(3 * time.Hour), Max: loadtest.Epoch.Add(3 * time.Hour)}, m.History[0].ExtractedAt); d != "" {
		t.Errorf("range of extracted_at (-want +got):\n%s", d)
	}
}

func TestOldManifestsArePruned(t *testing.T) {
	l := open(t, t.TempDir(), on(unsynced{}))
	var first load.Package
	for n := range int64(60) {
		p := build(t, n+1)
		if n == 0 {
			first = p
		}
		commit(t, l, p)
	}
	files, err := filepath.Glob(filepath.Join(l.Dir(), "_manifests", "0*.json"))
	if err != nil || len(files) != 50 || filepath.Base(files[0]) != "00000011.json" {
		t.Errorf("%d manifests, %v, from %v", len(files), err, files[:1])
	}
	_, err = l.Commit(t.Context(), first)
	if !errors.Is(err, load.ErrAhead) {
		t.Errorf("a package too old to be known gives %v", err)
	}
}

func TestCoverageIsOneLineOfJSON(t *testing.T) {
	l := open(t, t.TempDir())
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 1, Coverage: []byte("{\n  \"intervals\": [1, 2]\n}")}))
	got, err := os.ReadFile(filepath.Join(l.Dir(), "_sluice_runs", "run-001.json"))
	if err != nil || string(got) != "{\"intervals\":[1,2]}\n" {
		t.Errorf("coverage is %q, %v", got, err)
	}
	_, err = l.Commit(t.Context(), loadtest.Build(t, loadtest.Spec{Serial: 2, Coverage: []byte("{")}))
	if err == nil {
		t.Error("broken coverage is accepted")
	}
}

func TestForeignDirectoriesAreNamedAndLeftAlone(t *testing.T) {
	good := func(change func(map[string]any)) string {
		l := open(t, t.TempDir())
		commit(t, l, build(t, 1))
		path := filepath.Join(l.Dir(), "_manifests", "latest.json")
		data, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		var doc map[string]any
		if err := json.Unmarshal(data, &doc); err != nil {
			t.Fatal(err)
		}
		change(doc)
		if data, err = json.Marshal(doc); err != nil {
			t.Fatal(err)
		}
		return string(data)
	}
	for name, c := range map[string]struct {
		files   map[string]string
		says    []string
		foreign bool
	}{
		"another program's files":  {map[string]string{"data.csv": "x"}, []string{`"data.csv"`, "contacts"}, true},
		"another program's folder": {map[string]string{"current/x": "x"}, []string{`"current"`}, true},
		"manifests of another kind": {
			map[string]string{"_manifests/latest.json": `{"files": []}`}, []string{"format_version", "latest.json"}, true,
		},
		"another state's table": {
			map[string]string{"_manifests/latest.json": good(func(m map[string]any) { m["lineage"], m["pipeline"] = "lineage-z", "weekly" })},
			[]string{"another state", "lineage-z", `"weekly"`, "lineage-a"},
			true,
		},
		"a later format": {
			map[string]string{"_manifests/latest.json": good(func(m map[string]any) { m["format_version"] = 99 })},
			[]string{"format 99", "up to 1"},
			false,
		},
		"a torn manifest": {
			map[string]string{"_manifests/latest.json": good(func(map[string]any) {})[:40]}, []string{"damaged", "latest.json"}, false,
		},
		"a manifest that points outside": {
			map[string]string{"_manifests/latest.json": good(func(m map[string]any) { m["published"] = []string{"../../x"} })}, []string{"outside"}, false,
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for rel, text := range c.files {
				path := filepath.Join(root, "contacts", rel)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			before := snapshot(t, root)
			l := open(t, root)
			_, err := l.Commit(t.Context(), build(t, 2, contact("a", 1, 1)))
			wantError(t, err, c.says...)
			if errors.Is(err, load.ErrForeign) != c.foreign {
				t.Errorf("foreign is %v for %v", !c.foreign, err)
			}
			if _, err := l.Check(t.Context(), "lineage-a"); err == nil {
				t.Error("the check passes")
			}
			if d := cmp.Diff(before, snapshot(t, root)); d != "" {
				t.Errorf("it changed (-want +got):\n%s", d)
			}
			if _, err := os.Stat(filepath.Join(root, "contacts", ".lock")); err == nil {
				t.Error("a lock file was left")
			}
		})
	}
}

func TestAFileInTheWayIsNamed(t *testing.T) {
	root := t.TempDir()
	file := filepath.Join(root, "out")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, l := range []*parquet.Loader{open(t, file), open(t, root, func(o *parquet.Options) { o.Table = "out" })} {
		_, err := l.Commit(t.Context(), build(t, 1))
		wantError(t, err, file)
		_, err = l.Check(t.Context(), "lineage-a")
		wantError(t, err, file)
	}
}

func TestAReadOnlyDirectoryIsNamed(t *testing.T) {
	if os.Geteuid() == 0 {
		t.Skip("permission bits do not bind root")
	}
	root := t.TempDir()
	if err := os.Chmod(root, 0o555); err != nil { //nolint:gosec // that is the case under test
		t.Fatal(err)
	}
	l := open(t, filepath.Join(root, "lake"))
	_, err := l.Commit(t.Context(), build(t, 1))
	wantError(t, err, root, "permission denied")
	_, err = l.Check(t.Context(), "lineage-a")
	wantError(t, err, root, "permission denied")
}

func TestAHeldLockNamesItsHolder(t *testing.T) {
	root := t.TempDir()
	entered, leave := make(chan struct{}), make(chan struct{})
	slow := &gate{FS: atomicfile.OS{}, at: "00000001.json", entered: entered, leave: leave}
	first := make(chan error, 1)
	go func() {
		_, err := open(t, root, on(slow)).Commit(context.Background(), build(t, 1, contact("a", 1, 1)))
		first <- err
	}()
	<-entered
	_, err := open(t, root).Commit(t.Context(), build(t, 1, contact("a", 1, 1)))
	var locked *parquet.LockedError
	if !errors.As(err, &locked) || locked.Holder.PID != os.Getpid() || locked.Holder.RunID != "run-001" || !locked.Holder.Since.Equal(loadtest.Epoch) {
		t.Errorf("error is %v", err)
	}
	wantError(t, err, fmt.Sprint(os.Getpid()), "run-001", "2026-09-01T00:00:00Z")
	waited := make(chan error, 1)
	go func() {
		_, err := open(t, root, func(o *parquet.Options) { o.LockWait = time.Minute }).Commit(context.Background(), build(t, 1, contact("a", 1, 1)))
		waited <- err
	}()
	close(leave)
	if err := errors.Join(<-first, <-waited); err != nil {
		t.Error(err)
	}
}

// gate stops before the first file of a name until it is let go.
type gate struct {
	atomicfile.FS
	at             string
	entered, leave chan struct{}
}

func (g *gate) OpenTemp(path string, perm fs.FileMode) (atomicfile.Temp, error) {
	if filepath.Base(path) == g.at {
		close(g.entered)
		<-g.leave
	}
	return g.FS.OpenTemp(path, perm)
}

func TestACancelledCommitLeavesTheTableAsItWas(t *testing.T) {
	l := open(t, t.TempDir())
	commit(t, l, build(t, 1, contact("a", 1, 1)))
	before := snapshot(t, l.Dir())
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := l.Commit(ctx, build(t, 2, contact("a", 1, 2))); !errors.Is(err, context.Canceled) {
		t.Errorf("error is %v", err)
	}
	if d := cmp.Diff(before, snapshot(t, l.Dir())); d != "" {
		t.Errorf("the table changed (-want +got):\n%s", d)
	}
}

func TestAFileThatDoesNotReadBackIsNotPublished(t *testing.T) {
	root := t.TempDir()
	commit(t, open(t, root), build(t, 1, contact("a", 1, 1)))
	before := snapshot(t, root)
	_, err := open(t, root, on(flipping{})).Commit(t.Context(), build(t, 2, contact("a", 1, 2, "name", "Ana")))
	if !errors.Is(err, parquetfile.ErrMismatch) {
		t.Errorf("error is %v", err)
	}
	if d := cmp.Diff(before, snapshot(t, root)); d != "" {
		t.Errorf("the table changed (-want +got):\n%s", d)
	}
}

// flipping is a disk that turns a bit of each long write.
type flipping struct{ atomicfile.OS }

func (f flipping) OpenTemp(path string, perm fs.FileMode) (atomicfile.Temp, error) {
	t, err := f.OS.OpenTemp(path, perm)
	return flippingTemp{t}, err
}

type flippingTemp struct{ atomicfile.Temp }

func (f flippingTemp) Write(p []byte) (int, error) {
	if len(p) > 30 {
		p = slices.Clone(p)
		p[len(p)/2] ^= 1
	}
	return f.Temp.Write(p)
}

func TestDamageIsReportedNotMerged(t *testing.T) {
	for name, spoil := range map[string]func(t *testing.T, path string){
		"a file is gone": func(t *testing.T, path string) {
			t.Helper()
			if err := os.Remove(path); err != nil {
				t.Fatal(err)
			}
		},
		"a file is cut short": func(t *testing.T, path string) {
			t.Helper()
			if err := os.Truncate(path, 200); err != nil {
				t.Fatal(err)
			}
		},
		"a bit flipped": func(t *testing.T, path string) {
			t.Helper()
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			data[60] ^= 1
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		},
		"a file is another one": func(t *testing.T, path string) {
			t.Helper()
			other := build(t, 1, contact("x", 1, 1), contact("y", 1, 1))
			data, err := os.ReadFile(other.Parts[0].Path)
			if err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			l := open(t, t.TempDir())
			commit(t, l, build(t, 1, contact("a", 1, 1)))
			spoil(t, filepath.Join(l.Dir(), manifest(t, l.Dir()).Current[0].Path))
			before := snapshot(t, l.Dir())
			_, err := l.Commit(t.Context(), build(t, 2, contact("a", 1, 2)))
			if err == nil || !strings.Contains(err.Error(), "created_month=2026-01") {
				t.Errorf("error is %v", err)
			}
			var explained interface{ Hint() string }
			if !errors.As(err, &explained) || !strings.Contains(explained.Hint(), "--full") {
				t.Errorf("no way out in %v", err)
			}
			if d := cmp.Diff(before, snapshot(t, l.Dir())); d != "" {
				t.Errorf("the table changed (-want +got):\n%s", d)
			}
		})
	}
}

func TestPartsAreNotTrustedBlindly(t *testing.T) {
	whole := build(t, 1, contact("a", 1, 1), contact("b", 2, 1))
	for name, change := range map[string]func(p *load.Package){
		"more rows than recorded":  func(p *load.Package) { p.Parts[0].Rows = 1 },
		"fewer rows than recorded": func(p *load.Package) { p.Parts[0].Rows = 3 },
		"a part is gone":           func(p *load.Package) { p.Parts[0].Path += "x" },
		"a column nobody declared": func(p *load.Package) { p.Table.Columns = slices.Delete(slices.Clone(p.Table.Columns), 1, 2) },
		"a serial of zero":         func(p *load.Package) { p.Serial = 0 },
		"no lineage":               func(p *load.Package) { p.Lineage = "" },
		"a run id with a path":     func(p *load.Package) { p.RunID = "../x" },
		"no system columns":        func(p *load.Package) { p.Table.Columns = loadtest.BaseColumns() },
		"a verification nobody knows": func(p *load.Package) {
			p.Verify = "perhaps"
		},
	} {
		t.Run(name, func(t *testing.T) {
			p := whole
			p.Parts = slices.Clone(whole.Parts)
			change(&p)
			l := open(t, t.TempDir())
			if _, err := l.Commit(t.Context(), p); err == nil {
				t.Error("it is committed")
			}
			if got := current(t, l.Dir()); len(got) != 0 {
				t.Errorf("current holds %v", got)
			}
		})
	}
}
