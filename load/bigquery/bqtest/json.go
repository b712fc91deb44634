package bqtest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math/big"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// normalJSON checks a text and gives the JSON value's own: no white space
// between, numbers as written ("JSON type": at most 500 levels).
func normalJSON(s string) (any, error) {
	if !utf8.ValidString(s) {
		return nil, fmt.Errorf("invalid JSON: not UTF-8")
	}
	if _, err := jsonCell(s); err != nil {
		return nil, fmt.Errorf("syntax error while parsing value: %w", err)
	}
	var b bytes.Buffer
	if err := json.Compact(&b, []byte(s)); err != nil {
		return nil, fmt.Errorf("syntax error while parsing value: %w", err)
	}
	return b.String(), nil
}

func jsonQuote(s string) string {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	if err := enc.Encode(s); err != nil {
		return `""`
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// jsonPath follows a JSONPath of names and indexes; where scalar is asked, an
// object or an array gives NULL ("JSON_VALUE", JSON functions).
func jsonPath(doc, path string, scalar bool) (any, error) {
	steps, err := jsonSteps(path)
	if err != nil {
		return nil, err
	}
	cur := json.RawMessage(doc)
	for _, s := range steps {
		if cur = jsonStep(cur, s); cur == nil {
			return nil, nil //nolint:nilnil // NULL
		}
	}
	cur = bytes.TrimSpace(cur)
	if !scalar {
		var b bytes.Buffer
		if err := json.Compact(&b, cur); err != nil {
			return nil, nil //nolint:nilnil,nilerr // NULL for what is no JSON
		}
		return b.String(), nil
	}
	switch {
	case len(cur) == 0, cur[0] == '{', cur[0] == '[', string(cur) == "null", !json.Valid(cur):
		return nil, nil //nolint:nilnil // NULL
	case cur[0] == '"':
		var s string
		err := json.Unmarshal(cur, &s)
		return s, err
	default:
		return string(cur), nil
	}
}

// jsonValueArray is JSON_VALUE_ARRAY as an array of JSON with strings alone: the
// values of an array as jsonPath gives them, null for a JSON null. What is no array,
// or has an object or an array in it, gives NULL ("JSON_VALUE_ARRAY", JSON functions).
func jsonValueArray(doc, path string) (any, error) {
	text, err := jsonPath(doc, path, false)
	if err != nil || text == nil {
		return nil, err
	}
	var items []json.RawMessage
	if json.Unmarshal([]byte(text.(string)), &items) != nil || items == nil {
		return nil, nil //nolint:nilnil,nilerr // NULL
	}
	out := make([]string, len(items))
	for i, item := range items {
		v, err := jsonPath(string(item), "$", true)
		if err != nil {
			return nil, err
		}
		switch {
		case v != nil:
			out[i] = jsonQuote(v.(string))
		case string(item) == "null":
			out[i] = "null"
		default:
			return nil, nil //nolint:nilnil // NULL
		}
	}
	return "[" + strings.Join(out, ",") + "]", nil
}

// jsonSteps cuts $.a."b"[0] into its steps.
func jsonSteps(path string) ([]string, error) {
	bad := fmt.Errorf("invalid JSONPath: %s", path)
	if !strings.HasPrefix(path, "$") {
		return nil, bad
	}
	var out []string
	for rest := path[1:]; rest != ""; {
		switch {
		case strings.HasPrefix(rest, `."`):
			end := strings.IndexByte(rest[2:], '"')
			if end < 0 {
				return nil, bad
			}
			out = append(out, "."+rest[2:2+end])
			rest = rest[3+end:]
		case rest[0] == '.':
			end := strings.IndexAny(rest[1:], ".[")
			if end < 0 {
				end = len(rest) - 1
			}
			if end == 0 {
				return nil, bad
			}
			out = append(out, "."+rest[1:1+end])
			rest = rest[1+end:]
		case rest[0] == '[':
			end := strings.IndexByte(rest, ']')
			if end < 0 {
				return nil, bad
			}
			if _, err := strconv.ParseUint(rest[1:end], 10, 31); err != nil {
				return nil, bad
			}
			out = append(out, rest[1:end])
			rest = rest[end+1:]
		default:
			return nil, bad
		}
	}
	return out, nil
}

func jsonStep(doc json.RawMessage, step string) json.RawMessage {
	if name, ok := strings.CutPrefix(step, "."); ok {
		var m map[string]json.RawMessage
		if json.Unmarshal(doc, &m) != nil {
			return nil
		}
		return m[name]
	}
	var l []json.RawMessage
	n, err := strconv.Atoi(step)
	if err != nil || json.Unmarshal(doc, &l) != nil || n >= len(l) {
		return nil
	}
	return l[n]
}

func jsonType(s string) (any, error) {
	switch s = strings.TrimSpace(s); {
	case s == "":
		return nil, fmt.Errorf("empty JSON")
	case s[0] == '{':
		return "object", nil
	case s[0] == '[':
		return "array", nil
	case s[0] == '"':
		return "string", nil
	case s == "true", s == "false":
		return "boolean", nil
	case s == "null":
		return "null", nil
	default:
		return "number", nil
	}
}

func jsonString(s string) (any, error) {
	var out string
	if err := json.Unmarshal([]byte(s), &out); err != nil || strings.TrimSpace(s) == "null" {
		return nil, fmt.Errorf("the provided JSON input is not a string")
	}
	return out, nil
}

// printNumeric prints a NUMERIC without trailing zeros.
func printNumeric(r *big.Rat) string {
	s := r.FloatString(9)
	return strings.TrimSuffix(strings.TrimRight(s, "0"), ".")
}

// formatTime is FORMAT_TIMESTAMP ("Format elements for date and time parts").
func formatTime(layout string, t time.Time, zone string) (any, error) {
	loc, err := loadZone(zone)
	if err != nil {
		return nil, err
	}
	t = t.In(loc)
	elements := map[string]string{
		"Y": "2006", "m": "01", "d": "02", "H": "15", "M": "04", "S": "05", "F": "2006-01-02", "T": "15:04:05", "R": "15:04",
		"y": "06", "b": "Jan", "B": "January", "a": "Mon", "A": "Monday", "I": "03", "p": "PM", "e": "_2", "D": "01/02/06",
		"Z": "MST", "z": "-0700", "Ez": "-07:00", "E3S": "05.000", "E6S": "05.000000", "j": "002",
	}
	var b strings.Builder
	for i := 0; i < len(layout); i++ {
		if layout[i] != '%' {
			b.WriteByte(layout[i])
			continue
		}
		rest := layout[i+1:]
		n := 1
		switch {
		case strings.HasPrefix(rest, "E3S"), strings.HasPrefix(rest, "E6S"):
			n = 3
		case strings.HasPrefix(rest, "Ez"):
			n = 2
		}
		if len(rest) < n {
			return nil, fmt.Errorf("invalid format string: %s", layout)
		}
		if i += n; rest[:n] == "%" {
			b.WriteByte('%')
			continue
		}
		if rest[:n] == "s" {
			b.WriteString(strconv.FormatInt(t.Unix(), 10))
			continue
		}
		l, ok := elements[rest[:n]]
		if !ok {
			return nil, fmt.Errorf("stand-in: format element %%%s is not known", rest[:n])
		}
		b.WriteString(t.Format(l))
	}
	return b.String(), nil
}
