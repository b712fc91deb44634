package extract_test

import (
	"context"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/extract/extracttest"
)

// spread is a source whose timestamps differ: no ties, nothing moves.
func spread(contacts int) *extracttest.Source {
	src := extracttest.New(extracttest.Options{Seed: 1, Contacts: contacts, Gap: 10 * time.Second})
	src.Budget = 1 << 30
	return src
}

func plainRequests(tb testing.TB, src *extracttest.Source, pageSize int) int64 {
	tb.Helper()
	s := schedule{pageSize: pageSize}
	counted := &counting{Pager: src}
	if _, err := offsetPaging(tb.Context(), s, pass{src: counted, clk: src, sink: &collector{}}); err != nil {
		tb.Fatal(err)
	}
	return counted.n
}

type counting struct {
	extract.Pager
	n int64
}

func (c *counting) Page(ctx context.Context, q extract.Query, decode func([]byte, extract.PageInfo) error) (extract.Response, error) {
	c.n++
	return c.Pager.Page(ctx, q, decode)
}

func walkRequests(tb testing.TB, src *extracttest.Source, pageSize int) int64 {
	tb.Helper()
	w := &extract.Walk{Client: src, Clock: src, Lookback: time.Minute, PageSize: pageSize}
	out, err := w.Run(tb.Context(), &collector{})
	if err != nil {
		tb.Fatal(err)
	}
	return out.Requests
}

func TestWithoutTiesTheWalkCostsAtMostATenthMoreThanOffsetPaging(t *testing.T) {
	const contacts, pageSize = 4000, 100
	plain, walked := plainRequests(t, spread(contacts), pageSize), walkRequests(t, spread(contacts), pageSize)
	t.Logf("offset paging takes %d requests, the walk %d", plain, walked)
	if float64(walked) > 1.1*float64(plain) {
		t.Errorf("the walk takes %d requests, offset paging %d", walked, plain)
	}
}

// BenchmarkRequests reports what the walk costs beside plain offset paging, in
// requests, and what it costs of our own time per row.
func BenchmarkRequests(b *testing.B) {
	const contacts, pageSize = 50000, 1000
	plain := plainRequests(b, spread(contacts), pageSize)
	var walked int64
	for b.Loop() {
		walked = walkRequests(b, spread(contacts), pageSize)
	}
	b.ReportMetric(float64(walked), "requests")
	b.ReportMetric(float64(walked)/float64(plain), "requests/plain")
}

// BenchmarkWalkOverhead measures the walk's own bookkeeping, on pages that
// cost nothing to make.
func BenchmarkWalkOverhead(b *testing.B) {
	pages := newReplay(1000, 200)
	b.ReportAllocs()
	for b.Loop() {
		pages.next = 0
		w := &extract.Walk{Client: pages, Lookback: time.Minute, StopAt: time.UnixMicro(1 << 60)}
		if _, err := w.Run(b.Context(), pages); err != nil {
			b.Fatal(err)
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(pages.rows), "ns/row")
}

// replay serves made-up pages whose last row starts the next one, and is the
// Sink that reads them.
type replay struct {
	pages [][]extract.Row
	next  int
	rows  int
}

func newReplay(size, pages int) *replay {
	r := &replay{rows: size * pages}
	at := int64(1)
	for p := range pages {
		rows := make([]extract.Row, size)
		for i := range rows {
			at += 10
			rows[i] = extract.Row{Updated: at * 1000, Created: at * 1000, Version: uint64(at)}
			rows[i].ID[0], rows[i].ID[1], rows[i].ID[2] = byte(at), byte(at>>8), byte(at>>16)
			rows[i].ID[3], rows[i].ID[4] = byte(p), byte(p>>8)
		}
		if p > 0 {
			rows[0] = r.pages[p-1][size-1]
		}
		r.pages = append(r.pages, rows)
	}
	return r
}

func (r *replay) Page(_ context.Context, q extract.Query, decode func([]byte, extract.PageInfo) error) (extract.Response, error) {
	if q.Offset > 0 {
		r.next = len(r.pages) + 1
	}
	return extract.Response{Requests: 1}, decode(nil, extract.PageInfo{})
}

func (r *replay) Decode([]byte, extract.PageInfo) ([]extract.Row, error) {
	last := r.pages[len(r.pages)-1]
	switch r.next++; {
	case r.next <= len(r.pages):
		return r.pages[r.next-1], nil
	case r.next == len(r.pages)+1 || r.next > len(r.pages)+2:
		return last[len(last)-1:], nil
	default:
		return nil, nil
	}
}

func (r *replay) Stage(context.Context, []bool) error             { return nil }
func (r *replay) Advance(context.Context, extract.Progress) error { return nil }
