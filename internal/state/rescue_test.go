package state

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs"
)

// operations counts the file operations of one Save.
func operations(t *testing.T) (ops int, bytes int64) {
	t.Helper()
	counting := faultfs.New(nil, faultfs.Fault{})
	dir := t.TempDir()
	save(t, open(t, dir), New("another")) // the folders are there
	save(t, open(t, dir, WithFS(counting)), New("nightly"))
	return counting.Ops(), counting.Bytes()
}

func TestAFaultAtAnyOperationLeavesTheOldStateOrTheNew(t *testing.T) {
	ops, bytes := operations(t)
	if ops < 4 || bytes < 100 {
		t.Fatalf("a save is %d operations and %d bytes: nothing is swept", ops, bytes)
	}
	var faults []faultfs.Fault
	for _, err := range []error{syscall.ENOSPC, syscall.EROFS, faultfs.ErrKilled} {
		for op := 1; op <= ops; op++ {
			for _, sticky := range []bool{false, true} {
				faults = append(faults, faultfs.Fault{Op: op, Err: err, Sticky: sticky}, faultfs.Fault{Op: op, Err: err, Sticky: sticky, Short: true})
			}
		}
	}
	// One Write carries the document, so places in it are alike: a sample, the
	// ends included.
	for _, n := range []int64{0, 1, bytes / 3, bytes / 2, bytes - 1} {
		faults = append(faults, faultfs.Fault{LimitBytes: true, Byte: n, Sticky: true})
	}
	for _, fault := range faults {
		dir := t.TempDir()
		good := open(t, dir)
		before := New("nightly")
		save(t, good, before)

		fsys := faultfs.New(nil, fault)
		s := open(t, dir, WithFS(fsys))
		p := load(t, s, "nightly")
		p.Filters = "new"
		err := s.Save(t.Context(), p)
		if !fsys.Failed() {
			t.Fatalf("%+v never happened", fault)
		}
		got := load(t, good, "nightly")
		switch got.Serial {
		case 1:
			if err == nil || got.Filters != "" || p.Serial != 1 {
				t.Fatalf("%+v: old state, error %v, in memory serial %d", fault, err, p.Serial)
			}
		case 2:
			// Only the directory's flush failed: the new state stands, and the
			// caller's copy goes with it.
			if got.Filters != "new" || p.Serial != 2 {
				t.Fatalf("%+v: new state %+v, in memory serial %d", fault, got, p.Serial)
			}
		default:
			t.Fatalf("%+v: serial %d", fault, got.Serial)
		}
		if err != nil && (hint(t, err) == "" || !strings.Contains(err.Error(), good.Path("nightly"))) {
			t.Fatalf("%+v: unclear: %v", fault, err)
		}
		if err := good.Save(t.Context(), p); err != nil {
			t.Fatalf("%+v: the next save fails: %v", fault, err)
		}
	}
}

func TestAStateThatCannotBeSavedIsRescuedAndTheCommandRecoversIt(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("needs a POSIX shell")
	}
	rescue := filepath.Join(t.TempDir(), "it's here")
	if err := os.Mkdir(rescue, 0o700); err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	good := open(t, dir)
	save(t, good, New("nightly"))
	s := open(t, dir, WithRescueDir(rescue), WithFS(faultfs.New(nil, faultfs.Fault{Op: 1, Sticky: true})))
	_, err := s.UpdateOrRescue(t.Context(), "nightly", precious)
	e := rescued(t, err)
	if !errors.Is(err, syscall.ENOSPC) {
		t.Fatalf("got %v", err)
	}
	if p := load(t, good, "nightly"); p.Filters != "" || p.Serial != 1 {
		t.Fatalf("state is %+v", p)
	}
	if out, err := exec.CommandContext(t.Context(), "sh", "-c", e.Command()).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", e.Command(), err, out)
	}
	p := load(t, good, "nightly")
	if p.Filters != "precious" || p.Serial != 2 {
		t.Errorf("recovered: %+v", p)
	}
	save(t, good, p)
}

func precious(p *Pipeline) error {
	p.Filters = "precious"
	return nil
}

// lockRun takes the lock of a run and gives it free.
func lockRun(t *testing.T, s *Store) {
	t.Helper()
	release, err := s.LockRun(t.Context(), "nightly", "sync")
	if err == nil {
		err = release()
	}
	if err != nil {
		t.Fatal(err)
	}
}

// rescued returns the error of a save that was rescued, its file checked.
func rescued(t *testing.T, err error) *EmergencyError {
	t.Helper()
	var e *EmergencyError
	if !errors.As(err, &e) {
		t.Fatalf("got %v", err)
	}
	if info, err := os.Stat(e.Rescue); err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("%v, %v", info, err)
	}
	if !strings.Contains(hint(t, err), e.Command()) {
		t.Errorf("the hint lacks the command: %s", e.Hint())
	}
	return e
}

func TestWithoutAnyPlaceToWriteTheErrorHoldsTheState(t *testing.T) {
	dir := t.TempDir()
	lockRun(t, open(t, dir)) // a run has made the folders before it has anything to save
	s := open(t, dir, WithRescueDir(filepath.Join(t.TempDir(), "absent")), WithFS(faultfs.New(nil, faultfs.Fault{Op: 1, Sticky: true})))
	_, err := s.UpdateOrRescue(t.Context(), "nightly", precious)
	var e *EmergencyError
	if !errors.As(err, &e) || e.Rescue != "" || e.RescueErr == nil || hint(t, err) == "" {
		t.Fatalf("got %v", err)
	}
	q, err := decode("document", "nightly", e.Document)
	if err != nil || q.Serial != 1 {
		t.Errorf("the document is %+v, %v", q, err)
	}
}

func TestShellQuoteKeepsAPathOneWord(t *testing.T) {
	for in, want := range map[string]string{"/tmp/a-b_c.json": "/tmp/a-b_c.json", "/a b": "'/a b'", "/it's": `'/it'\''s'`, "$(rm)": "'$(rm)'", "": "''"} {
		if diff := cmp.Diff(want, shellQuote(in)); diff != "" {
			t.Error(diff)
		}
	}
}
