package atomicfile_test

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/atomicfile"         //nolint:depguard // the rule is for the package, not for its tests
	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs" //nolint:depguard // the rule is for the package, not for its tests
)

func read(t *testing.T, path string) string {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func names(t *testing.T, dir string) []string {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, e := range entries {
		out = append(out, e.Name())
	}
	return out
}

func TestNothingIsThereBeforeCommit(t *testing.T) {
	path := filepath.Join(t.TempDir(), "state.json")
	f, err := atomicfile.Create(path, 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Abort()
	if _, err := io.WriteString(f, "new"); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Fatalf("before Commit: %v", err)
	}
	if filepath.Dir(f.TempPath()) != filepath.Dir(path) || !atomicfile.IsTemp(filepath.Base(f.TempPath())) {
		t.Fatalf("temporary file is %s", f.TempPath())
	}
	if err := f.Finish(); err != nil {
		t.Fatal(err)
	}
	if got := read(t, f.TempPath()); got != "new" {
		t.Fatalf("finished file holds %q", got)
	}
	if _, err := f.Write([]byte("x")); !errors.Is(err, atomicfile.ErrFinished) {
		t.Fatalf("write after Finish: %v", err)
	}
	if err := f.Commit(); err != nil {
		t.Fatal(err)
	}
	f.Abort()
	if got := read(t, path); got != "new" || f.Size() != 3 {
		t.Fatalf("published %q of %d bytes", got, f.Size())
	}
	if err := f.Commit(); !errors.Is(err, atomicfile.ErrFinished) {
		t.Fatalf("second Commit: %v", err)
	}
}

func TestAnAbortedFileLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	f, err := atomicfile.Create(filepath.Join(dir, "a"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	f.Abort()
	f.Abort()
	if got := names(t, dir); len(got) != 0 {
		t.Fatalf("left %v", got)
	}
	if err := f.Commit(); !errors.Is(err, atomicfile.ErrFinished) {
		t.Fatalf("Commit after Abort: %v", err)
	}
}

func TestWriteFileReplacesWhole(t *testing.T) {
	path := filepath.Join(t.TempDir(), "a")
	for _, s := range []string{"a longer text first", "short", ""} {
		if err := atomicfile.WriteFile(path, []byte(s), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := read(t, path); got != s {
			t.Fatalf("holds %q, want %q", got, s)
		}
	}
	info, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if runtime.GOOS != "windows" && info.Mode().Perm() != 0o600 {
		t.Fatalf("mode is %v", info.Mode())
	}
}

func TestErrorsNameThePath(t *testing.T) {
	dir := t.TempDir()
	for _, path := range []string{filepath.Join(dir, "no", "such", "f"), dir + string(filepath.Separator)} {
		err := atomicfile.WriteFile(path, nil, 0o600)
		if err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("error is %v", err)
		}
	}
	if err := atomicfile.SyncDir(filepath.Join(dir, "gone")); err == nil && runtime.GOOS != "windows" {
		t.Error("flushed a directory that is not there")
	}
	if err := atomicfile.SyncDir(dir); err != nil {
		t.Error(err)
	}
	// A name at the limit of the filesystem still gets a temporary name.
	long := filepath.Join(dir, strings.Repeat("x", 255))
	if err := atomicfile.WriteFile(long, []byte("y"), 0o600); err != nil {
		t.Error(err)
	}
}

func TestErrorsNameThePathOnceAndNoTemporaryOne(t *testing.T) {
	for op := 1; ; op++ {
		path := filepath.Join(t.TempDir(), "f")
		disk := faultfs.New(nil, faultfs.Fault{Op: op, Err: faultfs.ErrNoSpace})
		err := atomicfile.WriteFileOn(disk, path, []byte("y"), 0o600)
		if !disk.Failed() {
			if op < 5 {
				t.Fatalf("only %d operations", op)
			}
			return
		}
		var system *fs.PathError
		if !errors.Is(err, faultfs.ErrNoSpace) || !errors.As(err, &system) {
			t.Errorf("operation %d: %v, which is no error of the system", op, err)
		}
		if err != nil && strings.Count(err.Error(), filepath.Dir(path)) > 1 {
			t.Errorf("operation %d: %v", op, err)
		}
	}
}

// Every operation and every byte fails in turn; afterwards the old file or the
// new one is there, whole, and the error says which.
func TestAfterAnyFaultTheFileIsOldOrNew(t *testing.T) {
	const before, after = "old content", "new content, longer"
	write := func(fsys atomicfile.FS, path string) error {
		f, err := atomicfile.CreateOn(fsys, path, 0o600)
		if err != nil {
			return err
		}
		defer f.Abort()
		for _, part := range []string{after[:5], after[5:9], after[9:]} {
			// A library that drops write errors.
			_, _ = f.Write([]byte(part))
		}
		return f.Commit()
	}
	var faults []faultfs.Fault
	for _, short := range []bool{false, true} {
		for _, sticky := range []bool{false, true} {
			for op := 1; op <= 8; op++ { // open, 3 writes, sync, close, rename, syncdir
				faults = append(faults, faultfs.Fault{Op: op, Short: short, Sticky: sticky, Err: faultfs.ErrIO})
			}
			for n := range int64(len(after)) {
				faults = append(faults, faultfs.Fault{LimitBytes: true, Byte: n, Short: short, Sticky: sticky})
			}
		}
	}
	for _, fault := range faults {
		dir := t.TempDir()
		path := filepath.Join(dir, "f")
		if err := os.WriteFile(path, []byte(before), 0o600); err != nil {
			t.Fatal(err)
		}
		fsys := faultfs.New(nil, fault)
		err := write(fsys, path)
		if err == nil || !fsys.Failed() {
			t.Fatalf("%+v: error is %v", fault, err)
		}
		want := before
		if fault.Op == 8 { // the rename is done, only its durability is in doubt
			want = after
		}
		if got := read(t, path); got != want {
			t.Fatalf("%+v: file holds %q", fault, got)
		}
		if err := atomicfile.RemoveTemps(dir); err != nil {
			t.Fatal(err)
		}
		if got := names(t, dir); len(got) != 1 {
			t.Fatalf("%+v: left %v", fault, got)
		}
	}
}

func TestTheFirstErrorIsKept(t *testing.T) {
	fsys := faultfs.New(nil, faultfs.Fault{Op: 3, Err: faultfs.ErrIO}) // the second write, once
	f, err := atomicfile.CreateOn(fsys, filepath.Join(t.TempDir(), "f"), 0o600)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Abort()
	for i, want := range []error{nil, faultfs.ErrIO, faultfs.ErrIO, faultfs.ErrIO} {
		if _, err := f.Write([]byte("abc")); !errors.Is(err, want) {
			t.Fatalf("write %d: %v", i, err)
		}
	}
	if !errors.Is(f.Err(), faultfs.ErrIO) || !errors.Is(f.Finish(), faultfs.ErrIO) || !errors.Is(f.Commit(), faultfs.ErrIO) {
		t.Fatal("the error is forgotten")
	}
}

func TestRemoveTempsTakesOnlyItsOwn(t *testing.T) {
	dir := t.TempDir()
	keep := []string{"data.parquet", ".tmp-mine", ".tmp-XYZ-data", ".tmp-0123456789abcde-short", "tmp-0123456789abcdef-x"}
	for _, n := range append(keep, ".tmp-0123456789abcdef-data.parquet") {
		if err := os.WriteFile(filepath.Join(dir, n), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	below := filepath.Join(dir, ".tmp-0123456789abcdef-dir")
	if err := os.Mkdir(below, 0o700); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.RemoveTemps(dir); err != nil {
		t.Fatal(err)
	}
	if got := names(t, dir); len(got) != len(keep)+1 {
		t.Fatalf("kept %v", got)
	}
	if err := atomicfile.RemoveTemps(filepath.Join(dir, "gone")); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, ".tmp-0123456789abcdef-x"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := atomicfile.RemoveTempsOn(faultfs.New(nil, faultfs.Fault{Op: 1, Err: faultfs.ErrIO}), dir); !errors.Is(err, faultfs.ErrIO) {
		t.Fatalf("error is %v", err)
	}
}

func TestReadersSeeOldOrNewWhileFilesAreReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	texts := [2][]byte{bytes.Repeat([]byte("a"), 100_000), bytes.Repeat([]byte("b"), 50_000)}
	if err := atomicfile.WriteFile(path, texts[0], 0o600); err != nil {
		t.Fatal(err)
	}
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			b, err := os.ReadFile(path)
			if err != nil || (!bytes.Equal(b, texts[0]) && !bytes.Equal(b, texts[1])) {
				done <- errors.Join(err, errors.New("neither old nor new"))
				return
			}
		}
	}()
	for i := range 30 {
		if err := atomicfile.WriteFile(path, texts[i%2], 0o600); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}

func TestFoldersAreMadeDurableWhereTheyStand(t *testing.T) {
	root := t.TempDir()
	deep := filepath.Join(root, "a", "b", "c")
	disk := faultfs.New(nil, faultfs.Fault{})
	if err := atomicfile.MakeDirs(disk, deep, 0o700); err != nil {
		t.Fatal(err)
	}
	want := []string{"syncdir " + root, "syncdir " + filepath.Join(root, "a"), "syncdir " + filepath.Join(root, "a", "b")}
	if got := disk.Trace(); !slices.Equal(got, want) {
		t.Errorf("flushed %q, want %q", got, want)
	}
	if err := atomicfile.MakeDirs(disk, deep, 0o700); err != nil || disk.Ops() != 3 {
		t.Errorf("made again: %v, %d operations", err, disk.Ops())
	}
	file := filepath.Join(deep, "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, dir := range []string{file, filepath.Join(file, "below")} {
		if err := atomicfile.MakeDirs(nil, dir, 0o700); err == nil {
			t.Errorf("made %s, where a file is in the way", dir)
		}
	}
	failing := faultfs.New(nil, faultfs.Fault{Op: 1})
	if err := atomicfile.MakeDirs(failing, filepath.Join(root, "d", "e"), 0o700); !errors.Is(err, faultfs.ErrNoSpace) {
		t.Errorf("got %v", err)
	}
}
