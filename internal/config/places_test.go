package config

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

const everywhere = `version: 1
state: {backend: gcs, path: gs://lake/state/, work_dir: /var/cache/sluice}
sources:
  crm: {type: contacts_api, url: "https://api.example.com", api_key: "${K}"}
  box: {type: contacts_api, url: "sandbox://"}
destinations:
  lake: {type: parquet, path: gs://lake, compatibility: plain, queue_limit: 1.5GiB, queue_age: 2w}
  local: {type: duckdb, path: out/crm.duckdb, memory_limit: 2GB}
  files: {type: parquet, path: out}
pipelines:
  nightly: {source: crm, destinations: [lake, local, files]}
  leads: {source: crm, destinations: [lake, local, files], table: leads}
  try: {source: box, destinations: [local, files], table: try, stages: off}
`

func TestDestinationsAreFilesDatabasesAndBuckets(t *testing.T) {
	c := accept(t, everywhere, env("K", "key-4711"))
	if s := c.State; s.Backend != "gcs" || s.URL != "gs://lake/state" || s.Path != "/var/cache/sluice" {
		t.Errorf("state is %+v", s)
	}
	const days = 24 * time.Hour
	want := []*Destination{
		{Name: "lake", Type: Parquet, URL: "gs://lake", Plain: true, QueueLimit: 3 << 29, QueueAge: 14 * days, PreventDestroy: true},
		{Name: "local", Type: DuckDB, Path: "/srv/out/crm.duckdb", MemoryLimit: 2_000_000_000, QueueLimit: 10 << 30, QueueAge: 30 * days, PreventDestroy: true},
		{Name: "files", Type: Parquet, Path: "/srv/out", QueueLimit: 10 << 30, QueueAge: 30 * days, PreventDestroy: true},
	}
	if diff := cmp.Diff(want, c.Destinations, cmpopts.IgnoreFields(Destination{}, "Node"), cmpopts.IgnoreUnexported(Destination{})); diff != "" {
		t.Error(diff)
	}
	for i, place := range []string{"gs://lake/leads", "/srv/out/crm.duckdb", "/srv/out/leads"} {
		if d := c.Destinations[i]; d.Place("leads") != place || d.Local() != (i > 0) {
			t.Errorf("%s is at %s, local: %t", d.Name, d.Place("leads"), d.Local())
		}
	}
	c = accept(t, strings.Replace(everywhere, ", work_dir: /var/cache/sluice", "", 1), env("K", "key-4711"))
	if c.State.Path != "/srv/.sluice" {
		t.Errorf("without work_dir, state works in %s", c.State.Path)
	}
}

func TestSizesAreExact(t *testing.T) {
	for in, want := range map[string]int64{
		"0B": 0, "1B": 1, "512MB": 512_000_000, "512MiB": 512 << 20, "10GiB": 10 << 30, "1KB": 1000, "1KiB": 1024, "1TB": 1e12, "1TiB": 1 << 40,
		"1.5GiB": 3 << 29, "0.1KB": 100, ".5KiB": 512, "9223372036854775807B": 9223372036854775807, "0.001KB": 1,
	} {
		if got, err := ParseSize(in); err != nil || got != want {
			t.Errorf("%s is %d, %v", in, got, err)
		}
	}
	for _, in := range []string{
		"", "B", "1", "MB", "-1MB", "+1MB", "1 MB", "1mb", "1Mb", "1M", "1Mi", "1iB", "1BB", "1KKB", "1MiBB", "1KMB", "1PB", "1e3MB", "1_0MB", "1/2MB",
		"0.1B", "0.0001KB", "0.1KiB", "9223372036854775808B", "8388608TiB", "1..0MB", "∞B", "80%", "0x1MB",
	} {
		if got, err := ParseSize(in); err == nil {
			t.Errorf("%q is %d", in, got)
		}
	}
}

// The names that a second table of a database file cannot have are those that
// load/views gives.
func TestTheNamesOfViewsAreKnown(t *testing.T) {
	reg, err := schemas.NewRegistry(schemas.Default(), nil)
	if err != nil {
		t.Fatal(err)
	}
	var own, others []string
	for _, v := range views.List(views.Options{Columns: reg.Table(), Runs: "SELECT 1"}) {
		if suffix, ok := strings.CutPrefix(v.Bare, "contacts"); ok {
			if suffix != "" {
				own = append(own, suffix)
			}
		} else {
			others = append(others, v.Bare)
		}
	}
	less := cmpopts.SortSlices(func(a, b string) bool { return a < b })
	if diff := cmp.Diff(own, ownViews(), less) + cmp.Diff(others, reports(), less); diff != "" {
		t.Error(diff)
	}
}

func TestASandboxStaysOnThisMachineWhereverStateIs(t *testing.T) {
	text := strings.Replace(everywhere, "try: {source: box, destinations: [local", "try: {source: box, destinations: [lake", 1)
	_, list := Parse("p.yaml", []byte(text), "/srv", env("K", "key-4711"))
	if len(list) != 1 || !strings.Contains(list[0].Summary, "would write the sandbox's contacts to lake") {
		t.Errorf("got %s", fmt.Sprint(list))
	}
}
