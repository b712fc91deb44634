package cli

import (
	"bytes"
	"html/template"
	"io"
	"slices"
	"strings"
	"sync"
)

// screen is stderr with room for one live line below everything else: what is
// written scrolls past above it. Its zero line writes nothing of its own, so
// off a terminal it is a plain writer.
type screen struct {
	w     io.Writer
	width func() int

	mu   sync.Mutex
	line string // as drawn
}

// Write writes p above the live line.
func (s *screen) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	line := s.line
	if err := s.draw(""); err != nil {
		return 0, err
	}
	n, err := s.w.Write(p)
	if err != nil {
		return n, err
	}
	return n, s.draw(line)
}

// set draws line in place of the one before, cut to the terminal's width.
func (s *screen) set(line string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if width := s.width(); width > 1 {
		line = cut(line, width-1) // the last column would wrap on some terminals
	}
	_ = s.draw(line) // a progress line that cannot be shown is no reason to stop
}

// clear takes the live line away.
func (s *screen) clear() { s.set("") }

// draw goes back to the first column and writes line over the one before,
// padded with blanks: no terminal needs to understand escape sequences for it.
func (s *screen) draw(line string) error {
	if line == s.line {
		return nil
	}
	var b strings.Builder
	b.WriteByte('\r')
	b.WriteString(line)
	if gap := displayWidth(s.line) - displayWidth(line); gap > 0 {
		b.WriteString(strings.Repeat(" ", gap))
		if line == "" {
			b.WriteByte('\r')
		}
	}
	s.line = line
	_, err := io.WriteString(s.w, b.String())
	return err
}

// redactor is the last guard before stderr: whatever error or log line carries
// an API key of the configuration, the key does not leave the process. Each
// write is searched by itself, which is enough for messages.
type redactor struct {
	w io.Writer

	mu   sync.Mutex
	keys [][]byte
}

// hide adds a key. The sandbox's public key is a word that messages need, and
// keys of a few characters would blot out ordinary text.
func (r *redactor) hide(key string) {
	const shortest = 6
	if key == sandboxKey || len(key) < shortest {
		return
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, form := range []string{key, strings.ReplaceAll(template.HTMLEscapeString(key), "+", "&#43;")} { // as it is, and as the page has it
		if !slices.ContainsFunc(r.keys, func(k []byte) bool { return string(k) == form }) {
			r.keys = append(r.keys, []byte(form))
		}
	}
}

// clean returns p without keys.
func (r *redactor) clean(p []byte) []byte {
	r.mu.Lock()
	keys := r.keys
	r.mu.Unlock()
	for _, key := range keys {
		p = bytes.ReplaceAll(p, key, []byte("(redacted)"))
	}
	return p
}

func (r *redactor) Write(p []byte) (int, error) {
	if _, err := r.w.Write(r.clean(p)); err != nil {
		return 0, err
	}
	return len(p), nil
}
