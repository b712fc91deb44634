package bqtest

import (
	"fmt"
	"slices"
	"strings"
	"time"

	bq "google.golang.org/api/bigquery/v2"
)

// renameRest is how long after it was last streamed to a table can be renamed
// ("Manage tables", "Rename a table": usually 5 hours, and no concurrent DML).
const renameRest = 5 * time.Hour

// sameSpec refuses to replace a table by one that is partitioned or clustered
// otherwise, with the service's message.
func sameSpec(at pos, old *table, m *bq.Table) error {
	if old.view != nil || m.View != nil {
		return nil
	}
	if was, is := specOf(old.meta), specOf(m); was != is {
		return queryError(at, "Cannot replace a table with a different partitioning spec. Instead, DROP the table, and then recreate it. New partitioning spec is %s and existing spec is %s", is, was)
	}
	return nil
}

func specOf(m *bq.Table) string {
	var parts []string
	if p := m.TimePartitioning; p != nil {
		parts = append(parts, "interval(type:"+strings.ToLower(p.Type)+",field:"+strings.ToLower(p.Field)+")")
	}
	if c := m.Clustering; c != nil {
		parts = append(parts, "clustering("+strings.ToLower(strings.Join(c.Fields, ","))+")")
	}
	if parts == nil {
		return "none"
	}
	return strings.Join(parts, " ")
}

// rename gives a table another name in its dataset ("ALTER TABLE RENAME TO").
func (r *session) rename(st *alterStmt, t *table) error {
	name := st.actions[0].names[0]
	if len(st.actions) > 1 {
		return queryError(st.pos, "RENAME TO cannot be combined with other actions")
	}
	d, err := r.s.findDataset(t.ref.project, t.ref.dataset)
	if err != nil {
		return err
	}
	to := tableRef{t.ref.project, t.ref.dataset, name}
	if old := d.tables[name]; old != nil && !r.s.expired(old) {
		return duplicate("Table", to.String())
	}
	if t.owner != nil {
		return queryError(st.pos, "%s is changed by a transaction", t.ref)
	}
	streamed, err := r.streamedTo(t)
	if err != nil {
		return err
	}
	if streamed {
		return queryError(st.pos, "%s cannot be renamed while data is streaming into it", t.ref)
	}
	if r.dryRun {
		return nil
	}
	m, err := clone(t.meta)
	if err != nil {
		return err
	}
	m.TableReference = &bq.TableReference{ProjectId: to.project, DatasetId: to.dataset, TableId: to.table}
	if err := checkTable(m, slices.Clone(t.columns)); err != nil {
		return err
	}
	delete(d.tables, t.ref.table)
	t.ref = to
	d.tables[name] = t
	return r.s.replaceMeta(t, m)
}

// streamedTo reports whether the Storage Write API has written to a table
// lately. A table with change data capture counts for good.
func (r *session) streamedTo(t *table) (bool, error) {
	if r.s.hasCDC(t) {
		return true, nil
	}
	var n int64
	q := "SELECT count(*) FROM " + t.phys + " WHERE " + quoteName(streamedColumn) + " > " + literalSQL(ty("TIMESTAMP"), r.s.now().Add(-renameRest))
	if err := r.conn.QueryRowContext(r.ctx, q).Scan(&n); err != nil {
		return false, fmt.Errorf("look for streamed rows of %s: %w", t.ref, err)
	}
	return n > 0, nil
}
