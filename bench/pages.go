package main

import (
	"bufio"
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"
)

const pageRows = 1000

// customerKeys and ticketKeys are the custom fields of the generated contacts:
// with the contract's 16 columns they make 33.
func customerKeys() []string {
	return []string{"city", "company", "lead_source", "budget", "interest", "language", "last_purchase", "score", "segment", "birthday", "referred_by", "notes"}
}

func ticketKeys() []string {
	return []string{"product", "priority", "amount", "close_reason", "owner"}
}

// generate writes contacts as pages of 1000 in order of created_at, about 800
// bytes each, the same bytes every time. An existing folder is kept. It
// returns the bytes of all pages.
func generate(dir string, contacts int) (int64, error) {
	pages := (contacts + pageRows - 1) / pageRows
	if size, err := existing(dir, pages); err == nil {
		return size, nil
	} else if !errors.Is(err, fs.ErrNotExist) {
		return 0, err
	}
	if err := os.RemoveAll(dir); err != nil {
		return 0, err
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return 0, err
	}
	g := generator{rng: rand.New(rand.NewPCG(1, 2)), at: time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)}
	for p := range pages {
		if err := g.page(filepath.Join(dir, pageName(p)), min(pageRows, contacts-p*pageRows)); err != nil {
			return 0, err
		}
	}
	return existing(dir, pages)
}

func pageName(p int) string { return fmt.Sprintf("page-%06d.json", p) }

func existing(dir string, pages int) (int64, error) {
	var size int64
	for p := range pages {
		info, err := os.Stat(filepath.Join(dir, pageName(p)))
		if err != nil {
			return 0, err
		}
		size += info.Size()
	}
	return size, nil
}

// generator makes contacts one after the other.
type generator struct {
	rng *rand.Rand
	at  time.Time
}

func (g *generator) page(path string, rows int) error {
	f, err := os.Create(path)
	if err != nil {
		return err
	}
	w := bufio.NewWriter(f)
	for i := range rows {
		sep := byte(',')
		if i == 0 {
			sep = '['
		}
		_ = w.WriteByte(sep) // bufio keeps the first error for Flush
		_, _ = w.WriteString(g.contact())
	}
	_ = w.WriteByte(']')
	return errors.Join(w.Flush(), f.Close())
}

func (g *generator) uuid() string {
	a, b := g.rng.Uint64(), g.rng.Uint64()
	return fmt.Sprintf("%08x-%04x-4%03x-a%03x-%012x", uint32(a), uint16(a>>32), uint16(a>>48)&0xfff, uint16(b)&0xfff, b>>16)
}

func (g *generator) pick(words ...string) string { return words[g.rng.IntN(len(words))] }

// maybe quotes s, or gives null once in n times.
func (g *generator) maybe(n int, s string) string {
	if g.rng.IntN(n) == 0 {
		return "null"
	}
	return `"` + s + `"`
}

func (g *generator) time(t time.Time) string { return t.Format("2006-01-02T15:04:05.000Z") }

func (g *generator) contact() string {
	g.at = g.at.Add(time.Duration(g.rng.IntN(240_000)) * time.Millisecond)
	updated := g.at.Add(time.Duration(g.rng.IntN(90*86400)) * time.Second)
	first := g.pick("María", "José", "Camila", "Martín", "Sofía", "Matías", "Valentina", "Ñusta", "Zoë", "Li")
	last := g.pick("González", "Muñoz", "Rojas", "Díaz", "Pérez", "Soto", "Contreras", "Silva")
	name := fmt.Sprintf("%s %s %d", first, last, g.rng.IntN(100000))
	var b strings.Builder
	fmt.Fprintf(&b, `{"id":"%s","name":"%s","phone":%s,"email":%s,"platform":"%s","last_message_at":%s,"chat_status":"%s","created_at":"%s","updated_at":"%s","client_id":"9b2f0c1e-5a77-4c1b-8f5e-2f6f1f7f0001","ai_customer_id":"%s","default_stage_id":%s,"blocked":%t,"is_chat_read":%t`,
		g.uuid(), name, g.maybe(8, fmt.Sprintf("+569%08d", g.rng.IntN(1e8))),
		g.maybe(2, fmt.Sprintf("%s.%d@example.com", strings.ToLower(g.pick("ana", "luis", "eva", "tom")), g.rng.IntN(1e6))),
		g.pick("whatsapp", "whatsapp", "whatsapp", "instagram", "webchat", "sms", "messenger", "tiktok", "voice"),
		g.maybe(20, g.time(updated)), g.pick("ATTENDED", "UNATTENDED"), g.time(g.at), g.time(updated),
		g.uuid(), g.maybe(5, "123e4567-e89b-12d3-a456-4266141740"+g.pick("00", "01", "02", "03")),
		g.rng.IntN(50) == 0, g.rng.IntN(2) == 0)
	g.fields(&b, customerKeys())
	if g.rng.IntN(3) > 0 {
		fmt.Fprintf(&b, `,"active_ticket_v2":{"id":"%s","current_stage_id":%s`, g.uuid(), g.maybe(6, "223e4567-e89b-12d3-a456-4266141740"+g.pick("00", "01", "02")))
		g.fields(&b, ticketKeys())
		b.WriteString("}}")
	} else {
		b.WriteString(`,"active_ticket_v2":null}`)
	}
	return b.String()
}

// fields writes custom fields as an object; a contact has about two thirds of
// them.
func (g *generator) fields(b *strings.Builder, keys []string) {
	b.WriteString(`,"custom_fields":{`)
	sep := ""
	for _, key := range keys {
		if g.rng.IntN(3) == 0 {
			continue
		}
		value := fmt.Sprintf("%s %d", g.pick("alfa", "beta", "gama", "delta"), g.rng.IntN(50))
		if key == "notes" {
			value = fmt.Sprintf("llamó el %d, volver a llamar el %d", g.rng.IntN(31), g.rng.IntN(31))
		}
		fmt.Fprintf(b, `%s"%s":"%s"`, sep, key, value)
		sep = ","
	}
	b.WriteByte('}')
}
