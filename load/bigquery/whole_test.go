//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"cmp"
	"maps"
	"slices"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/crashtest"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/schemas"
)

// holds fails unless the contacts of the table that are not marked as deleted
// are those of the source for which want is true, as last updated.
func (x *export) holds(want func(sandbox.Contact) bool) {
	x.t.Helper()
	expected, got := map[string]time.Time{}, map[string]time.Time{}
	x.source.Each(func(c sandbox.Contact) bool {
		if want(c) {
			expected[c.ID] = c.UpdatedAt.UTC().Truncate(time.Millisecond) // as the source prints it
		}
		return true
	})
	l := x.loader()
	defer func() { _ = l.Close() }()
	for _, row := range read(x.t, l.remote, "SELECT id, updated_at FROM "+l.o.quoted(l.o.Table)+" WHERE _sluice_deleted_at IS NULL") {
		if _, twice := got[row.ID()]; twice {
			x.t.Errorf("%s stands there twice", row.ID())
		}
		got[row.ID()] = row[schemas.ColUpdatedAt].(time.Time)
	}
	if diff := gocmp.Diff(expected, got); diff != "" {
		x.t.Fatalf("the table is not what the pipeline asks for (-want +got):\n%s", diff)
	}
	sound(x.t, x)
}

// stored is how many rows the table has, marked ones included.
func (x *export) stored() int {
	x.t.Helper()
	l := x.loader()
	defer func() { _ = l.Close() }()
	return len(read(x.t, l.remote, "SELECT id FROM "+l.o.quoted(l.o.Table)))
}

func TestASnapshotInBigQueryEqualsItsSourceAndMarksWhoIsGone(t *testing.T) {
	t.Parallel()
	for _, method := range drawn(t, allMethods()...) {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			x := newExport(t, method, 60)
			snapshot := func(e run.Engine, job run.Job) (run.Summary, error) {
				job.Sync = run.SyncSnapshot
				return e.Run(t.Context(), job)
			}
			x.look()
			x.must(snapshot)
			x.same(crashtest.Expect{})
			for range rounds() {
				// Some change without their updated_at, which a snapshot sees all the same.
				x.change(sandbox.Mutation{Updates: 5, Silent: 4, Creates: 3})
				for _, c := range x.draw(4) {
					if err := x.source.Delete(c.ID); err != nil {
						t.Fatal(err)
					}
				}
				if sum := x.must(snapshot); sum.Deleted != 4 {
					t.Errorf("%d contacts were marked, 4 are gone", sum.Deleted)
				}
				x.same(crashtest.Expect{Unseen: true, Marked: true})
			}
			if sum := x.must(snapshot); sum.New+sum.Changed+sum.Deleted != 0 {
				t.Errorf("a snapshot of a source that has not changed gives %+v", sum)
			}
			sound(t, x)
		})
	}
}

func TestASnapshotOfAStageInBigQueryHoldsWhoStandsThere(t *testing.T) {
	t.Parallel()
	for _, method := range []Method{Stream, CDC} {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			x := newExport(t, method, 60)
			of := map[string][]string{} // contacts by stage
			for _, c := range x.draw(60) {
				if c.Ticket != nil && c.Ticket.CurrentStageID != nil {
					of[*c.Ticket.CurrentStageID] = append(of[*c.Ticket.CurrentStageID], c.ID)
				}
			}
			stages := slices.SortedFunc(maps.Keys(of), func(a, b string) int { return cmp.Or(len(of[b])-len(of[a]), cmp.Compare(a, b)) })
			if len(stages) < 2 || len(of[stages[0]]) < 6 {
				t.Fatalf("too few stages: %v", of)
			}
			stage, other := stages[0], stages[1]
			snapshot := func(e run.Engine, job run.Job) (run.Summary, error) {
				job.Sync, job.Stages = run.SyncSnapshot, []string{stage}
				return e.Run(t.Context(), job)
			}
			there := func(c sandbox.Contact) bool {
				return c.Ticket != nil && c.Ticket.CurrentStageID != nil && *c.Ticket.CurrentStageID == stage
			}
			x.must(snapshot)
			x.holds(there)
			for i, id := range of[stage][:2] {
				if err := x.source.Update(id, sandbox.Change{StageID: &other, Silent: i == 0}); err != nil {
					t.Fatal(err)
				}
			}
			if sum := x.must(snapshot); sum.Deleted != 2 {
				t.Errorf("%d contacts were marked, 2 have left", sum.Deleted)
			}
			x.holds(there)
			if err := x.source.Update(of[stage][0], sandbox.Change{StageID: &stage, Silent: true}); err != nil {
				t.Fatal(err)
			}
			x.must(snapshot)
			x.holds(there)
			if n := x.stored(); n != len(of[stage]) {
				t.Errorf("%d rows are stored, %d contacts were ever there", n, len(of[stage]))
			}
		})
	}
}

// windows are two numbers of days, with most contacts of the wider within the
// narrower, of which no contact crosses the edge while a test runs.
func (x *export) windows() (narrow, wide int) {
	x.t.Helper()
	now := time.Now()
	inside := map[int]int{} // contacts, by days
	for d := 1; d < 365; d++ {
		n := 0
		x.source.Each(func(c sandbox.Contact) bool {
			if c.LastMessageAt == nil {
				return true
			}
			age := now.Sub(*c.LastMessageAt) - time.Duration(d)*day
			if age.Abs() < time.Hour {
				n = -1
				return false
			}
			if age < 0 {
				n++
			}
			return true
		})
		if n > 0 {
			inside[d] = n
		}
	}
	days := slices.Sorted(maps.Keys(inside))
	for i, narrow := range days {
		for _, wide := range days[i:] {
			if inside[wide] >= inside[narrow]+2 && 2*inside[narrow] > inside[wide]+2 {
				return narrow, wide
			}
		}
	}
	x.t.Fatalf("no two windows fit the contacts by days %v", inside)
	return 0, 0
}

func TestRecentInBigQueryHoldsThoseWhoWroteLatelyAndMarksTheOthers(t *testing.T) {
	t.Parallel()
	for _, method := range drawn(t, Load, CDC) {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			x := newExport(t, method, 60)
			narrow, wide := x.windows()
			within := func(days int) func(sandbox.Contact) bool {
				return func(c sandbox.Contact) bool {
					return c.LastMessageAt != nil && time.Since(*c.LastMessageAt) < time.Duration(days)*day
				}
			}
			recent := func(days int) func(run.Engine, run.Job) (run.Summary, error) {
				return func(e run.Engine, job run.Job) (run.Summary, error) {
					job.Sync, job.Days = run.SyncRecent, days
					return e.Run(t.Context(), job)
				}
			}
			x.must(recent(wide))
			x.holds(within(wide))
			var silent string
			x.source.Each(func(c sandbox.Contact) bool {
				if c.LastMessageAt != nil && !within(wide)(c) {
					silent = c.ID
				}
				return silent == ""
			})
			if err := x.source.Message(silent); err != nil {
				t.Fatal(err)
			}
			if sum := x.must(recent(wide)); sum.New != 1 {
				t.Errorf("one contact wrote, and %d are new", sum.New)
			}
			x.holds(within(wide))
			// With fewer days those who are outside leave, and keep their rows.
			before := x.stored()
			sum := x.must(recent(narrow))
			x.holds(within(narrow))
			if sum.Deleted == 0 || x.stored() != before {
				t.Errorf("%d contacts left with %d days instead of %d, and %d rows are stored of %d", sum.Deleted, narrow, wide, x.stored(), before)
			}
		})
	}
}
