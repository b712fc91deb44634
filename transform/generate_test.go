package transform_test

import (
	"fmt"
	"math/rand/v2"
	"strconv"
	"time"
)

// generator makes contacts as the endpoint serves them: about 800 bytes, 16
// declared columns, two more of the ticket and 15 custom fields.
type generator struct {
	r       *rand.Rand
	created time.Time
	fields  int // to take the custom fields from, at random; 0: the same 15 always
}

func newGenerator(seed uint64) *generator {
	return &generator{
		r:       rand.New(rand.NewPCG(seed, seed)),
		created: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC),
	}
}

func (g *generator) uuid(b []byte) []byte {
	return fmt.Appendf(b, "%08x-%04x-4%03x-a%03x-%012x", g.r.Uint32(), g.r.Uint32()&0xffff, g.r.Uint32()&0xfff, g.r.Uint32()&0xfff, g.r.Uint64()&0xffffffffffff)
}

func (g *generator) pick(of ...string) string { return of[g.r.IntN(len(of))] }

const stamp = "2006-01-02T15:04:05.000Z"

// contact appends one contact. now and then a field is null.
func (g *generator) contact(b []byte) []byte {
	g.created = g.created.Add(time.Duration(g.r.IntN(60_000)) * time.Millisecond)
	updated := g.created.Add(time.Duration(g.r.IntN(1_000_000)) * time.Second)
	b = append(b, `{"id":"`...)
	b = g.uuid(b)
	b = fmt.Appendf(b, `","name":"%s %s","phone":"+569%08d",`,
		g.pick("Ana", "José", "Íñigo", "Maria", "Pedro", "Camila", "Sofía"), g.pick("Muñoz", "Perez", "Soto", "Rojas", "Diaz"), g.r.IntN(1e8))
	if g.r.IntN(5) == 0 {
		b = append(b, `"email":null,`...)
	} else {
		b = fmt.Appendf(b, `"email":"person%d@example.com",`, g.r.IntN(1e9))
	}
	b = fmt.Appendf(b, `"platform":"%s","last_message_at":"%s","chat_status":"%s","created_at":"%s","updated_at":"%s",`,
		g.pick("whatsapp", "instagram", "webchat"), updated.Format(stamp), g.pick("ATTENDED", "UNATTENDED"), g.created.Format(stamp), updated.Format(stamp))
	b = append(b, `"client_id":"0b8f4a52-3a1e-4a5e-9a55-2a2f8c5b9d10","ai_customer_id":"`...)
	b = g.uuid(b)
	b = fmt.Appendf(b, `","default_stage_id":"5a1d4a52-3a1e-4a5e-9a55-2a2f8c5b9d%02d","blocked":%t,"is_chat_read":%t,`, g.r.IntN(8), g.r.IntN(50) == 0, g.r.IntN(2) == 0)
	if g.r.IntN(4) == 0 {
		b = append(b, `"active_ticket_v2":null`...)
	} else {
		b = append(b, `"active_ticket_v2":{"id":"`...)
		b = g.uuid(b)
		b = fmt.Appendf(b, `","current_stage_id":"7c1d4a52-3a1e-4a5e-9a55-2a2f8c5b9d%02d"}`, g.r.IntN(12))
	}
	b = append(b, `,"metadata":{`...)
	names := []int{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14}
	if g.fields > 0 {
		names = g.r.Perm(g.fields)[:15]
	}
	for i, name := range names {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, `"field_`...)
		b = strconv.AppendInt(b, int64(name), 10)
		b = append(b, `":"v`...)
		b = strconv.AppendInt(b, int64(g.r.IntN(1000)), 10)
		b = append(b, '"')
	}
	return append(b, `}}`...)
}

// page returns a page of n contacts.
func (g *generator) page(n int) []byte {
	b := []byte{'['}
	for i := range n {
		if i > 0 {
			b = append(b, ',')
		}
		b = g.contact(b)
	}
	return append(b, ']')
}
