package sandbox

import (
	"encoding/json"
	"slices"
	"strconv"
)

// face is what a contact shows, custom fields apart, with edits applied.
type face struct {
	base, live          uint64 // hashes of the number, and of number and revision
	id, customer        uuid
	ticket              uint64  // hash of the active ticket
	name                *string // where edited; else appendName makes it
	phone, email        *string
	platform, status    string
	stage, defaultStage int // positions in generator.stages; -1: null
	hasTicket           bool
	blocked, read       bool
	edit                *edit
}

// ticketRevisions is how many changes of content a ticket lives for.
const ticketRevisions = 5

// glance works out what filters need of contact i: hashes, ticket and stage.
// The edit e may be nil.
func (g *generator) glance(i uint32, r *rec, e *edit) face {
	base := g.hash(i)
	f := face{base: base, live: mix(base ^ mix(uint64(r.rev)+77)), edit: e, stage: -1}
	f.setTicket(int64(r.rev / ticketRevisions))
	if mix(f.live+29)%12 != 0 {
		f.stage = int(below(mix(f.live+30), uint64(len(g.stages))))
	}
	if e != nil && e.stage != nil {
		f.hasTicket, f.stage = true, *e.stage
	}
	return f
}

// face works out contact i from its record and its edit, which may be nil.
func (g *generator) face(i uint32, r *rec, e *edit) face {
	f := g.glance(i, r, e)
	f.id = g.contactID(i)
	owner := i
	if i&1 == 1 && mix(g.hash(i&^1)+20)%4 == 0 {
		owner = i &^ 1 // one person on two channels
	}
	f.customer = newUUID(g.hash(owner)+21, 21)
	f.platform = pick(platforms[:], mix(f.base+22))
	f.status = pick(chatStatuses[:], mix(f.live+23))
	f.blocked = mix(f.base+24)%50 == 0
	f.read = mix(f.live+25)%3 != 0
	f.defaultStage = -1
	if mix(f.base+26)%10 != 0 {
		f.defaultStage = int(below(mix(f.base+27), uint64(len(g.stages))))
	}
	if e != nil {
		e.apply(&f)
	}
	return f
}

// setTicket makes generation n of the contact's tickets the active one; some
// generations have none.
func (f *face) setTicket(n int64) {
	f.ticket = mix(f.base + uint64(n)*31 + 28)
	f.hasTicket = n >= 0 && f.ticket%10 < 7
}

// cell is one custom field about to be written.
type cell struct {
	key        string
	start, end int // the value, JSON, in renderer.values
	entity     entity
	shape      shape
}

// renderer writes contacts as the endpoint does. It keeps scratch memory and
// belongs to one goroutine.
type renderer struct {
	g      *generator
	bare   bool // custom fields are left out
	cells  []cell
	values []byte
}

func (w *renderer) value(c cell) []byte { return w.values[c.start:c.end] }

// gather puts the entity's custom fields into w.cells.
func (w *renderer) gather(f *face, r *rec, of entity) { w.gatherKey(f, r, of, "") }

// gatherKey puts the entity's custom field called key, or all for "", into w.cells.
func (w *renderer) gatherKey(f *face, r *rec, of entity, key string) {
	w.cells, w.values = w.cells[:0], w.values[:0]
	for n := range fieldDefs {
		d := &fieldDefs[n]
		if d.entity != of || key != "" && d.key != key {
			continue
		}
		h := fieldHash(f.base, n)
		if !d.has(h) {
			continue
		}
		if d.live && d.kind != kindCount {
			h ^= f.live
		}
		c := cell{key: d.key, start: len(w.values), entity: of, shape: d.shapeFor(f.base)}
		w.values = d.appendValue(w.values, h, r.rev)
		if c.shape == shapeMetadata && d.kind == kindScore {
			w.quote(c.start)
		}
		c.end = len(w.values)
		w.cells = append(w.cells, c)
	}
	if f.edit == nil {
		return
	}
	for _, set := range f.edit.fields {
		if set.entity == of && (key == "" || set.key == key) {
			w.override(set)
		}
	}
}

// quote makes the value from start on a string, as metadata holds it.
func (w *renderer) quote(start int) {
	if raw := w.values[start:]; raw[0] >= '0' && raw[0] <= '9' {
		w.values = append(slices.Insert(w.values, start, '"'), '"')
	}
}

// override puts an edited field in the place of a generated one, or at the end.
func (w *renderer) override(set fieldEdit) {
	at := len(w.cells)
	for k := range w.cells {
		if w.cells[k].key == set.key {
			at = k
		}
	}
	if at == len(w.cells) {
		w.cells = append(w.cells, cell{key: set.key, entity: set.entity, shape: set.shape})
	}
	c := &w.cells[at]
	c.start = len(w.values)
	if c.shape == shapeMetadata {
		w.values = appendAsText(w.values, set.value)
	} else {
		w.values = append(w.values, set.value...)
	}
	c.end = len(w.values)
}

// appendAsText appends the JSON value raw as metadata holds it: a string or null.
func appendAsText(dst []byte, raw json.RawMessage) []byte {
	if raw[0] == '"' || string(raw) == "null" {
		return append(dst, raw...)
	}
	return appendString(dst, string(raw))
}

// contact appends contact i as the list endpoints print it. withStage adds the
// nested current_stage, as a pipeline filter does.
func (w *renderer) contact(dst []byte, f *face, r *rec, withStage bool) []byte {
	dst = w.fixed(dst, f, r)
	dst = append(dst, `,"active_ticket_v2":`...)
	dst = w.activeTicket(dst, f, r, withStage)
	if !w.bare {
		w.gather(f, r, customer)
		dst = w.custom(dst, f.base>>48)
	}
	return append(dst, '}')
}

// fixed appends the fields of the first response table, without the closing brace.
func (w *renderer) fixed(dst []byte, f *face, r *rec) []byte {
	dst = append(dst, `{"id":"`...)
	dst = f.id.append(dst)
	dst = append(dst, `","name":`...)
	dst = f.appendName(dst)
	dst = append(dst, `,"phone":`...)
	dst = f.appendPhone(dst)
	dst = append(dst, `,"email":`...)
	dst = f.appendEmail(dst)
	dst = append(dst, `,"platform":`...)
	dst = appendString(dst, f.platform)
	dst = append(dst, `,"last_message_at":`...)
	if r.message == noMessage {
		dst = append(dst, "null"...)
	} else {
		dst = appendTime(dst, r.message)
	}
	dst = append(dst, `,"chat_status":`...)
	dst = appendString(dst, f.status)
	dst = append(dst, `,"created_at":`...)
	dst = appendTime(dst, r.created)
	dst = append(dst, `,"updated_at":`...)
	dst = appendTime(dst, r.updated)
	dst = append(dst, `,"client_id":"`...)
	dst = w.g.client.append(dst)
	dst = append(dst, `","ai_customer_id":"`...)
	dst = f.customer.append(dst)
	dst = append(dst, `","default_stage_id":`...)
	dst = w.stageID(dst, f.defaultStage)
	dst = append(dst, `,"blocked":`...)
	dst = strconv.AppendBool(dst, f.blocked)
	dst = append(dst, `,"is_chat_read":`...)
	return strconv.AppendBool(dst, f.read)
}

func (w *renderer) stageID(dst []byte, n int) []byte {
	if n < 0 {
		return append(dst, "null"...)
	}
	dst = w.g.stages[n].id.append(append(dst, '"'))
	return append(dst, '"')
}

func (w *renderer) activeTicket(dst []byte, f *face, r *rec, withStage bool) []byte {
	if !f.hasTicket {
		return append(dst, "null"...)
	}
	dst = newUUID(f.ticket, 28).append(append(dst, `{"id":"`...))
	dst = append(dst, `","current_stage_id":`...)
	dst = w.stageID(dst, f.stage)
	if withStage && f.stage >= 0 {
		s := &w.g.stages[f.stage]
		dst = s.id.append(append(dst, `,"current_stage":{"id":"`...))
		dst = appendString(append(dst, `","name":`...), s.name)
		dst = w.g.pipelines[s.pipeline].id.append(append(dst, `,"pipeline_id":"`...))
		dst = append(dst, `"}`...)
	}
	if !w.bare {
		w.gather(f, r, ticket)
		dst = w.custom(dst, f.base>>52)
	}
	return append(dst, '}')
}

// custom appends what gather found, shape by shape. A shape without fields is
// left out, or, by chance, empty or null.
func (w *renderer) custom(dst []byte, chance uint64) []byte {
	var count [shapes]int
	for _, c := range w.cells {
		count[c.shape]++
	}
	if count[shapeObject] > 0 {
		dst = w.object(append(dst, `,"custom_fields":`...), shapeObject)
	} else if chance&63 == 0 {
		dst = append(dst, `,"custom_fields":{}`...)
	}
	if count[shapeList] > 0 {
		dst = w.list(append(dst, `,"custom_field_values":`...))
	} else if chance&15 == 1 {
		dst = append(dst, `,"custom_field_values":[]`...)
	}
	if count[shapeMetadata] > 0 {
		dst = w.object(append(dst, `,"metadata":`...), shapeMetadata)
	} else if chance&15 == 2 {
		dst = append(dst, `,"metadata":null`...)
	}
	return dst
}

func (w *renderer) object(dst []byte, s shape) []byte {
	opener := byte('{')
	for _, c := range w.cells {
		if c.shape != s {
			continue
		}
		dst = append(appendString(append(dst, opener), c.key), ':')
		dst = append(dst, w.value(c)...)
		opener = ','
	}
	return append(dst, '}')
}

func (w *renderer) list(dst []byte) []byte {
	opener := byte('[')
	for _, c := range w.cells {
		if c.shape != shapeList {
			continue
		}
		dst = appendString(append(append(dst, opener), `{"key":`...), c.key)
		dst = append(append(dst, `,"value":`...), w.value(c)...)
		dst = append(dst, '}')
		opener = ','
	}
	return append(dst, ']')
}

// appendName appends the name as JSON.
func (f *face) appendName(dst []byte) []byte {
	if f.name != nil {
		return appendString(dst, *f.name)
	}
	h := mix(f.base + 31)
	if h%32 == 0 {
		return appendString(dst, choose(oddNames[:], mix(h)))
	}
	first, last, second := f.names()
	dst = append(append(append(dst, '"'), first.written...), ' ')
	dst = append(dst, last.written...)
	if h&1 == 0 {
		dst = append(append(dst, ' '), second.written...)
	}
	return append(dst, '"')
}

func (f *face) names() (first, last, second spelled) {
	h := mix(f.base + 32)
	return firstNames[below(h, uint64(len(firstNames)))],
		lastNames[below(mix(h), uint64(len(lastNames)))],
		lastNames[below(mix(h+1), uint64(len(lastNames)))]
}

// appendPhone appends the phone as JSON: channels that need one have one.
func (f *face) appendPhone(dst []byte) []byte {
	if f.phone != nil {
		return appendOptional(dst, *f.phone)
	}
	h := mix(f.base + 33)
	switch f.platform {
	case "whatsapp", "web-whatsapp", "sms", "voice":
	default:
		if h%4 != 0 {
			return append(dst, "null"...)
		}
	}
	h = mix(h)
	dst = append(append(dst, '"'), choose(phonePrefixes[:], h)...)
	return append(appendDigits(dst, mix(h)%100_000_000, 8), '"')
}

// appendEmail appends the e-mail address as JSON.
func (f *face) appendEmail(dst []byte) []byte {
	if f.email != nil {
		return appendOptional(dst, *f.email)
	}
	h := mix(f.base + 34)
	if h%100 < 42 {
		return append(dst, "null"...)
	}
	first, last, _ := f.names()
	dst = append(append(append(dst, '"'), first.plain...), '.')
	dst = strconv.AppendUint(append(dst, last.plain...), h>>32%10_000, 10)
	dst = append(append(dst, '@'), choose(mailDomains[:], mix(h))...)
	return append(dst, '"')
}

// appendOptional appends s, or null where it is empty.
func appendOptional(dst []byte, s string) []byte {
	if s == "" {
		return append(dst, "null"...)
	}
	return appendString(dst, s)
}
