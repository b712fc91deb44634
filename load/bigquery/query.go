package bigquery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/google/uuid"
	bq "google.golang.org/api/bigquery/v2"
	"google.golang.org/api/googleapi"
)

const (
	// pollTime is how long the service holds a question for a job's results.
	pollTime = 30 * time.Second
	// pageRows is how many rows a page of results has at most. The service ends
	// a page earlier where it grows beyond 20 MB.
	pageRows = 10000
	// cancelTimeout is what a job that nobody waits for any more has to be told.
	cancelTimeout = 5 * time.Second
	// mostRuns bounds how often a statement starts that failed for no reason of
	// its own.
	mostRuns = 4
)

// param is a named parameter of a query.
type param struct {
	name, kind, text string
}

func textParam(name, v string) param { return param{name, "STRING", v} }

func intParam(name string, v int64) param { return param{name, "INT64", strconv.FormatInt(v, 10)} }

func timeParam(name string, v time.Time) param { return param{name, "TIMESTAMP", timeText(v)} }

// timeText is a timestamp as literals, parameters and load files have it: UTC,
// to the microsecond (Data types, "Timestamp type").
func timeText(v time.Time) string { return string(appendTime(nil, v)) }

func appendTime(b []byte, v time.Time) []byte {
	return append(v.UTC().AppendFormat(b, "2006-01-02 15:04:05.000000"), "+00:00"...)
}

// jobStats is what a job did and cost.
type jobStats struct {
	Job       string // its id
	Processed int64  // bytes that it read
	Billed    int64  // bytes that it is billed for
	Affected  int64  // rows that its statement of DML changed
	Cached    bool   // it read nothing, for the result was there
}

// rows are a query's result, page by page.
type rows struct {
	r      *remote
	job    *bq.JobReference
	fields []*bq.TableFieldSchema
	page   []*bq.TableRow
	token  string
	total  uint64
}

// query runs a statement, or a script whose last SELECT is the result. It has
// taken effect once when query returns nil, and not at all where it returns a
// *jobError, provided that a script is one transaction: each attempt has a job
// id, by which a job is found whose answer was lost, and another attempt starts
// only after the job before it has failed.
func (r *remote) query(ctx context.Context, sql string, params ...param) (*rows, jobStats, error) {
	location, err := r.where(ctx)
	if err != nil {
		return nil, jobStats{}, err
	}
	for run := 1; ; run++ {
		ref := &bq.JobReference{ProjectId: r.o.Project, Location: location, JobId: "sluice_" + strings.ReplaceAll(uuid.NewString(), "-", "")}
		q, stats, err := r.runQuery(ctx, ref, sql, params)
		var failed *jobError
		if err == nil || run == mostRuns || !errors.As(err, &failed) || !again(err) {
			return q, stats, explain("run a statement", r.o.place(r.o.Table), err)
		}
		if err := r.wait(ctx, run); err != nil {
			return nil, jobStats{}, err
		}
	}
}

func (r *remote) runQuery(ctx context.Context, ref *bq.JobReference, sql string, params []param) (*rows, jobStats, error) {
	standard := false
	config := &bq.JobConfigurationQuery{Query: sql, UseLegacySql: &standard, MaximumBytesBilled: r.o.MaximumBytesBilled}
	for _, p := range params {
		config.QueryParameters = append(config.QueryParameters, &bq.QueryParameter{
			Name: p.name, ParameterType: &bq.QueryParameterType{Type: p.kind},
			ParameterValue: &bq.QueryParameterValue{Value: p.text, ForceSendFields: []string{"Value"}},
		})
	}
	if len(params) > 0 {
		config.ParameterMode = "NAMED"
	}
	job := &bq.Job{JobReference: ref, Configuration: &bq.JobConfiguration{Labels: r.o.labels(), Query: config}}
	err := r.retry(ctx, func(ctx context.Context) error {
		_, err := r.rest.Jobs.Insert(ref.ProjectId, job).Context(ctx).Do()
		return spent(err)
	})
	if err != nil {
		return nil, jobStats{}, err
	}
	q := &rows{r: r, job: ref}
	if err := q.wait(ctx); err != nil {
		if ctx.Err() != nil {
			r.cancel(ctx, ref)
		}
		return nil, jobStats{}, err
	}
	done, err := r.fate(ctx, ref)
	if err != nil {
		return nil, jobStats{}, err
	}
	stats := statsOf(done)
	r.scanned.Add(stats.scanned())
	return q, stats, nil
}

// spent takes a job's id that is in use for success: ids are ours alone, so it
// is an earlier attempt whose answer was lost.
func spent(err error) error {
	if httpCode(err) == http.StatusConflict {
		return nil
	}
	return err
}

// wait blocks until the job has ended, and keeps the first page of its result.
func (q *rows) wait(ctx context.Context) error {
	for {
		complete := false
		var failed error
		err := q.r.retry(ctx, func(ctx context.Context) error {
			res, err := q.r.rest.Jobs.GetQueryResults(q.job.ProjectId, q.job.JobId).Location(q.job.Location).
				MaxResults(pageRows).TimeoutMs(pollTime.Milliseconds()).FormatOptionsUseInt64Timestamp(true).Context(ctx).Do()
			if err != nil {
				// The call fails with the job's own error too; the job tells.
				if _, fate := q.r.ask(ctx, q.job); isFailed(fate) {
					failed = fate
					return nil
				}
				return err
			}
			if complete = res.JobComplete; complete {
				q.page, q.token, q.total = res.Rows, res.PageToken, res.TotalRows
				if res.Schema != nil {
					q.fields = res.Schema.Fields
				}
			}
			return nil
		})
		if err != nil || failed != nil {
			return cmp.Or(err, failed)
		}
		if complete {
			return nil
		}
	}
}

func isFailed(err error) bool {
	var je *jobError
	return errors.As(err, &je)
}

// fate returns a job as it is now; one that failed is a *jobError.
func (r *remote) fate(ctx context.Context, ref *bq.JobReference) (*bq.Job, error) {
	var job *bq.Job
	var failed error
	err := r.retry(ctx, func(ctx context.Context) (err error) {
		if job, err = r.ask(ctx, ref); isFailed(err) {
			failed, err = err, nil
		}
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("ask for job %s: %w", ref.JobId, err)
	}
	return job, failed
}

// ask looks at a job once.
func (r *remote) ask(ctx context.Context, ref *bq.JobReference) (*bq.Job, error) {
	job, err := r.rest.Jobs.Get(ref.ProjectId, ref.JobId).Location(ref.Location).Context(ctx).Do()
	if err != nil || job.Status == nil || job.Status.State != "DONE" || job.Status.ErrorResult == nil {
		return job, err
	}
	e := &jobError{id: ref.JobId, reason: job.Status.ErrorResult.Reason, message: job.Status.ErrorResult.Message}
	for _, m := range job.Status.Errors {
		if m.Message != e.message && len(e.more) < 5 {
			e.more = append(e.more, strings.TrimSpace(m.Location+" "+m.Message))
		}
	}
	return job, e
}

// cancel tells the service that nobody waits for a job any more. What becomes
// of it is for the next commit to find out.
func (r *remote) cancel(ctx context.Context, ref *bq.JobReference) {
	ctx, done := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer done()
	_, _ = r.rest.Jobs.Cancel(ref.ProjectId, ref.JobId).Location(ref.Location).Context(ctx).Do() // best effort, see above
}

// scanned is what a job is billed for, and what it has read where the service
// tells nothing of that.
func (s jobStats) scanned() int64 {
	if s.Cached {
		return 0
	}
	return cmp.Or(s.Billed, s.Processed)
}

func statsOf(job *bq.Job) jobStats {
	s := jobStats{Job: job.JobReference.JobId}
	if job.Statistics == nil {
		return s
	}
	s.Processed = job.Statistics.TotalBytesProcessed
	if q := job.Statistics.Query; q != nil {
		s.Billed, s.Affected, s.Cached = q.TotalBytesBilled, q.NumDmlAffectedRows, q.CacheHit
		s.Processed = max(s.Processed, q.TotalBytesProcessed)
	}
	return s
}

// each gives the rows in order. A value is nil, string, int64, float64, bool or
// time.Time (UTC; midnight of a DATE); JSON is its text. The slice is valid
// during the call.
func (q *rows) each(ctx context.Context, f func(row []any) error) error {
	values := make([]any, len(q.fields))
	for {
		for _, row := range q.page {
			if len(row.F) != len(q.fields) {
				return fmt.Errorf("read result of job %s: a row has %d values, want %d", q.job.JobId, len(row.F), len(q.fields))
			}
			for i, cell := range row.F {
				v, err := cellValue(q.fields[i].Type, cell.V)
				if err != nil {
					return fmt.Errorf("read result of job %s: column %s: %w", q.job.JobId, q.fields[i].Name, err)
				}
				values[i] = v
			}
			if err := f(values); err != nil {
				return err
			}
		}
		if q.token == "" {
			return nil
		}
		if err := q.turn(ctx); err != nil {
			return err
		}
	}
}

// one returns the only row of a result.
func (q *rows) one(ctx context.Context) ([]any, error) {
	var out []any
	n := 0
	err := q.each(ctx, func(row []any) error {
		out = append(out[:0], row...)
		n++
		return nil
	})
	if err == nil && n != 1 {
		err = fmt.Errorf("read result of job %s: %d rows, want 1", q.job.JobId, n)
	}
	return out, err
}

// turn fetches the next page.
func (q *rows) turn(ctx context.Context) error {
	err := q.r.retry(ctx, func(ctx context.Context) error {
		res, err := q.r.rest.Jobs.GetQueryResults(q.job.ProjectId, q.job.JobId).Location(q.job.Location).
			MaxResults(pageRows).PageToken(q.token).FormatOptionsUseInt64Timestamp(true).Context(ctx).Do()
		if err != nil {
			return err
		}
		q.page, q.token = res.Rows, res.PageToken
		return nil
	})
	if err != nil {
		return explain("read the result of a statement", q.r.o.place(q.r.o.Table), err)
	}
	return nil
}

// cellValue reads a cell as REST prints it, with timestamps as microseconds
// (DataFormatOptions.useInt64Timestamp).
func cellValue(kind string, v any) (any, error) {
	if v == nil {
		return nil, nil
	}
	s, ok := v.(string)
	if !ok {
		return nil, fmt.Errorf("a %T instead of text", v)
	}
	switch plainKind(kind) {
	case "INT64":
		return strconv.ParseInt(s, 10, 64)
	case "FLOAT64":
		return strconv.ParseFloat(s, 64)
	case "BOOL":
		return strconv.ParseBool(s)
	case "TIMESTAMP":
		us, err := strconv.ParseInt(s, 10, 64)
		return time.UnixMicro(us).UTC(), err
	case "DATE":
		return time.Parse(time.DateOnly, s)
	case "STRING", "JSON":
		return s, nil
	default:
		return nil, fmt.Errorf("type %s is none that is read here", kind)
	}
}

// where returns the location that jobs run in: the dataset's.
func (r *remote) where(ctx context.Context) (string, error) {
	r.mu.Lock()
	known := r.location
	r.mu.Unlock()
	if known != "" {
		return known, nil
	}
	d, err := r.dataset(ctx)
	if err != nil {
		return "", err
	}
	if d == nil {
		return "", r.noDataset()
	}
	return d.Location, nil
}

// dataset returns the dataset, nil where there is none, and keeps its location.
func (r *remote) dataset(ctx context.Context) (*bq.Dataset, error) {
	var d *bq.Dataset
	err := r.retry(ctx, func(ctx context.Context) (err error) {
		d, err = r.rest.Datasets.Get(r.o.Project, r.o.Dataset).Context(ctx).Do()
		return err
	})
	if notFound(err) {
		return nil, nil
	}
	if err != nil {
		return nil, explain("look at dataset", r.o.Project+"."+r.o.Dataset, err)
	}
	r.settle(d)
	return d, nil
}

func (r *remote) settle(d *bq.Dataset) {
	r.mu.Lock()
	r.location = d.Location
	r.mu.Unlock()
}

func (r *remote) noDataset() error {
	return &Error{
		Message: "there is no such dataset", Table: r.o.Project + "." + r.o.Dataset, Err: &googleapi.Error{Code: http.StatusNotFound, Message: "not found"},
		hint: "Create it in the location that the data is to stay in, or set create_dataset: true.",
	}
}
