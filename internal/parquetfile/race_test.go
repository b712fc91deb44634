//go:build race

package parquetfile_test

// raceEnabled thins out the sweeps: the race detector makes each file twenty
// times as slow.
const raceEnabled = true
