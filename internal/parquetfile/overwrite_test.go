package parquetfile

import (
	"errors"
	"os"
)

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
