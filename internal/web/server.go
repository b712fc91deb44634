package web

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"syscall"
	"time"
)

// The timeouts of the server. Live views and plans move that of writing.
const (
	headerTime = 10 * time.Second
	readTime   = 30 * time.Second
	writeTime  = time.Minute
	idleTime   = 2 * time.Minute
	stopTime   = 2 * time.Second
	maxHeader  = 32 << 10
)

// ListenError says that the page cannot have its address.
type ListenError struct {
	Address string
	Err     error
}

func (e *ListenError) Error() string {
	if errors.Is(e.Err, syscall.EADDRINUSE) {
		return fmt.Sprintf("listen on %s for the page: the port is taken", e.Address)
	}
	return fmt.Sprintf("listen on %s for the page: %v", e.Address, e.Err)
}

// Hint says what to do.
func (e *ListenError) Hint() string {
	if errors.Is(e.Err, syscall.EADDRINUSE) {
		return "another `sluice schedule` may have it: give another port with --listen 127.0.0.1:8421 (or daemon.listen), --listen 127.0.0.1:0 for a free one, or --listen off for no page"
	}
	return "give an address of this machine with --listen HOST:PORT (or daemon.listen), or --listen off for no page"
}

func (e *ListenError) Unwrap() error { return e.Err }

// Listen takes an address, HOST:PORT; port 0 is a free one. It fails with a
// *ListenError.
func Listen(ctx context.Context, address string) (net.Listener, error) {
	var c net.ListenConfig
	l, err := c.Listen(ctx, "tcp", address)
	if err != nil {
		return nil, &ListenError{Address: address, Err: err}
	}
	return l, nil
}

// Serve answers with the handler until ctx ends; then live views end at once, and
// what is being answered has two seconds. It closes the listener.
func Serve(ctx context.Context, l net.Listener, h http.Handler, log *slog.Logger) error {
	s := &http.Server{
		Handler: h, ReadHeaderTimeout: headerTime, ReadTimeout: readTime, WriteTimeout: writeTime, IdleTimeout: idleTime,
		MaxHeaderBytes: maxHeader, ErrorLog: slog.NewLogLogger(log.Handler(), slog.LevelDebug),
		BaseContext: func(net.Listener) context.Context { return ctx },
	}
	served := make(chan error, 1)
	go func() { served <- s.Serve(l) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the page: %w", err)
	case <-ctx.Done():
	}
	patience, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopTime)
	defer cancel()
	if err := s.Shutdown(patience); err != nil {
		if err := s.Close(); err != nil {
			return fmt.Errorf("stop the page: %w", err)
		}
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the page: %w", err)
	}
	return nil
}
