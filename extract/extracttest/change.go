package extracttest

import (
	"slices"
	"time"
)

// spend lets time go by, and what waited become visible.
func (s *Source) spend(d time.Duration) {
	s.now += int64(d)
	s.waiting = slices.DeleteFunc(s.waiting, func(w *write) bool {
		if w.due > s.now {
			return false
		}
		w.c.state, w.c.visible, w.c.locked = w.v, true, false
		return true
	})
}

// happen changes what changes with one request.
func (s *Source) happen() {
	stamp := s.now + int64(s.DBSkew)
	for range s.times(s.Updates) {
		s.touch(s.pick(), stamp+s.rng.Int64N(milli)-milli/2)
	}
	for range s.times(s.Creates) {
		s.create(stamp)
	}
	for range s.times(s.Silent) {
		if c := s.pick(); c != nil && c.visible && !c.locked {
			c.state.content++
			if s.TieOrder == Physical {
				c.state.place = s.rng.Uint64()
			}
		}
	}
	for range s.times(s.Deletes) {
		if c := s.pick(); c != nil && !c.locked {
			c.deleted = true
		}
	}
	for range s.times(s.Messages) {
		s.message(s.pick(), stamp+s.rng.Int64N(milli)-milli/2)
	}
	if s.Bulk > 0 && s.rng.Float64() < s.Bulk {
		campaign := s.Days > 0 && s.rng.IntN(2) == 0
		create := s.rng.IntN(4) == 0 && s.Creates > 0
		for range s.TieSize {
			switch {
			case campaign:
				s.message(s.pick(), stamp)
			case create:
				s.create(stamp)
			default:
				s.touch(s.pick(), stamp)
			}
		}
	}
}

// times draws how often something happens now, rate times on average.
func (s *Source) times(rate float64) int {
	n := int(rate)
	if s.rng.Float64() < rate-float64(n) {
		n++
	}
	return n
}

func (s *Source) pick() *contact {
	if len(s.contacts) == 0 {
		return nil
	}
	c := s.contacts[s.rng.IntN(len(s.contacts))]
	if c.deleted || c.future {
		return nil
	}
	return c
}

func (s *Source) touch(c *contact, stamp int64) {
	if c == nil || c.locked || !c.visible {
		return
	}
	v := c.state
	// updated_at moves forward, be it by the least that the clock behind knows.
	v.updated = max(stamp, v.updated+1)
	v.n++
	v.content++
	s.commit(c, v)
}

// message comes to a contact, or goes out to it.
func (s *Source) message(c *contact, stamp int64) {
	if c == nil || c.locked || !c.visible {
		return
	}
	v := c.state
	v.message = max(stamp, v.message+1)
	v.content++
	if s.Touch {
		v.updated = max(stamp, v.updated+1)
		v.n++
	}
	s.commit(c, v)
}

func (s *Source) create(stamp int64) {
	s.commit(s.add(stamp), s.contacts[len(s.contacts)-1].state)
}

// commit makes a write visible, now or later.
func (s *Source) commit(c *contact, v version) {
	if s.TieOrder == Physical {
		v.place = s.rng.Uint64()
	}
	if s.Late > 0 && s.LateBy > 0 && s.rng.Float64() < s.Late {
		c.locked = true
		s.waiting = append(s.waiting, &write{due: s.now + s.rng.Int64N(int64(s.LateBy)), c: c, v: v})
		return
	}
	c.state, c.visible = v, true
}
