package cli

import (
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const crooked = `version: 1
sources:
    crm: {type: contacts_api, url: "sandbox://?contacts=5"}   # generated
destinations:
    lake:
        type: "parquet"
        path: out
pipelines:
    nightly:
        source: crm
        destinations:
        - lake
`

const straight = `version: 1
sources:
  crm: {type: contacts_api, url: "sandbox://?contacts=5"}   # generated

destinations:
  lake:
    type: parquet
    path: out

pipelines:
  nightly:
    source: crm
    destinations:
      - lake
`

func TestFmtLaysOutTheFileAndNamesIt(t *testing.T) {
	t.Parallel()
	w := newWorld(t, crooked)
	if err := os.Chmod(w.file(), 0o666); err != nil {
		t.Fatal(err)
	}
	if got := w.sluice(t, "fmt").mustBe(t, 0).out; got != "DIR/pipelines.yaml\n" {
		t.Errorf("it prints %q", got)
	}
	got, err := os.ReadFile(w.file())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(straight, string(got)); diff != "" {
		t.Error(diff)
	}
	if info, err := os.Stat(w.file()); err != nil || runtime.GOOS != "windows" && info.Mode().Perm() != 0o666 {
		t.Errorf("the mode is %v, %v", info.Mode(), err)
	}
	if r := w.sluice(t, "fmt").mustBe(t, 0); r.out != "" {
		t.Errorf("a second time it prints %q", r.out)
	}
	w.sluice(t, "validate").mustBe(t, 0)
}

func TestFmtCheckAndDiffChangeNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t, crooked)
	w.write(t, "good.yaml", "version: 1\n")
	for _, args := range [][]string{{"--check"}, {"--check", w.file(), filepath.Join(w.dir, "good.yaml")}, {"--check", "--diff"}} {
		r := w.sluice(t, append([]string{"fmt"}, args...)...).mustBe(t, 1)
		if !strings.Contains(r.err, "1 file is not laid out") || strings.Contains(r.out, "good.yaml") {
			t.Errorf("%v: %s%s", args, r.out, r.err)
		}
	}
	w.write(t, "key.yaml", "a:\n    api_key: real-key-4711\n    b: 'c'\n")
	if r := w.sluice(t, "fmt", "--diff", filepath.Join(w.dir, "key.yaml")).mustBe(t, 0); strings.Contains(r.out, "4711") || !strings.Contains(r.out, "+  b: c") {
		t.Errorf("got\n%s", r.out)
	}
	w.sluice(t, "fmt", "--check", filepath.Join(w.dir, "good.yaml")).mustBe(t, 0)
	patch := w.sluice(t, "fmt", "--diff").mustBe(t, 0).out
	golden(t, "fmt_diff.txt", patch)
	if got, err := os.ReadFile(w.file()); err != nil || string(got) != crooked {
		t.Errorf("the file was changed: %v\n%s", err, got)
	}
	// What it prints is a patch.
	tool, err := exec.LookPath("patch")
	if err != nil {
		t.Skip("there is no patch here")
	}
	c := exec.CommandContext(t.Context(), tool, "--silent", w.file())
	c.Stdin = strings.NewReader(patch)
	if out, err := c.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if got, err := os.ReadFile(w.file()); err != nil || string(got) != straight {
		t.Errorf("patched it is %v\n%s", err, got)
	}
}

func TestFmtRefusesWhatIsNoYAMLAndWritesNothingThen(t *testing.T) {
	t.Parallel()
	w := newWorld(t, crooked)
	w.write(t, "bad.yaml", "version: 1\na: [1\n")
	r := w.sluice(t, "fmt", w.file(), filepath.Join(w.dir, "bad.yaml")).mustBe(t, 1)
	if !strings.Contains(r.err, "DIR/bad.yaml:2:") || r.out != "" {
		t.Errorf("got %s%s", r.out, r.err)
	}
	if got, err := os.ReadFile(w.file()); err != nil || string(got) != crooked {
		t.Errorf("the other file was changed: %v", err)
	}
	if r := w.sluice(t, "fmt", filepath.Join(w.dir, "absent.yaml")).mustBe(t, 1); !strings.Contains(r.err, "format DIR/absent.yaml") {
		t.Errorf("got %s", r.err)
	}
}

func TestFmtKeepsALinkALink(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	w.write(t, "real.yaml", crooked)
	if err := os.Symlink("real.yaml", w.file()); err != nil {
		t.Skip(err)
	}
	w.sluice(t, "fmt").mustBe(t, 0)
	info, err := os.Lstat(w.file())
	if err != nil || info.Mode()&fs.ModeSymlink == 0 {
		t.Errorf("the link is %v, %v", info.Mode(), err)
	}
	if got, err := os.ReadFile(filepath.Join(w.dir, "real.yaml")); err != nil || string(got) != straight {
		t.Errorf("the file is %v\n%s", err, got)
	}
}
