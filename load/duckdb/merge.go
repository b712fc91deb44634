package duckdb

import (
	"context"
	"fmt"
	"strings"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

// merge brings one package together with its table, inside a transaction.
type merge struct {
	*session
	table   stored
	columns schemas.Table // of the table, after the package
	pkg     load.Package
	parts   *parts
	result  load.Result
	winners int64 // rows that go to current
	gone    int64 // rows of current that they replace
}

// keys are what the order of load.Loader and the notion of a version need of a
// row: n is its _sluice_row, counts when its updated_at counts.
const keys = `"id", "_sluice_row" AS n, least("updated_at", "_sluice_extracted_at") AS counts, "_sluice_extracted_at" AS extracted,
  "_sluice_hash" AS hash, "_sluice_deleted_at" IS NOT NULL AS deleted`

// The temporary tables of a merge.
const (
	// Every row of the package.
	createKeys = `CREATE OR REPLACE TEMP TABLE sluice_keys AS SELECT ` + keys + ` FROM (%s)`
	// What current holds of its ids. Beside the keys' own columns it reads one
	// of the table's, that of ids, and the others where ids meet.
	createMet = `CREATE OR REPLACE TEMP TABLE sluice_met AS SELECT rowid AS rid, ` + keys + ` FROM %s WHERE "id" IN (SELECT id FROM sluice_keys)`
	// Ids that the package has several rows of.
	createTwins = `CREATE OR REPLACE TEMP TABLE sluice_twins AS SELECT id FROM sluice_keys GROUP BY id HAVING count(*) > 1`

	// What becomes of the package's rows: those that go to history, and of
	// these the ones that go to current, replacing the row rid there.
	createFate = `CREATE OR REPLACE TEMP TABLE sluice_fate (n BIGINT, rid BIGINT, wins BOOLEAN, known BOOLEAN, deleted BOOLEAN)`

	// A row that is alone with its id. Serials grow, so where both times are
	// those of the stored row, the package's row is the greater one. A tombstone
	// of an id that the table does not hold has nothing to bury.
	insertSingles = `INSERT INTO sluice_fate
SELECT k.n, m.rid, m.id IS NULL OR (k.counts, k.extracted) >= (m.counts, m.extracted), m.id IS NOT NULL, k.deleted
FROM sluice_keys k LEFT JOIN sluice_met m ON m.id = k.id
WHERE NOT EXISTS (SELECT 1 FROM sluice_twins t WHERE t.id = k.id)
  AND CASE WHEN m.id IS NULL THEN NOT k.deleted ELSE k.hash <> m.hash OR k.deleted <> m.deleted END`

	// Rows of one id are applied in order. takes: the row replaces the one
	// before it, which always has the version of the row that was looked at
	// last, or the stored one's where none could apply yet. The last that takes
	// wins. Each version that current did not hold goes to history once: as the
	// winner, if it is the winner's, else as the first row in order.
	insertTwins = `INSERT INTO sluice_fate
WITH met AS (
  SELECT k.*, m.rid, m.id IS NOT NULL AS known, m.hash AS old_hash, m.deleted AS old_deleted,
    CASE WHEN m.id IS NULL THEN bool_or(NOT k.deleted) OVER (PARTITION BY k.id ORDER BY k.counts, k.extracted, k.n ROWS UNBOUNDED PRECEDING)
      ELSE (k.counts, k.extracted) >= (m.counts, m.extracted) END AS applies
  FROM sluice_keys k SEMI JOIN sluice_twins t ON t.id = k.id LEFT JOIN sluice_met m ON m.id = k.id
), stepped AS (
  SELECT *, row_number() OVER (PARTITION BY id ORDER BY counts, extracted, n) AS place,
    applies AND CASE
      WHEN lag(applies, 1, false) OVER (PARTITION BY id ORDER BY counts, extracted, n)
        THEN lag(hash) OVER (PARTITION BY id ORDER BY counts, extracted, n) <> hash OR lag(deleted) OVER (PARTITION BY id ORDER BY counts, extracted, n) <> deleted
      ELSE NOT known OR old_hash <> hash OR old_deleted <> deleted END AS takes
  FROM met
), won AS (
  SELECT *, max(place) FILTER (takes) OVER (PARTITION BY id) AS winner FROM stepped
), versions AS (
  SELECT *, row_number() OVER (PARTITION BY id, hash, deleted ORDER BY winner IS DISTINCT FROM place, place) AS nth FROM won
)
SELECT n, rid, coalesce(place = winner, false), known, deleted
FROM versions
WHERE place = winner
   OR ((known OR winner IS NOT NULL) AND nth = 1 AND NOT coalesce(hash = old_hash AND deleted = old_deleted, false))`

	countFate = `SELECT count(*), count(*) FILTER (wins),
  count(*) FILTER (wins AND NOT known AND NOT deleted), count(*) FILTER (wins AND known AND NOT deleted),
  count(*) FILTER (wins AND deleted), count(*) FILTER (wins AND known) FROM sluice_fate`
)

func (m *merge) run(ctx context.Context) (load.Result, error) {
	// Rows of a table have no order, and keeping the parts' costs memory.
	if _, err := m.exec(ctx, "SET preserve_insertion_order = false"); err != nil {
		return load.Result{}, err
	}
	var err error
	if m.parts, err = m.openParts(ctx, m.pkg); err != nil {
		return load.Result{}, err
	}
	if err := m.decide(ctx); err != nil {
		return load.Result{}, fmt.Errorf("compare with the table: %w", err)
	}
	if err := m.write(ctx); err != nil {
		return load.Result{}, fmt.Errorf("write rows: %w", err)
	}
	return m.result, nil
}

// decide fills sluice_fate and counts.
func (m *merge) decide(ctx context.Context) error {
	var staged []schemas.Column
	for _, c := range m.columns.Columns {
		if _, ok := needed()[c.Name]; ok {
			staged = append(staged, c)
		}
	}
	rows, err := m.exec(ctx, fmt.Sprintf(createKeys, m.parts.relation(staged)))
	if err != nil {
		return err
	}
	if err := m.get(ctx, []any{&rows}, "SELECT count(id) FROM sluice_keys WHERE n IS NOT NULL AND counts IS NOT NULL AND extracted IS NOT NULL AND hash IS NOT NULL"); err != nil {
		return err
	}
	if rows != m.parts.rows {
		return damaged(fmt.Errorf("%d of %d rows have an id, its times, a row number and a hash", rows, m.parts.rows))
	}
	for _, text := range []string{fmt.Sprintf(createMet, m.table.current()), createTwins, createFate, insertSingles} {
		if _, err := m.exec(ctx, text); err != nil {
			return err
		}
	}
	var met, twins int64
	if err := m.get(ctx, []any{&met, &twins}, "SELECT (SELECT count(*) FROM sluice_met), (SELECT count(*) FROM sluice_twins)"); err != nil {
		return err
	}
	if twins > 0 {
		if _, err := m.exec(ctx, insertTwins); err != nil {
			return err
		}
	}
	r := load.Result{Files: []load.File{}}
	if err := m.get(ctx, []any{&r.Versions, &m.winners, &r.New, &r.Changed, &r.Deleted, &m.gone}, countFate); err != nil {
		return err
	}
	r.Unchanged = met - m.gone
	m.result = r
	return nil
}

// write moves the rows to where they belong. Numbers that do not add up mean
// row numbers that are not unique, or a row of current that stands there twice.
func (m *merge) write(ctx context.Context) error {
	for _, step := range []struct {
		what, text string
		want       int64
	}{
		{"add to history", m.insert(m.table.history(), "true"), m.result.Versions},
		{"remove from current", "DELETE FROM " + m.table.current() + " WHERE rowid IN (SELECT rid FROM sluice_fate WHERE wins AND known)", m.gone},
		{"add to current", m.insert(m.table.current(), "f.wins"), m.winners},
	} {
		if step.want == 0 {
			continue
		}
		n, err := m.exec(ctx, step.text)
		if err != nil {
			return err
		}
		if n != step.want {
			return &Error{
				Message: fmt.Sprintf("%s: %d rows instead of %d", step.what, n, step.want), Path: m.path,
				hint: "The package, or the table, was changed by something else. " + startAnew,
			}
		}
	}
	return nil
}

// insert copies rows of the package that are in sluice_fate f to a table.
func (m *merge) insert(into, which string) string {
	var names, values []string
	var staged []schemas.Column
	for _, c := range m.columns.Columns {
		name := views.QuoteName(c.Name)
		names = append(names, name)
		switch c.Name {
		case schemas.ColRunID:
			values = append(values, views.QuoteText(m.pkg.RunID))
		case schemas.ColPackage:
			values = append(values, fmt.Sprint(m.pkg.Serial))
		case schemas.ColChange:
			values = append(values, "CASE WHEN f.deleted THEN 'delete' WHEN f.known THEN 'update' ELSE 'insert' END")
		default:
			staged = append(staged, c)
			values = append(values, "p."+name)
		}
	}
	return "INSERT INTO " + into + " (" + strings.Join(names, ", ") + ")\nSELECT " + strings.Join(values, ", ") +
		"\nFROM (" + m.parts.relation(staged) + ") p JOIN sluice_fate f ON f.n = p.\"_sluice_row\" WHERE " + which
}
