//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	bq "google.golang.org/api/bigquery/v2"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/schemas"
)

const testLineage = "lineage-a"

// standIn starts a server without datasets.
func standIn(t *testing.T, o bqtest.Options) *bqtest.Server {
	t.Helper()
	s, err := bqtest.Start(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// remoteAt is a client that hardly waits.
func remoteAt(t *testing.T, s *bqtest.Server, o Options) *remote {
	t.Helper()
	o.Project, o.Dataset, o.Table, o.CreateDataset = s.Project(), "crm", "contacts", true
	o.Method = cmp.Or(o.Method, Stream)
	o.Endpoint, o.GRPCEndpoint = s.URL(), s.Addr()
	r, err := newRemote(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	r.first = time.Millisecond
	return r
}

// prepare makes the tables for a package.
func prepare(t *testing.T, r *remote, p load.Package) schemas.Table {
	t.Helper()
	table, err := ensureFor(t.Context(), r, p.Table)
	if err != nil {
		t.Fatal(err)
	}
	return table
}

func ensureFor(ctx context.Context, r *remote, want schemas.Table) (schemas.Table, error) {
	lay, err := r.look(ctx)
	if err != nil {
		return schemas.Table{}, err
	}
	return r.ensure(ctx, lay, want, testLineage, "nightly")
}

// resource reads a table's resource.
func resource(t *testing.T, r *remote, name string) *bq.Table {
	t.Helper()
	got, err := r.table(t.Context(), name)
	if err != nil {
		t.Fatal(err)
	}
	if got == nil {
		t.Fatalf("no table %s", name)
	}
	return got
}

// read is the rows of a statement by column.
func read(t *testing.T, r *remote, sql string, params ...param) []loadtest.Row {
	t.Helper()
	q, _, err := r.query(t.Context(), sql, params...)
	if err != nil {
		t.Fatal(err)
	}
	var out []loadtest.Row
	err = q.each(t.Context(), func(values []any) error {
		row := loadtest.Row{}
		for i, v := range values {
			if v != nil {
				row[q.fields[i].Name] = v
			}
		}
		out = append(out, row)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// stagedRows are the rows of an attempt, in order of arrival.
func stagedRows(t *testing.T, r *remote, p load.Package, s staged) []loadtest.Row {
	t.Helper()
	return read(t, r, "SELECT * EXCEPT (`_sluice_package`, `_sluice_attempt`, `_sluice_staged_at`, `_sluice_hash`) FROM "+r.o.quoted(r.o.staging())+
		" WHERE `_sluice_package` = @package AND `_sluice_attempt` = @attempt AND `_sluice_staged_at` = @at ORDER BY `_sluice_row`",
		intParam("package", p.Serial), intParam("attempt", s.Attempt), timeParam("at", s.StagedAt))
}

// arrivedOnce checks that the staging table has the rows, each once.
func arrivedOnce(t *testing.T, r *remote, p load.Package, s staged, rows []loadtest.Row) {
	t.Helper()
	got := stagedRows(t, r, p, s)
	if len(got) != len(rows) {
		t.Fatalf("%d rows staged, want %d", len(got), len(rows))
	}
	for i, row := range got {
		if row.ID() != rows[i].ID() {
			t.Fatalf("row %d is %s, want %s", i, row.ID(), rows[i].ID())
		}
	}
}

// many are rows of several months.
func many(n int) []loadtest.Row {
	rows := make([]loadtest.Row, n)
	for i := range rows {
		at := loadtest.Epoch.AddDate(0, -(i % 3), 0)
		rows[i] = loadtest.Contact(fmt.Sprintf("c%06d", i), at, at.Add(time.Duration(i)*time.Second), "name", fmt.Sprintf("Name %d", i))
	}
	return rows
}

// notes keeps what a loader remembers of a package.
type notes struct{ kept [][]byte }

func (n *notes) remember(_ context.Context, memo []byte) error {
	n.kept = append(n.kept, slices.Clone(memo))
	return nil
}

// last is what the next commit of the package is told.
func (n *notes) last() []byte {
	if len(n.kept) == 0 {
		return nil
	}
	return n.kept[len(n.kept)-1]
}
