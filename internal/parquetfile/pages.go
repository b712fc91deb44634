package parquetfile

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	"github.com/apache/thrift/lib/go/thrift"
	"github.com/klauspost/compress/zstd"
	"github.com/xitongsys/parquet-go/parquet"
)

// chunkBounds is where the pages of one column of one row group stand, and
// what they may hold, as the footer says.
type chunkBounds struct {
	start, size  int64 // bytes in the file
	uncompressed int64 // bytes of all pages, headers included
	rows         int64
	dictionary   bool
	codec        parquet.CompressionCodec
}

// checkPages walks the page headers of a column chunk. Both libraries believe
// a header: they allocate what it asks for and loop as often as it says, so a
// flipped bit in one costs gigabytes and minutes before anything looks at the
// page's checksum. buf is scratch, returned for the next call.
func checkPages(ctx context.Context, r io.ReaderAt, b chunkBounds, buf []byte) ([]byte, error) {
	if int64(cap(buf)) < b.size {
		buf = make([]byte, b.size)
	}
	buf = buf[:b.size]
	if _, err := r.ReadAt(buf, b.start); err != nil {
		return buf, fmt.Errorf("read pages: %w", err)
	}
	rows, bytesLeft := int64(0), b.uncompressed
	for rest, n := buf, 0; len(rest) > 0; n++ {
		h, size, err := readPageHeader(ctx, rest)
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
		if err := checkFrame(b.codec, rest[:h.GetCompressedPageSize()], int64(h.GetUncompressedPageSize())); err != nil {
			return buf, fmt.Errorf("page %d: %w", n, err)
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

// checkFrame compares the size that compressed data says of itself, which the
// second reader allocates, with the page's.
func checkFrame(codec parquet.CompressionCodec, data []byte, size int64) error {
	switch codec {
	case parquet.CompressionCodec_ZSTD:
		var h zstd.Header
		if err := h.Decode(data); err != nil {
			return fmt.Errorf("zstd frame: %w", err)
		}
		// Frames of less than 256 bytes do not say.
		if (h.HasFCS && h.FrameContentSize != uint64(size)) || h.WindowSize > uint64(max(size, maxWindow)) {
			return fmt.Errorf("zstd frame of %d bytes for a page of %d", h.FrameContentSize, size)
		}
	case parquet.CompressionCodec_SNAPPY:
		if n, used := binary.Uvarint(data); used <= 0 || n != uint64(size) {
			return fmt.Errorf("snappy block of %d bytes for a page of %d", n, size)
		}
	default:
		return fmt.Errorf("codec %s is none of Sluice's", codec)
	}
	return nil
}

// maxWindow is twice the largest window of the encoder's level; a frame of one
// segment has a window of its size.
const maxWindow = 16 << 20

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
func readPageHeader(ctx context.Context, b []byte) (*parquet.PageHeader, int, error) {
	protocol, buffer := compactProtocol(b, min(len(b), maxHeader))
	h := parquet.NewPageHeader()
	if err := h.Read(ctx, protocol); err != nil {
		return nil, 0, err
	}
	return h, len(b) - buffer.Len(), nil
}

// maxHeader bounds what a damaged page header makes the decoder allocate.
const maxHeader = 1 << 20

// compactProtocol decodes b and refuses lists and strings above limit.
func compactProtocol(b []byte, limit int) (thrift.TProtocol, *thrift.TMemoryBuffer) {
	buffer := &thrift.TMemoryBuffer{Buffer: bytes.NewBuffer(b)}
	n := int32(min(limit, math.MaxInt32))
	return thrift.NewTCompactProtocolConf(buffer, &thrift.TConfiguration{MaxMessageSize: n, MaxFrameSize: n}), buffer
}

// checkFooter decodes the footer of a file of the given size once, within
// bounds: the libraries decode it without any, and a flipped bit in the length
// of a list makes them allocate a gigabyte.
func checkFooter(ctx context.Context, r io.ReaderAt, size int64) error {
	const magic = "PAR1"
	var tail [8]byte
	if size < int64(len(tail)+len(magic)) {
		return fmt.Errorf("a file of %d bytes", size)
	}
	if _, err := r.ReadAt(tail[:], size-int64(len(tail))); err != nil {
		return fmt.Errorf("read end of file: %w", err)
	}
	if string(tail[4:]) != magic {
		return errors.New("the file does not end like a Parquet file")
	}
	n := int64(binary.LittleEndian.Uint32(tail[:4]))
	if n == 0 || n > size-int64(len(tail)+len(magic)) {
		return fmt.Errorf("a footer of %d bytes in a file of %d", n, size)
	}
	footer := make([]byte, n)
	if _, err := r.ReadAt(footer, size-int64(len(tail))-n); err != nil {
		return fmt.Errorf("read footer: %w", err)
	}
	protocol, _ := compactProtocol(footer, len(footer))
	if err := parquet.NewFileMetaData().Read(ctx, protocol); err != nil {
		return fmt.Errorf("decode footer: %w", err)
	}
	return nil
}
