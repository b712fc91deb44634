package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
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
	Restored    int            `json:"restored"`
	Moved       int            `json:"moved"`        // of Updated, to another stage at random
	Messages    int            `json:"messages"`     // messages that changed nothing else
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

// readControl is readBody for names that are ours: a misspelt change would
// else be none, and a test that rests on it would prove nothing.
func readControl(r *http.Request, v any) error {
	var raw json.RawMessage
	if err := readBody(r, &raw); err != nil {
		return err
	}
	d := json.NewDecoder(bytes.NewReader(raw))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return fmt.Errorf("body must be a JSON object: %w", err)
	}
	return nil
}

// mutate makes the changes of a Mutation.
func (s *Server) mutate(r *http.Request) reply {
	var m Mutation
	if err := readControl(r, &m); err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	for _, n := range [...]int{m.Updates, m.Silent, m.Creates, m.Deletes, m.Bulk, m.Stages, m.Messages, m.Restores, m.Returns} {
		if n < 0 || n > MaxContacts {
			return failure(http.StatusBadRequest, "updates, silent, creates, deletes, bulk, stages, messages, restores and returns must be whole numbers from 0 to 20000000")
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

// updateContact makes a Change.
func (s *Server) updateContact(r *http.Request) reply {
	var c Change
	if err := readControl(r, &c); err != nil {
		return failure(http.StatusBadRequest, err.Error())
	}
	id := r.PathValue("id")
	if err := s.Update(id, c); err != nil {
		return s.notFound(err, id)
	}
	return s.showContact(http.StatusOK, id)
}

func (s *Server) messageContact(r *http.Request) reply {
	id := r.PathValue("id")
	if err := s.Message(id); err != nil {
		return s.notFound(err, id)
	}
	return s.showContact(http.StatusOK, id)
}

// restoreContact takes touch=true for an updated_at of now.
func (s *Server) restoreContact(r *http.Request) reply {
	touch := false
	if text := r.URL.Query().Get("touch"); text != "" {
		var err error
		if touch, err = strconv.ParseBool(text); err != nil {
			return failure(http.StatusBadRequest, badParam("touch", text, "true or false").Error())
		}
	}
	id := r.PathValue("id")
	if err := s.Restore(id, touch); err != nil {
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
