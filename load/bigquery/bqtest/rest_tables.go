package bqtest

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	bq "google.golang.org/api/bigquery/v2"
)

// tableFields are the fields of a table that the stand-in has.
var tableFields = []string{
	"tableReference", "schema", "description", "friendlyName", "labels", "timePartitioning", "clustering", "requirePartitionFilter", "expirationTime",
	"tableConstraints", "maxStaleness", "view", "etag", "id", "kind", "selfLink", "creationTime", "lastModifiedTime", "location", "type",
	"numRows", "numBytes", "numLongTermBytes", "numTotalLogicalBytes",
}

func (s *Server) insertTable(ctx context.Context, r *http.Request) (any, error) {
	m := &bq.Table{}
	if _, err := readJSON(r.Body, m, tableFields...); err != nil {
		return nil, err
	}
	if m.TableReference == nil || m.TableReference.TableId == "" {
		return nil, &apiError{status: http.StatusBadRequest, reason: "required", message: "Required parameter is missing: tableReference.tableId"}
	}
	ref := m.TableReference
	if ref.ProjectId == "" {
		ref.ProjectId = r.PathValue("project")
	}
	if ref.DatasetId == "" {
		ref.DatasetId = r.PathValue("dataset")
	}
	if ref.ProjectId != r.PathValue("project") || ref.DatasetId != r.PathValue("dataset") {
		return nil, invalid("Value in content does not agree with value in URL")
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.findDataset(ref.ProjectId, ref.DatasetId)
	if err != nil {
		return nil, err
	}
	if old := d.tables[ref.TableId]; old != nil && !s.expired(old) {
		return nil, duplicate("Table", old.ref.String())
	}
	if m.ExpirationTime != 0 && m.ExpirationTime <= s.now().UnixMilli() {
		return nil, invalid("Expiration time must be in the future")
	}
	if err := s.update(tableRef{ref.ProjectId, ref.DatasetId, ref.TableId}, false); err != nil {
		return nil, err
	}
	t, err := s.newTable(ctx, d, m)
	if err != nil {
		return nil, err
	}
	t.meta.Schema = nil
	d.tables[ref.TableId] = t
	return s.resource(ctx, t)
}

func (s *Server) getTable(ctx context.Context, r *http.Request) (any, error) {
	ref := s.refOf(r)
	if err := s.settleTable(ctx, ref); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	return s.resource(ctx, t)
}

// settleTable applies the changes that are due, of a table that has any.
func (s *Server) settleTable(ctx context.Context, ref tableRef) error {
	s.mu.Lock()
	t, err := s.find(ref)
	due := err == nil && t.phys != "" && s.hasCDC(t)
	s.mu.Unlock()
	if due {
		return s.settle(ctx, ref)
	}
	return nil
}

func (s *Server) listTables(_ context.Context, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d, err := s.findDataset(r.PathValue("project"), r.PathValue("dataset"))
	if err != nil {
		return nil, err
	}
	from, limit, err := pageOf(r)
	if err != nil {
		return nil, err
	}
	all := s.sortedTables(d)
	lo, hi, next := pageWindow(len(all), from, limit)
	out := &bq.TableList{Kind: "bigquery#tableList", NextPageToken: next, TotalItems: int64(len(all))}
	for _, t := range all[lo:hi] {
		out.Tables = append(out.Tables, &bq.TableListTables{
			Kind: "bigquery#table", Id: t.ref.String(), TableReference: t.meta.TableReference, Type: t.meta.Type, Labels: t.meta.Labels,
			FriendlyName: t.meta.FriendlyName, TimePartitioning: t.meta.TimePartitioning, Clustering: t.meta.Clustering,
			CreationTime: t.created.UnixMilli(), ExpirationTime: t.meta.ExpirationTime,
		})
	}
	return out, nil
}

func (s *Server) patchTable(ctx context.Context, r *http.Request) (any, error) {
	return s.changeTableREST(ctx, r, func(t *table, fields map[string]json.RawMessage, _ *bq.Table) (*bq.Table, error) {
		m, err := mergePatch(t.meta, fields)
		if err == nil && string(fields["schema"]) == "null" {
			return nil, invalid("Provided Schema does not match Table %s. Cannot remove the schema", t.ref)
		}
		return m, err
	})
}

// updateTable replaces the resource (REST v2, tables.update).
func (s *Server) updateTable(ctx context.Context, r *http.Request) (any, error) {
	return s.changeTableREST(ctx, r, func(t *table, _ map[string]json.RawMessage, m *bq.Table) (*bq.Table, error) {
		if m.Schema == nil && t.view == nil {
			return nil, invalid("Provided Schema does not match Table %s. Cannot remove the schema", t.ref)
		}
		return m, nil
	})
}

func (s *Server) changeTableREST(ctx context.Context, r *http.Request, change func(*table, map[string]json.RawMessage, *bq.Table) (*bq.Table, error)) (any, error) {
	m := &bq.Table{}
	fields, err := readJSON(r.Body, m, tableFields...)
	if err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.find(s.refOf(r))
	if err != nil {
		return nil, err
	}
	if err := checkMatch(r, t.etag); err != nil {
		return nil, err
	}
	next, err := change(t, fields, m)
	if err != nil {
		return nil, err
	}
	next.TableReference = t.meta.TableReference
	if err := s.update(t.ref, false); err != nil {
		return nil, err
	}
	if err := s.changeTableMeta(ctx, t, next); err != nil {
		return nil, err
	}
	return s.resource(ctx, t)
}

func (s *Server) deleteTable(ctx context.Context, r *http.Request) (any, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.find(s.refOf(r))
	if err != nil {
		return nil, err
	}
	return nil, s.removeTable(ctx, t)
}

// removeTable takes a table out of the catalog; the server's lock is held.
func (s *Server) removeTable(ctx context.Context, t *table) error {
	if t.owner != nil {
		return &apiError{status: http.StatusBadRequest, reason: "resourceInUse", message: t.ref.String() + " is changed by a transaction"}
	}
	if err := s.dropRows(ctx, t); err != nil {
		return err
	}
	delete(s.datasets[t.ref.dataset].tables, t.ref.table)
	return nil
}

// listData pages through a table's rows (REST v2, tabledata.list).
func (s *Server) listData(ctx context.Context, r *http.Request) (any, error) {
	ref := s.refOf(r)
	if err := s.settleTable(ctx, ref); err != nil {
		return nil, err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	t, err := s.find(ref)
	if err != nil {
		return nil, err
	}
	if t.phys == "" {
		return nil, invalid("Cannot list a table of type %s.", t.meta.Type)
	}
	if err := s.expire(ctx, t); err != nil {
		return nil, err
	}
	from, limit, err := pageOf(r)
	if err != nil {
		return nil, err
	}
	cols, err := selected(t, r.URL.Query().Get("selectedFields"))
	if err != nil {
		return nil, err
	}
	sz, err := s.measure(ctx, s.db, t, true)
	if err != nil {
		return nil, err
	}
	total := 0
	for _, p := range sz.parts {
		total += int(p.rows)
	}
	names, types := make([]string, len(cols)), make([]*typ, len(cols))
	for i, c := range cols {
		names[i], types[i] = quoteName(c.name), ty(c.kind)
	}
	lo, hi, next := pageWindow(total, from, pageLimit(limit))
	q := fmt.Sprintf("SELECT %s FROM %s ORDER BY rowid LIMIT %d OFFSET %d", strings.Join(names, ", "), t.phys, hi-lo, lo)
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { _ = conn.Close() }() // returns it to the pool
	run := &session{s: s, ctx: ctx, conn: conn}
	rows, err := run.fetch(q, types)
	if err != nil {
		return nil, err
	}
	out := &bq.TableDataList{Kind: "bigquery#tableDataList", Etag: etag(t.version), PageToken: next, TotalRows: int64(total)}
	int64s := r.URL.Query().Get("formatOptions.useInt64Timestamp") == "true"
	for _, row := range rows {
		out.Rows = append(out.Rows, restRow(row, types, int64s))
	}
	out.ForceSendFields = []string{"TotalRows"}
	return out, nil
}

// selected are the columns that selectedFields names.
func selected(t *table, fields string) ([]column, error) {
	if fields == "" {
		return t.columns, nil
	}
	var out []column
	for name := range strings.SplitSeq(fields, ",") {
		c := t.column(name)
		if c == nil {
			return nil, invalid("No such field: %s", name)
		}
		out = append(out, *c)
	}
	return out, nil
}
