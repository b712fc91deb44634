package bqtest

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"net/http"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	bq "google.golang.org/api/bigquery/v2"
)

// job is a job and what it did.
type job struct {
	id       string
	location string
	conf     *bq.JobConfiguration
	state    string // RUNNING or DONE
	err      *apiError
	problems []*apiError
	created  time.Time
	ended    time.Time
	done     chan struct{}
	cancel   context.CancelFunc
	parent   *job
	children []*job

	out       []*outcome   // of a query: one a statement
	result    *outcome     // of a query: what it gives
	load      *loadOutcome // of a load
	processed int64
	billed    int64
	script    bool
}

// jobPattern is what a job's id can be (REST v2, JobReference.jobId).
var jobPattern = regexp.MustCompile(`^[A-Za-z0-9_-]+$`)

var jobFields = []string{"configuration", "jobReference", "kind", "etag", "id", "selfLink", "status", "statistics", "user_email"}

// work is what a job does.
type work func(ctx context.Context, j *job) error

func (s *Server) insertJob(ctx context.Context, r *http.Request) (any, error) {
	body := &bq.Job{}
	fields, err := readJSON(r.Body, body, jobFields...)
	if err != nil {
		return nil, err
	}
	return s.submit(ctx, body, fields["configuration"], nil)
}

// submit makes a job of a request and starts it. media is what a load loads.
func (s *Server) submit(ctx context.Context, body *bq.Job, raw json.RawMessage, media []byte) (any, error) {
	c := body.Configuration
	if c != nil && (c.Copy != nil || c.Extract != nil) {
		return nil, unknown("copy and extract jobs")
	}
	if c == nil || (c.Query == nil) == (c.Load == nil) {
		return nil, &apiError{status: http.StatusBadRequest, reason: "required", message: "Required parameter is missing: configuration with query or load"}
	}
	if err := checkConfiguration(raw); err != nil {
		return nil, err
	}
	do := s.queryWork
	if c.Load != nil {
		if media == nil {
			return nil, unknown("a load job without media upload")
		}
		do = s.loadWork(media)
	}
	j, err := s.newJob(body.JobReference, c)
	if err != nil {
		return nil, err
	}
	s.start(ctx, j, do)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.printJob(j), nil
}

// newJob spends a job id: "the ID must be unique"; one that was used, also by a
// job that failed, is refused ("Running jobs programmatically", "Generate a job
// ID").
func (s *Server) newJob(ref *bq.JobReference, c *bq.JobConfiguration) (*job, error) {
	if err := checkLabels(c.Labels); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	j := &job{conf: c, state: "RUNNING", created: s.now(), done: make(chan struct{}), location: "US"}
	if ref != nil {
		if ref.ProjectId != "" && ref.ProjectId != s.opts.Project {
			return nil, invalid("Value %s in content does not agree with value %s", ref.ProjectId, s.opts.Project)
		}
		j.id = ref.JobId
		if ref.Location != "" {
			j.location = ref.Location
		}
	}
	if j.id == "" {
		j.id = "job_" + strconv.FormatInt(s.nextSerial(), 10)
	}
	if len(j.id) > 1024 || !jobPattern.MatchString(j.id) {
		return nil, invalid("Invalid job ID \"%s\"", j.id)
	}
	if s.jobs[j.id] != nil {
		return nil, duplicate("Job", s.opts.Project+":"+j.location+"."+j.id)
	}
	s.jobs[j.id] = j
	s.jobOrder = append(s.jobOrder, j)
	return j, nil
}

// start runs a job and waits for it a little, so that most are done in the
// answer; the context of the request bounds that wait only.
func (s *Server) start(ctx context.Context, j *job, do work) { //nolint:contextcheck // a job outlives its request
	jobCtx, cancel := context.WithCancel(s.life)
	j.cancel = cancel
	held := make(chan struct{})
	s.running.Go(func() {
		defer cancel()
		err := s.meetJobFault(jobCtx, j, held, do)
		s.mu.Lock()
		defer s.mu.Unlock()
		j.ended, j.state = s.now(), "DONE"
		if err != nil {
			if j.err = asAPI(err); errors.Is(err, context.Canceled) {
				j.err = stopped()
			}
		}
		close(j.done)
	})
	select {
	case <-j.done:
	case <-held:
	case <-ctx.Done():
	}
}

// meetJobFault runs the work of a job with the faults of "job"; held is closed
// if one keeps it running. A job that took effect has not failed: what it does
// occurs "as one atomic update upon job completion", and "only if BigQuery is
// able to complete the job successfully" (REST v2, JobConfigurationLoad and
// JobConfigurationQuery, writeDisposition). So a fault after the effect holds it
// up, also while somebody cancels it, and is not its error.
func (s *Server) meetJobFault(ctx context.Context, j *job, held chan struct{}, do work) error {
	if s.faults.waits("job") {
		close(held)
	}
	before, after := s.fault(ctx, "job")
	if before != nil {
		return before
	}
	if err := do(ctx, j); err != nil {
		return err
	}
	_ = after() // see above
	return nil
}

// waits says whether the next fault of a call takes time.
func (f *faults) waits(call string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, x := range f.list {
		if x.Call == call && x.Times != 0 {
			return x.Skip == 0 && (x.Delay > 0 || x.OnCall != nil)
		}
	}
	return false
}

// checkConfiguration refuses settings of a job that the stand-in does not have.
func checkConfiguration(raw json.RawMessage) error {
	var top map[string]json.RawMessage
	if err := json.Unmarshal(raw, &top); err != nil {
		return invalid("Invalid configuration: %v", err)
	}
	if err := onlyKnown(top, []string{"query", "load", "dryRun", "labels", "jobType", "jobTimeoutMs"}); err != nil {
		return err
	}
	known := map[string][]string{
		"query": {
			"query", "useLegacySql", "defaultDataset", "maximumBytesBilled", "queryParameters", "parameterMode", "priority", "useQueryCache",
			"createDisposition", "writeDisposition", "destinationTable",
		},
		"load": {
			"destinationTable", "sourceFormat", "schema", "writeDisposition", "createDisposition", "schemaUpdateOptions", "maxBadRecords", "timePartitioning",
			"clustering", "ignoreUnknownValues", "autodetect", "encoding", "jsonExtension", "nullMarker", "projectionFields", "parquetOptions", "destinationTableProperties",
		},
	}
	for name, list := range known {
		if top[name] == nil {
			continue
		}
		var sub map[string]json.RawMessage
		if err := json.Unmarshal(top[name], &sub); err != nil {
			return invalid("Invalid configuration: %v", err)
		}
		if err := onlyKnown(sub, list); err != nil {
			return err
		}
		if name == "query" && string(sub["useLegacySql"]) != "false" {
			return unknown("legacy SQL, which is the default of useLegacySql")
		}
	}
	return nil
}

// findJob finds a job of the path; s.mu is held.
func (s *Server) findJob(r *http.Request) (*job, error) {
	j := s.jobs[r.PathValue("job")]
	if j == nil {
		return nil, notFound("Job", s.opts.Project+":"+r.PathValue("job"))
	}
	if l := r.URL.Query().Get("location"); l != "" && l != j.location {
		return nil, notFound("Job", s.opts.Project+":"+l+"."+j.id)
	}
	return j, nil
}

func (s *Server) getJob(_ context.Context, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	j, err := s.findJob(r)
	if err != nil {
		return nil, err
	}
	return s.printJob(j), nil
}

func (s *Server) cancelJob(ctx context.Context, r *http.Request) (any, error) {
	s.mu.Lock()
	j, err := s.findJob(r)
	if err != nil {
		s.mu.Unlock()
		return nil, err
	}
	if j.cancel != nil {
		j.cancel()
	}
	s.idle.Broadcast()
	s.mu.Unlock()
	select {
	case <-j.done:
	case <-ctx.Done():
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	return &bq.JobCancelResponse{Job: s.printJob(j), Kind: "bigquery#jobCancelResponse"}, nil
}

// listFields are the parameters of jobs.list that the stand-in has.
var listFields = []string{"maxResults", "pageToken", "parentJobId", "stateFilter", "minCreationTime", "maxCreationTime", "projection", "allUsers", "alt", "prettyPrint"}

// jobFilter says which jobs a call of jobs.list lists: top-level ones, or those of
// a script with parentJobId (REST v2, jobs.list).
func jobFilter(q url.Values) (func(j *job) bool, error) {
	for name := range q {
		if !slices.Contains(listFields, name) {
			return nil, unknown("parameter %s of jobs.list", name)
		}
	}
	if p := q.Get("projection"); p != "" && p != "full" && p != "minimal" {
		return nil, invalid("Invalid value for projection: %q", p)
	}
	for _, st := range q["stateFilter"] {
		if st != "done" && st != "pending" && st != "running" {
			return nil, invalid("Invalid value for stateFilter: %q", st)
		}
	}
	bounds := map[string]int64{"minCreationTime": math.MinInt64, "maxCreationTime": math.MaxInt64}
	for name := range bounds {
		if v := q.Get(name); v != "" {
			n, err := strconv.ParseInt(v, 10, 64)
			if err != nil || n < 0 {
				return nil, invalid("Invalid value for %s: %q", name, v)
			}
			bounds[name] = n
		}
	}
	return func(j *job) bool {
		parent := ""
		if j.parent != nil {
			parent = j.parent.id
		}
		at := j.created.UnixMilli()
		return parent == q.Get("parentJobId") && (q["stateFilter"] == nil || slices.Contains(q["stateFilter"], strings.ToLower(j.state))) &&
			at >= bounds["minCreationTime"] && at <= bounds["maxCreationTime"]
	}, nil
}

// listJobs lists jobs, newest first. Their configuration is in the answer with the
// projection full only.
func (s *Server) listJobs(_ context.Context, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	from, limit, err := pageOf(r)
	if err != nil {
		return nil, err
	}
	q := r.URL.Query()
	listed, err := jobFilter(q)
	if err != nil {
		return nil, err
	}
	var list []*job
	for _, j := range slices.Backward(s.jobOrder) {
		if listed(j) {
			list = append(list, j)
		}
	}
	lo, hi, next := pageWindow(len(list), from, limit)
	out := &bq.JobList{Kind: "bigquery#jobList", NextPageToken: next}
	for _, j := range list[lo:hi] {
		p := s.printJob(j)
		if q.Get("projection") != "full" {
			p.Configuration = nil
		}
		out.Jobs = append(out.Jobs, &bq.JobListJobs{
			Id: p.Id, JobReference: p.JobReference, Kind: "bigquery#job", State: j.state, Configuration: p.Configuration,
			Status: p.Status, Statistics: p.Statistics, ErrorResult: p.Status.ErrorResult,
		})
	}
	return out, nil
}

func errorProto(e *apiError) *bq.ErrorProto {
	return &bq.ErrorProto{Reason: e.reason, Location: e.location, Message: e.message}
}

// printJob prints a job; s.mu is held.
func (s *Server) printJob(j *job) *bq.Job {
	c := *j.conf
	c.JobType = "QUERY"
	if c.Load != nil {
		c.JobType = "LOAD"
	}
	out := &bq.Job{
		Kind: "bigquery#job", Id: s.opts.Project + ":" + j.location + "." + j.id, Configuration: &c, Etag: etag(int64(len(j.state))),
		JobReference: &bq.JobReference{ProjectId: s.opts.Project, JobId: j.id, Location: j.location},
		Status:       &bq.JobStatus{State: j.state},
		Statistics:   &bq.JobStatistics{CreationTime: j.created.UnixMilli(), StartTime: j.created.UnixMilli()},
	}
	if j.state != "DONE" {
		return out
	}
	st := out.Statistics
	st.EndTime = j.ended.UnixMilli()
	if j.err != nil {
		out.Status.ErrorResult = errorProto(j.err)
		out.Status.Errors = append(out.Status.Errors, errorProto(j.err))
	}
	for _, p := range j.problems {
		out.Status.Errors = append(out.Status.Errors, errorProto(p))
	}
	if j.parent != nil {
		st.ParentJobId = j.parent.id
	}
	st.NumChildJobs = int64(len(j.children))
	if j.load != nil {
		st.Load = j.load.statistics()
	}
	if c.Query != nil {
		st.TotalBytesProcessed = j.processed
		st.Query = j.queryStatistics()
		st.ForceSendFields = []string{"TotalBytesProcessed"}
	}
	return out
}

func (j *job) queryStatistics() *bq.JobStatistics2 {
	out := &bq.JobStatistics2{TotalBytesProcessed: j.processed, TotalBytesBilled: j.billed, ForceSendFields: []string{"TotalBytesProcessed", "TotalBytesBilled", "CacheHit"}}
	o := j.result
	if j.script {
		out.StatementType = "SCRIPT"
	} else if o != nil {
		out.StatementType = o.kind
	}
	if o == nil || j.script {
		return out
	}
	if o.dml != nil {
		out.DmlStats = o.dml
		out.NumDmlAffectedRows = o.dml.InsertedRowCount + o.dml.UpdatedRowCount + o.dml.DeletedRowCount
		out.ForceSendFields = append(out.ForceSendFields, "NumDmlAffectedRows")
	}
	if o.op != "" {
		out.DdlOperationPerformed = o.op
		if o.target != nil {
			out.DdlTargetTable = tableReference(*o.target)
		}
	}
	for _, t := range o.tables {
		out.ReferencedTables = append(out.ReferencedTables, tableReference(t))
	}
	if o.cols != nil {
		out.Schema = restSchema(o.cols)
	}
	return out
}

func tableReference(t tableRef) *bq.TableReference {
	return &bq.TableReference{ProjectId: t.project, DatasetId: t.dataset, TableId: t.table}
}
