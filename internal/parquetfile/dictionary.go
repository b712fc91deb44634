package parquetfile

import (
	"fmt"
	"unsafe"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/metadata"
	"github.com/zeebo/xxh3"
)

// dictionary finds the distinct values of a column of strings. The library
// does so too, at four times the cost: it boxes every value in an interface
// and compares each with the bounds.
type dictionary struct {
	slots   []uint16 // index of an entry plus one, 0 for a free slot
	entries []dictEntry
	bytes   int // of the dictionary page
	indices []int32
}

type dictEntry struct {
	hash uint64
	text string // a view of the column
}

// dictSlots is a power of two above twice the entries of a full dictionary
// page, whose smallest entry takes four bytes.
const dictSlots = 4 * dictLimit / 4 / 2

// build fills d from a. It returns false where the dictionary page would be
// too large.
func (d *dictionary) build(a *array.String) bool {
	if d.slots == nil {
		d.slots = make([]uint16, dictSlots)
	}
	clear(d.slots)
	d.entries, d.bytes = d.entries[:0], 0
	d.indices = d.indices[:0]
	if a.Len() == 0 {
		return true
	}
	bytes, offsets := a.ValueBytes(), a.ValueOffsets()
	text := unsafe.String(unsafe.SliceData(bytes), len(bytes))
	nulls, valid := a.NullN() > 0, validityOf(a)
	for i := range a.Len() {
		if nulls && valid.bit(i) == 0 {
			d.indices = append(d.indices, 0)
			continue
		}
		at := d.find(text[offsets[i]-offsets[0] : offsets[i+1]-offsets[0]])
		if d.bytes >= dictLimit {
			return false
		}
		d.indices = append(d.indices, at)
	}
	return true
}

// find returns the index of s, which it adds if it is new.
func (d *dictionary) find(s string) int32 {
	h := xxh3.HashString(s)
	for slot := h % dictSlots; ; slot = (slot + 1) % dictSlots {
		at := d.slots[slot]
		if at == 0 {
			d.entries = append(d.entries, dictEntry{hash: h, text: s})
			d.slots[slot] = uint16(len(d.entries))
			d.bytes += len(s) + 4
			return int32(len(d.entries) - 1)
		}
		if e := &d.entries[at-1]; e.hash == h && e.text == s {
			return int32(at - 1)
		}
	}
}

// write hands the column to the library as dictionary and indices. Statistics
// are ours to update then.
func (d *dictionary) write(c *file.ByteArrayColumnChunkWriter, a *array.String, levels []int16) error {
	b := array.NewStringBuilder(memory.DefaultAllocator)
	defer b.Release()
	for _, e := range d.entries {
		b.Append(e.text)
	}
	values := b.NewStringArray()
	defer values.Release()
	encoder, ok := c.CurrentEncoder().(interface {
		PutDictionary(values arrow.Array) error
	})
	if !ok {
		return fmt.Errorf("no dictionary in %T", c.CurrentEncoder())
	}
	if err := encoder.PutDictionary(values); err != nil {
		return err
	}
	stats, ok := c.PageStatistics().(*metadata.ByteArrayStatistics)
	if !ok {
		return fmt.Errorf("no statistics of strings in %T", c.PageStatistics())
	}
	distinct := make([]parquet.ByteArray, len(d.entries))
	for i := range distinct {
		distinct[i] = parquet.ByteArray(values.Value(i))
	}
	// Not UpdateFromArrow: it passes over empty strings, and a minimum above ""
	// hides their rows from every reader that prunes.
	stats.Update(distinct, int64(a.NullN()))
	buffers := []*memory.Buffer{nil, memory.NewBufferBytes(arrow.Int32Traits.CastToBytes(d.indices))}
	if a.NullN() > 0 {
		buffers[0] = memory.NewBufferBytes(bitmap(levels))
	}
	data := array.NewData(arrow.PrimitiveTypes.Int32, a.Len(), buffers, nil, a.NullN(), 0)
	defer data.Release()
	indices := array.NewInt32Data(data)
	defer indices.Release()
	return c.WriteDictIndices(indices, levels, nil)
}

// bitmap returns the levels, 0 or 1, as bits.
func bitmap(levels []int16) []byte {
	bits := make([]byte, (len(levels)+7)/8)
	for i, l := range levels {
		bits[i>>3] |= byte(l&1) << (i & 7)
	}
	return bits
}
