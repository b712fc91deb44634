package cli

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/duck"
)

const moduleRoot = "../.."

// instructions are the lines of the Dockerfile that begin with a word, without it.
func instructions(t *testing.T, word string) []string {
	t.Helper()
	var out []string
	for line := range strings.Lines(example(t, "docker/Dockerfile")) {
		if rest, ok := strings.CutPrefix(line, word+" "); ok {
			out = append(out, strings.TrimSpace(rest))
		}
	}
	if len(out) == 0 {
		t.Fatalf("the Dockerfile has no %s", word)
	}
	return out
}

// buildCommand is the line of the Dockerfile that builds the program.
func buildCommand(t *testing.T) string {
	t.Helper()
	for _, line := range instructions(t, "RUN") {
		if strings.Contains(line, "go build") {
			return line
		}
	}
	t.Fatal("the Dockerfile builds nothing")
	return ""
}

// ignored tells which paths of the repository Docker leaves out of the context.
func ignored(t *testing.T) func(rel string) bool {
	t.Helper()
	var patterns []string
	for line := range strings.Lines(example(t, "docker/Dockerfile.dockerignore")) {
		line = strings.TrimSpace(line)
		if line == "" || line[0] == '#' {
			continue
		}
		if base := strings.TrimPrefix(line, "**/"); strings.ContainsAny(base, "/!") {
			t.Fatalf("this test does not know patterns such as %q", line)
		}
		patterns = append(patterns, line)
	}
	return func(rel string) bool {
		parts := strings.Split(rel, "/")
		for _, p := range patterns {
			base, anywhere := strings.CutPrefix(p, "**/")
			for i, part := range parts {
				if ok, err := path.Match(base, part); ok && err == nil && (i == 0 || anywhere) {
					return true
				}
			}
		}
		return false
	}
}

func TestTheDockerfileBuildsWithTheGoOfTheModule(t *testing.T) {
	t.Parallel()
	mod, err := os.ReadFile(filepath.Join(moduleRoot, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	needs := regexp.MustCompile(`(?m)^go (\d+\.\d+)`).FindSubmatch(mod)
	has := regexp.MustCompile(`(?m)^ARG GO_VERSION=(\S+)$`).FindStringSubmatch(example(t, "docker/Dockerfile"))
	if needs == nil || has == nil || has[1] != string(needs[1]) {
		t.Errorf("the Dockerfile has GO_VERSION %q, go.mod wants go %q", has, needs)
	}
	from := instructions(t, "FROM")
	if len(from) != 2 || !strings.HasPrefix(from[0], "golang:${GO_VERSION}-bookworm ") || from[1] != "debian:bookworm-slim" {
		t.Errorf("built on %q: a build with DuckDB needs the libc and libstdc++ that it was linked to", from)
	}
}

func TestTheDockerfileCopiesWhatIsThere(t *testing.T) {
	t.Parallel()
	out := ignored(t)
	for _, line := range instructions(t, "COPY") {
		words := strings.Fields(line)
		if strings.HasPrefix(line, "--from=") {
			continue
		}
		for _, name := range words[:len(words)-1] {
			if _, err := os.Stat(filepath.Join(moduleRoot, name)); err != nil {
				t.Errorf("COPY %s: %v", line, err)
			}
			if out(name) {
				t.Errorf("COPY %s: Dockerfile.dockerignore leaves out %s", line, name)
			}
		}
	}
}

func TestTheDockerContextHasAllThatTheProgramIsMadeOf(t *testing.T) {
	t.Parallel()
	list := exec.CommandContext(t.Context(), "go", "list", "-deps",
		"-f", `{{if .Module}}{{if .Module.Main}}{{$d := .Dir}}{{range .GoFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}{{range .EmbedFiles}}{{$d}}/{{.}}{{"\n"}}{{end}}{{end}}{{end}}`,
		"./cmd/sluice")
	list.Dir = moduleRoot
	list.Stderr = os.Stderr
	files, err := list.Output()
	if err != nil {
		t.Fatal(err)
	}
	root, err := filepath.Abs(moduleRoot)
	if err != nil {
		t.Fatal(err)
	}
	out, seen := ignored(t), 0
	for file := range strings.Lines(string(files)) {
		file = strings.TrimSpace(file)
		if file == "" {
			continue
		}
		rel, err := filepath.Rel(root, file)
		if err != nil {
			t.Fatal(err)
		}
		if seen++; out(filepath.ToSlash(rel)) {
			t.Errorf("Dockerfile.dockerignore leaves out %s, which the program is built from", rel)
		}
	}
	if seen < 50 {
		t.Errorf("only %d files looked at", seen)
	}
}

// The linker passes over the name of a variable that is not there.
func TestBuildsOfReleasesSetAVariableThatIsThere(t *testing.T) {
	t.Parallel()
	script, err := os.ReadFile(filepath.Join(moduleRoot, ".ci", "release"))
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{".ci/release": string(script), "Dockerfile": buildCommand(t)} {
		m := regexp.MustCompile(`-X github\.com/sluice-etl/sluice/([a-z/]+)\.(\w+)=\$`).FindStringSubmatch(text)
		if m == nil {
			t.Errorf("%s sets no version", name)
			continue
		}
		if !declaresText(t, filepath.Join(moduleRoot, m[1]), m[2]) {
			t.Errorf("%s sets %s of %s, which is no variable without a value there", name, m[2], m[1])
		}
	}
}

// declaresText reports whether a package has a variable of type string without a
// value, which is what the linker can set.
func declaresText(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*.go"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.SkipObjectResolution)
		if err != nil {
			t.Fatal(err)
		}
		for _, d := range f.Decls {
			g, ok := d.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, s := range g.Specs {
				v := s.(*ast.ValueSpec)
				typ, ok := v.Type.(*ast.Ident)
				if ok && v.Names[0].Name == name && typ.Name == "string" && v.Values == nil {
					return true
				}
			}
		}
	}
	return false
}

func TestTheUserOfTheImageIsANumberThatKubernetesExpects(t *testing.T) {
	t.Parallel()
	user, group, ok := strings.Cut(instructions(t, "USER")[0], ":")
	if !ok || user == "0" {
		t.Fatalf("USER %s", user)
	}
	if copied := strings.Join(instructions(t, "COPY"), "\n"); !strings.Contains(copied, "--chown="+user+":"+group+" ") {
		t.Error("the volume belongs to somebody else")
	}
	job := at(t, object(t, "cronjob.yaml", "CronJob"), "spec", "jobTemplate", "spec", "template", "spec", "securityContext")
	pod := at(t, object(t, "deployment.yaml", "Deployment"), "spec", "template", "spec", "securityContext")
	for _, c := range []any{job, pod} {
		for key, want := range map[string]string{"runAsUser": user, "runAsGroup": group, "fsGroup": group} {
			if n, err := strconv.ParseUint(want, 10, 32); err != nil || at(t, c, key) != n {
				t.Errorf("%s is %v, want %s", key, at(t, c, key), want)
			}
		}
	}
	cmd := regexp.MustCompile(`"([^"]+)"`).FindAllStringSubmatch(instructions(t, "CMD")[0], -1)
	var args []string
	for _, m := range cmd {
		args = append(args, m[1])
	}
	if c := parsed(t, args); c.Name() != "schedule" {
		t.Errorf("the image runs sluice %s", c.Name())
	}
}

func TestTheDockerfileBuildsBothVariants(t *testing.T) {
	if os.Getenv("SLUICE_SOAK") == "" {
		t.Skip("two builds take minutes: SLUICE_SOAK=1 runs them")
	}
	if runtime.GOOS == "windows" {
		t.Skip("needs sh")
	}
	context := dockerContext(t)
	for cgo, want := range map[string]string{"0": "DuckDB not built in", "1": "DuckDB 1."} {
		if cgo == "1" && !duck.Available {
			continue
		}
		to := t.TempDir()
		command := strings.ReplaceAll(buildCommand(t), "/out/", to+"/")
		build := exec.CommandContext(t.Context(), "sh", "-ec", command)
		build.Dir, build.Env = context, append(os.Environ(), "CGO="+cgo, "VERSION=v9.8.7", "GOFLAGS=")
		if said, err := build.CombinedOutput(); err != nil {
			t.Fatalf("CGO=%s: %v\n%s", cgo, err, said)
		}
		said, err := exec.CommandContext(t.Context(), filepath.Join(to, "sluice"), "version").CombinedOutput()
		if err != nil || !strings.HasPrefix(string(said), "sluice 9.8.7\n") || !strings.Contains(string(said), want) {
			t.Errorf("CGO=%s: %v, said %s", cgo, err, said)
		}
	}
}

// dockerContext is a copy of the repository as Docker hands it to the build.
func dockerContext(t *testing.T) string {
	t.Helper()
	to, out := t.TempDir(), ignored(t)
	err := filepath.WalkDir(moduleRoot, func(file string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(moduleRoot, file)
		switch {
		case err != nil || rel == ".":
			return err
		case out(filepath.ToSlash(rel)) && d.IsDir():
			return fs.SkipDir
		case out(filepath.ToSlash(rel)):
			return nil
		case d.IsDir():
			return os.MkdirAll(filepath.Join(to, rel), 0o755)
		case !d.Type().IsRegular():
			return nil
		}
		return copyTo(file, filepath.Join(to, rel))
	})
	if err != nil {
		t.Fatal(err)
	}
	return to
}

func copyTo(from, to string) (err error) {
	src, err := os.Open(from)
	if err != nil {
		return err
	}
	defer src.Close()
	dst, err := os.Create(to)
	if err != nil {
		return err
	}
	defer func() {
		if cerr := dst.Close(); err == nil {
			err = cerr
		}
	}()
	_, err = io.Copy(dst, src)
	return err
}
