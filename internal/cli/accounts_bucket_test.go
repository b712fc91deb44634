//go:build unix

package cli

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
)

// bucketed is the script of a bucket's view over accounts, and which accounts it
// has, asked of a copy of the bucket.
func bucketed(t *testing.T, f fleet, s *gcstest.Server, name string) string {
	t.Helper()
	copied := &world{dir: t.TempDir()}
	for object, data := range s.Objects(t, "lake", "") {
		copied.write(t, object, string(data))
	}
	script := strings.ReplaceAll(copied.text(t, "crm/"+name+".sql"), "gs://lake", filepath.ToSlash(copied.dir))
	return perAccount(t, script, name)
}

func TestOneViewInABucketHasTheContactsOfAllAccounts(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	f := newFleet(t, map[string]int{"acme": 12, "globex": 6})
	s := gcstest.Start(t, "lake")
	f.env[envEmulator] = strings.TrimPrefix(s.URL, "http://")
	const places = `  out: {type: parquet, path: "gs://lake/crm", prevent_destroy: false}` + "\n  here: {type: parquet, path: here, prevent_destroy: false}"
	const quick = ", verify: off, stages: off"
	is := func(when, name string, accounts ...string) {
		t.Helper()
		if got, want := bucketed(t, f, s, name), f.each(t, "here", accounts...); got != want {
			t.Errorf("%s it has %s, the accounts %s", when, got, want)
		}
		f.sluice(t, "plan", "--no-data", "--detailed-exitcode").mustBe(t, 0)
	}
	f.writes(t, places, quick, "acme", "globex")
	says(t, f.sluice(t, "plan", "--no-data").mustBe(t, 0).out, "+ destination.out.view.contacts + destination.out.view.contacts_acme ")
	f.sluice(t, "run").mustBe(t, 0)
	is("after a run", "contacts", "acme", "globex")

	f.writes(t, places, quick+", union_view: everyone", "acme", "globex")
	says(t, f.sluice(t, "plan", "--no-data").mustBe(t, 0).out, "- destination.out.view.contacts ", "+ destination.out.view.everyone")
	f.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, 0)
	is("under another name", "everyone", "acme", "globex")
	f.sluice(t, "destroy", "nightly.acme", "--auto-approve").mustBe(t, 0)
	if got := bucketed(t, f, s, "everyone"); got != f.each(t, "here", "globex") {
		t.Errorf("with one destroyed it has %s", got)
	}
	f.sluice(t, "destroy", "--auto-approve").mustBe(t, 0)
	if left := s.Names(t, "lake"); len(left) > 0 {
		t.Errorf("in the bucket there is still %q", left)
	}
}
