package extract

import (
	"context"
	"errors"
	"net/url"

	"github.com/sluice-etl/sluice/internal/clock"
)

// Client talks to one source. Its methods may be called from any number of
// goroutines.
type Client struct{}

var _ Pager = (*Client)(nil)

// NewClient checks s and returns a client for it. clk stamps pages; nil: the
// machine's clock.
func NewClient(s Source, clk clock.Clock) (*Client, error) {
	return nil, errors.New("not built yet")
}

// Page asks for one page of contacts and hands its body to decode.
func (c *Client) Page(ctx context.Context, q Query, decode func(body []byte, info PageInfo) error) (Response, error) {
	return Response{}, errors.New("not built yet")
}

// Get asks for path below the base URL, such as "/api/public/pipeline", with
// the same limits, retries and errors as Page.
func (c *Client) Get(ctx context.Context, path string, query url.Values, decode func(body []byte, info PageInfo) error) (Response, error) {
	return Response{}, errors.New("not built yet")
}

// Stats returns what the client has done so far.
func (c *Client) Stats() Stats { return Stats{} }

// Close drops idle connections.
func (c *Client) Close() {}

// Hosts holds the limits of each host, for all clients that are given it.
type Hosts struct{}

// NewHosts returns an empty set of limits.
func NewHosts() *Hosts { return &Hosts{} }
