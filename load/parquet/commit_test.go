package parquet_test

import (
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
)

func day(d int) time.Time { return time.Date(2026, 8, d, 10, 0, 0, 0, time.UTC) }

func TestFirst(t *testing.T) {
	dir := t.TempDir()
	l, err := parquet.New(parquet.Options{Path: dir, Table: "contacts", Clock: clock.Fixed(loadtest.Epoch)})
	if err != nil {
		t.Fatal(err)
	}
	p := loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: []loadtest.Row{
		loadtest.Contact("a", day(1), day(2), "name", "Ana"),
		loadtest.Contact("b", day(1).AddDate(0, 1, 0), day(2), "name", "Bo"),
	}})
	r, err := l.Commit(t.Context(), p)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%+v", r)
	for _, row := range query(t, duck(t), bareGlob(l.Dir())) {
		t.Log(row)
	}
	r, err = l.Commit(t.Context(), p)
	t.Logf("%+v %v", r, err)
}
