package parquetfile

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/ipc"
	"github.com/apache/arrow/go/v17/parquet"
	"github.com/apache/arrow/go/v17/parquet/metadata"
	"github.com/apache/arrow/go/v17/parquet/schema"

	"github.com/sluice-etl/sluice/internal/atomicfile"
)

// DefaultRowGroupRows is the number of rows of a row group where Options does
// not say: DuckDB's sweet spot. Groups of a million rows scan 1.9 times slower
// there and look up 4.6 times slower, and double the writer's memory.
const DefaultRowGroupRows = 131072

// maxRowGroupRows keeps a fixed-width column of a row group within one page:
// see encodeStrings for what the library does to later pages.
const maxRowGroupRows = 1 << 20

// DefaultWorkers is how many columns are encoded or verified at once where
// Options does not say.
const DefaultWorkers = 2

// DefaultPerm is a file's mode where Options does not say: contacts are
// personal data.
const DefaultPerm fs.FileMode = 0o600

// Keys of the file's metadata.
const (
	metaArrowSchema = "ARROW:schema"   // Arrow's own, base64: field metadata for pyarrow, polars and others
	metaColumns     = "sluice.columns" // JSON array of {name, type, required, description}
)

// Options says what a file looks like.
type Options struct {
	// Schema names the columns: string, int64, float64, bool, date32 and
	// timestamp[us, UTC]. A field that is not nullable becomes a required
	// column, and a null in it an error. A "description" in a field's metadata
	// goes into the file's metadata. Required.
	Schema *arrow.Schema
	// Plain writes for old readers: snappy instead of zstd, no DELTA
	// encodings. Snappy pages carry no checksum.
	Plain bool
	// RowGroupRows is the number of rows of a row group; 0 means
	// DefaultRowGroupRows.
	RowGroupRows int64
	// Metadata goes into the file's key-value metadata, sorted by key.
	Metadata map[string]string
	// Workers is how many columns are encoded at once; 0 means DefaultWorkers.
	Workers int
	// Perm is the file's mode before umask; 0 means DefaultPerm.
	Perm fs.FileMode
	// FS is the filesystem to write to; nil means the operating system's.
	FS atomicfile.FS
}

func (o *Options) normalize() error {
	if o.Schema == nil || o.Schema.NumFields() == 0 {
		return errors.New("no columns")
	}
	if o.RowGroupRows == 0 {
		o.RowGroupRows = DefaultRowGroupRows
	}
	if o.RowGroupRows < 0 || o.RowGroupRows > maxRowGroupRows {
		return fmt.Errorf("row group of %d rows: allowed are 1 to %d", o.RowGroupRows, maxRowGroupRows)
	}
	if o.Workers <= 0 {
		o.Workers = DefaultWorkers
	}
	if o.Perm == 0 {
		o.Perm = DefaultPerm
	}
	seen := make(map[string]bool, o.Schema.NumFields())
	for _, f := range o.Schema.Fields() {
		if f.Name == "" {
			return errors.New("a column without a name")
		}
		// The libraries address columns by dotted path, and the second reader
		// by a path of its own joined with \x01.
		if strings.ContainsAny(f.Name, ".\x00\x01") {
			return fmt.Errorf("column %q: a column name may not hold a dot or a control character", f.Name)
		}
		if seen[f.Name] {
			return fmt.Errorf("column %q stands twice", f.Name)
		}
		seen[f.Name] = true
		if err := checkType(f); err != nil {
			return err
		}
	}
	return nil
}

// parquetSchema builds the Parquet schema by hand: pqarrow would do, and link
// all of gRPC with it.
func parquetSchema(s *arrow.Schema) (*schema.GroupNode, error) {
	fields := make(schema.FieldList, s.NumFields())
	for i, f := range s.Fields() {
		rep := parquet.Repetitions.Required
		if f.Nullable {
			rep = parquet.Repetitions.Optional
		}
		var logical schema.LogicalType = schema.NoLogicalType{}
		var physical parquet.Type
		switch f.Type.ID() {
		case arrow.STRING:
			logical, physical = schema.StringLogicalType{}, parquet.Types.ByteArray
		case arrow.INT64:
			physical = parquet.Types.Int64
		case arrow.FLOAT64:
			physical = parquet.Types.Double
		case arrow.BOOL:
			physical = parquet.Types.Boolean
		case arrow.DATE32:
			logical, physical = schema.DateLogicalType{}, parquet.Types.Int32
		case arrow.TIMESTAMP:
			logical, physical = schema.NewTimestampLogicalType(true, schema.TimeUnitMicros), parquet.Types.Int64
		default:
			return nil, checkType(f)
		}
		node, err := schema.NewPrimitiveNodeLogical(f.Name, rep, logical, physical, -1, -1)
		if err != nil {
			return nil, fmt.Errorf("declare column %q: %w", f.Name, err)
		}
		fields[i] = node
	}
	// REPEATED, the library's default for the root, trips Snowflake.
	root, err := schema.NewGroupNode("schema", parquet.Repetitions.Required, fields, -1)
	if err != nil {
		return nil, fmt.Errorf("declare schema: %w", err)
	}
	return root, nil
}

// columnDoc is one entry of the metaColumns metadata.
type columnDoc struct {
	Name        string `json:"name"`
	Type        string `json:"type"`
	Required    bool   `json:"required,omitempty"`
	Description string `json:"description,omitempty"`
}

func fieldDescription(f arrow.Field) string {
	if i := f.Metadata.FindKey("description"); i >= 0 {
		return f.Metadata.Values()[i]
	}
	return ""
}

// fileMetadata builds the key-value metadata.
func fileMetadata(o Options) (metadata.KeyValueMetadata, error) {
	var kv metadata.KeyValueMetadata
	appendKV := func(k, v string) error {
		if err := kv.Append(k, v); err != nil {
			return fmt.Errorf("add metadata %q: %w", k, err)
		}
		return nil
	}
	encoded, err := encodeArrowSchema(o.Schema)
	if err != nil {
		return nil, err
	}
	if err := appendKV(metaArrowSchema, encoded); err != nil {
		return nil, err
	}
	docs := make([]columnDoc, o.Schema.NumFields())
	for i, f := range o.Schema.Fields() {
		docs[i] = columnDoc{Name: f.Name, Type: f.Type.String(), Required: !f.Nullable, Description: fieldDescription(f)}
	}
	var text bytes.Buffer
	enc := json.NewEncoder(&text)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(docs); err != nil {
		return nil, fmt.Errorf("encode column descriptions: %w", err)
	}
	if err := appendKV(metaColumns, strings.TrimSpace(text.String())); err != nil {
		return nil, err
	}
	keys := make([]string, 0, len(o.Metadata))
	for k := range o.Metadata {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	for _, k := range keys {
		if k == metaArrowSchema || k == metaColumns {
			return nil, fmt.Errorf("metadata key %q is reserved", k)
		}
		if err := appendKV(k, o.Metadata[k]); err != nil {
			return nil, err
		}
	}
	return kv, nil
}

// encodeArrowSchema gives the form in which Arrow implementations leave their
// schema in a Parquet file: an IPC stream without batches, in base64.
func encodeArrowSchema(s *arrow.Schema) (string, error) {
	var buf bytes.Buffer
	w := ipc.NewWriter(&buf, ipc.WithSchema(s))
	if err := w.Close(); err != nil {
		return "", fmt.Errorf("encode Arrow schema: %w", err)
	}
	return base64Encode(buf.Bytes()), nil
}
