package bigquery

import (
	"context"
	"fmt"
	"strings"

	bq "google.golang.org/api/bigquery/v2"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// The kinds of faults that Verify finds.
const (
	faultSchema     = "wrong_schema"       // a table is missing, or a column, or one has another type
	faultForeign    = "foreign_column"     // a column that sluice did not add
	faultDuplicate  = "duplicate_id"       // a contact stands more than once in the table
	faultVersion    = "duplicate_version"  // a row of a package stands more than once in history
	faultHistory    = "incomplete_history" // the table has versions that history lacks
	faultNewer      = "outdated_current"   // history has a later version than the table
	faultLost       = "missing_contact"    // history has a contact that the table lacks
	faultRecorded   = "wrong_record"       // rows of packages that are not on record
	faultUnfinished = "unfinished_package" // upserts of a package are not all sent
)

// namedContacts is how many contacts a fault names.
const namedContacts = 5

// Verify implements load.Verifier. The service checks its own storage; here the
// tables are compared with their record and with each other. It reads the keys
// of all rows of both. With change data capture, what was committed within the
// staleness may not be visible yet and is no fault.
func (l *Loader) Verify(ctx context.Context, lineage string, found func(load.Fault)) (load.Verified, error) {
	last, err := l.open(ctx, lineage)
	if err != nil || last == nil {
		return load.Verified{}, err
	}
	lay, err := l.look(ctx)
	if err != nil {
		return load.Verified{}, err
	}
	table, err := l.columnsAfter(ctx, last)
	if err != nil {
		return load.Verified{}, err
	}
	v := &verification{l: l, table: table, found: found}
	if !v.columns(lay) {
		return v.out, nil
	}
	if err := v.counts(ctx); err != nil {
		return v.out, err
	}
	return v.out, v.contacts(ctx)
}

// verification is one check of one table.
type verification struct {
	l     *Loader
	table schemas.Table // as on record
	found func(load.Fault)
	out   load.Verified
}

func (v *verification) fault(kind, table string, n int64, format string, args ...any) {
	v.found(load.Fault{Kind: kind, Path: v.l.o.place(table), Count: n, Detail: fmt.Sprintf(format, args...)})
}

// columns compares both tables with the columns on record. It reports whether
// the others can be asked for.
func (v *verification) columns(lay layout) bool {
	usable := true
	for name, t := range map[string]*bq.Table{v.l.o.Table: lay.current, v.l.o.history(): lay.history} {
		if t == nil {
			v.fault(faultSchema, name, 0, "the table is missing")
			usable = false
			continue
		}
		for _, c := range v.table.Columns {
			switch got := kindIn(columnsOf(t), c.Name); got {
			case "":
				v.fault(faultSchema, name, 0, "column %s is missing", c.Name)
			case kindOf(c.Type):
				continue
			default:
				v.fault(faultSchema, name, 0, "column %s is %s, the record says %s", c.Name, got, kindOf(c.Type))
			}
			if _, ok := needed()[c.Name]; ok {
				usable = false
			}
		}
	}
	if names := lay.foreignColumns(); len(names) > 0 {
		v.fault(faultForeign, v.l.o.Table, int64(len(names)), "sluice did not add %s and leaves it alone", strings.Join(names, ", "))
	}
	return usable
}

// counts notes how much there is.
func (v *verification) counts(ctx context.Context) error {
	q, _, err := v.l.query(ctx, fmt.Sprintf("SELECT (SELECT COUNT(*) FROM %s), (SELECT COUNT(*) FROM %s)",
		v.l.o.quoted(v.l.o.Table), v.l.o.quoted(v.l.o.history())))
	if err != nil {
		return err
	}
	row, err := q.one(ctx)
	if err != nil {
		return err
	}
	v.out.Contacts, _ = row[0].(int64)
	v.out.Versions, _ = row[1].(int64)
	for _, name := range []string{v.l.o.Table, v.l.o.history()} {
		t, err := v.l.table(ctx, name)
		if err != nil {
			return err
		}
		if t != nil {
			v.out.Bytes += t.NumBytes
			v.out.Tables++
		}
	}
	return nil
}

// latestVersion is the greatest version of each contact in history.
const latestVersion = `SELECT id, LEAST(updated_at, _sluice_extracted_at) AS counts, _sluice_extracted_at AS extracted, _sluice_package AS pkg, _sluice_row AS n
  FROM %s WHERE TRUE
  QUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY LEAST(updated_at, _sluice_extracted_at) DESC, _sluice_extracted_at DESC, _sluice_package DESC, _sluice_row DESC) = 1`

func (v *verification) contacts(ctx context.Context) error {
	o := v.l.o
	current, history, commits := o.quoted(o.Table), o.quoted(o.history()), o.quoted(o.commits())
	latest := fmt.Sprintf(latestVersion, history)
	visible := ""
	if o.Method == CDC && o.MaxStaleness > 0 {
		visible = fmt.Sprintf(" AND h.pkg NOT IN (SELECT package FROM %s WHERE committed_at >= %s)", commits, literal(o.Clock.Now().Add(-o.MaxStaleness)))
	}
	for _, c := range []struct{ kind, table, what, ids string }{
		{
			faultUnfinished, o.Table, "packages whose upserts are not all sent; a run of the pipeline sends them",
			fmt.Sprintf("SELECT CAST(package AS STRING) AS id FROM %s WHERE status != '%s'", commits, statusDone),
		},
		{
			faultDuplicate, o.Table, "contacts stand more than once",
			"SELECT id FROM " + current + " GROUP BY id HAVING COUNT(*) > 1",
		},
		{
			faultVersion, o.history(), "contacts have a row of a package more than once",
			"SELECT id FROM " + history + " GROUP BY id, _sluice_package, _sluice_row HAVING COUNT(*) > 1",
		},
		{
			faultRecorded, o.history(), "contacts have rows of packages that are not on record",
			fmt.Sprintf("SELECT h.id FROM %s AS h LEFT JOIN %s AS c ON c.package = h._sluice_package WHERE c.package IS NULL", history, commits),
		},
		{
			faultHistory, o.Table, "contacts have a version that history lacks",
			fmt.Sprintf("SELECT t.id FROM %s AS t LEFT JOIN (SELECT DISTINCT id, _sluice_package AS pkg, _sluice_row AS n, _sluice_hash AS digest FROM %s) AS h ON h.id = t.id AND h.pkg = t._sluice_package AND h.n = t._sluice_row AND h.digest = t._sluice_hash WHERE h.id IS NULL", current, history),
		},
		{
			faultNewer, o.Table, "contacts have a later version in history",
			fmt.Sprintf("SELECT t.id FROM %s AS t JOIN (%s) AS h ON h.id = t.id WHERE (h.pkg != t._sluice_package OR h.n != t._sluice_row) AND (%s)%s", current, latest, laterThanRow, visible),
		},
		{
			faultLost, o.Table, "contacts are in history alone",
			fmt.Sprintf("SELECT h.id FROM (%s) AS h LEFT JOIN %s AS t ON t.id = h.id WHERE t.id IS NULL%s", latest, current, visible),
		},
	} {
		if err := v.check(ctx, c.kind, c.table, c.what, c.ids); err != nil {
			return err
		}
	}
	return nil
}

// laterThanRow is the total order between a version h and a row t.
const laterThanRow = `h.counts > LEAST(t.updated_at, t._sluice_extracted_at)
  OR (h.counts = LEAST(t.updated_at, t._sluice_extracted_at) AND (h.extracted > t._sluice_extracted_at
  OR (h.extracted = t._sluice_extracted_at AND (h.pkg > t._sluice_package OR (h.pkg = t._sluice_package AND h.n > t._sluice_row)))))`

// check reports the ids that a query gives, if any.
func (v *verification) check(ctx context.Context, kind, table, what, ids string) error {
	q, _, err := v.l.query(ctx, fmt.Sprintf("SELECT COUNT(*) OVER () AS n, id FROM (%s) ORDER BY id LIMIT %d", ids, namedContacts))
	if err != nil {
		return fmt.Errorf("verify table %s: %w", v.l.o.place(table), err)
	}
	var n int64
	var some []string
	err = q.each(ctx, func(row []any) error {
		n, _ = row[0].(int64)
		id, _ := row[1].(string)
		some = append(some, id)
		return nil
	})
	if err != nil {
		return fmt.Errorf("verify table %s: %w", v.l.o.place(table), err)
	}
	if n > 0 {
		v.fault(kind, table, n, "%d %s: %s", n, what, strings.Join(some, ", "))
	}
	return nil
}

// kindIn is a column's type in a table, "" where it lacks it.
func kindIn(fields []*bq.TableFieldSchema, name string) string {
	if f := fieldNamed(fields, name); f != nil {
		return plainKind(f.Type)
	}
	return ""
}
