package duckdb

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/views"
)

// The kinds of faults that Verify finds.
const (
	faultDamaged   = "damaged_file"       // DuckDB cannot read all of it
	faultRecorded  = "wrong_record"       // the notes say other numbers or packages
	faultSchema    = "wrong_schema"       // a stored table is missing, or has other columns
	faultDuplicate = "duplicate_id"       // a contact stands more than once in current
	faultVersion   = "duplicate_version"  // a row of a package stands more than once in history
	faultHistory   = "incomplete_history" // current has versions that history lacks
	faultDiffers   = "different_row"      // a row has other values in current than in history
	faultNewer     = "outdated_current"   // history has a later version than current
	faultLost      = "missing_contact"    // history has a contact that current lacks
	faultViews     = "outdated_views"     // a view is gone
)

// namedContacts is how many contacts a fault names.
const namedContacts = 5

// Verify implements load.Verifier. DuckDB reads every block of the two tables,
// each of which has a checksum; then the notes are compared with the tables, and
// the tables with each other. The database is open for reading only, so that
// others may read it meanwhile. DuckDB spills what needs more than memory_limit.
func (l *Loader) Verify(ctx context.Context, lineage string, found func(load.Fault)) (load.Verified, error) {
	var out load.Verified
	if err := ctx.Err(); err != nil {
		return out, err
	}
	err := l.reading(ctx, func(s *session) error {
		t, err := s.inspect(ctx, l.o.Table)
		if err != nil || !t.found {
			return err
		}
		if err := t.ours(l.o.Path, lineage); err != nil {
			return err
		}
		v := &verification{session: s, table: t, found: found}
		err = v.run(ctx)
		out = v.out
		return err
	})
	return out, err
}

// verification is one check of one table.
type verification struct {
	*session
	table stored
	found func(load.Fault)
	out   load.Verified
	whole bool // both tables have every column as it is noted
}

func (v *verification) fault(kind, path string, n int64, format string, args ...any) {
	v.found(load.Fault{Kind: kind, Path: path, Count: n, Detail: fmt.Sprintf(format, args...)})
}

func (v *verification) run(ctx context.Context) error {
	v.out.Files = 1
	for _, path := range []string{v.path, v.path + ".wal"} {
		if info, err := os.Stat(path); err == nil {
			v.out.Bytes += info.Size()
		}
	}
	usable, err := v.columns(ctx)
	if err != nil || !usable {
		return err
	}
	if readable, err := v.readable(ctx); err != nil || !readable {
		return err
	}
	for _, check := range []func(context.Context) error{v.counts, v.packages, v.contacts, v.viewsThere} {
		if err := check(ctx); err != nil {
			return err
		}
	}
	return nil
}

// columns compares the stored tables with the noted columns. usable says that
// nothing is missing which the other checks ask for.
func (v *verification) columns(ctx context.Context) (usable bool, err error) {
	usable, v.whole = true, true
	for _, name := range []string{v.table.name + currentSuffix, v.table.name + historySuffix} {
		there := map[string]string{}
		var column, typ string
		err := v.each(ctx, []any{&column, &typ}, func() error { there[column] = typ; return nil },
			"SELECT column_name, data_type FROM duckdb_columns() WHERE database_name = current_database() AND schema_name = ? AND table_name = ?", schemaName, name)
		if err != nil {
			return false, err
		}
		path := schemaName + "." + name
		if len(there) == 0 {
			v.fault(faultSchema, path, 0, "the table is missing")
			usable = false
			continue
		}
		if err := v.extraColumns(ctx, path, relation(name), there); err != nil {
			return false, err
		}
		for _, c := range v.table.columns.Columns {
			switch had, ok := there[c.Name]; {
			case !ok:
				v.fault(faultSchema, path, 0, "column %s is missing", c.Name)
			case had != views.DuckType(c.Type):
				v.fault(faultSchema, path, 0, "column %s is %s, the notes say %s", c.Name, had, views.DuckType(c.Type))
			default:
				continue
			}
			_, wanted := needed()[c.Name]
			usable, v.whole = usable && !wanted, false
		}
	}
	return usable, nil
}

// extraColumns reports columns that the notes do not name. A commit that was
// killed leaves such columns too, and they are null (see widen).
func (v *verification) extraColumns(ctx context.Context, path, rel string, there map[string]string) error {
	var extra []string
	for name := range there {
		if v.table.columns.Index(name) < 0 {
			extra = append(extra, name)
		}
	}
	slices.Sort(extra)
	for _, name := range extra {
		var n int64
		if err := v.get(ctx, []any{&n}, "SELECT count("+views.QuoteName(name)+") FROM "+rel); err != nil {
			return err
		}
		if n > 0 {
			v.fault(faultSchema, path, n, "column %s has values and is not in the notes", name)
		}
	}
	return nil
}

// readable reads every value there is: DuckDB checks a block when it loads it.
func (v *verification) readable(ctx context.Context) (bool, error) {
	sound := true
	for _, side := range []struct {
		name string
		rows *int64
	}{{v.table.name + currentSuffix, &v.out.Contacts}, {v.table.name + historySuffix, &v.out.Versions}} {
		var sum string
		err := v.get(ctx, []any{side.rows, &sum}, "SELECT count(*), coalesce(sum(hash(sluice_row)), 0)::VARCHAR FROM "+relation(side.name)+" AS sluice_row")
		switch {
		case err == nil:
		case !isDamage(err):
			return false, err
		default:
			v.fault(faultDamaged, schemaName+"."+side.name, 0, "%s", firstLine(err))
			sound = false
		}
	}
	return sound, nil
}

func firstLine(err error) string {
	line, _, _ := strings.Cut(err.Error(), "\n")
	return line
}

// counts compares the numbers of rows with those that every package has added.
func (v *verification) counts(ctx context.Context) error {
	has, err := v.hasCounts(ctx)
	if err != nil || !has {
		return err
	}
	var current, history int64
	return v.each(ctx, []any{&current, &history}, func() error {
		for _, side := range []struct {
			suffix     string
			rows, want int64
		}{{currentSuffix, v.out.Contacts, current}, {historySuffix, v.out.Versions, history}} {
			if side.rows != side.want {
				v.fault(faultRecorded, schemaName+"."+v.table.name+side.suffix, 0, "it has %d rows, the notes say %d", side.rows, side.want)
			}
		}
		return nil
	}, "SELECT current_rows, history_rows FROM _sluice.counts WHERE table_name = ? AND package = ?", v.table.name, v.table.position)
}

// packages compares the packages of rows with those that were committed.
func (v *verification) packages(ctx context.Context) error {
	var last int64
	if err := v.get(ctx, []any{&last}, "SELECT coalesce(max(package), 0) FROM _sluice.packages WHERE table_name = ?", v.table.name); err != nil {
		return err
	}
	if last != v.table.position {
		v.fault(faultRecorded, "", 0, "the table is at package %d, the last one noted is %d", v.table.position, last)
	}
	for _, suffix := range []string{currentSuffix, historySuffix} {
		if err := v.named(ctx, faultRecorded, schemaName+"."+v.table.name+suffix, "rows of packages that were never committed: %s",
			`SELECT "id" FROM `+relation(v.table.name+suffix)+` WHERE "_sluice_package" NOT IN (SELECT package FROM _sluice.packages WHERE table_name = `+views.QuoteText(v.table.name)+`)`); err != nil {
			return err
		}
	}
	return nil
}

// order is what load.Loader orders the rows of a contact by.
const order = `(least("updated_at", "_sluice_extracted_at"), "_sluice_extracted_at", "_sluice_package", "_sluice_row")`

// contacts compares current and history.
func (v *verification) contacts(ctx context.Context) error {
	current, history := v.table.current(), v.table.history()
	in := func(suffix string) string { return schemaName + "." + v.table.name + suffix }
	var shared []string
	for _, c := range v.table.columns.Columns {
		shared = append(shared, views.QuoteName(c.Name))
	}
	// A row's columns by the same names in one order: tables that grew in other
	// steps than they are noted have others.
	digest := func(from string) string {
		return `SELECT "id", "_sluice_package" AS p, "_sluice_row" AS n, hash(` + strings.Join(shared, ", ") + `) AS digest FROM ` + from
	}
	version := `"id", "_sluice_hash", "_sluice_deleted_at" IS NOT NULL AS gone, "_sluice_package", "_sluice_row"`
	for _, check := range []struct{ kind, path, format, query string }{
		{
			faultDuplicate, in(currentSuffix), "contacts that stand more than once: %s",
			`SELECT "id" FROM ` + current + ` GROUP BY "id" HAVING count(*) > 1`,
		},
		{
			faultVersion, in(historySuffix), "contacts with a row that stands more than once: %s",
			`SELECT min("id") AS "id" FROM ` + history + ` GROUP BY "_sluice_package", "_sluice_row" HAVING count(*) > 1`,
		},
		{
			faultHistory, in(historySuffix), "history lacks the current version of %s",
			`SELECT "id" FROM (SELECT ` + version + ` FROM ` + current + `) c ANTI JOIN (SELECT ` + version + ` FROM ` + history + `) h USING ("id", "_sluice_hash", gone, "_sluice_package", "_sluice_row")`,
		},
		{
			faultDiffers, in(currentSuffix), "rows with other values than in history: %s",
			`SELECT c."id" FROM (` + digest(current) + `) c JOIN (` + digest(history) + `) h USING (p, n) WHERE c."id" = h."id" AND c.digest <> h.digest`,
		},
		{
			faultNewer, in(currentSuffix), "history has a later version of %s",
			`SELECT DISTINCT c."id" FROM (SELECT "id", ` + order + ` AS place FROM ` + current + `) c JOIN (SELECT "id", max(` + order + `) AS place FROM ` + history + ` GROUP BY "id") h ON h."id" = c."id" AND h.place > c.place`,
		},
		{
			faultLost, in(currentSuffix), "contacts that history alone has: %s",
			`SELECT DISTINCT "id" FROM ` + history + ` h ANTI JOIN ` + current + ` c USING ("id")`,
		},
	} {
		if check.kind == faultDiffers && !v.whole {
			continue
		}
		if err := v.named(ctx, check.kind, check.path, check.format, check.query); err != nil {
			return err
		}
	}
	return nil
}

// named reports the contacts that a query finds, a few of them by id.
func (v *verification) named(ctx context.Context, kind, path, format, query string) error {
	var n int64
	var some []string
	var id string
	err := v.each(ctx, []any{&n, &id}, func() error { some = append(some, id); return nil },
		fmt.Sprintf(`WITH found AS MATERIALIZED (%s) SELECT (SELECT count(*) FROM found), "id" FROM found ORDER BY "id" LIMIT %d`, query, namedContacts))
	if err != nil || n == 0 {
		return err
	}
	list := strings.Join(some, ", ")
	if more := n - int64(len(some)); more > 0 {
		list += fmt.Sprintf(" and %d more", more)
	}
	v.fault(kind, path, n, format, list)
	return nil
}

// viewsThere reports views that are gone. Whose text someone changed are theirs.
func (v *verification) viewsThere(ctx context.Context) error {
	standing, err := v.names(ctx)
	if err != nil {
		return err
	}
	for _, name := range slices.Concat(v.table.views.Names, v.table.views.Macros) {
		if standing[strings.ToLower(name)] == "" {
			v.fault(faultViews, "main."+name, 0, "it is missing; the next package makes the views again")
		}
	}
	return nil
}
