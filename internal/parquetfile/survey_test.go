package parquetfile_test

import (
	"errors"
	"math/rand/v2"
	"os"
	"path/filepath"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/parquetfile"
)

func TestASurveyFindsWhatWasWritten(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	for n, rows := range []int{0, 1, 5000, 40_000} {
		rec := contacts(contactSchema(), rand.New(rand.NewPCG(seed, uint64(n))), 0, rows)
		path, want := write(t, parquetfile.Options{Schema: rec.Schema(), RowGroupRows: 15_000}, rec)
		var seen int64
		got, err := parquetfile.Survey(t.Context(), path, want.Bytes, want.SHA256, func(r arrow.Record) error { seen += r.NumRows(); return nil })
		if err != nil {
			t.Fatal(err)
		}
		if seen != int64(rows) {
			t.Errorf("each saw %d rows of %d", seen, rows)
		}
		if d := cmp.Diff(want.Columns, got.Columns); d != "" || got.Rows != want.Rows {
			t.Errorf("%d rows (-written +read):\n%s", rows, d)
		}
		if err := parquetfile.Verify(t.Context(), path, got, parquetfile.VerifyFull); err != nil {
			t.Error(err)
		}
		got.SHA256 = want.SHA256[:62] + "xx"
		if err := parquetfile.Verify(t.Context(), path, got, parquetfile.VerifyFull); !errors.Is(err, parquetfile.ErrMismatch) {
			t.Errorf("another checksum: %v", err)
		}
		rec.Release()
	}
}

func TestASurveyOfADamagedFileSaysSo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f.parquet")
	if err := os.WriteFile(path, []byte("PAR1 nothing PAR1"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := parquetfile.Survey(t.Context(), path, 17, "", nil); !errors.Is(err, parquetfile.ErrDamaged) {
		t.Errorf("error is %v", err)
	}
}
