package doctor

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/extract"
)

// page is one answer.
type page struct {
	query   extract.Query
	request string // query, unescaped for reading
	rows    []row
	wrap    string // key that wraps the array; empty for a bare one
	resp    extract.Response
}

// row is what the checks need of one contact.
type row struct {
	id                        string
	created, updated, message stamp
	stage                     string // of the active ticket; empty for none
	fields                    map[string]json.RawMessage
	custom                    map[fieldName][]string // texts of custom fields, where they are asked for
}

// stamp is a printed time.
type stamp struct {
	text string // as printed; empty where there is none
	us   int64  // microseconds since 1970 UTC
	ok   bool   // it is a time that an export takes
}

// decode reads a body: an array of contacts, bare or wrapped.
func (p *page) decode(body []byte) error {
	p.rows, p.wrap = nil, ""
	raw := json.RawMessage(bytes.TrimSpace(body))
	if len(raw) > 0 && raw[0] == '{' {
		var object map[string]json.RawMessage
		if err := json.Unmarshal(raw, &object); err != nil {
			return fmt.Errorf("%w: %w", extract.ErrBadPage, err)
		}
		raw = nil
		for _, key := range []string{"data", "contacts"} {
			if v := object[key]; len(v) > 0 && v[0] == '[' {
				raw, p.wrap = v, key
				break
			}
		}
	}
	var rows []map[string]json.RawMessage
	if len(raw) == 0 || raw[0] != '[' {
		return fmt.Errorf("%w: neither an array nor an object that wraps one", extract.ErrBadPage)
	}
	if err := json.Unmarshal(raw, &rows); err != nil {
		return fmt.Errorf("%w: %w", extract.ErrBadPage, err)
	}
	p.rows = make([]row, len(rows))
	for i, fields := range rows {
		p.rows[i] = newRow(fields)
	}
	return nil
}

func newRow(fields map[string]json.RawMessage) row {
	r := row{
		created: newStamp(fields["created_at"]), updated: newStamp(fields["updated_at"]),
		message: newStamp(fields["last_message_at"]), fields: fields,
	}
	r.id, _ = text(fields["id"])
	var ticket struct {
		Stage *string `json:"current_stage_id"`
	}
	if json.Unmarshal(fields["active_ticket_v2"], &ticket) == nil && ticket.Stage != nil {
		r.stage = *ticket.Stage
	}
	return r
}

// text reads a JSON string.
func text(raw json.RawMessage) (string, bool) {
	var s *string
	if json.Unmarshal(raw, &s) != nil || s == nil {
		return "", false
	}
	return *s, true
}

func newStamp(raw json.RawMessage) stamp {
	s, ok := text(raw)
	if !ok {
		return stamp{}
	}
	t, err := time.Parse(time.RFC3339Nano, s)
	// Go reads a comma before the fraction, an export does not.
	return stamp{text: s, us: t.UnixMicro(), ok: err == nil && !strings.Contains(s, ",")}
}

// column is one of the three times of a contact.
type column struct {
	name string
	of   func(row) stamp
}

func byUpdated() column { return column{"updated_at", func(r row) stamp { return r.updated }} }
func byCreated() column { return column{"created_at", func(r row) stamp { return r.created }} }
func byMessage() column { return column{"last_message_at", func(r row) stamp { return r.message }} }

// ids returns the rows by id.
func (p *page) ids() map[string]row {
	m := make(map[string]row, len(p.rows))
	for _, r := range p.rows {
		m[r.id] = r
	}
	return m
}

// times returns the usable times of a column, in the page's order.
func (p *page) times(c column) []int64 {
	var out []int64
	for _, r := range p.rows {
		if s := c.of(r); s.ok {
			out = append(out, s.us)
		}
	}
	return out
}
