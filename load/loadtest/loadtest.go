// Package loadtest is the conformance suite that every load.Loader passes, and
// a builder of packages for loaders' own tests.
package loadtest

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// Harness is one fresh, empty destination.
type Harness struct {
	// New opens a loader on the destination, the same one at each call. The
	// suite closes it.
	New func(t *testing.T) load.Loader
	// Read returns the table with tombstones, without partition columns.
	Read func(t *testing.T) []Row
	// History returns the stored versions as they are, not deduplicated.
	History func(t *testing.T) []Row
	// Spoil puts something there that Sluice did not write.
	Spoil func(t *testing.T)
	// Stages returns what the table of stages, StagesTable, holds, in its order;
	// SpoilStages puts something else in its place. nil: the destination keeps no
	// stages.
	Stages      func(t *testing.T) []load.Stage
	SpoilStages func(t *testing.T)
	// HashKey returns what the destination says beside its rows, current and
	// history, of the key that hashes were made with: text that names its id. nil:
	// the destination says nothing.
	HashKey func(t *testing.T) []string
	// Fingerprint changes whenever anything that is stored does. Optional.
	Fingerprint func(t *testing.T) string
}

// Run runs the suite; fresh gives each case a destination of its own.
func Run(t *testing.T, fresh func(t *testing.T) Harness) {
	t.Helper()
	for _, c := range []struct {
		name string
		test func(*bench)
	}{
		{"a first package arrives with every value", firstPackage},
		{"null and empty, unicode and extremes survive", edgeValues},
		{"a package committed again changes nothing and has the same result", recommit},
		{"an older row loses, an equal one is unchanged, one read later wins a tie", order},
		{"the row number decides inside a package", orderInside},
		{"an updated_at in the future counts from when it was read, and its correction wins", futureCorrected},
		{"a package read earlier and committed later loses with an equal updated_at", readEarlier},
		{"a tombstone read before the contact was seen again loses", buriedEarlier},
		{"of rows read at one time the later package wins, then the later row", equalTimes},
		{"a version that goes and comes back ends as the last one", backAndForth},
		{"history holds each version once", historyOnce},
		{"the number of versions is told without reading them", historian},
		{"the id of the key that hashes were made with is told beside the rows", hashKeys},
		{"a tombstone replaces the row, and the contact may return", tombstones},
		{"a new column is null for older rows", newColumns},
		{"a column that a later package lacks stays", missingColumns},
		{"a changed column type is refused", typeChange},
		{"an empty package moves the position", emptyPackage},
		{"a package in many parts is one package", manyParts},
		{"random packages end as the total order says", randomPackages},
		{"what another program wrote is left alone", foreignData},
		{"what another state wrote is left alone", foreignLineage},
		{"another package under a used serial is refused", reusedSerial},
		{"a fresh destination can be checked without a trace", checkFresh},
		{"a listing has the rows of the table, tombstones and new columns included", listAll},
		{"a listing has the columns asked for in that order", listColumns},
		{"a listing leaves out no row within its bounds", listBounds},
		{"a table without rows lists none, and a fresh destination has no trace of it", listNothing},
		{"a listing of another state's table is refused", listForeign},
		{"a listing ends with its context, or with the first error", listStops},
		{"a table that commits have made has no faults", verifySound},
		{"a table without rows has no faults, and a fresh destination has no trace of the verification", verifyNothing},
		{"the verification of another state's table is refused, and ends with its context", verifyRefused},
		{"an erased contact is gone from current and history, and no other is", eraseOne},
		{"a table goes on after an erasure, and only a new package brings the contact back", eraseAndGoOn},
		{"an erasure takes an id as it is", eraseNames},
		{"an erasure of another state's table or of nobody is refused, and ends with its context", eraseRefused},
		{"stages replace each other whole, and the contacts stay", stagesReplaced},
		{"a table of stages that sluice did not write is left alone", stagesRefused},
	} {
		t.Run(strings.ReplaceAll(c.name, ",", ""), func(t *testing.T) {
			c.test(&bench{Harness: fresh(t), t: t, lineage: "lineage-a"})
		})
	}
}

// bench is a destination under test.
type bench struct {
	Harness
	t       *testing.T
	lineage string
}

// commit commits a package through a new loader, as a new process would.
func (b *bench) commit(p load.Package) load.Result {
	b.t.Helper()
	r, err := b.try(p)
	if err != nil {
		b.t.Fatalf("commit package %d: %v", p.Serial, err)
	}
	return r
}

func (b *bench) try(p load.Package) (load.Result, error) {
	b.t.Helper()
	l := b.New(b.t)
	defer func() {
		if err := l.Close(); err != nil {
			b.t.Errorf("close: %v", err)
		}
	}()
	return l.Commit(b.t.Context(), p)
}

func (b *bench) position() (int64, error) {
	b.t.Helper()
	l := b.New(b.t)
	defer func() {
		if err := l.Close(); err != nil {
			b.t.Errorf("close: %v", err)
		}
	}()
	return l.Check(b.t.Context(), b.lineage)
}

// counts is a Result without its files and what it cost.
func counts(r load.Result) load.Result {
	r.Files = nil
	return uncosted(r)
}

// uncosted is a Result without what it cost: a repeat that only looks is cheaper.
func uncosted(r load.Result) load.Result {
	r.BytesScanned = 0
	return r
}

func (b *bench) wantCounts(got, want load.Result) {
	b.t.Helper()
	if d := cmp.Diff(want, counts(got)); d != "" {
		b.t.Errorf("result (-want +got):\n%s", d)
	}
}

// Sort orders rows by id, package and row number.
func Sort(rows []Row) {
	slices.SortFunc(rows, func(a, b Row) int {
		return strings.Compare(orderKey(a), orderKey(b))
	})
}

func orderKey(r Row) string {
	return fmt.Sprintf("%s\x00%020v\x00%020v", r.ID(), r[schemas.ColPackage], r[schemas.ColRow])
}

// Expect is what a row of p looks like once it is stored.
func Expect(p load.Package, spec Spec, row int, change string) Row {
	r := maps.Clone(spec.Rows[row])
	for _, c := range p.Table.Columns {
		if _, ok := r[c.Name]; !ok {
			r[c.Name] = nil
		}
	}
	if r[schemas.ColHash] == nil {
		r[schemas.ColHash] = Hash(spec.Rows[row])
	}
	if r[schemas.ColExtractedAt] == nil {
		r[schemas.ColExtractedAt] = spec.Extracted
		if spec.Extracted.IsZero() {
			r[schemas.ColExtractedAt] = Epoch.Add(time.Duration(p.Serial) * time.Hour)
		}
	}
	r[schemas.ColRunID], r[schemas.ColPackage], r[schemas.ColRow], r[schemas.ColChange] = p.RunID, p.Serial, int64(row), change
	return r
}

// wantRows compares whole rows, in any order.
func (b *bench) wantRows(what string, got []Row, want ...Row) {
	b.t.Helper()
	got, want = slices.Clone(got), slices.Clone(want)
	Sort(got)
	Sort(want)
	if want == nil {
		want = []Row{}
	}
	if d := cmp.Diff(want, got); d != "" {
		b.t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// wantNames checks current by id and name, in the form "a=Ana"; a tombstone is
// "a=Ana!".
func (b *bench) wantNames(want ...string) {
	b.t.Helper()
	got := []string{}
	for _, r := range b.read() {
		got = append(got, brief(r))
	}
	want = append([]string{}, want...)
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		b.t.Errorf("current (-want +got):\n%s", d)
	}
}

// wantHistory checks history the same way, with "@package" appended.
func (b *bench) wantHistory(want ...string) {
	b.t.Helper()
	got := []string{}
	for _, r := range b.history() {
		got = append(got, fmt.Sprintf("%s@%v", brief(r), r[schemas.ColPackage]))
	}
	want = append([]string{}, want...)
	slices.Sort(got)
	slices.Sort(want)
	if d := cmp.Diff(want, got); d != "" {
		b.t.Errorf("history (-want +got):\n%s", d)
	}
}

func brief(r Row) string {
	s := fmt.Sprintf("%s=%v", r.ID(), r["name"])
	if r[schemas.ColDeletedAt] != nil {
		s += "!"
	}
	return s
}

func (b *bench) wantPosition(want int64) {
	b.t.Helper()
	if got, err := b.position(); err != nil || got != want {
		b.t.Errorf("position is %d, %v; want %d", got, err, want)
	}
}

// refused commits p and checks that nothing changed and err is wanted.
func (b *bench) refused(p load.Package, want error) {
	b.t.Helper()
	before := b.fingerprint()
	_, err := b.try(p)
	if err == nil {
		b.t.Fatal("commit succeeded")
	}
	if want != nil && !errors.Is(err, want) {
		b.t.Errorf("error is %v, want %v", err, want)
	}
	if b.fingerprint() != before {
		b.t.Error("a refused commit changed the destination")
	}
}

func (b *bench) fingerprint() string {
	b.t.Helper()
	if b.Fingerprint == nil {
		return ""
	}
	return b.Fingerprint(b.t)
}

// at is a time on the n-th minute after Epoch's day before.
func at(minute int) time.Time {
	return Epoch.AddDate(0, 0, -1).Add(time.Duration(minute) * time.Minute)
}

// inMonth is a time in the n-th month of 2026.
func inMonth(n int) time.Time { return time.Date(2026, time.Month(n), 15, 12, 0, 0, 0, time.UTC) }

func (b *bench) build(s Spec) load.Package {
	b.t.Helper()
	return Build(b.t, s)
}

func (b *bench) read() []Row {
	b.t.Helper()
	return b.Read(b.t)
}

func (b *bench) history() []Row {
	b.t.Helper()
	return b.History(b.t)
}
