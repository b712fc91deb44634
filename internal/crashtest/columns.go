package crashtest

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/sluice-etl/sluice/schemas"
)

// duckType is what DuckDB says of a column of a Parquet file.
func duckType(t schemas.Type) string {
	switch t {
	case schemas.Int64:
		return "BIGINT"
	case schemas.Float64:
		return "DOUBLE"
	case schemas.Bool:
		return "BOOLEAN"
	case schemas.Timestamp:
		return "TIMESTAMP WITH TIME ZONE"
	case schemas.Date:
		return "DATE"
	default:
		return "VARCHAR"
	}
}

// Columns returns how the current files of the table in dir differ from its
// columns, as DuckDB reads them by a bare glob: in names or types, or from each
// other.
func (j *Judge) Columns(ctx context.Context, dir string, table schemas.Table) (faults []string, err error) {
	glob := "'" + filepath.Join(dir, "current", "**", "*.parquet") + "'"
	if faults, err = j.described(ctx, "read_parquet("+glob+", hive_partitioning=false)", table); err != nil {
		return nil, err
	}
	// A glob has the columns of the first file: what others have besides is not
	// shown, so that it has to be looked for.
	odd, err := j.pairs(ctx, `SELECT min(file_name), columns FROM (
		SELECT file_name, string_agg(concat_ws(' ', name, type, converted_type, logical_type), ', ') AS columns FROM parquet_schema(`+glob+`) GROUP BY file_name)
		GROUP BY columns`)
	if err != nil {
		return nil, err
	}
	for _, file := range odd[min(1, len(odd)):] {
		faults = append(faults, fmt.Sprintf("%s has other columns than %s", file[0], odd[0][0]))
	}
	return faults, nil
}

// described returns how the columns of a relation differ from those of a table, in
// whatever order they stand.
func (j *Judge) described(ctx context.Context, relation string, table schemas.Table) (faults []string, err error) {
	found, err := j.pairs(ctx, "SELECT column_name, column_type FROM (DESCRIBE SELECT * FROM "+relation+")")
	if err != nil {
		return nil, err
	}
	types := map[string]string{}
	for _, c := range found {
		types[c[0]] = c[1]
	}
	for _, c := range table.Columns {
		if got := types[c.Name]; got != duckType(c.Type) {
			faults = append(faults, fmt.Sprintf("column %s of %s is %q, of the table %s", c.Name, relation, got, duckType(c.Type)))
		}
		delete(types, c.Name)
	}
	for _, name := range sorted(types) {
		faults = append(faults, fmt.Sprintf("%s has a column %s, which the table does not have", relation, name))
	}
	return faults, nil
}

// pairs returns the rows of a query of two texts.
func (j *Judge) pairs(ctx context.Context, query string) (out [][2]string, err error) {
	rows, err := j.db.QueryContext(ctx, query)
	if err != nil {
		return nil, fmt.Errorf("read columns: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var p [2]string
		if err := rows.Scan(&p[0], &p[1]); err != nil {
			return nil, fmt.Errorf("read columns: %w", err)
		}
		out = append(out, p)
	}
	return out, rows.Err()
}
