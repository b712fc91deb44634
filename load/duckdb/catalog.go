package duckdb

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

// FormatVersion is the layout of the schema below. A table with a later one is
// refused.
const FormatVersion = 1

// schemaName is where everything but the views stands. It must not be a name
// that people give to database files: DuckDB then takes it for the catalog's.
const schemaName = "_sluice"

// The suffixes of the stored tables; no table's own name has two underscores.
const (
	currentSuffix = "__current"
	historySuffix = "__history"
)

// metaTables make the notes that are kept beside the rows. Times are UTC;
// columns, views and result are JSON.
const metaTables = `
CREATE SCHEMA IF NOT EXISTS _sluice;
CREATE TABLE IF NOT EXISTS _sluice.tables (
  name VARCHAR NOT NULL, format_version BIGINT NOT NULL, lineage VARCHAR NOT NULL, pipeline VARCHAR NOT NULL,
  position BIGINT NOT NULL, run_id VARCHAR NOT NULL, "columns" VARCHAR NOT NULL, views VARCHAR NOT NULL,
  created_at TIMESTAMPTZ NOT NULL, committed_at TIMESTAMPTZ NOT NULL);
CREATE TABLE IF NOT EXISTS _sluice.packages (
  table_name VARCHAR NOT NULL, package BIGINT NOT NULL, run_id VARCHAR NOT NULL, committed_at TIMESTAMPTZ NOT NULL, result VARCHAR NOT NULL);
CREATE TABLE IF NOT EXISTS _sluice.runs (
  table_name VARCHAR NOT NULL, run_id VARCHAR NOT NULL, coverage JSON NOT NULL);
` + countsTable + `
COMMENT ON TABLE _sluice.tables IS 'The tables that sluice keeps in this database';
COMMENT ON TABLE _sluice.packages IS 'Every package that was committed, and what it did';
COMMENT ON TABLE _sluice.runs IS 'The coverage record of each run: what was walked, and under which assumptions';`

// countsTable says how many rows each table has to have. Databases of before
// get it with their next package.
const countsTable = `
CREATE TABLE IF NOT EXISTS _sluice.counts (
  table_name VARCHAR NOT NULL, package BIGINT NOT NULL, current_rows BIGINT NOT NULL, history_rows BIGINT NOT NULL);
COMMENT ON TABLE _sluice.counts IS 'How many rows each table has to have since its last package';`

// tally is what a package, or an erasure, adds to a table's rows.
type tally struct{ serial, current, history int64 }

// count carries the numbers of rows forward that verification compares with:
// those noted before and what the package has added, not those that are there,
// so that a row which comes or goes otherwise shows.
func (s *session) count(ctx context.Context, t stored, add tally) error {
	if _, err := s.exec(ctx, countsTable); err != nil {
		return err
	}
	// A sluice that did not count may have committed meanwhile.
	if _, err := s.exec(ctx, `DELETE FROM _sluice.counts WHERE table_name = ? AND package <> ?`, t.name, t.position); err != nil {
		return err
	}
	noted, err := s.exec(ctx, `UPDATE _sluice.counts SET package = ?, current_rows = current_rows + ?, history_rows = history_rows + ? WHERE table_name = ?`,
		add.serial, add.current, add.history, t.name)
	if err != nil || noted > 0 {
		return err
	}
	_, err = s.exec(ctx, `INSERT INTO _sluice.counts SELECT ?, ?, (SELECT count(*) FROM `+t.current()+`), (SELECT count(*) FROM `+t.history()+`)`, t.name, add.serial)
	return err
}

// hasCounts reports whether the numbers of rows are noted at all.
func (s *session) hasCounts(ctx context.Context) (bool, error) {
	var has bool
	err := s.get(ctx, []any{&has}, `SELECT count(*) > 0 FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = '_sluice' AND table_name = 'counts'`)
	return has, err
}

// stored is what the database knows of one table.
type stored struct {
	name     string // as it is spelt there
	found    bool
	lineage  string
	pipeline string
	position int64
	columns  schemas.Table
	views    viewsRecord
}

// current and history are the table's two relations.
func (t stored) current() string { return relation(t.name + currentSuffix) }
func (t stored) history() string { return relation(t.name + historySuffix) }

func relation(name string) string { return schemaName + "." + views.QuoteName(name) }

// ours checks that lineage owns the table.
func (t stored) ours(path, lineage string) error {
	if t.lineage == lineage {
		return nil
	}
	if lineage == "" {
		lineage = "(none yet)"
	}
	return foreign(path,
		fmt.Sprintf("table %s was written by another state (lineage %s, pipeline %q), this state has lineage %s", t.name, t.lineage, t.pipeline, lineage),
		"Point state at the one that wrote this table (or restore it from a backup), give the destination another path or the pipeline another table name, or move the database away to start it anew.")
}

// inspect looks up a table without changing anything. What stands under its
// names and is not ours is load.ErrForeign.
func (s *session) inspect(ctx context.Context, table string) (stored, error) {
	t := stored{name: table}
	var kept bool
	const known = `SELECT count(*) > 0 FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = '_sluice' AND table_name = 'tables'`
	if err := s.get(ctx, []any{&kept}, known); err != nil {
		return t, err
	}
	if kept {
		if err := s.lookUp(ctx, &t); err != nil || t.found {
			return t, err
		}
	}
	return t, s.mustBeVacant(ctx, table, kept)
}

// lookUp reads the notes on a table. Names differ in more than case or not at
// all, as everywhere in DuckDB.
func (s *session) lookUp(ctx context.Context, t *stored) error {
	var version int64
	var columns, viewsText string
	err := s.conn.QueryRowContext(ctx, `SELECT name, format_version, lineage, pipeline, position, "columns", views FROM _sluice.tables WHERE lower(name) = lower(?)`, t.name).
		Scan(&t.name, &version, &t.lineage, &t.pipeline, &t.position, &columns, &viewsText)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil && isDamage(err):
		return err
	case err != nil:
		return foreign(s.path, "the schema _sluice is not laid out as sluice lays it out: "+err.Error(), otherPlace)
	case version > FormatVersion:
		return &Error{
			Message: fmt.Sprintf("table %s has format %d, this version of sluice knows up to %d", t.name, version, FormatVersion),
			Path:    s.path, hint: "Use the newer sluice that wrote it.",
		}
	}
	if err := errors.Join(json.Unmarshal([]byte(columns), &t.columns), json.Unmarshal([]byte(viewsText), &t.views)); err != nil {
		return &Error{Message: "the notes on table " + t.name + " are damaged", Path: s.path, Err: err, hint: startAnew}
	}
	t.found = true
	return nil
}

// mustBeVacant refuses a database where the table's names mean something else.
// kept says that the schema is known to be ours.
func (s *session) mustBeVacant(ctx context.Context, table string, kept bool) error {
	const taken = `
SELECT schema_name || '.' || name FROM (
  SELECT schema_name, table_name AS name FROM duckdb_tables() WHERE database_name = current_database()
  UNION ALL SELECT schema_name, view_name FROM duckdb_views() WHERE database_name = current_database() AND NOT internal
  UNION ALL SELECT schema_name, function_name FROM duckdb_functions() WHERE database_name = current_database() AND NOT internal)
WHERE (schema_name = '_sluice' AND (NOT ? OR lower(name) IN (lower(?), lower(?))))
   OR (schema_name = 'main' AND lower(name) IN (lower(?), lower(?), lower(?), lower(?)))
ORDER BY ALL LIMIT 1`
	var name string
	err := s.conn.QueryRowContext(ctx, taken, kept, table+currentSuffix, table+historySuffix,
		table, table+"_all", table+"_history", table+"_as_of").Scan(&name)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil
	case err != nil:
		return fmt.Errorf("list what the database holds: %w", err)
	}
	return foreign(s.path, fmt.Sprintf("the database holds %s, which sluice did not write", name), otherName)
}

// recorded returns the result of a package committed before.
func (s *session) recorded(ctx context.Context, t stored, p load.Package) (*load.Result, error) {
	var text string
	err := s.conn.QueryRowContext(ctx, `SELECT result FROM _sluice.packages WHERE table_name = ? AND package = ? AND run_id = ?`, t.name, p.Serial, p.RunID).Scan(&text)
	switch {
	case errors.Is(err, sql.ErrNoRows):
		return nil, &Error{
			Message: fmt.Sprintf("package %d of run %s comes too late: table %s already holds package %d", p.Serial, p.RunID, t.name, t.position),
			Path:    s.path, Err: load.ErrAhead,
			hint: "State is older than the table, as after it was restored from a backup. Restore the newer state, or move the database away and run with --full.",
		}
	case err != nil:
		return nil, fmt.Errorf("read result of package %d: %w", p.Serial, err)
	}
	var r load.Result
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		return nil, fmt.Errorf("read result of package %d: %w", p.Serial, err)
	}
	return &r, nil
}

// record notes that the package is part of the table, in the same transaction.
func (s *session) record(ctx context.Context, o Options, p load.Package, t stored, columns schemas.Table, r load.Result) error {
	now := o.Clock.Now()
	result, err := json.Marshal(r)
	if err != nil {
		return fmt.Errorf("encode result: %w", err)
	}
	if _, err := s.exec(ctx, `INSERT INTO _sluice.packages VALUES (?, ?, ?, ?, ?)`, t.name, p.Serial, p.RunID, now, string(result)); err != nil {
		return err
	}
	if len(p.Coverage) > 0 {
		var line bytes.Buffer
		if err := json.Compact(&line, p.Coverage); err != nil {
			return fmt.Errorf("read coverage record of run %s: %w", p.RunID, err)
		}
		if _, err := s.exec(ctx, `DELETE FROM _sluice.runs WHERE table_name = ? AND run_id = ?`, t.name, p.RunID); err != nil {
			return err
		}
		if _, err := s.exec(ctx, `INSERT INTO _sluice.runs VALUES (?, ?, ?)`, t.name, p.RunID, line.String()); err != nil {
			return err
		}
	}
	record, err := s.writeViews(ctx, o, t, columns)
	if err != nil {
		return err
	}
	cols, err := json.Marshal(columns)
	if err != nil {
		return fmt.Errorf("encode columns: %w", err)
	}
	_, err = s.exec(ctx, `UPDATE _sluice.tables SET pipeline = ?, position = ?, run_id = ?, "columns" = ?, views = ?, committed_at = ? WHERE name = ?`,
		p.Pipeline, p.Serial, p.RunID, string(cols), record, now, t.name)
	return err
}
