package sandbox

import (
	"fmt"
	"net/http"
	"net/http/httptest"
	"runtime"
	"testing"

	"github.com/sluice-etl/sluice/internal/clock"
)

const million = 1_000_000

// BenchmarkStart is the start with 1,000,000 contacts, and what it keeps in memory.
func BenchmarkStart(b *testing.B) {
	var before, after runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&before)
	var s *Server
	for b.Loop() {
		var err error
		if s, err = New(Options{Contacts: million, Seed: 1}, clock.System{}); err != nil {
			b.Fatal(err)
		}
	}
	runtime.GC()
	runtime.ReadMemStats(&after)
	b.ReportMetric(float64(after.HeapAlloc-before.HeapAlloc)/(1<<20), "MiB")
	runtime.KeepAlive(s)
}

// BenchmarkPage is one page of 1000 of 1,000,000 contacts: selected and
// rendered, at several places and under filters.
func BenchmarkPage(b *testing.B) {
	s, err := New(Options{Contacts: million, Seed: 1, NoGzip: true}, clock.System{})
	if err != nil {
		b.Fatal(err)
	}
	shuffled, err := New(Options{Contacts: million, Seed: 1, NoGzip: true, ShuffleTies: true, UpdatedTies: 5000}, clock.System{})
	if err != nil {
		b.Fatal(err)
	}
	stage := s.store.g.stages[2].id.String()
	for _, bench := range []struct {
		name  string
		s     *Server
		query string
	}{
		{"updated_after", s, "updated_after=2025-06-01T00:00:00Z"},
		{"created_after", s, "created_after=2025-06-01T00:00:00Z"},
		{"days", s, "days=365"},
		{"large_offset", s, "updated_after=2020-01-01T00:00:00Z&offset=900000"},
		{"stage", s, "updated_after=2025-06-01T00:00:00Z&stage_id=" + stage},
		{"custom_field", s, "updated_after=2025-06-01T00:00:00Z&custom_field_key=ciudad&custom_field_value=Bogot%C3%A1"},
		{"two_times", s, "updated_after=2020-01-01T00:00:00Z&created_after=2025-06-01T00:00:00Z"},
		{"shuffled_ties", shuffled, "updated_after=2026-06-15T14:59:59Z&offset=2000"},
	} {
		b.Run(bench.name, func(b *testing.B) {
			r := httptest.NewRequest(http.MethodGet, "/api/public/contacts?limit=1000&"+bench.query, nil)
			r.Header.Set("X-Api-Key", DefaultKey)
			size := 0
			b.ReportAllocs()
			for b.Loop() {
				w := httptest.NewRecorder()
				bench.s.Handler().ServeHTTP(w, r)
				size = w.Body.Len()
			}
			b.SetBytes(int64(size))
			b.ReportMetric(float64(size)/1000, "B/contact")
		})
	}
}

// BenchmarkGzip is the same page compressed.
func BenchmarkGzip(b *testing.B) {
	s, err := New(Options{Contacts: 100_000, Seed: 1}, clock.System{})
	if err != nil {
		b.Fatal(err)
	}
	r := httptest.NewRequest(http.MethodGet, "/api/public/contacts?limit=1000&updated_after=2025-06-01T00:00:00Z", nil)
	r.Header.Set("X-Api-Key", DefaultKey)
	r.Header.Set("Accept-Encoding", "gzip")
	for b.Loop() {
		w := httptest.NewRecorder()
		s.Handler().ServeHTTP(w, r)
	}
}

// BenchmarkUpdate is one change of one of 1,000,000 contacts.
func BenchmarkUpdate(b *testing.B) {
	s, err := New(Options{Contacts: million, Seed: 1}, clock.System{})
	if err != nil {
		b.Fatal(err)
	}
	for b.Loop() {
		s.Mutate(Mutation{Updates: 1})
	}
}

func ExampleParseURL() {
	_, err := ParseURL("sandbox://?contcts=5")
	fmt.Println(err)
	// Output: parse sandbox URL: parameter "contcts": unknown; did you mean "contacts"?
}
