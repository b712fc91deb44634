package state

import "time"

// NoteStart notes that the daemon begins a run of a kind: one that is killed on
// the way leaves no record, and would be made up for again and again.
func (p *Pipeline) NoteStart(kind string, at time.Time) {
	if p.Started == nil {
		p.Started = map[string]time.Time{}
	}
	p.Started[kind] = at.UTC()
}

// LastStart returns when the last run of a kind began that is known of, whoever
// began it; zero for none.
func (p *Pipeline) LastStart(kind string) time.Time {
	last := p.Started[kind]
	for _, r := range p.Runs {
		if r.Kind == kind && r.StartedAt.After(last) {
			last = r.StartedAt
		}
	}
	return last
}
