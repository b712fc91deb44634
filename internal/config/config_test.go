package config

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluice-etl/sluice/internal/diag"
)

func none(string) (string, bool) { return "", false }

// env returns a lookup of the given variables, name after value.
func env(pairs ...string) func(string) (string, bool) {
	return func(name string) (string, bool) {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1], true
			}
		}
		return "", false
	}
}

// accept parses a file that has no faults.
func accept(t *testing.T, text string, lookup func(string) (string, bool)) *Config {
	t.Helper()
	c, list := Parse("pipelines.yaml", []byte(text), "/srv", lookup)
	if c == nil || list.HasErrors() {
		t.Fatalf("refused:\n%s", rendered(t, list))
	}
	return c
}

const minimal = `version: 1
sources:
  crm: {type: contacts_api, url: "sandbox://"}
destinations:
  lake: {type: parquet, path: out}
pipelines:
  nightly: {source: crm, destinations: lake}
`

func TestDefaultsAreFilledIn(t *testing.T) {
	c := accept(t, minimal, none)
	s, d, p := c.Sources[0], c.Destinations[0], c.Pipelines[0]
	if c.State.Backend != "file" || c.State.Path != "/srv/.sluice" {
		t.Errorf("state is %+v", c.State)
	}
	wantSource := Source{
		Name: "crm", Base: "crm", Type: "contacts_api", URL: "sandbox://", Scheme: "sandbox", PageSize: 1000, Concurrency: 4, RequestsPerSecond: 5,
		ConnectTimeout: 10 * time.Second, ResponseTimeout: time.Minute, RequestTimeout: 2 * time.Minute, RetryFor: 5 * time.Minute, CombineFilters: true,
	}
	if diff := cmp.Diff(wantSource, *s, cmpopts.IgnoreFields(Source{}, "Node", "APIKey")); diff != "" {
		t.Error(diff)
	}
	if s.APIKey.Reveal() != "sandbox" || !s.Sandbox() {
		t.Error("the sandbox's key is not the default")
	}
	if d.Path != "/srv/out" || d.Plain || d.Type != "parquet" {
		t.Errorf("destination is %+v", d)
	}
	if p.Source != s || p.Destinations[0] != d || p.Table != "contacts" || p.Sync != "incremental" || p.Verify != "full" ||
		p.Lookback != time.Hour || p.Timezone != time.UTC || p.Cron != nil || p.Filters != nil || p.Schema != "" || p.Days != 0 || p.Stages != nil || p.Pipelines != nil || p.Field != nil || p.Reconcile != nil {
		t.Errorf("pipeline is %+v", p)
	}
	if c.Source("crm") != s || c.Destination("lake") != d || c.Pipeline("nightly") != p || c.Source("x") != nil || c.Destination("x") != nil || c.Pipeline("x") != nil {
		t.Error("looking up by name fails")
	}
}

const full = `version: 1
state: {backend: file, path: /var/lib/sluice}
sources:
  crm:
    type: contacts_api
    url: HTTPS://API.Example.com:443/base/
    api_key_file: key.txt
    allow_insecure: true
    page_size: 500
    concurrency: 8
    requests_per_second: 2.5
    connect_timeout: 5s
    response_timeout: 1m30s
    request_timeout: 3m
    retry_for: 1d
    combine_filters: false
destinations:
  lake: {type: parquet, path: out/lake, compatibility: plain}
pipelines:
  nightly:
    source: crm
    table: people
    schema: key.txt
    sync: incremental
    lookback: 2h
    filters:
      {platform: [whatsapp, sms], chat_status: UNATTENDED, blocked: false, stage_id: [B1A7C0DE-0000-4000-8000-000000000002, b1a7c0de-0000-4000-8000-000000000001, b1a7c0de-0000-4000-8000-000000000002], pipeline_id: b1a7c0de-0000-4000-8000-00000000000a, custom_field_key: Lead Source, custom_field_value: "7", entity_type: ticket}
    verify: sample
    destinations: [lake]
    full_every: 2w
    schedule: "30 2 * * 1-5"
    timezone: America/Santiago
    reconcile: {schedule: "0 5 * * 0", max_share: 0.5%, max_probes: 250}
  active: {source: crm, table: active, destinations: lake, sync: recent, days: 45, reconcile: {}}
  stage: {source: crm, table: stage, destinations: lake, sync: snapshot, filters: {stage_id: b1a7c0de-0000-4000-8000-000000000001, custom_field_key: city, custom_field_value: Lima}}
`

func TestEveryKeyReachesTheModel(t *testing.T) {
	dir, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	c, list := Parse("p.yaml", []byte(full), dir, none)
	if c == nil || len(list) > 0 {
		t.Fatal(rendered(t, list))
	}
	want := Source{
		Name: "crm", Base: "crm", Type: "contacts_api", URL: "HTTPS://API.Example.com:443/base", Scheme: "https", Host: "api.example.com", AllowInsecure: true,
		PageSize: 500, Concurrency: 8, RequestsPerSecond: 2.5, ConnectTimeout: 5 * time.Second, ResponseTimeout: 90 * time.Second,
		RequestTimeout: 3 * time.Minute, RetryFor: 24 * time.Hour,
	}
	if diff := cmp.Diff(want, *c.Sources[0], cmpopts.IgnoreFields(Source{}, "Node", "APIKey")); diff != "" {
		t.Error(diff)
	}
	if got := c.Sources[0].APIKey.Reveal(); got != "file-key-4711" {
		t.Errorf("the key is %q", got)
	}
	if c.State.Path != "/var/lib/sluice" {
		t.Errorf("state is %+v", c.State)
	}
	if d := c.Destinations[0]; !d.Plain || d.Path != filepath.Join(dir, "out/lake") {
		t.Errorf("destination is %+v", d)
	}
	p := c.Pipelines[0]
	filters := map[string][]string{"platform": {"sms", "whatsapp"}, "chat_status": {"UNATTENDED"}, "blocked": {"false"}}
	if diff := cmp.Diff(filters, p.Filters); diff != "" {
		t.Error(diff)
	}
	if p.Table != "people" || p.Schema != filepath.Join(dir, "key.txt") || p.Lookback != 2*time.Hour || p.FullEvery != 14*24*time.Hour || p.Verify != "sample" {
		t.Errorf("pipeline is %+v", p)
	}
	// Friday 2026-04-03 to Monday: Chile leaves summer time that weekend.
	friday := time.Date(2026, 4, 3, 12, 0, 0, 0, time.UTC)
	if next := p.Cron.Next(friday); next.UTC().Format(time.RFC3339) != "2026-04-06T06:30:00Z" {
		t.Errorf("next run at %v", next)
	}
	if diff := cmp.Diff([]string{"b1a7c0de-0000-4000-8000-000000000001", "b1a7c0de-0000-4000-8000-000000000002"}, p.Stages); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]string{"b1a7c0de-0000-4000-8000-00000000000a"}, p.Pipelines); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(&Field{Key: "Lead Source", Value: "7", Entity: "ticket"}, p.Field); diff != "" {
		t.Error(diff)
	}
	if r := p.Reconcile; r.MaxShare != 0.005 || r.MaxProbes != 250 || r.Schedule != "0 5 * * 0" || r.Cron.Next(friday).UTC().Format(time.RFC3339) != "2026-04-05T09:00:00Z" {
		t.Errorf("reconcile is %+v", r)
	}
	if a := c.Pipelines[1]; a.Sync != "recent" || a.Days != 45 || a.Reconcile.MaxShare != 0.01 || a.Reconcile.MaxProbes != 1000 || a.Reconcile.Cron != nil {
		t.Errorf("pipeline active is %+v, %+v", a, a.Reconcile)
	}
	if s := c.Pipelines[2]; s.Sync != "snapshot" || len(s.Stages) != 1 || s.Field.Entity != "" || s.Reconcile != nil {
		t.Errorf("pipeline stage is %+v", s)
	}
	if at := p.Pos("verify"); at != (Pos{28, 13}) {
		t.Errorf("verify stands at %v", at)
	}
	if at := c.Destinations[0].Pos("dataset"); at != c.Destinations[0].At || at.Line != 18 {
		t.Errorf("a key left out stands at %v", at)
	}
}

func TestTheExampleRunsAsItStands(t *testing.T) {
	c, list := Load("../../pipelines.yaml", none)
	if c == nil || len(list) > 0 {
		t.Fatal(rendered(t, list))
	}
	if !c.Sources[0].Sandbox() || c.Sources[0].APIKey.Reveal() != "sandbox" || c.Pipelines[0].Timezone.String() != "America/Santiago" {
		t.Errorf("source is %+v", c.Sources[0])
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if c.State.Path != filepath.Join(root, ".sluice") || c.Destinations[0].Path != filepath.Join(root, "out") {
		t.Errorf("paths are %s and %s", c.State.Path, c.Destinations[0].Path)
	}
	// Both variables set: the real account.
	c, list = Load("../../pipelines.yaml", env("CONTACTS_API_URL", "https://api.example.com", "CONTACTS_API_KEY", "k-4711"))
	if c == nil || len(list) > 0 || c.Sources[0].Sandbox() || c.Sources[0].APIKey.Reveal() != "k-4711" {
		t.Errorf("the real account: %s", rendered(t, list))
	}
	// One alone is a mistake: a real key must not meet the sandbox.
	if c, list = Load("../../pipelines.yaml", env("CONTACTS_API_KEY", "k-4711")); c != nil || !strings.Contains(rendered(t, list), "sandbox") {
		t.Errorf("a real key was accepted for the sandbox: %s", rendered(t, list))
	}
}

func TestTheDesignsExampleIsAccepted(t *testing.T) {
	const text = `version: 1
state: {backend: file, path: .sluice}
sources:
  crm:
    type: contacts_api
    url: ${CONTACTS_API_URL:-sandbox://?contacts=10000&seed=1}
    api_key: ${CONTACTS_API_KEY:-sandbox}
    page_size: 1000
    concurrency: 4
    requests_per_second: 5
destinations:
  lake: {type: parquet, path: out}
  warehouse: {type: bigquery, project: my-project, dataset: crm, location: US, method: stream}
  local: {type: duckdb, path: out/contacts.duckdb}
pipelines:
  nightly:
    source: crm
    table: contacts
    sync: incremental
    lookback: 1h
    full_every: 7d
    filters: {}
    verify: full
    destinations: [lake]
    schedule: "0 3 * * *"
    timezone: America/Santiago
`
	accept(t, text, none)
}

func TestLineEndsAndByteOrderMarkDoNotMatter(t *testing.T) {
	want := accept(t, minimal, none).Hash()
	for name, text := range map[string]string{
		"CRLF":            strings.ReplaceAll(minimal, "\n", "\r\n"),
		"CR":              strings.ReplaceAll(minimal, "\n", "\r"),
		"BOM":             "\ufeff" + minimal,
		"no last newline": strings.TrimSpace(minimal),
		"a document mark": "---\n" + minimal,
		"a directive":     "%YAML 1.2\n---\n" + minimal,
		"an end mark":     minimal + "...\n",
		"tabs as space":   strings.ReplaceAll(minimal, "version: 1", "version:\t1\t# one"),
	} {
		t.Run(name, func(t *testing.T) {
			if got := accept(t, text, none).Hash(); got != want {
				t.Error("it means something else")
			}
		})
	}
	_, list := Parse("p.yaml", []byte("\ufeff"+strings.ReplaceAll(minimal, "\n", "\r\n")+"x: 1\r\n"), "/srv", none)
	if len(list) != 1 || list[0].Line != 8 || list[0].Col != 1 || list[0].Snippet != "x: 1" {
		t.Errorf("got %+v", list)
	}
}

func TestAnchorsAndMergeKeysWork(t *testing.T) {
	c := accept(t, `version: 1
sources:
  crm: &base
    type: contacts_api
    url: ${URL:-sandbox://}
    page_size: 10
  two: {<<: *base, page_size: 20}
  three:
    <<: [{concurrency: 7, page_size: 1}, *base]
    type: !!str contacts_api
  four: *base
destinations:
  lake: {type: parquet, path: &p out}
  also: {type: parquet, path: !!str 5}
  text: {type: parquet, path: "lake/$${x}/$y/$$"}
pipelines:
  nightly: &n {source: crm, destinations: &d [lake]}
  weekly: {<<: *n, table: weekly, destinations: *d}
`, none)
	var sizes []int
	for _, s := range c.Sources {
		sizes = append(sizes, s.PageSize)
	}
	if diff := cmp.Diff([]int{10, 20, 1, 10}, sizes); diff != "" || c.Source("three").Concurrency != 7 {
		t.Error(diff)
	}
	if got := c.Destination("also").Path; got != "/srv/5" {
		t.Errorf("a number tagged as text is %s", got)
	}
	if got := c.Destination("text").Path; got != "/srv/lake/${x}/$y/$$" {
		t.Errorf("dollar signs give %s", got)
	}
}

func TestVariablesFillValuesAndAreNeverReadAsYAML(t *testing.T) {
	text := strings.NewReplacer(`"sandbox://"`, "${URL}", "path: out", `path: "${DIR}/${SUB:-sub}"`, "destinations: lake}", "destinations: lake, lookback: \"${BACK}\", filters: {platform: \"${P}\"}}").Replace(minimal)
	text = strings.Replace(text, "{type: contacts_api, url: ${URL}}", "\n    type: contacts_api\n    url: ${URL}\n    page_size: ${SIZE}\n    requests_per_second: '${RATE}'\n    allow_insecure: ${YES}", 1)
	c := accept(t, text, env("URL", "sandbox://?contacts=5", "DIR", "a: b # c", "SUB", "", "BACK", "90m", "P", "[x, y]", "SIZE", "250", "RATE", "0.5", "YES", "true"))
	s := c.Sources[0]
	if s.URL != "sandbox://?contacts=5" || s.PageSize != 250 || s.RequestsPerSecond != 0.5 || !s.AllowInsecure {
		t.Errorf("source is %+v", s)
	}
	if c.Destinations[0].Path != "/srv/a: b # c/sub" {
		t.Errorf("path is %s", c.Destinations[0].Path)
	}
	if p := c.Pipelines[0]; p.Lookback != 90*time.Minute || !reflect.DeepEqual(p.Filters, map[string][]string{"platform": {"[x, y]"}}) {
		t.Errorf("pipeline is %+v", p)
	}
}

func TestWarningsComeBesideAConfig(t *testing.T) {
	text := strings.Replace(minimal, `url: "sandbox://"`, `url: "https://api.example.com", api_key: plain-4711`, 1)
	text = strings.Replace(text, "destinations: lake", "destinations: lake, lookback: 0s, filters: {platform: Whatsapp}", 1)
	c, list := Parse("p.yaml", []byte(text), "/srv", none)
	if c == nil || list.HasErrors() || len(list) != 3 {
		t.Fatalf("got %s", rendered(t, list))
	}
	noSecrets(t, rendered(t, list))
	// A later check quotes the line, without the key too.
	d := c.Diagnostic(c.Sources[0].Pos("url"), diag.Error, "unreachable", "look")
	noSecrets(t, rendered(t, diag.List{d}))
	if d.Line != 3 || d.Snippet == "" || d.File != "p.yaml" {
		t.Errorf("got %+v", d)
	}
}

func TestLoadSaysWhyAFileCannotBeRead(t *testing.T) {
	dir := t.TempDir()
	large := filepath.Join(dir, "large.yaml")
	if err := os.WriteFile(large, []byte(strings.Repeat("#", maxFile+1)), 0o600); err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		filepath.Join(dir, "absent.yaml"): "there is no such file",
		dir:                               "cannot be read",
		large:                             "more than 256 KiB",
	} {
		c, list := Load(path, none)
		if c != nil || len(list) != 1 || !strings.Contains(list[0].Summary, want) || list[0].File != path {
			t.Errorf("%s: got %s", path, rendered(t, list))
		}
	}
}

func TestRelativePathsStartAtTheFile(t *testing.T) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "conf"), 0o700); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "conf", "p.yaml")
	if err := os.WriteFile(file, []byte(strings.Replace(minimal, "path: out", "path: ../out", 1)), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Chdir(dir)
	c, list := Load("conf/p.yaml", nil)
	if c == nil {
		t.Fatal(rendered(t, list))
	}
	resolved, err := filepath.EvalSymlinks(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range []string{c.Dir, c.State.Path, c.Destinations[0].Path} {
		if !filepath.IsAbs(p) {
			t.Errorf("%s is not absolute", p)
		}
	}
	if got := c.Destinations[0].Path; got != filepath.Join(dir, "out") && got != filepath.Join(resolved, "out") {
		t.Errorf("path is %s", got)
	}
}

func TestTheHashFollowsWhatTheFileAsksForAndNothingElse(t *testing.T) {
	base := strings.Replace(minimal, `"sandbox://"`, `"https://a.example.com", api_key: "${K}"`, 1)
	key := env("K", "one-4711")
	want := accept(t, base, key).Hash()
	same := map[string]string{
		"comments":          "# hello\n" + base,
		"a default written": strings.Replace(base, "destinations: lake", "destinations: [lake], verify: full", 1),
	}
	for name, text := range same {
		if accept(t, text, key).Hash() != want {
			t.Errorf("%s changes the hash", name)
		}
	}
	if accept(t, base, env("K", "two-4711")).Hash() != want {
		t.Error("the key is in the hash")
	}
	if c, _ := Parse("other.yaml", []byte(base), "/elsewhere", key); c == nil || c.Hash() != want {
		t.Error("the directory is in the hash")
	}
	bucket := strings.NewReplacer("path: out", "path: gs://lake/out", "sources:", "state: {backend: gcs, path: gs://lake/state}\nsources:").Replace(base)
	for _, url := range []string{"gs://lake/out", "gs://lake/state"} {
		if accept(t, bucket, key).Hash() != accept(t, strings.Replace(bucket, url, url+"/", 1), key).Hash() {
			t.Error("a slash at the end of " + url + " is in the hash")
		}
	}
	for name, change := range map[string][2]string{
		"url": {"a.example", "b.example"}, "path": {"path: out", "path: o"}, "table": {"destinations: lake", "destinations: lake, table: x"},
		"lookback": {"destinations: lake", "destinations: lake, lookback: 2h"}, "filters": {"destinations: lake", "destinations: lake, filters: {blocked: true}"},
		"timezone": {"destinations: lake", "destinations: lake, timezone: Europe/Madrid"}, "name": {"nightly", "weekly"},
		"sync": {"destinations: lake", "destinations: lake, sync: snapshot"}, "combine_filters": {"K}\"", "K}\", combine_filters: false"},
		"stage_id":         {"destinations: lake", "destinations: lake, filters: {stage_id: b1a7c0de-0000-4000-8000-000000000001}"},
		"pipeline_id":      {"destinations: lake", "destinations: lake, filters: {pipeline_id: b1a7c0de-0000-4000-8000-000000000001}"},
		"custom_field_key": {"destinations: lake", "destinations: lake, filters: {custom_field_key: a, custom_field_value: b}"},
		"reconcile":        {"destinations: lake", "destinations: lake, reconcile: {max_probes: 10}"},
		"queue_limit":      {"path: out", "path: out, queue_limit: 1GiB"}, "queue_age": {"path: out", "path: out, queue_age: 1d"},
		"type": {"type: parquet", "type: duckdb"}, "memory_limit": {"type: parquet, path: out", "type: duckdb, path: out, memory_limit: 1GB"},
		"a bucket": {"path: out", "path: gs://lake/out"}, "state": {"sources:", "state: {backend: gcs, path: gs://lake/state}\nsources:"},
	} {
		if accept(t, strings.Replace(base, change[0], change[1], 1), key).Hash() == want {
			t.Errorf("%s is not in the hash", name)
		}
	}
}

func TestDaysAreInTheHash(t *testing.T) {
	recent := strings.Replace(minimal, "destinations: lake", "destinations: lake, sync: recent, days: 30", 1)
	if accept(t, recent, none).Hash() == accept(t, strings.Replace(recent, "days: 30", "days: 31", 1), none).Hash() {
		t.Error("days are not in the hash")
	}
}

func TestSharesArePercentages(t *testing.T) {
	for in, want := range map[string]float64{"1%": 0.01, "0.5%": 0.005, "100%": 1, "0.0001%": 0.000001, ".5%": 0.005} {
		if got, err := ParseShare(in); err != nil || got != want {
			t.Errorf("%s is %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "1", "0.01", "%", "0%", "-1%", "101%", "1 %", "1%%", "NaN%", "Inf%", "1e1%", "0x1%", "0.00001%", "1..0%"} {
		if got, err := ParseShare(in); err == nil {
			t.Errorf("%q is %v", in, got)
		}
	}
}

func TestASecretIsNeverPrinted(t *testing.T) {
	s := NewSecret("key-4711")
	holder := struct {
		Key    Secret
		hidden Secret
		List   []Secret
	}{s, s, []Secret{s}}
	var out strings.Builder
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%X", "%d", "%t", "%p", "%5.2v"} {
		fmt.Fprintf(&out, verb+verb+verb, s, &s, holder)
	}
	j, err := json.Marshal(holder)
	if err != nil {
		t.Fatal(err)
	}
	out.Write(j)
	slog.New(slog.NewTextHandler(&out, nil)).Info("x", "key", s, "holder", holder)
	slog.New(slog.NewJSONHandler(&out, nil)).Info("x", "key", s, "holder", holder)
	y, err := s.MarshalYAML()
	if err != nil {
		t.Fatal(err)
	}
	fmt.Fprint(&out, y, s.String(), s.GoString())
	noSecrets(t, out.String())
	if strings.Contains(out.String(), fmt.Sprintf("%x", "4711")) || !strings.Contains(out.String(), redacted) {
		t.Errorf("got %s", out.String())
	}
	if s.Reveal() != "key-4711" || s.IsZero() || !(Secret{}).IsZero() {
		t.Error("the key itself is lost")
	}
}

func TestALineTooLongToLookThroughIsNotShown(t *testing.T) {
	long := "  x: {api_key: short-4711, pad: " + strings.Repeat("p", maxMasked) + "}"
	_, list := Parse("p.yaml", []byte("version: 1\n"+long+"\n    more-4711\n"), "/srv", none)
	if !list.HasErrors() {
		t.Error("the file was accepted")
	}
	noSecrets(t, rendered(t, list))
	for _, line := range maskLines([]string{long, "    more-4711", "y: 1"}, nil) {
		noSecrets(t, line)
	}
}

func TestDurationsTakeDaysAndWeeks(t *testing.T) {
	for in, want := range map[string]time.Duration{
		"90s": 90 * time.Second, "1h30m": 90 * time.Minute, "7d": 168 * time.Hour, "1w2d": 216 * time.Hour, "1.5h": 90 * time.Minute,
		"0": 0, "0s": 0, "250ms": 250 * time.Millisecond, "1d1h1m1s": 25*time.Hour + 61*time.Second, "3us": 3000, "5ns": 5, "1µs": 1000, ".5s": 500 * time.Millisecond,
	} {
		if got, err := ParseDuration(in); err != nil || got != want {
			t.Errorf("%s is %v, %v", in, got, err)
		}
	}
	for _, in := range []string{"", "1", "h", "-1h", "+1h", "1 h", "1y", "1hh", "1.2.3h", "..s", "1e3s", "99999999999w", "1h ", "∞"} {
		if got, err := ParseDuration(in); err == nil {
			t.Errorf("%q is %v", in, got)
		}
	}
}
