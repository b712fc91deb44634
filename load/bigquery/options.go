package bigquery

import (
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/load"
)

// Method is how rows get to BigQuery.
type Method string

// The methods. The first two differ in how a package's rows reach the staging
// table; the table itself then changes by one MERGE. The third upserts single
// rows.
const (
	Stream Method = "stream" // Storage Write API, pending streams
	Load   Method = "load"   // load jobs
	CDC    Method = "cdc"    // change data capture
)

// Valid reports whether m is one of the methods.
func (m Method) Valid() bool { return m == Stream || m == Load || m == CDC }

// Options say which table of which dataset, and how to get there.
type Options struct {
	// Project, Dataset and Table name the table of current rows. The others are
	// named after it: <table>_history, and <table>__staging and
	// <table>__commits, which are the loader's own. Required.
	Project, Dataset, Table string
	// Stages names the dataset's table of stages, which several tables of contacts
	// may share. Default: there is none, and views name no stages.
	Stages string
	// Union is the view over the tables of all accounts, this one's included.
	// Default: there is none.
	Union load.Union
	// Location is where a dataset is created and jobs run, as US. Default: the
	// dataset's, and US for one that is to be created.
	Location string
	// CreateDataset has the first commit create a dataset that does not exist.
	CreateDataset bool
	// Method is how rows are written. Required.
	Method Method
	// MaximumBytesBilled makes the service refuse a statement that would be
	// billed for more. 0: no limit.
	MaximumBytesBilled int64
	// MaxStaleness is how far queries of a table of method CDC may lag behind,
	// which makes them cheaper. Only with CDC. Default: 0, always up to date.
	MaxStaleness time.Duration
	// Labels are set on every table and job, beside the loader's own.
	Labels map[string]string
	// Timezone gives the calendar of the views' *_date columns. Default: UTC.
	Timezone *time.Location
	// KeyFile is a service account's key; Impersonate a service account to act
	// as. Default: application default credentials, as themselves.
	KeyFile, Impersonate string
	// Endpoint (http://host:port) and GRPCEndpoint (host:port) lead to an
	// emulator, without authentication. Both or neither.
	Endpoint, GRPCEndpoint string
	// InFlight is how many appends or load jobs are under way at once.
	// Default: 4.
	InFlight int
	// Clock dates what is stored. Default: clock.System.
	Clock clock.Clock
}
