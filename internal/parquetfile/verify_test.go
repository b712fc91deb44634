package parquetfile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

func verifySchema() *arrow.Schema {
	return arrow.NewSchema([]arrow.Field{
		{Name: "id", Type: arrow.BinaryTypes.String},
		{Name: "note", Type: arrow.BinaryTypes.String, Nullable: true},
		{Name: "n", Type: arrow.PrimitiveTypes.Int64, Nullable: true},
	}, nil)
}

type verifyRow struct {
	id   string
	note *string
	n    *int64
}

func verifyRows(n int) []verifyRow {
	rows := make([]verifyRow, n)
	for i := range rows {
		note, v := fmt.Sprintf("note %d", i%37), int64(i*i)
		rows[i] = verifyRow{id: fmt.Sprintf("id-%05d", i*7919%n), note: &note, n: &v}
		if i%4 == 1 {
			rows[i].note = nil
		}
		if i%5 == 2 {
			rows[i].n = nil
		}
	}
	return rows
}

// writeRows writes rows to a file and returns it with its Stats.
func writeRows(t *testing.T, rows []verifyRow, o Options) (string, Stats) {
	t.Helper()
	b := array.NewRecordBuilder(memory.DefaultAllocator, verifySchema())
	defer b.Release()
	for _, r := range rows {
		b.Field(0).(*array.StringBuilder).Append(r.id)
		if r.note == nil {
			b.Field(1).AppendNull()
		} else {
			b.Field(1).(*array.StringBuilder).Append(*r.note)
		}
		if r.n == nil {
			b.Field(2).AppendNull()
		} else {
			b.Field(2).(*array.Int64Builder).Append(*r.n)
		}
	}
	rec := b.NewRecord()
	defer rec.Release()
	o.Schema = verifySchema()
	path := filepath.Join(t.TempDir(), "f.parquet")
	w, err := Create(path, o)
	if err != nil {
		t.Fatal(err)
	}
	defer w.Abort()
	if err := w.Write(rec); err != nil {
		t.Fatal(err)
	}
	st, err := w.Finish()
	if err != nil {
		t.Fatal(err)
	}
	if err := w.Publish(); err != nil {
		t.Fatal(err)
	}
	return path, st
}

// Each case is what a faulty writer could have made of the rows. The check by
// SHA-256 is left out: a faulty writer's bytes are the bytes it wrote.
func TestVerifyFindsWhatAFaultyWriterCouldDo(t *testing.T) {
	empty := ""
	for _, c := range []struct {
		name   string
		spoil  func(rows []verifyRow) []verifyRow
		column string
		what   string
	}{
		{"nothing", func(r []verifyRow) []verifyRow { return r }, "", ""},
		{"a row less", func(r []verifyRow) []verifyRow { return r[:len(r)-1] }, "", "number of rows"},
		{"a row more", func(r []verifyRow) []verifyRow { return append(r, r[0]) }, "", "number of rows"},
		{"one value changed", func(r []verifyRow) []verifyRow { r[600].id = "id-99"; return r }, "id", ""},
		{"two rows of one column swapped", func(r []verifyRow) []verifyRow {
			r[700].n, r[703].n = r[703].n, r[700].n
			return r
		}, "n", "hash of the values in their rows"},
		{"a column shifted against its ids", func(r []verifyRow) []verifyRow {
			first := r[0].note
			for i := range r[:len(r)-1] {
				r[i].note = r[i+1].note
			}
			r[len(r)-1].note = first
			return r
		}, "note", "hash of the values in their rows"},
		{"null becomes empty", func(r []verifyRow) []verifyRow { r[5].note = &empty; return r }, "note", "null count of the footer"},
		{"a null moves by one row", func(r []verifyRow) []verifyRow {
			r[5].note, r[6].note = r[6].note, r[5].note
			return r
		}, "note", "hash of the values in their rows"},
		{"bytes move from one value to the next", func(r []verifyRow) []verifyRow {
			a, b := *r[6].note+"n", (*r[7].note)[1:]
			r[6].note, r[7].note = &a, &b
			return r
		}, "note", ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			_, want := writeRows(t, verifyRows(1000), Options{RowGroupRows: 400})
			path, _ := writeRows(t, c.spoil(verifyRows(1000)), Options{RowGroupRows: 400})
			err := verifyContent(t.Context(), path, want, VerifyFull)
			if c.column == "" && c.what == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			var m *MismatchError
			if !errors.As(err, &m) || !errors.Is(err, ErrMismatch) {
				t.Fatalf("error is %v", err)
			}
			if m.Column != c.column || (c.what != "" && m.What != c.what) || m.Path != path {
				t.Fatalf("error names column %q and %q: %v", m.Column, m.What, err)
			}
			if !strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), m.Got) || !strings.Contains(err.Error(), m.Want) {
				t.Fatalf("error hides something: %v", err)
			}
		})
	}
}

func TestVerifyFindsSwappedRowGroups(t *testing.T) {
	rows := verifyRows(800)
	_, want := writeRows(t, rows, Options{RowGroupRows: 400})
	swapped := append(slices.Clone(rows[400:]), rows[:400]...)
	path, _ := writeRows(t, swapped, Options{RowGroupRows: 400})
	if err := verifyContent(t.Context(), path, want, VerifyFull); !errors.Is(err, ErrMismatch) {
		t.Fatalf("error is %v", err)
	}
}

func TestSampleReadsOneRowGroupWhole(t *testing.T) {
	_, want := writeRows(t, verifyRows(4000), Options{RowGroupRows: 400})
	found := 0
	for g := range 10 {
		rows := verifyRows(4000)
		note := "note 30x" // within the bounds: they must not give it away
		rows[g*400+8].note = &note
		path, _ := writeRows(t, rows, Options{RowGroupRows: 400})
		err := verifyContent(t.Context(), path, want, VerifySample)
		if err != nil && strings.Contains(err.Error(), "hash") {
			found++
		}
	}
	if found != 1 {
		t.Fatalf("a sample of one row group found faults in %d of 10", found)
	}
}

func TestVerifyFindsEveryFlippedByte(t *testing.T) {
	path, st := writeRows(t, verifyRows(500), Options{RowGroupRows: 200})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	step := max(len(whole)/200, 1)
	for i := 0; i < len(whole); i += step {
		bad := slices.Clone(whole)
		bad[i] ^= 0x10
		if err := Overwrite(path, bad); err != nil {
			t.Fatal(err)
		}
		if err := Verify(t.Context(), path, st, VerifyFull); !errors.Is(err, ErrMismatch) {
			t.Fatalf("byte %d flipped: %v", i, err)
		}
	}
	for _, n := range []int{0, 1, 4, 8, len(whole) / 2, len(whole) - 1} {
		if err := Overwrite(path, whole[:n]); err != nil {
			t.Fatal(err)
		}
		if err := Verify(t.Context(), path, st, VerifySample); !errors.Is(err, ErrMismatch) {
			t.Fatalf("cut to %d bytes: %v", n, err)
		}
	}
}

// The bytes are compared before the second reader sees them; this is the
// second reader itself on damaged bytes, as if the checksum did not exist.
func TestTheSecondReaderSurvivesDamage(t *testing.T) {
	path, st := writeRows(t, verifyRows(500), Options{RowGroupRows: 200})
	whole, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	r := Seeded(t)
	missed := 0
	for range 300 {
		bad := slices.Clone(whole)
		at, bit := r.IntN(len(bad)), byte(1<<r.IntN(8))
		bad[at] ^= bit
		if err := Overwrite(path, bad); err != nil {
			t.Fatal(err)
		}
		err := verifyContent(t.Context(), path, st, VerifyFull)
		if err == nil {
			missed++ // in text that nobody compares: metadata, page statistics
		} else if !errors.Is(err, ErrMismatch) {
			t.Fatalf("byte %d, bit %d: %v", at, bit, err)
		}
	}
	t.Logf("%d of 300 flipped bits change no value", missed)
}

func TestVerifyStopsWhenTheContextEnds(t *testing.T) {
	path, st := writeRows(t, verifyRows(500), Options{})
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := Verify(ctx, path, st, VerifyFull); !errors.Is(err, context.Canceled) {
		t.Fatalf("error is %v", err)
	}
}

func TestVerifyRefusesWhatItCannotCompare(t *testing.T) {
	path, st := writeRows(t, verifyRows(10), Options{})
	if err := Verify(t.Context(), path, st, "fast"); err == nil || !strings.Contains(err.Error(), `"fast"`) {
		t.Fatalf("unknown mode: %v", err)
	}
	if err := Verify(t.Context(), path, Stats{Rows: 10}, VerifyFull); err == nil {
		t.Fatal("Stats without hashes pass")
	}
	if err := Verify(t.Context(), path+".gone", st, VerifyFull); !errors.Is(err, os.ErrNotExist) {
		t.Fatalf("no file: %v", err)
	}
	if err := Verify(t.Context(), path+".gone", st, VerifyOff); err != nil {
		t.Fatalf("off: %v", err)
	}
}

func TestTheDigestDoesNotDependOnHowRowsAreCut(t *testing.T) {
	r := Seeded(t)
	b := array.NewStringBuilder(memory.DefaultAllocator)
	for range 5000 {
		switch r.IntN(4) {
		case 0:
			b.AppendNull()
		case 1:
			b.Append("")
		default:
			b.Append(strings.Repeat("ab", r.IntN(40)))
		}
	}
	b.Append(strings.Repeat("x", 3*digestChunk))
	a := b.NewArray()
	var whole, pieces digester
	whole.reset(a.DataType())
	if err := whole.array(a); err != nil {
		t.Fatal(err)
	}
	pieces.reset(a.DataType())
	for from := 0; from < a.Len(); {
		to := min(from+1+r.IntN(700), a.Len())
		if err := pieces.array(array.NewSlice(a, int64(from), int64(to))); err != nil {
			t.Fatal(err)
		}
		from = to
	}
	if whole.sum() != pieces.sum() {
		t.Fatal("digests differ")
	}
}
