package bqtest

import (
	"context"
	"net/http"
	"slices"

	bq "google.golang.org/api/bigquery/v2"
)

// getRoutine answers with a table function, the only kind of routine there is
// here (REST v2, Routine: TABLE_VALUED_FUNCTION "can only be used with SQL").
func (s *Server) getRoutine(_ context.Context, r *http.Request) (any, error) {
	ref := tableRef{r.PathValue("project"), r.PathValue("dataset"), r.PathValue("routine")}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.find(ref)
	if err != nil || t.meta.Type != "TABLE_FUNCTION" {
		return nil, notFound("Routine", ref.String())
	}
	return &bq.Routine{
		RoutineReference: &bq.RoutineReference{ProjectId: ref.project, DatasetId: ref.dataset, RoutineId: ref.table},
		RoutineType:      "TABLE_VALUED_FUNCTION", Language: "SQL", Description: t.meta.Description, DefinitionBody: t.meta.View.Query,
		Etag: etag(t.etag), CreationTime: t.created.UnixMilli(), LastModifiedTime: t.touched.UnixMilli(),
	}, nil
}

// listRoutines tells of the functions no more than their names and kinds (REST
// v2, routines.list; readMask is not known here).
func (s *Server) listRoutines(_ context.Context, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q := r.URL.Query(); q.Get("filter") != "" || q.Get("readMask") != "" {
		return nil, unknown("filter or readMask of routines.list")
	}
	d, err := s.findDataset(r.PathValue("project"), r.PathValue("dataset"))
	if err != nil {
		return nil, err
	}
	from, limit, err := pageOf(r)
	if err != nil {
		return nil, err
	}
	var names []string
	for name, t := range d.tables {
		if t.meta.Type == "TABLE_FUNCTION" {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	lo, hi, next := pageWindow(len(names), from, limit)
	out := &bq.ListRoutinesResponse{NextPageToken: next}
	for _, name := range names[lo:hi] {
		t := d.tables[name]
		out.Routines = append(out.Routines, &bq.Routine{
			RoutineReference: &bq.RoutineReference{ProjectId: t.ref.project, DatasetId: t.ref.dataset, RoutineId: name},
			RoutineType:      "TABLE_VALUED_FUNCTION", Language: "SQL", Etag: etag(t.etag),
			CreationTime: t.created.UnixMilli(), LastModifiedTime: t.touched.UnixMilli(),
		})
	}
	return out, nil
}

// deleteRoutine removes a table function (REST v2, routines.delete: an empty
// answer).
func (s *Server) deleteRoutine(ctx context.Context, r *http.Request) (any, error) {
	ref := tableRef{r.PathValue("project"), r.PathValue("dataset"), r.PathValue("routine")}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.find(ref)
	if err != nil || t.meta.Type != "TABLE_FUNCTION" {
		return nil, notFound("Routine", ref.String())
	}
	return nil, s.removeTable(ctx, t)
}

// unknownCall refuses a call that the stand-in does not have: a 404 would say
// that what it asks for is not there.
func unknownCall(w http.ResponseWriter, r *http.Request) {
	writeError(w, unknown("%s %s is not known", r.Method, r.URL.Path))
}
