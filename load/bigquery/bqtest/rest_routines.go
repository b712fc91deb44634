package bqtest

import (
	"context"
	"net/http"

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

// unknownCall refuses a call that the stand-in does not have: a 404 would say
// that what it asks for is not there.
func unknownCall(w http.ResponseWriter, r *http.Request) {
	writeError(w, unknown("%s %s is not known", r.Method, r.URL.Path))
}
