package parquetfile_test

import (
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"path/filepath"
	"sync"
	"testing"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/sluice-etl/sluice/internal/parquetfile"
)

const (
	benchRows  = 1_000_000
	benchChunk = 131072
)

// benchRecords builds the benchmark's rows once.
var benchRecords = sync.OnceValue(func() []arrow.Record {
	r := rand.New(rand.NewPCG(7, 7))
	s := contactSchema()
	var recs []arrow.Record
	for from := 0; from < benchRows; from += benchChunk {
		recs = append(recs, contacts(s, r, from, min(benchChunk, benchRows-from)))
	}
	return recs
})

func benchWrite(b *testing.B, o parquetfile.Options) (string, parquetfile.Stats) {
	b.Helper()
	recs := benchRecords()
	o.Schema = recs[0].Schema()
	path := filepath.Join(b.TempDir(), "bench.parquet")
	w, err := parquetfile.Create(path, o)
	if err != nil {
		b.Fatal(err)
	}
	for _, r := range recs {
		if err := w.Write(r); err != nil {
			b.Fatal(err)
		}
	}
	st, err := w.Finish()
	if err != nil {
		b.Fatal(err)
	}
	if err := w.Publish(); err != nil {
		b.Fatal(err)
	}
	return path, st
}

func BenchmarkWrite(b *testing.B) {
	benchRecords()
	for _, workers := range []int{1, 2} {
		b.Run(fmt.Sprintf("workers=%d", workers), func(b *testing.B) {
			b.ReportAllocs()
			var st parquetfile.Stats
			for b.Loop() {
				_, st = benchWrite(b, parquetfile.Options{Workers: workers})
			}
			b.ReportMetric(float64(st.Rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
			b.ReportMetric(float64(st.Bytes)/float64(st.Rows), "B/row")
		})
	}
}

func BenchmarkVerify(b *testing.B) {
	path, st := benchWrite(b, parquetfile.Options{})
	b.ReportAllocs()
	for b.Loop() {
		if err := parquetfile.Verify(b.Context(), path, st, parquetfile.VerifyFull); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(st.Rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkRead(b *testing.B) {
	path, st := benchWrite(b, parquetfile.Options{})
	b.ReportAllocs()
	for b.Loop() {
		r, err := parquetfile.Open(path)
		if err != nil {
			b.Fatal(err)
		}
		recs, err := r.Read(parquetfile.ReadOptions{})
		if err != nil {
			b.Fatal(err)
		}
		for {
			rec, err := recs.Next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				b.Fatal(err)
			}
			rec.Release()
		}
		_ = r.Close()
	}
	b.ReportMetric(float64(st.Rows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}
