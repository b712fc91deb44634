package transform

import (
	"errors"
	"testing"
)

// Real pages would take gigabytes: the count of bytes is set instead.
func TestAFullChunkAsksToBeSealedAndGoesOnAfter(t *testing.T) {
	c := NewChunk(Options{})
	body := []byte(`[{"id":"a","created_at":"2024-01-01T00:00:00Z","updated_at":"2024-01-01T00:00:00Z"}]`)
	c.bytes = maxBytes - int64(len(body))
	if _, err := c.Decode(body); err != nil || c.Keep(nil, Meta{}) != 1 {
		t.Fatal(err)
	}
	if _, err := c.Decode(body); !errors.Is(err, ErrFull) || errors.Is(err, ErrBadPage) {
		t.Fatal(err)
	}
	if n := c.Keep(nil, Meta{}); n != 0 || c.Rows() != 1 {
		t.Fatalf("kept %d, %d rows", n, c.Rows())
	}
	c.empty()
	if _, err := c.Decode(body); err != nil {
		t.Fatal(err)
	}
}
