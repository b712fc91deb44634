package crashtest

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"

	"github.com/sluice-etl/sluice/internal/atomicfile"
)

// Step is one durable operation of a process: the N-th, from 1, of those that
// do the same to the same kind of file, such as "rename current" or "torn
// journal".
type Step struct {
	Name string `json:"name"`
	N    int    `json:"n"`
}

// String is the step as ParseStep reads it.
func (s Step) String() string { return fmt.Sprintf("%s#%d", s.Name, s.N) }

// ParseStep reads "rename current#3".
func ParseStep(text string) (Step, error) {
	name, number, ok := strings.Cut(text, "#")
	s := Step{Name: name}
	if _, err := fmt.Sscanf(number, "%d", &s.N); err != nil || !ok || s.N < 1 {
		return Step{}, fmt.Errorf("parse step %q: it is no name#number", text)
	}
	return s, nil
}

// Disk is the operating system's disk, which shows every step to a hook just
// before it is taken. A write is two steps: "write" before it, and "torn" when
// half of it is there. It keeps account of what a power cut would take away.
// Its methods may be called from any goroutine.
type Disk struct {
	atomicfile.OS
	// Hook is called before each step and may end the process.
	Hook func(Step)

	mu     sync.Mutex
	counts map[string]int
	cut    lossy
}

var _ atomicfile.Disk = (*Disk)(nil)

// Step counts a step on a file, and shows it to the hook. Other steps than
// those on the disk may be counted with them.
func (d *Disk) Step(op, path string) { d.step(op + " " + Kind(path)) }

func (d *Disk) step(name string) {
	d.mu.Lock()
	if d.counts == nil {
		d.counts = map[string]int{}
	}
	d.counts[name]++
	s := Step{Name: name, N: d.counts[name]}
	d.mu.Unlock()
	if d.Hook != nil {
		d.Hook(s)
	}
}

// Kind says what a path of a state directory or a table is, whichever run,
// month or package it belongs to.
func Kind(path string) string {
	base, parent := filepath.Base(path), filepath.Base(filepath.Dir(path))
	if atomicfile.IsTemp(base) {
		base = base[strings.Index(base[len(".tmp-"):], "-")+len(".tmp-")+1:]
	}
	staged, isStaged := strings.CutPrefix(parent, "_staging")
	switch {
	case isStaged && staged == "":
		return "staged " + published(strings.ReplaceAll(base, "@", "/"))
	case base == "journal":
		return "journal"
	case parent == "runs" && strings.Contains(base, "."):
		return "run folder"
	case strings.HasPrefix(base, "part-"):
		return "part"
	case strings.HasPrefix(base, "pipeline.") && parent == "state":
		return "state"
	case strings.HasSuffix(base, ".holder"):
		return "holder"
	case strings.HasSuffix(base, ".ndjson"):
		return "quarantine"
	case parent == "_manifests" && base == "latest.json":
		return "latest"
	case parent == "_manifests":
		return "manifest"
	}
	for _, folder := range []string{"runs", "state", "locks", "_staging", "_manifests", "current", "history", "_sluice_runs"} {
		if base == folder {
			return folder + " folder"
		}
	}
	return published(filepath.ToSlash(path))
}

// published says what a published file, or a folder of them, is.
func published(path string) string {
	folders := strings.Split("/"+path, "/")
	last := folders[len(folders)-1]
	for _, name := range folders {
		switch name {
		case "current", "history":
			if filepath.Ext(last) == ".parquet" {
				return name
			}
			return name + " folder"
		case "_sluice_runs":
			return "coverage"
		case "_ids":
			return "ids"
		}
	}
	if last == "views.sql" {
		return "views"
	}
	return "folder"
}

// OpenTemp implements atomicfile.FS.
func (d *Disk) OpenTemp(path string, perm fs.FileMode) (atomicfile.Temp, error) {
	d.Step("open", path)
	t, err := d.OS.OpenTemp(path, perm)
	if err != nil {
		return nil, err
	}
	d.cut.created(t.Name())
	d.cut.opened(t.Name())
	return &temp{Temp: t, disk: d}, nil
}

// Rename implements atomicfile.FS.
func (d *Disk) Rename(oldpath, newpath string) error {
	d.Step("rename", newpath)
	kept := d.cut.replacing(newpath)
	err := d.OS.Rename(oldpath, newpath)
	if err == nil {
		d.cut.renamed(oldpath, newpath, kept)
	}
	return err
}

// Remove implements atomicfile.FS.
func (d *Disk) Remove(path string) error {
	d.Step("remove", path)
	kept := d.cut.replacing(path)
	err := d.OS.Remove(path)
	if err == nil {
		d.cut.removed(path, kept)
	}
	return err
}

// RemoveAll implements atomicfile.Disk, one step for each file and folder.
func (d *Disk) RemoveAll(path string) error {
	entries, err := os.ReadDir(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	for _, e := range entries {
		if err := d.RemoveAll(filepath.Join(path, e.Name())); err != nil {
			return err
		}
	}
	err = d.Remove(path) // also of a file: ReadDir said that it is no directory
	if errors.Is(err, fs.ErrNotExist) {
		return nil // another process removed it meanwhile
	}
	return err
}

// SyncDir implements atomicfile.FS.
func (d *Disk) SyncDir(dir string) error {
	d.Step("syncdir", dir)
	err := d.OS.SyncDir(dir)
	if err == nil {
		d.cut.syncedDir(dir)
	}
	return err
}

// OpenLog implements atomicfile.Disk.
func (d *Disk) OpenLog(path string, create bool, perm fs.FileMode) (atomicfile.Log, error) {
	d.Step("open", path)
	l, err := d.OS.OpenLog(path, create, perm)
	if err != nil {
		return nil, err
	}
	if create {
		d.cut.created(path)
	}
	return &log{Log: l, path: path, disk: d}, nil
}

type temp struct {
	atomicfile.Temp
	disk *Disk
}

func (t *temp) Write(p []byte) (int, error) { return t.disk.write(t.Temp, t.Name(), Kind(t.Name()), p) }

func (t *temp) Sync() error {
	t.disk.Step("sync", t.Name())
	err := t.Temp.Sync()
	if err == nil {
		t.disk.cut.synced(t.Name())
	}
	return err
}

func (t *temp) Close() error {
	t.disk.cut.closed(t.Name())
	return t.Temp.Close()
}

type log struct {
	atomicfile.Log
	path string
	disk *Disk
	last string // the kind of the record written last
}

// Write is of one record, which its kind tells apart: what follows the one that
// seals a package is another world.
func (l *log) Write(p []byte) (int, error) {
	l.last = Kind(l.path)
	if found := regexp.MustCompile(`\{"(\w+)"`).FindSubmatch(p); found != nil {
		l.last += " " + string(found[1])
	}
	return l.disk.write(l.Log, l.path, l.last, p)
}

func (l *log) Truncate(size int64) error {
	l.disk.Step("truncate", l.path)
	return l.Log.Truncate(size)
}

func (l *log) Sync() error {
	l.disk.step("sync " + l.last)
	err := l.Log.Sync()
	if err == nil {
		l.disk.cut.synced(l.path)
	}
	return err
}

// write writes p in two halves, and stops before each.
func (d *Disk) write(to io.Writer, path, kind string, p []byte) (int, error) {
	d.step("write " + kind)
	d.cut.writing(path)
	n, err := to.Write(p[:len(p)/2])
	if err != nil {
		return n, err
	}
	d.step("torn " + kind)
	more, err := to.Write(p[len(p)/2:])
	return n + more, err
}
