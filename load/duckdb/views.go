package duckdb

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

// viewsRecord says which views of a table the database has from us, so that
// what its users made is told apart and never replaced.
type viewsRecord struct {
	Names  []string `json:"names,omitempty"`  // views, without parameters
	Macros []string `json:"macros,omitempty"` // table macros
	Taken  []string `json:"taken,omitempty"`  // names in schema main that were not ours when the SQL was made
	SHA256 string   `json:"sha256,omitempty"` // of the SQL that made them
}

// writeViews creates the table's views where they are missing or no longer
// say what they should, and returns the record of them as JSON.
func (s *session) writeViews(ctx context.Context, o Options, t stored, columns schemas.Table) (string, error) {
	stages, err := s.stagesOf(ctx, o.Stages)
	if err != nil {
		return "", err
	}
	vo := views.Options{
		Table: t.name, Columns: columns, Timezone: o.Timezone, Current: t.current(), History: t.history(),
		Runs:  "SELECT run_id, coverage FROM _sluice.runs WHERE table_name = " + views.QuoteText(t.name),
		Taken: t.views.Taken, Stages: stages,
	}
	record := t.views
	stand, err := s.viewsStand(ctx, t.views, checksum(views.SQL(vo)))
	if err != nil {
		return "", err
	}
	if !stand {
		if record, err = s.replaceViews(ctx, vo, t.views); err != nil {
			return "", fmt.Errorf("create views: %w", err)
		}
	}
	data, err := json.Marshal(record)
	if err != nil {
		return "", fmt.Errorf("encode views: %w", err)
	}
	return string(data), nil
}

func checksum(text string) string {
	sum := sha256.Sum256([]byte(text))
	return hex.EncodeToString(sum[:])
}

// viewsStand reports whether the views of a record are there and are what the
// SQL with the given checksum makes. Macros are not looked for: DuckDB lists
// them among thousands of functions.
func (s *session) viewsStand(ctx context.Context, r viewsRecord, sum string) (bool, error) {
	if r.SHA256 != sum {
		return false, nil
	}
	standing := map[string]bool{}
	var name string
	err := s.each(ctx, []any{&name}, func() error { standing[name] = true; return nil },
		"SELECT view_name FROM duckdb_views() WHERE database_name = current_database() AND schema_name = 'main' AND NOT internal")
	missing := slices.ContainsFunc(r.Names, func(n string) bool { return !standing[n] })
	return !missing, err
}

// replaceViews makes all views anew. Names that something else holds are not
// taken from it.
func (s *session) replaceViews(ctx context.Context, vo views.Options, old viewsRecord) (viewsRecord, error) {
	var record viewsRecord
	standing, err := s.names(ctx)
	if err != nil {
		return record, err
	}
	for _, own := range []struct {
		kind  string
		names []string
	}{{"view", old.Names}, {"macro", old.Macros}} {
		for _, n := range own.names {
			if standing[strings.ToLower(n)] == own.kind {
				delete(standing, strings.ToLower(n))
			}
		}
	}
	vo.Taken = slices.Sorted(maps.Keys(standing))
	for _, v := range views.List(vo) {
		if slices.Contains(vo.Taken, strings.ToLower(v.Bare)) {
			return record, foreign(s.path, fmt.Sprintf("the database holds main.%s, which sluice did not write", v.Bare), otherName)
		}
		if v.Macro {
			record.Macros = append(record.Macros, v.Bare)
		} else {
			record.Names = append(record.Names, v.Bare)
		}
	}
	if err := s.dropViews(ctx, old, record, standing); err != nil {
		return record, err
	}
	text := views.SQL(vo)
	record.Taken, record.SHA256 = vo.Taken, checksum(text)
	_, err = s.exec(ctx, text)
	return record, err
}

// names returns what stands in schema main: its kind by lower-case name.
func (s *session) names(ctx context.Context) (map[string]string, error) {
	standing := map[string]string{}
	var name, kind string
	err := s.each(ctx, []any{&name, &kind}, func() error { standing[strings.ToLower(name)] = kind; return nil }, `
SELECT table_name, 'table' FROM duckdb_tables() WHERE database_name = current_database() AND schema_name = 'main'
UNION ALL SELECT view_name, 'view' FROM duckdb_views() WHERE database_name = current_database() AND schema_name = 'main' AND NOT internal
UNION ALL SELECT DISTINCT function_name, 'macro' FROM duckdb_functions() WHERE database_name = current_database() AND schema_name = 'main' AND NOT internal`)
	return standing, err
}

// dropViews removes views of ours that are no longer wanted.
func (s *session) dropViews(ctx context.Context, old, wanted viewsRecord, others map[string]string) error {
	for kind, names := range map[string][2][]string{"VIEW": {old.Names, wanted.Names}, "MACRO TABLE": {old.Macros, wanted.Macros}} {
		for _, n := range names[0] {
			if _, other := others[strings.ToLower(n)]; other || slices.Contains(names[1], n) {
				continue
			}
			if _, err := s.exec(ctx, "DROP "+kind+" IF EXISTS main."+views.QuoteName(n)); err != nil {
				return err
			}
		}
	}
	return nil
}
