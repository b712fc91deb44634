package parquet_test

import (
	"testing"

	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
)

func TestScratchViews(t *testing.T) {
	l := open(t, t.TempDir())
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: []loadtest.Row{loadtest.Contact("a", loadtest.Epoch, loadtest.Epoch)}}))
	m, err := parquet.OpenManifest(l.Dir())
	if err != nil {
		t.Fatal(err)
	}
	sql := parquet.Views(parquet.ViewsFor(l.Dir(), m))
	t.Log(sql)
	db := duck(t)
	if _, err := db.Exec(sql); err != nil {
		t.Fatal(err)
	}
}
