package duckdb

import (
	"context"
	"errors"
	"strings"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/views"
)

var _ load.Destroyer = (*Loader)(nil)

// Destroy implements load.Destroyer, in one transaction: there is no table that
// has lost a part. With the last table the notes go too. The file stays, also if
// it is empty then, and DuckDB does not overwrite what was deleted in it, but
// reuses its room.
func (l *Loader) Destroy(ctx context.Context, d load.Destruction) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	if d.Lineage == "" {
		return errors.New("destroy table: no lineage is given")
	}
	var some bool
	err := l.reading(ctx, func(s *session) error {
		goes, err := s.going(ctx, l.o, d)
		some = goes.any()
		return err
	})
	if err != nil || !some {
		return err
	}
	s, err := l.open(ctx, false, 0)
	if err != nil {
		return err
	}
	err = s.destroy(ctx, l.o, d)
	if closeErr := s.close(); err == nil {
		err = closeErr
	}
	return explain("destroy table", l.o.Path, err)
}

// going is what a destruction removes.
type going struct {
	table  stored
	stages bool
}

func (g going) any() bool { return g.table.found || g.stages }

func (s *session) going(ctx context.Context, o Options, d load.Destruction) (g going, err error) {
	g.table, err = s.inspect(ctx, o.Table)
	switch {
	case !g.table.found && errors.Is(err, load.ErrForeign): // what somebody else made stays
	case err != nil:
		return g, err
	case g.table.found:
		if err := g.table.ours(o.Path, d.Lineage); err != nil {
			return going{}, err
		}
	}
	if d.Stages && o.Stages != "" {
		g.stages, err = s.stagesNoted(ctx, o.Stages)
		return g, err
	}
	return g, nil
}

func (s *session) destroy(ctx context.Context, o Options, d load.Destruction) error {
	s.sweep()
	g, err := s.going(ctx, o, d) // what is true now stays true
	if err != nil || !g.any() {
		return err
	}
	err = s.transaction(ctx, func() error {
		standing, err := s.names(ctx)
		if err != nil {
			return err
		}
		if g.table.found {
			t := g.table
			if err := s.dropViews(ctx, t.views, viewsRecord{}, taken(standing, t.views)); err != nil {
				return err
			}
			if _, err := s.exec(ctx, "DROP TABLE IF EXISTS "+t.current()+"; DROP TABLE IF EXISTS "+t.history()); err != nil {
				return err
			}
			if err := s.forget(ctx, t.name); err != nil {
				return err
			}
			if err := s.writeUnion(ctx, o, true); err != nil {
				return err
			}
		}
		if g.stages {
			if err := s.dropStages(ctx, o.Stages, standing); err != nil {
				return err
			}
		}
		return s.dropNotes(ctx)
	})
	if err != nil {
		return err
	}
	_, err = s.exec(ctx, "CHECKPOINT")
	return err
}

// notes are the tables of metaTables and stagesNotes that speak of tables of
// contacts, by the column that names one.
func notes() map[string]string {
	return map[string]string{"tables": "name", "packages": "table_name", "runs": "table_name", "counts": "table_name"}
}

// forget removes the notes on a table.
func (s *session) forget(ctx context.Context, table string) error {
	for name, column := range notes() {
		there, err := s.hasNotes(ctx, name)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		if _, err := s.exec(ctx, "DELETE FROM "+relation(name)+" WHERE "+column+" = ?", table); err != nil {
			return err
		}
	}
	return nil
}

// hasNotes reports whether a table of notes is there: earlier versions had fewer.
func (s *session) hasNotes(ctx context.Context, name string) (bool, error) {
	var has bool
	err := s.get(ctx, []any{&has}, "SELECT count(*) > 0 FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = '_sluice' AND table_name = ?", name)
	return has, err
}

// dropStages removes the table of stages and the note on it. What somebody put in
// its place stays.
func (s *session) dropStages(ctx context.Context, name string, standing map[string]string) error {
	if standing[strings.ToLower(name)] == "table" {
		if _, err := s.exec(ctx, "DROP TABLE "+stagesRelation(name)); err != nil {
			return err
		}
	}
	_, err := s.exec(ctx, "DELETE FROM _sluice.stages WHERE lower(table_name) = lower(?)", name)
	return err
}

// dropNotes removes the notes, and the schema that they are in, once they say
// nothing. What somebody else keeps in that schema stays, and then it does too.
func (s *session) dropNotes(ctx context.Context) error {
	var script strings.Builder
	for _, name := range []string{"tables", "packages", "runs", "counts", "stages"} {
		there, err := s.hasNotes(ctx, name)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		var rows int64
		if err := s.get(ctx, []any{&rows}, "SELECT count(*) FROM "+relation(name)); err != nil {
			return err
		}
		if rows > 0 {
			return nil
		}
		script.WriteString("DROP TABLE " + relation(name) + ";\n")
	}
	if script.Len() > 0 {
		if _, err := s.exec(ctx, script.String()); err != nil {
			return err
		}
	}
	var others int64
	err := s.get(ctx, []any{&others}, `
SELECT (SELECT count(*) FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = '_sluice')
  + (SELECT count(*) FROM duckdb_views() WHERE database_name = current_database() AND schema_name = '_sluice')
  + (SELECT count(*) FROM duckdb_functions() WHERE database_name = current_database() AND schema_name = '_sluice')
  + (SELECT count(*) FROM duckdb_sequences() WHERE database_name = current_database() AND schema_name = '_sluice')
  + (SELECT count(*) FROM duckdb_types() WHERE database_name = current_database() AND schema_name = '_sluice')`)
	if err != nil || others > 0 {
		return err
	}
	_, err = s.exec(ctx, "DROP SCHEMA "+views.QuoteName(schemaName))
	return err
}
