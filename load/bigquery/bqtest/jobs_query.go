package bqtest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"strconv"
	"strings"
	"time"

	bq "google.golang.org/api/bigquery/v2"
)

// queryWork runs the script of a query job.
func (s *Server) queryWork(ctx context.Context, j *job) error {
	c := j.conf.Query
	list, err := parseScript(c.Query)
	if err != nil {
		return err
	}
	if _, ok := list[0].(*queryStmt); c.DestinationTable != nil && (!ok || len(list) > 1) {
		return invalid("configuration.query.destinationTable cannot be set for scripts or statements that are no SELECT")
	}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("run query: %w", err)
	}
	defer func() { _ = conn.Close() }() // returns it to the pool
	r := &session{
		s: s, ctx: ctx, conn: conn, text: c.Query, vars: map[string]*variable{}, temps: map[string]*table{}, named: map[string]val{},
		maxBilled: c.MaximumBytesBilled, dryRun: j.conf.DryRun, now: s.now(),
	}
	if c.DefaultDataset != nil {
		r.defaultDataset = c.DefaultDataset.DatasetId
	}
	if err := r.parameters(c.QueryParameters, c.ParameterMode); err != nil {
		return err
	}
	err = r.script(list) //nolint:contextcheck // the session has the job's context
	if errors.Is(err, errReturned) {
		err = nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	err = errors.Join(err, r.finish()) //nolint:contextcheck // as above
	s.record(j, r, list)
	if err != nil {
		return scriptError(err)
	}
	return s.destination(ctx, j)
}

// scriptError keeps the first error of a script as what it is.
func scriptError(err error) error {
	var e *apiError
	if errors.As(err, &e) {
		return e
	}
	return err
}

// finish ends what a script leaves open: its transaction is rolled back, its
// temporary tables go ("Multi-statement transactions", "Transaction scope").
func (r *session) finish() error {
	var err error
	if r.tx {
		err = r.endTransaction(false)
	}
	for _, t := range r.temps { // one created in a transaction that was rolled back is gone
		_, derr := r.conn.ExecContext(context.WithoutCancel(r.ctx), "DROP TABLE IF EXISTS "+t.phys)
		err = errors.Join(err, derr)
	}
	return err
}

// record keeps what a script did: a single statement is the job's own, several
// are child jobs ("Work with multi-statement queries"). The result is that of
// the last SELECT, else of the last statement.
func (s *Server) record(j *job, r *session, list []stmt) {
	j.out = r.out
	switch list[0].(type) {
	case *declareStmt, *setStmt, *ifStmt, *blockStmt, *assertStmt, *raiseStmt, *txStmt, *returnStmt:
		j.script = true
	default:
		j.script = len(list) > 1
	}
	for i, o := range r.out {
		j.processed += o.processed
		j.billed += o.billed
		j.result = o
		if !j.script {
			continue
		}
		child := &job{
			id: "script_job_" + j.id + "_" + strconv.Itoa(i), location: j.location, state: "DONE", created: j.created, ended: s.now(), done: make(chan struct{}),
			parent: j, out: []*outcome{o}, result: o, processed: o.processed, billed: o.billed,
			conf: &bq.JobConfiguration{Query: &bq.JobConfigurationQuery{Query: o.text}},
		}
		close(child.done)
		j.children = append(j.children, child)
		s.jobs[child.id] = child
		s.jobOrder = append(s.jobOrder, child)
	}
}

// destination writes the rows of a query into a table; s.mu is held.
func (s *Server) destination(ctx context.Context, j *job) error {
	c := j.conf.Query
	if c.DestinationTable == nil || j.conf.DryRun {
		return nil
	}
	cols := make([]column, len(j.result.cols))
	for i, c := range j.result.cols {
		if !isScalarKind(c.val.typ.kind) {
			return unknown("a result column of type %s in a destination table", c.val.typ)
		}
		cols[i] = column{name: c.name, kind: c.val.typ.kind}
	}
	l := &loading{s: s, ctx: ctx, dest: c.DestinationTable, create: c.CreateDisposition, write: c.WriteDisposition, schema: schemaFields(cols)}
	if l.write == "" {
		l.write = "WRITE_EMPTY" // REST v2, JobConfigurationQuery.writeDisposition
	}
	names := make([]string, len(cols))
	for i, c := range cols {
		names[i] = c.name
	}
	if err := l.count(); err != nil {
		return err
	}
	return l.put([]batch{{columns: names, rows: j.result.rows}})
}

// parameters reads the parameters of a query.
func (r *session) parameters(list []*bq.QueryParameter, mode string) error {
	for _, p := range list {
		if p.ParameterType == nil || p.ParameterValue == nil {
			return invalid("Query parameter has no type or value")
		}
		t, err := parameterType(p.ParameterType)
		if err != nil {
			return err
		}
		v, err := parameterValue(t, p.ParameterValue)
		if err != nil {
			return err
		}
		x := val{sql: literalSQL(t, v), typ: t, literal: true, constant: true}
		x.text, _ = v.(string)
		if t.kind == "ARRAY" || t.kind == "STRUCT" || v == nil {
			x.literal = false
		}
		switch {
		case p.Name == "" && mode != "NAMED":
			r.positional = append(r.positional, x)
		case p.Name != "" && mode != "POSITIONAL":
			r.named[strings.ToLower(p.Name)] = x
		default:
			return invalid("Query parameters do not fit the parameter mode %s", mode)
		}
	}
	return nil
}

func parameterType(p *bq.QueryParameterType) (*typ, error) {
	switch p.Type {
	case "ARRAY":
		elem, err := parameterType(p.ArrayType)
		return &typ{kind: "ARRAY", elem: elem}, err
	case "STRUCT":
		t := &typ{kind: "STRUCT"}
		for _, f := range p.StructTypes {
			ft, err := parameterType(f.Type)
			if err != nil {
				return nil, err
			}
			t.fields = append(t.fields, field{f.Name, ft})
		}
		return t, nil
	}
	kind, ok := kindOfField(p.Type)
	if !ok {
		return nil, invalid("Invalid query parameter type: %s", p.Type)
	}
	return ty(kind), nil
}

func parameterValue(t *typ, p *bq.QueryParameterValue) (any, error) {
	switch t.kind {
	case "ARRAY":
		out := []any{}
		for _, e := range p.ArrayValues {
			v, err := parameterValue(t.elem, e)
			if err != nil {
				return nil, err
			}
			out = append(out, v)
		}
		return out, nil
	case "STRUCT":
		out := map[string]any{}
		for i, f := range t.fields {
			x := p.StructValues[f.name]
			v, err := parameterValue(f.typ, &x)
			if err != nil {
				return nil, err
			}
			out[fieldName(i)] = v
		}
		return out, nil
	}
	// The client names NULL by leaving value out, which decodes to "" without
	// being there; an empty STRING it sends.
	if p.Value == "" && t.kind != "STRING" && t.kind != "BYTES" {
		return nil, nil //nolint:nilnil // NULL
	}
	if t.kind == "BYTES" {
		return base64Bytes(p.Value)
	}
	v, err := parseText(t.kind, p.Value)
	if err != nil {
		return nil, invalid("Invalid query parameter value: %v", err)
	}
	if r, ok := v.(*big.Rat); ok {
		return r, nil
	}
	return v, nil
}

// queryJob is jobs.query: a query job and its first page.
func (s *Server) queryJob(ctx context.Context, r *http.Request) (any, error) {
	q := &bq.QueryRequest{}
	fields, err := readJSON(r.Body, q, "kind", "query", "maxResults", "defaultDataset", "timeoutMs", "dryRun", "useQueryCache", "useLegacySql", "parameterMode",
		"queryParameters", "location", "formatOptions", "labels", "maximumBytesBilled", "requestId", "jobCreationMode")
	if err != nil {
		return nil, err
	}
	if string(fields["useLegacySql"]) != "false" {
		return nil, unknown("legacy SQL, which is the default of useLegacySql")
	}
	conf := &bq.JobConfiguration{DryRun: q.DryRun, Labels: q.Labels, Query: &bq.JobConfigurationQuery{
		Query: q.Query, DefaultDataset: q.DefaultDataset, MaximumBytesBilled: q.MaximumBytesBilled, ParameterMode: q.ParameterMode, QueryParameters: q.QueryParameters,
	}}
	j, err := s.requestedJob(ctx, q, conf)
	if err != nil {
		return nil, err
	}
	wait := time.Duration(q.TimeoutMs) * time.Millisecond
	if !await(ctx, j, wait) {
		return &bq.QueryResponse{Kind: "bigquery#queryResponse", JobReference: s.jobReference(j), ForceSendFields: []string{"JobComplete"}}, nil
	}
	limit := -1
	if fields["maxResults"] != nil {
		limit = int(q.MaxResults)
	}
	p, err := s.page(j, 0, limit, q.FormatOptions != nil && q.FormatOptions.UseInt64Timestamp)
	if err != nil {
		return nil, err
	}
	b, err := json.Marshal(p)
	if err != nil {
		return nil, err
	}
	out := &bq.QueryResponse{}
	if err := json.Unmarshal(b, out); err != nil {
		return nil, err
	}
	out.Kind, out.TotalBytesBilled = "bigquery#queryResponse", j.billed
	out.Location, out.QueryId = j.location, ""
	out.ForceSendFields = []string{"TotalRows", "NumDmlAffectedRows"}
	if out.NumDmlAffectedRows == 0 && (j.result == nil || j.result.dml == nil) {
		out.ForceSendFields = nil
	}
	return out, nil
}

// request is a call of jobs.query that had a requestId.
type request struct {
	at  time.Time
	job *job
	as  string // what of it affects the result
}

// requestLife is how long a requestId tells a repeated request.
const requestLife = 15 * time.Minute

// requestedJob starts the job of a request, or finds that of one that it repeats:
// with the same requestId and all else the same that may affect the result, in 15
// minutes, and no dry run (REST v2, QueryRequest.requestId).
func (s *Server) requestedJob(ctx context.Context, q *bq.QueryRequest, conf *bq.JobConfiguration) (*job, error) {
	if len(q.RequestId) > 36 || strings.ContainsFunc(q.RequestId, func(c rune) bool { return c > 127 }) {
		return nil, invalid("Invalid value for requestId: at most 36 ASCII characters")
	}
	same := *q
	same.TimeoutMs, same.MaxResults, same.FormatOptions = 0, 0, nil
	as, err := json.Marshal(same)
	if err != nil {
		return nil, err
	}
	now := s.now()
	known := q.RequestId != "" && !q.DryRun
	s.mu.Lock()
	old := s.requests[q.RequestId]
	s.mu.Unlock()
	if known && old != nil && old.as == string(as) && now.Sub(old.at) < requestLife {
		return old.job, nil
	}
	j, err := s.newJob(&bq.JobReference{Location: q.Location}, conf)
	if err != nil {
		return nil, err
	}
	if known {
		s.mu.Lock()
		s.requests[q.RequestId] = &request{at: now, job: j, as: string(as)}
		s.mu.Unlock()
	}
	s.start(ctx, j, s.queryWork)
	return j, nil
}

func (s *Server) jobReference(j *job) *bq.JobReference {
	return &bq.JobReference{ProjectId: s.opts.Project, JobId: j.id, Location: j.location}
}

// await waits for a job, 10 seconds if wait is 0 (REST v2, QueryRequest.timeoutMs).
func await(ctx context.Context, j *job, wait time.Duration) bool {
	if wait <= 0 {
		wait = 10 * time.Second
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-j.done:
		return true
	case <-timer.C:
		return false
	case <-ctx.Done():
		return false
	}
}

// queryResults is jobs.getQueryResults.
func (s *Server) queryResults(ctx context.Context, r *http.Request) (any, error) {
	s.mu.Lock()
	j, err := s.findJob(r)
	s.mu.Unlock()
	if err != nil {
		return nil, err
	}
	if j.conf.Query == nil {
		return nil, invalid("Cannot get the results of a job that is no query")
	}
	ms, err := strconv.ParseInt("0"+r.URL.Query().Get("timeoutMs"), 10, 32)
	if err != nil {
		return nil, invalid("Invalid value for timeoutMs")
	}
	if !await(ctx, j, time.Duration(ms)*time.Millisecond) {
		return &bq.GetQueryResultsResponse{Kind: "bigquery#getQueryResultsResponse", JobReference: s.jobReference(j), ForceSendFields: []string{"JobComplete"}}, nil
	}
	from, limit, err := pageOf(r)
	if err != nil {
		return nil, err
	}
	return s.page(j, from, limit, r.URL.Query().Get("formatOptions.useInt64Timestamp") == "true")
}

// jobError is how jobs.query and jobs.getQueryResults tell that a job failed: a
// transient error has another name there and status 400, since not the call but
// the job is to be tried again ("Error messages", jobBackendError and others).
func jobError(e *apiError) *apiError {
	named := map[string]string{"backendError": "jobBackendError", "internalError": "jobInternalError", "rateLimitExceeded": "jobRateLimitExceeded"}
	if named[e.reason] == "" {
		return e
	}
	of := *e
	of.status, of.reason = http.StatusBadRequest, named[e.reason]
	return &of
}

// page prints rows of a query that is done.
func (s *Server) page(j *job, from, limit int, int64Timestamps bool) (*bq.GetQueryResultsResponse, error) {
	if j.err != nil {
		return nil, jobError(j.err)
	}
	out := &bq.GetQueryResultsResponse{
		Kind: "bigquery#getQueryResultsResponse", JobReference: s.jobReference(j), JobComplete: true, TotalBytesProcessed: j.processed,
		Etag: etag(1), ForceSendFields: []string{"TotalRows", "TotalBytesProcessed", "CacheHit"},
	}
	o := j.result
	if o == nil {
		return out, nil
	}
	if o.dml != nil {
		out.NumDmlAffectedRows = o.dml.InsertedRowCount + o.dml.UpdatedRowCount + o.dml.DeletedRowCount
		out.ForceSendFields = append(out.ForceSendFields, "NumDmlAffectedRows")
	}
	if o.cols == nil {
		return out, nil
	}
	out.Schema = restSchema(o.cols)
	out.TotalRows = uint64(len(o.rows))
	types := make([]*typ, len(o.cols))
	for i, c := range o.cols {
		types[i] = c.val.typ
	}
	lo, hi, next := pageWindow(len(o.rows), from, pageLimit(limit))
	out.PageToken = next
	for _, row := range o.rows[lo:hi] {
		out.Rows = append(out.Rows, restRow(row, types, int64Timestamps))
	}
	return out, nil
}
