package transform_test

import (
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"

	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

const benchPages = 32 // of 1000 contacts, about 27 MB

func benchBodies(b *testing.B) (pages [][]byte, size int64) {
	b.Helper()
	g := newGenerator(1)
	for range benchPages {
		p := g.page(1000)
		pages, size = append(pages, p), size+int64(len(p))
	}
	return pages, size
}

// decodeAll puts all pages into c.
func decodeAll(tb testing.TB, c *transform.Chunk, pages [][]byte) {
	tb.Helper()
	at := time.Unix(1_700_000_000, 0)
	for _, p := range pages {
		if _, err := c.Decode(p); err != nil {
			tb.Fatal(err)
		}
		c.Keep(nil, transform.Meta{ExtractedAt: at, FirstRow: int64(c.Rows())})
	}
}

func seal(tb testing.TB, c *transform.Chunk, reg *schemas.Registry, mem memory.Allocator) *transform.Sealed {
	tb.Helper()
	s, err := c.Seal(reg, "run", mem)
	if err != nil {
		tb.Fatal(err)
	}
	return s
}

func newRegistry(tb testing.TB) *schemas.Registry {
	tb.Helper()
	reg, err := schemas.NewRegistry(schemas.Default(), nil)
	if err != nil {
		tb.Fatal(err)
	}
	return reg
}

// BenchmarkDecode reads pages into column memory, without sealing.
func BenchmarkDecode(b *testing.B) {
	pages, size := benchBodies(b)
	c := transform.NewChunk(transform.Options{})
	at := time.Unix(1_700_000_000, 0)
	b.SetBytes(size / benchPages)
	b.ReportAllocs()
	for i := 0; b.Loop(); i++ {
		if i%benchPages == 0 {
			b.StopTimer()
			reg := newRegistry(b)
			seal(b, c, reg, nil).Record.Release()
			b.StartTimer()
		}
		if _, err := c.Decode(pages[i%benchPages]); err != nil {
			b.Fatal(err)
		}
		c.Keep(nil, transform.Meta{ExtractedAt: at})
	}
}

// BenchmarkFlatten is JSON pages to sealed record batches of 32,000 rows, row
// hash included; rows arrive in order of created_at.
func BenchmarkFlatten(b *testing.B) {
	pages, size := benchBodies(b)
	c := transform.NewChunk(transform.Options{})
	reg := newRegistry(b)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		decodeAll(b, c, pages)
		seal(b, c, reg, nil).Record.Release()
	}
}

// BenchmarkFlattenUnordered is BenchmarkFlatten with rows of all months mixed,
// as an incremental run brings them.
func BenchmarkFlattenUnordered(b *testing.B) {
	var pages [][]byte
	var size int64
	g := newGenerator(1)
	for range benchPages {
		body := []byte{'['}
		for i := range 1000 {
			if i > 0 {
				body = append(body, ',')
			}
			g.created = time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC).Add(time.Duration(g.r.IntN(700*24)) * time.Hour)
			body = g.contact(body)
		}
		body = append(body, ']')
		pages, size = append(pages, body), size+int64(len(body))
	}
	c := transform.NewChunk(transform.Options{})
	reg := newRegistry(b)
	b.SetBytes(size)
	for b.Loop() {
		decodeAll(b, c, pages)
		seal(b, c, reg, nil).Record.Release()
	}
}

// BenchmarkFlattenWide is BenchmarkFlatten with 300 custom fields, of which
// each contact has fifteen in any order: every key is a surprise.
func BenchmarkFlattenWide(b *testing.B) {
	var pages [][]byte
	var size int64
	g := newGenerator(1)
	g.fields = 300
	for range benchPages {
		p := g.page(1000)
		pages, size = append(pages, p), size+int64(len(p))
	}
	c := transform.NewChunk(transform.Options{})
	reg := newRegistry(b)
	b.SetBytes(size)
	b.ReportAllocs()
	for b.Loop() {
		decodeAll(b, c, pages)
		seal(b, c, reg, nil).Record.Release()
	}
}

// BenchmarkSeal is the second half of BenchmarkFlatten.
func BenchmarkSeal(b *testing.B) {
	pages, size := benchBodies(b)
	c := transform.NewChunk(transform.Options{})
	reg := newRegistry(b)
	b.SetBytes(size)
	for b.Loop() {
		b.StopTimer()
		decodeAll(b, c, pages)
		b.StartTimer()
		seal(b, c, reg, nil).Record.Release()
	}
}
