package monitor

import (
	"context"
	"errors"
	"fmt"
	"time"
)

// errUnread is why nothing is known of a pipeline whose state is being read for
// the first time.
var errUnread = errors.New("state is still being read")

// Snapshot returns how everything is. It reads state where what is known of it is
// old, of several pipelines at once, and waits no longer than Options.Patience:
// what takes longer is shown as it was known before, and the watches hear of it
// once it is there.
func (m *Monitor) Snapshot(ctx context.Context) Snapshot {
	list := make([]*pipeline, len(m.o.Pipelines))
	for i, conf := range m.o.Pipelines {
		list[i] = m.of[conf.Name] // never changed after New
	}
	m.bring(ctx, list)
	m.mu.Lock()
	defer m.mu.Unlock()
	s := Snapshot{At: m.o.Clock.Now(), Since: m.since}
	for _, p := range list {
		s.Pipelines = append(s.Pipelines, m.status(p, p.st, p.err, s.At))
	}
	return s
}

// Status returns how one pipeline is, as Snapshot does; false where there is none
// of the name.
func (m *Monitor) Status(ctx context.Context, name string) (Status, bool) {
	p := m.of[name]
	if p == nil {
		return Status{}, false
	}
	m.bring(ctx, []*pipeline{p})
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.status(p, p.st, p.err, m.o.Clock.Now()), true
}

// bring has the state of pipelines read where it is old, and waits for it as
// long as patience lasts.
func (m *Monitor) bring(ctx context.Context, list []*pipeline) {
	patience := time.NewTimer(m.o.Patience)
	defer patience.Stop()
	for range 2 { // what ended while state was read asks for a second reading
		var reads []<-chan struct{}
		for _, p := range list {
			if c := m.refresh(ctx, p); c != nil {
				reads = append(reads, c)
			}
		}
		for _, c := range reads {
			select {
			case <-c:
			case <-patience.C:
				return
			case <-ctx.Done():
				return
			}
		}
	}
}

// refresh begins to read a pipeline's state where it is old. It returns a channel
// that is closed when the reading that goes on has ended; nil for none.
func (m *Monitor) refresh(ctx context.Context, p *pipeline) <-chan struct{} {
	m.mu.Lock()
	defer m.mu.Unlock()
	now := m.o.Clock.Now()
	switch {
	case p.reading != nil:
		return p.reading
	case !p.read.IsZero() && now.Sub(p.read) < m.o.Refresh:
		return nil
	}
	if p.st == nil && p.err == nil {
		p.err = errUnread
	}
	p.read, p.reading = now, make(chan struct{})
	go m.readState(context.WithoutCancel(ctx), p) // others may wait for it too
	return p.reading
}

// readState reads a pipeline's document.
func (m *Monitor) readState(ctx context.Context, p *pipeline) {
	m.reads <- struct{}{}
	ctx, cancel := context.WithTimeout(ctx, m.o.ReadTimeout)
	st, err := m.o.Load(ctx, p.Name)
	if err != nil && ctx.Err() != nil {
		err = fmt.Errorf("read state of %s: no answer within %s", p.Name, m.o.ReadTimeout)
	}
	cancel()
	<-m.reads

	m.mu.Lock()
	defer m.mu.Unlock()
	news := (err == nil) != (p.err == nil)
	if err == nil {
		news = news || p.st == nil || p.st.Serial != st.Serial
		p.st, p.readAt = st, m.o.Clock.Now()
	}
	p.err = err
	close(p.reading)
	p.reading = nil
	if news {
		m.changed()
	}
}
