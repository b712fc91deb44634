package parquet

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/zeebo/xxh3"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/schemas"
)

// Which ids a file of current holds is kept beside it, as sorted 64-bit hashes:
// 8 bytes a contact, read at the speed of the disk, where the ids themselves
// would have to be decoded out of every file of the table. 5,000,000 contacts
// take 40 MB. Of 5,000,000 ids looked up among as many others, one in a million
// times a single one is taken for another, and that is only looked at closer.
//
// The file names the Parquet file that it is of by checksum, and has one of its
// own. One that is missing, of another file or damaged is made again from the
// Parquet file: nothing is lost with it.
//
//	magic, SHA-256 of the Parquet file, number of hashes, hashes (ascending), xxh3 of all that
const (
	idsMagic  = "sluiceI1"
	idsHeader = len(idsMagic) + 32 + 8
)

// idsPath is the file of ids of one month.
func idsPath(m month) string { return path.Join(idsDir, monthKey+"="+m.String()+".ids") }

// shortHash is the hash of an id that files of ids hold.
func shortHash(id string) uint64 { return xxh3.HashString128(id).Lo }

// appendHashes adds the hashes of a column of ids.
func appendHashes(to []uint64, col arrow.Array) ([]uint64, error) {
	ids, ok := col.(*array.String)
	if !ok || ids.NullN() > 0 {
		return nil, errors.New("column id is null or of another type")
	}
	for i := range ids.Len() {
		to = append(to, shortHash(ids.Value(i)))
	}
	return to, nil
}

// encodeIDs sorts hashes in place and returns the file of ids that goes with
// the Parquet file of that checksum.
func encodeIDs(sum string, hashes []uint64) ([]byte, error) {
	of, err := hex.DecodeString(sum)
	if err != nil || len(of) != 32 {
		return nil, fmt.Errorf("write file of ids: checksum %q is none", sum)
	}
	slices.Sort(hashes)
	b := make([]byte, 0, idsHeader+8*len(hashes)+8)
	b = append(append(b, idsMagic...), of...)
	b = binary.LittleEndian.AppendUint64(b, uint64(len(hashes)))
	for _, h := range hashes {
		b = binary.LittleEndian.AppendUint64(b, h)
	}
	return binary.LittleEndian.AppendUint64(b, xxh3.Hash(b)), nil
}

// decodeIDs is the inverse of encodeIDs; false where the file is not whole or
// goes with another Parquet file.
func decodeIDs(b []byte, f File) ([]uint64, bool) {
	of, err := hex.DecodeString(f.SHA256)
	if err != nil || int64(len(b)) != int64(idsHeader)+8*f.Rows+8 || string(b[:len(idsMagic)]) != idsMagic {
		return nil, false
	}
	body, sum := b[:len(b)-8], binary.LittleEndian.Uint64(b[len(b)-8:])
	if !bytes.Equal(body[len(idsMagic):len(idsMagic)+32], of) || xxh3.Hash(body) != sum {
		return nil, false
	}
	out := make([]uint64, f.Rows)
	for i := range out {
		out[i] = binary.LittleEndian.Uint64(body[idsHeader+8*i:])
	}
	return out, true
}

// keptIDs returns what the file of ids at path holds; false where it is not
// there, not whole or not of f.
func keptIDs(path string, f File) (hashes []uint64, ok bool, err error) {
	data, err := os.ReadFile(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, false, nil
	}
	if err != nil {
		return nil, false, explain("read file of ids", path, err)
	}
	hashes, ok = decodeIDs(data, f)
	return hashes, ok, nil
}

// readIDs returns the hashes of the ids in a file of current, ascending, from
// that file.
func readIDs(ctx context.Context, dir string, f File) (hashes []uint64, err error) {
	c := &cursor{path: at(dir, f.Path), columns: []string{schemas.ColID}, want: f.Rows}
	defer func() { err = errors.Join(err, c.close()) }()
	if err := c.open(); err != nil {
		return nil, err
	}
	hashes = make([]uint64, 0, f.Rows)
	err = c.take(ctx, f.Rows, func(rec arrow.Record) error {
		var err error
		hashes, err = appendHashes(hashes, rec.Column(0))
		return err
	})
	slices.Sort(hashes)
	return hashes, err
}

// stageIDs writes the file of ids that goes with a file of current.
func (o *output) stageIDs(mo month, sum string, hashes []uint64) error {
	data, err := encodeIDs(sum, hashes)
	if err != nil {
		return err
	}
	rel := idsPath(mo)
	path := filepath.Join(o.dir, stagingDir, stagedName(rel))
	if err := atomicfile.WriteFileOn(o.fs, path, data, fileMode); err != nil {
		return explain("write file", path, err)
	}
	o.ids[mo] = true
	return nil
}

// storedIDs returns the hashes of the ids that current holds of a month. Where
// they had to be made again, they are staged with the commit.
func (m *merge) storedIDs(ctx context.Context, mo month) ([]uint64, error) {
	f := m.stored[mo]
	path := at(m.dir, idsPath(mo))
	if m.out.ids[mo] {
		path = filepath.Join(m.dir, stagingDir, stagedName(idsPath(mo)))
	}
	hashes, ok, err := keptIDs(path, f)
	if err != nil || ok {
		return hashes, err
	}
	if err := m.need(ctx, mo); err != nil {
		return nil, err
	}
	if hashes, err = readIDs(ctx, m.dir, f); err != nil {
		return nil, fmt.Errorf("read ids of %s: %w", f.Path, err)
	}
	return hashes, m.out.stageIDs(mo, f.SHA256, hashes)
}

// need sees to it that the files of months of current are there to be read.
func (m *merge) need(ctx context.Context, months ...month) error {
	if m.fetch == nil {
		return nil
	}
	var files []File
	for _, mo := range months {
		if f, ok := m.stored[mo]; ok {
			files = append(files, f)
		}
	}
	return m.fetch(ctx, files, nil)
}

// needIDs does so for their files of ids.
func (m *merge) needIDs(ctx context.Context, months []month) error {
	if m.fetch == nil {
		return nil
	}
	var small []string
	for _, mo := range months {
		if _, ok := m.stored[mo]; ok {
			small = append(small, idsPath(mo))
		}
	}
	return m.fetch(ctx, nil, small)
}

// without returns a without what b holds, in a's memory; both ascend.
func without(a, b []uint64) []uint64 {
	out := a[:0]
	for _, h := range a {
		b = b[seek(b, h):]
		if len(b) == 0 || b[0] != h {
			out = append(out, h)
		}
	}
	return out
}

// eachCommon calls f for what both a and b hold; both ascend.
func eachCommon(a, b []uint64, f func(uint64)) {
	if len(a) > len(b) {
		a, b = b, a
	}
	for _, h := range a {
		b = b[seek(b, h):]
		if len(b) == 0 {
			return
		}
		if b[0] == h {
			f(h)
		}
	}
}

// seek returns the place of h in an ascending list, by steps that grow: what is
// looked for next is near where many are, and far where few are.
func seek(list []uint64, h uint64) int {
	step := 1
	for step <= len(list) && list[step-1] < h {
		step *= 2
	}
	from := step / 2
	n, _ := slices.BinarySearch(list[from:min(step, len(list))], h)
	return from + n
}
