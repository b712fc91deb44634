package cli

import (
	"bytes"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mounted runs sluice in a mount namespace of its own, in which a file system
// of the given options stands at point: really full, or really read-only, also
// for root, for whom permission bits do not bind. script is what the shell
// does before it becomes sluice.
func (w *world) mounted(t *testing.T, script string, args ...string) result {
	t.Helper()
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no shell")
	}
	c := w.process(t, args...)
	c.Path = sh
	c.Args = append([]string{sh, "-c", script + ` && exec "$0" "$@"`, os.Args[0]}, args...)
	c.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags:  syscall.CLONE_NEWUSER | syscall.CLONE_NEWNS,
		UidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}},
		GidMappings: []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getgid(), Size: 1}},
	}
	var out, errs bytes.Buffer
	c.Stdout, c.Stderr = &out, &errs
	err = c.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) && !strings.Contains(errs.String(), "mount") && !strings.Contains(errs.String(), "error: ") {
		t.Fatalf("%v: %s", err, errs.String())
	}
	if err != nil && !errors.As(err, &exit) || strings.HasPrefix(errs.String(), "mount") {
		t.Skipf("this machine gives no mount namespaces: %v %s", err, errs.String())
	}
	return result{code: c.ProcessState.ExitCode(), out: w.relative(out.String()), err: w.relative(errs.String())}
}

func TestAFullDiskEndsInOneMessageAndTheNextRunConverges(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	for name, tc := range map[string]struct{ point, dir string }{
		// Where the table is, nothing may change but what is whole; where the
		// state is, no package may be half sealed.
		"destination": {"out", "out"},
		"state":       {".sluice", ".sluice"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, strings.Replace(small, "contacts=40", "contacts=500", 1))
			w.env["SLUICE_FILE"] = w.file()
			if err := os.Mkdir(filepath.Join(w.dir, tc.point), 0o700); err != nil {
				t.Fatal(err)
			}
			// 64 KiB hold a few files and not the table, nor its parts.
			r := w.mounted(t, "mount -t tmpfs -o size=64k tmpfs "+tc.dir, "run").mustBe(t, 1)
			golden(t, filepath.Join("bad", "full_disk_"+name+".txt"), generated.ReplaceAllString(r.err, "ID"))
			if n := strings.Count(r.err, "error: "); n != 1 {
				t.Errorf("%d messages", n)
			}
			// The full disk is gone with its namespace; the next run finds an empty
			// one and whatever stood elsewhere.
			w.sluice(t, "run").mustBe(t, 0)
			if got := w.sluice(t, "query", "SELECT count(*) AS n, count(DISTINCT id) AS ids FROM contacts_all").mustBe(t, 0).out; got != "n,ids\n500,500\n" {
				t.Errorf("got %q", got)
			}
		})
	}
}

func TestAReadOnlyDirectoryEndsInOneMessage(t *testing.T) {
	t.Parallel()
	for _, dir := range []string{"out", ".sluice"} {
		t.Run(dir, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, small)
			w.env["SLUICE_FILE"] = w.file()
			w.sluice(t, "run").mustBe(t, 0)
			before := w.tree(t, "out", ".sluice/state")
			r := w.mounted(t, "mount --bind "+dir+" "+dir+" && mount -o remount,ro,bind "+dir, "run").mustBe(t, 1)
			golden(t, filepath.Join("bad", "read_only_"+strings.TrimPrefix(dir, ".")+".txt"), generated.ReplaceAllString(r.err, "ID"))
			if n := strings.Count(r.err, "error: "); n != 1 {
				t.Errorf("%d messages", n)
			}
			after := w.tree(t, "out", ".sluice/state")
			if dir == "out" { // the failed run itself is on record
				for _, files := range []map[string]string{before, after} {
					for path := range files {
						if strings.HasPrefix(path, ".sluice") {
							delete(files, path)
						}
					}
				}
			}
			if diff := cmp.Diff(before, after); diff != "" {
				t.Errorf("something changed:\n%s", diff)
			}
		})
	}
}

func TestAFileThatMayNotGrowIsReportedLikeAFullDisk(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	w.env["SLUICE_FILE"] = w.file()
	c := w.process(t, "run")
	sh, err := exec.LookPath("sh")
	if err != nil {
		t.Skip("no shell")
	}
	c.Path = sh
	c.Args = []string{sh, "-c", `ulimit -f 8 && exec "$0" run`, os.Args[0]}
	var errs bytes.Buffer
	c.Stderr = &errs
	if err := c.Run(); err == nil || c.ProcessState.ExitCode() != 1 {
		t.Fatalf("%v: %s", err, errs.String())
	}
	if got := errs.String(); strings.Count(got, "error: ") != 1 || !strings.Contains(got, "file too large") {
		t.Errorf("got %s", got)
	}
	w.sluice(t, "run").mustBe(t, 0)
}
