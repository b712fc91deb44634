//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	vendor "cloud.google.com/go/bigquery"
	"github.com/apache/arrow/go/v17/arrow"
	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/api/iterator"
	"google.golang.org/api/option"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/schemas"
)

func TestOfTwoThatCommitOnePackageAtOnceBothEndWithItCommittedOnce(t *testing.T) {
	t.Parallel()
	for _, method := range allMethods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			s := standIn(t, bqtest.Options{})
			g := newLedger(t, s, method, "crm")
			for round := range 3 {
				p, want := g.next(round == 1) // the first makes the tables, the second adds a column
				var got [2]load.Result
				var failed [2]error
				var commits []func()
				for i := range got {
					mine, l := p, g.loader()
					mine.Remember = (&notes{}).remember // two processes that know nothing of each other
					commits = append(commits, func() { got[i], failed[i] = l.Commit(t.Context(), mine) })
				}
				beside(t, commits...)
				for i, err := range failed {
					if err != nil {
						t.Fatalf("round %d, loader %d: %v", round, i, err)
					}
				}
				for i := range got {
					got[i].BytesScanned = 0 // the one that came later found nothing to do
				}
				if want.Files = got[0].Files; !gocmp.Equal(got[0], got[1]) || !gocmp.Equal(got[0], want) {
					t.Fatalf("round %d: results %+v and %+v, want %+v", round, got[0], got[1], want)
				}
				if err := g.holds(nil); err != nil {
					t.Fatalf("round %d: %v", round, err)
				}
			}
			// Another state's loader that comes in between changes nothing.
			p, _ := g.next(false)
			other := p
			other.Lineage = "lineage-b"
			if _, err := g.loader().Commit(t.Context(), other); !errors.Is(err, load.ErrForeign) {
				t.Errorf("a loader of another lineage gets %v", err)
			}
			if _, err := g.loader().Commit(t.Context(), p); err != nil {
				t.Fatal(err)
			}
			if err := g.holds(nil); err != nil {
				t.Fatal(err)
			}
			other = p
			other.RunID = "another run"
			if _, err := g.loader().Commit(t.Context(), other); !errors.Is(err, load.ErrAhead) {
				t.Errorf("a package of another run with a used serial gets %v", err)
			}
		})
	}
}

// processed is what the jobs that f starts process, in bytes, as the vendor's
// client tells.
func processed(t *testing.T, client *vendor.Client, f func()) (sum int64) {
	t.Helper()
	seen := map[string]bool{}
	each := func(add func(j *vendor.Job)) {
		for it := client.Jobs(t.Context()); ; {
			j, err := it.Next()
			if errors.Is(err, iterator.Done) {
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			add(j)
		}
	}
	each(func(j *vendor.Job) { seen[j.ID()] = true })
	f()
	each(func(j *vendor.Job) {
		if stats := j.LastStatus().Statistics; !seen[j.ID()] && stats.ParentJobID == "" {
			sum += stats.TotalBytesProcessed
		}
	})
	return sum
}

// days is a clock that stands still so many days before now.
type days int64

func (d *days) Now() time.Time {
	return time.Now().UTC().Truncate(24*time.Hour).AddDate(0, 0, int(*d)-6)
}

// months are n rows of each of some of the months before Epoch, read at at.
func months(at time.Time, n, first int, from, until int) []loadtest.Row {
	var rows []loadtest.Row
	for m := from; m < until; m++ {
		for i := first; i < first+n; i++ {
			r := loadtest.Contact(fmt.Sprintf("month %02d contact %05d", m, i), loadtest.Epoch.AddDate(0, -m-1, 0), at, "name", "as of "+at.String())
			rows = append(rows, r.With(schemas.ColExtractedAt, at))
		}
	}
	slices.SortStableFunc(rows, func(a, b loadtest.Row) int {
		return a[schemas.ColCreatedAt].(time.Time).Compare(b[schemas.ColCreatedAt].(time.Time))
	})
	return rows
}

// recordKeys is how many bytes of the record of an earlier package a commit reads
// at most: what it took, of which run it was and when, several times over.
const recordKeys = 300

func TestWhatACommitProcessesFollowsTheChangeAndNotTheTable(t *testing.T) {
	t.Parallel()
	for _, method := range allMethods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			s := standIn(t, bqtest.Options{})
			l := loaderAt(t, s, method)
			now := new(days)
			l.o.Clock = now
			client, err := vendor.NewClient(context.WithoutCancel(t.Context()), s.Project(), option.WithEndpoint(s.URL()), option.WithoutAuthentication())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Close() }()
			serial := int64(0)
			var noted notes
			put := func(n, first, from, until int) func() {
				return func() {
					serial++
					*now = days(serial) // the staging table keeps a day's packages together
					p := loadtest.Build(t, loadtest.Spec{Serial: serial, Rows: months(now.Now(), n, first, from, until)})
					p.Remember = noted.remember
					if _, err := l.Commit(t.Context(), p); err != nil {
						t.Fatal(err)
					}
				}
			}
			size := func() int64 {
				md, err := client.Dataset("crm").Table("contacts").Metadata(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				return md.NumBytes
			}
			// A table of method cdc has no partitions: of the rest of the table the
			// id (with the two bytes of a STRING), five times and numbers and the hash
			// are read.
			keys := int64(0)
			if method == CDC {
				keys = int64(len("month 03 contact 00012")+2) + 6*8
			}
			put(100, 0, 0, 40)()
			small := processed(t, client, put(20, 0, 3, 5)) // 40 rows of 4,000, in 2 months of 40
			before := size()
			put(300, 100, 5, 40)() // none of those two months
			after := size()
			again := processed(t, client, put(20, 0, 3, 5))
			t.Logf("%s: %d bytes processed of a table of %d, and %d of one of %d", method, small, before, again, after)
			if after < 3*before {
				t.Fatalf("the table grew from %d to %d bytes, want three times the size", before, after)
			}
			if most := before/4 + 4000*keys; small > most {
				t.Errorf("a change of 1 %% in 2 months of 40 of a table of %d bytes processed %d, want at most %d", before, small, most)
			}
			if most := small + 300*35*keys + 2*recordKeys; again > most {
				t.Errorf("with the other months four times the size, the same change processed %d bytes instead of %d, want at most %d", again, small, most)
			}
		})
	}
}

func TestOfTheRecordsOfEarlierPackagesACommitReadsTheShortColumnsAlone(t *testing.T) {
	t.Parallel()
	for _, method := range drawn(t, allMethods()...) {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			s := standIn(t, bqtest.Options{})
			l := loaderAt(t, s, method)
			now := new(days)
			l.o.Clock = now
			client, err := vendor.NewClient(context.WithoutCancel(t.Context()), s.Project(), option.WithEndpoint(s.URL()), option.WithoutAuthentication())
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = client.Close() }()
			serial, updated := int64(0), loadtest.Epoch
			put := func() {
				serial++
				updated = updated.Add(time.Second)
				*now = days(serial) // a package a day
				row := loadtest.Contact("a", loadtest.Epoch, updated, "name", "one").With(schemas.ColExtractedAt, now.Now())
				coverage := []byte(`{"notes": "` + strings.Repeat("x", 3000) + `"}`)
				p := loadtest.Build(t, loadtest.Spec{Serial: serial, Extra: edgeColumns(), Rows: []loadtest.Row{row}, Coverage: coverage})
				p.Remember = new(notes).remember
				if _, err := l.Commit(t.Context(), p); err != nil {
					t.Fatal(err)
				}
			}
			put()
			put()
			third := processed(t, client, put)
			listed := func() int64 {
				return processed(t, client, func() {
					o := load.Listing{Lineage: testLineage, Columns: []string{schemas.ColID}}
					if err := l.List(t.Context(), o, func(arrow.Record) error { return nil }); err != nil {
						t.Fatal(err)
					}
				})
			}
			list := listed()
			for range 8 {
				put()
			}
			twelfth := processed(t, client, put)
			listLater := listed()
			records := resource(t, l.remote, l.o.commits()).NumBytes
			t.Logf("%s: %d bytes for the third package, %d for the twelfth; %d and %d to list; 12 records have %d", method, third, twelfth, list, listLater, records)
			if most := third + 9*recordKeys; twelfth > most {
				t.Errorf("the twelfth commit processed %d bytes, the third %d: want at most %d", twelfth, third, most)
			}
			if most := list + 9*recordKeys; listLater > most {
				t.Errorf("after the twelfth package a listing processed %d bytes, after the third %d: want at most %d", listLater, list, most)
			}
			if records < 12*3000 {
				t.Errorf("12 records have %d bytes, too few to tell anything", records)
			}
		})
	}
}
