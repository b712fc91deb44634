package cli

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
	"github.com/robfig/cron/v3"
	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/web"
)

// examplesDir is where the examples are, as the tests of this package see it.
const examplesDir = "../../examples"

// example is a file of examples/.
func example(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(examplesDir, filepath.FromSlash(name)))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// documents are those of a YAML file, each as a mapping.
func documents(t *testing.T, text string) []map[string]any {
	t.Helper()
	var docs []map[string]any
	d := yaml.NewDecoder(strings.NewReader(text))
	for {
		var doc map[string]any
		err := d.Decode(&doc)
		if errors.Is(err, io.EOF) {
			return docs
		}
		if err != nil {
			t.Fatal(err)
		}
		docs = append(docs, doc)
	}
}

// object is the one document of a kind in a file of examples/kubernetes.
func object(t *testing.T, name, kind string) map[string]any {
	t.Helper()
	for _, d := range documents(t, example(t, "kubernetes/"+name)) {
		if d["kind"] == kind {
			return d
		}
	}
	t.Fatalf("%s has no %s", name, kind)
	return nil
}

// at is what stands at a path of keys and, in lists, the first element.
func at(t *testing.T, v any, path ...string) any {
	t.Helper()
	for i, key := range path {
		if list, ok := v.([]any); ok && len(list) > 0 {
			v = list[0]
		}
		m, ok := v.(map[string]any)
		if !ok || m[key] == nil {
			t.Fatalf("nothing stands at %s", strings.Join(path[:i+1], "."))
		}
		v = m[key]
	}
	return v
}

// texts are the strings of a list.
func texts(t *testing.T, v any) []string {
	t.Helper()
	list, ok := v.([]any)
	if !ok {
		t.Fatalf("%v is no list", v)
	}
	var out []string
	for _, e := range list {
		s, ok := e.(string)
		if !ok {
			t.Fatalf("%v is no text", e)
		}
		out = append(out, s)
	}
	return out
}

// assigned is the value of a line NAME=value of a unit, a cron file or sluice.env.
func assigned(t *testing.T, text, name string) string {
	t.Helper()
	m := regexp.MustCompile(`(?m)^` + regexp.QuoteMeta(name) + `=(.*)$`).FindStringSubmatch(text)
	if m == nil {
		t.Fatalf("no line %s=", name)
	}
	return strings.Trim(m[1], `'"`)
}

// examplePipelines are the pipelines files among the examples, by name, those in a
// ConfigMap included.
func examplePipelines(t *testing.T) map[string]string {
	t.Helper()
	files := map[string]string{}
	err := filepath.WalkDir(examplesDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || filepath.Ext(path) != ".yaml" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, doc := range documents(t, string(data)) {
			switch {
			case doc["pipelines"] != nil:
				files[path] = string(data)
			case doc["kind"] == "ConfigMap":
				for name, text := range at(t, doc, "data").(map[string]any) {
					files[path+" "+name] = text.(string)
				}
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestPipelinesFilesOfTheExamplesAreValid(t *testing.T) {
	t.Parallel()
	files := examplePipelines(t)
	if len(files) < 2 {
		t.Fatalf("found %d pipelines files under examples, want that of systemd, cron and Docker, and that of Kubernetes", len(files))
	}
	env := example(t, "sluice.env")
	for name, text := range files {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, text)
			// What sluice.env sets, and the Secret, and nothing else.
			w.env["CONTACTS_API_KEY"] = assigned(t, env, "CONTACTS_API_KEY")
			if !strings.Contains(name, "kubernetes") {
				w.env["CONTACTS_API_URL"] = assigned(t, env, "CONTACTS_API_URL")
			}
			r := w.sluice(t, "validate").mustBe(t, exitDone)
			if strings.Contains(r.err, "warning") {
				t.Errorf("validate warns:\n%s", r.err)
			}
			for _, place := range regexp.MustCompile(`(?m)^ *path: *(\S+)`).FindAllStringSubmatch(text, -1) {
				if !strings.HasPrefix(place[1], "/var/lib/sluice/") {
					t.Errorf("writes to %s: the units, images and volumes of the examples let it write to /var/lib/sluice alone", place[1])
				}
			}
		})
	}
}

// parsed is a command line as the program takes it.
func parsed(t *testing.T, args []string) *cobra.Command {
	t.Helper()
	a := &app{Program: Program{Env: func(string) (string, bool) { return "", false }}}
	c, rest, err := a.root().Find(args)
	if err == nil {
		err = c.ParseFlags(rest)
	}
	if err == nil {
		err = c.ValidateArgs(c.Flags().Args())
	}
	if err != nil {
		t.Fatalf("sluice %s: %v", strings.Join(args, " "), err)
	}
	return c
}

// seconds reads 150s, 2m, or a number of seconds.
func seconds(t *testing.T, v any) time.Duration {
	t.Helper()
	switch v := v.(type) {
	case uint64:
		return time.Duration(v) * time.Second //nolint:gosec // seconds of an example
	case string:
		if d, err := time.ParseDuration(v); err == nil {
			return d
		}
	}
	t.Fatalf("%v is no duration", v)
	return 0
}

// exampleDaemon is an example of sluice schedule: its arguments, and how long whoever
// started it waits for it to stop.
type exampleDaemon struct {
	args []string
	wait time.Duration
}

func exampleDaemons(t *testing.T) map[string]exampleDaemon {
	t.Helper()
	unit := example(t, "systemd/sluice.service")
	start := strings.Fields(assigned(t, unit, "ExecStart"))
	compose := at(t, documents(t, example(t, "docker/compose.yaml"))[0], "services", "sluice")
	pod := at(t, object(t, "deployment.yaml", "Deployment"), "spec", "template", "spec")
	return map[string]exampleDaemon{
		"systemd":    {start[1:], seconds(t, assigned(t, unit, "TimeoutStopSec"))},
		"compose":    {texts(t, at(t, compose, "command")), seconds(t, at(t, compose, "stop_grace_period"))},
		"Kubernetes": {texts(t, at(t, pod, "containers", "args")), seconds(t, at(t, pod, "terminationGracePeriodSeconds"))},
	}
}

func TestADaemonOfTheExamplesHasTimeToCloseWhatItCutsShort(t *testing.T) {
	t.Parallel()
	for name, d := range exampleDaemons(t) {
		c := parsed(t, d.args)
		if c.Name() != "schedule" {
			t.Errorf("%s starts sluice %s, want schedule", name, c.Name())
		}
		grace, err := c.Flags().GetDuration("grace")
		if err != nil {
			t.Fatal(err)
		}
		if d.wait < grace+15*time.Second {
			t.Errorf("%s: killed after %v, want at least 15s more than the %v that a running pipeline may go on", name, d.wait, grace)
		}
	}
}

func TestRunsOfTheExamplesAreRuns(t *testing.T) {
	t.Parallel()
	unit := example(t, "systemd/sluice-run.service")
	job := at(t, object(t, "cronjob.yaml", "CronJob"), "spec", "jobTemplate", "spec")
	for name, args := range map[string][]string{
		"systemd":    strings.Fields(assigned(t, unit, "ExecStart"))[1:],
		"Kubernetes": texts(t, at(t, job, "template", "spec", "containers", "args")),
	} {
		if c := parsed(t, args); c.Name() != "run" {
			t.Errorf("%s starts sluice %s, want run", name, c.Name())
		}
	}
	if strings.Contains(unit, "\nSuccessExitStatus=") {
		t.Error("sluice-run.service takes an exit code other than 0 for success: a table that waits for approval goes unseen")
	}
	rules := at(t, job, "podFailurePolicy", "rules")
	if at(t, rules, "action") != "FailJob" || at(t, rules, "onExitCodes", "values").([]any)[0] != uint64(exitApproval) {
		t.Errorf("the CronJob tries again what waits for approval (exit code %d): %v", exitApproval, rules)
	}
}

func TestTheCronLineOfTheExamplesRunsAndReportsFailuresAlone(t *testing.T) {
	t.Parallel()
	text := example(t, "cron/sluice.cron")
	var lines []string
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		if line != "" && line[0] != '#' && !regexp.MustCompile(`^[A-Z_]+=`).MatchString(line) {
			lines = append(lines, line)
		}
	}
	if len(lines) != 1 {
		t.Fatalf("%d lines run something, want one: %q", len(lines), lines)
	}
	fields := regexp.MustCompile(`\s+`).Split(lines[0], 7)
	if _, err := cron.ParseStandard(strings.Join(fields[:5], " ")); err != nil {
		t.Error(err)
	}
	if user := strings.Fields(lineOfPrefix(t, example(t, "systemd/sluice.sysusers.conf"), "u "))[1]; fields[5] != user {
		t.Errorf("runs as %s, want %s", fields[5], user)
	}
	if strings.Contains(fields[6], "%") {
		t.Error("cron takes % for the end of the line")
	}
	if !strings.Contains(fields[6], "&& sluice run >$LOG 2>&1 || {") {
		t.Errorf("want a run whose log is printed, and so mailed, where it fails: %s", fields[6])
	}
	if bytes.Contains([]byte(text), []byte("API_KEY=")) {
		t.Error("a key stands in the crontab: cron puts its variables into the head of every mail")
	}
}

func lineOfPrefix(t *testing.T, text, prefix string) string {
	t.Helper()
	for line := range strings.Lines(text) {
		if strings.HasPrefix(line, prefix) {
			return line
		}
	}
	t.Fatalf("no line starts with %q", prefix)
	return ""
}

func TestWhatTheExamplesNameIsAmongThem(t *testing.T) {
	t.Parallel()
	page := example(t, "README.md")
	err := filepath.WalkDir(examplesDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || d.Name() == "README.md" || strings.HasSuffix(d.Name(), ".dockerignore") {
			return err
		}
		if !strings.Contains(page, d.Name()+"`") {
			t.Errorf("examples/README.md does not list %s", path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"systemd/sluice.service", "systemd/sluice-run.service"} {
		unit := example(t, name)
		if dir := assigned(t, unit, "WorkingDirectory"); dir != "/var/lib/"+assigned(t, unit, "StateDirectory") {
			t.Errorf("%s works in %s, which is not its StateDirectory", name, dir)
		}
		if env := assigned(t, unit, "EnvironmentFile"); env != "/etc/sluice/sluice.env" {
			t.Errorf("%s reads keys from %s", name, env)
		}
		if file := assigned(t, unit, "Environment"); file != envFile+"=/etc/sluice/pipelines.yaml" {
			t.Errorf("%s sets %s", name, file)
		}
	}
	mount := at(t, object(t, "deployment.yaml", "Deployment"), "spec", "template", "spec", "containers", "volumeMounts")
	if !slices.ContainsFunc(mount.([]any), func(m any) bool { return m.(map[string]any)["mountPath"] == "/var/lib/sluice" }) {
		t.Error("the Deployment mounts nothing at /var/lib/sluice")
	}
}

func TestTheDeploymentIsProbedWhereThePageAnswersWithoutItsToken(t *testing.T) {
	t.Parallel()
	deployment := object(t, "deployment.yaml", "Deployment")
	container := at(t, deployment, "spec", "template", "spec", "containers")
	listen, err := parsed(t, texts(t, at(t, container, "args"))).Flags().GetString("listen")
	if err != nil {
		t.Fatal(err)
	}
	_, port, err := net.SplitHostPort(listen)
	if err != nil {
		t.Fatal(err)
	}
	service := at(t, object(t, "deployment.yaml", "Service"), "spec", "ports", "port")
	for _, p := range []any{at(t, container, "ports", "containerPort"), service} {
		if got := fmt.Sprint(p); got != port {
			t.Errorf("port %s, and it listens on %s", got, port)
		}
	}
	if !strings.Contains(example(t, "kubernetes/common.yaml"), "token: ${SLUICE_TOKEN:-}") {
		t.Error("listens for other machines, and its file has no token")
	}
	answer := func(text string) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) })
	}
	page, err := web.New(web.Options{Clock: clock.System{}, Log: slog.New(slog.DiscardHandler), Token: "0123456789abcdef", Healthz: answer("alive"), Readyz: answer("ready")})
	if err != nil {
		t.Fatal(err)
	}
	for probe, want := range map[string]string{"livenessProbe": "alive", "readinessProbe": "ready"} {
		path := at(t, container, probe, "httpGet", "path").(string)
		w := httptest.NewRecorder()
		page.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "http://10.0.0.7:"+port+path, nil))
		if w.Code != http.StatusOK || w.Body.String() != want {
			t.Errorf("%s at %s: status %d, %q", probe, path, w.Code, w.Body)
		}
	}
}
