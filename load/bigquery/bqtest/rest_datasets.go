package bqtest

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"

	bq "google.golang.org/api/bigquery/v2"
)

// datasetFields are the fields of a dataset that the stand-in has.
var datasetFields = []string{
	"datasetReference", "location", "description", "friendlyName", "labels", "defaultTableExpirationMs", "defaultPartitionExpirationMs",
	"access", "etag", "id", "kind", "selfLink", "creationTime", "lastModifiedTime", "type", "isCaseInsensitive",
}

// addDataset adds a dataset to the catalog; the server's lock is held.
func (s *Server) addDataset(m *bq.Dataset) (*dataset, error) {
	if m.DatasetReference == nil || len(m.DatasetReference.DatasetId) > 1024 || !datasetPattern.MatchString(m.DatasetReference.DatasetId) {
		return nil, invalid("Invalid dataset ID. Dataset IDs must be alphanumeric (plus underscores) and must be at most 1024 characters long.")
	}
	name := m.DatasetReference.DatasetId
	if p := m.DatasetReference.ProjectId; p != "" && p != s.opts.Project {
		return nil, invalid("Value %s in content does not agree with value %s", p, s.opts.Project)
	}
	if s.datasets[name] != nil {
		return nil, duplicate("Dataset", s.opts.Project+":"+name)
	}
	if err := checkDataset(m); err != nil {
		return nil, err
	}
	if m.Location == "" {
		m.Location = "US" // REST v2, Dataset.location
	}
	m.DatasetReference.ProjectId = s.opts.Project
	d := &dataset{meta: m, tables: map[string]*table{}, etag: s.nextSerial()}
	m.CreationTime, m.LastModifiedTime = s.now().UnixMilli(), s.now().UnixMilli()
	s.datasets[name] = d
	return d, nil
}

// checkDataset: a default table expiration is at least an hour (REST v2,
// Dataset.defaultTableExpirationMs).
func checkDataset(m *bq.Dataset) error {
	if ms := m.DefaultTableExpirationMs; ms != 0 && ms < 3_600_000 {
		return invalid("Default table expiration must be at least 3600000 milliseconds")
	}
	if m.DefaultPartitionExpirationMs < 0 {
		return invalid("Default partition expiration must not be negative")
	}
	return checkLabels(m.Labels)
}

func (s *Server) printDataset(d *dataset) (*bq.Dataset, error) {
	m, err := clone(d.meta)
	if err != nil {
		return nil, err
	}
	m.Kind, m.Type = "bigquery#dataset", "DEFAULT"
	m.Id = s.opts.Project + ":" + m.DatasetReference.DatasetId
	m.Etag = etag(d.etag)
	m.SelfLink = s.URL() + "/bigquery/v2/projects/" + s.opts.Project + "/datasets/" + m.DatasetReference.DatasetId
	return m, nil
}

func (s *Server) insertDataset(_ context.Context, r *http.Request) (any, error) {
	m := &bq.Dataset{}
	if _, err := readJSON(r.Body, m, datasetFields...); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.addDataset(m)
	if err != nil {
		return nil, err
	}
	return s.printDataset(d)
}

func (s *Server) listDatasets(_ context.Context, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if r.URL.Query().Get("filter") != "" {
		return nil, unknown("filter of datasets.list")
	}
	names := make([]string, 0, len(s.datasets))
	for n := range s.datasets {
		names = append(names, n)
	}
	slices.Sort(names)
	from, limit, err := pageOf(r)
	if err != nil {
		return nil, err
	}
	lo, hi, next := pageWindow(len(names), from, limit)
	out := &bq.DatasetList{Kind: "bigquery#datasetList", NextPageToken: next}
	for _, n := range names[lo:hi] {
		m := s.datasets[n].meta
		out.Datasets = append(out.Datasets, &bq.DatasetListDatasets{
			DatasetReference: datasetReference(s.opts.Project, n), Id: s.opts.Project + ":" + n, Kind: "bigquery#dataset",
			FriendlyName: m.FriendlyName, Labels: m.Labels, Location: m.Location,
		})
	}
	return out, nil
}

func (s *Server) getDataset(_ context.Context, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.findDataset(r.PathValue("project"), r.PathValue("dataset"))
	if err != nil {
		return nil, err
	}
	return s.printDataset(d)
}

func (s *Server) patchDataset(_ context.Context, r *http.Request) (any, error) {
	return s.changeDataset(r, func(d *dataset, fields map[string]json.RawMessage, _ *bq.Dataset) (*bq.Dataset, error) {
		return mergePatch(d.meta, fields)
	})
}

func (s *Server) updateDataset(_ context.Context, r *http.Request) (any, error) {
	return s.changeDataset(r, func(_ *dataset, _ map[string]json.RawMessage, m *bq.Dataset) (*bq.Dataset, error) { return m, nil })
}

func (s *Server) changeDataset(r *http.Request, change func(*dataset, map[string]json.RawMessage, *bq.Dataset) (*bq.Dataset, error)) (any, error) {
	m := &bq.Dataset{}
	fields, err := readJSON(r.Body, m, datasetFields...)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.findDataset(r.PathValue("project"), r.PathValue("dataset"))
	if err != nil {
		return nil, err
	}
	if err := checkMatch(r, d.etag); err != nil {
		return nil, err
	}
	next, err := change(d, fields, m)
	if err != nil {
		return nil, err
	}
	if next.Location == "" {
		next.Location = d.meta.Location
	}
	if !strings.EqualFold(next.Location, d.meta.Location) {
		return nil, invalid("Dataset location cannot be changed after creation")
	}
	if err := checkDataset(next); err != nil {
		return nil, err
	}
	next.DatasetReference, next.CreationTime = d.meta.DatasetReference, d.meta.CreationTime
	next.LastModifiedTime = s.now().UnixMilli()
	d.meta, d.etag = next, s.nextSerial()
	return s.printDataset(d)
}

// deleteDataset: one that has tables needs deleteContents (REST v2,
// datasets.delete).
func (s *Server) deleteDataset(ctx context.Context, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.findDataset(r.PathValue("project"), r.PathValue("dataset"))
	if err != nil {
		return nil, err
	}
	name := d.meta.DatasetReference.DatasetId
	if len(d.tables) > 0 && r.URL.Query().Get("deleteContents") != "true" {
		return nil, &apiError{status: http.StatusBadRequest, reason: "resourceInUse", message: "Dataset " + s.opts.Project + ":" + name + " is still in use"}
	}
	for _, t := range d.tables {
		if err := s.removeTable(ctx, t); err != nil {
			return nil, err
		}
	}
	delete(s.datasets, name)
	return nil, nil //nolint:nilnil // 204
}
