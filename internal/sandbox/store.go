package sandbox

import (
	"container/heap"
	"encoding/json"
	"slices"
)

// fieldEdit is a custom field that somebody set. value is compact JSON.
type fieldEdit struct {
	key    string
	value  json.RawMessage
	entity entity
	shape  shape // where it goes if the contact does not have the key yet
}

// edit is what somebody set on a contact, over what its number makes of it. It
// is replaced, never changed, so that snapshots may share it.
type edit struct {
	name, phone, email *string // phone and email: "" is null
	platform, status   *string
	blocked, read      *bool
	stage              *int // position in generator.stages, -1 for null; opens a ticket
	external           string
	fields             []fieldEdit
}

func (e *edit) apply(f *face) {
	override(&f.platform, e.platform)
	override(&f.status, e.status)
	override(&f.blocked, e.blocked)
	override(&f.read, e.read)
	f.name, f.phone, f.email = e.name, e.phone, e.email
}

func override[T any](dst, value *T) {
	if value != nil {
		*dst = *value
	}
}

// merge returns e with what is set in over set; e may be nil.
func (e *edit) merge(over *edit) *edit {
	if e == nil {
		return over
	}
	m := *e
	replace(&m.name, over.name)
	replace(&m.phone, over.phone)
	replace(&m.email, over.email)
	replace(&m.platform, over.platform)
	replace(&m.status, over.status)
	replace(&m.blocked, over.blocked)
	replace(&m.read, over.read)
	replace(&m.stage, over.stage)
	if over.external != "" {
		m.external = over.external
	}
	m.fields = slices.Clone(e.fields)
	for _, set := range over.fields {
		at := slices.IndexFunc(m.fields, func(f fieldEdit) bool { return f.entity == set.entity && f.key == set.key })
		if at < 0 {
			m.fields = append(m.fields, set)
			continue
		}
		m.fields[at].value = set.value // it stays where it was
	}
	return &m
}

func replace[T any](dst **T, value *T) {
	if value != nil {
		*dst = value
	}
}

// lateChange is a change that has its updated_at and is not visible yet: a
// transaction that has not committed.
type lateChange struct {
	due     int64 // microseconds, or a count of pages: Options.LateDelay, LateRequests
	stamp   int64
	contact uint32
	create  bool
	message bool
	done    bool
}

// lateHeap is a container/heap of changes, the one due first on top.
type lateHeap []*lateChange

func (h lateHeap) Len() int { return len(h) }
func (h lateHeap) Less(a, b int) bool {
	return h[a].due < h[b].due || h[a].due == h[b].due && h[a].stamp < h[b].stamp
}
func (h lateHeap) Swap(a, b int) { h[a], h[b] = h[b], h[a] }

// Push is for container/heap.
func (h *lateHeap) Push(x any) { *h = append(*h, x.(*lateChange)) }

// Pop is for container/heap.
func (h *lateHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	old[len(old)-1] = nil
	*h = old[:len(old)-1]
	return last
}

// store is the contacts and their indexes. The Server's lock guards it.
type store struct {
	g    *generator
	opts *Options

	recs    []rec
	edits   map[uint32]*edit
	alive   int
	deleted []uint32 // as they were, in order, for restore

	byUpdated, byCreated, byMessage *index

	stamp  int64  // the last updated_at given to a change
	draws  uint64 // random numbers taken so far
	pages  uint64 // requests for a page so far
	rated  int64  // changes per second are applied up to here; 0 before the first look
	owed   [changeKinds]float64
	late   lateHeap
	lateOf map[uint32]*lateChange

	counts Stats
}

func newStore(o *Options) *store {
	s := &store{
		g: newGenerator(o.Seed), opts: o, stamp: historyEnd,
		recs: make([]rec, o.Contacts), alive: o.Contacts,
		edits: make(map[uint32]*edit), lateOf: make(map[uint32]*lateChange),
	}
	updated := make([]entry, o.Contacts)
	created := make([]entry, o.Contacts)
	message := make([]entry, 0, o.Contacts)
	for n := range s.recs {
		i := uint32(n)
		r := s.g.historyWithTies(i, o)
		s.recs[n] = r
		updated[n] = entry{r.updated, i}
		created[n] = entry{r.created, i}
		if r.message != noMessage {
			message = append(message, entry{r.message, i})
		}
	}
	s.byUpdated, s.byCreated, s.byMessage = newIndex(updated), newIndex(created), newIndex(message)
	return s
}

// editOf returns the contact's edit, or nil.
func (s *store) editOf(i uint32) *edit {
	if !s.recs[i].edited {
		return nil
	}
	return s.edits[i]
}

// lookUp returns the number of the contact with this id, deleted ones included.
func (s *store) lookUp(id uuid) (uint32, bool) {
	n := s.g.number(id)
	if n >= uint64(len(s.recs)) || s.g.contactID(uint32(n)) != id {
		return 0, false
	}
	return uint32(n), true
}

// find returns the number of the existing contact with this id.
func (s *store) find(id uuid) (uint32, bool) {
	i, ok := s.lookUp(id)
	return i, ok && !s.recs[i].gone
}

// draw returns the next random number.
func (s *store) draw() uint64 {
	s.draws++
	return mix(s.g.seed ^ mix(s.draws+0xd1ce))
}

// chance is true in share of draws.
func (s *store) chance(share float64) bool {
	return share > 0 && float64(s.draw()>>11)/(1<<53) < share
}

// anyContact draws an existing contact.
func (s *store) anyContact() (uint32, bool) {
	if s.alive == 0 {
		return 0, false
	}
	for n := below(s.draw(), uint64(len(s.recs))); ; n = (n + 1) % uint64(len(s.recs)) {
		if !s.recs[n].gone {
			return uint32(n), true
		}
	}
}

// nextStamp returns an updated_at for a change at the time at: never one that
// was given before, and never inside the history.
func (s *store) nextStamp(at int64) int64 {
	s.stamp = max(at, s.stamp+1)
	return s.stamp
}

func (s *store) setUpdated(i uint32, stamp int64) {
	r := &s.recs[i]
	s.byUpdated.remove(entry{r.updated, i})
	r.updated = stamp
	s.byUpdated.insert(entry{stamp, i})
}

func (s *store) setMessage(i uint32, stamp int64) {
	r := &s.recs[i]
	if r.message != noMessage {
		s.byMessage.remove(entry{r.message, i})
	}
	r.message = stamp
	s.byMessage.insert(entry{stamp, i})
}

// add creates the next contact.
func (s *store) add(stamp int64, message bool) uint32 {
	i := uint32(len(s.recs))
	s.recs = append(s.recs, rec{created: stamp, updated: stamp, message: noMessage})
	s.byUpdated.insert(entry{stamp, i})
	s.byCreated.insert(entry{stamp, i})
	if message {
		s.setMessage(i, stamp)
	}
	s.alive++
	s.counts.Created++
	return i
}

func (s *store) remove(i uint32) {
	s.settle(i)
	r := &s.recs[i]
	s.byUpdated.remove(entry{r.updated, i})
	s.byCreated.remove(entry{r.created, i})
	if r.message != noMessage {
		s.byMessage.remove(entry{r.message, i})
	}
	r.gone = true
	s.deleted = append(s.deleted, i)
	s.alive--
	s.counts.Deleted++
}

func (s *store) setEdit(i uint32, over *edit) {
	s.edits[i] = s.editOf(i).merge(over)
	s.recs[i].edited = true
}

// hide puts a change aside until it is due.
func (s *store) hide(c *lateChange) {
	heap.Push(&s.late, c)
	if !c.create {
		s.lateOf[c.contact] = c
	}
	s.counts.Late++
}

// settle makes a change of contact i that is still hidden visible: in a
// database the next writer waits for the one before.
func (s *store) settle(i uint32) {
	if c := s.lateOf[i]; c != nil {
		s.reveal(c)
	}
}

func (s *store) reveal(c *lateChange) {
	if c.done {
		return
	}
	c.done = true
	if c.create {
		s.add(c.stamp, c.message)
		return
	}
	delete(s.lateOf, c.contact)
	s.recs[c.contact].rev++
	s.setUpdated(c.contact, c.stamp)
	if c.message {
		s.setMessage(c.contact, c.stamp)
	}
}

// revealDue makes visible what is due at now (or at this count of pages).
func (s *store) revealDue(now int64) {
	if s.opts.LateRequests > 0 {
		now = int64(s.pages)
	}
	for len(s.late) > 0 && s.late[0].due <= now {
		s.reveal(heap.Pop(&s.late).(*lateChange))
	}
}
