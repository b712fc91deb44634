package cli

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/duck"
)

// asProgram makes the test binary run as sluice: a real process, without
// linking a second binary.
const asProgram = "SLUICE_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		os.Exit(program())
	}
	code := m.Run()
	if shared.world != nil {
		_ = os.RemoveAll(shared.world.dir)
	}
	os.Exit(code)
}

// program is what cmd/sluice does.
func program() int {
	prepareProcess()
	ctx, cancel := context.WithCancelCause(context.Background())
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		if <-signals == syscall.SIGTERM {
			cancel(SignalError{Name: "SIGTERM", Code: 143})
		} else {
			cancel(SignalError{Name: "Ctrl-C", Code: 130})
		}
	}()
	return Main(ctx, Program{
		Args:    os.Args[1:],
		Streams: Streams{In: os.Stdin, Out: os.Stdout, Err: os.Stderr},
		Env:     os.LookupEnv, Clock: clock.System{},
	})
}

// world is a directory with a pipelines file, and what a person does there.
type world struct {
	dir   string
	env   map[string]string
	clock clock.Clock
}

// noon is when tests happen: after everything in the sandbox's history.
var noon = clock.Fixed(time.Date(2026, 9, 1, 12, 0, 0, 0, time.UTC))

func newWorld(t *testing.T, yaml string) *world {
	t.Helper()
	w := &world{dir: t.TempDir(), env: map[string]string{}, clock: noon}
	if yaml != "" {
		w.write(t, "pipelines.yaml", yaml)
	}
	return w
}

// shared is a world that has been exported, for tests that only read.
var shared struct {
	once  sync.Once
	world *world
}

func exported(t *testing.T) *world {
	t.Helper()
	shared.once.Do(func() {
		dir, err := os.MkdirTemp("", "sluice-cli-test-") //nolint:usetesting // it outlives the test that happens to make it
		if err != nil {
			t.Fatal(err)
		}
		w := &world{dir: dir, env: map[string]string{}, clock: noon}
		w.write(t, "pipelines.yaml", small)
		w.sluice(t, "run").mustBe(t, 0)
		shared.world = w
	})
	if shared.world == nil {
		t.Fatal("the export that tests share failed")
	}
	return shared.world
}

// needsDuckDB skips a test that asks what was exported in a build without it.
func needsDuckDB(t *testing.T) {
	t.Helper()
	if !duck.Available {
		t.Skip("this build has no DuckDB")
	}
}

func (w *world) file() string { return filepath.Join(w.dir, "pipelines.yaml") }

func (w *world) write(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join(w.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}

// result is what one command did.
type result struct {
	code     int
	out, err string
}

// sluice runs a command in this process, off a terminal.
func (w *world) sluice(t *testing.T, args ...string) result {
	t.Helper()
	return w.run(t, Streams{}, args...)
}

// onTerminal runs a command in this process as if on a terminal of 100 columns.
func (w *world) onTerminal(t *testing.T, args ...string) result {
	t.Helper()
	return w.run(t, Streams{InTerminal: true, OutTerminal: true, ErrTerminal: true, Width: func() int { return 100 }}, args...)
}

func (w *world) run(t *testing.T, s Streams, args ...string) result {
	t.Helper()
	var out, errs bytes.Buffer
	s.Out, s.Err = &out, &errs
	if s.In == nil {
		s.In = strings.NewReader("")
	}
	env := func(name string) (string, bool) {
		if name == envFile && w.env[envFile] == "" {
			return w.file(), true
		}
		v, ok := w.env[name]
		return v, ok
	}
	code := Main(t.Context(), Program{Args: args, Streams: s, Env: env, Clock: w.clock})
	return result{code: code, out: w.relative(out.String()), err: w.relative(errs.String())}
}

// relative takes what differs from one test run to the next out of a text.
func (w *world) relative(s string) string {
	if resolved, err := filepath.EvalSymlinks(w.dir); err == nil {
		s = strings.ReplaceAll(s, resolved, "DIR")
	}
	return strings.ReplaceAll(s, w.dir, "DIR")
}

func (r result) mustBe(t *testing.T, code int) result {
	t.Helper()
	if r.code != code {
		t.Fatalf("exit %d, want %d\nstdout:\n%s\nstderr:\n%s", r.code, code, r.out, r.err)
	}
	return r
}

// process starts sluice as a process of its own.
func (w *world) process(t *testing.T, args ...string) *exec.Cmd {
	t.Helper()
	c := exec.CommandContext(t.Context(), os.Args[0], args...)
	c.Dir = w.dir
	c.Env = append(os.Environ(), asProgram+"=1")
	for name, v := range w.env {
		c.Env = append(c.Env, name+"="+v)
	}
	return c
}

// tree maps every file below the given directories to its content and time.
func (w *world) tree(t *testing.T, dirs ...string) map[string]string {
	t.Helper()
	files := map[string]string{}
	for _, dir := range dirs {
		root := filepath.Join(w.dir, dir)
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil || d.IsDir() {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			data, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			rel, err := filepath.Rel(w.dir, path)
			files[rel] = fmt.Sprintf("%s %x", info.ModTime().Format(time.RFC3339Nano), data)
			return err
		})
		if err != nil && !os.IsNotExist(err) && !errors.Is(err, syscall.ENOTDIR) {
			t.Fatal(err)
		}
	}
	return files
}

// golden compares text with a file under testdata; UPDATE_GOLDEN=1 writes it.
func golden(t *testing.T, name, text string) {
	t.Helper()
	path := filepath.Join("testdata", name)
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatalf("%v (UPDATE_GOLDEN=1 writes it)", err)
	}
	if diff := cmp.Diff(string(want), text); diff != "" {
		t.Errorf("%s (-want +got; UPDATE_GOLDEN=1 accepts it):\n%s", path, diff)
	}
}

var _ io.Writer = (*terminal)(nil)
