//go:build race

package crashtest_test

// raceEnabled says that the race detector slows everything down.
const raceEnabled = true
