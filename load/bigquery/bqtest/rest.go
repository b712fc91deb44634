package bqtest

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"

	bq "google.golang.org/api/bigquery/v2"
)

// maxBody bounds a request that is no upload.
const maxBody = 32 << 20

// handler does a call and gives what is printed as JSON; nil prints nothing.
type handler func(ctx context.Context, r *http.Request) (any, error)

func (s *Server) routes() http.Handler {
	api := http.NewServeMux()
	add := func(pattern, call string, h handler) { api.HandleFunc(pattern, s.serve(call, h)) }
	const dataset, tables = "/projects/{project}/datasets/{dataset}", "/projects/{project}/datasets/{dataset}/tables"
	add("GET /projects/{project}/datasets", "datasets.list", s.listDatasets)
	add("POST /projects/{project}/datasets", "datasets.insert", s.insertDataset)
	add("GET "+dataset, "datasets.get", s.getDataset)
	add("PATCH "+dataset, "datasets.patch", s.patchDataset)
	add("PUT "+dataset, "datasets.update", s.updateDataset)
	add("DELETE "+dataset, "datasets.delete", s.deleteDataset)
	add("GET "+tables, "tables.list", s.listTables)
	add("POST "+tables, "tables.insert", s.insertTable)
	add("GET "+tables+"/{table}", "tables.get", s.getTable)
	add("PATCH "+tables+"/{table}", "tables.patch", s.patchTable)
	add("PUT "+tables+"/{table}", "tables.update", s.updateTable)
	add("DELETE "+tables+"/{table}", "tables.delete", s.deleteTable)
	add("GET "+tables+"/{table}/data", "tabledata.list", s.listData)
	add("GET "+dataset+"/routines", "routines.list", s.listRoutines)
	add("GET "+dataset+"/routines/{routine}", "routines.get", s.getRoutine)
	add("DELETE "+dataset+"/routines/{routine}", "routines.delete", s.deleteRoutine)
	add("POST /projects/{project}/queries", "jobs.query", s.queryJob)
	add("GET /projects/{project}/queries/{job}", "jobs.getQueryResults", s.queryResults)
	add("GET /projects/{project}/jobs", "jobs.list", s.listJobs)
	add("POST /projects/{project}/jobs", "jobs.insert", s.insertJob)
	add("GET /projects/{project}/jobs/{job}", "jobs.get", s.getJob)
	add("POST /projects/{project}/jobs/{job}/cancel", "jobs.cancel", s.cancelJob)
	api.HandleFunc("/", unknownCall)
	top := http.NewServeMux()
	top.HandleFunc("/", unknownCall)
	top.Handle("/projects/", api)
	top.Handle("/bigquery/v2/", http.StripPrefix("/bigquery/v2", api))
	const uploads = "/upload/bigquery/v2/projects/{project}/jobs"
	top.HandleFunc("POST "+uploads, s.startUpload)
	top.HandleFunc("PUT "+uploads, s.continueUpload)
	return top
}

// serve is the frame of every call: faults, errors, JSON.
func (s *Server) serve(call string, h handler) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		before, after := s.fault(r.Context(), call)
		if before != nil {
			writeError(w, before)
			return
		}
		var out any
		var err error
		if p := r.PathValue("project"); p != s.opts.Project {
			err = notFound("Project", p)
		} else {
			out, err = h(r.Context(), r)
		}
		if fault := after(); fault != nil {
			err = fault
		}
		if err != nil {
			writeError(w, err)
			return
		}
		writeJSON(w, http.StatusOK, out)
	}
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	if v == nil {
		w.WriteHeader(http.StatusNoContent)
		return
	}
	b, err := json.Marshal(v)
	if err != nil {
		writeError(w, err)
		return
	}
	w.Header().Set("Content-Type", "application/json; charset=UTF-8")
	w.WriteHeader(status)
	_, _ = w.Write(b) // the client went away
}

// writeError prints an error ("Error messages"), or cuts the connection.
func writeError(w http.ResponseWriter, err error) {
	if errors.Is(err, errDropped) || errors.Is(err, context.Canceled) {
		panic(http.ErrAbortHandler)
	}
	e := asAPI(err)
	item := map[string]any{"message": e.message, "domain": "global", "reason": e.reason}
	if e.location != "" {
		item["location"] = e.location
	}
	writeJSON(w, e.status, map[string]any{"error": map[string]any{"code": e.status, "message": e.message, "errors": []any{item}, "status": statusName(e.status)}})
}

func statusName(code int) string {
	return map[int]string{400: "INVALID_ARGUMENT", 403: "PERMISSION_DENIED", 404: "NOT_FOUND", 409: "ALREADY_EXISTS", 412: "FAILED_PRECONDITION", 429: "RESOURCE_EXHAUSTED", 500: "INTERNAL", 503: "UNAVAILABLE"}[code]
}

// readJSON reads a body into v. known are the fields that the stand-in has; any
// other is refused.
func readJSON(body io.Reader, v any, known ...string) (map[string]json.RawMessage, error) {
	b, err := io.ReadAll(io.LimitReader(body, maxBody+1))
	if err != nil {
		return nil, invalid("read request: %v", err)
	}
	if len(b) > maxBody {
		return nil, &apiError{status: http.StatusRequestEntityTooLarge, reason: "uploadTooLarge", message: "request is too large"}
	}
	var fields map[string]json.RawMessage
	if err := json.Unmarshal(b, &fields); err != nil {
		return nil, &apiError{status: http.StatusBadRequest, reason: "parseError", message: "Invalid JSON payload received: " + err.Error()}
	}
	if err := onlyKnown(fields, known); err != nil {
		return nil, err
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	if err := dec.Decode(v); err != nil {
		return nil, invalid("Invalid JSON payload received: %v", err)
	}
	return fields, nil
}

func onlyKnown(fields map[string]json.RawMessage, known []string) error {
	for name := range fields {
		if !slices.Contains(known, name) {
			return unknown("field %s", name)
		}
	}
	return nil
}

// mergePatch changes a resource as PATCH does: what is named is replaced, null
// removes, objects are merged (REST v2, "patch semantics"; RFC 7396).
func mergePatch[T any](old *T, patch map[string]json.RawMessage) (*T, error) {
	b, err := json.Marshal(old)
	if err != nil {
		return nil, err
	}
	var cur map[string]any
	if err := json.Unmarshal(b, &cur); err != nil {
		return nil, err
	}
	for k, raw := range patch {
		var v any
		dec := json.NewDecoder(bytes.NewReader(raw))
		dec.UseNumber()
		if err := dec.Decode(&v); err != nil {
			return nil, err
		}
		mergeValue(cur, k, v)
	}
	if b, err = json.Marshal(cur); err != nil {
		return nil, err
	}
	out := new(T)
	if err := json.Unmarshal(b, out); err != nil {
		return nil, invalid("Invalid value: %v", err)
	}
	return out, nil
}

func mergeValue(cur map[string]any, key string, v any) {
	if v == nil {
		delete(cur, key)
		return
	}
	sub, ok := v.(map[string]any)
	if !ok {
		cur[key] = v
		return
	}
	old, ok := cur[key].(map[string]any)
	if !ok {
		old = map[string]any{}
	}
	for k, x := range sub {
		mergeValue(old, k, x)
	}
	cur[key] = old
}

// checkMatch is If-Match ("Optimistic concurrency": 412 where the etag differs).
func checkMatch(r *http.Request, current int64) error {
	if want := r.Header.Get("If-Match"); want != "" && want != "*" && want != etag(current) {
		return &apiError{status: http.StatusPreconditionFailed, reason: "conditionNotMet", location: "If-Match", message: "Precondition check failed."}
	}
	return nil
}

// pageOf reads maxResults and pageToken or startIndex.
func pageOf(r *http.Request) (from, limit int, err error) {
	q := r.URL.Query()
	number := func(name string) int {
		n := 0
		if v := q.Get(name); v != "" {
			var perr error
			if n, perr = strconv.Atoi(v); perr != nil || n < 0 {
				err = invalid("Invalid value for %s: %q", name, v)
			}
		}
		return n
	}
	if q.Get("maxResults") == "" {
		limit = -1
	} else {
		limit = number("maxResults")
	}
	from = number("startIndex")
	if token := q.Get("pageToken"); token != "" {
		if from, err = strconv.Atoi(strings.TrimPrefix(token, "p")); err != nil {
			err = invalid("Invalid page token")
		}
	}
	return from, limit, err
}

// window cuts a page out of n things.
func pageWindow(n, from, limit int) (lo, hi int, next string) {
	lo, hi = min(from, n), n
	if limit >= 0 && hi-lo > limit {
		hi = lo + limit
	}
	if hi < n {
		next = "p" + strconv.Itoa(hi)
	}
	return lo, hi, next
}

// refOf reads the table of a path.
func (s *Server) refOf(r *http.Request) tableRef {
	return tableRef{r.PathValue("project"), r.PathValue("dataset"), r.PathValue("table")}
}

func datasetReference(project, name string) *bq.DatasetReference {
	return &bq.DatasetReference{ProjectId: project, DatasetId: name}
}
