package config

import (
	"fmt"
	"log/slog"
)

const redacted = "(redacted)"

// Secret is a key. Only Reveal gives it; every way of printing or encoding it
// says "(redacted)". The text sits behind a function so that printers which
// walk fields by reflection do not meet it either.
type Secret struct{ reveal func() string }

var (
	_ fmt.Formatter  = Secret{}
	_ fmt.Stringer   = Secret{}
	_ fmt.GoStringer = Secret{}
	_ slog.LogValuer = Secret{}
)

// NewSecret wraps a key.
func NewSecret(text string) Secret { return Secret{reveal: func() string { return text }} }

// Reveal returns the key, for the request's header and nothing else.
func (s Secret) Reveal() string {
	if s.reveal == nil {
		return ""
	}
	return s.reveal()
}

// IsZero reports whether there is no key.
func (s Secret) IsZero() bool { return s.Reveal() == "" }

// String returns "(redacted)".
func (Secret) String() string { return redacted }

// GoString returns "(redacted)".
func (Secret) GoString() string { return redacted }

// Format writes "(redacted)" for every verb.
func (Secret) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(redacted)) }

// LogValue returns "(redacted)".
func (Secret) LogValue() slog.Value { return slog.StringValue(redacted) }

// MarshalText returns "(redacted)"; JSON uses it.
func (Secret) MarshalText() ([]byte, error) { return []byte(redacted), nil }

// MarshalYAML returns "(redacted)".
func (Secret) MarshalYAML() (any, error) { return redacted, nil }
