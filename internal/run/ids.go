package run

import (
	"bytes"
	"cmp"
	"context"
	"crypto/md5" //nolint:gosec // a checksum that DuckDB can repeat, not a secret
	"crypto/subtle"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/zeebo/xxh3"

	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/schemas"
)

// idKey stands for a contact's id: 128 bits of a hash of its text. Among 2^40
// ids the chance of two alike is below 2^-48.
type idKey = [16]byte

// hashID is the hash that extract.Row.ID has.
func hashID(id string) idKey { return xxh3.HashString128(id).Bytes() }

// idSet is a set of contacts: 16 bytes for each.
type idSet []idKey

// newIDSet sorts keys, in place, into a set.
func newIDSet(keys []idKey) idSet {
	slices.SortFunc(keys, compareIDs)
	return slices.Compact(keys)
}

func compareIDs(a, b idKey) int { return bytes.Compare(a[:], b[:]) }

func (s idSet) has(k idKey) bool {
	_, found := slices.BinarySearchFunc(s, k, compareIDs)
	return found
}

// digest identifies a set of contacts by their ids, in any order.
type digest struct {
	// Count is the number of distinct contacts.
	Count int64 `json:"count"`
	// MD5XOR is the exclusive or of the MD5 sums of the ids: in DuckDB,
	// lower(to_hex(bit_xor(md5_number(id)))) of the same contacts.
	MD5XOR string `json:"md5_xor"`
}

// digestOf sums up the ids that the keys are MD5 sums of.
func digestOf(sums idSet) digest {
	var x idKey
	for _, s := range sums {
		subtle.XORBytes(x[:], x[:], s[:])
	}
	slices.Reverse(x[:]) // DuckDB takes the first byte as the lowest
	text := strings.TrimLeft(hex.EncodeToString(x[:]), "0")
	return digest{Count: int64(len(sums)), MD5XOR: cmp.Or(text, "0")}
}

// readIDs returns the MD5 sums of the ids that the run read from the source,
// and keeps their digest.
func (s *session) readIDs(ctx context.Context) (idSet, error) {
	fromSource := func(p partRecord) bool {
		return p.File != "" && p.Phase != phaseMissing && p.Phase != phaseConfirm
	}
	var rows int64
	for _, p := range s.parts {
		if fromSource(p) {
			rows += p.Rows
		}
	}
	// All at once: a list that grows takes more than twice as much when it does.
	sums := make([]idKey, 0, rows)
	for _, p := range s.parts {
		if !fromSource(p) {
			continue
		}
		err := eachID(ctx, filepath.Join(s.dir, p.File), func(id string) { sums = append(sums, md5.Sum([]byte(id))) }) //nolint:gosec // see above
		if err != nil {
			return nil, fmt.Errorf("read ids of %s: %w", p.File, err)
		}
	}
	set := newIDSet(sums)
	d := digestOf(set)
	s.digest = &d
	return set, nil
}

// eachID calls f with every id of a part.
func eachID(ctx context.Context, path string, f func(id string)) (err error) {
	r, err := parquetfile.Open(path)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	records, err := r.Read(parquetfile.ReadOptions{Columns: []string{schemas.ColID}})
	if err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		rec, err := records.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		ids, err := column[*array.String](rec, 0)
		if err == nil {
			for i := range ids.Len() {
				f(ids.Value(i))
			}
		}
		rec.Release()
		if err != nil {
			return err
		}
	}
}

// column returns a column of rec as the type that it has to have.
func column[T arrow.Array](rec arrow.Record, i int) (T, error) {
	col, ok := rec.Column(i).(T)
	if !ok {
		return col, fmt.Errorf("column %s is %s", rec.ColumnName(i), rec.Column(i).DataType())
	}
	return col, nil
}
