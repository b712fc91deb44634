package bigquery

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// FormatVersion is the layout of the tables. One with a later version is
// refused.
const FormatVersion = 1

// What the record of a package says of it.
const (
	statusDone     = "done"
	statusClaiming = "claiming" // within its transaction, which nobody sees
	statusApplying = "applying" // in history and on record, its upserts on their way
)

// commitRecord is a row of the commits table; the zero value stands for none.
type commitRecord struct {
	serial int64
	runID  string
	status string
	method Method
	result load.Result
	// extractedFrom is when the extraction began of the latest of the packages
	// that were asked for and have rows; zero where none has.
	extractedFrom time.Time
	committedAt   time.Time
}

// position is the serial of the last package that has taken effect wholly.
func (c *commitRecord) position() int64 {
	if c.status == statusApplying {
		return c.serial - 1
	}
	return c.serial
}

// selectRecords asks for what is short in a record. BigQuery bills a column of
// all records that it goes through, and columns and coverage are some kB each.
const selectRecords = "SELECT format_version, package, run_id, status, method, MAX(extracted_from) OVER (), committed_at, %s FROM %s %s"

// last returns the record of the last package, without its result.
func (l *Loader) last(ctx context.Context) (*commitRecord, error) {
	c, err := l.record(ctx, "'{}'", "ORDER BY package DESC LIMIT 1")
	if c == nil {
		c = &commitRecord{}
	}
	return c, err
}

// recorded returns the record of one package, nil where there is none. Where it
// is known when the package was committed, that day's records are all that is
// read; zero: it is not known.
func (l *Loader) recorded(ctx context.Context, serial int64, at time.Time) (*commitRecord, error) {
	which := "WHERE package = @package"
	if !at.IsZero() {
		which += " AND committed_at = " + literal(at)
	}
	return l.record(ctx, "result", which, intParam("package", serial))
}

// columnsAfter returns the columns of the table after a package on record.
func (l *Loader) columnsAfter(ctx context.Context, c *commitRecord) (schemas.Table, error) {
	q, _, err := l.query(ctx, fmt.Sprintf("SELECT columns FROM %s WHERE package = @package AND committed_at = %s", l.o.quoted(l.o.commits()), literal(c.committedAt)),
		intParam("package", c.serial))
	if err != nil {
		return schemas.Table{}, fmt.Errorf("read columns after package %d: %w", c.serial, err)
	}
	row, err := q.one(ctx)
	if err != nil {
		return schemas.Table{}, fmt.Errorf("read columns after package %d: %w", c.serial, err)
	}
	text, ok := row[0].(string)
	if !ok {
		return schemas.Table{}, foreign(l.o.place(l.o.commits()), fmt.Sprintf("the record of package %d is not laid out as sluice lays it out", c.serial), otherName)
	}
	var out schemas.Table
	if err := json.Unmarshal([]byte(text), &out); err != nil {
		return schemas.Table{}, l.damagedRecord(c.serial, err)
	}
	return out, nil
}

func (l *Loader) damagedRecord(serial int64, err error) error {
	return &Error{Message: fmt.Sprintf("the record of package %d is damaged", serial), Table: l.o.place(l.o.commits()), Err: err, hint: otherName}
}

// record reads the last of the records that are asked for; result is the
// expression for what the package did.
func (l *Loader) record(ctx context.Context, result, which string, params ...param) (*commitRecord, error) {
	q, _, err := l.query(ctx, fmt.Sprintf(selectRecords, result, l.o.quoted(l.o.commits()), which), params...)
	if err != nil {
		return nil, fmt.Errorf("read records of packages: %w", err)
	}
	var out *commitRecord
	err = q.each(ctx, func(row []any) error {
		if out, err = l.readRecord(row); err != nil {
			return err
		}
		return nil
	})
	return out, err
}

func (l *Loader) readRecord(row []any) (*commitRecord, error) {
	place := l.o.place(l.o.commits())
	version, ok := row[0].(int64)
	if ok && version > FormatVersion {
		return nil, l.laterFormat(version)
	}
	c := &commitRecord{}
	serial, ok1 := row[1].(int64)
	runID, ok2 := row[2].(string)
	status, ok3 := row[3].(string)
	method, ok4 := row[4].(string)
	at, ok5 := row[6].(time.Time)
	result, ok6 := row[7].(string)
	if !ok || !ok1 || !ok2 || !ok3 || !ok4 || !ok5 || !ok6 {
		return nil, foreign(place, fmt.Sprintf("the record of package %v is not laid out as sluice lays it out", row[1]), otherName)
	}
	if err := json.Unmarshal([]byte(result), &c.result); err != nil {
		return nil, l.damagedRecord(serial, err)
	}
	c.serial, c.runID, c.status, c.method, c.committedAt, c.result.Files = serial, runID, status, Method(method), at, []load.File{}
	c.extractedFrom, _ = row[5].(time.Time) // null where no package has rows
	return c, nil
}

func (l *Loader) laterFormat(version int64) error {
	return &Error{
		Message: fmt.Sprintf("the table has format %d, this version of sluice knows up to %d", version, FormatVersion), Table: l.o.place(l.o.commits()),
		hint: "Use the newer sluice that wrote it.",
	}
}

// unsettled returns since when versions may be in history and not yet in the
// table: the first extraction of the packages that were committed within the
// staleness, and an hour for a service that lags.
func (l *Loader) unsettled(ctx context.Context, now time.Time) (time.Time, error) {
	q, _, err := l.query(ctx, fmt.Sprintf("SELECT MIN(extracted_from) FROM %s WHERE committed_at >= %s",
		l.o.quoted(l.o.commits()), literal(now.Add(-l.o.MaxStaleness-time.Hour))))
	if err != nil {
		return time.Time{}, err
	}
	row, err := q.one(ctx)
	if err != nil {
		return time.Time{}, err
	}
	from, _ := row[0].(time.Time) // null where there is none
	return from, nil
}

// closeRecord says of a package that all of it has taken effect.
func (l *Loader) closeRecord(ctx context.Context, c *commitRecord) error {
	_, _, err := l.query(ctx, fmt.Sprintf("UPDATE %s SET status = '%s' WHERE package = @package AND committed_at = %s", l.o.quoted(l.o.commits()), statusDone, literal(c.committedAt)),
		intParam("package", c.serial))
	if err != nil {
		return fmt.Errorf("record that package %d has taken effect: %w", c.serial, err)
	}
	return nil
}

// params are the script's parameters: texts that may be long.
func (m *merge) params() ([]param, error) {
	columns, err := json.Marshal(m.table)
	if err != nil {
		return nil, fmt.Errorf("encode columns: %w", err)
	}
	var coverage bytes.Buffer
	if len(m.pkg.Coverage) > 0 {
		if err := json.Compact(&coverage, m.pkg.Coverage); err != nil {
			return nil, fmt.Errorf("read coverage record of run %s: %w", m.pkg.RunID, err)
		}
	}
	return []param{textParam("columns", string(columns)), textParam("coverage", coverage.String())}, nil
}
