package bqtest

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// Rules of this file are those of the page "Stream table updates with change data
// capture ingestion", by section.
const (
	maxCDCColumns = 2000           // "Limitations": top-level columns
	maxKeyColumns = 16             // "Prerequisites"
	deleteWindow  = 48 * time.Hour // "Deleted data considerations": the delete retention window
)

// change is what a row of change data capture does.
type change struct {
	remove   bool
	sequence string // four sections of 16 digits, comparable as text; "" without
}

// cdcTable holds the changes of a table that are not applied yet, and what is
// known of the keys of those that were. Its mu is taken before the server's.
type cdcTable struct {
	mu       sync.Mutex
	key      []string // column names
	pending  string   // table of DuckDB: columns, and those of changeColumns
	applied  string   // table of DuckDB: key columns, and those of changeColumns
	columns  []string // of pending that are the table's
	arrivals int64
	waiting  int64     // rows of pending
	since    time.Time // arrival of the oldest of them
	ordered  bool      // changes have sequence numbers
	applyAt  time.Time // when changes were last applied; guarded by writeState.mu
}

// Columns of both tables beside the table's: the order of arrival, its time,
// the sequence number, and whether the row is a DELETE. No column of a table can
// have such a name.
const changeColumns = `"row arrival" BIGINT, "row time" TIMESTAMP, "row sequence" VARCHAR, "row removed" BOOLEAN`

var changeNames = []string{"row arrival", "row time", "row sequence", "row removed"}

var sequenceNumber = regexp.MustCompile(`^[0-9A-Fa-f]{1,16}(/[0-9A-Fa-f]{1,16}){0,3}$`)

// parseChange reads the pseudocolumns. _CHANGE_TYPE "only accepts the values
// UPSERT and DELETE" ("Specify changes to existing records");
// _CHANGE_SEQUENCE_NUMBER is up to four sections of up to 16 hexadecimal digits,
// compared section by section as unsigned numbers ("Manage custom ordering").
func parseChange(changeType, sequence any) (change, error) {
	var c change
	switch changeType {
	case "UPSERT":
	case "DELETE":
		c.remove = true
	default:
		return c, fmt.Errorf("The given value is not a valid CHANGE_TYPE: %v", changeType) //nolint:staticcheck // the service's text
	}
	if sequence == nil {
		return c, nil
	}
	text, _ := sequence.(string)
	if !sequenceNumber.MatchString(text) {
		return c, fmt.Errorf("The given value is not a valid CHANGE_SEQUENCE_NUMBER: %q", text) //nolint:staticcheck // the service's text
	}
	sections := strings.Split(strings.ToUpper(text), "/")
	for i := range 4 {
		section := ""
		if i < len(sections) {
			section = sections[i]
		}
		c.sequence += strings.Repeat("0", 16-len(section)) + section
	}
	return c, nil
}

// cdcAllowed refuses changes where they are not supported ("Prerequisites").
func (c *appendConn) cdcAllowed(d *protoDecoder) error {
	switch {
	case c.st != nil:
		return invalidArgument("Change data capture needs the '_default' stream.")
	case len(c.t.primaryKey) == 0:
		return invalidArgument("Change data capture needs a table with a primary key.")
	case len(c.t.primaryKey) > maxKeyColumns:
		return invalidArgument("A primary key has at most %d columns.", maxKeyColumns)
	case len(c.t.columns) > maxCDCColumns:
		return invalidArgument("A table with change data capture has at most %d columns.", maxCDCColumns)
	}
	for _, k := range c.t.primaryKey {
		if !slices.ContainsFunc(d.names, func(n string) bool { return strings.EqualFold(n, k) }) {
			return invalidArgument("The primary key column %s is missing from the writer's schema.", k)
		}
	}
	return nil
}

// changesOf gives the state of a table, made if create says so; else nil.
func (s *Server) changesOf(t *table, create bool) *cdcTable {
	s.write.mu.Lock()
	defer s.write.mu.Unlock()
	c := s.write.cdc[t]
	if c == nil && create {
		c = &cdcTable{}
		s.write.cdc[t] = c
	}
	return c
}

// appendChanges keeps changes until they are due.
func (s *Server) appendChanges(ctx context.Context, w writeTable, d *decoded) error {
	c := s.changesOf(w.table, true)
	c.mu.Lock()
	defer c.mu.Unlock()
	ordered := c.ordered
	if c.arrivals == 0 && len(d.changes) > 0 {
		ordered = d.changes[0].sequence != ""
	}
	for i, ch := range d.changes {
		// "The _CHANGE_SEQUENCE_NUMBER value should always be supplied" once it is
		// used, else the order is unpredictable: refused, being a fault of the writer.
		if (ch.sequence != "") != ordered {
			return invalidArgument("stand-in: row %d: rows with and without %s are mixed.", i, changeSequenceColumn)
		}
	}
	now := s.now()
	rows := make([][]any, len(d.rows))
	for i, row := range d.rows {
		rows[i] = append(slices.Clip(row), c.arrivals+int64(i), now, d.changes[i].sequence, d.changes[i].remove)
	}
	err := s.changeWritten(ctx, w, func(conn *sql.Conn, t *table) error {
		if err := c.prepare(ctx, conn, w, t, d.columns); err != nil {
			return err
		}
		return appendRows(conn, c.pending, append(slices.Clone(d.columns), changeNames...), rows)
	})
	if err != nil {
		return err
	}
	if c.waiting == 0 {
		c.since = now
	}
	c.ordered = ordered
	c.arrivals += int64(len(rows))
	c.waiting += int64(len(rows))
	return nil
}

// prepare makes the tables that hold changes, or adds columns to them.
func (c *cdcTable) prepare(ctx context.Context, conn *sql.Conn, w writeTable, t *table, columns []string) error {
	kind := func(name string) string { return dataType(t.column(name).kind) }
	if c.pending == "" {
		keys := ""
		for _, k := range w.primaryKey {
			keys += quoteName(t.column(k).name) + " " + kind(k) + ", "
		}
		for _, q := range []string{
			"CREATE TABLE IF NOT EXISTS " + t.phys + "_pending (" + changeColumns + ")",
			"CREATE TABLE IF NOT EXISTS " + t.phys + "_applied (" + keys + changeColumns + ")",
		} {
			if _, err := conn.ExecContext(ctx, q); err != nil {
				return fmt.Errorf("prepare change data capture: %w", err)
			}
		}
	}
	known := slices.Clone(c.columns)
	for _, name := range columns {
		if slices.Contains(known, name) {
			continue
		}
		q := "ALTER TABLE " + t.phys + "_pending ADD COLUMN IF NOT EXISTS " + quoteName(name) + " " + kind(name)
		if _, err := conn.ExecContext(ctx, q); err != nil {
			return fmt.Errorf("prepare change data capture: %w", err)
		}
		known = append(known, name)
	}
	c.pending, c.applied, c.key, c.columns = t.phys+"_pending", t.phys+"_applied", nil, known
	for _, k := range w.primaryKey {
		c.key = append(c.key, t.column(k).name)
	}
	return nil
}

// applyDue applies the changes of a table that are due; the server's lock must not
// be held. Without max_staleness a query sees every change up to its start. With
// it the table is as it was when changes were last applied, until that is
// max_staleness ago; then all are ("Query tables with the max_staleness option
// set"). The stand-in applies as late as that allows, and tells whether it did.
func (s *Server) applyDue(ctx context.Context, ref tableRef) (applied bool, err error) {
	w, missing := s.writeTable(ref)
	if missing != nil {
		return false, nil // or a view: nothing waits, and the reader says what is wrong
	}
	c := s.changesOf(w.table, false)
	if c == nil {
		return false, nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	now := s.now()
	if c.waiting == 0 || now.Sub(c.since) < w.maxStaleness {
		return false, nil
	}
	err = s.changeWritten(ctx, w, func(conn *sql.Conn, t *table) error { return c.apply(ctx, conn, t, now) })
	if errors.Is(err, errReplaced) || status.Code(err) == codes.NotFound {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("apply changes to %s: %w", ref, err)
	}
	c.waiting = 0
	s.write.mu.Lock()
	defer s.write.mu.Unlock()
	c.applyAt = now
	return true, nil
}

// settle is applyDue for a reader that pays nothing.
func (s *Server) settle(ctx context.Context, ref tableRef) error {
	_, err := s.applyDue(ctx, ref)
	return err
}

// apply replaces the rows of keys that have a newer change: of those that wait
// the one with the largest sequence number, the latest of equal ones ("Manage
// custom ordering"), unless one that was applied has a larger. A DELETE is
// remembered for two days ("Deleted data considerations").
func (c *cdcTable) apply(ctx context.Context, conn *sql.Conn, t *table, now time.Time) error {
	keys, list := quoteAll(c.key, ""), quoteAll(c.columns, "")
	same := func(a, b string) string {
		var on []string
		for _, k := range c.key {
			on = append(on, a+"."+quoteName(k)+" = "+b+"."+quoteName(k))
		}
		return strings.Join(on, " AND ")
	}
	newest := c.pending + "_newest"
	state := keys + ", " + quoteAll(changeNames, "")
	forget := strconv.FormatInt(now.Add(-deleteWindow).UnixMicro(), 10)
	for _, q := range []string{
		"CREATE TABLE " + newest + " AS SELECT * FROM " + c.pending + " QUALIFY row_number() OVER (PARTITION BY " + keys +
			` ORDER BY "row sequence" DESC, "row arrival" DESC) = 1`,
		"DELETE FROM " + newest + " n USING " + c.applied + " a WHERE " + same("n", "a") + ` AND a."row sequence" > n."row sequence"`,
		"DELETE FROM " + t.phys + " t USING " + newest + " n WHERE " + same("t", "n"),
		"INSERT INTO " + t.phys + " (" + list + ") SELECT " + list + " FROM " + newest + ` WHERE NOT "row removed" ORDER BY "row arrival"`,
		"DELETE FROM " + c.applied + " a USING " + newest + " n WHERE " + same("a", "n"),
		"INSERT INTO " + c.applied + " (" + state + ") SELECT " + state + " FROM " + newest,
		"DELETE FROM " + c.applied + ` WHERE "row removed" AND "row time" < make_timestamp(` + forget + ")",
		"DROP TABLE " + newest,
		"DELETE FROM " + c.pending,
	} {
		if _, err := conn.ExecContext(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

func quoteAll(names []string, prefix string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = prefix + quoteName(n)
	}
	return strings.Join(quoted, ", ")
}

// hasCDC says whether a table is "active with CDC", and so refuses DML that
// changes rows ("Limitations"); the server's lock is held. The stand-in takes a
// table for active from its first change on.
func (s *Server) hasCDC(t *table) bool {
	return s.changesOf(t, false) != nil
}

// appliedUntil is the table's upsert_stream_apply_watermark, zero for none; the
// server's lock may be held.
func (s *Server) appliedUntil(t *table) time.Time {
	s.write.mu.Lock()
	defer s.write.mu.Unlock()
	if c := s.write.cdc[t]; c != nil {
		return c.applyAt
	}
	return time.Time{}
}
