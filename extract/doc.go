// Package extract reads the contacts endpoint: an HTTP client that retries
// what can be retried, and a walk that skips no contact while contacts change
// under it.
package extract
