package config

import (
	"slices"
	"strings"
	"testing"
	"time"
)

const noticed = `version: 1
sources: {crm: {type: contacts_api, url: "sandbox://"}}
destinations: {lake: {type: parquet, path: out}}
pipelines:
  nightly: {source: crm, destinations: lake, freshness: 26h, heartbeat: "${BEAT:-}"}
  hourly: {source: crm, destinations: lake, table: hourly}
notify:
  ops: {type: slack, url: "${SLACK_URL}", on: [stale, failure], pipelines: [hourly]}
  all: {type: webhook, url: "http://localhost:9000/hook"}
`

func TestNoticesTakeAllPipelinesAndTroublesUnlessTheFileNamesSome(t *testing.T) {
	c := accept(t, noticed, env("SLACK_URL", "https://hooks.slack.com/services/T0/B0/xyzzy", "BEAT", "https://hc-ping.com/uuid-here"))
	ops, all := c.Notify[0], c.Notify[1]
	if ops.URL.Reveal() != "https://hooks.slack.com/services/T0/B0/xyzzy" || !slices.Equal(ops.On, []string{OnFailure, OnStale}) || !slices.Equal(ops.Pipelines, []string{"hourly"}) {
		t.Errorf("ops: %+v", ops)
	}
	if !slices.Equal(all.On, Troubles()) || !slices.Equal(all.Pipelines, []string{"nightly", "hourly"}) {
		t.Errorf("all: %+v", all)
	}
	p := c.Pipeline("nightly")
	if p.Freshness != 26*time.Hour || p.Heartbeat.Reveal() != "https://hc-ping.com/uuid-here" {
		t.Errorf("nightly: freshness %s, heartbeat %q", p.Freshness, p.Heartbeat.Reveal())
	}
}

func TestAnEmptyURLOfANoticeOrHeartbeatMeansNone(t *testing.T) {
	c := accept(t, strings.Replace(noticed, "${SLACK_URL}", "${SLACK_URL:-}", 1), none)
	if !c.Notify[0].URL.IsZero() || !c.Pipeline("nightly").Heartbeat.IsZero() {
		t.Error("something is told")
	}
}

func TestURLsThatAreKeysAreInNoMessage(t *testing.T) {
	const planted = "T0PLANTED"
	for _, bad := range []string{
		"http://hooks.example.com/" + planted, "ftp://" + planted, planted, "https://user:" + planted + "@host/x", "https://host/" + planted + "#x", "https://ho st/" + planted, ":" + planted,
	} {
		for _, text := range []string{
			strings.Replace(noticed, "http://localhost:9000/hook", bad, 1),
			strings.Replace(noticed, "${BEAT:-}", bad, 1),
			strings.Replace(noticed, "http://localhost:9000/hook", bad, 1) + "  x: [\n", // no YAML
			strings.Replace(noticed, "${SLACK_URL}", "${X}", 1),
		} {
			_, list := Parse("p.yaml", []byte(text), "/srv", env("SLACK_URL", "https://h/x", "BEAT", "https://h/y", "X", bad))
			if !list.HasErrors() {
				t.Errorf("%s was accepted", bad)
			}
			if got := rendered(t, list); strings.Contains(got, planted) {
				t.Errorf("%s: the message has it:\n%s", bad, got)
			}
		}
	}
}

func TestNoticesNameKnownPipelinesAndTroubles(t *testing.T) {
	text := strings.NewReplacer("on: [stale, failure]", "on: [stale, failures]", "pipelines: [hourly]", "pipelines: [hourly, nihgtly]").Replace(noticed)
	_, list := Parse("p.yaml", []byte(text), "/srv", env("SLACK_URL", "https://h/x"))
	got := rendered(t, list)
	for _, want := range []string{`p.yaml:8:55: error: on: nothing is called "failures"`, `did you mean "failure"?`, `there is no pipeline "nihgtly"`, `did you mean "nightly"?`} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is not in:\n%s", want, got)
		}
	}
}

func TestCommandsThatTellNobodyNeedNoAddressOfANotice(t *testing.T) {
	c, list := Parse("p.yaml", []byte(noticed), "/srv", none, Offline())
	if c == nil || !c.Notify[0].URL.IsZero() {
		t.Errorf("refused: %s", rendered(t, list))
	}
}
