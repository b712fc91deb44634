package extract_test

import (
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/sluice-etl/sluice/extract"
)

func TestIntervalsMergeAndTheirComplementIsWhatIsLeft(t *testing.T) {
	const span = 40
	holds := func(ivs []extract.Interval, at int64) bool {
		return slices.ContainsFunc(ivs, func(iv extract.Interval) bool {
			return at > iv.From && (iv.Until == 0 || at <= iv.Until)
		})
	}
	for seed := uint64(1); seed <= 2000; seed++ {
		r := rand.New(rand.NewPCG(seed, 4))
		draw := func() (ivs []extract.Interval) {
			for range r.IntN(7) {
				iv := extract.Interval{From: r.Int64N(span), Until: 1 + r.Int64N(span)}
				if r.IntN(6) == 0 {
					iv.Until = 0
				}
				ivs = append(ivs, iv)
			}
			return ivs
		}
		a, b := draw(), draw()
		merged, left := extract.MergeIntervals(a), extract.Uncovered(a, b)
		for at := range int64(span + 2) {
			if holds(merged, at) != holds(a, at) {
				t.Fatalf("seed %d: %v merged is %v: %d", seed, a, merged, at)
			}
			if holds(left, at) != (holds(a, at) && !holds(b, at)) {
				t.Fatalf("seed %d: %v without %v is %v: %d", seed, a, b, left, at)
			}
		}
		for _, ivs := range [][]extract.Interval{merged, left} {
			for i, iv := range ivs {
				if iv.Until != 0 && iv.Until <= iv.From || i > 0 && (ivs[i-1].Until == 0 || ivs[i-1].Until >= iv.From) {
					t.Fatalf("seed %d: %v is not in order, joined and without empty ones", seed, ivs)
				}
			}
		}
	}
}

func TestAnIntervalThatEndsAtTheEpochIsNotOpen(t *testing.T) {
	left := extract.Uncovered([]extract.Interval{{From: -5000}}, []extract.Interval{{From: 0, Until: 10}})
	if len(left) != 2 || left[0].Until == 0 || left[1] != (extract.Interval{From: 10}) {
		t.Errorf("left is %v", left)
	}
}

func TestStretchesSayWhatThePartsHoldAndNothingTwice(t *testing.T) {
	var s extract.Stretches
	is := func(got []extract.Interval, want ...extract.Interval) {
		t.Helper()
		if !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
	is(s.Seal())
	s.Window(extract.Interval{From: 10, Until: 50})
	is(s.Seal())
	s.Advance(extract.Progress{Mark: 20, Final: 15})
	is(s.Seal(), extract.Interval{From: 10, Until: 15})
	s.Advance(extract.Progress{Mark: 20, Final: 15})
	is(s.Seal())
	s.Advance(extract.Progress{Mark: 30, Final: 30})
	s.Window(extract.Interval{From: 30, Until: 50})
	s.Advance(extract.Progress{Mark: 40, Final: 40})
	s.Window(extract.Interval{From: 90})
	s.Advance(extract.Progress{Mark: 95, Final: 93})
	is(s.Seal(), extract.Interval{From: 15, Until: 40}, extract.Interval{From: 90, Until: 93})
	is(s.Seal())
}
