package bqtest

import (
	"encoding/hex"
	"fmt"
	"math"
	"math/big"
	"strconv"
	"strings"
	"time"
)

// casts lists what CAST takes a type to ("Conversion functions", "CAST").
var casts = map[string]string{
	"STRING": " STRING BYTES INT64 FLOAT64 NUMERIC BOOL DATE DATETIME TIME TIMESTAMP ",
	"BYTES":  " STRING BYTES ", "INT64": " STRING INT64 FLOAT64 NUMERIC BOOL ", "FLOAT64": " STRING INT64 FLOAT64 NUMERIC ",
	"NUMERIC": " STRING INT64 FLOAT64 NUMERIC ", "BOOL": " STRING BOOL INT64 ", "DATE": " STRING DATE DATETIME TIMESTAMP ",
	"DATETIME": " STRING DATE DATETIME TIME TIMESTAMP ", "TIME": " STRING TIME ",
	"TIMESTAMP": " STRING DATE DATETIME TIME TIMESTAMP ", "JSON": " JSON ",
}

func castable(from, to *typ) bool {
	if from.same(to) {
		return true
	}
	return isScalarKind(to.kind) && strings.Contains(casts[from.kind], " "+to.kind+" ")
}

// castSQL writes a cast. The engine's own are laxer (it takes '1.5' for an
// INT64), so text goes through functions of this package.
func castSQL(sql string, from, to *typ, safe bool) string {
	if from.same(to) {
		return sql
	}
	switch {
	case from.kind == "STRING" && to.kind == "BYTES":
		return "encode(" + sql + ")"
	case from.kind == "STRING":
		f := "bq_parse_" + strings.ToLower(to.kind)
		return f + "(" + sql + ", " + strconv.FormatBool(safe) + ")"
	case from.kind == "BYTES" && safe:
		return "TRY(decode(" + sql + "))"
	case from.kind == "BYTES":
		return "decode(" + sql + ")"
	case to.kind == "STRING" && (from.kind == "FLOAT64" || from.kind == "TIMESTAMP" || from.kind == "NUMERIC"):
		return "bq_print_" + strings.ToLower(from.kind) + "(" + sql + ")"
	case from.kind == "FLOAT64" && to.kind == "INT64":
		sql = "round(" + sql + ")" // half away from zero; the engine's cast rounds half to even
	}
	word := "CAST("
	if safe {
		word = "TRY_CAST("
	}
	return word + sql + " AS " + to.engine() + ")"
}

// parseText reads a value of a kind from text, as CAST from STRING does: "Format
// of literals" and "Canonical format" of each type in Data types.
func parseText(kind, s string) (any, error) {
	switch kind {
	case "STRING":
		return s, nil
	case "INT64":
		t := strings.TrimSpace(s)
		base := 10
		if u := strings.ToLower(strings.TrimLeft(t, "+-")); strings.HasPrefix(u, "0x") {
			base = 0
		}
		if strings.Contains(t, "_") {
			return nil, fmt.Errorf("bad int64 value: %s", s)
		}
		n, err := strconv.ParseInt(t, base, 64)
		if err != nil {
			return nil, fmt.Errorf("bad int64 value: %s", s)
		}
		return n, nil
	case "FLOAT64":
		t := strings.TrimSpace(s)
		f, err := strconv.ParseFloat(t, 64)
		if err != nil || strings.ContainsAny(t, "_xX") {
			return nil, fmt.Errorf("bad double value: %s", s)
		}
		return f, nil
	case "BOOL":
		switch strings.ToLower(s) {
		case "true":
			return true, nil
		case "false":
			return false, nil
		}
		return nil, fmt.Errorf("bad bool value: %s", s)
	case "NUMERIC":
		return numericCell(s)
	case "DATE", "TIMESTAMP", "DATETIME":
		return parseTime(kind, s)
	case "TIME":
		return timeCell(s)
	case "JSON":
		return normalJSON(s)
	default:
		return nil, fmt.Errorf("cannot parse a %s", kind)
	}
}

// parseTime reads YYYY-[M]M-[D]D, then for the other kinds optionally a time of
// day and, for TIMESTAMP, a zone: an offset or a name of the tz database.
func parseTime(kind, s string) (any, error) {
	bad := fmt.Errorf("invalid %s: %q", strings.ToLower(kind), s)
	rest, zone := s, time.UTC
	if kind == "TIMESTAMP" {
		var err error
		if rest, zone, err = splitZone(s); err != nil {
			return nil, bad
		}
	}
	layouts := []string{"2006-1-2"}
	if kind != "DATE" {
		layouts = append(layouts, "2006-1-2 15:4:5", "2006-1-2T15:4:5", "2006-1-2t15:4:5")
	}
	for _, l := range layouts {
		t, err := time.ParseInLocation(l, rest, zone)
		if err != nil || t.Year() < 1 || strings.Contains(rest, ",") || fraction.MatchString(rest) {
			continue
		}
		if t = t.UTC(); t.UnixMicro() < minMicros || t.UnixMicro() > maxMicros {
			return nil, bad
		}
		return t, nil
	}
	return nil, bad
}

// splitZone takes the zone from the end of a timestamp.
func splitZone(s string) (string, *time.Location, error) {
	if t, ok := strings.CutSuffix(s, "Z"); ok {
		return t, time.UTC, nil
	}
	if t, ok := strings.CutSuffix(s, "z"); ok {
		return t, time.UTC, nil
	}
	at := strings.LastIndexAny(s, " ")
	if at > 0 && at+1 < len(s) && isLetter(s[at+1]) {
		loc, err := loadZone(s[at+1:])
		return s[:at], loc, err
	}
	body := min(len(s), 11)
	at = strings.LastIndexAny(s[body:], "+-")
	if at < 0 || at == 0 && len(s) <= 11 {
		return s, time.UTC, nil
	}
	at += body
	loc, err := parseOffset(s[at:])
	return strings.TrimSuffix(s[:at], " "), loc, err
}

// parseOffset reads +H[H][:M[M]].
func parseOffset(s string) (*time.Location, error) {
	h, m, colon := strings.Cut(s[1:], ":")
	if !colon {
		m = "0"
	}
	hours, err := strconv.ParseUint(h, 10, 8)
	minutes, err2 := strconv.ParseUint(m, 10, 8)
	if err != nil || err2 != nil || hours > 14 || minutes > 59 || len(h) > 2 || len(m) > 2 {
		return nil, fmt.Errorf("invalid time zone: %s", s)
	}
	sec := int(hours*3600 + minutes*60)
	if s[0] == '-' {
		sec = -sec
	}
	return time.FixedZone("", sec), nil
}

// loadZone reads the time zone argument of a function.
func loadZone(s string) (*time.Location, error) {
	if s != "" && (s[0] == '+' || s[0] == '-') {
		return parseOffset(s)
	}
	if s == "" || s == "Local" {
		return nil, fmt.Errorf("invalid time zone: %s", s)
	}
	loc, err := time.LoadLocation(s)
	if err != nil {
		return nil, fmt.Errorf("invalid time zone: %s", s)
	}
	return loc, nil
}

// literalSQL writes a value for DuckDB.
func literalSQL(t *typ, v any) string {
	if v == nil {
		return "CAST(NULL AS " + t.engine() + ")"
	}
	switch x := v.(type) {
	case bool:
		return strconv.FormatBool(x)
	case int64:
		return "CAST('" + strconv.FormatInt(x, 10) + "' AS BIGINT)"
	case float64:
		text := strconv.FormatFloat(x, 'g', -1, 64)
		if math.IsInf(x, 0) || math.IsNaN(x) {
			text = strings.ToLower(strings.TrimPrefix(text, "+"))
		}
		return "CAST('" + text + "' AS DOUBLE)"
	case []byte:
		return "unhex('" + hex.EncodeToString(x) + "')"
	case *big.Rat:
		return "CAST('" + x.FloatString(9) + "' AS DECIMAL(38,9))"
	case time.Time:
		if t.kind == "DATE" {
			return "DATE '" + x.Format("2006-01-02") + "'"
		}
		return "make_timestamp(" + strconv.FormatInt(x.UnixMicro(), 10) + ")"
	case []any:
		parts := make([]string, len(x))
		for i, e := range x {
			parts[i] = literalSQL(t.elem, e)
		}
		return "CAST([" + strings.Join(parts, ", ") + "] AS " + t.engine() + ")"
	case map[string]any:
		parts := make([]string, len(t.fields))
		for i, f := range t.fields {
			parts[i] = fieldName(i) + " := " + literalSQL(f.typ, x[fieldName(i)])
		}
		return "struct_pack(" + strings.Join(parts, ", ") + ")"
	case string:
		return quoteText(x)
	default: // civil.Date, civil.Time
		return "CAST(" + quoteText(fmt.Sprint(x)) + " AS " + t.engine() + ")"
	}
}

// printFloat prints a FLOAT64 as CAST to STRING does: the fewest digits that
// give the number back.
func printFloat(f float64) string {
	switch {
	case math.IsNaN(f):
		return "nan"
	case math.IsInf(f, 1):
		return "inf"
	case math.IsInf(f, -1):
		return "-inf"
	}
	if abs := math.Abs(f); abs == 0 || abs >= 1e-4 && abs < 1e15 {
		return strconv.FormatFloat(f, 'f', -1, 64)
	}
	return strconv.FormatFloat(f, 'e', -1, 64)
}

// printTimestamp prints a TIMESTAMP in UTC as CAST to STRING does: no, three or
// six digits of a second's parts.
func printTimestamp(t time.Time) string {
	out := t.UTC().Format("2006-01-02 15:04:05")
	switch us := t.Nanosecond() / 1000; {
	case us == 0:
	case us%1000 == 0:
		out += fmt.Sprintf(".%03d", us/1000)
	default:
		out += fmt.Sprintf(".%06d", us)
	}
	return out + "+00"
}
