package extract_test

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/extract/extracttest"
)

// sparing leaves the time to the rows of which keep says so.
type sparing struct {
	collector
	keep func(id uint64) bool
}

func (s *sparing) Decode(body []byte, info extract.PageInfo) ([]extract.Row, error) {
	rows, err := s.collector.Decode(body, info)
	for i := range rows {
		if !s.keep(binary.BigEndian.Uint64(rows[i].ID[:])) {
			rows[i] = extract.Row{ID: rows[i].ID, Version: rows[i].Version, Invalid: true}
		}
	}
	return rows, err
}

func TestPagesOfRowsWithoutATimeAreReadToTheirEnd(t *testing.T) {
	for name, keep := range map[string]func(id uint64) bool{
		"but for the last":  func(id uint64) bool { return id >= 398 },
		"but for one":       func(id uint64) bool { return id == 200 },
		"but for the first": func(id uint64) bool { return id <= 2 },
		"in long stretches": func(id uint64) bool { return id%150 < 5 },
	} {
		t.Run(name, func(t *testing.T) {
			src := extracttest.New(extracttest.Options{Seed: 3, Contacts: 400, Gap: time.Hour})
			walk := walkOver(src)
			walk.PageSize = 20
			sink := &sparing{keep: keep}
			out := mustWalk(t, walk, sink)
			if len(sink.ids()) != 400 || out.Requests > 2_000 {
				t.Errorf("%d contacts by %d requests", len(sink.ids()), out.Requests)
			}
		})
	}
}
