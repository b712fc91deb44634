package run_test

import (
	"context"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/crashtest"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/schemas"
)

// property is one history: a source, a contract and runs, all drawn from a seed.
type property struct {
	t      *testing.T
	rng    *rand.Rand
	dir    string
	judge  *crashtest.Judge
	source *crashtest.Endpoint
	wear   *wardrobe
	now    time.Time
	rules  crashtest.Rules
	// parallel is that full reads have eight windows and small parts, so that
	// nobody can tell which of them settles a field first.
	parallel bool
	contacts []person
	given    map[string]schemas.Column // by field, as they were met first
	columns  map[string]string         // type of each column that was ever there
	requests int64                     // of the last run that came to its end
	log      []string
}

type person struct {
	id      string
	created time.Time
}

// number reads a number from the environment.
func number(t *testing.T, name string, otherwise uint64) uint64 {
	t.Helper()
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseUint(text, 10, 64)
	if err != nil {
		t.Fatal(err)
	}
	return n
}

// SLUICE_PROPERTY_SEEDS says how many histories there are, SLUICE_PROPERTY_SEED
// which is the first. What windows that are read at once settle first is up to
// the machine: a history with them may differ from its repetition in that.
func TestWhateverContactsHoldTheTableIsThePlainFlatteningOfThem(t *testing.T) {
	seeds := uint64(6)
	if testing.Short() {
		seeds = 2
	}
	first := number(t, "SLUICE_PROPERTY_SEED", 1)
	if os.Getenv("SLUICE_PROPERTY_SEED") != "" {
		seeds = 1
	}
	seeds = number(t, "SLUICE_PROPERTY_SEEDS", seeds)
	judge, err := crashtest.NewJudge()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = judge.Close() })
	t.Logf("seeds from %d to %d", first, first+seeds-1)
	for seed := first; seed < first+seeds; seed++ {
		p := newProperty(t, judge, seed)
		if !t.Run(fmt.Sprint(seed), p.history) {
			t.Fatalf("SLUICE_PROPERTY_SEED=%d repeats it", seed)
		}
	}
}

func newProperty(t *testing.T, judge *crashtest.Judge, seed uint64) *property {
	t.Helper()
	rng := rand.New(rand.NewPCG(seed, 11)) //nolint:gosec // a test's
	p := &property{
		rng: rng, judge: judge, now: time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC),
		wear:  &wardrobe{rng: rng, usual: map[string]int{}},
		given: map[string]schemas.Column{}, columns: map[string]string{}, parallel: seed%2 == 0,
	}
	p.firstRules()
	return p
}

// history is several runs with changes in between; after each the table is
// compared with what the source has.
func (p *property) history(t *testing.T) {
	p.t, p.dir = t, t.TempDir()
	p.source = &crashtest.Endpoint{Clock: clock.Fixed(p.now)}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("parallel: %t\n%s\n%s", p.parallel, strings.Join(p.log, "\n"), p.rules.YAML())
		}
	})
	for round := range 2 + p.rng.IntN(3) {
		full := round == 0 || p.rng.IntN(3) == 0
		if round > 0 && p.rng.IntN(2) == 0 {
			p.changeRules()
			full = true // else rows stay as the rules of before made them
		}
		p.change(round == 0)
		killed := p.disturb(full)
		before := p.given
		sum := p.mustRun(full)
		p.log = append(p.log, fmt.Sprintf("round %d, full: %t, killed: %d times, %d new, %d changed", round, full, killed, sum.New, sum.Changed))
		p.converged()
		p.named(before, !p.parallel && killed == 0)
	}
	p.parallel = true
	if sum := p.mustRun(true); sum.New+sum.Changed+sum.Deleted != 0 {
		t.Errorf("a full read of what is there finds %d new, %d changed and %d deleted", sum.New, sum.Changed, sum.Deleted)
	}
	p.converged()
}

// change writes some contacts anew, with other fields.
func (p *property) change(all bool) {
	p.wear.change()
	p.now = p.now.Add(time.Hour)
	if all {
		for i := range 12 + p.rng.IntN(40) {
			created := time.Date(2025, time.Month(10+p.rng.IntN(3)), 1+i%28, 0, 0, i, 0, time.UTC)
			p.contacts = append(p.contacts, person{fmt.Sprintf("contact-%03d", i), created})
		}
	}
	for range p.rng.IntN(6) {
		p.contacts = append(p.contacts, person{fmt.Sprintf("contact-%03d", len(p.contacts)), p.now})
	}
	share := 1 + p.rng.IntN(10)
	for i, c := range p.contacts {
		if _, known := p.source.Bodies()[c.id]; known && p.rng.IntN(10) >= share {
			continue
		}
		updated := p.now.Add(time.Duration(i/2) * time.Millisecond) // two at a time
		p.source.Put(c.id, c.created, updated, p.wear.contact(c.id, c.created, updated))
	}
}

// later moves the clocks on.
func (p *property) later() {
	p.now = p.now.Add(time.Minute)
	p.source.Clock = clock.Fixed(p.now)
}

// disturb lets runs die, at a request or at an operation on the disk, each as a
// process of its own, and returns how many did.
func (p *property) disturb(full bool) (killed int) {
	p.t.Helper()
	for range max(0, p.rng.IntN(5)-2) {
		ctx, cancel := context.WithCancel(p.t.Context())
		disk := faultfs.New(hasty{}, faultfs.Fault{})
		if p.rng.IntN(2) == 0 {
			at := 1 + p.rng.Int64N(max(p.requests, 12))
			var n atomic.Int64
			p.source.Page = func() {
				if n.Add(1) == at {
					cancel()
				}
			}
		} else {
			err := []error{faultfs.ErrKilled, faultfs.ErrNoSpace}[p.rng.IntN(2)]
			disk = faultfs.New(hasty{}, faultfs.Fault{Op: 1 + p.rng.IntN(250), Err: err, Sticky: p.rng.IntN(3) > 0})
		}
		_, err := p.run(ctx, disk, full)
		cancel()
		p.source.Page = nil
		if err != nil {
			killed++
			p.log = append(p.log, fmt.Sprintf("killed: %v", err))
		}
	}
	return killed
}

// run is one run of a process of its own, with nothing but what is on the disk.
func (p *property) run(ctx context.Context, disk *faultfs.FS, full bool) (run.Summary, error) {
	p.t.Helper()
	p.later()
	clk := clock.Fixed(p.now)
	store, err := state.Open(filepath.Join(p.dir, "state"), clk, state.WithFS(disk), state.WithRescueDir(p.t.TempDir()))
	if err != nil {
		return run.Summary{}, err
	}
	lake, err := parquet.New(parquet.Options{Path: filepath.Join(p.dir, "lake"), Table: "contacts", FS: disk})
	if err != nil {
		return run.Summary{}, err
	}
	defer func() { _ = lake.Close() }()
	contract, err := schemas.ParseContract("crm.yaml", p.rules.YAML())
	if err != nil {
		p.t.Fatal(err)
	}
	key, err := schemas.NewHashKey(p.rules.HashKey)
	if err != nil {
		p.t.Fatal(err)
	}
	job := run.Job{
		Pipeline: "nightly", Identity: state.SourceIdentity{Scheme: "http", Host: "source"}, Contract: contract, HashKey: key,
		Source: extract.Source{
			BaseURL: "http://localhost", Transport: http.RoundTripper(p.source), RequestsPerSecond: -1, Concurrency: 1, MaxRetries: -1,
		},
		Lookback: time.Second, PageSize: 1000, Verify: load.VerifyOff, Full: full,
		Destinations: []run.Destination{{Name: "lake", Loader: lake}},
	}
	e := run.Engine{Store: store, Clock: clk, Disk: disk}
	if p.parallel {
		job.Source.Concurrency, job.PageSize, e.SealRows = 8, 4, 7
	}
	sum, err := e.Run(ctx, job)
	p.meet(store) //nolint:contextcheck // ctx may have been cancelled: that was the kill
	return sum, err
}

func (p *property) mustRun(full bool) run.Summary {
	p.t.Helper()
	sum, err := p.run(p.t.Context(), faultfs.New(hasty{}, faultfs.Fault{}), full)
	if err != nil {
		p.t.Fatal(err)
	}
	p.requests = sum.Requests
	return sum
}

// meet fails where a field of state's registry has another name or type than
// before, or is gone, and takes note of those that are new.
func (p *property) meet(store *state.Store) {
	p.t.Helper()
	st, err := store.Load(p.t.Context(), "nightly")
	if err != nil {
		p.t.Fatal(err)
	}
	met := map[string]schemas.Column{}
	for _, e := range st.Registry {
		met[e.Ref().String()] = schemas.Column{Name: e.Column, Type: e.Type}
	}
	for field, before := range p.given {
		if now, there := met[field]; !there || now != before {
			p.t.Errorf("field %q was column %s (%s), and is %q (%s)", field, before.Name, before.Type, now.Name, now.Type)
		}
	}
	p.given = met
}

// converged fails unless the table equals the plain flattening of what the
// source has, column by column, in a bare glob whose columns are what they were.
func (p *property) converged() {
	p.t.Helper()
	dir := filepath.Join(p.dir, "lake", "contacts")
	m, err := parquet.OpenManifest(dir)
	if err != nil {
		p.t.Fatal(err)
	}
	faults, err := p.judge.Columns(p.t.Context(), dir, m.Schema)
	if err != nil {
		p.t.Fatal(err)
	}
	rows, twice, err := p.judge.Rows(p.t.Context(), dir)
	if err != nil {
		p.t.Fatal(err)
	}
	faults = append(faults, twice...)
	bodies := p.source.Bodies()
	if len(rows) != len(bodies) {
		faults = append(faults, fmt.Sprintf("%d rows, the source has %d contacts", len(rows), len(bodies)))
	}
	for id, body := range bodies {
		faults = append(faults, p.rules.Compare(m.Schema, body, rows[id])...)
	}
	here := map[string]string{}
	for _, c := range m.Schema.Columns {
		here[c.Name] = string(c.Type)
	}
	for name, typ := range p.columns {
		if here[name] != typ {
			faults = append(faults, fmt.Sprintf("column %s was %s, and is %q", name, typ, here[name]))
		}
	}
	p.columns = here
	if left, err := crashtest.Leftovers(p.dir); err != nil {
		p.t.Fatal(err)
	} else {
		faults = append(faults, left...)
	}
	if len(faults) > 0 {
		p.t.Fatal(strings.Join(faults[:min(len(faults), 12)], "\n"))
	}
}

// named fails unless the columns that this round has found are called as the
// rules say. Where one part held them all (exact), the keys in order take the
// plain names, the first of those that fall together has it, and there are as
// many as max_columns lets in; else it is one of those that has it.
func (p *property) named(before map[string]schemas.Column, exact bool) {
	p.t.Helper()
	found, taken, known := p.found(before)
	values := p.values()
	limit := p.rules.MaxColumns
	for _, field := range found {
		plain := plainName(field)
		name, renamed := p.rules.Renames[field]
		if !renamed {
			if name = plain; taken[plain] {
				name = plain + "_" + digits(field, 6)
			}
		}
		got := p.given[field]
		want := schemas.Column{Name: name, Type: crashtest.Inferred(values[field])}
		if limit > 0 && known >= limit {
			want = schemas.Column{}
		}
		switch {
		case exact && got != want:
			p.t.Errorf("field %q is column %q (%s), want %q (%s)", field, got.Name, got.Type, want.Name, want.Type)
		case got.Name != "" && got.Name != name && got.Name != plain && got.Name != plain+"_"+digits(field, 6):
			p.t.Errorf("field %q is column %q, which is neither %s nor that with its digits", field, got.Name, plain)
		}
		taken[name] = true
		if got.Name != "" {
			known++
		}
	}
	if limit > 0 && !exact && known < limit && slices.ContainsFunc(found, func(f string) bool { return p.given[f].Name == "" }) {
		p.t.Errorf("fields have no column where %d of %d are given", known, limit)
	}
}

// found returns the undeclared fields with values that had no column before, in
// the order in which they are settled, the names that they may not have, and how
// many of the wanted fields had one before.
func (p *property) found(before map[string]schemas.Column) (fields []string, taken map[string]bool, known int) {
	p.t.Helper()
	taken = map[string]bool{"created_date": true, "updated_date": true, "last_message_date": true}
	for _, d := range p.rules.Columns {
		taken[d.Name] = true
	}
	for _, name := range p.rules.Renames {
		taken[name] = true
	}
	for field, c := range before {
		taken[c.Name] = true
		if _, declared := p.rules.Declaration(field); !declared && !strings.HasPrefix(field, "overflow:") && p.rules.Wanted(field) {
			known++
		}
	}
	has := map[string]bool{}
	for field := range p.values() {
		_, declared := p.rules.Declaration(field)
		_, old := before[field]
		has[field] = !declared && !old && p.rules.GivesColumns(field)
	}
	for field, is := range has {
		if is {
			fields = append(fields, field)
		}
	}
	slices.SortFunc(fields, func(a, b string) int {
		scopeA, keyA, _ := strings.Cut(a, ":")
		scopeB, keyB, _ := strings.Cut(b, ":")
		if scopeA != scopeB {
			return strings.Compare(scopeA, scopeB)
		}
		return strings.Compare(keyA, keyB)
	})
	return fields, taken, known
}

// values are what is stored, by field, of all contacts.
func (p *property) values() map[string][]crashtest.Value {
	p.t.Helper()
	out := map[string][]crashtest.Value{}
	for _, body := range p.source.Bodies() {
		stored, err := p.rules.Stored(body)
		if err != nil {
			p.t.Fatal(err)
		}
		for field, v := range stored.Values {
			out[field] = append(out[field], v)
		}
	}
	return out
}

// hasty is a disk that waits for nothing to be durable: no power is cut here.
type hasty struct{ atomicfile.OS }

type hastyTemp struct{ atomicfile.Temp }

func (hastyTemp) Sync() error { return nil }

type hastyLog struct{ atomicfile.Log }

func (hastyLog) Sync() error { return nil }

func (hasty) SyncDir(string) error { return nil }

func (h hasty) OpenTemp(path string, perm fs.FileMode) (atomicfile.Temp, error) {
	t, err := h.OS.OpenTemp(path, perm)
	return hastyTemp{t}, err
}

func (h hasty) OpenLog(path string, create bool, perm fs.FileMode) (atomicfile.Log, error) {
	l, err := h.OS.OpenLog(path, create, perm)
	return hastyLog{l}, err
}
