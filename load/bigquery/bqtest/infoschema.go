package bqtest

import (
	"slices"
	"strings"
)

// infoTable is a view of INFORMATION_SCHEMA: its columns and rows.
type infoTable struct {
	cols []column
	rows [][]any
}

func infoColumns(spec string) []column {
	var out []column
	for c := range strings.SplitSeq(spec, " ") {
		name, kind, ok := strings.Cut(c, ":")
		if !ok {
			kind = "STRING"
		}
		out = append(out, column{name: name, kind: kind})
	}
	return out
}

// informationSchema makes a relation of dataset.INFORMATION_SCHEMA.X, nil for
// other names. Of the documented columns it has those that do not describe what
// the stand-in has not ("INFORMATION_SCHEMA").
func (a *analyzer) informationSchema(f *fromNode) (*analyzed, error) {
	n := len(f.path)
	if n < 2 || !strings.EqualFold(f.path[n-2], "INFORMATION_SCHEMA") {
		return nil, nil //nolint:nilnil // another table
	}
	path := slices.Clone(f.path[:n-2])
	if len(path) == 0 && a.run.defaultDataset != "" {
		path = []string{a.run.defaultDataset}
	}
	if len(path) == 0 {
		return nil, queryError(f.pos, "INFORMATION_SCHEMA must be qualified with a dataset")
	}
	ref, err := a.run.ref(append(path, "x"), f.pos)
	if err != nil {
		return nil, err
	}
	d, err := a.s.findDataset(ref.project, ref.dataset)
	if err != nil {
		return nil, err
	}
	var info *infoTable
	switch strings.ToUpper(f.path[n-1]) {
	case "TABLES":
		info = a.infoTables(d)
	case "COLUMNS":
		info = a.infoColumns(d)
	case "TABLE_OPTIONS":
		info = a.infoOptions(d)
	case "KEY_COLUMN_USAGE":
		info = a.infoKeys(d)
	case "PARTITIONS":
		if info, err = a.infoPartitions(d); err != nil {
			return nil, err
		}
	default:
		return nil, queryError(f.pos, "stand-in: INFORMATION_SCHEMA.%s is not known", f.path[n-1])
	}
	return info.query(), nil
}

// query writes the rows as a query.
func (t *infoTable) query() *analyzed {
	out := &analyzed{}
	var names []string
	for i, c := range t.cols {
		name := "c" + itoa(i+1)
		names = append(names, name)
		out.cols = append(out.cols, relCol{c.name, val{sql: name, typ: ty(c.kind)}})
	}
	line := func(row []any) string {
		parts := make([]string, len(t.cols))
		for i, c := range t.cols {
			parts[i] = literalSQL(ty(c.kind), row[i])
			if c.kind == "STRING" {
				parts[i] = "CAST(" + parts[i] + " AS VARCHAR)"
			}
		}
		return "(" + strings.Join(parts, ", ") + ")"
	}
	if len(t.rows) == 0 {
		out.sql = "SELECT * FROM (VALUES " + line(make([]any, len(t.cols))) + ") AS v(" + strings.Join(names, ", ") + ") WHERE false"
		return out
	}
	lines := make([]string, len(t.rows))
	for i, r := range t.rows {
		lines[i] = line(r)
	}
	out.sql = "SELECT * FROM (VALUES " + strings.Join(lines, ", ") + ") AS v(" + strings.Join(names, ", ") + ")"
	return out
}

func yesNo(b bool) string {
	if b {
		return "YES"
	}
	return "NO"
}

func (a *analyzer) infoTables(d *dataset) *infoTable {
	t := &infoTable{cols: infoColumns("table_catalog table_schema table_name table_type is_insertable_into is_typed is_change_history_enabled creation_time:TIMESTAMP upsert_stream_apply_watermark:TIMESTAMP")}
	for _, x := range a.s.sortedTables(d) {
		kind := "BASE TABLE"
		if x.view != nil {
			kind = "VIEW"
		}
		var applied any
		if at := a.s.appliedUntil(x); !at.IsZero() {
			applied = at
		}
		t.rows = append(t.rows, []any{x.ref.project, x.ref.dataset, x.ref.table, kind, yesNo(x.view == nil), "NO", "NO", x.created, applied})
	}
	return t
}

func (a *analyzer) infoColumns(d *dataset) *infoTable {
	t := &infoTable{cols: infoColumns("table_catalog table_schema table_name column_name ordinal_position:INT64 is_nullable data_type is_hidden is_partitioning_column clustering_ordinal_position:INT64 column_default")}
	for _, x := range a.s.sortedTables(d) {
		for i, c := range x.columns {
			var cluster any
			if x.meta.Clustering != nil {
				if at := slices.IndexFunc(x.meta.Clustering.Fields, func(f string) bool { return strings.EqualFold(f, c.name) }); at >= 0 {
					cluster = int64(at + 1)
				}
			}
			p := x.meta.TimePartitioning
			t.rows = append(t.rows, []any{
				x.ref.project, x.ref.dataset, x.ref.table, c.name, int64(i + 1), yesNo(!c.required), c.kind, "NO",
				yesNo(p != nil && strings.EqualFold(p.Field, c.name)), cluster, "NULL",
			})
		}
	}
	return t
}

func (a *analyzer) infoOptions(d *dataset) *infoTable {
	t := &infoTable{cols: infoColumns("table_catalog table_schema table_name option_name option_type option_value")}
	for _, x := range a.s.sortedTables(d) {
		add := func(name, kind, value string) {
			t.rows = append(t.rows, []any{x.ref.project, x.ref.dataset, x.ref.table, name, kind, value})
		}
		if m := x.meta; m.Description != "" {
			add("description", "STRING", jsonQuote(m.Description))
		}
		if p := x.partitioning(); p != nil {
			if p.expiry > 0 {
				add("partition_expiration_days", "FLOAT64", printFloat(p.expiry.Hours()/24))
			}
			if p.filter {
				add("require_partition_filter", "BOOL", "true")
			}
		}
		if len(x.meta.Labels) > 0 {
			var parts []string
			for k, v := range x.meta.Labels {
				parts = append(parts, "STRUCT("+jsonQuote(k)+", "+jsonQuote(v)+")")
			}
			slices.Sort(parts)
			add("labels", "ARRAY<STRUCT<STRING, STRING>>", "["+strings.Join(parts, ", ")+"]")
		}
		if x.meta.MaxStaleness != "" {
			add("max_staleness", "INTERVAL", x.meta.MaxStaleness)
		}
	}
	return t
}

func (a *analyzer) infoKeys(d *dataset) *infoTable {
	t := &infoTable{cols: infoColumns("constraint_catalog constraint_schema constraint_name table_catalog table_schema table_name column_name ordinal_position:INT64 position_in_unique_constraint:INT64")}
	for _, x := range a.s.sortedTables(d) {
		for i, k := range x.primaryKey() {
			t.rows = append(t.rows, []any{x.ref.project, x.ref.dataset, x.ref.table + ".pk$", x.ref.project, x.ref.dataset, x.ref.table, x.column(k).name, int64(i + 1), nil})
		}
	}
	return t
}

func (a *analyzer) infoPartitions(d *dataset) (*infoTable, error) {
	t := &infoTable{cols: infoColumns("table_catalog table_schema table_name partition_id total_rows:INT64 total_logical_bytes:INT64 last_modified_time:TIMESTAMP storage_tier")}
	for _, x := range a.s.sortedTables(d) {
		if x.view != nil {
			continue
		}
		if err := a.s.expire(a.run.ctx, x); err != nil {
			return nil, err
		}
		sz, err := a.s.measure(a.run.ctx, a.run.conn, x, !a.run.tx)
		if err != nil {
			return nil, err
		}
		for _, p := range sz.parts {
			var id any
			if part := x.partitioning(); part != nil {
				id = part.id(p.partition)
			}
			t.rows = append(t.rows, []any{x.ref.project, x.ref.dataset, x.ref.table, id, p.rows, p.total(), x.touched, "ACTIVE"})
		}
	}
	return t, nil
}
