package sandbox

import (
	"encoding/json"
	"net/http"
)

// Stats counts what has happened since the start.
type Stats struct {
	Contacts    int            `json:"contacts"` // that exist now
	Requests    uint64         `json:"requests"` // GET requests of the public API with the right key
	Pages       uint64         `json:"pages"`    // requests for a page that were answered by one
	Updated     int            `json:"updated"`  // changes of content
	Silent      int            `json:"silent"`   // of these, without updated_at
	Touched     int            `json:"touched"`  // changes of updated_at alone
	Created     int            `json:"created"`
	Deleted     int            `json:"deleted"`
	Late        int            `json:"late"`         // changes that were hidden at first
	Hidden      int            `json:"hidden"`       // of these, not visible yet
	RateLimited int            `json:"rate_limited"` // 429 by the rate limit
	Faults      map[string]int `json:"faults"`       // injected, by kind
}

// Stats returns the counts so far.
func (s *Server) Stats() Stats {
	s.mu.Lock()
	s.advance()
	c := s.store.counts
	c.Contacts, c.Pages = s.store.alive, s.store.pages
	for _, l := range s.store.late {
		if !l.done {
			c.Hidden++
		}
	}
	s.mu.Unlock()
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	c.Requests, c.RateLimited = s.faults.requests, s.faults.refused
	c.Faults = make(map[string]int)
	for k, n := range s.faults.turns {
		if n > 0 {
			c.Faults[faultKind(k).String()] = n
		}
	}
	return c
}

func answerJSON(status int, v any) reply {
	body, err := json.Marshal(v)
	if err != nil {
		return failure(http.StatusInternalServerError, err.Error())
	}
	return reply{status: status, body: body}
}

func (s *Server) stats(*http.Request) reply { return answerJSON(http.StatusOK, s.Stats()) }

// dump answers the truth, one contact a line.
func (s *Server) dump(*http.Request) reply {
	return reply{status: http.StatusOK, contentType: "application/x-ndjson", stream: s.Dump}
}

// mutate makes the changes of a Mutation.
func (s *Server) mutate(r *http.Request) reply {
	var m Mutation
	if err := readBody(r, &m); err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	for _, n := range [...]int{m.Updates, m.Silent, m.Creates, m.Deletes, m.Bulk} {
		if n < 0 || n > MaxContacts {
			return failure(http.StatusBadRequest, "updates, silent, creates, deletes and bulk must be whole numbers from 0 to 20000000")
		}
	}
	s.Mutate(m)
	return answerJSON(http.StatusOK, s.Stats())
}

func (s *Server) touchContact(r *http.Request) reply {
	id := r.PathValue("id")
	if err := s.Touch(id); err != nil {
		return s.notFound(err, id)
	}
	return s.showContact(http.StatusOK, id)
}

func (s *Server) deleteContact(r *http.Request) reply {
	id := r.PathValue("id")
	if err := s.Delete(id); err != nil {
		return s.notFound(err, id)
	}
	return answerJSON(http.StatusOK, struct {
		Deleted string `json:"deleted"`
	}{id})
}
