//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"testing"
	"time"

	bq "google.golang.org/api/bigquery/v2"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/schemas"
)

// loaderAt is a loader that hardly waits.
func loaderAt(t *testing.T, s *bqtest.Server, method Method) *Loader {
	t.Helper()
	return &Loader{remoteAt(t, s, Options{Method: method})}
}

func commit(t *testing.T, l *Loader, s loadtest.Spec) load.Result {
	t.Helper()
	got, err := l.Commit(t.Context(), loadtest.Build(t, s))
	if err != nil {
		t.Fatal(err)
	}
	return got
}

func TestAContactWhoseCreatedAtMovesIsKnownWhereItStands(t *testing.T) {
	t.Parallel()
	month := func(n int) time.Time { return time.Date(2026, time.Month(n), 15, 12, 0, 0, 0, time.UTC) }
	for name, method := range map[string]Method{"stream": Stream, "load": Load, "cdc": CDC, "cdc, partitioned once": CDC} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			l := loaderAt(t, standIn(t, bqtest.Options{}), method)
			if name == "cdc, partitioned once" { // both tables as an earlier version made them
				prepare(t, l.remote, loadtest.Build(t, loadtest.Spec{Serial: 1}))
				repartition(t, l.remote, l.o.Table, &bq.TimePartitioning{Type: "MONTH", Field: schemas.ColCreatedAt})
				repartition(t, l.remote, l.o.commits(), nil)
			}
			at := func(h int) time.Time { return loadtest.Epoch.Add(time.Duration(h) * time.Minute) }
			a := loadtest.Contact("a", month(1), at(1), "name", "one")
			b := loadtest.Contact("b", month(2), at(1), "name", "one")
			commit(t, l, loadtest.Spec{Serial: 1, Rows: []loadtest.Row{a, b}})
			// Alone in its package, and to a month that nobody was in.
			got := commit(t, l, loadtest.Spec{Serial: 2, Rows: []loadtest.Row{a.With(schemas.ColCreatedAt, month(4), schemas.ColUpdatedAt, at(2))}})
			if want := (load.Result{Changed: 1, Versions: 1, Moved: 1}); got.New != 0 || got.Changed != want.Changed || got.Versions != want.Versions || got.Moved != want.Moved {
				t.Errorf("a contact that moved gives %+v", got)
			}
			// A tombstone finds its contact as well.
			got = commit(t, l, loadtest.Spec{Serial: 3, Rows: []loadtest.Row{b.With(schemas.ColCreatedAt, month(5), schemas.ColUpdatedAt, at(3), schemas.ColDeletedAt, at(3))}})
			if got.Deleted != 1 || got.Versions != 1 || got.Moved != 1 {
				t.Errorf("a tombstone of a contact that moved gives %+v", got)
			}
			// Nothing came in between, and it moves once more.
			commit(t, l, loadtest.Spec{Serial: 4})
			got = commit(t, l, loadtest.Spec{Serial: 5, Rows: []loadtest.Row{a.With(schemas.ColCreatedAt, month(3), schemas.ColUpdatedAt, at(4))}})
			if got.Changed != 1 || got.Moved != 1 {
				t.Errorf("a contact that moved after an empty package gives %+v", got)
			}
			rows := read(t, l.remote, "SELECT id, created_at, _sluice_change FROM "+l.o.quoted(l.o.Table)+" ORDER BY id")
			if len(rows) != 2 || rows[0][schemas.ColCreatedAt] != month(3) || rows[0][schemas.ColChange] != "update" || rows[1][schemas.ColCreatedAt] != month(5) || rows[1][schemas.ColChange] != "delete" {
				t.Errorf("the table has %v", rows)
			}
			if versions := read(t, l.remote, "SELECT id FROM "+l.o.quoted(l.o.history())); len(versions) != 5 {
				t.Errorf("history has %v", versions)
			}
		})
	}
}

func TestWithUpsertsAContactThatMovesToTheLastDaysIsKnownTooAndStandsOnce(t *testing.T) {
	t.Parallel()
	l := loaderAt(t, standIn(t, bqtest.Options{}), CDC)
	at := func(h int) time.Time { return loadtest.Epoch.Add(time.Duration(h) * time.Minute) }
	a := loadtest.Contact("a", at(1).AddDate(0, -6, 0), at(1), "name", "one")
	commit(t, l, loadtest.Spec{Serial: 1, Rows: []loadtest.Row{a}})
	// A contact created now is new for all that the times tell.
	got := commit(t, l, loadtest.Spec{Serial: 2, Rows: []loadtest.Row{a.With(schemas.ColCreatedAt, at(2), schemas.ColUpdatedAt, at(2))}})
	if got.New != 0 || got.Changed != 1 || got.Moved != 1 {
		t.Errorf("a contact that moved gives %+v", got)
	}
	if rows := read(t, l.remote, "SELECT id, created_at, _sluice_change FROM "+l.o.quoted(l.o.Table)); len(rows) != 1 || rows[0][schemas.ColCreatedAt] != at(2) || rows[0][schemas.ColChange] != "update" {
		t.Errorf("the table has %v", rows)
	}
}
