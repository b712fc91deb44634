// Package config reads pipelines.yaml into a checked model. Every fault is
// reported at once, each with its place and what would be right.
package config

import (
	"net"
	"path/filepath"
	"time"

	"github.com/robfig/cron/v3"

	"github.com/sluice-etl/sluice/internal/diag"
)

// Pos is a place in the file, line and column from 1.
type Pos struct{ Line, Col int }

// Config is a checked pipelines.yaml. References are resolved, paths are
// absolute, defaults are filled in. Lists are in the order of the file.
type Config struct {
	File string // as it was given to Load
	Dir  string // absolute; relative paths in the file start here

	State        State
	Daemon       Daemon
	Sources      []*Source
	Destinations []*Destination
	Pipelines    []*Pipeline
	Notify       []*Notice

	lines []string // the source, secrets masked, for diagnostics
}

// Node says where a thing and each of its keys stand.
type Node struct {
	At   Pos            // the name, or the first key
	Keys map[string]Pos // the value of each key that the file gives
}

// Pos returns where the value of key stands, At where the file leaves it out.
func (n Node) Pos(key string) Pos {
	if p, ok := n.Keys[key]; ok {
		return p
	}
	return n.At
}

// State says where state is kept.
type State struct {
	Node
	Backend string // file or gcs
	// Path is a directory of this machine, absolute: of all of the state (file),
	// or of what may be lost between runs (gcs).
	Path string
	URL  string // gs://bucket[/prefix] without a slash at the end; empty for file
	path string // of the state, as given
}

// Daemon says what holds for `sluice schedule` itself.
type Daemon struct {
	Node
	Concurrency int           // runs, reconciliations and backfills at once, at least 1
	Grace       time.Duration // for what is running when it is told to stop
	Listen      string        // HOST:PORT of the page, or ListenOff
	ListenGiven bool          // by the file
	URL         string        // where people reach the page: scheme and host; empty: at Listen
	Token       Secret        // that the page asks for, at least MinToken characters; zero for none
}

// Source is an account of a contacts endpoint.
type Source struct {
	Node
	Name string // crm, or crm["acme"] with for_each
	// Base is the name in the file, Account the key in for_each; empty without.
	Base, Account string
	Type          string // "contacts_api"
	// URL is https://host[/base], http:// where allowed, or sandbox://?options.
	// It carries no user, password or key.
	URL    string
	Scheme string // https, http or sandbox
	Host   string // host[:port] in lower case; empty for sandbox
	APIKey Secret
	// AllowInsecure lets http:// reach more than loopback.
	AllowInsecure     bool
	PageSize          int     // contacts a request, 1 to 1000
	Concurrency       int     // requests in flight at most
	RequestsPerSecond float64 // over all workers of the host
	// ConnectTimeout bounds the dial and TLS handshake of one connection.
	ConnectTimeout time.Duration
	// ResponseTimeout bounds the wait for a response's headers.
	ResponseTimeout time.Duration
	// RequestTimeout bounds one whole request, body included.
	RequestTimeout time.Duration
	// RetryFor is how long one request is repeated before the run fails.
	RetryFor time.Duration
	// CombineFilters says that the source combines `days` with created_after.
	CombineFilters bool
}

// Sandbox reports whether the source is the sandbox in this process.
func (s *Source) Sandbox() bool { return s.Scheme == schemeSandbox }

// Destination is a place that tables are written to.
type Destination struct {
	Node
	Name string
	Type string // parquet, duckdb or bigquery
	Path string // on this machine, absolute: directory (parquet) or file (duckdb); empty for others
	URL  string // gs://bucket[/prefix] without a slash at the end; empty for others
	path string // as given
	// Plain asks for files that old readers take: snappy, no DELTA encodings.
	Plain bool
	// MemoryLimit is what DuckDB may hold during a commit, in bytes; 0 for
	// other types.
	MemoryLimit int64
	BigQuery    // of type bigquery
	// QueueLimit (bytes) and QueueAge bound what waits while it fails.
	QueueLimit int64
	QueueAge   time.Duration
	// PreventDestroy keeps the destination's tables from being removed.
	PreventDestroy bool
	// PricePerTiB is what a scanned TiB costs, in US dollars, of BigQuery; 0
	// for other types.
	PricePerTiB float64
}

// BigQuery says which dataset a destination is, and how it is written.
type BigQuery struct {
	Project, Dataset string
	Location         string // empty: the dataset's own
	Method           string // stream, load or cdc
	CreateDataset    bool
	// MaximumBytesBilled bounds what one statement may be billed for, in bytes;
	// 0: nothing does.
	MaximumBytesBilled int64
	// MaxStaleness is how far a table may lag behind, of method cdc alone; 0:
	// not at all.
	MaxStaleness time.Duration
	Labels       map[string]string // on tables and jobs; nil for none
	// KeyFile is an absolute path, Impersonate a service account; empty: Google's
	// default chain, as itself.
	KeyFile, Impersonate string
	// Endpoint (http://host:port) and GRPCEndpoint (host:port) lead to an
	// emulator; empty for Google's service.
	Endpoint, GRPCEndpoint string
}

// The types of destinations.
const (
	Parquet   = "parquet"
	DuckDB    = "duckdb"
	Warehouse = "bigquery"
)

// MethodCDC is the method of change data capture.
const MethodCDC = "cdc"

// Local reports whether the destination is a file or directory of this machine.
func (d *Destination) Local() bool { return d.Path != "" }

// here reports whether nothing that is written to the destination leaves this
// machine.
func (d *Destination) here() bool {
	switch d.Type {
	case Parquet, DuckDB:
		return d.URL == ""
	case Warehouse:
		host, _, err := net.SplitHostPort(d.GRPCEndpoint)
		if d.Endpoint == "" || err != nil {
			_, rest := d.Keys["endpoint"]
			_, grpc := d.Keys["grpc_endpoint"]
			return rest || grpc // they are at fault
		}
		return loopback(host) && loopback(hostname(d.Endpoint))
	default:
		return true // its type is at fault
	}
}

// Place is where a table of the destination stands: its directory, absolute,
// or its URL; for DuckDB the database file, which may hold other tables too;
// for BigQuery the table's full name, and the dataset's for "".
func (d *Destination) Place(table string) string {
	switch {
	case d.Type == Warehouse && table == "":
		return d.Project + "." + d.Dataset
	case d.Type == Warehouse:
		return d.Project + "." + d.Dataset + "." + table
	case d.URL != "":
		return d.URL + "/" + table
	case d.Type == DuckDB:
		return d.Path
	default:
		return filepath.Join(d.Path, table)
	}
}

// Pipeline brings one source's contacts to one table in each destination.
type Pipeline struct {
	Node
	Name string // nightly, or nightly["acme"] with for_each
	// Base is the name in the file, Account the key in for_each; empty without.
	Base, Account string
	// UnionView is the view over the tables of all accounts, the same of each;
	// empty for none.
	UnionView   string
	Source      *Source
	Table       string
	Schema      string // contract file, absolute; empty for the built-in contract
	schema      string // as given
	contract    string // digest of the contract file as it was loaded
	HashKey     Secret // of the contract's policy hash; zero for none, else long enough
	Sync        string // incremental, recent or snapshot
	Days        int    // of recent; 0 for the others
	Lookback    time.Duration
	FullEvery   time.Duration       // of incremental; 0: never by itself
	Filters     map[string][]string // column to allowed values, sorted; nil for none
	Stages      []string            // UUIDs, sorted; at most one with snapshot
	Pipelines   []string            // as Stages
	Field       *Field              // nil for none
	Reconcile   *Reconcile          // nil where the file leaves it out
	Quarantine  Quarantine
	Enrich      string // none or info
	StagesTable string // of the source's stages, in every destination; empty for none
	Verify      string // full, sample or off
	// MaxRequests and MaxBytes bound what one run asks of the source; 0: nothing
	// does.
	MaxRequests, MaxBytes int64
	Destinations          []*Destination
	Schedule              string        // as given; empty for none
	Cron                  cron.Schedule // of Schedule, in Timezone; nil for none
	Timezone              *time.Location
	Jitter                time.Duration // a scheduled run begins up to so long after its time
	Overlap               string        // skip or queue
	CatchUp               bool
	Retry                 *Retry // nil: a run that failed is not repeated
	// Freshness is how old the data may become; 0: nobody has said.
	Freshness time.Duration
	// Heartbeat is a URL that hears of each sync that is done; zero for none.
	Heartbeat Secret
}

// Retry says how a run that failed is repeated.
type Retry struct {
	Node
	For                 time.Duration // after the first failure
	Backoff, MaxBackoff time.Duration
}

// Field is a filter by the value of a custom field.
type Field struct {
	Key, Value string
	Entity     string // ticket or customer; empty for either
}

// Reconcile says how deleted contacts are looked for.
type Reconcile struct {
	Node
	Schedule  string        // as given; empty for none
	Cron      cron.Schedule // of Schedule, in the pipeline's Timezone; nil for none
	MaxShare  float64       // of the table's contacts, above 0 and up to 1
	MaxProbes int           // contacts asked for one by one in a run
}

// Quarantine says what becomes of records that cannot be rows.
type Quarantine struct {
	Store      string  // auto, raw or reference
	MaxShare   float64 // of the records that a run reads, above 0 and up to 1
	MaxRecords *int    // that a run may set aside; nil: any number
}

// Source returns the source called name, nil if there is none.
func (c *Config) Source(name string) *Source {
	for _, s := range c.Sources {
		if s.Name == name {
			return s
		}
	}
	return nil
}

// Destination returns the destination called name, nil if there is none.
func (c *Config) Destination(name string) *Destination {
	for _, d := range c.Destinations {
		if d.Name == name {
			return d
		}
	}
	return nil
}

// Pipeline returns the pipeline called name, nil if there is none.
func (c *Config) Pipeline(name string) *Pipeline {
	for _, p := range c.Pipelines {
		if p.Name == name {
			return p
		}
	}
	return nil
}

// Diagnostic returns a diagnostic at a place in the file, for checks that need
// more than the file: the sandbox's options, the contract, a pipeline named on
// the command line.
func (c *Config) Diagnostic(at Pos, severity diag.Severity, summary, hint string) diag.Diagnostic {
	d := diag.Diagnostic{Severity: severity, Summary: summary, Hint: hint, File: c.File, Line: at.Line, Col: at.Col}
	if at.Line >= 1 && at.Line <= len(c.lines) {
		d.Snippet = c.lines[at.Line-1]
	}
	return d
}
