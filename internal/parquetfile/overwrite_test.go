package parquetfile

import (
	"errors"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
)

// Seeded returns a source of random numbers and logs how to get it again: run
// the test with SLUICE_SEED set.
func Seeded(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64()
	if s := os.Getenv("SLUICE_SEED"); s != "" {
		var err error
		if seed, err = strconv.ParseUint(s, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("SLUICE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// Overwrite gives a file new content in place. os.WriteFile truncates first,
// which some filesystems answer with a flush to disk at every close.
func Overwrite(path string, b []byte) error {
	f, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteAt(b, 0)
	return errors.Join(err, f.Truncate(int64(len(b))), f.Close())
}
