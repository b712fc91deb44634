package state

import (
	"testing"
	"time"
)

func TestTheLastStartIsTheLatestThatARunOrTheDaemonHasLeft(t *testing.T) {
	at := func(hour int) time.Time { return time.Date(2026, 9, 1, hour, 0, 0, 0, time.UTC) }
	p := New("nightly")
	if got := p.LastStart("sync"); !got.IsZero() {
		t.Errorf("a pipeline that has never run began at %s", got)
	}
	p.RecordRun(RunRecord{RunID: "a", Kind: "sync", StartedAt: at(3)})
	p.RecordRun(RunRecord{RunID: "b", Kind: "sync", StartedAt: at(2)}) // resumed: it began before
	p.RecordRun(RunRecord{RunID: "c", Kind: "reconcile", StartedAt: at(9)})
	if got := p.LastStart("sync"); !got.Equal(at(3)) {
		t.Errorf("got %s", got)
	}
	p.NoteStart("sync", at(7).In(time.FixedZone("", 3600)))
	if got := p.LastStart("sync"); got != at(7) {
		t.Errorf("got %s", got)
	}
	if got := p.LastStart("reconcile"); !got.Equal(at(9)) {
		t.Errorf("got %s", got)
	}
}
