package parquetfile

import (
	"bytes"
	"context"
	"fmt"
	"io"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/xitongsys/parquet-go/parquet"
)

// chunkBounds is where the pages of one column of one row group stand, and
// what they may hold, as the footer says.
type chunkBounds struct {
	start, size  int64 // bytes in the file
	uncompressed int64 // bytes of all pages, headers included
	rows         int64
	dictionary   bool
}

// checkPages walks the page headers of a column chunk. Both libraries believe
// a header: they allocate what it asks for and loop as often as it says, so a
// flipped bit in one costs gigabytes and minutes before anything looks at the
// page's checksum. buf is scratch, returned for the next call.
func checkPages(r io.ReaderAt, b chunkBounds, buf []byte) ([]byte, error) {
	if int64(cap(buf)) < b.size {
		buf = make([]byte, b.size)
	}
	buf = buf[:b.size]
	if _, err := r.ReadAt(buf, b.start); err != nil {
		return buf, fmt.Errorf("read pages: %w", err)
	}
	rows, bytesLeft := int64(0), b.uncompressed
	for rest, n := buf, 0; len(rest) > 0; n++ {
		h, size, err := readPageHeader(rest)
		if err != nil {
			return buf, fmt.Errorf("header of page %d: %w", n, err)
		}
		rest = rest[size:]
		bytesLeft -= int64(size) + int64(h.GetUncompressedPageSize())
		if h.GetUncompressedPageSize() < 0 || bytesLeft < 0 {
			return buf, fmt.Errorf("header of page %d: %d bytes do not fit the column", n, h.GetUncompressedPageSize())
		}
		if h.GetCompressedPageSize() < 0 || int(h.GetCompressedPageSize()) > len(rest) {
			return buf, fmt.Errorf("header of page %d: %d compressed bytes of %d", n, h.GetCompressedPageSize(), len(rest))
		}
		rest = rest[h.GetCompressedPageSize():]
		values, err := pageValues(h, n == 0 && b.dictionary)
		if err != nil {
			return buf, fmt.Errorf("header of page %d: %w", n, err)
		}
		if rows += values; rows > b.rows {
			return buf, fmt.Errorf("header of page %d: %d rows of %d", n, rows, b.rows)
		}
	}
	if rows != b.rows {
		return buf, fmt.Errorf("pages hold %d rows of %d", rows, b.rows)
	}
	return buf, nil
}

// pageValues returns how many rows a page holds, 0 for a dictionary.
func pageValues(h *parquet.PageHeader, dictionary bool) (int64, error) {
	switch {
	case dictionary:
		d := h.GetDictionaryPageHeader()
		if h.GetType() != parquet.PageType_DICTIONARY_PAGE || d == nil {
			return 0, fmt.Errorf("%s in place of the dictionary", h.GetType())
		}
		// No value of a dictionary takes less than four bytes.
		if n := d.GetNumValues(); n < 0 || n > h.GetUncompressedPageSize()/4 {
			return 0, fmt.Errorf("dictionary of %d values in %d bytes", n, h.GetUncompressedPageSize())
		}
		return 0, nil
	case h.GetType() == parquet.PageType_DATA_PAGE && h.GetDataPageHeader() != nil:
		if n := h.GetDataPageHeader().GetNumValues(); n > 0 {
			return int64(n), nil
		}
		return 0, fmt.Errorf("%d values", h.GetDataPageHeader().GetNumValues())
	default:
		return 0, fmt.Errorf("unexpected page of type %s", h.GetType())
	}
}

// readPageHeader decodes the header at the start of b and returns its size.
func readPageHeader(b []byte) (*parquet.PageHeader, int, error) {
	buffer := &thrift.TMemoryBuffer{Buffer: bytes.NewBuffer(b)}
	limit := int32(min(len(b), maxHeader))
	protocol := thrift.NewTCompactProtocolConf(buffer, &thrift.TConfiguration{MaxMessageSize: limit, MaxFrameSize: limit})
	h := parquet.NewPageHeader()
	ctx := context.Background() //nolint:forbidigo // memory alone is read; nothing waits
	if err := h.Read(ctx, protocol); err != nil {
		return nil, 0, err
	}
	return h, len(b) - buffer.Len(), nil
}

// maxHeader bounds what a damaged page header makes the decoder allocate.
const maxHeader = 1 << 20
