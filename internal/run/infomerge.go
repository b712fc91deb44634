package run

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/schemas"
)

// infoRules say which members of a contact have a meaning of their own when
// the list's record and the info endpoint's are joined.
type infoRules struct {
	// customer and ticket are the members of a contact, and of its active
	// ticket, that hold custom fields.
	customer, ticket map[string]bool
	// declared are the members of a contact that the contract names: they stay
	// as they are served.
	declared map[string]bool
}

func newInfoRules(c *schemas.Contract) infoRules {
	r := infoRules{customer: map[string]bool{}, ticket: map[string]bool{}, declared: map[string]bool{}}
	for _, s := range c.CustomFields {
		if s.Place.Scope == schemas.ScopeTicket {
			r.ticket[s.Place.Key] = true
		} else {
			r.customer[s.Place.Key] = true
		}
	}
	for _, col := range slices.Concat(c.Columns, c.Left) {
		if col.Ref.Scope == schemas.ScopeContact {
			r.declared[col.Ref.Key] = true
		}
	}
	return r
}

// errKeyTwice marks a record that readers of JSON take for different things.
var errKeyTwice = errors.New("a key stands twice in one object")

// join returns the list's record with what the info endpoint has more of the
// same contact; both are JSON objects. A member that the list serves stays as
// it is: the list's record is the version that the walk goes by, and a contact
// that has changed in between comes again. Members that the list lacks are
// added, in the active ticket only where both speak of one ticket; custom
// fields one by one. A ticket that the list does not have at all, such as the
// last closed one, becomes single members, last_closed_ticket_id and so on.
func (r infoRules) join(listed, served []byte) ([]byte, error) {
	if err := checkKeys(served); err != nil {
		return nil, err
	}
	have, err := membersOf(listed)
	if err != nil {
		return nil, fmt.Errorf("read record of the list: %w", err)
	}
	more, err := infoMembers(served)
	if err != nil {
		return nil, fmt.Errorf("read record of the info endpoint: %w", err)
	}
	have, err = r.joinMembers(have, more, r.customer, true)
	if err != nil {
		return nil, err
	}
	return objectOf(have), nil
}

// joinMembers adds to have what more has besides. fields are the members that
// hold custom fields; top says that have are a contact's members.
func (r infoRules) joinMembers(have, more []member, fields map[string]bool, top bool) ([]member, error) {
	known, err := fieldKeys(have, fields)
	if err != nil {
		return nil, err
	}
	for _, m := range more {
		i := find(have, m.key)
		switch {
		case fields[m.key]:
			have, err = joinFields(have, m, known)
		case top && i < 0 && jsonKind(m.value) == '{' && !r.declared[m.key] && m.key != schemas.TicketField && strings.Contains(m.key, "ticket"):
			have, err = flatten(have, more, m)
		case i < 0:
			have = append(have, m)
		case top && m.key == schemas.TicketField && jsonKind(have[i].value) == '{' && jsonKind(m.value) == '{':
			have[i], err = r.joinTicket(have[i], m)
		}
		if err != nil {
			return nil, err
		}
	}
	return have, nil
}

// joinTicket is joinMembers of the active ticket, which may have been closed,
// and another opened, since the list was read.
func (r infoRules) joinTicket(have, more member) (member, error) {
	ours, err := membersOf(have.value)
	if err != nil {
		return have, err
	}
	theirs, err := membersOf(more.value)
	if err != nil {
		return have, err
	}
	i, j := find(ours, schemas.ColID), find(theirs, schemas.ColID)
	if i < 0 || j < 0 || !bytes.Equal(ours[i].value, theirs[j].value) {
		return have, nil
	}
	if ours, err = r.joinMembers(ours, theirs, r.ticket, false); err != nil {
		return have, err
	}
	return have.with(objectOf(ours)), nil
}

// flatten adds the members of a ticket, each under the ticket's name and its
// own, unless one of these names is taken.
func flatten(have, more []member, ticket member) ([]member, error) {
	inner, err := membersOf(ticket.value)
	if err != nil {
		return nil, err
	}
	for _, m := range inner {
		m = newMember(ticket.key+"_"+m.key, m.value)
		if find(have, m.key) < 0 && find(more, m.key) < 0 {
			have = append(have, m)
		}
	}
	return have, nil
}

// joinFields adds to a place of custom fields those of m that no place of the
// list has.
func joinFields(have []member, m member, known map[string]bool) ([]member, error) {
	values, err := fieldsOf(m.value)
	if err != nil {
		return nil, err
	}
	values = slices.DeleteFunc(values, func(f member) bool { return f.key == "" || known[f.key] })
	if len(values) == 0 {
		return have, nil
	}
	i := find(have, m.key)
	if i < 0 {
		return append(have, m.with(enclosed(jsonKind(m.value), values))), nil
	}
	there, err := fieldsOf(have[i].value)
	switch kind := jsonKind(have[i].value); {
	case err != nil:
		return nil, err
	case kind == 'n' || (kind == '{' || kind == '[') && len(there) == 0:
		have[i] = m.with(enclosed(jsonKind(m.value), values))
	case kind == jsonKind(m.value):
		have[i] = m.with(enclosed(kind, append(there, values...)))
	}
	return have, nil
}

// fieldKeys are the custom fields that the places of one entity have.
func fieldKeys(members []member, places map[string]bool) (map[string]bool, error) {
	known := map[string]bool{}
	for _, m := range members {
		if !places[m.key] {
			continue
		}
		fields, err := fieldsOf(m.value)
		if err != nil {
			return nil, err
		}
		for _, f := range fields {
			known[f.key] = true
		}
	}
	return known, nil
}

// fieldsOf reads a place of custom fields: an object, or an array of key/value
// objects, whose members are then whole elements, without a key where they are
// something else. Anything else has none.
func fieldsOf(place []byte) ([]member, error) {
	switch jsonKind(place) {
	case '{':
		return membersOf(place)
	case '[':
	default:
		return nil, nil
	}
	var elements []json.RawMessage
	if err := json.Unmarshal(place, &elements); err != nil {
		return nil, fmt.Errorf("read custom fields: %w", err)
	}
	out := make([]member, 0, len(elements))
	for _, e := range elements {
		m := member{raw: e, value: e}
		if jsonKind(e) == '{' {
			inner, err := membersOf(e)
			if err != nil {
				return nil, err
			}
			if i := find(inner, "key"); i >= 0 {
				m.key = stringOf(inner[i].value)
			}
		}
		out = append(out, m)
	}
	return out, nil
}

// member is a member of an object as it was served.
type member struct {
	key   string
	raw   []byte // with its key
	value []byte
}

func newMember(key string, value []byte) member {
	quoted, err := json.Marshal(key)
	if err != nil { // no string fails
		return member{}
	}
	return member{key: key, raw: slices.Concat(quoted, []byte(":"), value), value: value}
}

// with is m with another value.
func (m member) with(value []byte) member {
	return member{key: m.key, raw: slices.Concat(m.raw[:len(m.raw)-len(m.value)], value), value: value}
}

func find(members []member, key string) int {
	return slices.IndexFunc(members, func(m member) bool { return m.key == key })
}

// membersOf takes an object apart.
func membersOf(object []byte) ([]member, error) {
	dec := json.NewDecoder(bytes.NewReader(object))
	if t, err := dec.Token(); err != nil || t != json.Delim('{') {
		return nil, errors.Join(errors.New("it is no JSON object"), err)
	}
	var out []member
	for dec.More() {
		at := dec.InputOffset()
		key, err := dec.Token()
		if err != nil {
			return nil, err
		}
		var value json.RawMessage
		if err := dec.Decode(&value); err != nil {
			return nil, err
		}
		name, _ := key.(string) // anything else is an error of Token
		out = append(out, member{key: name, raw: bytes.TrimLeft(object[at:dec.InputOffset()], ", \t\r\n"), value: value})
	}
	if _, err := dec.Token(); err != nil {
		return nil, err
	}
	return out, nil
}

// infoMembers reads the record of an answer of the info endpoint, which may be
// wrapped in one or two objects.
func infoMembers(served []byte) ([]member, error) {
	for range 3 {
		members, err := membersOf(served)
		if err != nil || find(members, schemas.ColID) >= 0 {
			return members, err
		}
		i := find(members, "data")
		if i < 0 || jsonKind(members[i].value) == 'n' {
			i = find(members, "contact")
		}
		if i < 0 {
			break
		}
		served = members[i].value
	}
	return nil, errors.New("it holds no contact")
}

func objectOf(members []member) []byte { return enclosed('{', members) }

// enclosed writes members of an object, or elements of an array.
func enclosed(kind byte, members []member) []byte {
	out := []byte{kind}
	for i, m := range members {
		if i > 0 {
			out = append(out, ',')
		}
		out = append(out, m.raw...)
	}
	return append(out, kind+2) // } follows { so in ASCII, and ] follows [
}

// jsonKind is the first byte of a JSON value: of an object, an array, null.
func jsonKind(value []byte) byte {
	if value = bytes.TrimLeft(value, " \t\r\n"); len(value) > 0 {
		return value[0]
	}
	return 0
}

// stringOf is the text of a JSON string, empty for anything else.
func stringOf(value []byte) string {
	var s string
	if json.Unmarshal(value, &s) != nil {
		return ""
	}
	return s
}

// checkKeys refuses a JSON value in which some object has a key twice.
func checkKeys(value []byte) error {
	dec := json.NewDecoder(bytes.NewReader(value))
	dec.UseNumber()
	type level struct {
		keys map[string]bool // nil: an array
		name bool            // a key comes next
	}
	var stack []level
	for {
		token, err := dec.Token()
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("read record of the info endpoint: %w", err)
		}
		top := len(stack) - 1
		if top >= 0 && stack[top].keys != nil && stack[top].name {
			if key, is := token.(string); is {
				if stack[top].keys[key] {
					return errKeyTwice
				}
				stack[top].keys[key], stack[top].name = true, false
				continue
			}
		}
		switch token {
		case json.Delim('{'):
			stack = append(stack, level{keys: map[string]bool{}, name: true})
			continue
		case json.Delim('['):
			stack = append(stack, level{})
			continue
		case json.Delim('}'), json.Delim(']'):
			stack = stack[:top]
		}
		if top = len(stack) - 1; top >= 0 {
			stack[top].name = true
		}
	}
}

// recordsOf takes a page apart that the decoder has accepted: an array, or an
// object with one as data or contacts.
func recordsOf(page []byte) ([]json.RawMessage, error) {
	var records []json.RawMessage
	if jsonKind(page) != '{' {
		err := json.Unmarshal(page, &records)
		return records, err
	}
	members, err := membersOf(page)
	if err != nil {
		return nil, err
	}
	for _, m := range members {
		if (m.key == "data" || m.key == "contacts") && jsonKind(m.value) == '[' {
			err := json.Unmarshal(m.value, &records)
			return records, err
		}
	}
	return nil, errors.New("it has no contacts")
}
