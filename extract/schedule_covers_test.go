package extract_test

import (
	"testing"
	"time"

	"github.com/sluice-etl/sluice/extract/extracttest"
)

// behaviours are what the walk has to bear, each as schedules show it.
var behaviours = map[string]func(schedule) bool{
	"ties larger than a page":        func(s schedule) bool { return s.source.Ties > 0 && s.source.TieSize > s.pageSize },
	"bulk updates and creations":     func(s schedule) bool { return s.source.Bulk > 0 && s.source.Creates > 0 },
	"ties in a new order each time":  func(s schedule) bool { return s.source.TieOrder == extracttest.Shuffled },
	"ties in two orders":             func(s schedule) bool { return s.source.TieOrder == extracttest.Alternating },
	"ties whose rows change places":  func(s schedule) bool { return s.source.TieOrder == extracttest.Physical },
	"many rows within a millisecond": func(s schedule) bool { return s.source.Gap == time.Microsecond && s.source.Contacts > s.pageSize },
	"rows that become visible late":  func(s schedule) bool { return s.source.Late > 0 && s.source.LateBy > s.lookback/2 },
	"late rows at the live edge":     func(s schedule) bool { return s.source.Late > 0 && s.source.Updates > float64(s.pageSize) },
	"short pages":                    func(s schedule) bool { return s.source.Short > 0 },
	"a cap below the page size":      func(s schedule) bool { return s.source.Cap > 0 && s.source.Cap < s.pageSize },
	"a cap below a tie":              func(s schedule) bool { return s.source.Ties > 0 && s.source.Cap > 0 && s.source.Cap < s.source.TieSize },
	"pages longer than the limit":    func(s schedule) bool { return s.source.Long > 0 && s.source.Contacts > s.pageSize },
	"pages out of order":             func(s schedule) bool { return s.source.Disorder > 0 },
	"deletions during the walk":      func(s schedule) bool { return s.source.Deletes > 0 },
	"a database clock ahead":         func(s schedule) bool { return s.source.DBSkew > 100*time.Millisecond },
	"a database clock behind":        func(s schedule) bool { return s.source.DBSkew < -100*time.Millisecond },
	"a Date ahead":                   func(s schedule) bool { return s.source.DateSkew > 100*time.Millisecond },
	"a Date behind":                  func(s schedule) bool { return s.source.DateSkew < -100*time.Millisecond },
	"a Date hours ahead":             func(s schedule) bool { return s.source.DateSkew > time.Hour },
	"a Date hours behind":            func(s schedule) bool { return s.source.DateSkew < -time.Hour },
	"our clock ahead":                func(s schedule) bool { return s.source.LocalSkew > 100*time.Millisecond },
	"our clock behind":               func(s schedule) bool { return s.source.LocalSkew < -100*time.Millisecond },
	"no Date":                        func(s schedule) bool { return s.source.NoDate },
	"cached answers that say so":     func(s schedule) bool { return s.source.Stale > 0 && !s.source.AgeHidden && !s.source.NoDate },
	"cached answers that do not":     func(s schedule) bool { return s.source.Stale > 0 && s.source.AgeHidden },
	"timestamps in the future":       func(s schedule) bool { return s.source.Future > 0 },
	"more future than a page":        func(s schedule) bool { return s.source.Future > s.pageSize },
	"more updates than a page":       func(s schedule) bool { return s.source.Updates > float64(s.pageSize) },
	"changes that leave updated_at":  func(s schedule) bool { return s.source.Silent > 0 },
	"a source without contacts":      func(s schedule) bool { return s.source.Contacts == 0 && s.source.Creates == 0 },
	"one contact":                    func(s schedule) bool { return s.source.Contacts == 1 },
	"pages too short to anchor":      func(s schedule) bool { return s.pageSize < 8 },
	"kills, and runs that go on":     func(s schedule) bool { return s.kill > 0 && s.runs > 1 },
	"full reads between the others":  func(s schedule) bool { return s.full > 0 && s.runs > 2 },
	"all at once: ties, late, skewed": func(s schedule) bool {
		return s.source.Ties > 0 && s.source.Late > 0 && s.source.DBSkew != 0 && s.kill > 0
	},
}

func TestTheSchedulesMeetEveryBehaviour(t *testing.T) {
	const schedules = 300 // as go test plays
	met := map[string]int{}
	for seed := uint64(1); seed <= schedules; seed++ {
		s := newSchedule(seed)
		for name, shows := range behaviours {
			if shows(s) {
				met[name]++
			}
		}
	}
	for name := range behaviours {
		t.Logf("%3d of %d: %s", met[name], schedules, name)
		if met[name] < 2 {
			t.Errorf("%d of %d schedules meet %s", met[name], schedules, name)
		}
	}
}
