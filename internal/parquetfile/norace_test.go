//go:build !race

package parquetfile_test

const raceEnabled = false
