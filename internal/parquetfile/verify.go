package parquetfile

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
)

// Mode says how much of a file Verify reads back.
type Mode string

// The modes; their text is that of load.Verify.
const (
	VerifyFull   Mode = "full"   // every row and column
	VerifySample Mode = "sample" // bytes, footer, and every column of one row group
	VerifyOff    Mode = "off"    // nothing
)

// ErrMismatch marks a file that does not hold what was written.
var ErrMismatch = errors.New("file does not hold what was written")

// MismatchError says where a file differs from what was written. It wraps
// ErrMismatch.
type MismatchError struct {
	Path     string
	Column   string // empty: the file as a whole
	RowGroup int    // -1: the file as a whole
	What     string // what was compared
	Want     string // what was written
	Got      string // what was found
}

// Error implements error.
func (e *MismatchError) Error() string {
	where := e.Path
	if e.RowGroup >= 0 {
		where += fmt.Sprintf(", row group %d", e.RowGroup)
	}
	if e.Column != "" {
		where += fmt.Sprintf(", column %q", e.Column)
	}
	return fmt.Sprintf("verify %s: %s is %s, written was %s", where, e.What, e.Got, e.Want)
}

// Unwrap makes errors.Is(err, ErrMismatch) true.
func (e *MismatchError) Unwrap() error { return ErrMismatch }

// Verify reads the file at path with a second implementation of Parquet and
// compares it with want, the Stats that Finish returned: the bytes of the file
// by size and SHA-256; the schema; and for each row group and column the
// number of rows, the null count, minimum and maximum of the footer (which
// readers prune by), and a hash of every value in its row. A difference is a
// *MismatchError. It blocks for about a core-second per 300,000 rows of thirty
// columns in full mode, on DefaultWorkers cores.
func Verify(ctx context.Context, path string, want Stats, mode Mode) error {
	switch mode {
	case VerifyOff:
		return nil
	case VerifyFull, VerifySample:
	default:
		return fmt.Errorf("verify %s: unknown mode %q", path, mode)
	}
	if want.schema == nil {
		return fmt.Errorf("verify %s: the Stats are not those that Finish returned", path)
	}
	size, sum, err := Checksum(path)
	if err != nil {
		return err
	}
	if size != want.Bytes {
		return &MismatchError{Path: path, RowGroup: -1, What: "size in bytes", Want: fmt.Sprint(want.Bytes), Got: fmt.Sprint(size)}
	}
	if sum != want.SHA256 {
		return &MismatchError{Path: path, RowGroup: -1, What: "SHA-256", Want: want.SHA256, Got: sum}
	}
	return verifyContent(ctx, path, want, mode)
}

// Checksum returns the size and the SHA-256 of the file at path, hexadecimal
// as in Stats.
func Checksum(path string) (size int64, sum string, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, "", fmt.Errorf("checksum file: %w", err)
	}
	defer func() { _ = f.Close() }()
	h := sha256.New()
	size, err = io.Copy(h, f)
	if err != nil {
		return 0, "", fmt.Errorf("checksum %s: %w", path, err)
	}
	return size, hex.EncodeToString(h.Sum(nil)), nil
}
