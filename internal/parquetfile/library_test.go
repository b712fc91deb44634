package parquetfile_test

import (
	"fmt"
	"io"

	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/compress"
	"github.com/apache/arrow/go/v17/parquet/file"
	"github.com/apache/arrow/go/v17/parquet/schema"
)

// bareLibrary writes one column of strings through arrow alone.
func bareLibrary(w io.Writer, values []string, nulls, pageSize int) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	node, err := schema.NewPrimitiveNodeLogical("s", parquet.Repetitions.Optional, schema.StringLogicalType{}, parquet.Types.ByteArray, -1, -1)
	if err != nil {
		return err
	}
	root, err := schema.NewGroupNode("schema", parquet.Repetitions.Required, schema.FieldList{node}, -1)
	if err != nil {
		return err
	}
	fw := file.NewParquetWriter(w, root, file.WithWriterProps(parquet.NewWriterProperties(
		parquet.WithCompression(compress.Codecs.Uncompressed),
		parquet.WithDictionaryDefault(false),
		parquet.WithEncoding(parquet.Encodings.DeltaLengthByteArray),
		parquet.WithDataPageSize(int64(pageSize)))))
	group := fw.AppendBufferedRowGroup()
	cw, err := group.Column(0)
	if err != nil {
		return err
	}
	texts := make([]parquet.ByteArray, len(values))
	levels := make([]int16, len(values)+nulls)
	for i, v := range values {
		texts[i], levels[i] = parquet.ByteArray(v), 1
	}
	if _, err := cw.(*file.ByteArrayColumnChunkWriter).WriteBatch(texts, levels, nil); err != nil {
		return err
	}
	if err := group.Close(); err != nil {
		return err
	}
	return fw.Close()
}
