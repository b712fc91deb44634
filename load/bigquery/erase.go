package bigquery

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluice-etl/sluice/load"
)

// Erase implements load.Eraser: one transaction deletes the contact's rows and
// takes its id out of the records. What the service keeps of deleted rows, for
// time travel and its own recovery, ends by itself.
func (l *Loader) Erase(ctx context.Context, e load.Erasure) (load.Erased, error) {
	if e.ID == "" {
		return load.Erased{}, errors.New("erase contact: no id is given")
	}
	last, err := l.open(ctx, e.Lineage)
	if err != nil || last == nil {
		return load.Erased{}, err
	}
	if l.o.Method == CDC {
		return load.Erased{}, &Error{
			Message: "statements cannot delete rows of a table with change data capture", Table: l.o.place(l.o.Table),
			hint: "Give the pipeline another table name, which a full read fills, and drop this table; or erase while the destination is out of the pipelines file, and delete the row by a change of type DELETE.",
		}
	}
	out, err := l.holds(ctx, e.ID)
	if err != nil || e.DryRun || !out.Any() {
		return out, err
	}
	o := l.o
	script := "BEGIN TRANSACTION;\n"
	for _, table := range []string{o.Table, o.history(), o.staging()} {
		script += fmt.Sprintf("DELETE FROM %s WHERE id = @id;\n", o.quoted(table))
	}
	script += fmt.Sprintf("UPDATE %[1]s SET coverage = REPLACE(coverage, @id, 'erased'), result = REPLACE(result, @id, 'erased') WHERE STRPOS(IFNULL(coverage, ''), @id) > 0 OR STRPOS(IFNULL(result, ''), @id) > 0;\nCOMMIT TRANSACTION;\n",
		o.quoted(o.commits()))
	if _, _, err := l.query(ctx, script, textParam("id", e.ID)); err != nil {
		return load.Erased{}, fmt.Errorf("erase contact: %w", err)
	}
	return out, nil
}

// holds counts what there is of a contact.
func (l *Loader) holds(ctx context.Context, id string) (load.Erased, error) {
	o := l.o
	q, _, err := l.query(ctx, fmt.Sprintf(`SELECT (SELECT COUNT(*) FROM %s WHERE id = @id), (SELECT COUNT(*) FROM %s WHERE id = @id),
  (SELECT COUNT(*) FROM %s WHERE id = @id) + (SELECT COUNT(*) FROM %s WHERE STRPOS(IFNULL(coverage, ''), @id) > 0 OR STRPOS(IFNULL(result, ''), @id) > 0)`,
		o.quoted(o.Table), o.quoted(o.history()), o.quoted(o.staging()), o.quoted(o.commits())), textParam("id", id))
	if err != nil {
		return load.Erased{}, fmt.Errorf("look for contact: %w", err)
	}
	row, err := q.one(ctx)
	if err != nil {
		return load.Erased{}, fmt.Errorf("look for contact: %w", err)
	}
	var out load.Erased
	var ok [3]bool
	out.Current, ok[0] = row[0].(int64)
	out.History, ok[1] = row[1].(int64)
	out.Names, ok[2] = row[2].(int64)
	if !ok[0] || !ok[1] || !ok[2] {
		return load.Erased{}, fmt.Errorf("look for contact: counts are %v", row)
	}
	return out, nil
}
