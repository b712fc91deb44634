package bqtest

import (
	"encoding/base64"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"time"

	bq "google.golang.org/api/bigquery/v2"
)

// maxPageRows is how many rows a page has at most, as the service bounds a page
// by its size.
const maxPageRows = 1<<16 - 1

// restRow prints a row as REST does: {"f": [{"v": ...}]}.
func restRow(row []any, types []*typ, int64Timestamps bool) *bq.TableRow {
	out := &bq.TableRow{F: make([]*bq.TableCell, len(row))}
	for i, v := range row {
		out.F[i] = &bq.TableCell{V: restCell(v, types[i], int64Timestamps), NullFields: []string{}}
		if out.F[i].V == nil {
			out.F[i].NullFields = []string{"V"}
		}
	}
	return out
}

// restCell prints a value. A TIMESTAMP is microseconds with useInt64Timestamp,
// and else seconds as a floating-point number (REST v2, DataFormatOptions).
func restCell(v any, t *typ, int64Timestamps bool) any {
	if v == nil {
		if t.kind == "ARRAY" {
			return []any{}
		}
		return nil
	}
	switch x := v.(type) {
	case []any:
		out := make([]any, len(x))
		for i, e := range x {
			out[i] = map[string]any{"v": restCell(e, t.elem, int64Timestamps)}
		}
		return out
	case map[string]any:
		out := make([]any, len(t.fields))
		for i, f := range t.fields {
			out[i] = map[string]any{"v": restCell(x[fieldName(i)], f.typ, int64Timestamps)}
		}
		return map[string]any{"f": out}
	case time.Time:
		return restTime(x, t.kind, int64Timestamps)
	case []byte:
		return base64.StdEncoding.EncodeToString(x)
	case float64:
		switch {
		case math.IsNaN(x):
			return "NaN"
		case math.IsInf(x, 1):
			return "Infinity"
		case math.IsInf(x, -1):
			return "-Infinity"
		}
		return strconv.FormatFloat(x, 'g', -1, 64)
	case *big.Rat:
		return printNumeric(x)
	case bool:
		return strconv.FormatBool(x)
	case string:
		return x
	default:
		return fmt.Sprint(x)
	}
}

func restTime(x time.Time, kind string, int64Timestamps bool) string {
	switch kind {
	case "DATE":
		return x.Format("2006-01-02")
	case "DATETIME":
		return x.Format("2006-01-02T15:04:05.999999")
	case "TIME":
		return x.Format("15:04:05.999999")
	}
	us := x.UnixMicro()
	if int64Timestamps {
		return strconv.FormatInt(us, 10)
	}
	return strconv.FormatFloat(float64(us)/1e6, 'E', -1, 64)
}

// restSchema prints the columns of a result.
func restSchema(cols []relCol) *bq.TableSchema {
	out := &bq.TableSchema{}
	for _, c := range cols {
		out.Fields = append(out.Fields, restField(c.name, c.val.typ))
	}
	return out
}

func restField(name string, t *typ) *bq.TableFieldSchema {
	f := &bq.TableFieldSchema{Name: name, Mode: "NULLABLE"}
	if t.kind == "ARRAY" {
		f.Mode, t = "REPEATED", t.elem
	}
	f.Type = restType(t.kind)
	for i, x := range t.fields {
		n := x.name
		if n == "" {
			n = "_field_" + strconv.Itoa(i+1)
		}
		f.Fields = append(f.Fields, restField(n, x.typ))
	}
	return f
}

// pageLimit bounds a page; below 0 the caller named no limit.
func pageLimit(limit int) int {
	if limit < 0 {
		return maxPageRows
	}
	return min(limit, maxPageRows)
}
