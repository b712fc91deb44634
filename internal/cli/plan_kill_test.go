package cli

import (
	"fmt"
	"net/http"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
)

// inBuckets is a pipeline whose state and table stand in buckets, so that every
// step of a command is a request that a test sees.
const inBuckets = `version: 1
state: {backend: gcs, path: "gs://sluice/state/N"}
sources:
  crm: {type: contacts_api, url: "SOURCE", api_key: "${KEY}", requests_per_second: 1000}
destinations:
  bucket: {type: parquet, path: "gs://lake/crm/N", prevent_destroy: false}
  lake: {type: parquet, path: out, prevent_destroy: false}
pipelines:
  nightly: {source: crm, destinations: [bucket, lake]}
`

// remoteWorld is a world of such a pipeline, below a folder of each bucket.
func remoteWorld(t *testing.T, from served, g *gcstest.Server, folder string) *world {
	t.Helper()
	source := regexp.MustCompile(`http://[^"]+`).FindString(from.text(t))
	w := newWorld(t, strings.NewReplacer("/N", folder, "SOURCE", source).Replace(inBuckets))
	w.env[envEmulator] = strings.TrimPrefix(g.URL, "http://")
	w.env["KEY"] = "sandbox"
	return w
}

// killedAt runs a command as a process that is killed at its n-th request to the
// buckets; 0: never. It returns how many requests there were.
func killedAt(t *testing.T, w *world, g *gcstest.Server, n int, args ...string) int {
	t.Helper()
	started := make(chan struct{})
	cmd := w.process(t, args...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	g.SetFault(func(at int, _ *http.Request) gcstest.Fault {
		if at != n {
			return gcstest.None
		}
		<-started
		if err := cmd.Process.Kill(); err != nil {
			t.Error(err)
		}
		return gcstest.Drop
	})
	err := cmd.Start()
	close(started)
	if err == nil {
		err = cmd.Wait()
	}
	if (n == 0) != (err == nil) {
		t.Fatalf("%v, to be killed at request %d: %v\n%s", args, n, err, stderr.String())
	}
	return g.SetFault(nil)
}

// Wherever apply and destroy are killed, a plan tells what is left, and the same
// command does it.
func TestApplyAndDestroyKilledAtAnyRequestAreDoneByTheSameCommand(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("starts processes")
	}
	steps := 1 // in the middle
	if os.Getenv("SLUICE_SOAK") != "" {
		steps = 1000
	}
	g := gcstest.Start(t, "lake", "sluice")
	source, try := changing(t, 20, ""), 0
	fresh := func() *world {
		try++
		w := remoteWorld(t, source, g, fmt.Sprintf("/try%d", try))
		// A lease of a process that was killed has ended by then.
		w.clock = clock.Fixed(time.Now().Add(48 * time.Hour))
		return w
	}
	all := killedAt(t, fresh(), g, 0, "apply", "--auto-approve")
	for k := range min(steps, all) {
		at := 1 + (2*k+1)*all/(2*min(steps, all))
		w := fresh()
		killedAt(t, w, g, at, "apply", "--auto-approve")
		if r := w.sluice(t, "plan"); r.code != 0 {
			t.Errorf("a plan after apply was killed at request %d of %d: %s", at, all, r.err)
		}
		w.sluice(t, "apply", "--auto-approve").mustBe(t, 0)
		w.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 0)
		if r := w.sluice(t, "verify").mustBe(t, 0); strings.Count(r.out, "20 contacts") != 2 {
			t.Errorf("after apply was killed at request %d:\n%s", at, r.out)
		}
	}
	w := fresh()
	w.sluice(t, "run").mustBe(t, 0)
	all = killedAt(t, w, g, 0, "destroy", "--auto-approve")
	for k := range min(steps, all) {
		at := 1 + (2*k+1)*all/(2*min(steps, all))
		w := fresh()
		later := w.clock
		w.clock = clock.System{}
		w.sluice(t, "run").mustBe(t, 0)
		w.clock = later
		killedAt(t, w, g, at, "destroy", "--auto-approve")
		if r := w.sluice(t, "plan", "--no-data"); r.code != 0 && !strings.Contains(r.err, "Run `sluice destroy` again") {
			t.Errorf("a plan after destroy was killed at request %d of %d: exit %d, %s", at, all, r.code, r.err)
		}
		w.sluice(t, "destroy", "--auto-approve").mustBe(t, 0)
		if r := w.sluice(t, "destroy", "--auto-approve").mustBe(t, 0); !strings.Contains(r.out, "nothing to destroy") {
			t.Errorf("after destroy was killed at request %d of %d it leaves\n%s", at, all, r.out)
		}
		if r := w.sluice(t, "run").mustBe(t, 0); !strings.Contains(r.out, "20 new") {
			t.Errorf("after destroy was killed at request %d of %d a run says\n%s", at, all, r.out)
		}
	}
}
