package duckdb

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/views"
)

var _ load.StageKeeper = (*Loader)(nil)

// stagesNotes names the tables of stages that the database has from us.
const stagesNotes = `
CREATE TABLE IF NOT EXISTS _sluice.stages (table_name VARCHAR NOT NULL, run_id VARCHAR NOT NULL, replaced_at TIMESTAMPTZ NOT NULL);
COMMENT ON TABLE _sluice.stages IS 'The tables of stages that sluice keeps in this database';`

// ReplaceStages implements load.StageKeeper, in one transaction.
func (l *Loader) ReplaceStages(ctx context.Context, list load.StageList) error {
	if l.o.Stages == "" {
		return load.ErrNoStages
	}
	if err := list.Check(); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	// As with Commit, look before anything is written.
	err := l.reading(ctx, func(s *session) error {
		if _, err := s.inspect(ctx, l.o.Table); err != nil {
			return err
		}
		_, err := s.stagesStand(ctx, l.o.Stages)
		return err
	})
	if err != nil {
		return err
	}
	if err := l.create(ctx); err != nil {
		return err
	}
	s, err := l.open(ctx, false, 0)
	if err != nil {
		return err
	}
	err = s.replaceStages(ctx, l.o, list)
	if closeErr := s.close(); err == nil {
		err = closeErr
	}
	return explain("replace stages", l.o.Path, err)
}

func (s *session) replaceStages(ctx context.Context, o Options, list load.StageList) error {
	if _, err := s.exec(ctx, "BEGIN TRANSACTION"); err != nil {
		return err
	}
	committed := false
	defer func() {
		if !committed { // closing the session rolls back too
			_, _ = s.exec(context.WithoutCancel(ctx), "ROLLBACK")
		}
	}()
	if _, err := s.stagesStand(ctx, o.Stages); err != nil {
		return err
	}
	if _, err := s.exec(ctx, metaTables+stagesNotes); err != nil {
		return err
	}
	if err := s.writeStages(ctx, o, list); err != nil {
		return err
	}
	t, err := s.inspect(ctx, o.Table)
	if err != nil {
		return err
	}
	if t.found && len(t.columns.Columns) > 0 {
		record, err := s.writeViews(ctx, o, t, t.columns)
		if err != nil {
			return err
		}
		if _, err := s.exec(ctx, `UPDATE _sluice.tables SET views = ? WHERE name = ?`, record, t.name); err != nil {
			return err
		}
	}
	if _, err := s.exec(ctx, "COMMIT"); err != nil {
		return err
	}
	committed = true
	return nil
}

// writeStages makes the table of stages anew.
func (s *session) writeStages(ctx context.Context, o Options, list load.StageList) error {
	rel := stagesRelation(o.Stages)
	var defs []string
	var comments strings.Builder
	for _, c := range load.StageTable().Columns {
		null := ""
		if c.Required {
			null = " NOT NULL"
		}
		defs = append(defs, views.QuoteName(c.Name)+" "+views.DuckType(c.Type)+null)
		fmt.Fprintf(&comments, "\nCOMMENT ON COLUMN %s.%s IS %s;", rel, views.QuoteName(c.Name), views.QuoteText(c.Description))
	}
	_, err := s.exec(ctx, fmt.Sprintf("CREATE OR REPLACE TABLE %s (%s);\nCOMMENT ON TABLE %s IS %s;", rel, strings.Join(defs, ", "), rel,
		views.QuoteText("The pipelines of the source and their stages, as the last run found them. Written by sluice."))+comments.String())
	if err != nil {
		return err
	}
	orNull := func(text string) string {
		if text == "" {
			return "NULL"
		}
		return views.QuoteText(text)
	}
	// A statement for each would take a second for some thousand.
	for some := range slices.Chunk(list.Stages, 500) {
		rows := make([]string, len(some))
		for i, st := range some {
			rows[i] = fmt.Sprintf("(%s, %s, %s, %s, %d)", views.QuoteText(st.PipelineID), orNull(st.PipelineName), views.QuoteText(st.StageID), orNull(st.StageName), st.Position)
		}
		_, err := s.exec(ctx, "INSERT INTO "+rel+" SELECT *, ?, ? FROM (VALUES "+strings.Join(rows, ", ")+")", list.RunID, list.ExtractedAt)
		if err != nil {
			return err
		}
	}
	if _, err := s.exec(ctx, `DELETE FROM _sluice.stages WHERE lower(table_name) = lower(?)`, o.Stages); err != nil {
		return err
	}
	_, err = s.exec(ctx, `INSERT INTO _sluice.stages VALUES (?, ?, ?)`, o.Stages, list.RunID, o.Clock.Now())
	return err
}

func stagesRelation(name string) string { return "main." + views.QuoteName(name) }

// stagesOf returns the relation of the table of stages, empty where there is
// none of ours.
func (s *session) stagesOf(ctx context.Context, name string) (string, error) {
	if name == "" {
		return "", nil
	}
	ours, err := s.stagesNoted(ctx, name)
	if err != nil || !ours {
		return "", err
	}
	standing, err := s.names(ctx)
	if err != nil || standing[strings.ToLower(name)] != "table" {
		return "", err
	}
	// It may have been replaced by another table of the name.
	var columns int
	err = s.get(ctx, []any{&columns}, `SELECT count(*) FROM duckdb_columns() WHERE database_name = current_database() AND schema_name = 'main' AND lower(table_name) = lower(?)
  AND column_name IN ('stage_id', 'stage_name', 'position', 'pipeline_id', 'pipeline_name')`, name)
	if err != nil || columns != 5 {
		return "", err
	}
	return stagesRelation(name), nil
}

// stagesStand reports whether there is a table of stages, and refuses anything
// else of its name.
func (s *session) stagesStand(ctx context.Context, name string) (bool, error) {
	standing, err := s.names(ctx)
	if err != nil {
		return false, err
	}
	kind, there := standing[strings.ToLower(name)]
	if !there || kind == "macro" { // which stands beside a table of its name
		return false, nil
	}
	ours, err := s.stagesNoted(ctx, name)
	if err != nil {
		return false, err
	}
	if kind != "table" || !ours {
		return false, foreign(s.path, fmt.Sprintf("the database holds main.%s, which is no table of stages that sluice wrote", name),
			"Give the pipeline another name for its table of stages (stages: NAME), write stages: off, or rename what is there.")
	}
	return true, nil
}

// stagesNoted reports whether a table of stages of the name was written here.
func (s *session) stagesNoted(ctx context.Context, name string) (bool, error) {
	var noted int
	err := s.get(ctx, []any{&noted}, `SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = `+views.QuoteText(schemaName)+` AND table_name = 'stages'`)
	if err != nil || noted == 0 {
		return false, err
	}
	err = s.get(ctx, []any{&noted}, `SELECT count(*) FROM _sluice.stages WHERE lower(table_name) = lower(?)`, name)
	return noted > 0, err
}
