//go:build cgo

package duckdb_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/duckdb"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/schemas"
)

func TestPartsAreReadFromAnyFolder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	odd := filepath.Join(dir, "name=x", "o'dd [dir]*? ü")
	mkdir(t, odd)
	p := one(t, 1, "a")
	moved := filepath.Join(odd, "part[0].parquet")
	copyFile(t, p.Parts[0].Path, moved)
	copyFile(t, one(t, 1, "decoy").Parts[0].Path, filepath.Join(odd, "part0.parquet")) // what the name means as a glob
	p.Parts[0].Path = moved
	path := filepath.Join(dir, "contacts.duckdb")
	commit(t, open(t, path), p)
	if rows := query(t, path, "SELECT name FROM contacts"); len(rows) != 1 || rows[0]["name"] != "a" {
		t.Errorf("the table holds %v", rows)
	}
}

func TestSeveralTombstonesOfAnUnknownContactLeaveNoTrace(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "contacts.duckdb")
	gone := loadtest.Contact("gone", loadtest.Epoch, loadtest.Epoch, schemas.ColDeletedAt, loadtest.Epoch)
	r := commit(t, open(t, path), loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: []loadtest.Row{gone.With("name", "a"), gone.With("name", "b")}}))
	if r.Versions != 0 || len(stored(t, path, "contacts__history")) != 0 || len(stored(t, path, "contacts__current")) != 0 {
		t.Errorf("result is %+v", r)
	}
}

func TestADamagedPackageIsRefusedWhole(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "contacts.duckdb")
	commit(t, open(t, path), one(t, 1, "a"))
	before := content(t, path)
	for name, c := range map[string]struct {
		damage func(p *load.Package)
		want   string
	}{
		"a part is gone":         {func(p *load.Package) { p.Parts[0].Path += "x" }, "damaged or gone"},
		"a part is no Parquet":   {func(p *load.Package) { p.Parts[0].Path = path + ".no"; write(t, p.Parts[0].Path, "PAR1") }, "damaged or gone"},
		"rows are missing":       {func(p *load.Package) { p.Parts[0].Rows = 3 }, "holds 2 rows, recorded were 3"},
		"a part twice":           {func(p *load.Package) { p.Parts = append(p.Parts, p.Parts[0]) }, "rows instead of"},
		"a column too many":      {func(p *load.Package) { p.Table = without(p.Table, "name") }, "column name is not in the package's table"},
		"another type":           {func(p *load.Package) { p.Table = retyped(p.Table, "phone", schemas.Int64) }, "phone is"},
		"no column of the merge": {func(p *load.Package) { p.Table = without(p.Table, schemas.ColHash) }, "no column _sluice_hash"},
		"an unknown level":       {func(p *load.Package) { p.Verify = "much" }, `level "much"`},
	} {
		p := one(t, 2, "a", "b")
		c.damage(&p)
		if _, err := open(t, path).Commit(t.Context(), p); err == nil || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s: %v", name, err)
		}
		if content(t, path) != before {
			t.Fatalf("%s: the database changed", name)
		}
	}
}

func without(t schemas.Table, name string) schemas.Table {
	var out schemas.Table
	for _, c := range t.Columns {
		if c.Name != name {
			out.Columns = append(out.Columns, c)
		}
	}
	return out
}

func retyped(t schemas.Table, name string, to schemas.Type) schemas.Table {
	out := without(t, "")
	out.Columns[out.Index(name)].Type = to
	return out
}

func TestWhatAKilledCommitSpilledIsRemoved(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "contacts.duckdb")
	commit(t, open(t, path), one(t, 1, "a"))
	mkdir(t, path+".tmp")
	write(t, filepath.Join(path+".tmp", "duckdb_temp_storage_DEFAULT-0.tmp"), "rows")
	commit(t, open(t, path), one(t, 2, "a"))
	if exists(path + ".tmp") {
		t.Error("it is still there")
	}
}

func TestAMergeLargerThanItsMemorySpills(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "contacts.duckdb")
	small := func(o *duckdb.Options) { o.MemoryLimit, o.Threads = "48MB", 1 }
	p := benchPackage(t, 1, 0, 20_000, 1, 0)
	if r := commit(t, open(t, path, small), p); r.New != 20_000 {
		t.Errorf("result is %+v", r)
	}
	p = benchPackage(t, 2, 0, 20_000, 1, 1)
	if r := commit(t, open(t, path, small), p); r.Changed != 20_000 {
		t.Errorf("result is %+v", r)
	}
	if exists(path + ".tmp") {
		entries, err := os.ReadDir(path + ".tmp")
		t.Errorf("left behind: %v, %v", entries, err)
	}
	// Where there is no room at all, the error says which setting gives some.
	_, err := open(t, path, func(o *duckdb.Options) { o.MemoryLimit = "1MB" }).Commit(t.Context(), loadtest.Build(t, loadtest.Spec{Serial: 3, Lineage: "bench", Rows: []loadtest.Row{loadtest.Contact("a", loadtest.Epoch, loadtest.Epoch)}}))
	if err == nil || !hinted(err, "memory_limit") {
		t.Errorf("with 1 MB: %v", err)
	}
}
