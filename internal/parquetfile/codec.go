package parquetfile

import (
	"fmt"
	"io"
	"sync"

	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/klauspost/compress/zstd"
)

// registerCodec puts the pooled zstd codec in the place of arrow's. Arrow's
// codecs are a package-level map without a lock, meant to be filled by init
// functions; it is done once, before the first file of the process, because
// arrow's own zstd builds a new encoder for every page, a third of the cost of
// a file. Everything in the process that reads or writes Parquet through arrow
// then uses this codec, which is compatible.
//
//nolint:gochecknoglobals // the library's registry is global; see above
var registerCodec = sync.OnceFunc(func() {
	compress.RegisterCodec(compress.Codecs.Zstd, newZstdCodec())
})

// zstdCodec shares a bounded number of encoders and decoders. Encoders are
// pooled by hand, not in a sync.Pool, which the collector empties: an encoder
// holds about 1 MB, for its window, and is expensive to build.
type zstdCodec struct {
	encoders chan *zstd.Encoder
	decoders chan *zstd.Decoder
}

var _ compress.Codec = (*zstdCodec)(nil)

// encoderWindow is twice what a page usually holds. The level's own, 4 MiB,
// makes an encoder take 8 MB for pages of a quarter of one.
const encoderWindow = 2 * pageBytes

// maxPooled bounds what is kept when idle, not what is in use.
const maxPooled = 8

func newZstdCodec() *zstdCodec {
	return &zstdCodec{
		encoders: make(chan *zstd.Encoder, maxPooled),
		decoders: make(chan *zstd.Decoder, maxPooled),
	}
}

// Encode implements compress.Codec.
func (c *zstdCodec) Encode(dst, src []byte) []byte {
	var enc *zstd.Encoder
	select {
	case enc = <-c.encoders:
	default:
		var err error
		enc, err = zstd.NewWriter(nil,
			zstd.WithEncoderLevel(zstd.SpeedFastest),
			zstd.WithEncoderConcurrency(1),
			zstd.WithWindowSize(encoderWindow),
			zstd.WithAllLitEntropyCompression(true), // without it files grow 8%
			zstd.WithEncoderCRC(true),               // what makes a flipped bit an error and not a value
			zstd.WithZeroFrames(true))
		if err != nil {
			panic(fmt.Errorf("build zstd encoder: %w", err))
		}
	}
	out := enc.EncodeAll(src, dst[:0])
	select {
	case c.encoders <- enc:
	default:
		_ = enc.Close()
	}
	return out
}

// EncodeLevel implements compress.Codec; the level is fixed.
func (c *zstdCodec) EncodeLevel(dst, src []byte, _ int) []byte { return c.Encode(dst, src) }

// Decode implements compress.Codec. It panics on damaged input, as arrow
// expects of it; Reader turns that into an error. Where the caller knows the
// size (it always does), the output never grows past it.
func (c *zstdCodec) Decode(dst, src []byte) []byte {
	var dec *zstd.Decoder
	select {
	case dec = <-c.decoders:
	default:
		var err error
		dec, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true))
		if err != nil {
			panic(fmt.Errorf("build zstd decoder: %w", err))
		}
	}
	defer func() {
		select {
		case c.decoders <- dec:
		default:
			dec.Close()
		}
	}()
	out, err := dec.DecodeAll(src, dst[:0])
	if err != nil {
		panic(fmt.Errorf("decompress page: %w", err))
	}
	return out
}

// CompressBound implements compress.Codec (the bound of zstd.h).
func (c *zstdCodec) CompressBound(n int64) int64 {
	const small = 128 << 10
	bound := n + n>>8 + 64
	if n < small {
		bound += (small - n) >> 11
	}
	return bound
}

// NewReader implements compress.Codec; arrow's Parquet code does not call it.
func (c *zstdCodec) NewReader(r io.Reader) io.ReadCloser {
	dec, err := zstd.NewReader(r)
	if err != nil {
		panic(fmt.Errorf("build zstd decoder: %w", err))
	}
	return dec.IOReadCloser()
}

// NewWriter implements compress.Codec; arrow's Parquet code does not call it.
func (c *zstdCodec) NewWriter(w io.Writer) io.WriteCloser {
	enc, err := zstd.NewWriter(w, zstd.WithEncoderLevel(zstd.SpeedFastest))
	if err != nil {
		panic(fmt.Errorf("build zstd encoder: %w", err))
	}
	return enc
}

// NewWriterLevel implements compress.Codec; the level is fixed.
func (c *zstdCodec) NewWriterLevel(w io.Writer, _ int) (io.WriteCloser, error) {
	return c.NewWriter(w), nil
}
