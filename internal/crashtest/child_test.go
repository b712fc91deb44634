//go:build unix

package crashtest_test

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/crashtest"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/duckdb"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/schemas"
)

// orderEnv makes the test binary do an order as a process of its own.
const orderEnv = "SLUICE_CRASH_ORDER"

func TestMain(m *testing.M) {
	if text := os.Getenv(orderEnv); text != "" {
		os.Exit(child(text))
	}
	os.Exit(m.Run())
}

const pipelineName = "nightly"

// lookback is short, as the source shows every change at once: with the usual
// hour, each run would read again what a kill has made the one before it lose.
const lookback = time.Second

// order is what a child process does, with the real engine.
type order struct {
	Do           string // sync, backfill, reconcile or read
	Dir, URL     string
	Full         bool
	Sync         run.SyncMode
	Alone        bool     // the source does not combine days with other parameters
	Destinations []string // folders of Parquet tables, or names ending in .duckdb
	Down         []string // destinations that fail
	SealRows     int

	Kill  *crashtest.Step // where the process ends, if it gets there
	Power uint64          // not 0: by a power cut of this seed
	Trace string          // file that takes the steps passed
}

// outcome is what a child prints when it comes to an end.
type outcome struct {
	Summary run.Summary
	Error   string
}

func child(text string) int {
	var o order
	if err := json.Unmarshal([]byte(text), &o); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	if o.Do == "read" {
		return readLoop(o)
	}
	disk, err := o.disk()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 3
	}
	sum, err := o.run(context.Background(), disk)
	disk.Step("leave", "process")
	out := outcome{Summary: sum}
	if err != nil {
		out.Error = err.Error()
	}
	if err := json.NewEncoder(os.Stdout).Encode(out); err != nil || out.Error != "" {
		return 1
	}
	return 0
}

// disk makes the disk on which the process ends.
func (o order) disk() (*crashtest.Disk, error) {
	trace, err := os.OpenFile(o.Trace, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		return nil, err
	}
	d := &crashtest.Disk{}
	if o.Power != 0 {
		spare, err := os.MkdirTemp(filepath.Dir(o.Trace), "spare-")
		if err != nil {
			return nil, err
		}
		if err := d.RememberFor(o.Dir, spare); err != nil {
			return nil, err
		}
	}
	var once sync.Mutex
	d.Hook = func(s crashtest.Step) {
		once.Lock()
		defer once.Unlock()
		fmt.Fprintln(trace, s)
		if o.Kill == nil || s != *o.Kill {
			return
		}
		if o.Power != 0 {
			if err := d.PowerCut(rand.New(rand.NewPCG(o.Power, 0))); err != nil { //nolint:gosec // a test's
				fmt.Fprintln(os.Stderr, "cut the power:", err)
				os.Exit(4)
			}
		}
		if err := syscall.Kill(os.Getpid(), syscall.SIGKILL); err != nil {
			panic(err)
		}
		select {}
	}
	return d, nil
}

// run does the order on a disk.
func (o order) run(ctx context.Context, disk atomicfile.Disk) (sum run.Summary, err error) {
	store, err := state.Open(filepath.Join(o.Dir, "state"), clock.System{}, state.WithFS(disk), state.WithRescueDir(o.Dir))
	if err != nil {
		return sum, err
	}
	job, err := o.job(disk)
	if err != nil {
		return sum, err
	}
	e := run.Engine{Store: store, Clock: clock.System{}, SealRows: cmp.Or(o.SealRows, 20), Disk: disk}
	switch o.Do {
	case "sync":
		return e.Run(ctx, job)
	case "backfill":
		return e.Backfill(ctx, job, run.Backfill{
			From: time.Date(2022, 12, 1, 0, 0, 0, 0, time.UTC), To: time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC),
			Key: extract.ByCreated, Window: 180 * 24 * time.Hour, Parallel: 2,
		})
	case "reconcile":
		return e.Reconcile(ctx, job, run.Reconciliation{MaxShare: 0.9})
	default:
		return sum, fmt.Errorf("nobody knows how to %q", o.Do)
	}
}

func (o order) job(disk atomicfile.FS) (run.Job, error) {
	job := run.Job{
		Pipeline: pipelineName,
		Source: extract.Source{
			BaseURL: o.URL, APIKey: sandbox.DefaultKey, RequestsPerSecond: -1, Concurrency: 3,
			BackoffMin: time.Millisecond, BackoffMax: 10 * time.Millisecond,
		},
		Identity: state.SourceIdentity{Scheme: "sandbox"}, Contract: schemas.Default(),
		Lookback: lookback, PageSize: 15, Verify: load.VerifySample, Sync: o.Sync, Full: o.Full,
	}
	if o.Sync == run.SyncRecent {
		job.Days, job.DaysAlone = recentDays, o.Alone
	}
	for _, name := range o.Destinations {
		l, err := o.loader(name, disk)
		if err != nil {
			return job, err
		}
		for _, down := range o.Down {
			if down == name {
				l = broken{l}
			}
		}
		job.Destinations = append(job.Destinations, run.Destination{Name: name, Loader: stepping{l, disk}})
	}
	return job, nil
}

func (o order) loader(name string, disk atomicfile.FS) (load.Loader, error) {
	if strings.HasSuffix(name, ".duckdb") {
		return duckdb.New(duckdb.Options{Path: filepath.Join(o.Dir, name), Table: "contacts", Threads: 1})
	}
	return parquet.New(parquet.Options{Path: filepath.Join(o.Dir, name), Table: "contacts", FS: disk})
}

// stepping makes steps of the beginnings and ends of commits.
type stepping struct {
	load.Loader
	disk atomicfile.FS
}

func (s stepping) Commit(ctx context.Context, p load.Package) (load.Result, error) {
	d, ok := s.disk.(*crashtest.Disk)
	if ok {
		d.Step("begin", "commit")
	}
	r, err := s.Loader.Commit(ctx, p)
	if ok {
		d.Step("end", "commit")
	}
	return r, err
}

// List implements load.Lister, which all destinations here are.
func (s stepping) List(ctx context.Context, l load.Listing, each func(arrow.Record) error) error {
	lister, ok := s.Loader.(load.Lister)
	if !ok {
		return errDown
	}
	return lister.List(ctx, l, each)
}

// broken fails its commits.
type broken struct{ load.Loader }

var errDown = errors.New("the destination is down")

func (broken) Commit(context.Context, load.Package) (load.Result, error) {
	return load.Result{}, errDown
}

// process is a child under way.
type process struct {
	order          order
	cmd            *exec.Cmd
	stdout, stderr bytes.Buffer
}

// start lets a child do an order.
func start(t *testing.T, o order) *process {
	t.Helper()
	p := command(t, o)
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	return p
}

// command prepares a child.
func command(t *testing.T, o order) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(o)
	if err != nil {
		t.Fatal(err)
	}
	p := &process{order: o, cmd: exec.CommandContext(t.Context(), self)}
	p.cmd.Env = append(os.Environ(), orderEnv+"="+string(text))
	p.cmd.Stdout, p.cmd.Stderr = &p.stdout, &p.stderr
	return p
}

// wait returns what the child came to, and whether it was killed before.
func (p *process) wait(t *testing.T) (out outcome, killed bool) {
	t.Helper()
	err := p.cmd.Wait()
	status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus)
	if ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
		return out, true
	}
	if jsonErr := json.Unmarshal(p.stdout.Bytes(), &out); jsonErr != nil {
		t.Fatalf("child ended with %v: %s", err, p.stderr.Bytes())
	}
	return out, false
}

// steps reads a trace: how often each step was passed by one process.
func steps(t *testing.T, trace string) map[string]int {
	t.Helper()
	f, err := os.Open(trace)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	most := map[string]int{}
	for lines := bufio.NewScanner(f); lines.Scan(); {
		s, err := crashtest.ParseStep(lines.Text())
		if err != nil {
			t.Fatal(err)
		}
		most[s.Name] = max(most[s.Name], s.N)
	}
	return most
}
