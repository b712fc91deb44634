package bqtest

import (
	"context"
	"errors"
	"maps"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-etl/sluice/internal/clock"
)

// Fault is something that goes wrong in a call. A gRPC call fails with Code, a
// REST call with Status and Reason; with neither and no Drop the call succeeds,
// after Delay and OnCall.
type Fault struct {
	// Call is a method: "AppendRows" (each request of a stream counts),
	// "BatchCommitWriteStreams", "jobs.insert", "jobs.getQueryResults",
	// "tables.patch". "job" is the work of a job, after jobs.insert: a fault
	// there makes the job fail, or keeps it running; with After the latter only,
	// for a job that took effect does not fail.
	Call  string
	Skip  int // so many calls pass first
	Times int // then so many meet the fault; 0 is one, below 0 all

	Code    codes.Code
	Status  int    // of HTTP
	Reason  string // of the error in the answer, as "backendError", "rateLimitExceeded"
	Message string

	After  bool          // the call takes effect, then its answer is replaced by the fault
	Drop   bool          // the connection is cut instead of an answer
	Delay  time.Duration // waits first
	OnCall func()        // runs before the call's work, or before the answer with After
}

// faults are those that wait for their call.
type faults struct {
	mu    sync.Mutex
	list  []*Fault
	calls map[string]int
}

// errDropped says that the connection is cut instead of an answer.
var errDropped = errors.New("injected: connection lost")

// faultError is an injected error, for either protocol.
type faultError struct {
	code    codes.Code
	status  int
	reason  string
	message string
}

func (e *faultError) Error() string { return e.message }

// GRPCStatus lets gRPC answer with the fault's code.
func (e *faultError) GRPCStatus() *status.Status { return status.New(e.code, e.message) }

// Inject adds a fault. Faults of one call take turns in the order of Inject: the
// calls that one lets pass or uses up are not seen by the next.
func (s *Server) Inject(f Fault) {
	if f.Times == 0 {
		f.Times = 1
	}
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = append(s.faults.list, &f)
}

// Heal takes back every fault that still waits for a call.
func (s *Server) Heal() {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	s.faults.list = nil
}

// Calls tells how often each method was called, failed calls included.
func (s *Server) Calls() map[string]int {
	s.faults.mu.Lock()
	defer s.faults.mu.Unlock()
	return maps.Clone(s.faults.calls)
}

// take counts a call and gives the fault it meets, nil for none.
func (f *faults) take(call string) *Fault {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.calls == nil {
		f.calls = map[string]int{}
	}
	f.calls[call]++
	for _, x := range f.list {
		if x.Call != call || x.Times == 0 {
			continue
		}
		if x.Skip > 0 {
			x.Skip--
			return nil
		}
		if x.Times > 0 {
			x.Times--
		}
		return x
	}
	return nil
}

// fault counts a call. It returns the error that replaces the call's work, if
// any, and after, which is called once the work has taken effect and returns
// the error that replaces its answer, if any.
func (s *Server) fault(ctx context.Context, call string) (before error, after func() error) { //nolint:staticcheck // ST1008: before is what the caller looks at first
	f := s.faults.take(call)
	if f == nil {
		return nil, func() error { return nil }
	}
	meet := func() error {
		if f.OnCall != nil {
			f.OnCall()
		}
		if f.Delay > 0 {
			if err := clock.Sleep(ctx, f.Delay); err != nil {
				return err
			}
		}
		return f.err()
	}
	if f.After {
		return nil, meet
	}
	return meet(), func() error { return nil }
}

func (f *Fault) err() error {
	if f.Drop {
		return errDropped
	}
	if f.Code == codes.OK && f.Status == 0 && f.Reason == "" {
		return nil
	}
	e := &faultError{code: f.Code, status: f.Status, reason: f.Reason, message: f.Message}
	if e.message == "" {
		e.message = "injected fault in " + f.Call
	}
	if e.status == 0 {
		e.status = http.StatusServiceUnavailable
	}
	if e.reason == "" {
		e.reason = "backendError"
	}
	return e
}
