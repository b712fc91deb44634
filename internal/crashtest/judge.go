package crashtest

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	_ "github.com/duckdb/duckdb-go/v2" // the judge

	"github.com/sluice-etl/sluice/schemas"
)

// mostFaults bounds how many faults of one kind are spelled out.
const mostFaults = 10

// Judge compares tables with the source that they were filled from, by DuckDB
// over bare globs and a flattening of its own. It is used by one goroutine.
type Judge struct {
	// Rules are those of the tables' contract; nil: the built-in one's.
	Rules *Rules

	db     *sql.DB
	source map[string]map[string]any // as of the last Look
	now    map[string]string         // their versions
	seen   map[string]map[string]bool
	// settled are the versions that the source had at a Check, by id: those
	// that history has to hold.
	settled map[string]map[string]bool
}

// NewJudge returns a Judge that has seen nothing yet.
func NewJudge() (*Judge, error) {
	// It keeps nothing of the files that it has read: each is replaced before it
	// is read again, and hundreds of cycles would fill the memory with them.
	db, err := sql.Open("duckdb", "?enable_external_file_cache=false&memory_limit=512MB&threads=2")
	if err != nil {
		return nil, fmt.Errorf("open duckdb: %w", err)
	}
	return &Judge{db: db, seen: map[string]map[string]bool{}, settled: map[string]map[string]bool{}}, nil
}

// Close releases DuckDB.
func (j *Judge) Close() error { return j.db.Close() }

// Look takes note of what the source holds: its dump, one contact a line. A
// version that nobody looked at while a run could read it counts as made up.
func (j *Judge) Look(dump []byte) error {
	j.source, j.now = map[string]map[string]any{}, map[string]string{}
	for line := range bytes.Lines(dump) {
		d := json.NewDecoder(bytes.NewReader(line))
		d.UseNumber()
		var c map[string]any
		if err := d.Decode(&c); err != nil {
			return fmt.Errorf("read dump: %w", err)
		}
		id, _ := c["id"].(string)
		if j.source[id] != nil {
			return fmt.Errorf("read dump: the source holds %s twice", id)
		}
		j.source[id], j.now[id] = c, string(bytes.TrimSpace(line))
		note(j.seen, id, j.now[id])
	}
	return nil
}

func note(versions map[string]map[string]bool, id, version string) {
	if versions[id] == nil {
		versions[id] = map[string]bool{}
	}
	versions[id][version] = true
}

// Source returns the contacts of the last Look by id, as JSON has them.
func (j *Judge) Source() map[string]map[string]any { return j.source }

// Rows reads the current files of the table in dir by a bare glob: rows by id,
// and what is wrong with them where an id stands there twice.
func (j *Judge) Rows(ctx context.Context, dir string) (rows map[string]map[string]any, faults []string, err error) {
	return j.rows(ctx, parquetRelations(dir).current)
}

// Expect says what a table may hold besides the source's contacts.
type Expect struct {
	// Marked is that every contact which the source has lost is marked as
	// deleted; else none is lost, or marked.
	Marked bool
	// Unseen is that versions came and went while nobody looked, which history
	// may hold.
	Unseen bool
	// Beside is that runs were committed in another order than they read in: a
	// version that has been replaced and comes in once more is in history once
	// more, from another package. The views leave it out.
	Beside bool
}

// Check returns what is wrong with a table of Parquet files at the last Look:
// where current does not equal the source cell by cell, each contact once, or
// history does not hold every version once.
func (j *Judge) Check(ctx context.Context, dir string, table schemas.Table, e Expect) ([]string, error) {
	return j.compare(ctx, parquetRelations(dir), table, e)
}

// CheckDatabase is Check of a table in a DuckDB file.
func (j *Judge) CheckDatabase(ctx context.Context, path, name string, table schemas.Table, e Expect) (faults []string, err error) {
	if _, err := j.db.ExecContext(ctx, "ATTACH '"+path+"' AS judged (READ_ONLY)"); err != nil {
		return nil, fmt.Errorf("open %s: %w", path, err)
	}
	defer func() {
		_, detachErr := j.db.ExecContext(ctx, "DETACH judged")
		err = errors.Join(err, detachErr)
	}()
	r := relations{current: `judged._sluice."` + name + `__current"`, history: `judged._sluice."` + name + `__history"`}
	for _, relation := range []string{r.current, r.history} {
		differ, err := j.described(ctx, relation, table)
		if err != nil {
			return nil, err
		}
		faults = append(faults, differ...)
	}
	differ, err := j.compare(ctx, r, table, e)
	return append(faults, differ...), err
}

// relations are the SQL of a table's two parts.
type relations struct{ current, history string }

func parquetRelations(dir string) relations {
	return relations{
		current: fmt.Sprintf("read_parquet('%s', hive_partitioning=false)", filepath.Join(dir, "current", "**", "*.parquet")),
		history: fmt.Sprintf("read_parquet('%s', hive_partitioning=false, union_by_name=true)", filepath.Join(dir, "history", "**", "*.parquet")),
	}
}

func (j *Judge) compare(ctx context.Context, r relations, table schemas.Table, e Expect) ([]string, error) {
	for id, version := range j.now {
		note(j.settled, id, version)
	}
	rows, twice, err := j.rows(ctx, r.current)
	if err != nil {
		return nil, err
	}
	faults := twice
	for _, id := range sorted(j.source) {
		row := rows[id]
		switch {
		case row == nil:
			faults = append(faults, fmt.Sprintf("contact %s is missing", id))
		case row[schemas.ColDeletedAt] != nil:
			faults = append(faults, fmt.Sprintf("contact %s is marked as deleted, and the source has it", id))
		default:
			faults = append(faults, j.contact(table, id, row)...)
		}
	}
	for _, id := range sorted(rows) {
		switch {
		case j.source[id] != nil:
		case j.seen[id] == nil:
			faults = append(faults, fmt.Sprintf("the source never had contact %s", id))
		case rows[id][schemas.ColDeletedAt] == nil:
			faults = append(faults, fmt.Sprintf("contact %s is not marked as deleted, and the source has it no more", id))
		}
	}
	if e.Marked {
		for _, id := range sorted(j.settled) {
			if rows[id] == nil {
				faults = append(faults, fmt.Sprintf("contact %s, which the source has lost, left no mark", id))
			}
		}
	}
	more, err := j.history(ctx, r, e)
	return atMost(append(faults, more...)), err
}

// contact says which cells of a contact's row differ from the source.
func (j *Judge) contact(table schemas.Table, id string, row map[string]any) []string {
	if j.Rules != nil {
		return j.Rules.Compare(table, []byte(j.now[id]), row)
	}
	return CompareContact(table, j.source[id], row)
}

// atMost leaves out what nobody would read.
func atMost(faults []string) []string {
	if len(faults) > 2*mostFaults {
		return append(faults[:2*mostFaults:2*mostFaults], fmt.Sprintf("and %d more", len(faults)-2*mostFaults))
	}
	return faults
}

// sorted returns the keys of m in order.
func sorted[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// rows reads a relation by id, and reports ids that stand there twice.
func (j *Judge) rows(ctx context.Context, relation string) (found map[string]map[string]any, twice []string, err error) {
	rows, err := j.db.QueryContext(ctx, "SELECT * FROM "+relation)
	if err != nil {
		return nil, nil, fmt.Errorf("read table: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	names, err := rows.Columns()
	if err != nil {
		return nil, nil, fmt.Errorf("read table: %w", err)
	}
	found = map[string]map[string]any{}
	for rows.Next() {
		values, pointers := make([]any, len(names)), make([]any, len(names))
		for i := range values {
			pointers[i] = &values[i]
		}
		if err := rows.Scan(pointers...); err != nil {
			return nil, nil, fmt.Errorf("read table: %w", err)
		}
		row := make(map[string]any, len(names))
		for i, name := range names {
			row[name] = values[i]
		}
		id, _ := row[schemas.ColID].(string)
		if found[id] != nil {
			twice = append(twice, fmt.Sprintf("current holds %s twice", id))
		}
		found[id] = row
	}
	return found, twice, rows.Err()
}

// history counts the versions of each contact.
func (j *Judge) history(ctx context.Context, r relations, e Expect) (faults []string, err error) {
	const query = `SELECT id, count(*), count(DISTINCT (_sluice_hash, _sluice_deleted_at IS NOT NULL, %s)),
		count(DISTINCT CASE WHEN _sluice_deleted_at IS NULL THEN _sluice_hash END) FROM %s GROUP BY id ORDER BY id`
	by := "0"
	if e.Beside || e.Marked { // a contact that came back and went again has both twice
		by = schemas.ColPackage
	}
	rows, err := j.db.QueryContext(ctx, fmt.Sprintf(query, by, r.history))
	if err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	ids := 0
	for rows.Next() {
		var id string
		var all, versions, live int
		if err := rows.Scan(&id, &all, &versions, &live); err != nil {
			return nil, fmt.Errorf("read history: %w", err)
		}
		ids++
		least, most := len(j.settled[id]), len(j.seen[id])
		switch {
		case all != versions:
			faults = append(faults, fmt.Sprintf("history of %s: %d rows of %d versions", id, all, versions))
		case live < least, live > most && !e.Unseen:
			faults = append(faults, fmt.Sprintf("history of %s: %d versions; the source had from %d to %d", id, live, least, most))
		}
	}
	if err := rows.Err(); err != nil {
		return nil, fmt.Errorf("read history: %w", err)
	}
	if ids < len(j.settled) || ids > len(j.seen) {
		faults = append(faults, fmt.Sprintf("history holds %d contacts, the source had from %d to %d", ids, len(j.settled), len(j.seen)))
	}
	missing, err := j.missingVersions(ctx, r)
	return append(faults, missing...), err
}

// missingVersions are rows of current that history lacks.
func (j *Judge) missingVersions(ctx context.Context, r relations) (faults []string, err error) {
	const key = "id, _sluice_hash, _sluice_deleted_at IS NOT NULL"
	rows, err := j.db.QueryContext(ctx, fmt.Sprintf("SELECT %s FROM %s EXCEPT SELECT %s FROM %s", key, r.current, key, r.history))
	if err != nil {
		return nil, fmt.Errorf("compare history: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id string
		var hash, deleted any
		if err := rows.Scan(&id, &hash, &deleted); err != nil {
			return nil, fmt.Errorf("compare history: %w", err)
		}
		faults = append(faults, fmt.Sprintf("history lacks the current version of %s", id))
	}
	return faults, rows.Err()
}

// IDs reads the ids of a table's current files in one query, as a reader does
// at any time: those not marked as deleted, sorted. ErrTwice is a contact that
// stands there twice; any other error may be one of a file that was replaced
// meanwhile.
func (j *Judge) IDs(ctx context.Context, dir string) (ids []string, err error) {
	glob := filepath.Join(dir, "current", "**", "*.parquet")
	rows, err := j.db.QueryContext(ctx, "SELECT id, count(*) FROM read_parquet('"+glob+"', hive_partitioning=false) WHERE _sluice_deleted_at IS NULL GROUP BY id ORDER BY id")
	if err != nil {
		return nil, fmt.Errorf("read ids: %w", err)
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id string
		var n int
		if err := rows.Scan(&id, &n); err != nil {
			return nil, fmt.Errorf("read ids: %w", err)
		}
		if n > 1 {
			return nil, fmt.Errorf("%w: %s, %d times", ErrTwice, id, n)
		}
		ids = append(ids, id)
	}
	return ids, rows.Err()
}

// ErrTwice is a contact that stands in a table more than once.
var ErrTwice = errors.New("a contact stands there twice")

// Lost returns which of before, sorted, are not in after, sorted.
func Lost(before, after []string) []string {
	var lost []string
	for _, id := range before {
		if _, ok := slices.BinarySearch(after, id); !ok {
			lost = append(lost, id)
		}
	}
	return lost
}

// Summary joins faults for a message.
func Summary(faults []string) string { return strings.Join(faults, "\n") }
