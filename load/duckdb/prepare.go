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

// A column that is added costs DuckDB memory for each row there is, outside of
// memory_limit and until the next checkpoint (measured: 6 bytes; 500 columns on
// two tables of 1,000,000 rows took 6.6 GB).
const (
	addedBytes  = 6
	addedBudget = 64 << 20
)

// widen adds new columns ahead of the transaction where adding them in it would
// take too much memory. They are null and no view shows them, so a commit that
// is killed after it has changed nothing that a reader sees.
func (s *session) widen(ctx context.Context, t stored, added []schemas.Column, budget int64) error {
	if !t.found || len(added) == 0 {
		return nil
	}
	var rows int64
	if err := s.get(ctx, []any{&rows}, "SELECT (SELECT count(*) FROM "+t.current()+") + (SELECT count(*) FROM "+t.history()+")"); err != nil {
		return err
	}
	batch := max(1, budget/addedBytes/max(1, rows))
	if int64(len(added)) <= batch {
		return nil
	}
	for some := range slices.Chunk(added, int(batch)) {
		if err := s.addColumns(ctx, t, some); err != nil {
			return err
		}
		if _, err := s.exec(ctx, "CHECKPOINT"); err != nil {
			return err
		}
	}
	return nil
}

// addColumns adds to both tables the columns that they lack. One that is there
// unrecorded is from a commit that was killed after widen: it is null, and goes
// if another type is wanted now.
func (s *session) addColumns(ctx context.Context, t stored, added []schemas.Column) error {
	if !t.found || len(added) == 0 {
		return nil
	}
	there := map[string]string{}
	var name, typ string
	err := s.each(ctx, []any{&name, &typ}, func() error { there[name] = typ; return nil },
		"SELECT table_name || '.' || column_name, data_type FROM duckdb_columns() WHERE database_name = current_database() AND schema_name = '_sluice' AND table_name IN (?, ?)",
		t.name+currentSuffix, t.name+historySuffix)
	if err != nil {
		return err
	}
	var script strings.Builder
	for _, suffix := range []string{currentSuffix, historySuffix} {
		rel := relation(t.name + suffix)
		for _, c := range added {
			want := views.DuckType(c.Type)
			switch had, ok := there[t.name+suffix+"."+c.Name]; {
			case ok && had == want:
				continue
			case ok:
				fmt.Fprintf(&script, "ALTER TABLE %s DROP COLUMN %s;\n", rel, views.QuoteName(c.Name))
			}
			fmt.Fprintf(&script, "ALTER TABLE %s ADD COLUMN %s %s;\n", rel, views.QuoteName(c.Name), want)
		}
	}
	if script.Len() == 0 {
		return nil
	}
	_, err = s.exec(ctx, script.String())
	return err
}

// prepare makes the table if it is new, adds the columns it lacks, and
// describes them.
func (s *session) prepare(ctx context.Context, o Options, p load.Package, t stored, c tableChange) error {
	if !t.found {
		if err := s.createTable(ctx, o, p, t, c.table); err != nil {
			return err
		}
	}
	if err := s.addColumns(ctx, t, c.added); err != nil {
		return err
	}
	var script strings.Builder
	for _, rel := range []string{t.current(), t.history()} {
		for _, col := range c.described {
			text := "NULL"
			if col.Description != "" {
				text = views.QuoteText(col.Description)
			}
			fmt.Fprintf(&script, "COMMENT ON COLUMN %s.%s IS %s;\n", rel, views.QuoteName(col.Name), text)
		}
	}
	if p.HashKey != "" { // which another package may have had otherwise
		current, history := tableComments(t)
		key := ". Hashes are made with the key of id " + p.HashKey + "; runs of before may have had another: see _sluice.runs"
		fmt.Fprintf(&script, "COMMENT ON TABLE %s IS %s;\nCOMMENT ON TABLE %s IS %s;\n", t.current(), views.QuoteText(current+key), t.history(), views.QuoteText(history+key))
	}
	if script.Len() == 0 {
		return nil
	}
	_, err := s.exec(ctx, script.String())
	return err
}

// tableComments say what the two relations of a table hold.
func tableComments(t stored) (current, history string) {
	return "Every contact once, as last seen; deleted ones are marked. Written by sluice: read the view " + t.name + "_all",
		"Every version of every contact. Written by sluice: read the view " + t.name + "_history"
}

func (s *session) createTable(ctx context.Context, o Options, p load.Package, t stored, table schemas.Table) error {
	var defs []string
	for _, col := range table.Columns {
		defs = append(defs, definition(col))
	}
	list := strings.Join(defs, ", ")
	current, history := tableComments(t)
	script := metaTables + fmt.Sprintf("\nCREATE TABLE %s (%s);\nCREATE TABLE %s (%s);", t.current(), list, t.history(), list) +
		fmt.Sprintf("\nCOMMENT ON TABLE %s IS %s;", t.current(), views.QuoteText(current)) +
		fmt.Sprintf("\nCOMMENT ON TABLE %s IS %s;", t.history(), views.QuoteText(history))
	if _, err := s.exec(ctx, script); err != nil {
		return err
	}
	now := o.Clock.Now()
	_, err := s.exec(ctx, `INSERT INTO _sluice.tables VALUES (?, ?, ?, ?, 0, '', '{}', '{}', ?, ?)`, t.name, FormatVersion, p.Lineage, p.Pipeline, now, now)
	return err
}
