package bigquery

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	bq "google.golang.org/api/bigquery/v2"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

var _ load.Replacer = (*Loader)(nil)

// rebuiltSuffix names the table that is to take the place of the current one.
const rebuiltSuffix = "__rebuilt"

// rebuiltLabel is the label of a table that Replace has made: for which method,
// and after which package. A table gets it once it is complete.
const rebuiltLabel = "sluice_rebuilt"

// underWay stands between two methods in the last record while the table changes
// from the one to the other: nobody commits then.
const underWay = ">"

func (o Options) rebuilt() string { return o.Table + rebuiltSuffix }

// sameMethod refuses a table that another kind of method made: rows that came
// as upserts cannot be changed by statements, and upserts need a table that
// nobody changes otherwise. A change that was begun has to be ended.
func (l *Loader) sameMethod(lay layout, last *commitRecord) error {
	if last.serial == 0 {
		return l.sameForm(lay)
	}
	from, to, begun := strings.Cut(string(last.method), underWay)
	if !begun && (last.method == CDC) == (l.o.Method == CDC) {
		return nil
	}
	e := &load.ReplaceError{Table: l.o.place(l.o.Table), Attribute: "method", From: from, To: string(l.o.Method)}
	var detail []string
	if begun {
		detail = append(detail, fmt.Sprintf("A change from %s to %s was begun and did not end: nothing is committed until it has.", from, to))
	}
	e.Detail = strings.Join(append(detail, l.effects(lay)...), "\n")
	return e
}

// sameForm is sameMethod for a table without a package: one that was made for
// cdc has no partitions, and the others need them. Nothing tells the methods
// apart otherwise, and nothing has to.
func (l *Loader) sameForm(lay layout) error {
	t := lay.current
	if lay.commits == nil || t == nil || l.o.Method == CDC || t.TimePartitioning != nil || t.RangePartitioning != nil {
		return nil
	}
	return &load.ReplaceError{
		Table: l.o.place(l.o.Table), Attribute: "method", From: string(CDC), To: string(l.o.Method),
		Detail: "The table holds no package yet, and is made anew.",
	}
}

// begun refuses to read or change a table whose method is being changed: which
// of two tables it is, only the next Replace finds out.
func (l *Loader) begun(lay layout, last *commitRecord) error {
	if !strings.Contains(string(last.method), underWay) {
		return nil
	}
	return l.sameMethod(lay, last)
}

// isRebuilt reports whether Replace has made the table.
func isRebuilt(lay layout) bool { return lay.current != nil && lay.current.Labels[rebuiltLabel] != "" }

// upserts asks which of the package's rows are to be sent to a table of method
// cdc. Rows of a table that Replace has made did not come as upserts, so no
// sequence number keeps an older row from taking their place: there, a row of
// the package is sent only if it is not older.
func (m *merge) upserts() string {
	if !m.rebuilt {
		return m.winners()
	}
	return fmt.Sprintf(`SELECT w._sluice_row, w._sluice_change FROM (
  %s
) AS w JOIN (
  SELECT _s._sluice_row AS n FROM %s AS _s LEFT JOIN %s AS _t ON _t.id = _s.id
  WHERE _s._sluice_extracted_at >= %s AND _s._sluice_extracted_at <= %s AND _s._sluice_package = %d
    AND (_t.id IS NULL OR (%s) OR (_s._sluice_package = _t._sluice_package AND _s._sluice_row = _t._sluice_row))
) AS newer ON newer.n = w._sluice_row
ORDER BY w._sluice_row`, strings.TrimSuffix(m.winners(), "\nORDER BY _sluice_row"), m.o.quoted(m.o.history()), m.o.quoted(m.o.Table),
		literal(m.staged.ExtractedFrom), literal(m.staged.ExtractedTo), m.pkg.Serial, isGreater)
}

// effects say what replacing the table does.
func (l *Loader) effects(lay layout) []string {
	if lay.current == nil {
		return []string{"The new table is complete, and takes its name."}
	}
	b := l.ownBlueprint("")
	out := []string{fmt.Sprintf("The table is copied within BigQuery: about %s rows, %s read once. Nothing is read from the source; history and views stay.",
		thousands(lay.current.NumRows), size(lay.current.NumBytes))}
	if was, is := partitions(lay.current.TimePartitioning), partitions(b.table.TimePartitioning); was != is {
		out = append(out, "Partitions: "+was+" before, "+is+" after.")
	}
	out = append(out,
		"Queries see the old table until the new one is complete. At the end there is no table for a moment, and they fail.",
		"Access granted on this table alone and row access policies have to be given anew; its time travel ends.")
	if names := lay.foreignColumns(); len(names) > 0 {
		text := "Columns that sluice did not add keep their values: " + strings.Join(names, ", ") + "."
		if l.o.Method == CDC {
			text += " From then on a contact that changes loses them."
		}
		out = append(out, text)
	}
	return out
}

// ownBlueprint is the current table as it is made, but for its columns.
func (l *Loader) ownBlueprint(lineage string) blueprint {
	all := l.blueprints(schemas.Table{}, lineage, "")
	return all[slices.IndexFunc(all, func(b blueprint) bool { return b.name == l.o.Table })]
}

// thousands prints a count with commas.
func thousands(n uint64) string {
	s := strconv.FormatUint(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

// size prints a number of bytes in units of 1024.
func size(n int64) string {
	if n < 1<<10 {
		return strconv.FormatInt(n, 10) + " bytes"
	}
	f, unit := float64(n), 0
	for f >= 1<<10 && unit < 4 {
		f, unit = f/(1<<10), unit+1
	}
	return fmt.Sprintf("%.1f %s", f, []string{"", "KiB", "MiB", "GiB", "TiB"}[unit])
}

func partitions(p *bq.TimePartitioning) string {
	if p == nil {
		return "none"
	}
	return "by " + strings.ToLower(p.Type) + " of " + p.Field
}

// Replace implements load.Replacer. BigQuery replaces no table by one with other
// partitions, and renames none that was streamed to in the last hours ("Manage
// tables", "Rename a table"). So the new table is made and filled beside the old
// one, and then takes its name; one job drops the old one and renames the new,
// so that no kill of this process comes between. The last record says meanwhile
// that nothing is to be committed.
func (l *Loader) Replace(ctx context.Context, lineage string) (load.Replaced, error) {
	lay, err := l.look(ctx)
	if err != nil {
		return load.Replaced{}, err
	}
	if err := lay.ours(lineage); err != nil || lay.commits == nil {
		return load.Replaced{}, err
	}
	last, err := l.last(ctx)
	if err != nil || l.sameMethod(lay, last) == nil {
		return load.Replaced{}, err
	}
	x := &replacement{Loader: l, lay: lay, last: last, lineage: lineage}
	if last.serial == 0 {
		return load.Replaced{}, x.again(ctx)
	}
	if err := x.begin(ctx); err != nil {
		return load.Replaced{}, fmt.Errorf("note that the table is replaced: %w", err)
	}
	if !x.complete(lay.current) {
		if err := x.build(ctx); err != nil {
			return load.Replaced{}, fmt.Errorf("build table %s: %w", l.o.place(l.o.rebuilt()), err)
		}
		if err := x.swap(ctx); err != nil {
			return load.Replaced{}, fmt.Errorf("put table %s in its place: %w", l.o.place(l.o.rebuilt()), err)
		}
	}
	if err := x.end(ctx); err != nil {
		return load.Replaced{}, fmt.Errorf("note that the table is replaced: %w", err)
	}
	return load.Replaced{Contacts: contacts(x.lay.current)}, nil
}

// replacement is one call of Replace.
type replacement struct {
	*Loader
	lay     layout
	last    *commitRecord
	lineage string
}

// again makes a table anew that holds nothing. Between its steps there is none,
// which the next commit makes.
func (x *replacement) again(ctx context.Context) error {
	if x.lay.current.NumRows > 0 || x.lay.current.StreamingBuffer != nil {
		return &Error{Message: "the table has rows, and no package is on record", Table: x.o.place(x.o.Table), hint: otherName}
	}
	b := x.ownBlueprint(x.lineage)
	b.fields = columnsOf(x.lay.current)
	if err := x.remove(ctx, x.o.Table); err != nil {
		return err
	}
	return x.ensureTable(ctx, b, nil, x.lay.dataset)
}

// contacts is how many rows a table has.
func contacts(t *bq.Table) int64 {
	return int64(t.NumRows) //nolint:gosec // the service counts rows in an int64
}

// mark is the last record's method while the table changes.
func (x *replacement) mark() string {
	from, _, _ := strings.Cut(string(x.last.method), underWay)
	return from + underWay + string(x.o.Method)
}

// stamp is what the new table is labelled with once it is complete.
func (x *replacement) stamp() string {
	return string(x.o.Method) + "_" + strconv.FormatInt(x.last.serial, 10)
}

func (x *replacement) complete(t *bq.Table) bool {
	return t != nil && t.Labels[rebuiltLabel] == x.stamp()
}

// begin marks the last record, so that a commit that is under way elsewhere
// fails, and one that begins is refused.
func (x *replacement) begin(ctx context.Context) error {
	if string(x.last.method) == x.mark() {
		return nil
	}
	commits := x.o.quoted(x.o.commits())
	_, stats, err := x.query(ctx, fmt.Sprintf("UPDATE %[1]s SET method = @mark WHERE package = @package AND committed_at = %[2]s AND (SELECT MAX(package) FROM %[1]s) = @package",
		commits, literal(x.last.committedAt)), textParam("mark", x.mark()), intParam("package", x.last.serial))
	if err == nil && stats.Affected != 1 {
		err = &Error{Message: "another package was committed meanwhile", Table: x.o.place(x.o.Table), hint: "Nothing was changed. Run it again when no other run is under way."}
	}
	return err
}

// build makes the new table, with the columns of the old one as they are, and
// fills it.
func (x *replacement) build(ctx context.Context) error {
	left, err := x.table(ctx, x.o.rebuilt())
	if err != nil {
		return err
	}
	if left != nil && left.Labels[lineageLabel] != lineageValue(x.lineage) {
		return foreign(x.o.place(x.o.rebuilt()), "a table that sluice did not make has the name", otherName)
	}
	switch {
	case x.lay.current == nil && x.complete(left): // the job that was to rename it has died
		return nil
	case x.lay.current == nil:
		return &Error{Message: "the table is gone, and its history is there", Table: x.o.place(x.o.Table), hint: "Restore it (BigQuery keeps dropped tables for some days: bq cp TABLE@TIME TABLE), then run it again."}
	case left != nil: // it may lack what has been erased or changed since
		if err := x.remove(ctx, x.o.rebuilt()); err != nil {
			return err
		}
	}
	if x.lay.current.MaxStaleness != "" { // else the copy would lack what queries need not show yet
		if _, _, err := x.query(ctx, "ALTER TABLE "+x.o.quoted(x.o.Table)+" SET OPTIONS (max_staleness = INTERVAL 0 MINUTE)"); err != nil {
			return err
		}
	}
	b := x.plan()
	t, err := x.create(ctx, b)
	if err != nil {
		return err
	}
	if _, err := x.keep(ctx, b, t, true, x.lay.dataset); err != nil {
		return err
	}
	if err := x.fill(ctx, b); err != nil {
		return err
	}
	return x.label(ctx, b.name, rebuiltLabel, x.stamp())
}

// plan is the new table: made as any other, with all columns and the labels that
// the old one has.
func (x *replacement) plan() blueprint {
	b := x.ownBlueprint(x.lineage)
	b.name, b.fields = x.o.rebuilt(), columnsOf(x.lay.current)
	labels := maps.Clone(x.lay.current.Labels)
	delete(labels, rebuiltLabel)
	if labels == nil {
		labels = map[string]string{}
	}
	maps.Copy(labels, b.table.Labels)
	b.table.Labels, b.table.EncryptionConfiguration = labels, x.lay.current.EncryptionConfiguration
	return b
}

// remove deletes a table or a view, if it is there.
func (r *remote) remove(ctx context.Context, name string) error {
	err := r.retry(ctx, func(ctx context.Context) error {
		err := r.rest.Tables.Delete(r.o.Project, r.o.Dataset, name).Context(ctx).Do()
		if notFound(err) { // or by an attempt whose answer was lost
			return nil
		}
		return err
	})
	return explain("delete table", r.o.place(name), err)
}

// fill copies each contact once, as the last in the order of load.Loader, and
// counts what has arrived.
func (x *replacement) fill(ctx context.Context, b blueprint) error {
	list := make([]string, len(b.fields))
	for i, f := range b.fields {
		list[i] = quoteName(f.Name)
	}
	columns, rebuilt := strings.Join(list, ", "), x.o.quoted(b.name)
	_, _, err := x.query(ctx, fmt.Sprintf(`INSERT INTO %s (%s)
SELECT %s FROM (
  %s
) WHERE TRUE
QUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY LEAST(updated_at, _sluice_extracted_at) DESC, _sluice_extracted_at DESC, _sluice_package DESC, _sluice_row DESC, sluice_origin) = 1`,
		rebuilt, columns, columns, x.rows(b.fields)))
	if err != nil {
		return err
	}
	q, _, err := x.query(ctx, fmt.Sprintf("SELECT (SELECT COUNT(*) FROM %[1]s), (SELECT COUNT(DISTINCT id) FROM %[1]s), (SELECT COUNT(DISTINCT id) FROM (\n  %[2]s\n))",
		rebuilt, x.rows(nil)))
	if err != nil {
		return err
	}
	n, err := q.one(ctx)
	if err != nil {
		return err
	}
	if n[0] != n[1] || n[0] != n[2] {
		return &Error{
			Message: fmt.Sprintf("it has %v rows of %v contacts, want %v", n[0], n[1], n[2]), Table: x.o.place(x.o.Table),
			hint: "The table is as it was. Something else changes it: run it again when that is done.",
		}
	}
	return nil
}

// rows select the current rows, in the columns given, or the ids alone, and
// where they come from. A package whose upserts are not all sent is in history
// already, and takes effect with the copy.
func (x *replacement) rows(fields []*bq.TableFieldSchema) string {
	if fields == nil {
		fields = []*bq.TableFieldSchema{{Name: "id"}}
	}
	current, history := make([]string, len(fields)), make([]string, len(fields))
	for i, f := range fields {
		current[i], history[i] = quoteName(f.Name), quoteName(f.Name)
		if fieldNamed(columnsOf(x.lay.history), f.Name) == nil && f.Name != "id" {
			history[i] = "NULL" // a column of somebody else's
		}
	}
	out := fmt.Sprintf("SELECT %s, 0 AS sluice_origin FROM %s", strings.Join(current, ", "), x.o.quoted(x.o.Table))
	if x.last.status == statusApplying {
		out += fmt.Sprintf("\n  UNION ALL\n  SELECT %s, 1 FROM %s WHERE _sluice_package = %d", strings.Join(history, ", "), x.o.quoted(x.o.history()), x.last.serial)
	}
	return out
}

// swap puts the new table in the old one's place. Run twice it does nothing more.
func (x *replacement) swap(ctx context.Context) error {
	table, rebuilt := x.o.quoted(x.o.Table), x.o.quoted(x.o.rebuilt())
	_, _, err := x.query(ctx, fmt.Sprintf("IF (SELECT COUNT(*) FROM %s.INFORMATION_SCHEMA.TABLES WHERE table_name = %s) = 1 THEN\n  DROP TABLE IF EXISTS %s;\n  ALTER TABLE %s RENAME TO %s;\nEND IF",
		quoteName(x.o.Project+"."+x.o.Dataset), quoteText(x.o.rebuilt()), table, rebuilt, quoteName(x.o.Table)))
	if err != nil {
		return err
	}
	if x.lay.current, err = x.table(ctx, x.o.Table); err != nil {
		return err
	}
	if !x.complete(x.lay.current) {
		return &Error{Message: "another table has the name, or none", Table: x.o.place(x.o.Table), hint: "Something else made or removed it. Run it again when that is done."}
	}
	return nil
}

// end notes the new method: commits go on.
func (x *replacement) end(ctx context.Context) error {
	_, _, err := x.query(ctx, fmt.Sprintf("UPDATE %s SET method = @method, status = %s WHERE package = @package AND committed_at = %s AND method = @mark",
		x.o.quoted(x.o.commits()), quoteText(statusDone), literal(x.last.committedAt)),
		textParam("method", string(x.o.Method)), textParam("mark", x.mark()), intParam("package", x.last.serial))
	return err
}
