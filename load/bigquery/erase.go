package bigquery

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"google.golang.org/protobuf/encoding/protowire"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// changeDelete deletes a row by its key ("Stream table updates with change data
// capture", "Specify changes to existing records").
const changeDelete = "DELETE"

// Erase implements load.Eraser: after the staged rows, one transaction deletes
// the contact's other rows and takes its id out of the records. With change data capture a change deletes the
// row of the table before, which queries see once the staleness is over. What the service keeps of deleted rows, for
// time travel and its own recovery, ends by itself.
func (l *Loader) Erase(ctx context.Context, e load.Erasure) (load.Erased, error) {
	if e.ID == "" {
		return load.Erased{}, errors.New("erase contact: no id is given")
	}
	last, err := l.open(ctx, e.Lineage)
	if err != nil || last == nil {
		return load.Erased{}, err
	}
	out, err := l.holds(ctx, e.ID)
	if err != nil || e.DryRun || !out.Any() {
		return out, err
	}
	o := l.o
	tables := []string{o.history()}
	if last.method != CDC { // as the table is, whatever it is to become
		tables = append(tables, o.Table)
	} else if err := l.deleteRow(ctx, e.ID); err != nil {
		return load.Erased{}, fmt.Errorf("erase contact: %w", err)
	}
	// Rows that were streamed in the last half hour cannot be deleted in a
	// transaction, but outside of one they can (BigQuery Storage Write API, "Use
	// DML with recently streamed data"). An erasure that ends between the two is
	// found unfinished by the next.
	script := fmt.Sprintf("DELETE FROM %s WHERE id = @id;\nBEGIN TRANSACTION;\n", o.quoted(o.staging()))
	for _, table := range tables {
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

// deleteRow takes a contact out of a table with change data capture, where
// statements cannot. The change has the place of the row that it deletes, so
// that a later version of the contact still wins. Its columns are those that may
// not be null.
func (l *Loader) deleteRow(ctx context.Context, id string) error {
	var table schemas.Table
	for name, typ := range needed() {
		table.Columns = append(table.Columns, schemas.Column{Name: name, Type: typ})
	}
	// A row that queries need not show yet is in history.
	var names []string
	for _, c := range table.Columns {
		names = append(names, c.Name)
	}
	one := func(table string) string {
		return "SELECT " + strings.Join(names, ", ") + " FROM " + l.o.quoted(table) + " WHERE id = " + quoteText(id)
	}
	from := "(" + one(l.o.Table) + " UNION ALL " + one(l.o.history()) + ")"
	return l.listRows(ctx, table, from, "", func(rec arrow.Record) error {
		serial, ok1 := columnOf[*array.Int64](rec, schemas.ColPackage)
		run, ok2 := columnOf[*array.String](rec, schemas.ColRunID)
		change, ok3 := columnOf[*array.String](rec, schemas.ColChange)
		if !ok1 || !ok2 || !ok3 {
			return errors.New("read the contact's row: columns are missing")
		}
		for i := range int(rec.NumRows()) {
			w := newProtoWriter(table, run.Value(i), serial.Value(i))
			w.upsert = protowire.AppendString(protowire.AppendTag(nil, w.tail, protowire.BytesType), changeDelete)
			enc, err := w.record(rec, serial.Value(i))
			if err != nil {
				return err
			}
			if err := l.appendChange(ctx, w, enc.message(i, change.Value(i))); err != nil {
				return err
			}
		}
		return nil
	})
}

// appendChange sends one change of the table and waits for the answer.
func (l *Loader) appendChange(ctx context.Context, w *protoWriter, message []byte) error {
	a := &appender{r: l.remote, stream: l.o.path(l.o.Table) + "/streams/_default", window: 1, schema: w.schema}
	defer a.close()
	if err := a.add(ctx, &batch{rows: 1, proto: [][]byte{message}, name: func(int64) string { return "the contact" }}); err != nil {
		return err
	}
	return a.flush(ctx)
}
