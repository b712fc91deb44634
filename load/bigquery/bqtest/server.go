package bqtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net"
	"net/http"
	"sync"
	"time"

	"google.golang.org/grpc"

	"github.com/sluice-etl/sluice/internal/clock"
)

// Options say how a Server starts.
type Options struct {
	Project string // "" is "test-project"
	// Clock is the service's time: creation times, CURRENT_TIMESTAMP, partition
	// expiry, staleness. nil is the machine's.
	Clock clock.Clock
	// SchemaDelay is how long the Storage Write API does not know of a column
	// that was added; 0 is no delay.
	SchemaDelay time.Duration
	// Dir is where DuckDB spills rows that do not fit its memory; "" is nowhere.
	Dir string
	// Limits are quotas that differ from the service's.
	Limits Limits
}

// Server is a running stand-in.
type Server struct {
	opts Options

	db       *sql.DB
	rest     *http.Server
	restAddr net.Listener
	grpc     *grpc.Server
	grpcAddr net.Listener
	serving  sync.WaitGroup
	running  sync.WaitGroup  // jobs
	life     context.Context //nolint:containedctx // the jobs' context: they outlive the request that started them
	end      context.CancelFunc

	faults faults

	// mu is held by whatever reads or changes the catalog, and across every
	// statement on rows, so that readers see commits whole.
	mu       sync.Mutex
	idle     *sync.Cond // a transaction has ended
	datasets map[string]*dataset
	jobs     map[string]*job
	jobOrder []*job
	uploads  map[string]*upload
	requests map[string]*request // of jobs.query, by requestId
	usage    map[tableRef]*usage
	serial   int64 // of names and etags given out

	write writeState
}

// Start starts a server that lives until Close; ctx bounds the start alone.
func Start(ctx context.Context, o Options) (*Server, error) {
	if o.Project == "" {
		o.Project = "test-project"
	}
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	s := &Server{
		opts: o, datasets: map[string]*dataset{}, jobs: map[string]*job{}, uploads: map[string]*upload{},
		requests: map[string]*request{}, usage: map[tableRef]*usage{},
	}
	s.idle = sync.NewCond(&s.mu)
	s.life, s.end = context.WithCancel(context.WithoutCancel(ctx))
	db, err := openEngine(ctx, o)
	if err != nil {
		s.end()
		return nil, fmt.Errorf("start BigQuery stand-in: %w", err)
	}
	s.db = db
	if err := s.listen(ctx); err != nil {
		s.end()
		return nil, errors.Join(fmt.Errorf("start BigQuery stand-in: %w", err), db.Close())
	}
	return s, nil
}

func (s *Server) listen(ctx context.Context) error {
	var lc net.ListenConfig
	var err error
	if s.restAddr, err = lc.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return fmt.Errorf("listen for REST: %w", err)
	}
	if s.grpcAddr, err = lc.Listen(ctx, "tcp", "127.0.0.1:0"); err != nil {
		return errors.Join(fmt.Errorf("listen for gRPC: %w", err), s.restAddr.Close())
	}
	s.rest = &http.Server{Handler: s.routes(), ReadHeaderTimeout: time.Minute}
	s.grpc = grpc.NewServer(grpc.MaxRecvMsgSize(64 << 20))
	s.registerWrite(s.grpc)
	s.serving.Go(func() { _ = s.rest.Serve(s.restAddr) }) // ends with Close
	s.serving.Go(func() { _ = s.grpc.Serve(s.grpcAddr) }) // ends with Close
	return nil
}

// URL is the endpoint of REST v2, as http://127.0.0.1:port.
func (s *Server) URL() string { return "http://" + s.restAddr.Addr().String() }

// Addr is the endpoint of BigQueryWrite, as host:port, without TLS.
func (s *Server) Addr() string { return s.grpcAddr.Addr().String() }

// Project is the one project that the server has.
func (s *Server) Project() string { return s.opts.Project }

// Close cuts all connections, stops the jobs and drops the rows.
func (s *Server) Close() error {
	s.end()
	err := s.rest.Close()
	s.grpc.Stop()
	s.serving.Wait()
	s.mu.Lock()
	s.idle.Broadcast()
	s.mu.Unlock()
	s.running.Wait()
	return errors.Join(err, s.db.Close())
}

func (s *Server) now() time.Time { return s.opts.Clock.Now().Truncate(time.Microsecond) }

// nextSerial numbers names and etags; s.mu is held.
func (s *Server) nextSerial() int64 {
	s.serial++
	return s.serial
}
