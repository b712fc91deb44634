package crashtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"strings"

	bq "cloud.google.com/go/bigquery"
	"google.golang.org/api/iterator"

	"github.com/sluice-etl/sluice/schemas"
)

// CheckWarehouse is Check of a table in BigQuery, which is read by the vendor's
// own client.
func (j *Judge) CheckWarehouse(ctx context.Context, client *bq.Client, dataset, name string, table schemas.Table, e Expect) ([]string, error) {
	r := relations{current: "warehouse_current", history: "warehouse_history"}
	for relation, from := range map[string]string{r.current: name, r.history: name + "_history"} {
		if err := j.fetch(ctx, client, "SELECT * FROM `"+dataset+"."+from+"`", relation, table); err != nil {
			return nil, fmt.Errorf("read %s: %w", from, err)
		}
	}
	return j.compare(ctx, r, table, e)
}

// fetch copies the rows of a statement's result to a relation of the judge's.
func (j *Judge) fetch(ctx context.Context, client *bq.Client, statement, relation string, table schemas.Table) (err error) {
	columns, places := make([]string, len(table.Columns)), make([]string, len(table.Columns))
	for i, c := range table.Columns {
		typ, known := map[schemas.Type]string{
			schemas.String: "VARCHAR", schemas.JSON: "VARCHAR", schemas.Int64: "BIGINT", schemas.Float64: "DOUBLE",
			schemas.Bool: "BOOLEAN", schemas.Timestamp: "TIMESTAMP",
		}[c.Type]
		if !known {
			return fmt.Errorf("column %s has type %s, which no contact has", c.Name, c.Type)
		}
		columns[i], places[i] = `"`+c.Name+`" `+typ, "?"
	}
	if _, err := j.db.ExecContext(ctx, "CREATE OR REPLACE TABLE "+relation+" ("+strings.Join(columns, ", ")+")"); err != nil {
		return err
	}
	it, err := client.Query(statement).Read(ctx)
	if err != nil {
		return err
	}
	tx, err := j.db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() {
		if rollback := tx.Rollback(); !errors.Is(rollback, sql.ErrTxDone) {
			err = errors.Join(err, rollback)
		}
	}()
	insert, err := tx.PrepareContext(ctx, "INSERT INTO "+relation+" VALUES ("+strings.Join(places, ", ")+")")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, insert.Close()) }()
	for {
		row := map[string]bq.Value{}
		if err := it.Next(&row); errors.Is(err, iterator.Done) {
			return tx.Commit()
		} else if err != nil {
			return err
		}
		if len(row) != len(table.Columns) {
			return fmt.Errorf("it has %d columns, want %d", len(row), len(table.Columns))
		}
		values := make([]any, len(table.Columns))
		for i, c := range table.Columns {
			value, there := row[c.Name]
			if !there {
				return fmt.Errorf("it has no column %s", c.Name)
			}
			values[i] = value
		}
		if _, err := insert.ExecContext(ctx, values...); err != nil {
			return err
		}
	}
}
