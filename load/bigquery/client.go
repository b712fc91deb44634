package bigquery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	storage "cloud.google.com/go/bigquery/storage/apiv1"
	bq "google.golang.org/api/bigquery/v2"
	"google.golang.org/api/impersonate"
	"google.golang.org/api/option"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"

	"github.com/sluice-etl/sluice/internal/clock"
)

const (
	defaultInFlight = 4
	defaultLocation = "US"
	// callTimeout bounds one attempt of a call that only asks or tells.
	callTimeout = 2 * time.Minute
	// mostTries bounds the attempts of a call: with the pauses below they last
	// about two minutes.
	mostTries = 9
	// firstPause is before the second attempt; pauses double up to longestPause.
	firstPause   = 500 * time.Millisecond
	longestPause = 32 * time.Second
	// keepaliveTime is how often a silent connection is asked whether it lives;
	// the vendor's own writers use the same.
	keepaliveTime = time.Minute
)

// remote is the service, as one table of one dataset needs it. Its methods may
// be called from any goroutine.
//
// It speaks to the generated clients, not to those written by hand: these try
// again for as long as the context lives, hide which attempt it was that took
// effect, and cannot append in Arrow's format.
type remote struct {
	o     Options
	rest  *bq.Service
	write *storage.BigQueryWriteClient
	first time.Duration // the pause before a second attempt

	mu       sync.Mutex
	location string // of the dataset, once known

	scanned atomic.Int64 // bytes that its statements have cost so far
}

// newRemote connects to the service: it looks for credentials, and asks nothing
// of the service yet.
func newRemote(ctx context.Context, o Options) (*remote, error) {
	const doing = "open bigquery destination"
	if o.Project == "" || o.Dataset == "" || o.Table == "" {
		return nil, errors.New(doing + ": it needs a project, a dataset and a table")
	}
	if !o.Method.Valid() {
		return nil, fmt.Errorf(doing+": unknown method %q", o.Method)
	}
	if (o.Endpoint == "") != (o.GRPCEndpoint == "") {
		return nil, errors.New(doing + ": an emulator needs both endpoints, that of REST and that of gRPC")
	}
	if o.MaxStaleness != 0 && o.Method != CDC {
		return nil, errors.New(doing + ": only method cdc has a staleness")
	}
	o.InFlight = cmp.Or(max(o.InFlight, 0), defaultInFlight)
	if o.Clock == nil {
		o.Clock = clock.System{}
	}
	if o.Timezone == nil {
		o.Timezone = time.UTC
	}
	// Credentials keep the context for as long as they are renewed.
	ctx = context.WithoutCancel(ctx)
	opts, err := credentials(ctx, o)
	if err != nil {
		return nil, explain("find credentials", o.Project, err)
	}
	r := &remote{o: o, first: firstPause}
	rest, grpcOpts := opts, opts
	if o.Endpoint != "" {
		rest = append(rest[:len(rest):len(rest)], option.WithEndpoint(o.Endpoint))
		grpcOpts = append(grpcOpts[:len(grpcOpts):len(grpcOpts)], option.WithEndpoint(o.GRPCEndpoint),
			option.WithGRPCDialOption(grpc.WithTransportCredentials(insecure.NewCredentials())))
	}
	if r.rest, err = bq.NewService(ctx, rest...); err != nil {
		return nil, explain("connect to BigQuery", o.Project, err)
	}
	grpcOpts = append(grpcOpts[:len(grpcOpts):len(grpcOpts)], option.WithGRPCDialOption(
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: keepaliveTime, Timeout: keepaliveTime})))
	if r.write, err = storage.NewBigQueryWriteClient(ctx, grpcOpts...); err != nil {
		return nil, explain("connect to BigQuery", o.Project, err)
	}
	// Its own attempts would multiply with ours.
	r.write.CallOptions = &storage.BigQueryWriteCallOptions{}
	return r, nil
}

// credentials are the client options of one way to log in, or of none.
func credentials(ctx context.Context, o Options) ([]option.ClientOption, error) {
	opts := []option.ClientOption{option.WithUserAgent("sluice")}
	if o.Endpoint != "" {
		return append(opts, option.WithoutAuthentication()), nil
	}
	var base []option.ClientOption
	if o.KeyFile != "" {
		base = append(base, option.WithAuthCredentialsFile(option.ServiceAccount, o.KeyFile))
	}
	if o.Impersonate == "" {
		return append(append(opts, base...), option.WithScopes(bq.BigqueryScope)), nil
	}
	tokens, err := impersonate.CredentialsTokenSource(ctx, impersonate.CredentialsConfig{
		TargetPrincipal: o.Impersonate, Scopes: []string{bq.BigqueryScope},
	}, base...)
	if err != nil {
		return nil, fmt.Errorf("impersonate %s: %w", o.Impersonate, err)
	}
	return append(opts, option.WithTokenSource(tokens)), nil
}

// Close releases the connections.
func (r *remote) Close() error {
	if err := r.write.Close(); err != nil {
		return fmt.Errorf("close client of BigQuery: %w", err)
	}
	return nil
}

// retry calls until it goes well, fails for good, or has failed too often. The
// error is the last one as it came.
func (r *remote) retry(ctx context.Context, call func(ctx context.Context) error) error {
	for try := 1; ; try++ {
		err := r.attempt(ctx, call)
		if err == nil || try == mostTries || !again(err) {
			return err
		}
		if err := r.wait(ctx, try); err != nil {
			return err
		}
	}
}

// attempt calls once, with its own time.
func (r *remote) attempt(ctx context.Context, call func(ctx context.Context) error) error {
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	short, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err := call(short)
	if err != nil && ctx.Err() != nil {
		return context.Cause(ctx)
	}
	return err
}

// wait pauses before another attempt, the longer the more there were, and never
// as long as another process does.
func (r *remote) wait(ctx context.Context, tries int) error {
	d := r.first << min(tries-1, 10)
	d = min(d, longestPause)
	return clock.Sleep(ctx, d/2+rand.N(d/2+1))
}
