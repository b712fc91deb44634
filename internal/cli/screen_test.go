package cli

import (
	"errors"
	"io"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/run"
)

// terminal shows what a person would see: it understands carriage returns and
// line breaks and nothing else.
type terminal struct {
	lines []string
	col   int
}

func (s *terminal) Write(p []byte) (int, error) {
	if len(s.lines) == 0 {
		s.lines = []string{""}
	}
	for _, r := range string(p) {
		last := []rune(s.lines[len(s.lines)-1])
		switch r {
		case '\r':
			s.col = 0
		case '\n':
			s.lines = append(s.lines, "")
			s.col = 0
		default:
			if s.col < len(last) {
				last[s.col] = r
			} else {
				last = append(last, r)
			}
			s.lines[len(s.lines)-1] = string(last)
			s.col++
		}
	}
	return len(p), nil
}

func (s *terminal) text() string {
	out := make([]string, len(s.lines))
	for i, l := range s.lines {
		out[i] = strings.TrimRight(l, " ")
	}
	return strings.Join(out, "\n")
}

func TestTheLiveLineIsRedrawnInPlaceBelowEverythingElse(t *testing.T) {
	t.Parallel()
	term := &terminal{}
	s := &screen{w: term, width: func() int { return 20 }}
	steps := []struct {
		do   func()
		want string
	}{
		{func() { s.set("10 contacts") }, "10 contacts"},
		{func() { s.set("9") }, "9"},
		{func() { s.set("a line that is longer than the terminal") }, "a line that is lon…"},
		{func() { _, _ = io.WriteString(s, "a warning\n") }, "a warning\na line that is lon…"},
		{func() { s.set("20 contacts") }, "a warning\n20 contacts"},
		{func() { s.clear() }, "a warning\n"},
		{func() { _, _ = io.WriteString(s, "done\n") }, "a warning\ndone\n"},
	}
	for i, step := range steps {
		step.do()
		if got := term.text(); got != step.want {
			t.Fatalf("step %d: the terminal shows\n%q, want\n%q", i, got, step.want)
		}
	}
	if term.col != 0 {
		t.Errorf("the cursor is left in column %d", term.col)
	}
}

func TestWithoutALiveLineTheScreenWritesNothingOfItsOwn(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	s := &screen{w: &b, width: func() int { return 0 }}
	s.clear()
	_, _ = io.WriteString(s, "a\n")
	s.clear()
	if got := b.String(); got != "a\n" {
		t.Errorf("got %q", got)
	}
}

type brokenPipe struct{}

var errBroken = errors.New("broken pipe")

func (brokenPipe) Write([]byte) (int, error) { return 0, errBroken }

func TestAWriteErrorOfStderrReachesTheCaller(t *testing.T) {
	t.Parallel()
	s := &screen{w: &redactor{w: brokenPipe{}}, width: func() int { return 0 }}
	if _, err := io.WriteString(s, "x"); !errors.Is(err, errBroken) {
		t.Errorf("got %v", err)
	}
}

func TestKeysNeverReachEvents(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	r := &redactor{}
	r.hide("s3cret-key")
	v := &jsonView{w: &b, secrets: r}
	v.event(run.Event{Type: eventFinished, Error: "the server said s3cret-key"})
	if got := b.String(); strings.Contains(got, "s3cret-key") || !strings.Contains(got, "(redacted)") {
		t.Errorf("got %s", got)
	}
}

func TestKeysNeverReachStderr(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	r := &redactor{w: &b}
	r.hide("s3cret-key")
	r.hide("sandbox") // public, and a word that messages need
	r.hide("ab")      // would blot out ordinary text
	n, err := io.WriteString(r, "sandbox said s3cret-key is bad: s3cret-key, about\n")
	if err != nil || n != len("sandbox said s3cret-key is bad: s3cret-key, about\n") {
		t.Errorf("%d, %v", n, err)
	}
	if got, want := b.String(), "sandbox said (redacted) is bad: (redacted), about\n"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
