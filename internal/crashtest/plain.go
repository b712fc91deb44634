package crashtest

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"math/big"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/text/unicode/norm"

	"github.com/sluice-etl/sluice/schemas"
)

// Value is one value of a contact, not null.
type Value struct {
	Kind byte   // " of a string, 0 of a number, t or f of a boolean, { of an object or array
	Text string // the content of a string; of all else what was served
}

// valueOf reads a JSON value; ok is false for null.
func valueOf(raw json.RawMessage) (v Value, ok bool, err error) {
	raw = bytes.TrimSpace(raw)
	v.Text = string(raw)
	switch raw[0] {
	case 'n':
		return Value{}, false, nil
	case '"':
		v.Kind = '"'
		err = json.Unmarshal(raw, &v.Text)
	case '{', '[':
		v.Kind = '{'
	case 't', 'f':
		v.Kind = raw[0]
	default:
		v.Kind = '0'
	}
	return v, true, err
}

// member is one of an object, in the order in which it was served.
type member struct {
	key string
	raw json.RawMessage
}

func members(raw []byte) (out []member, err error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	if _, err := d.Token(); err != nil {
		return nil, err
	}
	for d.More() {
		key, err := d.Token()
		if err != nil {
			return nil, err
		}
		var m member
		m.key, _ = key.(string)
		if err := d.Decode(&m.raw); err != nil {
			return nil, err
		}
		out = append(out, m)
	}
	return out, nil
}

// Fields is a contact taken apart: what each field has, and beside it what
// other places of custom fields have in its stead.
type Fields struct {
	Values map[string]Value
	Lost   map[string][]Value
	ranks  map[string]int
}

// TakeApart is the flattening of the design once more, on encoding/json and
// without regard to speed. It knows no contract.
func TakeApart(contact []byte) (*Fields, error) {
	f := &Fields{Values: map[string]Value{}, Lost: map[string][]Value{}, ranks: map[string]int{}}
	if err := f.object(contact, "contact", "cf_customer"); err != nil {
		return nil, fmt.Errorf("take contact apart: %w", err)
	}
	return f, nil
}

func (f *Fields) object(raw []byte, scope, entity string) error {
	all, err := members(raw)
	if err != nil {
		return err
	}
	for _, m := range all {
		first := bytes.TrimSpace(m.raw)[0]
		rank := slices.Index(places(), m.key)
		switch {
		case scope == "contact" && m.key == "active_ticket_v2" && first == '{':
			err = f.object(m.raw, "ticket", "cf_ticket")
		case rank >= 0 && first == '{':
			err = f.fields(m.raw, entity, rank)
		case rank >= 0 && first == '[':
			err = f.list(scope+":"+m.key, m.raw, entity, rank)
		default:
			err = f.set(scope+":"+m.key, m.raw)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (f *Fields) set(field string, raw json.RawMessage) error {
	v, ok, err := valueOf(raw)
	if ok {
		f.Values[field] = v
	}
	return err
}

func (f *Fields) fields(raw []byte, entity string, rank int) error {
	all, err := members(raw)
	for _, m := range all {
		err = cmpErr(err, f.custom(entity+":"+m.key, m.raw, rank))
	}
	return err
}

func cmpErr(a, b error) error {
	if a != nil {
		return a
	}
	return b
}

// list takes a list of {key, value} apart. One of something else is a value of
// its own; one whose elements say more is both.
func (f *Fields) list(field string, raw json.RawMessage, entity string, rank int) error {
	var elements []json.RawMessage
	if err := json.Unmarshal(raw, &elements); err != nil {
		return err
	}
	pure, extra := true, false
	var found []member
	for _, e := range elements {
		pair := map[string]json.RawMessage{}
		var m member
		if json.Unmarshal(e, &pair) != nil || pair["value"] == nil || json.Unmarshal(pair["key"], &m.key) != nil || bytes.HasPrefix(pair["key"], []byte("null")) {
			pure = false
			continue
		}
		extra = extra || len(pair) > 2
		m.raw = pair["value"]
		found = append(found, m)
	}
	var err error
	if !pure || extra {
		err = f.set(field, raw)
	}
	if !pure {
		return err
	}
	for _, m := range found {
		err = cmpErr(err, f.custom(entity+":"+m.key, m.raw, rank))
	}
	return err
}

// custom sets a custom field, unless another place of a lower rank, or an
// earlier one of the same, has: then it is noted beside, where it differs.
func (f *Fields) custom(field string, raw json.RawMessage, rank int) error {
	v, ok, err := valueOf(raw)
	if err != nil || !ok {
		return err
	}
	old, contested := f.Values[field]
	if !contested || rank < f.ranks[field] {
		f.Values[field], f.ranks[field] = v, rank
		v = old
	}
	if contested && v != f.Values[field] {
		f.Lost[field] = append(f.Lost[field], v)
	}
	return nil
}

// text of several values, a line each.
func lines(values []Value) string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = v.Text
	}
	return strings.Join(texts, "\n")
}

var (
	noDigits = regexp.MustCompile(`[^0-9]`)
	address  = regexp.MustCompile(`^[^@]+(@[a-z]+\.[a-z]+)$`)
	phone    = regexp.MustCompile(`^[0-9]{7,}$`)
)

// protect returns a value as a policy has it stored.
func (r Rules) protect(v Value, policy, normal string) Value {
	if policy == "" || policy == "keep" {
		return v
	}
	text := v.Text
	if v.Kind == '{' {
		text = canonical(text)
	}
	plain := strings.TrimSpace(norm.NFC.String(text))
	switch normal {
	case "email":
		plain = strings.ToLower(plain)
	case "phone":
		if digits := noDigits.ReplaceAllString(plain, ""); digits != "" {
			plain = digits
			for len(plain) > 2 && strings.HasPrefix(plain, "00") {
				plain = plain[2:]
			}
		}
	}
	if plain == "" {
		return Value{'"', ""}
	}
	if policy == "hash" {
		mac := hmac.New(sha256.New, r.HashKey)
		mac.Write([]byte(plain))
		return Value{'"', hex.EncodeToString(mac.Sum(nil))}
	}
	shown := "***"
	if m := address.FindStringSubmatch(plain); normal == "email" && m != nil {
		shown += m[1]
	}
	if normal == "phone" && phone.MatchString(plain) {
		shown += plain[len(plain)-2:]
	}
	return Value{'"', shown}
}

// canonical spells an object or array with its members in order and no space.
func canonical(text string) string {
	d := json.NewDecoder(strings.NewReader(text))
	d.UseNumber()
	var v any
	var out bytes.Buffer
	e := json.NewEncoder(&out) // which sorts the members of a map
	e.SetEscapeHTML(false)
	if d.Decode(&v) != nil || d.Decode(&struct{}{}) != io.EOF || e.Encode(v) != nil {
		return text
	}
	return strings.TrimSpace(out.String())
}

// FitsType returns a value as a column of type typ has it, and whether it does. A
// declared column reads numbers, booleans and times out of strings, and no other
// kind of value; a found one of type string has the text of anything but objects.
func FitsType(typ schemas.Type, v Value, declared bool) (any, bool) {
	scalar := v.Kind != '{'
	quoted := v.Kind == '"'
	switch typ {
	case schemas.JSON:
		return v, true
	case schemas.String:
		return v.Text, quoted || scalar && !declared
	case schemas.Bool:
		return v.Text == "true", v.Kind == 't' || v.Kind == 'f' || declared && quoted && (v.Text == "true" || v.Text == "false")
	case schemas.Int64:
		n, err := strconv.ParseInt(v.Text, 10, 64)
		return n, err == nil && numeric(v, declared) && v.Text != "-0"
	case schemas.Float64:
		n, ok := exactly(v.Text)
		return n, ok && numeric(v, declared)
	case schemas.Timestamp:
		at, err := time.Parse(time.RFC3339Nano, v.Text)
		return at.UnixMicro(), err == nil && quoted && declared
	case schemas.Date:
		_, err := time.Parse(time.DateOnly, v.Text)
		return v.Text, err == nil && quoted && declared
	default:
		return nil, false
	}
}

func numeric(v Value, declared bool) bool {
	return v.Kind == '0' || declared && v.Kind == '"' && json.Valid([]byte(v.Text)) && !strings.ContainsAny(v.Text, "\"{[ \n\t") && v.Text != ""
}

// exactly returns a number as a float64, and whether that is the same decimal.
// An integer has to be one that float64 counts up to without gaps there.
func exactly(text string) (float64, bool) {
	n, err := strconv.ParseFloat(text, 64)
	if err != nil {
		return 0, false
	}
	if i, err := strconv.ParseInt(text, 10, 64); err == nil && text != "-0" {
		whole, _ := new(big.Float).SetInt64(i).Float64()
		back, accuracy := new(big.Float).SetFloat64(whole).Int64()
		return n, back == i && accuracy == big.Exact
	}
	a, okA := new(big.Rat).SetString(text)
	b, okB := new(big.Rat).SetString(strconv.FormatFloat(n, 'e', -1, 64))
	return n, okA && okB && a.Cmp(b) == 0
}

// Inferred returns the type of a column that is found with these values.
func Inferred(values []Value) schemas.Type {
	all := func(t schemas.Type) bool {
		return !slices.ContainsFunc(values, func(v Value) bool {
			_, fits := FitsType(t, v, false)
			return !fits
		})
	}
	switch {
	case slices.ContainsFunc(values, func(v Value) bool { return v.Kind == '{' }):
		return schemas.JSON
	case all(schemas.Bool):
		return schemas.Bool
	case all(schemas.Int64):
		return schemas.Int64
	case all(schemas.Float64):
		return schemas.Float64
	default:
		return schemas.String
	}
}
