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
	// Made tells of each, by name, what made it. Databases of before have none,
	// and no Timezone, until their views change.
	Made     map[string]madeView `json:"made,omitempty"`
	Timezone string              `json:"timezone,omitempty"` // of *_date columns
}

// madeView are two digests of a view: of the statement that made it, and of what
// the catalog has of it since.
type madeView struct {
	By   string `json:"by"`
	Text string `json:"text"`
}

// writeViews creates the table's views where they are missing or no longer
// say what they should, and returns the record of them as JSON.
func (s *session) writeViews(ctx context.Context, o Options, t stored, columns schemas.Table) (string, error) {
	stages, err := s.stagesOf(ctx, o.Stages)
	if err != nil {
		return "", err
	}
	vo := viewOptions(o, t, columns)
	vo.Taken, vo.Stages = t.views.Taken, stages
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
	if err := s.writeUnion(ctx, o, !stand); err != nil {
		return "", err
	}
	data, err := json.Marshal(record)
	if err != nil {
		return "", fmt.Errorf("encode views: %w", err)
	}
	return string(data), nil
}

// viewOptions describe the views over columns of t.
func viewOptions(o Options, t stored, columns schemas.Table) views.Options {
	return views.Options{
		Table: t.name, Columns: columns, Timezone: o.Timezone, Current: t.current(), History: t.history(),
		Runs: "SELECT run_id, coverage FROM _sluice.runs WHERE table_name = " + views.QuoteText(t.name),
	}
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
	if vo.Taken, err = takenFor(s.path, vo, standing, old); err != nil {
		return record, err
	}
	for _, v := range views.List(vo) {
		if v.Macro {
			record.Macros = append(record.Macros, v.Bare)
		} else {
			record.Names = append(record.Names, v.Bare)
		}
	}
	if err := s.dropViews(ctx, old, record, taken(standing, old)); err != nil {
		return record, err
	}
	text := views.SQL(vo)
	record.Taken, record.SHA256, record.Timezone = vo.Taken, checksum(text), views.Zone(vo.Timezone)
	if _, err := s.exec(ctx, text); err != nil {
		return record, err
	}
	_, list := views.Split(text)
	return record, s.noteMade(ctx, &record, list)
}

// noteMade notes what made the views that have just been made.
func (s *session) noteMade(ctx context.Context, r *viewsRecord, list []views.Statement) error {
	texts, err := s.viewTexts(ctx)
	if err != nil {
		return err
	}
	if r.Made == nil {
		r.Made = map[string]madeView{}
	}
	for _, v := range list {
		r.Made[v.Name] = madeView{By: v.Digest(), Text: texts[strings.ToLower(v.Name)]}
	}
	return nil
}

// takenFor are the names to write views around: those that were taken when the
// table got its views, so that they keep their names, unless something else has
// one of those by now. A view that cannot be called otherwise is an error.
func takenFor(path string, vo views.Options, standing map[string]string, own viewsRecord) ([]string, error) {
	now := taken(standing, own)
	for _, names := range [][]string{own.Taken, now} {
		if len(own.Names) == 0 {
			names = now // these are the first
		}
		vo.Taken = names
		i := slices.IndexFunc(views.List(vo), func(v views.View) bool { return slices.Contains(now, strings.ToLower(v.Bare)) })
		switch {
		case i < 0:
			return names, nil
		case slices.Equal(names, now):
			return nil, foreign(path, fmt.Sprintf("the database holds main.%s, which sluice did not write", views.List(vo)[i].Bare), otherName)
		}
	}
	return now, nil
}

// taken are the names, in lower case, that something has which is none of ours.
func taken(standing map[string]string, own viewsRecord) []string {
	others := maps.Clone(standing)
	for kind, names := range map[string][]string{"view": own.Names, "macro": own.Macros} {
		for _, n := range names {
			if others[strings.ToLower(n)] == kind {
				delete(others, strings.ToLower(n))
			}
		}
	}
	return slices.Sorted(maps.Keys(others))
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
func (s *session) dropViews(ctx context.Context, old, wanted viewsRecord, others []string) error {
	for kind, names := range map[string][2][]string{"VIEW": {old.Names, wanted.Names}, "MACRO TABLE": {old.Macros, wanted.Macros}} {
		for _, n := range names[0] {
			if slices.Contains(others, strings.ToLower(n)) || slices.Contains(names[1], n) {
				continue
			}
			if _, err := s.exec(ctx, "DROP "+kind+" IF EXISTS main."+views.QuoteName(n)); err != nil {
				return err
			}
		}
	}
	return nil
}
