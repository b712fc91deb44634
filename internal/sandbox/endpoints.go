package sandbox

import (
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
)

// pageBuffer is the memory of one answer, used again and again.
type pageBuffer struct {
	numbers []uint32
	body    []byte
}

func (s *Server) listContacts(r *http.Request) reply {
	values, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return failure(http.StatusBadRequest, "query string is malformed: "+err.Error())
	}
	q, err := parseQuery(values)
	if err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	if s.opts.DaysAlone && q.days != nil {
		q.createdAfter, q.updatedAfter = nil, nil
	}
	s.mu.Lock()
	s.store.pages++
	s.store.beforePage(s.advance())
	s.mu.Unlock()

	buf, ok := s.pages.Get().(*pageBuffer)
	if !ok {
		buf = &pageBuffer{}
	}
	s.mu.RLock()
	now := s.now().UnixMicro()
	buf.numbers = s.store.page(buf.numbers[:0], &q, s.pageSize(q.limit), now)
	if r.Context().Value(disorderKey{}) != nil && len(buf.numbers) > 1 {
		last := len(buf.numbers) - 1
		buf.numbers[0], buf.numbers[last] = buf.numbers[last], buf.numbers[0]
	}
	buf.body = s.store.render(buf.body[:0], buf.numbers, &s.opts, q.pipeline != nil)
	s.mu.RUnlock()
	return reply{status: http.StatusOK, body: buf.body, release: func() { s.pages.Put(buf) }}
}

// pageSize is how many contacts a page for limit has.
func (s *Server) pageSize(limit int) int {
	if s.opts.PageCap > 0 {
		limit = min(limit, s.opts.PageCap)
	}
	return limit + s.opts.PageExtra
}

// render appends a page.
func (s *store) render(dst []byte, numbers []uint32, o *Options, withStage bool) []byte {
	wrap := o.Wrap
	if wrap != "none" {
		dst = append(appendString(append(dst, '{'), wrap), ':')
	}
	w := renderer{g: s.g, bare: o.BareList}
	dst = append(dst, '[')
	for n, i := range numbers {
		if n > 0 {
			dst = append(dst, ',')
		}
		f := s.g.face(i, &s.recs[i], s.editOf(i))
		dst = w.contact(dst, &f, &s.recs[i], withStage)
	}
	dst = append(dst, ']')
	if wrap != "none" {
		dst = append(dst, '}')
	}
	return dst
}

// notFound is the answer for an id in a path that is no contact's.
func (s *Server) notFound(err error, id string) reply {
	if !uuidPattern.MatchString(id) {
		return failure(http.StatusBadRequest, badParam("id", id, "a UUID").Error())
	}
	if errors.Is(err, ErrUnknown) {
		return failure(http.StatusNotFound, err.Error())
	}
	return failure(http.StatusBadRequest, err.Error())
}

// contactInfo answers one contact as the list does, with the last message and
// the last closed ticket besides.
func (s *Server) contactInfo(r *http.Request) reply {
	if s.forbids("info") {
		return forbidden()
	}
	return s.showContact(http.StatusOK, r.PathValue("id"))
}

func (s *Server) showContact(status int, id string) reply {
	var body []byte
	err := s.withContact(id, func(i uint32, _ int64) error {
		rec := &s.store.recs[i]
		f := s.store.g.face(i, rec, s.store.editOf(i))
		w := renderer{g: s.store.g}
		body = w.contact(nil, &f, rec, true)
		body = append(body[:len(body)-1], `,"last_message_content":`...)
		if rec.message == noMessage {
			body = append(body, "null"...)
		} else {
			body = appendString(body, choose(notes[:], f.live))
		}
		body = w.closedTicket(append(body, `,"last_closed_ticket":`...), &f, rec)
		body = append(body, '}')
		return nil
	})
	if err != nil {
		return s.notFound(err, id)
	}
	return reply{status: status, body: body}
}

// closedTicket appends the ticket before the active one, or null.
func (w *renderer) closedTicket(dst []byte, f *face, r *rec) []byte {
	before := *f
	before.setTicket(int64(r.rev/ticketRevisions) - 1)
	before.stage = len(w.g.stages) - 1
	return w.activeTicket(dst, &before, r, false)
}

// forbids reports whether the key may not read something.
func (s *Server) forbids(what string) bool {
	return s.opts.Forbid == what || s.opts.Forbid == "both"
}

func forbidden() reply {
	return failure(http.StatusForbidden, "The API key has no permission to read this")
}

func (s *Server) listPipelines(*http.Request) reply {
	if s.forbids("pipeline") {
		return forbidden()
	}
	g := s.store.g // immutable
	body := []byte{'['}
	for n := range g.pipelines {
		p := &g.pipelines[n]
		if n > 0 {
			body = append(body, ',')
		}
		body = appendNamed(body, p.id, p.name, p.about)
		body = append(body, `,"stages":[`...)
		for k, at := range p.stages {
			if k > 0 {
				body = append(body, ',')
			}
			st := &g.stages[at]
			body = append(appendNamed(body, st.id, st.name, st.about), '}')
		}
		body = append(body, "]}"...)
	}
	return reply{status: http.StatusOK, body: append(body, ']')}
}

// appendNamed appends an object with id, name and description, still open.
func appendNamed(dst []byte, id uuid, name, about string) []byte {
	dst = id.append(append(dst, `{"id":"`...))
	dst = appendString(append(dst, `","name":`...), name)
	return appendString(append(dst, `,"description":`...), about)
}

// unordered is a prime above any number of contacts: stepping by it visits
// each contact once, in no order that means anything.
const unordered = 4_294_967_291

// listWhatsApp is the deprecated endpoint: every WhatsApp contact, no
// parameters, no stated order and not the same one twice.
func (s *Server) listWhatsApp(*http.Request) reply {
	s.mu.Lock()
	first := s.store.draw()
	s.mu.Unlock()
	p := s.snapshot()
	return reply{status: http.StatusOK, stream: func(out io.Writer) error {
		w := renderer{g: p.g}
		buf := []byte{'['}
		n := uint64(len(p.recs))
		some := false
		for k := range n {
			i := uint32((first%n + k*unordered) % n)
			r := &p.recs[i]
			if r.gone {
				continue
			}
			f := p.g.face(i, r, p.edits[i])
			if f.platform != "whatsapp" {
				continue
			}
			if some {
				buf = append(buf, ',')
			}
			some = true
			buf = w.contact(buf, &f, r, false)
			if len(buf) > 64<<10 {
				if _, err := out.Write(buf); err != nil {
					return err
				}
				buf = buf[:0]
			}
		}
		_, err := out.Write(append(buf, ']'))
		return err
	}}
}

// allowedPlatform reports whether name is one of the nine.
func allowedPlatform(name string) bool {
	return slices.ContainsFunc(platforms[:], func(p weighted) bool { return p.word == name })
}
