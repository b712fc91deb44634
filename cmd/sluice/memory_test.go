package main

import "testing"

func TestTheMemoryLimitGivesWayToWhatIsInUse(t *testing.T) {
	for _, c := range []struct {
		live uint64
		want int64
	}{
		{0, softLimit},
		{200 << 20, softLimit},
		{400 << 20, 600 << 20},
		{8 << 30, 12 << 30},
	} {
		if got := limitFor(c.live); got != c.want {
			t.Errorf("with %d MiB in use the limit is %d MiB, want %d", c.live>>20, got>>20, c.want>>20)
		}
	}
}
