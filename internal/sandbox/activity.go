package sandbox

import (
	"fmt"
	"slices"
)

// moveAny moves the ticket of a random contact to another stage, opening one
// where there is none.
func (s *store) moveAny(at int64) {
	i, ok := s.anyContact()
	if !ok {
		return
	}
	s.settle(i)
	now := s.g.glance(i, &s.recs[i], s.editOf(i)).stage
	others := len(s.g.stages)
	if now >= 0 {
		others--
	}
	to := int(below(s.draw(), uint64(others)))
	if now >= 0 && to >= now {
		to++
	}
	s.setEdit(i, &edit{stage: &to})
	s.update(i, at, false, false)
	s.counts.Moved++
}

// receive gives contact i a message and changes nothing else: nothing says
// that one moves updated_at.
func (s *store) receive(i uint32, at int64) {
	s.settle(i)
	s.setMessage(i, s.nextStamp(at))
	s.counts.Messages++
}

func (s *store) receiveAny(at int64) {
	if i, ok := s.anyContact(); ok {
		s.receive(i, at)
	}
}

// restore brings back deleted contact i as it was, with an updated_at of now
// where touch is set.
func (s *store) restore(i uint32, at int64, touch bool) {
	s.deleted = slices.DeleteFunc(s.deleted, func(n uint32) bool { return n == i })
	r := &s.recs[i]
	r.gone = false
	if touch {
		r.updated = s.nextStamp(at)
	}
	s.byUpdated.insert(entry{r.updated, i})
	s.byCreated.insert(entry{r.created, i})
	if r.message != noMessage {
		s.byMessage.insert(entry{r.message, i})
	}
	s.alive++
	s.counts.Restored++
}

// restoreLast brings back the contact deleted last.
func (s *store) restoreLast(at int64, touch bool) {
	if n := len(s.deleted); n > 0 {
		s.restore(s.deleted[n-1], at, touch)
	}
}

// Message gives the contact a last_message_at of now and leaves everything
// else, updated_at included.
func (s *Server) Message(id string) error {
	return s.withContact(id, func(i uint32, now int64) error {
		s.store.receive(i, now)
		return nil
	})
}

// Restore brings a deleted contact back as it was. touch gives it an updated_at
// of now; without, no cursor that has passed it sees it again.
func (s *Server) Restore(id string, touch bool) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.advance()
	u, ok := parseUUID(id)
	if ok {
		if i, existed := s.store.lookUp(u); existed {
			if !s.store.recs[i].gone {
				return fmt.Errorf("restore contact %q: it is not deleted", id)
			}
			s.store.restore(i, now, touch)
			return nil
		}
	}
	return fmt.Errorf("find contact %q: %w", id, ErrUnknown)
}
