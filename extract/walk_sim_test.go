package extract_test

import (
	"os"
	"strconv"
	"testing"
)

func envNumber(t *testing.T, name string, def uint64) (uint64, bool) {
	t.Helper()
	v := os.Getenv(name)
	if v == "" {
		return def, false
	}
	n, err := strconv.ParseUint(v, 10, 64)
	if err != nil {
		t.Fatalf("%s: %v", name, err)
	}
	return n, true
}

// SLUICE_SIM_SCHEDULES says how many schedules are played, SLUICE_SIM_SEED
// plays a single one.
func TestSimulatedWalksSkipNoContactUnderAnySchedule(t *testing.T) {
	n, _ := envNumber(t, "SLUICE_SIM_SCHEDULES", 300)
	first := uint64(1)
	if seed, ok := envNumber(t, "SLUICE_SIM_SEED", 0); ok {
		first, n = seed, 1
	}
	var requests, ties, statistical, losses int
	for seed := first; seed < first+n; seed++ {
		e, err := attack(t.Context(), newSchedule(seed), walk(0))
		if err != nil {
			t.Errorf("seed %d: %v\nreproduce with SLUICE_SIM_SEED=%d\n%+v", seed, err, seed, e.schedule)
		}
		for _, o := range e.out {
			requests += int(o.Requests)
		}
		for _, b := range e.blocks {
			ties++
			if b.Statistical {
				statistical++
			}
		}
		losses += e.unproven
	}
	t.Logf("%d schedules from seed %d: %d requests, %d blocks, %d of them statistical, %d contacts lost in those",
		n, first, requests, ties, statistical, losses)
	if losses > statistical/100 {
		t.Errorf("statistical blocks lost %d contacts in %d blocks", losses, statistical)
	}
}
