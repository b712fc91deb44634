package schedule

import (
	"context"
	"slices"
	"sync"
)

// slots are the jobs that may run at once, given out in the order in which they
// were asked for.
type slots struct {
	limited bool

	mu   sync.Mutex
	free int
	line []chan struct{} // those that wait; empty while one is free
}

func newSlots(n int) *slots { return &slots{limited: n > 0, free: n} }

// take waits for a slot, and calls wait before where it has to. It is false, and
// nothing is taken, when ctx ended first.
func (s *slots) take(ctx context.Context, wait func()) bool {
	if !s.limited {
		return ctx.Err() == nil
	}
	s.mu.Lock()
	if s.free > 0 && ctx.Err() == nil {
		s.free--
		s.mu.Unlock()
		return true
	}
	mine := make(chan struct{})
	s.line = append(s.line, mine)
	s.mu.Unlock()
	wait()
	select {
	case <-mine:
		if ctx.Err() == nil {
			return true
		}
		s.give()
		return false
	case <-ctx.Done():
	}
	s.mu.Lock()
	i := slices.Index(s.line, mine)
	if i >= 0 {
		s.line = slices.Delete(s.line, i, i+1)
	}
	s.mu.Unlock()
	if i < 0 { // it was given meanwhile
		s.give()
	}
	return false
}

// give hands the slot to the one who has waited longest.
func (s *slots) give() {
	if !s.limited {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.line) == 0 {
		s.free++
		return
	}
	close(s.line[0])
	s.line = slices.Delete(s.line, 0, 1)
}
