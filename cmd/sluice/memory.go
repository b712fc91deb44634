package main

import (
	"context"
	"os"
	"runtime/debug"
	"runtime/metrics"
	"time"
)

// softLimit is what the program's memory is kept under while what is in use of
// it leaves room for that, bytes. What a run has in use is 100 to 220 MiB
// however many contacts there are up to some ten million; the collector, which
// by itself lets that double, and more while other programs keep it waiting,
// took a first run of 5,000,000 contacts to 600 MiB without it. Files mapped,
// the program itself among them, come on top, and DuckDB has a limit of its own.
const softLimit = 320 << 20

// limitEvery is how often the limit is looked at again.
const limitEvery = 500 * time.Millisecond

// limitMemory sets the collector's limit until ctx ends, unless GOMEMLIMIT or
// GOGC does.
func limitMemory(ctx context.Context) {
	for _, name := range []string{"GOMEMLIMIT", "GOGC"} {
		if _, set := os.LookupEnv(name); set {
			return
		}
	}
	debug.SetMemoryLimit(softLimit)
	go func() {
		tick := time.NewTicker(limitEvery)
		defer tick.Stop()
		sample := []metrics.Sample{{Name: "/gc/heap/live:bytes"}}
		for {
			select {
			case <-ctx.Done():
				return
			case <-tick.C:
			}
			metrics.Read(sample)
			if sample[0].Value.Kind() == metrics.KindUint64 {
				debug.SetMemoryLimit(limitFor(sample[0].Value.Uint64()))
			}
		}
	}()
}

// limitFor returns the limit while live bytes are in use. A program that comes
// near a fixed limit spends half its time collecting; this one gives way.
func limitFor(live uint64) int64 {
	return int64(max(softLimit, live+live/2)) //nolint:gosec // no machine has 2^63 bytes
}
