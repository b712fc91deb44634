package sandbox

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"slices"
	"time"
)

// Contact is the truth about one contact, with times in microseconds where the
// endpoint prints milliseconds.
type Contact struct {
	ID             string
	Name           string
	Phone, Email   *string
	Platform       string
	LastMessageAt  *time.Time
	ChatStatus     string
	CreatedAt      time.Time
	UpdatedAt      time.Time
	ClientID       string
	AICustomerID   string
	DefaultStageID *string
	Blocked        bool
	IsChatRead     bool
	Ticket         *Ticket // active_ticket_v2
	Custom         []Field // of the entity customer
}

// Ticket is a contact's active ticket.
type Ticket struct {
	ID             string
	CurrentStageID *string
	Custom         []Field // of the entity ticket
}

// Field is one custom field.
type Field struct {
	Key   string          `json:"key"`
	Value json.RawMessage `json:"value"` // as it stands in the contact
	// Shape is where it stands: custom_fields, custom_field_values or
	// metadata. "" means custom_fields when setting a field.
	Shape string `json:"shape"`
}

func (s shape) String() string {
	switch s {
	case shapeList:
		return "custom_field_values"
	case shapeMetadata:
		return "metadata"
	default:
		return "custom_fields"
	}
}

func parseShape(name string) (shape, error) {
	if name == "" {
		return shapeObject, nil
	}
	for s := range shapes {
		if s.String() == name {
			return s, nil
		}
	}
	return 0, fmt.Errorf("shape %q must be custom_fields, custom_field_values or metadata", name)
}

// snapshot is the contacts at one moment. It needs no lock.
type snapshot struct {
	g     *generator
	recs  []rec
	edits map[uint32]*edit
}

func (s *Server) snapshot() snapshot {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.advance()
	return snapshot{g: s.store.g, recs: slices.Clone(s.store.recs), edits: maps.Clone(s.store.edits)}
}

// each calls f for every existing contact in order of number until it returns
// false.
func (p snapshot) each(f func(face *face, r *rec) bool) {
	for n := range p.recs {
		r := &p.recs[n]
		if r.gone {
			continue
		}
		var e *edit
		if r.edited {
			e = p.edits[uint32(n)]
		}
		shown := p.g.face(uint32(n), r, e)
		if !f(&shown, r) {
			return
		}
	}
}

// Each calls f for every existing contact as it is at this moment, until f
// returns false. f may call the Server.
func (s *Server) Each(f func(c Contact) bool) {
	p := s.snapshot()
	w := renderer{g: p.g}
	p.each(func(face *face, r *rec) bool { return f(w.truth(face, r)) })
}

// Dump writes every existing contact as the endpoint prints it, one a line.
func (s *Server) Dump(out io.Writer) error {
	p := s.snapshot()
	w := renderer{g: p.g}
	buffered := bufio.NewWriterSize(out, 256<<10)
	var line []byte
	p.each(func(face *face, r *rec) bool {
		line = append(w.contact(line[:0], face, r, false), '\n')
		_, err := buffered.Write(line)
		return err == nil
	})
	if err := buffered.Flush(); err != nil { // holds the first error of Write, too
		return fmt.Errorf("write contacts: %w", err)
	}
	return nil
}

func (w *renderer) truth(f *face, r *rec) Contact {
	c := Contact{
		ID: f.id.String(), Name: *unquote(f.appendName(nil)),
		Phone: unquote(f.appendPhone(nil)), Email: unquote(f.appendEmail(nil)),
		Platform: f.platform, ChatStatus: f.status,
		CreatedAt: time.UnixMicro(r.created).UTC(), UpdatedAt: time.UnixMicro(r.updated).UTC(),
		ClientID: w.g.client.String(), AICustomerID: f.customer.String(),
		DefaultStageID: unquote(w.stageID(nil, f.defaultStage)),
		Blocked:        f.blocked, IsChatRead: f.read,
		Custom: w.fields(f, r, customer),
	}
	if r.message != noMessage {
		t := time.UnixMicro(r.message).UTC()
		c.LastMessageAt = &t
	}
	if f.hasTicket {
		c.Ticket = &Ticket{
			ID: newUUID(f.ticket, 28).String(), CurrentStageID: unquote(w.stageID(nil, f.stage)),
			Custom: w.fields(f, r, ticket),
		}
	}
	return c
}

func (w *renderer) fields(f *face, r *rec, of entity) []Field {
	w.gather(f, r, of)
	list := make([]Field, len(w.cells))
	for n, c := range w.cells {
		list[n] = Field{Key: c.key, Value: slices.Clone(w.value(c)), Shape: c.shape.String()}
	}
	return list
}

// unquote reads a JSON string, nil for null. Its input is our own.
func unquote(raw []byte) *string {
	var text *string
	if err := json.Unmarshal(raw, &text); err != nil {
		panic("sandbox: wrote bad JSON: " + err.Error()) // a bug here, never a request's fault
	}
	return text
}
