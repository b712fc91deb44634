package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/atomicfile"
)

// memory is a bucket without a server. Its clock is its own.
type memory struct {
	mu         sync.Mutex
	held       map[string]memoryObject
	generation int64
	ahead      time.Duration // of the machine's clock
	trace      []string
	// fault is asked before each operation and after its effect; an error is
	// what the caller gets. It may use the bucket.
	fault func(op, name string, after bool) error
}

type memoryObject struct {
	object
	data []byte
}

var (
	_ objects   = (*memory)(nil)
	_ transfers = (*memory)(nil)
)

func newMemory() *memory { return &memory{held: map[string]memoryObject{}} }

// do runs one operation with the faults around it.
func (m *memory) do(ctx context.Context, op, name string, effect func() error) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	m.mu.Lock()
	fault := m.fault
	m.trace = append(m.trace, op+" "+name)
	m.mu.Unlock()
	if fault != nil {
		if err := fault(op, name, false); err != nil {
			return err
		}
	}
	m.mu.Lock()
	err := effect()
	m.mu.Unlock()
	if err == nil && fault != nil {
		err = fault(op, name, true)
	}
	return err
}

func (m *memory) get(ctx context.Context, name string) (data []byte, obj object, err error) {
	err = m.do(ctx, "get", name, func() error {
		o, ok := m.held[name]
		if !ok {
			return fmt.Errorf("get %s: %w", name, fs.ErrNotExist)
		}
		data, obj = slices.Clone(o.data), o.object
		return nil
	})
	return data, obj, err
}

func (m *memory) put(ctx context.Context, name string, data []byte, generation int64) (obj object, err error) {
	err = m.do(ctx, "put", name, func() error {
		if m.held[name].generation != generation {
			return fmt.Errorf("put %s: %w", name, errMoved)
		}
		m.generation++
		obj = object{name: name, generation: m.generation, size: int64(len(data)), updated: time.Now().Add(m.ahead)}
		m.held[name] = memoryObject{object: obj, data: slices.Clone(data)}
		return nil
	})
	return obj, err
}

func (m *memory) list(ctx context.Context, prefix string) (found []object, err error) {
	err = m.do(ctx, "list", prefix, func() error {
		for name, o := range m.held {
			if strings.HasPrefix(name, prefix) {
				found = append(found, o.object)
			}
		}
		return nil
	})
	return found, err
}

func (m *memory) remove(ctx context.Context, name string, generation int64) error {
	return m.do(ctx, "remove", name, func() error {
		o, ok := m.held[name]
		if ok && generation != anyGeneration && o.generation != generation {
			return fmt.Errorf("remove %s: %w", name, errMoved)
		}
		delete(m.held, name)
		return nil
	})
}

func (m *memory) upload(ctx context.Context, path, name string, generation int64) (object, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return object{}, err
	}
	return m.put(ctx, name, data, generation)
}

func (m *memory) copy(ctx context.Context, from, to string, generation int64) (object, error) {
	data, _, err := m.get(ctx, from)
	if err != nil {
		return object{}, err
	}
	return m.put(ctx, to, data, generation)
}

func (m *memory) download(ctx context.Context, name string, disk atomicfile.FS, path string) error {
	data, _, err := m.get(ctx, name)
	if err != nil {
		return err
	}
	return atomicfile.WriteFileOn(disk, path, data, filePerm)
}

// names lists the objects below a prefix, sorted.
func (m *memory) names(prefix string) []string {
	m.mu.Lock()
	defer m.mu.Unlock()
	var names []string
	for name := range m.held {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names
}

// passes lets the bucket's time pass, and nobody's signs of life with it.
func (m *memory) passes(d time.Duration) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ahead += d
}

// failing sets what fails from now on; nil for nothing.
func (m *memory) failing(fault func(op, name string, after bool) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = fault
}

var errCut = errors.New("connection reset by peer")

// once fails the n-th operation that match names, before or after its effect.
func once(n int, after bool, match func(op, name string) bool) func(string, string, bool) error {
	var mu sync.Mutex
	count := 0
	return func(op, name string, done bool) error {
		if done != after || !match(op, name) {
			return nil
		}
		mu.Lock()
		defer mu.Unlock()
		if count++; count != n {
			return nil
		}
		return errCut
	}
}

func openShared(t *testing.T, m *memory, dir string, opts ...Option) *Store {
	t.Helper()
	return openBucket(t, &shared{objects: m, transfers: m, url: "gs://memory/sluice"}, dir, opts...)
}

func openBucket(t *testing.T, b *shared, dir string, opts ...Option) *Store {
	t.Helper()
	s, err := newStore(dir, noon, append([]Option{WithVersion("test"), WithCommand("sluice run")}, opts...))
	if err != nil {
		t.Fatal(err)
	}
	s.share(b)
	return s
}

// world is where documents are kept, and machines that have stores there.
type world struct {
	t *testing.T
	// open gives another store to the same documents, of the same machine.
	open func(t *testing.T, opts ...Option) *Store
	// elsewhere gives one of another machine, where machines can share it.
	elsewhere func(t *testing.T, opts ...Option) *Store
	// put writes a document as it is; documents returns what stands there.
	put       func(t *testing.T, name string, data []byte)
	documents func(t *testing.T) map[string]string
	shared    bool
	// documentsBelow are those of documents and the copies that are kept of them.
	documentsBelow func(t *testing.T) map[string]string
}

// everywhere runs a test over each backend.
func everywhere(t *testing.T, test func(w *world)) {
	t.Helper()
	for name, begin := range map[string]func(*testing.T) *world{"file": fileWorld, "memory": memoryWorld, "gcs": gcsWorld} {
		t.Run(name, func(t *testing.T) {
			w := begin(t)
			w.t = t
			test(w)
		})
	}
}

func fileWorld(t *testing.T) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{open: func(t *testing.T, opts ...Option) *Store { t.Helper(); return open(t, dir, opts...) }}
	w.elsewhere = w.open
	w.put = func(t *testing.T, name string, data []byte) {
		t.Helper()
		if err := errors.Join(os.MkdirAll(filepath.Join(dir, "state"), 0o700), os.WriteFile(filepath.Join(dir, "state", name), data, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	w.documents = func(t *testing.T) map[string]string {
		t.Helper()
		found := map[string]string{}
		entries, err := os.ReadDir(filepath.Join(dir, "state"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range entries {
			if e.IsDir() {
				continue
			}
			data, err := os.ReadFile(filepath.Join(dir, "state", e.Name()))
			if err != nil {
				t.Fatal(err)
			}
			found[e.Name()] = string(data)
		}
		return found
	}
	w.documentsBelow = func(t *testing.T) map[string]string {
		t.Helper()
		found := w.documents(t)
		entries, err := os.ReadDir(filepath.Join(dir, "state", "backup"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Fatal(err)
		}
		for _, e := range entries {
			path := filepath.Join(dir, "state", "backup", e.Name())
			data, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			found["backup/"+e.Name()] = string(data)
			if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o077 != 0 {
				t.Errorf("%s has mode %v, %v", path, info.Mode(), err)
			}
		}
		return found
	}
	return w
}

func memoryWorld(t *testing.T) *world {
	t.Helper()
	m := newMemory()
	return bucketWorld(t, &shared{objects: m, transfers: m, url: "gs://memory/sluice"})
}

func bucketWorld(t *testing.T, b *shared) *world {
	t.Helper()
	dir := t.TempDir()
	w := &world{
		shared: true,
		open:   func(t *testing.T, opts ...Option) *Store { t.Helper(); return openBucket(t, b, dir, opts...) },
		elsewhere: func(t *testing.T, opts ...Option) *Store {
			t.Helper()
			return openBucket(t, b, t.TempDir(), opts...)
		},
		put: func(t *testing.T, name string, data []byte) {
			t.Helper()
			_, obj, err := b.get(t.Context(), "state/"+name)
			if err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
			if _, err := b.put(t.Context(), "state/"+name, data, obj.generation); err != nil {
				t.Fatal(err)
			}
		},
		documents: func(t *testing.T) map[string]string {
			t.Helper()
			found := map[string]string{}
			objs, err := b.list(t.Context(), "state/")
			if err != nil {
				t.Fatal(err)
			}
			for _, o := range objs {
				data, _, err := b.get(t.Context(), o.name)
				if err != nil {
					t.Fatal(err)
				}
				found[strings.TrimPrefix(o.name, "state/")] = string(data)
			}
			return found
		},
	}
	w.documentsBelow = w.documents // as an object store lists them
	return w
}
