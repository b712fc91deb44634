package duckdb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

// parts are a package's staged files as DuckDB reads them.
type parts struct {
	groups []partGroup
	rows   int64
}

// partGroup are parts with the same columns.
type partGroup struct {
	columns []string // in the order of the files
	paths   []string
}

// openParts looks at the files' footers and refuses what is not the package's.
func (s *session) openParts(ctx context.Context, p load.Package) (*parts, error) {
	out := &parts{}
	for _, part := range p.Parts {
		columns, err := s.partColumns(ctx, part, p.Table)
		if err != nil {
			return nil, fmt.Errorf("read part %s: %w", part.Path, err)
		}
		i := slices.IndexFunc(out.groups, func(g partGroup) bool { return slices.Equal(g.columns, columns) })
		if i < 0 {
			i = len(out.groups)
			out.groups = append(out.groups, partGroup{columns: columns})
		}
		out.groups[i].paths = append(out.groups[i].paths, part.Path)
		out.rows += part.Rows
	}
	return out, nil
}

// partColumns returns the columns of a part that has the rows it should have
// and no column that the table does not have in the same type.
func (s *session) partColumns(ctx context.Context, part load.Part, t schemas.Table) ([]string, error) {
	var rows int64
	if err := s.get(ctx, []any{&rows}, "SELECT num_rows::BIGINT FROM parquet_file_metadata("+path(part.Path)+")"); err != nil {
		return nil, damaged(err)
	}
	if rows != part.Rows {
		return nil, damaged(fmt.Errorf("it holds %d rows, recorded were %d", rows, part.Rows))
	}
	var columns []string
	var name, typ string
	err := s.each(ctx, []any{&name, &typ}, func() error {
		i := t.Index(name)
		switch {
		case i < 0:
			return fmt.Errorf("column %s is not in the package's table", name)
		case views.DuckType(t.Columns[i].Type) != typ:
			return fmt.Errorf("column %s is %s, want %s", name, typ, views.DuckType(t.Columns[i].Type))
		case slices.Contains(columns, name):
			return fmt.Errorf("column %s appears twice", name)
		}
		columns = append(columns, name)
		return nil
	}, "SELECT column_name, column_type FROM (DESCRIBE FROM "+reader([]string{part.Path}, "")+")")
	if err != nil {
		return nil, err
	}
	for name := range needed() {
		staged := name != schemas.ColRunID && name != schemas.ColPackage && name != schemas.ColChange
		if staged && !slices.Contains(columns, name) {
			return nil, fmt.Errorf("required column %s is missing", name)
		}
	}
	return columns, nil
}

func damaged(err error) error {
	return &Error{
		Message: "a part of the package is damaged or gone", Err: err,
		hint: "Something else changed it after it was sealed. Run with --full to read the contacts again.",
	}
}

// relation is a query for the named columns of all rows; those that a part
// lacks are null in it.
func (p *parts) relation(columns []schemas.Column) string {
	var branches []string
	for _, g := range p.groups {
		var list []string
		for _, c := range columns {
			if slices.Contains(g.columns, c.Name) {
				list = append(list, views.QuoteName(c.Name))
			} else {
				list = append(list, fmt.Sprintf("CAST(NULL AS %s) AS %s", views.DuckType(c.Type), views.QuoteName(c.Name)))
			}
		}
		branches = append(branches, "SELECT "+strings.Join(list, ", ")+" FROM "+reader(g.paths, ""))
	}
	if len(branches) == 0 {
		return views.Nothing(schemas.Table{Columns: columns})
	}
	return strings.Join(branches, "\nUNION ALL ")
}

// reader is the relation of some files, with DuckDB's guesses turned off: a
// folder named like year=2026 is none of the data's business.
func reader(paths []string, options string) string {
	quoted := make([]string, len(paths))
	for i, p := range paths {
		quoted[i] = path(p)
	}
	return "read_parquet([" + strings.Join(quoted, ", ") + "], hive_partitioning = false, union_by_name = false" + options + ")"
}

func path(p string) string { return views.QuoteText(views.EscapeGlob(p)) }
