package transform_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

// The oracle is a second, slow decoder on top of jsontext, with a map per
// contact: the decoder must take the same pages and give the same values.

// node is a JSON value.
type node struct {
	kind    jsontext.Kind
	text    string // of a string, unescaped; else the value as served
	members []member
	elems   []node
}

type member struct {
	key   string
	value node
}

var lenient = jsontext.AllowDuplicateNames(true)

// oraclePage returns the elements of a page and their text as served.
func oraclePage(body []byte) (elems []node, raws []string, ok bool) {
	d := jsontext.NewDecoder(bytes.NewReader(body), lenient)
	v, err := d.ReadValue()
	if err != nil {
		return nil, nil, false
	}
	v = v.Clone()
	if _, err := d.ReadToken(); !errors.Is(err, io.EOF) {
		return nil, nil, false
	}
	list := v
	if v.Kind() == '{' {
		found := 0
		walkObject(v, func(key string, value jsontext.Value) {
			if (key == "data" || key == "contacts") && value.Kind() == '[' {
				list = value
				found++
			}
		})
		if found != 1 {
			return nil, nil, false
		}
	}
	if list.Kind() != '[' {
		return nil, nil, false
	}
	ok = true
	walkArray(list, func(value jsontext.Value) {
		ok = ok && value.Kind() == '{'
		elems, raws = append(elems, parse(value)), append(raws, string(value))
	})
	return elems, raws, ok
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func walkObject(v jsontext.Value, f func(string, jsontext.Value)) {
	d := jsontext.NewDecoder(bytes.NewReader(v), lenient)
	must(d.ReadToken())
	for d.PeekKind() != '}' {
		key := must(d.ReadToken()).String()
		f(key, must(d.ReadValue()).Clone())
	}
}

func walkArray(v jsontext.Value, f func(jsontext.Value)) {
	d := jsontext.NewDecoder(bytes.NewReader(v), lenient)
	must(d.ReadToken())
	for d.PeekKind() != ']' {
		f(must(d.ReadValue()).Clone())
	}
}

// parse goes three levels deep, as far as fields are looked for.
func parse(v jsontext.Value) node { return parseTo(v, 4) }

func parseTo(v jsontext.Value, depth int) node {
	n := node{kind: v.Kind(), text: string(v)}
	switch {
	case n.kind == '"':
		n.text = string(must(jsontext.AppendUnquote(nil, v)))
	case n.kind == '{' && depth > 0:
		walkObject(v, func(key string, value jsontext.Value) {
			n.members = append(n.members, member{key, parseTo(value, depth-1)})
		})
	case n.kind == '[' && depth > 0:
		walkArray(v, func(value jsontext.Value) { n.elems = append(n.elems, parseTo(value, depth-1)) })
	}
	return n
}

// flat is what a contact should become.
type flat struct {
	values map[schemas.FieldRef]node
	ranks  map[schemas.FieldRef]int
	lost   map[schemas.FieldRef][]string
	twice  bool
}

var places = map[string]int{"custom_fields": 0, "custom_field_values": 1, "metadata": 2}

func flatten(n node) *flat {
	f := &flat{values: map[schemas.FieldRef]node{}, ranks: map[schemas.FieldRef]int{}, lost: map[schemas.FieldRef][]string{}}
	f.object(n, schemas.ScopeContact)
	return f
}

func (f *flat) object(n node, scope schemas.Scope) {
	seen := map[string]bool{}
	for _, m := range n.members {
		f.twice = f.twice || seen[m.key]
		if seen[m.key] {
			continue
		}
		seen[m.key] = true
		rank, custom := places[m.key]
		switch {
		case scope == schemas.ScopeContact && m.key == "active_ticket_v2" && m.value.kind == '{':
			f.object(m.value, schemas.ScopeTicket)
		case custom && m.value.kind == '{':
			keys := map[string]bool{}
			for _, cf := range m.value.members {
				f.twice = f.twice || keys[cf.key]
				keys[cf.key] = true
				f.customField(scope, cf.key, cf.value, rank)
			}
		case custom && m.value.kind == '[':
			f.list(scope, m, rank)
		case m.value.kind != 'n':
			f.values[schemas.FieldRef{Scope: scope, Key: m.key}] = m.value
		}
	}
}

func (f *flat) list(scope schemas.Scope, m member, rank int) {
	pure, extra := true, false
	var found []member
	for _, e := range m.value.elems {
		var keys, values []node
		for _, em := range e.members {
			switch em.key {
			case "key":
				keys = append(keys, em.value)
			case "value":
				values = append(values, em.value)
			default:
				extra = true
			}
		}
		if e.kind != '{' || len(keys) != 1 || len(values) != 1 || keys[0].kind != '"' {
			pure = false
			continue
		}
		found = append(found, member{keys[0].text, values[0]})
	}
	if !pure || extra {
		f.values[schemas.FieldRef{Scope: scope, Key: m.key}] = m.value
	}
	if pure {
		for _, cf := range found {
			f.customField(scope, cf.key, cf.value, rank)
		}
	}
}

func (f *flat) customField(scope schemas.Scope, key string, v node, rank int) {
	if v.kind == 'n' {
		return
	}
	ref := schemas.FieldRef{Scope: schemas.ScopeCFCustomer, Key: key}
	if scope == schemas.ScopeTicket {
		ref.Scope = schemas.ScopeCFTicket
	}
	old, contested := f.values[ref]
	lost := v
	if !contested || rank < f.ranks[ref] {
		f.values[ref], f.ranks[ref] = v, rank
		lost = old
	}
	if contested && (old.kind != v.kind || old.text != v.text) {
		f.lost[ref] = append(f.lost[ref], lost.text)
	}
}

// usable reports whether the contact has what the walk needs.
func (f *flat) usable() bool {
	id := f.get("id")
	return id.kind == '"' && id.text != "" && isTime(f.get("created_at")) && isTime(f.get("updated_at"))
}

func (f *flat) get(key string) node {
	return f.values[schemas.FieldRef{Scope: schemas.ScopeContact, Key: key}]
}

func isTime(n node) bool {
	_, ok := oracleTime(n.text)
	return n.kind == '"' && ok
}

// oracleTime is time.Parse, less what it takes beyond RFC 3339, and within
// the years that a table holds.
func oracleTime(s string) (int64, bool) {
	t, err := time.Parse(time.RFC3339Nano, s)
	if err != nil || strings.Contains(s, ",") || s[0:4] == "0000" || len(s) < 20 || s[10] != 'T' || s[13] != ':' {
		return 0, false
	}
	if dot := strings.IndexByte(s, '.'); dot >= 0 {
		if n := strings.IndexAny(s[dot:], "Z+-") - 1; n < 1 || n > 9 {
			return 0, false
		}
	}
	if z := len(s) - 6; s[len(s)-1] != 'Z' && (s[z+1:z+3] > "23" || s[z+4:] > "59") {
		return 0, false
	}
	us := t.UnixMicro()
	if t.Nanosecond()%1000 != 0 {
		us = t.Truncate(time.Microsecond).UnixMicro()
	}
	return us, t.UTC().Year() >= 1 && t.UTC().Year() <= 9999
}

// shown returns the value at row of col as the source wrote it, as far as the
// type says; ok is false for null.
func same(tc schemas.Column, col arrow.Array, row int, want node) error {
	fail := func(got any) error {
		return fmt.Errorf("column %s is %v, want %q", tc.Name, got, want.text)
	}
	number := want.kind == '0' || tc.Origin == schemas.FromContract && want.kind == '"' && oracleNumber.MatchString(want.text)
	switch a := col.(type) {
	case *array.String:
		got, text := a.Value(row), want.text
		if tc.Type == schemas.JSON && want.kind == '"' {
			unquoted, err := jsontext.AppendUnquote(nil, got)
			if err != nil || string(unquoted) != text {
				return fail(got)
			}
			return nil
		}
		if got != text || tc.Origin == schemas.FromContract && tc.Type == schemas.String && want.kind != '"' {
			return fail(got)
		}
	case *array.Int64:
		if v, err := strconv.ParseInt(want.text, 10, 64); err != nil || v != a.Value(row) || !number {
			return fail(a.Value(row))
		}
	case *array.Float64:
		v, err := strconv.ParseFloat(want.text, 64)
		if err != nil || math.Float64bits(v) != math.Float64bits(a.Value(row)) || !number {
			return fail(a.Value(row))
		}
	case *array.Boolean:
		if strconv.FormatBool(a.Value(row)) != want.text || want.kind == '"' && tc.Origin != schemas.FromContract {
			return fail(a.Value(row))
		}
	case *array.Date32:
		if a.Value(row).ToTime().Format(time.DateOnly) != want.text {
			return fail(a.ValueStr(row))
		}
	case *array.Timestamp:
		if v, ok := oracleTime(want.text); !ok || v != int64(a.Value(row)) {
			return fail(a.Value(row))
		}
	default:
		return fmt.Errorf("column %s has type %s", tc.Name, col.DataType())
	}
	return nil
}

// checkPage decodes body as one page of a chunk and compares with the oracle.
// It reports whether the page was taken.
func checkPage(t *testing.T, c *transform.Chunk, reg *schemas.Registry, body []byte) bool {
	t.Helper()
	elems, raws, ok := oraclePage(body)
	before := bytes.Clone(body)
	rows, err := c.Decode(body)
	if ok != (err == nil) || err != nil && !errors.Is(err, transform.ErrBadPage) {
		t.Fatalf("decoder says %v, oracle accepts: %t\n%q", err, ok, body)
	}
	if !bytes.Equal(before, body) {
		t.Fatal("the body was changed")
	}
	if err != nil {
		return false
	}
	if len(rows) != len(elems) {
		t.Fatalf("%d rows of %d elements\n%q", len(rows), len(elems), body)
	}
	rows = append([]transform.Row(nil), rows...)
	kept := c.Keep(nil, transform.Meta{ExtractedAt: time.Unix(1, 0)})
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	s := seal(t, c, reg, mem)
	if err := compare(s, reg.Contract(), rows, elems, raws, kept); err != nil {
		t.Fatalf("%v\n%q", err, body)
	}
	s.Record.Release()
	mem.AssertSize(t, 0)
	return true
}

func compare(s *transform.Sealed, contract *schemas.Contract, rows []transform.Row, elems []node, raws []string, kept int) error {
	if kept+len(s.Rejects) != len(elems) || int(s.Record.NumRows()) != kept {
		return fmt.Errorf("%d kept and %d rejected of %d, %d in the record", kept, len(s.Rejects), len(elems), s.Record.NumRows())
	}
	rejected := map[int]transform.Reject{}
	for _, r := range s.Rejects {
		rejected[r.Position] = r
	}
	place := map[int]int{} // of a kept row, by its number
	numbers := s.Record.Column(s.Table.Index(schemas.ColRow)).(*array.Int64)
	for i := range numbers.Len() {
		place[int(numbers.Value(i))] = i
	}
	missed := map[schemas.FieldRef]int64{}
	next := 0
	for i, e := range elems {
		want := flatten(e)
		usable := want.usable()
		if rows[i].Invalid == usable {
			return fmt.Errorf("element %d: invalid=%t, usable=%t", i, rows[i].Invalid, usable)
		}
		if r, ok := rejected[i]; ok != (!usable || want.twice) {
			return fmt.Errorf("element %d: rejected=%t (%s), usable=%t, twice=%t", i, ok, r.Reason, usable, want.twice)
		} else if ok {
			if string(r.Raw) != raws[i] {
				return fmt.Errorf("element %d: reject holds %q", i, r.Raw)
			}
			continue
		}
		created, _ := oracleTime(want.get("created_at").text)
		updated, _ := oracleTime(want.get("updated_at").text)
		if rows[i].Created != created || rows[i].Updated != updated {
			return fmt.Errorf("element %d: row %+v", i, rows[i])
		}
		want.obey(contract)
		if err := compareRow(s, contract, place[next], want, missed); err != nil {
			return fmt.Errorf("element %d: %w", i, err)
		}
		next++
	}
	if fields := uncounted(s, missed); fields != "" {
		return fmt.Errorf("left out are %v, missed were %v", s.Discarded, missed)
	}
	return nil
}

// compareRow checks that each value wanted stands in its column or, where it
// does not fit, in the one beside it, and that the row holds nothing else.
// missed counts the values that the contract has left out.
func compareRow(s *transform.Sealed, contract *schemas.Contract, row int, want *flat, missed map[schemas.FieldRef]int64) error {
	texts := map[schemas.FieldRef]string{}
	cells := 0
	for i, tc := range s.Table.Columns {
		if tc.Origin == schemas.MisfitText && !s.Record.Column(i).IsNull(row) {
			ref := must(schemas.ParseFieldRef(tc.Source))
			texts[ref] = s.Record.Column(i).(*array.String).Value(row)
		}
	}
	for i, tc := range s.Table.Columns {
		col := s.Record.Column(i)
		if tc.Origin != schemas.FromContract && tc.Origin != schemas.Discovered {
			continue
		}
		ref := must(schemas.ParseFieldRef(tc.Source))
		v, ok := want.values[ref]
		lost := want.lost[ref]
		if fits, sure := oracleFits(tc.Type, v); ok && sure && tc.Origin == schemas.FromContract && fits == col.IsNull(row) {
			return fmt.Errorf("column %s holds %q: %t, want %t", tc.Name, v.text, !col.IsNull(row), fits)
		}
		switch {
		case !ok && !col.IsNull(row):
			return fmt.Errorf("column %s is %s, want null", tc.Name, col.ValueStr(row))
		case !ok:
			continue
		case col.IsNull(row):
			lost = append(append([]string(nil), lost...), v.text)
		default:
			if err := same(tc, col, row, v); err != nil {
				return err
			}
		}
		cells++
		if rule := contract.Rule(ref); rule.TypeConflicts == schemas.Discard && len(lost) > 0 {
			missed[ref]++
			lost = nil
		}
		if texts[ref] != strings.Join(lost, "\n") {
			return fmt.Errorf("text beside column %s is %q, want %q", tc.Name, texts[ref], lost)
		}
		delete(texts, ref)
	}
	for ref := range want.values {
		if contract.Rule(ref).NewColumns == schemas.Discard && !hasSource(s.Table, ref) {
			missed[ref]++
			cells++
		}
	}
	if cells != len(want.values) || len(texts) > 0 {
		return fmt.Errorf("%d cells for %d values, texts too many: %q", cells, len(want.values), texts)
	}
	return nil
}
