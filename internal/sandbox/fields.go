package sandbox

import "strconv"

// entity is what a custom field belongs to.
type entity uint8

const (
	customer entity = iota
	ticket
)

func (e entity) String() string {
	if e == ticket {
		return "ticket"
	}
	return "customer"
}

// shape is where and how a custom field is written: CONTACTS_API.md, "Custom
// fields".
type shape uint8

const (
	shapeObject   shape = iota // custom_fields: {key: value}
	shapeList                  // custom_field_values: [{key, value}]
	shapeMetadata              // metadata: {key: text}
	shapes
)

// kind is how the value of a custom field comes about.
type kind uint8

const (
	kindCount     kind = iota // number; moves with every change of content
	kindYear                  // text, four digits
	kindSource                // text
	kindRUT                   // text, a Chilean tax number
	kindCity                  // text
	kindNote                  // text with quotes, line breaks, emoji
	kindProduct               // text
	kindDate                  // text, yyyy-mm-dd
	kindAmount                // whole number
	kindDecimal               // number with cents
	kindBool                  // true or false
	kindPriority              // text or null
	kindReason                // null, now and then text
	kindScore                 // text, now and then a number, null or empty
	kindAddress               // nested object
	kindInterests             // array of text
)

// fieldDef is one custom field of the account.
type fieldDef struct {
	key    string
	entity entity
	shape  shape // where most contacts have it
	kind   kind
	share  uint64 // thousandths of contacts (or tickets) that have it
	live   bool   // the value follows the revision, else it is for ever
}

// fieldDefs are the account's custom fields: with spaces, accents, keys that
// fall together in snake_case, one key in both entities.
var fieldDefs = [...]fieldDef{
	{"message_count", customer, shapeObject, kindCount, 1000, true},
	{"Año de compra", customer, shapeObject, kindYear, 450, false},
	{"Presupuesto (CLP)", customer, shapeObject, kindAmount, 250, true},
	{"acepta_marketing", customer, shapeObject, kindBool, 500, true},
	{"dirección", customer, shapeObject, kindAddress, 20, false},
	{"Lead Source", customer, shapeList, kindSource, 450, false},
	{"rut", customer, shapeList, kindRUT, 350, false},
	{"intereses", customer, shapeList, kindInterests, 20, true},
	{"lead_source", customer, shapeMetadata, kindSource, 250, true},
	{"ciudad", customer, shapeMetadata, kindCity, 500, false},
	{"Notas", customer, shapeMetadata, kindNote, 250, true},
	{"score", customer, shapeObject, kindScore, 300, true},

	{"monto", ticket, shapeObject, kindDecimal, 450, true},
	{"prioridad", ticket, shapeObject, kindPriority, 450, true},
	{"Artículo de interés", ticket, shapeList, kindProduct, 450, false},
	{"Fecha de visita", ticket, shapeList, kindDate, 300, true},
	{"ciudad", ticket, shapeMetadata, kindCity, 150, false},
	{"motivo_cierre", ticket, shapeMetadata, kindReason, 200, true},
}

// text reports whether the field's values are text or null, which is all that
// metadata holds.
func (d *fieldDef) text() bool {
	switch d.kind {
	case kindCount, kindAmount, kindDecimal, kindBool, kindAddress, kindInterests:
		return false
	default:
		return true
	}
}

// fieldHash returns the hash that decides over field n of a contact with hash base.
func fieldHash(base uint64, n int) uint64 { return mix(base + uint64(n)*0x9e37 + 0xf1e1d) }

// has reports whether a contact has the field.
func (d *fieldDef) has(h uint64) bool { return below(h, 1000) < d.share }

// shapeFor returns where this contact has the field: a sixteenth of contacts
// each have everything one shape, or two shapes, further on.
func (d *fieldDef) shapeFor(base uint64) shape {
	turn := shape(0)
	if t := base >> 40 & 15; t < 2 {
		turn = shape(t) + 1
	}
	s := (d.shape + turn) % shapes
	if s == shapeMetadata && !d.text() {
		return shapeObject
	}
	return s
}

// appendValue appends the field's value as JSON. h is the field's hash, mixed
// with the revision where the field is live.
func (d *fieldDef) appendValue(dst []byte, h uint64, rev uint32) []byte {
	h = mix(h + 1)
	switch d.kind {
	case kindCount:
		return strconv.AppendUint(dst, 1+h%400+uint64(rev), 10)
	case kindYear:
		return append(strconv.AppendUint(append(dst, '"'), 2015+h%12, 10), '"')
	case kindRUT:
		dst = append(dst, '"')
		dst = strconv.AppendUint(dst, 5+h%21, 10)
		dst = appendDigits(append(dst, '.'), h>>8%1000, 3)
		dst = appendDigits(append(dst, '.'), h>>24%1000, 3)
		return append(dst, '-', "0123456789K"[h>>40%11], '"')
	case kindDate:
		dst = append(dst, `"2026-`...)
		dst = appendDigits(dst, 1+h%12, 2)
		dst = appendDigits(append(dst, '-'), 1+h>>8%28, 2)
		return append(dst, '"')
	case kindAmount:
		return strconv.AppendUint(dst, (1+h%900)*10_000, 10)
	case kindDecimal:
		dst = strconv.AppendUint(dst, 10+h%9000, 10)
		switch cents := h >> 20 % 100; { // as JavaScript prints a number: 12.5, and 12 for 12.00
		case cents == 0:
			return dst
		case cents%10 == 0:
			return appendDigits(append(dst, '.'), cents/10, 1)
		default:
			return appendDigits(append(dst, '.'), cents, 2)
		}
	case kindBool:
		return strconv.AppendBool(dst, h&1 == 0)
	case kindAddress:
		dst = append(dst, `{"calle":"Av. Ñuble","número":`...)
		dst = strconv.AppendUint(dst, 1+h%3000, 10)
		return append(dst, `,"depto":null}`...)
	case kindInterests:
		dst = appendString(append(dst, '['), choose(products[:], h))
		dst = appendString(append(dst, ','), choose(products[:], h>>3*7))
		return append(dst, ']')
	default:
		return d.appendText(dst, h)
	}
}

func (d *fieldDef) appendText(dst []byte, h uint64) []byte {
	odd := h & 15 // a sixteenth each
	h = mix(h)
	switch d.kind {
	case kindSource:
		return appendString(dst, choose(leadSources[:], h))
	case kindCity:
		return appendString(dst, choose(cities[:], h))
	case kindNote:
		return appendString(dst, choose(notes[:], h))
	case kindProduct:
		return appendString(dst, choose(products[:], h))
	case kindPriority:
		if odd < 2 {
			return append(dst, "null"...)
		}
		return appendString(dst, choose(priorities[:], h))
	case kindReason:
		if odd < 10 {
			return append(dst, "null"...)
		}
		return appendString(dst, choose(closeReasons[:], h))
	default: // kindScore
		switch odd {
		case 0:
			return strconv.AppendUint(dst, h%101, 10)
		case 1:
			return append(dst, "null"...)
		case 2:
			return append(dst, `""`...)
		}
		return append(strconv.AppendUint(append(dst, '"'), h%101, 10), '"')
	}
}

func appendDigits(dst []byte, n uint64, width int) []byte {
	for range width {
		dst = append(dst, '0')
	}
	for k := len(dst) - 1; n > 0 && width > 0; k, width = k-1, width-1 {
		dst[k] = byte('0' + n%10)
		n /= 10
	}
	return dst
}
