package cli

import (
	"bytes"
	"encoding/json"
	"log/slog"
	"net/url"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

const wired = `version: 1
state: {path: .sluice}
sources:
  crm: {type: contacts_api, url: "sandbox://?contacts=40&seed=1", page_size: 50}
  old: {type: contacts_api, url: "sandbox://?contacts=40&seed=1", combine_filters: false}
destinations:
  lake: {type: parquet, path: out}
pipelines:
  nightly:
    source: crm
    destinations: [lake]
    lookback: 2h
    full_every: 7d
    verify: sample
    quarantine: {store: raw, max_share: 5%, max_records: 7}
    filters:
      platform: [whatsapp]
      stage_id: [b1a7c0de-0000-4000-8000-000000000002, b1a7c0de-0000-4000-8000-000000000001]
      pipeline_id: b1a7c0de-0000-4000-8000-00000000000a
      custom_field_key: city
      custom_field_value: Lima
      entity_type: ticket
  active: {source: old, table: active, destinations: [lake], sync: recent, days: 45, enrich: info, stages: off}
  stage:
    source: crm
    table: stage
    destinations: [lake]
    sync: snapshot
    filters: {pipeline_id: b1a7c0de-0000-4000-8000-00000000000a, custom_field_key: city, custom_field_value: Lima}
`

// wiring loads a pipelines file as commands do.
func wiring(t *testing.T, w *world) (*app, *config.Config, *sources) {
	t.Helper()
	var errs bytes.Buffer
	a := &app{
		Program: Program{Streams: Streams{Out: &errs, Err: &errs}, Env: func(string) (string, bool) { return "", false }, Clock: w.clock},
		file:    w.file(), secrets: &redactor{w: &errs}, log: slog.New(slog.NewTextHandler(&errs, nil)),
	}
	a.err = &screen{w: &errs}
	cfg, err := a.load()
	if err != nil {
		t.Fatal(err)
	}
	s := a.newSources()
	t.Cleanup(func() {
		if err := s.close(); err != nil {
			t.Error(err)
		}
	})
	return a, cfg, s
}

func TestEverySettingOfAPipelineReachesItsJob(t *testing.T) {
	t.Parallel()
	a, cfg, s := wiring(t, newWorld(t, wired))
	few, usual := 7, run.Quarantine{Store: run.StoreAuto, MaxShare: 0.1}
	want := map[string]run.Job{
		"nightly": {
			Quarantine: run.Quarantine{Store: run.StoreRaw, MaxShare: 0.05, MaxRecords: &few},
			Lookback:   2 * 3600e9, FullEvery: 7 * 24 * 3600e9, PageSize: 50, Verify: load.VerifySample, Sync: run.SyncIncremental,
			Filters:    map[string][]string{"platform": {"whatsapp"}},
			Stages:     []string{"b1a7c0de-0000-4000-8000-000000000001", "b1a7c0de-0000-4000-8000-000000000002"},
			Pipelines:  []string{"b1a7c0de-0000-4000-8000-00000000000a"},
			Field:      &transform.FieldFilter{Key: "city", Value: "Lima", Entity: "ticket"},
			KeepStages: true,
		},
		"active": {Quarantine: usual, Lookback: 3600e9, Enrich: true, PageSize: 1000, Verify: load.VerifyFull, Sync: run.SyncRecent, Days: 45, DaysAlone: true},
		"stage": {
			Quarantine: usual, Lookback: 3600e9, PageSize: 50, Verify: load.VerifyFull, Sync: run.SyncSnapshot,
			Pipelines: []string{"b1a7c0de-0000-4000-8000-00000000000a"}, Field: &transform.FieldFilter{Key: "city", Value: "Lima"},
			KeepStages: true,
		},
	}
	for _, p := range cfg.Pipelines {
		job, closeLoaders, err := a.job(t.Context(), cfg, p, s)
		if err != nil {
			t.Fatal(err)
		}
		if err := closeLoaders(); err != nil {
			t.Error(err)
		}
		expected := want[p.Name]
		expected.Pipeline, expected.Contract, expected.Identity, expected.FullSlack = p.Name, schemas.Default(), job.Identity, fullSlack
		if diff := cmp.Diff(expected, job, cmpopts.IgnoreFields(run.Job{}, "Source", "Destinations", "Contract")); diff != "" {
			t.Errorf("%s (-want +got):\n%s", p.Name, diff)
		}
	}
}

func TestPreviewAsksForWhatThePipelineHasTheSourceFilter(t *testing.T) {
	t.Parallel()
	_, cfg, _ := wiring(t, newWorld(t, wired))
	for name, want := range map[string]url.Values{
		"nightly": nil, // on our side
		"active":  nil,
		"stage":   {"pipeline_id": {"b1a7c0de-0000-4000-8000-00000000000a"}, "custom_field_key": {"city"}, "custom_field_value": {"Lima"}},
	} {
		p := cfg.Pipeline(name)
		q := sampleQuery(p)
		if diff := cmp.Diff(want, q.Extra); diff != "" || q.Days != p.Days || q.UpdatedAfter == nil != (name == "active") {
			t.Errorf("%s: asks for %+v (-want +got):\n%s", name, q, diff)
		}
	}
}

func TestAScheduleOfReconciliationsIsAnEntryOfItsOwn(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.NewReplacer(
		"lookback: 2h", `schedule: "0 3 * * *"
    timezone: America/Santiago
    reconcile: {schedule: "0 5 * * 0", max_share: 2%, max_probes: 7}`,
		"days: 45", `days: 45, reconcile: {schedule: "@every 1d"}`,
	).Replace(wired))
	a, cfg, _ := wiring(t, w)
	store, err := a.store(cfg)
	if err != nil {
		t.Fatal(err)
	}
	d := a.newDaemon(cfg, store)
	defer func() {
		if err := d.close(); err != nil {
			t.Error(err)
		}
	}()
	entries, err := d.entries(t.Context(), false)
	if err != nil {
		t.Fatal(err)
	}
	var got [][]string
	timed := 0
	for _, e := range entries {
		got = append(got, []string{e.Name, e.Kind, e.Spec, e.Location.String()})
		if (e.Times != nil) != (e.Spec != "") {
			t.Errorf("%s has times %v", e.Name, e.Times)
		}
		if e.Spec != "" {
			timed++
		}
	}
	if len(d.closers) != timed { // loaders commit from one goroutine at a time
		t.Errorf("%d jobs for %d entries", len(d.closers), timed)
	}
	want := [][]string{
		{"nightly", "", "0 3 * * *", "America/Santiago"},
		{"nightly", "reconcile", "0 5 * * 0", "America/Santiago"},
		{"active", "", "", "UTC"}, // for who asks
		{"active", "reconcile", "@every 1d", "UTC"},
		{"stage", "", "", "UTC"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if got := reconciliation(cfg.Pipeline("nightly")); got != (run.Reconciliation{MaxShare: 0.02, MaxProbes: 7}) {
		t.Errorf("the reconciliation is %+v", got)
	}
}

func TestWhatIsGoneIsCountedForRunsThatLookedForIt(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ record, want string }{
		{`{"mode":"snapshot","deleted":1200,"coverage":{"marked":1300}}`, "1,200"},
		{`{"mode":"recent","deleted":0,"coverage":{"marked":7}}`, "0"},
		{`{"mode":"reconcile","deleted":3}`, "3"},
		{`{"mode":"full","deleted":0}`, ""},
		{`{"mode":"incremental","deleted":2}`, "2"},                 // a contact that left the filters
		{`{"mode":"snapshot","coverage":{"marked":1200}}`, "1,200"}, // of before
		{`{"mode":"recent","coverage":{"marked":0}}`, "0"},
		{`{"mode":"full","coverage":{"marked":0}}`, ""},
		{`{"mode":"snapshot","coverage":7}`, ""},
		{`{"mode":"snapshot"}`, ""},
	} {
		var record state.RunRecord
		if err := json.Unmarshal([]byte(c.record), &record); err != nil {
			t.Fatal(err)
		}
		if got := gone(record); got != c.want {
			t.Errorf("%s: got %q, want %q", c.record, got, c.want)
		}
	}
}
