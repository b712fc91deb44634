//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/schemas"
)

// numbered gives every row of n that keep wants, as inserted.
func numbered(n int, keep func(i int64) bool) func(each func(row int64, change string) error) error {
	return func(each func(row int64, change string) error) error {
		for i := range int64(n) {
			if keep(i) {
				if err := each(i, "insert"); err != nil {
					return err
				}
			}
		}
		return nil
	}
}

func allRows(int64) bool { return true }

func TestUpsertedRowsHaveEveryValue(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	r := remoteAt(t, s, Options{Method: CDC})
	rows := edges() // one of them of 1969: no partition is in its way
	p := loadtest.Build(t, loadtest.Spec{Serial: 4, RunID: "run-x", Rows: rows, Extra: edgeColumns(), PartRows: 3})
	if err := r.upsert(t.Context(), p, prepare(t, r, p), numbered(len(rows), allRows)); err != nil {
		t.Fatal(err)
	}
	stored := read(t, r, "SELECT * EXCEPT (`_sluice_hash`) FROM "+r.o.quoted("contacts")+" ORDER BY `_sluice_row`")
	if len(stored) != len(rows) {
		t.Fatalf("%d rows, want %d", len(stored), len(rows))
	}
	for i, want := range rows {
		want = want.With(schemas.ColRow, int64(i), schemas.ColExtractedAt, loadtest.Epoch.Add(4*time.Hour), schemas.ColRunID, "run-x",
			schemas.ColPackage, int64(4), schemas.ColChange, "insert")
		sameJSON(t, want, stored[i])
		if diff := gocmp.Diff(map[string]any(want), map[string]any(stored[i])); diff != "" {
			t.Errorf("row %d (-want +got):\n%s", i, diff)
		}
	}
}

func TestUpsertsLandInTheOrderOfTheContractWhateverTheirOwn(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	r := remoteAt(t, s, Options{Method: CDC})
	at := loadtest.Epoch
	older := loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: []loadtest.Row{
		loadtest.Contact("a", at, time.UnixMicro(-5).UTC(), "name", "before 1970"), loadtest.Contact("b", at, at.Add(9999*time.Hour), "name", "from the future"),
	}})
	newer := loadtest.Build(t, loadtest.Spec{Serial: 2, Rows: []loadtest.Row{
		loadtest.Contact("a", at, time.UnixMicro(5).UTC(), "name", "after 1970"), loadtest.Contact("b", at, at.Add(2*time.Hour), "name", "corrected"),
	}})
	table := prepare(t, r, older)
	for range 2 {
		if err := r.upsert(t.Context(), newer, table, numbered(2, allRows)); err != nil {
			t.Fatal(err)
		}
		if err := r.upsert(t.Context(), older, table, numbered(2, allRows)); err != nil {
			t.Fatal(err)
		}
	}
	var got []string
	for _, row := range read(t, r, "SELECT id, name FROM "+r.o.quoted("contacts")+" ORDER BY id") {
		got = append(got, fmt.Sprint(row["name"]))
	}
	if !slices.Equal(got, []string{"after 1970", "corrected"}) {
		t.Errorf("rows %v", got)
	}
}

func TestUpsertsArriveThroughEveryFault(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	r := remoteAt(t, s, Options{Method: CDC})
	rows := many(30)
	p := loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: rows, PartRows: 10})
	table := prepare(t, r, p)
	var faults []bqtest.Fault
	for _, call := range []string{"GetWriteStream", "AppendRows", "AppendRows.response"} {
		for _, code := range []codes.Code{codes.Unavailable, codes.Aborted, codes.ResourceExhausted} {
			faults = append(faults, bqtest.Fault{Call: call, Code: code, Times: 2}, bqtest.Fault{Call: call, Code: code, After: true}, bqtest.Fault{Call: call, Code: code, After: true, Skip: 2})
		}
	}
	faults = append(faults, bqtest.Fault{Call: "AppendRows", Drop: true}, bqtest.Fault{Call: "AppendRows", Drop: true, After: true, Skip: 1})
	for i, f := range faults {
		p.Serial, p.RunID = int64(i+1), fmt.Sprint("run ", i)
		s.Inject(f)
		odd := i%2 == 1
		if err := r.upsert(t.Context(), p, table, numbered(len(rows), func(i int64) bool { return !odd || i%2 == 1 })); err != nil {
			t.Fatalf("%+v: %v", f, err)
		}
		want := int64(len(rows))
		if odd {
			want /= 2
		}
		got := read(t, r, "SELECT COUNT(*) AS n FROM "+r.o.quoted("contacts")+" WHERE `_sluice_package` = @p", intParam("p", p.Serial))
		all := read(t, r, "SELECT COUNT(*) AS n FROM "+r.o.quoted("contacts"))
		if got[0]["n"] != want || all[0]["n"] != int64(len(rows)) {
			t.Fatalf("%+v: %v rows of %v, want %d of %d", f, got[0]["n"], all[0]["n"], want, len(rows))
		}
	}
}

func TestUpsertsWaitForNewColumns(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{SchemaDelay: 200 * time.Millisecond})
	r := remoteAt(t, s, Options{Method: CDC})
	first := loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: many(5)})
	if err := r.upsert(t.Context(), first, prepare(t, r, first), numbered(5, allRows)); err != nil {
		t.Fatal(err)
	}
	rows := []loadtest.Row{loadtest.Contact("new", loadtest.Epoch, loadtest.Epoch, "an_int", int64(5))}
	p := loadtest.Build(t, loadtest.Spec{Serial: 2, Rows: rows, Extra: edgeColumns()})
	if err := r.upsert(t.Context(), p, prepare(t, r, p), numbered(1, allRows)); err != nil {
		t.Fatal(err)
	}
	if got := read(t, r, "SELECT an_int FROM "+r.o.quoted("contacts")+" WHERE id = 'new'"); len(got) != 1 || got[0]["an_int"] != int64(5) {
		t.Errorf("rows %v", got)
	}
}

func TestARowThatIsNotInThePackageIsNoticed(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	r := remoteAt(t, s, Options{Method: CDC})
	p := loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: many(5)})
	err := r.upsert(t.Context(), p, prepare(t, r, p), numbered(6, allRows))
	if err == nil || !strings.Contains(err.Error(), "5 of 6 rows are in the parts") {
		t.Errorf("error %v", err)
	}
}

func TestRowNumbersMayHaveGaps(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	r := remoteAt(t, s, Options{Method: CDC})
	p := loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: many(9), PartRows: 3})
	p.Parts = p.Parts[2:] // rows 6 to 8, where the others were not kept
	if err := r.upsert(t.Context(), p, prepare(t, r, p), numbered(9, func(i int64) bool { return i > 6 })); err != nil {
		t.Fatal(err)
	}
	if got := read(t, r, "SELECT id FROM "+r.o.quoted("contacts")); len(got) != 2 {
		t.Errorf("rows %v", got)
	}
}
