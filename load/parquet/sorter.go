package parquet

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
)

// sortLimit is how many keys a sorter holds in memory: 16 MB.
const sortLimit = 1 << 20

// sortKey is a hash of 128 bits: of the ids or versions of 2^40 contacts two are
// alike with a chance below 2^-48.
type sortKey = [16]byte

// sorter puts any number of keys in order, 16 bytes each, in temporary files
// where they are more than limit.
type sorter struct {
	dir   string // where temporary files go
	limit int
	keys  []sortKey
	files []*os.File
}

func newSorter(dir string, limit int) *sorter { return &sorter{dir: dir, limit: limit} }

// add takes one more key.
func (s *sorter) add(k sortKey) error {
	s.keys = append(s.keys, k)
	if len(s.keys) < s.limit {
		return nil
	}
	s.sort()
	f, err := os.CreateTemp(s.dir, "run-*")
	if err != nil {
		return explain("create file", s.dir, err)
	}
	s.files = append(s.files, f)
	w := bufio.NewWriterSize(f, 1<<18)
	for _, k := range s.keys {
		_, _ = w.Write(k[:]) // kept by w
	}
	s.keys = s.keys[:0]
	return explain("write file", f.Name(), w.Flush())
}

func (s *sorter) sort() {
	slices.SortFunc(s.keys, func(a, b sortKey) int { return bytes.Compare(a[:], b[:]) })
}

// close drops the keys.
func (s *sorter) close() error {
	var errs []error
	for _, f := range s.files {
		errs = append(errs, f.Close(), os.Remove(f.Name()))
	}
	s.files, s.keys = nil, nil
	return errors.Join(errs...)
}

// sorted starts giving the keys in order.
func (s *sorter) sorted() (*sortedKeys, error) {
	s.sort()
	out := &sortedKeys{rest: s.keys}
	for _, f := range s.files {
		if _, err := f.Seek(0, io.SeekStart); err != nil {
			return nil, fmt.Errorf("read %s: %w", f.Name(), err)
		}
		r := &sortedRun{r: bufio.NewReaderSize(f, 1<<16)}
		if err := r.advance(); err != nil {
			return nil, err
		}
		out.runs = append(out.runs, r)
	}
	return out, nil
}

// sortedKeys merges sorted runs. There are few of them: one for each limit.
type sortedKeys struct {
	rest []sortKey
	runs []*sortedRun
}

type sortedRun struct {
	r    *bufio.Reader
	head sortKey
	done bool
}

func (r *sortedRun) advance() error {
	_, err := io.ReadFull(r.r, r.head[:])
	if errors.Is(err, io.EOF) {
		r.done = true
		return nil
	}
	if err != nil {
		return fmt.Errorf("read sorted keys: %w", err)
	}
	return nil
}

// next returns the least key that is left; false where there is none.
func (s *sortedKeys) next() (sortKey, bool, error) {
	var from *sortedRun
	for _, r := range s.runs {
		if !r.done && (from == nil || bytes.Compare(r.head[:], from.head[:]) < 0) {
			from = r
		}
	}
	if len(s.rest) > 0 && (from == nil || bytes.Compare(s.rest[0][:], from.head[:]) <= 0) {
		k := s.rest[0]
		s.rest = s.rest[1:]
		return k, true, nil
	}
	if from == nil {
		return sortKey{}, false, nil
	}
	k := from.head
	return k, true, from.advance()
}

// twice calls f for each key that comes more than once, in order.
func (s *sorter) twice(f func(sortKey)) error {
	keys, err := s.sorted()
	if err != nil {
		return err
	}
	var last sortKey
	times := 0
	for {
		k, ok, err := keys.next()
		if err != nil || !ok {
			return err
		}
		if times > 0 && k == last {
			times++
		} else {
			last, times = k, 1
		}
		if times == 2 {
			f(k)
		}
	}
}

// lacking calls f for each key of s that other does not have, in order.
func (s *sorter) lacking(other *sorter, f func(sortKey)) error {
	keys, err := s.sorted()
	if err != nil {
		return err
	}
	theirs, err := other.sorted()
	if err != nil {
		return err
	}
	their, more, err := theirs.next()
	for err == nil {
		k, ok, nextErr := keys.next()
		if nextErr != nil || !ok {
			return nextErr
		}
		for err == nil && more && bytes.Compare(their[:], k[:]) < 0 {
			their, more, err = theirs.next()
		}
		if err == nil && (!more || their != k) {
			f(k)
		}
	}
	return err
}
