// Package extract reads the contacts endpoint: an HTTP client that retries
// what can be retried and sends as much at a time as the host takes well, a
// walk that skips no contact while contacts change under it, a scan that walks a
// range in parallel windows, and a reading of those who wrote lately.
package extract
