package crashtest

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"sync"
)

// lossy remembers what of a Disk would not survive a power cut: the bytes of
// files written since their last flush, and what was done to the names in a
// folder since the folder's. Folders themselves may vanish until the one that
// they stand in is flushed.
type lossy struct {
	mu    sync.Mutex
	root  string // "": nothing is remembered
	spare string // where replaced files are kept, on the same file system
	links int    // files there

	durable map[string]int64   // bytes that are safe, of files with others
	undo    map[string][]entry // by folder, oldest first
	folders map[string]bool    // that are safe
	// moved is where files stand that are open, by the name they were opened
	// by: a flush is of the file, whatever it is called by then.
	moved map[string]string
}

// entry takes back one change of a name.
type entry func() error

// RememberFor makes the disk remember what PowerCut takes away below root.
// spare is an empty folder on the same file system, outside of root.
func (d *Disk) RememberFor(root, spare string) error {
	c := &d.cut
	c.root, c.spare = root, spare
	c.durable, c.undo, c.folders = map[string]int64{}, map[string][]entry{}, map[string]bool{}
	c.moved = map[string]string{}
	return eachFolder(root, func(dir string) error {
		c.folders[dir] = true
		return nil
	})
}

func eachFolder(root string, each func(dir string) error) error {
	return filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || !e.IsDir() {
			return err
		}
		return each(path)
	})
}

// PowerCut leaves on the disk what a power cut might: of each folder, the
// changes up to one that rng draws among those after its last flush; of each
// file, a length between what was flushed and what was written. The process
// must do nothing after it.
func (d *Disk) PowerCut(rng *rand.Rand) error {
	c := &d.cut
	c.mu.Lock() // and never unlocked: nothing may follow
	var errs []error
	paths := make([]string, 0, len(c.durable))
	for path := range c.durable {
		paths = append(paths, path)
	}
	slices.Sort(paths)
	for _, path := range paths {
		info, err := os.Stat(path)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			safe := min(c.durable[path], info.Size())
			err = os.Truncate(path, safe+rng.Int64N(info.Size()-safe+1))
		}
		errs = append(errs, err)
	}
	dirs := make([]string, 0, len(c.undo))
	for dir := range c.undo {
		dirs = append(dirs, dir)
	}
	slices.Sort(dirs)
	for _, dir := range dirs {
		lost := c.undo[dir][rng.IntN(len(c.undo[dir])+1):]
		for _, take := range slices.Backward(lost) {
			errs = append(errs, take())
		}
	}
	errs = append(errs, eachFolder(c.root, func(dir string) error {
		if c.folders[dir] || rng.IntN(2) == 0 {
			return nil
		}
		if err := os.RemoveAll(dir); err != nil {
			return err
		}
		return fs.SkipDir
	}))
	return errors.Join(errs...)
}

// keeps reports whether anything is remembered of path; mu is held then.
func (c *lossy) keeps() (unlock func(), ok bool) {
	if c.root == "" {
		return nil, false
	}
	c.mu.Lock()
	return c.mu.Unlock, true
}

// writing notes that path will have bytes that are not flushed.
func (c *lossy) writing(path string) {
	unlock, ok := c.keeps()
	if !ok {
		return
	}
	defer unlock()
	if _, known := c.durable[path]; known {
		return
	}
	if info, err := os.Stat(path); err == nil {
		c.durable[path] = info.Size()
	}
}

// synced notes that the file opened as path is flushed.
func (c *lossy) synced(path string) {
	if unlock, ok := c.keeps(); ok {
		defer unlock()
		if to, known := c.moved[path]; known {
			path = to
		}
		delete(c.durable, path)
	}
}

func (c *lossy) opened(path string) {
	if unlock, ok := c.keeps(); ok {
		defer unlock()
		c.moved[path] = path
	}
}

func (c *lossy) closed(path string) {
	if unlock, ok := c.keeps(); ok {
		defer unlock()
		delete(c.moved, path)
	}
}

func (c *lossy) created(path string) {
	if unlock, ok := c.keeps(); ok {
		defer unlock()
		c.later(path, func() error {
			if err := os.Remove(path); !errors.Is(err, fs.ErrNotExist) {
				return err
			}
			return nil // it stands in another folder by now, under a change of that
		})
	}
}

func (c *lossy) later(path string, e entry) {
	dir := filepath.Dir(path)
	c.undo[dir] = append(c.undo[dir], e)
}

// replacing gives the file at path a second name, "" where there is none.
func (c *lossy) replacing(path string) (kept string) {
	unlock, ok := c.keeps()
	if !ok {
		return ""
	}
	defer unlock()
	if info, err := os.Lstat(path); err != nil || info.IsDir() {
		return ""
	}
	c.links++
	kept = filepath.Join(c.spare, fmt.Sprintf("%06d", c.links))
	if err := os.Link(path, kept); err != nil {
		panic(err) // the account would be wrong
	}
	return kept
}

// renamed notes a rename over the file that is kept.
func (c *lossy) renamed(from, to, kept string) {
	unlock, ok := c.keeps()
	if !ok {
		return
	}
	defer unlock()
	for name, stands := range c.moved {
		if stands == from {
			c.moved[name] = to
		}
	}
	if safe, dirty := c.durable[from]; dirty {
		delete(c.durable, from)
		c.durable[to] = safe
	} else {
		delete(c.durable, to)
	}
	c.later(to, func() error {
		if err := os.Rename(to, from); err != nil || kept == "" {
			return err
		}
		return os.Rename(kept, to)
	})
}

func (c *lossy) removed(path, kept string) {
	unlock, ok := c.keeps()
	if !ok {
		return
	}
	defer unlock()
	delete(c.durable, path)
	if kept == "" {
		delete(c.undo, path) // a folder that is gone took its names along
	} else {
		c.later(path, func() error { return os.Rename(kept, path) })
	}
}

// syncedDir makes the names in dir safe, those of its folders included.
func (c *lossy) syncedDir(dir string) {
	unlock, ok := c.keeps()
	if !ok {
		return
	}
	defer unlock()
	delete(c.undo, dir)
	entries, err := os.ReadDir(dir)
	if err != nil {
		return
	}
	for _, e := range entries {
		if e.IsDir() {
			c.folders[filepath.Join(dir, e.Name())] = true
		}
	}
}
