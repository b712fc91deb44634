package bqtest

import (
	"context"
	"fmt"
	"slices"
	"strings"

	bq "google.golang.org/api/bigquery/v2"
)

// newTable makes a table of a resource; the server's lock is held. Nothing is in
// the catalog yet.
func (s *Server) newTable(ctx context.Context, d *dataset, m *bq.Table) (*table, error) {
	ref := tableRef{m.TableReference.ProjectId, m.TableReference.DatasetId, m.TableReference.TableId}
	now := s.now()
	t := &table{ref: ref, meta: m, created: now, touched: now, etag: s.nextSerial()}
	if m.View != nil {
		return t, s.makeView(ctx, t, nil)
	}
	var fields []*bq.TableFieldSchema
	if m.Schema != nil {
		fields = m.Schema.Fields
	}
	var err error
	if t.columns, err = columnsOfSchema(fields, now); err != nil {
		return nil, err
	}
	if err := checkTable(m, t.columns); err != nil {
		return nil, err
	}
	if len(t.columns) == 0 {
		return nil, unknown("a table without columns")
	}
	m.Type = "TABLE"
	s.defaultExpiry(d, m)
	return t, s.createRows(ctx, t)
}

// defaultExpiry: a new table takes the dataset's default partition expiration if
// it is partitioned, and else the default table expiration; what it states
// itself comes first (REST v2, Dataset.defaultPartitionExpirationMs).
func (s *Server) defaultExpiry(d *dataset, m *bq.Table) {
	partitions := d.meta.DefaultPartitionExpirationMs
	if m.TimePartitioning != nil && partitions > 0 {
		if m.TimePartitioning.ExpirationMs == 0 {
			m.TimePartitioning.ExpirationMs = partitions
		}
		return
	}
	if ms := d.meta.DefaultTableExpirationMs; ms > 0 && m.ExpirationTime == 0 {
		m.ExpirationTime = s.now().UnixMilli() + ms
	}
}

// makeView parses and checks the query of a view or table function.
func (s *Server) makeView(ctx context.Context, t *table, params []columnDef) error {
	text := t.meta.View.Query
	if t.meta.View.UseLegacySql {
		return unknown("legacy SQL")
	}
	q, err := parseQuery(text)
	if err != nil {
		return err
	}
	t.view = &view{query: q, text: text, params: params}
	conn, err := s.db.Conn(ctx)
	if err != nil {
		return fmt.Errorf("create view: %w", err)
	}
	defer func() { _ = conn.Close() }() // returns it to the pool
	r := &session{s: s, ctx: ctx, conn: conn, text: text, now: s.now()}
	a := &analyzer{s: s, run: r}
	if params != nil {
		a.args = map[string]val{}
		for _, p := range params {
			a.args[strings.ToLower(p.name)] = val{sql: "CAST(NULL AS " + p.typ.engine() + ")", typ: p.typ, constant: true}
		}
	}
	sub, err := a.query(q, nil)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for i, c := range sub.cols {
		if c.name == "" {
			return invalid("CREATE VIEW columns must be named, but column %d has no name", i+1)
		}
		if seen[strings.ToLower(c.name)] {
			return invalid("CREATE VIEW has columns with duplicate name %s", c.name)
		}
		seen[strings.ToLower(c.name)] = true
		t.columns = append(t.columns, column{name: c.name, kind: c.val.typ.String(), since: s.now()})
	}
	t.meta.Type = "VIEW"
	if params != nil {
		t.meta.Type = "TABLE_FUNCTION"
	}
	return checkLabels(t.meta.Labels)
}

// changeTableMeta puts a changed resource in the place of a table's; the
// server's lock is held.
func (s *Server) changeTableMeta(ctx context.Context, t *table, m *bq.Table) error {
	if t.view != nil {
		n := &table{ref: t.ref, meta: m}
		if m.View == nil {
			return invalid("Cannot turn a view into a table")
		}
		if err := s.makeView(ctx, n, t.view.params); err != nil {
			return err
		}
		t.view, t.columns = n.view, n.columns
		return s.replaceMeta(t, m)
	}
	cols := t.columns
	if m.Schema != nil {
		var err error
		if cols, err = evolve(t, m.Schema.Fields, s.now()); err != nil {
			return err
		}
	}
	if err := checkTable(m, cols); err != nil {
		return err
	}
	if err := samePartitioning(t.meta, m); err != nil {
		return err
	}
	if err := s.alterRows(ctx, t, cols); err != nil {
		return err
	}
	t.columns = cols
	return s.replaceMeta(t, m)
}

func (s *Server) replaceMeta(t *table, m *bq.Table) error {
	m.Schema = nil
	m.Type = t.meta.Type
	t.meta = m
	t.etag = s.nextSerial()
	t.touched = s.now()
	return nil
}

// samePartitioning: how a table is partitioned cannot change ("Managing
// partitioned tables"); the expiration and the clustering can.
func samePartitioning(old, m *bq.Table) error {
	a, b := old.TimePartitioning, m.TimePartitioning
	if (a == nil) != (b == nil) || a != nil && (a.Type != b.Type || !strings.EqualFold(a.Field, b.Field)) {
		return invalid("Cannot change partitioning spec for a partitioned table.")
	}
	return nil
}

// alterRows brings the stored table to its new columns.
func (s *Server) alterRows(ctx context.Context, t *table, cols []column) error {
	for i, c := range cols {
		var q string
		switch {
		case i >= len(t.columns):
			q = " ADD COLUMN " + quoteName(c.name) + " " + dataType(c.kind)
		case t.columns[i].required && !c.required:
			q = " ALTER COLUMN " + quoteName(c.name) + " DROP NOT NULL"
		default:
			continue
		}
		if _, err := s.db.ExecContext(ctx, "ALTER TABLE "+t.phys+q); err != nil {
			return fmt.Errorf("alter table: %w", err)
		}
		t.version++
	}
	return nil
}

// resource prints a table as REST does.
func (s *Server) resource(ctx context.Context, t *table) (*bq.Table, error) {
	m, err := clone(t.meta)
	if err != nil {
		return nil, err
	}
	m.Kind = "bigquery#table"
	m.Id = t.ref.String()
	m.SelfLink = s.URL() + "/bigquery/v2/projects/" + t.ref.project + "/datasets/" + t.ref.dataset + "/tables/" + t.ref.table
	m.Etag = etag(t.etag)
	m.CreationTime = t.created.UnixMilli()
	m.LastModifiedTime = uint64(max(t.touched.UnixMilli(), 0))
	m.Location = s.datasets[t.ref.dataset].meta.Location
	m.Schema = &bq.TableSchema{Fields: schemaFields(t.columns)}
	if t.view != nil {
		return m, nil
	}
	if t.owner == nil {
		if err := s.expire(ctx, t); err != nil {
			return nil, err
		}
	}
	sz, err := s.measure(ctx, s.db, t, true)
	if err != nil {
		return nil, err
	}
	for _, p := range sz.parts {
		m.NumRows += uint64(max(p.rows, 0))
		m.NumBytes += p.total()
	}
	if m.StreamingBuffer, err = s.streamingBuffer(ctx, t, sz); err != nil {
		return nil, err
	}
	if b := m.StreamingBuffer; b != nil {
		m.NumRows -= b.EstimatedRows
		m.NumBytes -= int64(b.EstimatedBytes) //nolint:gosec // of rows that were counted
	}
	m.ForceSendFields = []string{"NumRows", "NumBytes"}
	return m, nil
}

func etag(n int64) string { return fmt.Sprintf("\"e%d\"", n) }

// sortedTables lists the tables of a dataset by name.
func (s *Server) sortedTables(d *dataset) []*table {
	var out []*table
	for _, t := range d.tables {
		if !s.expired(t) && t.meta.Type != "TABLE_FUNCTION" {
			out = append(out, t)
		}
	}
	slices.SortFunc(out, func(a, b *table) int { return strings.Compare(a.ref.table, b.ref.table) })
	return out
}
