package bqtest

import (
	"bytes"
	"compress/gzip"
	"context"
	"database/sql"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxLine is how long a row of JSON may be ("Quotas and limits", "Load jobs":
// JSON row size, 100 MB).
const maxLine = 100 << 20

// maxProblems is how many errors a load job tells.
const maxProblems = 5

// readJSONLines reads newline-delimited JSON, gzip or not, strictly by the
// schema. No bad record is allowed, so any problem fails the job.
func readJSONLines(media []byte, cols []column) ([]batch, []*apiError) {
	if bytes.HasPrefix(media, []byte{0x1f, 0x8b}) {
		zr, err := gzip.NewReader(bytes.NewReader(media))
		if err == nil {
			media, err = io.ReadAll(zr)
		}
		if err != nil {
			return nil, []*apiError{invalid("Error while reading data, error message: gzip: %v", err)}
		}
	}
	b := batch{}
	index := map[string]int{}
	for i, c := range cols {
		b.columns = append(b.columns, c.name)
		index[strings.ToLower(c.name)] = i
	}
	var problems []*apiError
	at := 0
	for n := 1; len(media) > 0 && len(problems) < maxProblems; n++ {
		line, rest, _ := bytes.Cut(media, []byte{'\n'})
		start := at
		at += len(line) + 1
		media = rest
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		row, err := readLine(line, cols, index)
		if err != nil {
			problems = append(problems, &apiError{status: 400, reason: "invalid", message: fmt.Sprintf(
				"JSON parsing error in row starting at position %d (line %d): %v", start, n, err)})
			continue
		}
		b.rows = append(b.rows, row)
	}
	if problems != nil {
		return nil, problems
	}
	return []batch{b}, nil
}

func readLine(line []byte, cols []column, index map[string]int) ([]any, error) {
	if len(line) > maxLine {
		return nil, fmt.Errorf("row is larger than the maximum allowed size of %d bytes", maxLine)
	}
	dec := json.NewDecoder(bytes.NewReader(line))
	dec.UseNumber()
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, fmt.Errorf("parser terminated before end of string or row is no object")
	}
	row := make([]any, len(cols))
	seen := make([]bool, len(cols))
	for dec.More() {
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		name, _ := key.(string)
		var raw json.RawMessage
		if err := dec.Decode(&raw); err != nil {
			return nil, err
		}
		i, ok := index[strings.ToLower(name)]
		if !ok {
			return nil, fmt.Errorf("no such field: %s", name)
		}
		if seen[i] {
			return nil, fmt.Errorf("field %s is specified twice", name)
		}
		seen[i] = true
		if row[i], err = jsonField(raw, cols[i]); err != nil {
			return nil, fmt.Errorf("could not convert value to %s; field: %s; value: %s: %w", strings.ToLower(cols[i].kind), name, short(raw), err)
		}
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	if _, err := dec.Token(); err != io.EOF {
		return nil, fmt.Errorf("data after the object")
	}
	for i, c := range cols {
		if c.required && row[i] == nil {
			return nil, fmt.Errorf("missing required field: %s", c.name)
		}
	}
	return row, nil
}

func short(raw []byte) string {
	if len(raw) > 40 {
		return string(raw[:40]) + "..."
	}
	return string(raw)
}

// maxNumber is the largest integer that a JSON number is sure to keep: others are
// to be passed "as a string to avoid data corruption" ("Loading JSON data from
// Cloud Storage").
const maxNumber = 1<<53 - 1

// jsonField reads a value for a column ("Loading JSON data from Cloud Storage",
// "Details of loading JSON data").
func jsonField(raw json.RawMessage, c column) (any, error) {
	raw = bytes.TrimSpace(raw)
	if c.kind == "JSON" {
		if string(raw) == "null" {
			return nil, nil //nolint:nilnil // NULL
		}
		return normalJSON(string(raw))
	}
	if string(raw) == "null" {
		return nil, nil //nolint:nilnil // NULL
	}
	text := string(raw)
	quoted := raw[0] == '"'
	if quoted {
		if err := json.Unmarshal(raw, &text); err != nil {
			return nil, err
		}
	}
	switch {
	case raw[0] == '{' || raw[0] == '[':
		return nil, fmt.Errorf("is an object or an array")
	case c.kind == "BYTES" && quoted:
		return base64.StdEncoding.DecodeString(text)
	case c.kind == "STRING", c.kind == "BOOL" && !quoted, c.kind == "BOOL":
		return parseText(c.kind, text)
	case quoted:
		return parseText(c.kind, text)
	case c.kind == "INT64", c.kind == "FLOAT64", c.kind == "NUMERIC":
		if text == "true" || text == "false" {
			return nil, fmt.Errorf("is a boolean")
		}
		if n, err := strconv.ParseInt(text, 10, 64); c.kind == "INT64" && err == nil && (n > maxNumber || n < -maxNumber) {
			return nil, fmt.Errorf("stand-in: is beyond 2^53 and no string, and may lose digits")
		}
		return parseText(c.kind, text)
	}
	return nil, fmt.Errorf("has to be a string")
}

// parquetKinds are the types of the engine's reader for the types of Parquet
// ("Loading Parquet data from Cloud Storage", "Parquet conversions").
var parquetKinds = map[string]string{
	"BOOLEAN": "BOOL", "INTEGER": "INT64", "BIGINT": "INT64", "FLOAT": "FLOAT64", "DOUBLE": "FLOAT64", "VARCHAR": "STRING", "BLOB": "BYTES",
	"DATE": "DATE", "TIMESTAMP": "DATETIME", "TIMESTAMPTZ": "TIMESTAMP", "TINYINT": "INT64", "SMALLINT": "INT64", "UINTEGER": "INT64",
}

// readParquet reads a Parquet file. Columns are found by name, in any case; one
// that the table does not have is an error, one that the file does not have is
// NULL.
func (s *Server) readParquet(ctx context.Context, media []byte, cols []column, own bool) ([]batch, []column, []*apiError) {
	fail := func(err error) ([]batch, []column, []*apiError) { return nil, nil, []*apiError{asAPI(err)} }
	dir, err := os.MkdirTemp(s.opts.Dir, "bqtest")
	if err != nil {
		return fail(err)
	}
	defer func() { _ = os.RemoveAll(dir) }() // a temporary directory
	path := filepath.Join(dir, "load.parquet")
	if err := os.WriteFile(path, media, 0o600); err != nil {
		return fail(err)
	}
	rows, err := s.db.QueryContext(ctx, "SELECT * FROM read_parquet("+quoteText(path)+")")
	if err != nil {
		return fail(invalid("read Parquet: %v", err))
	}
	defer func() { _ = rows.Close() }() // rows.Err tells
	types, err := rows.ColumnTypes()
	if err != nil {
		return fail(err)
	}
	b, kinds, err := parquetColumns(types, cols, own && len(cols) == 0)
	if err != nil {
		return fail(err)
	}
	for rows.Next() {
		row, dest := make([]any, len(types)), make([]any, len(types))
		for i := range row {
			dest[i] = &row[i]
		}
		if err := rows.Scan(dest...); err != nil {
			return fail(err)
		}
		for i := range row {
			if row[i], err = parquetValue(row[i]); err != nil {
				return fail(invalid("Field %s: %v", types[i].Name(), err))
			}
		}
		b.rows = append(b.rows, row)
	}
	if err := rows.Err(); err != nil {
		return fail(invalid("read Parquet: %v", err))
	}
	if own && len(cols) == 0 {
		for i, name := range b.columns {
			cols = append(cols, column{name: name, kind: kinds[i], since: s.now()})
		}
	}
	return []batch{b}, cols, nil
}

// parquetColumns finds the columns of a file among the table's; kinds are the types
// that their values are to have. If there is no table they are the file's own.
func parquetColumns(types []*sql.ColumnType, cols []column, own bool) (b batch, kinds []string, err error) {
	table := &table{columns: cols}
	for _, t := range types {
		kind, ok := parquetKinds[t.DatabaseTypeName()]
		if !ok {
			return b, nil, unknown("Parquet column %s of type %s", t.Name(), t.DatabaseTypeName())
		}
		if own {
			b.columns, kinds = append(b.columns, t.Name()), append(kinds, kind)
			continue
		}
		c := table.column(t.Name())
		if c == nil {
			return b, nil, invalid("Provided Schema does not match. Cannot add fields (field: %s)", t.Name())
		}
		if c.kind == "JSON" {
			// "If you use a batch load job to ingest JSON data into a table, the source data
			// must be in CSV, Avro, or JSON format" ("Working with JSON data", "Limitations").
			return b, nil, invalid("Field %s has type JSON, which cannot be loaded from Parquet", c.name)
		}
		if c.kind != kind && !slices.Contains([]string{"NUMERIC INT64", "TIMESTAMP DATETIME"}, c.kind+" "+kind) {
			return b, nil, invalid("Field %s has type %s in the file, and %s in the table", t.Name(), kind, c.kind)
		}
		b.columns, kinds = append(b.columns, c.name), append(kinds, c.kind)
	}
	return b, kinds, nil
}

func parquetValue(v any) (any, error) {
	switch x := v.(type) {
	case int8:
		return int64(x), nil
	case int16:
		return int64(x), nil
	case int32:
		return int64(x), nil
	case uint32:
		return int64(x), nil
	case float32:
		return float64(x), nil
	case time.Time:
		return x.UTC(), nil
	}
	return v, nil
}
