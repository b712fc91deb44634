package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"time"
)

// changeKind is a kind of automatic change.
type changeKind uint8

const (
	changeUpdate changeKind = iota
	changeCreate
	changeDelete
	changeKinds
)

// mostOwed bounds how many changes per second are made up for at once, after a
// sandbox without Start was left alone for long.
const mostOwed = 1_000_000

// advance applies the changes per second up to now, spread evenly over the
// time since the last look, and makes late changes visible.
func (s *store) advance(now int64) {
	s.revealDue(now)
	rates := [changeKinds]float64{s.opts.Updates, s.opts.Creates, s.opts.Deletes}
	if rates == [changeKinds]float64{} {
		return
	}
	since := s.rated
	if since == 0 {
		s.rated = now
		return
	}
	if now <= since {
		return
	}
	s.rated = now
	var due []changeKind
	for k := range changeKinds {
		s.owed[k] += rates[k] * float64(now-since) / microsPerSecond
		whole := min(int(s.owed[k]), mostOwed)
		s.owed[k] = min(s.owed[k]-float64(whole), 1)
		due = append(due, slices.Repeat([]changeKind{k}, whole)...)
	}
	for k := len(due) - 1; k > 0; k-- { // in random order
		other := below(s.draw(), uint64(k+1))
		due[k], due[other] = due[other], due[k]
	}
	for k, kind := range due {
		s.change(kind, since+(now-since)*int64(k+1)/int64(len(due)+1))
	}
	s.revealDue(now)
}

// beforePage applies the changes per request.
func (s *store) beforePage(now int64) {
	o := s.opts
	rates := [changeKinds]float64{o.UpdatesPerRequest, o.CreatesPerRequest, o.DeletesPerRequest}
	for k := range changeKinds {
		// The n-th request brings the total to floor(n * rate), without drift.
		before, after := int64(rates[k]*float64(s.pages-1)), int64(rates[k]*float64(s.pages))
		for range after - before {
			s.change(k, now)
		}
	}
	if o.BulkEvery > 0 && s.pages%uint64(o.BulkEvery) == 0 {
		s.bulkTouch(o.BulkSize, now)
	}
	s.revealDue(now)
}

// change makes one random change of a kind at the time at.
func (s *store) change(kind changeKind, at int64) {
	switch kind {
	case changeCreate:
		message := s.draw()%10 != 0
		if s.chance(s.opts.LateShare) {
			s.hide(&lateChange{create: true, stamp: s.nextStamp(at), due: s.lateUntil(at), message: message})
			return
		}
		s.add(s.nextStamp(at), message)
	case changeDelete:
		if i, ok := s.anyContact(); ok {
			s.remove(i)
		}
	default:
		s.updateAny(at)
	}
}

func (s *store) updateAny(at int64) {
	i, ok := s.anyContact()
	if !ok {
		return
	}
	s.settle(i)
	message := s.draw()%10 < 6
	if s.chance(s.opts.SilentShare) {
		s.update(i, at, true, message)
		return
	}
	if s.chance(s.opts.LateShare) {
		s.counts.Updated++
		s.hide(&lateChange{contact: i, stamp: s.nextStamp(at), due: s.lateUntil(at), message: message})
		return
	}
	s.update(i, at, false, message)
}

// lateUntil draws when a late change at the time at becomes visible.
func (s *store) lateUntil(at int64) int64 {
	if s.opts.LateRequests > 0 {
		return int64(s.pages) + int64(s.opts.LateRequests)
	}
	return at + 1 + int64(below(s.draw(), uint64(max(1, s.opts.LateDelay.Microseconds()))))
}

// update changes the content of contact i; silent leaves updated_at alone.
func (s *store) update(i uint32, at int64, silent, message bool) {
	s.settle(i)
	s.recs[i].rev++
	stamp := s.nextStamp(at)
	s.counts.Updated++
	if silent {
		s.counts.Silent++
	} else {
		s.setUpdated(i, stamp)
	}
	if message {
		s.setMessage(i, stamp)
	}
}

// bulkTouch gives n contacts one updated_at. They are a run of numbers from a
// random one on: numbers have nothing to do with times or content.
func (s *store) bulkTouch(n int, at int64) int64 {
	stamp := s.nextStamp(at)
	i, ok := s.anyContact()
	if !ok {
		return stamp
	}
	for n = min(n, s.alive); n > 0; i = (i + 1) % uint32(len(s.recs)) {
		if s.recs[i].gone {
			continue
		}
		n--
		s.settle(i)
		s.counts.Touched++
		s.setUpdated(i, stamp)
	}
	return stamp
}

// ErrUnknown marks an id or stage that does not exist.
var ErrUnknown = errors.New("does not exist")

// Change is what Update sets on a contact; nil fields stay as they are.
type Change struct {
	Name       *string `json:"name"`
	Phone      *string `json:"phone"` // "" is null
	Email      *string `json:"email"` // "" is null
	Platform   *string `json:"platform"`
	ChatStatus *string `json:"chat_status"`
	Blocked    *bool   `json:"blocked"`
	IsChatRead *bool   `json:"is_chat_read"`
	StageID    *string `json:"stage_id"` // of the active ticket, opened where there is none; "" is null
	// Customer and Ticket are custom fields by key; Shape says where a new key
	// goes.
	Customer []Field `json:"customer"`
	Ticket   []Field `json:"ticket"`
	// Silent leaves updated_at alone.
	Silent bool `json:"silent"`
}

// Touch moves the contact's updated_at to now and changes nothing else.
func (s *Server) Touch(id string) error {
	return s.withContact(id, func(i uint32, now int64) error {
		s.store.settle(i)
		s.store.counts.Touched++
		s.store.setUpdated(i, s.store.nextStamp(now))
		return nil
	})
}

// Update sets what c holds, and changes the contact's message count even where
// c is empty.
func (s *Server) Update(id string, c Change) error {
	return s.withContact(id, func(i uint32, now int64) error {
		e, err := s.store.editFrom(c)
		if err != nil {
			return err
		}
		s.store.setEdit(i, e)
		s.store.update(i, now, c.Silent, false)
		return nil
	})
}

// SetStage moves the contact's active ticket to a stage, opening one where
// there is none; "" is no stage.
func (s *Server) SetStage(id, stageID string) error {
	return s.Update(id, Change{StageID: &stageID})
}

// Create adds n contacts and returns their ids.
func (s *Server) Create(n int) []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.advance()
	ids := make([]string, n)
	for k := range ids {
		ids[k] = s.store.g.contactID(s.store.add(s.store.nextStamp(now), true)).String()
	}
	return ids
}

// Delete removes the contact. Restore alone brings it back.
func (s *Server) Delete(id string) error {
	return s.withContact(id, func(i uint32, _ int64) error {
		s.store.remove(i)
		return nil
	})
}

// BulkTouch gives n random contacts one exact updated_at, which it returns.
func (s *Server) BulkTouch(n int) time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	return time.UnixMicro(s.store.bulkTouch(n, s.advance())).UTC()
}

// Mutation is a number of random changes; see Mutate.
type Mutation struct {
	Updates int `json:"updates"` // content and updated_at
	Silent  int `json:"silent"`  // content alone
	Creates int `json:"creates"`
	Deletes int `json:"deletes"`
	Bulk    int `json:"bulk"` // touched with one updated_at

	Stages   int `json:"stages"`   // whose ticket moves to another stage, with content and updated_at
	Messages int `json:"messages"` // that write: last_message_at alone
	Restores int `json:"restores"` // deleted ones that come back as they were, the last first
	Returns  int `json:"returns"`  // as restores, with an updated_at of now
}

// Mutate makes random changes now, as the options for changes do, late ones
// apart; the same for the same seed and the same calls before.
func (s *Server) Mutate(m Mutation) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.advance()
	for n := range m.Updates + m.Silent {
		if i, ok := s.store.anyContact(); ok {
			s.store.update(i, now, n >= m.Updates, s.store.draw()%10 < 6)
		}
	}
	for range m.Creates {
		s.store.add(s.store.nextStamp(now), s.store.draw()%10 != 0)
	}
	for range m.Deletes {
		s.store.change(changeDelete, now)
	}
	if m.Bulk > 0 {
		s.store.bulkTouch(m.Bulk, now)
	}
	for range m.Stages {
		s.store.moveAny(now)
	}
	for range m.Messages {
		s.store.receiveAny(now)
	}
	for n := range m.Restores + m.Returns {
		s.store.restoreLast(now, n >= m.Restores)
	}
}

// withContact runs f under the lock with the number of an existing contact.
func (s *Server) withContact(id string, f func(i uint32, now int64) error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := s.advance()
	u, ok := parseUUID(id)
	if ok {
		if i, exists := s.store.find(u); exists {
			return f(i, now)
		}
	}
	return fmt.Errorf("find contact %q: %w", id, ErrUnknown)
}

// editFrom checks c.
func (s *store) editFrom(c Change) (*edit, error) {
	e := &edit{
		name: c.Name, phone: c.Phone, email: c.Email, platform: c.Platform, status: c.ChatStatus,
		blocked: c.Blocked, read: c.IsChatRead,
	}
	if c.StageID != nil {
		n, err := s.g.stageNumber(*c.StageID)
		if err != nil {
			return nil, err
		}
		e.stage = &n
	}
	for of, fields := range [...][]Field{customer: c.Customer, ticket: c.Ticket} {
		for _, f := range fields {
			value, err := compactJSON(f.Value)
			if err != nil {
				return nil, fmt.Errorf("set custom field %q: %w", f.Key, err)
			}
			at, err := parseShape(f.Shape)
			if err != nil {
				return nil, fmt.Errorf("set custom field %q: %w", f.Key, err)
			}
			e.fields = append(e.fields, fieldEdit{key: f.Key, value: value, entity: entity(of), shape: at})
		}
	}
	return e, nil
}

// stageNumber returns the position of a stage, -1 for "".
func (g *generator) stageNumber(id string) (int, error) {
	if id == "" {
		return -1, nil
	}
	u, _ := parseUUID(id)
	n := slices.IndexFunc(g.stages, func(s stage) bool { return s.id == u })
	if n < 0 {
		return 0, fmt.Errorf("find stage %q: %w", id, ErrUnknown)
	}
	return n, nil
}

// compactJSON returns raw without insignificant space, escaped as the endpoint
// escapes.
func compactJSON(raw json.RawMessage) (json.RawMessage, error) {
	var text string
	if json.Unmarshal(raw, &text) == nil && len(raw) > 0 && raw[0] == '"' {
		return appendString(nil, text), nil
	}
	var out bytes.Buffer
	if err := json.Compact(&out, raw); err != nil {
		return nil, fmt.Errorf("parse value: %w", err)
	}
	return out.Bytes(), nil
}
