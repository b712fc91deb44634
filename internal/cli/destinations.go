package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/diag"
	"github.com/sluice-etl/sluice/internal/duck"
	"github.com/sluice-etl/sluice/internal/gcs"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/bigquery"
	"github.com/sluice-etl/sluice/load/duckdb"
	"github.com/sluice-etl/sluice/load/parquet"
)

// envEmulator names a server that stands in for Google Cloud Storage, in all
// of the vendor's programs.
const envEmulator = "STORAGE_EMULATOR_HOST"

// buckets is the client of Google Cloud Storage: made when something first
// needs it, one for the whole invocation.
type buckets struct {
	connect func() (*gcs.Client, error)

	mu     sync.Mutex
	client *gcs.Client
}

// newBuckets makes clients with the environment's settings. What the client
// asks of the service is bounded by the context of each call, not by ctx.
func (a *app) newBuckets(ctx context.Context) *buckets {
	return &buckets{connect: func() (*gcs.Client, error) {
		host, _ := a.Env(envEmulator)
		endpoint, err := emulator(host)
		if err != nil {
			return nil, err
		}
		if endpoint != "" {
			a.log.WarnContext(ctx, "gs:// leads to a server that stands in for Google Cloud Storage", slog.String(envEmulator, endpoint))
		}
		return gcs.New(ctx, gcs.Options{Endpoint: endpoint})
	}}
}

// emulator returns the base that the variable's value means, as the vendor
// reads it: with or without a scheme, a path left out.
func emulator(host string) (string, error) {
	if host == "" {
		return "", nil
	}
	if !strings.Contains(host, "://") {
		host = "http://" + host
	}
	u, err := url.Parse(host)
	if err != nil || u.Host == "" {
		return "", &userError{message: "read " + envEmulator, err: errors.New("it names no host"), hint: "unset it, or give it the host and port of the server that stands in for Google Cloud Storage"}
	}
	return u.Scheme + "://" + u.Host, nil
}

// get returns the client.
func (b *buckets) get() (*gcs.Client, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.client != nil {
		return b.client, nil
	}
	var err error
	b.client, err = b.connect()
	return b.client, err
}

// close ends the client's life, if it had one.
func (b *buckets) close() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.client == nil {
		return nil
	}
	return b.client.Close()
}

// loader opens a destination for a pipeline's table.
func (a *app) loader(ctx context.Context, cfg *config.Config, p *config.Pipeline, d *config.Destination) (load.Loader, error) {
	if err := usable(cfg, d); err != nil {
		return nil, err
	}
	union := unionOf(cfg, p, d)
	o := parquet.Options{Path: d.Path, Table: p.Table, Stages: p.StagesTable, Union: union, Timezone: p.Timezone, Plain: d.Plain, Clock: a.Clock}
	switch {
	case d.Type == config.DuckDB:
		return opened(duckdb.New(duckdb.Options{
			Path: d.Path, Table: p.Table, Stages: p.StagesTable, Union: union, Timezone: p.Timezone, MemoryLimit: fmt.Sprintf("%dB", d.MemoryLimit), Clock: a.Clock,
		}))
	case isWarehouse(d):
		return opened(bigquery.New(ctx, a.warehouse(p, d, union)))
	case d.Local():
		return opened(parquet.New(o))
	}
	client, err := a.buckets.get()
	if err != nil {
		return nil, err
	}
	o.Path = d.URL
	return opened(parquet.NewGS(parquet.GSOptions{Options: o, Client: client, WorkDir: filepath.Join(cfg.State.Path, config.WorkFolder)}))
}

// unionOf is the view over all accounts of a pipeline at one of its destinations.
func unionOf(cfg *config.Config, p *config.Pipeline, d *config.Destination) load.Union {
	u := load.Union{Name: p.UnionView}
	if p.Account == "" {
		return u
	}
	for _, other := range cfg.Pipelines {
		if other.Base == p.Base && other.Account != "" && slices.Contains(other.Destinations, d) {
			u.Tables = append(u.Tables, other.Table)
		}
	}
	return u
}

// warehouse gives the options of a destination of BigQuery.
func (a *app) warehouse(p *config.Pipeline, d *config.Destination, union load.Union) bigquery.Options {
	return bigquery.Options{
		Project: d.Project, Dataset: d.Dataset, Table: p.Table, Stages: p.StagesTable, Union: union, Location: d.Location, CreateDataset: d.CreateDataset,
		Method: bigquery.Method(d.Method), MaximumBytesBilled: d.MaximumBytesBilled, MaxStaleness: d.MaxStaleness, Labels: d.Labels,
		Timezone: p.Timezone, KeyFile: d.KeyFile, Impersonate: d.Impersonate, Endpoint: d.Endpoint, GRPCEndpoint: d.GRPCEndpoint,
		Clock: a.Clock,
	}
}

// opened keeps a loader that could not be opened from becoming one that is not
// nil.
func opened[L load.Loader](l L, err error) (load.Loader, error) {
	if err != nil {
		return nil, err
	}
	return l, nil
}

// usable says, at its place in the file, why this binary cannot write to a
// destination.
func usable(cfg *config.Config, d *config.Destination) error {
	if d.Type != config.DuckDB {
		return nil
	}
	if !duck.Available {
		return diag.List{cfg.Diagnostic(d.Pos("type"), diag.Error, "this binary was built without DuckDB", "build sluice with a C compiler and CGO_ENABLED=1 (`go build ./cmd/sluice`), or use type: parquet")}.Err()
	}
	if duck.CheckPath(d.Path) != nil {
		return diag.List{cfg.Diagnostic(d.Pos("path"), diag.Error, "DuckDB cannot open a file at this path", "choose one without ? # and %, the folders that it lies in included")}.Err()
	}
	return nil
}

// places are what the destinations of a pipeline are called in messages:
// directories and files as the user would type them, and URLs.
func (a *app) places(p *config.Pipeline, which func(*config.Destination) bool) []string {
	var out []string
	for _, d := range p.Destinations {
		switch {
		case !which(d):
		case d.Local():
			out = append(out, a.relative(d.Place(p.Table)))
		default:
			out = append(out, d.Place(p.Table))
		}
	}
	return out
}

// isParquet, isDatabase and isWarehouse tell destinations of files, database
// files and datasets of BigQuery apart.
func isParquet(d *config.Destination) bool   { return d.Type == config.Parquet }
func isDatabase(d *config.Destination) bool  { return d.Type == config.DuckDB }
func isWarehouse(d *config.Destination) bool { return d.Type == config.Warehouse }

// askBigQuery is a command that asks a table of BigQuery, with the view that
// leaves deleted contacts out.
func askBigQuery(d *config.Destination, table, format string) string {
	return "bq query --use_legacy_sql=false '" + fmt.Sprintf(format, "`"+d.Place(table)+"_active`") + "'"
}
