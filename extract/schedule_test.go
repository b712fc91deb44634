package extract_test

import (
	"math/rand/v2"
	"time"

	"github.com/sluice-etl/sluice/extract/extracttest"
)

// newSchedule draws a schedule that keeps to the walk's assumptions, and is
// otherwise as hostile as the seed has it.
func newSchedule(seed uint64) schedule {
	r := rand.New(rand.NewPCG(seed, 3))
	chance := func(p float64) bool { return r.Float64() < p }
	upTo := func(d time.Duration) time.Duration { return time.Duration(r.Int64N(int64(d) + 1)) }
	pick := func(rates ...float64) float64 { return rates[r.IntN(len(rates))] }

	s := schedule{seed: seed, pageSize: 8 + r.IntN(30), runs: 1 + r.IntN(5)}
	s.lookback = time.Second + upTo(20*time.Second)
	s.kill = pick(0, 0, 0.5, 1)
	s.full = pick(0, 0, 0.2)
	o := extracttest.Options{Seed: seed, Contacts: r.IntN(250), Latency: 20*time.Millisecond + upTo(800*time.Millisecond)}
	tiny := false
	switch r.IntN(12) {
	case 0:
		o.Contacts = 0
	case 1:
		o.Contacts = 1
	case 2:
		tiny = true
		s.pageSize = 2 + r.IntN(6) // too small to anchor
		o.Contacts = r.IntN(12)
	}
	o.Gap = []time.Duration{time.Microsecond, time.Millisecond, 20 * time.Millisecond, time.Second}[r.IntN(4)]
	if chance(0.5) {
		o.TieSize = 2 + r.IntN(4*s.pageSize)
		o.Ties = o.TieSize * r.IntN(3)
		o.Bulk = pick(0, 0.003, 0.01)
	}
	o.Updates = pick(0, 0.3, 1, 4)
	o.Creates = pick(0, 0, 0.3, 1)
	o.Deletes = pick(0, 0, 0.3)
	o.Silent = pick(0, 0, 1)
	if chance(0.1) { // endless: more than a page between two requests
		o.Updates = float64(s.pageSize + 5)
	}
	o.TieOrder = []extracttest.TieOrder{
		extracttest.Stable, extracttest.Stable, extracttest.Physical, extracttest.Shuffled, extracttest.Alternating,
	}[r.IntN(5)]
	if chance(0.2) {
		o.Future = 1 + r.IntN(3*s.pageSize)
	}
	if chance(0.2) {
		o.Cap = 8 + r.IntN(s.pageSize)
	}
	if chance(0.2) {
		o.Short = 0.3
	}
	if chance(0.15) {
		o.Long = 0.5
	}
	if chance(0.1) {
		o.Disorder = 0.02
	}
	if chance(0.2) {
		o.Stale, o.AgeHidden = 0.2, chance(0.5)
	}
	if tiny { // every tie costs dozens of requests: none could keep up with much
		o.Updates, o.Creates, o.Bulk = min(o.Updates, 0.1), min(o.Creates, 0.05), 0
	}
	if o.Short > 0 || o.Cap > 0 {
		o.TieSize = min(o.TieSize, s.pageSize)
	}
	if o.TieOrder >= extracttest.Shuffled && o.Bulk > 0 {
		o.Bulk = 0.003 // a tie drained by repetition costs a hundred requests
	}
	if o.NoDate = chance(0.2); o.NoDate {
		o.AgeHidden = false // a cache adds one of the two; see runner.witness
	}
	// Lateness and skews share the lookback, a little kept for half a
	// millisecond of jitter.
	slack := s.lookback - 10*time.Millisecond
	if chance(0.3) {
		skew := slack / 3
		o.DBSkew = upTo(skew) - skew/2
		o.DateSkew = upTo(skew) - skew/2
		o.LocalSkew = upTo(skew) - skew/2
		slack -= skew
	}
	if chance(0.05) { // a Date that is plainly wrong
		o.DateSkew = 3 * time.Hour
		if chance(0.5) {
			o.DateSkew = -o.DateSkew
		}
	}
	if chance(0.5) {
		o.Late, o.LateBy = pick(0.1, 0.5), slack
	}
	s.source = o
	return s
}
