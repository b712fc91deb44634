package bigquery

import (
	"cmp"
	"fmt"
	"slices"
	"strings"

	bq "google.golang.org/api/bigquery/v2"

	"github.com/sluice-etl/sluice/schemas"
)

// The columns of the staging table beside the rows' own.
const (
	colAttempt  = "_sluice_attempt"
	colStagedAt = "_sluice_staged_at"
)

// colCommittedAt is the column that the table of packages is partitioned by.
const colCommittedAt = "committed_at"

// mostDescription is how many characters a column's description may have (REST
// v2, TableFieldSchema.description).
const mostDescription = 1024

// kindOf is a column type in SQL.
func kindOf(t schemas.Type) string {
	switch t {
	case schemas.Int64:
		return "INT64"
	case schemas.Float64:
		return "FLOAT64"
	case schemas.Bool:
		return "BOOL"
	case schemas.Timestamp:
		return "TIMESTAMP"
	case schemas.Date:
		return "DATE"
	case schemas.JSON:
		return "JSON"
	case schemas.String:
		return "STRING"
	default:
		return "STRING"
	}
}

// typeOf is the column type of a kind as REST prints it; "" for one that is not
// ours.
func typeOf(kind string) schemas.Type {
	for _, t := range []schemas.Type{schemas.String, schemas.Int64, schemas.Float64, schemas.Bool, schemas.Timestamp, schemas.Date, schemas.JSON} {
		if kindOf(t) == plainKind(kind) {
			return t
		}
	}
	return ""
}

// plainKind spells a type as SQL does; REST has two names for some
// (TableFieldSchema.type).
func plainKind(kind string) string {
	switch k := strings.ToUpper(kind); k {
	case "INTEGER":
		return "INT64"
	case "FLOAT":
		return "FLOAT64"
	case "BOOLEAN":
		return "BOOL"
	default:
		return k
	}
}

// needed are the columns that a merge relies on: the only ones that may not be
// null, the time of deletion aside.
func needed() map[string]schemas.Type {
	need := map[string]schemas.Type{schemas.ColID: schemas.String, schemas.ColCreatedAt: schemas.Timestamp, schemas.ColUpdatedAt: schemas.Timestamp}
	for _, c := range schemas.SystemColumns() {
		need[c.Name] = c.Type
	}
	return need
}

// field is a column as REST has it.
func field(c schemas.Column) *bq.TableFieldSchema {
	f := &bq.TableFieldSchema{Name: c.Name, Type: kindOf(c.Type), Mode: "NULLABLE", Description: shortened(c.Description)}
	if _, ok := needed()[c.Name]; ok && c.Name != schemas.ColDeletedAt {
		f.Mode = "REQUIRED"
	}
	return f
}

func shortened(s string) string {
	if r := []rune(s); len(r) > mostDescription {
		return string(r[:mostDescription])
	}
	return s
}

// fields are the columns of the table and of its history.
func fields(t schemas.Table) []*bq.TableFieldSchema {
	out := make([]*bq.TableFieldSchema, len(t.Columns))
	for i, c := range t.Columns {
		out[i] = field(c)
	}
	return out
}

// constant reports whether a column has one value for a package, or none yet,
// so that staged rows go without.
func constant(name string) bool {
	return name == schemas.ColRunID || name == schemas.ColPackage || name == schemas.ColChange
}

// stagingFields are the columns of the staging table.
func stagingFields(t schemas.Table) []*bq.TableFieldSchema {
	var out []*bq.TableFieldSchema
	for _, c := range t.Columns {
		if !constant(c.Name) {
			out = append(out, field(c))
		}
	}
	return append(out,
		&bq.TableFieldSchema{Name: schemas.ColPackage, Type: "INT64", Mode: "REQUIRED", Description: "Serial of the package that the row is of"},
		&bq.TableFieldSchema{Name: colAttempt, Type: "INT64", Mode: "REQUIRED", Description: "Which attempt at the package brought the row"},
		&bq.TableFieldSchema{Name: colStagedAt, Type: "TIMESTAMP", Mode: "REQUIRED", Description: "When the attempt began (UTC); rows expire a week later"},
	)
}

// commitsFields are the columns of the table with one row for each package.
func commitsFields() []*bq.TableFieldSchema {
	f := func(name, kind, mode, description string) *bq.TableFieldSchema {
		return &bq.TableFieldSchema{Name: name, Type: kind, Mode: mode, Description: description}
	}
	return []*bq.TableFieldSchema{
		f("format_version", "INT64", "REQUIRED", "Layout of these tables"),
		f("package", "INT64", "REQUIRED", "Serial of the package"),
		f("run_id", "STRING", "REQUIRED", "Run that extracted it"),
		f("pipeline", "STRING", "REQUIRED", "Pipeline that it is of"),
		f("status", "STRING", "REQUIRED", "done, or applying while upserts are on their way"),
		f("method", "STRING", "REQUIRED", "How its rows were written"),
		f("result", "STRING", "NULLABLE", "What it did, as JSON"),
		f("columns", "STRING", "NULLABLE", "Columns of the table after it, as JSON"),
		f("coverage", "STRING", "NULLABLE", "Coverage record of the run, as JSON"),
		f("extracted_from", "TIMESTAMP", "NULLABLE", "First time of extraction of its rows (UTC)"),
		f(colCommittedAt, "TIMESTAMP", "REQUIRED", "When it took effect (UTC)"),
	}
}

// fieldNamed finds a column; names do not differ by case (Schemas, "Column
// names").
func fieldNamed(fields []*bq.TableFieldSchema, name string) *bq.TableFieldSchema {
	for _, f := range fields {
		if strings.EqualFold(f.Name, name) {
			return f
		}
	}
	return nil
}

func columnsOf(t *bq.Table) []*bq.TableFieldSchema {
	if t == nil || t.Schema == nil {
		return nil
	}
	return t.Schema.Fields
}

// sameKind reports whether a column has the type that it is to have.
func sameKind(have, want *bq.TableFieldSchema) bool {
	return plainKind(have.Type) == plainKind(want.Type) && have.Mode != "REPEATED"
}

// widened returns the columns of a table with those that it lacks added and the
// descriptions wanted, and whether that changes anything. A column of another
// type is an error: types never change in place.
func widened(table string, have, want []*bq.TableFieldSchema) (out []*bq.TableFieldSchema, changed bool, err error) {
	for _, f := range have {
		c := *f
		out = append(out, &c)
	}
	for _, w := range want {
		f := fieldNamed(out, w.Name)
		if f == nil {
			added := *w
			added.Mode = "NULLABLE" // a table has no room for another required one
			out, changed = append(out, &added), true
			continue
		}
		if !sameKind(f, w) {
			kind := plainKind(f.Type)
			if f.Mode == "REPEATED" {
				kind = "ARRAY<" + kind + ">"
			}
			return nil, false, &Error{
				Message: fmt.Sprintf("column %s is %s in the table and %s in the package", w.Name, kind, plainKind(w.Type)), Table: table,
				hint: "Column types never change in place. Give the column its type back, or `sluice destroy` the table, which the next run fills again; or give the changed field another column name in the contract, or the pipeline another table name.",
			}
		}
		if f.Mode == "REQUIRED" && w.Mode != "REQUIRED" {
			f.Mode, changed = "NULLABLE", true
		}
		if w.Description != "" && f.Description != w.Description {
			f.Description, changed = w.Description, true
		}
	}
	return out, changed, nil
}

// joined returns the wanted table and, before the system columns, by name, the
// columns that only the stored one has: those that the loader's staging table
// has too. Others are somebody else's.
func joined(want schemas.Table, lay layout) schemas.Table {
	out := schemas.Table{Columns: slices.Clone(want.Columns)}
	var extra []schemas.Column
	for _, f := range columnsOf(lay.current) {
		if want.Index(f.Name) < 0 && lay.ownsColumn(f.Name) && typeOf(f.Type) != "" {
			extra = append(extra, schemas.Column{Name: f.Name, Type: typeOf(f.Type), Origin: schemas.Discovered, Description: f.Description})
		}
	}
	slices.SortFunc(extra, func(a, b schemas.Column) int { return cmp.Compare(a.Name, b.Name) })
	system := slices.IndexFunc(out.Columns, func(c schemas.Column) bool { return c.Origin == schemas.SystemDefined })
	if system < 0 {
		system = len(out.Columns)
	}
	out.Columns = slices.Insert(out.Columns, system, extra...)
	return out
}
