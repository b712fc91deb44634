package extract

import "fmt"

// BudgetError says that another request would exceed what the client may ask
// of the source. Nothing was sent.
type BudgetError struct {
	// Requests and Bytes are what was asked and read before; the limit that is
	// reached is the one that is not 0.
	Requests, Bytes       int64
	MaxRequests, MaxBytes int64
}

var _ Hinter = (*BudgetError)(nil)

func (e *BudgetError) Error() string {
	if e.MaxRequests > 0 {
		return fmt.Sprintf("max_requests: the limit of %d requests is reached", e.MaxRequests)
	}
	return fmt.Sprintf("max_bytes: another answer could exceed the limit of %d bytes, %d are read", e.MaxBytes, e.Bytes)
}

// Hint says what to do.
func (e *BudgetError) Hint() string {
	return "what a run or a backfill has read is kept, and the next run goes on from there with a limit of its own; whatever else reads the source begins anew, and needs a higher limit"
}

// reserve counts a request that is about to be sent, or refuses it.
func (c *Client) reserve() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if limit := c.source.MaxRequests; limit > 0 && c.reserved >= limit {
		return &BudgetError{Requests: c.reserved, Bytes: c.stats.Bytes, MaxRequests: limit}
	}
	// Those in flight and this one may each be as large as the largest so far.
	if limit := c.source.MaxBytes; limit > 0 && c.stats.Bytes+(c.flying+1)*c.largest > limit {
		return &BudgetError{Requests: c.reserved, Bytes: c.stats.Bytes, MaxBytes: limit}
	}
	c.reserved++
	c.flying++
	return nil
}

// received counts the body of an answer.
func (c *Client) received(bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stats.Bytes += bytes
	c.largest = max(c.largest, bytes)
}

// landed ends what reserve has begun.
func (c *Client) landed() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.flying--
}
