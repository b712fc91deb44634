package config

import (
	"fmt"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const manyAccounts = `version: 1
sources:
  crm:
    type: contacts_api
    url: https://${each.value.region}.example.com
    api_key: ${each.value.key}
    page_size: ${each.value.page_size:-500}
    for_each: &accounts
      acme: {region: south, key: "${ACME_KEY}", page_size: 100}
      globex-eu: {region: north, key: "${GLOBEX_KEY}"}
destinations:
  lake: {type: parquet, path: out}
  local: {type: duckdb, path: out/crm.duckdb}
pipelines:
  nightly:
    source: crm
    destinations: [lake, local]
    for_each: *accounts
  weekly: {source: 'crm["acme"]', destinations: lake, table: weekly, sync: snapshot}
`

func accountKeys() func(string) (string, bool) {
	return env("ACME_KEY", "acme-4711", "GLOBEX_KEY", "globex-4711")
}

func names[T any](list []T, name func(T) string) string {
	var out []string
	for _, v := range list {
		out = append(out, name(v))
	}
	return strings.Join(out, " ")
}

func TestForEachMakesOneSourceAndOnePipelineForEachAccount(t *testing.T) {
	c := accept(t, manyAccounts, accountKeys())
	if got := names(c.Sources, func(s *Source) string {
		return s.Name + "=" + s.Base + "/" + s.Account + "@" + s.Host + ":" + s.APIKey.Reveal()
	}); got != `crm["acme"]=crm/acme@south.example.com:acme-4711 crm["globex-eu"]=crm/globex-eu@north.example.com:globex-4711` {
		t.Error(got)
	}
	if a, g := c.Sources[0].PageSize, c.Sources[1].PageSize; a != 100 || g != 500 {
		t.Errorf("page sizes are %d and %d", a, g)
	}
	if got := names(c.Pipelines, func(p *Pipeline) string {
		return p.Name + ":" + p.Source.Name + ">" + p.Table + "," + p.StagesTable + "," + p.UnionView
	}); got != `nightly["acme"]:crm["acme"]>contacts_acme,contacts_acme_stages,contacts nightly["globex-eu"]:crm["globex-eu"]>contacts_globex_eu,contacts_globex_eu_stages,contacts weekly:crm["acme"]>weekly,weekly_stages,` {
		t.Error(got)
	}
	if p := c.Pipelines[2]; p.Base != "weekly" || p.Account != "" {
		t.Errorf("a pipeline without for_each is %+v", p)
	}
}

func TestTheViewOverAllAccountsHasANameThatIsFree(t *testing.T) {
	head, _, _ := strings.Cut(manyAccounts, "pipelines:\n")
	const nightly = "  nightly: {source: crm, destinations: lake, for_each: *accounts"
	for pipelines, want := range map[string]string{
		nightly + "}": "contacts",
		nightly + `, table: "people_${each.key}"}`:                                                                            "people",
		nightly + `, table: "p_${each.value.region}_${each.key}_x"}`:                                                          "p_x",
		nightly + `, table: "${each.value.region}"}`:                                                                          "nightly_all",
		nightly + `, union_view: everyone}`:                                                                                   "everyone",
		nightly + `, union_view: off}`:                                                                                        "",
		nightly + "}\n  one: {source: 'crm[\"acme\"]', destinations: local}":                                                  "nightly_all",
		nightly + "}\n  one: {source: 'crm[\"acme\"]', destinations: lake, stages: contacts, table: o}":                       "nightly_all",
		"  first: {source: crm, destinations: lake, for_each: *accounts, table: \"${each.key}_contacts\"}\n" + nightly + "}":  "nightly_all",
		"  first: {source: crm, destinations: local, for_each: *accounts, table: \"${each.key}_contacts\"}\n" + nightly + "}": "contacts",
	} {
		c := accept(t, head+"pipelines:\n"+pipelines+"\n", accountKeys())
		p, err := c.Select([]string{"nightly"})
		if err != nil || len(p) != 2 || p[0].UnionView != want || p[1].UnionView != want {
			t.Errorf("%s\nthe view is %q, want %q (%v)", pipelines, p[0].UnionView, want, err)
		}
	}
}

func TestSecretsOfAccountsStayOutOfMessages(t *testing.T) {
	text := strings.Replace(manyAccounts, `key: "${GLOBEX_KEY}"`, "key: literal-4711", 1)
	c, list := Parse("p.yaml", []byte(text), "/srv", accountKeys())
	if c == nil || len(list) != 1 || !strings.Contains(list[0].Summary, "plain text") || list[0].Line != 10 {
		t.Fatalf("got\n%s", rendered(t, list))
	}
	noSecrets(t, rendered(t, list))
	// The same text elsewhere in a faulty file is hidden too.
	text = strings.Replace(text, "region: north", "region: literal-4711 x", 1)
	_, list = Parse("p.yaml", []byte(text), "/srv", accountKeys())
	if !list.HasErrors() {
		t.Error("a host with a space was accepted")
	}
	noSecrets(t, rendered(t, list))
}

func TestAFaultOfAnAccountsValueNamesTheAccount(t *testing.T) {
	text := strings.Replace(manyAccounts, "page_size: 100", "page_size: 5000", 1)
	_, list := Parse("p.yaml", []byte(text), "/srv", accountKeys())
	if len(list) != 1 || !strings.Contains(list[0].Summary, "of account acme") || list[0].Line != 7 {
		t.Errorf("got\n%s", rendered(t, list))
	}
}

func TestAnAccountsVariableMayBeUnsetWhereNoSourceIsAsked(t *testing.T) {
	if _, list := Parse("p.yaml", []byte(manyAccounts), "/srv", none); len(list) != 2 {
		t.Errorf("got\n%s", rendered(t, list))
	}
	c, list := Parse("p.yaml", []byte(manyAccounts), "/srv", none, Offline())
	if c == nil || len(list) > 0 || c.Sources[0].Host != "south.example.com" {
		t.Errorf("got\n%s", rendered(t, list))
	}
}

func TestPipelinesAreChosenByNameAndAccount(t *testing.T) {
	c := accept(t, manyAccounts, accountKeys())
	for given, want := range map[string]string{
		"":                               `nightly["acme"] nightly["globex-eu"] weekly`,
		"nightly":                        `nightly["acme"] nightly["globex-eu"]`,
		`nightly["globex-eu"]`:           `nightly["globex-eu"]`,
		"nightly.acme":                   `nightly["acme"]`,
		"nightly[acme]":                  `nightly["acme"]`,
		"weekly nightly.acme":            `weekly nightly["acme"]`,
		`nightly.globex-eu nightly.acme`: `nightly["globex-eu"] nightly["acme"]`,
	} {
		list, err := c.Select(strings.Fields(given))
		if got := names(list, func(p *Pipeline) string { return p.Name }); err != nil || got != want {
			t.Errorf("%q chooses %s, %v", given, got, err)
		}
	}
	for given, want := range map[string][2]string{
		"nightyl":                {`no pipeline is called "nightyl"`, `did you mean "nightly"`},
		"nightly.acne":           {`no pipeline is called "nightly.acne"`, `did you mean "nightly.acme"`},
		"weekly.acme":            {`no pipeline is called "weekly.acme"`, "nightly.acme, nightly.globex-eu, weekly"},
		"nightly.":               {`no pipeline is called "nightly."`, "nightly"},
		"weekly weekly":          {`pipeline "weekly" is named twice`, "once"},
		"nightly nightly.acme":   {`pipeline nightly["acme"] is named twice`, "once"},
		"nightly.acme nightly.x": {`no pipeline is called "nightly.x"`, "nightly"},
	} {
		_, err := c.Select(strings.Fields(given))
		e, ok := err.(*SelectError) //nolint:errorlint // it is what Select promises
		if !ok || !strings.Contains(e.Error(), want[0]) || !strings.Contains(e.Hint(), want[1]) {
			t.Errorf("%q: %v, %q", given, err, e.Hint())
		}
	}
	if p, err := c.SelectOne("nightly.acme"); err != nil || p != c.Pipelines[0] {
		t.Errorf("got %v, %v", p, err)
	}
	_, err := c.SelectOne("nightly")
	if e, ok := err.(*SelectError); !ok || !strings.Contains(e.Hint(), "nightly.acme, nightly.globex-eu") { //nolint:errorlint // as above
		t.Errorf("got %v", err)
	}
}

func TestOneFileHasAtMostSoManyAccounts(t *testing.T) {
	for n, fits := range map[int]bool{maxInstances: true, maxInstances + 1: false} {
		var b strings.Builder
		b.WriteString("version: 1\nsources:\n  crm:\n    type: contacts_api\n    url: sandbox://\n    for_each:\n")
		for i := range n {
			fmt.Fprintf(&b, "      a%d:\n", i)
		}
		b.WriteString("destinations: {lake: {type: parquet, path: out}}\npipelines: {n: {source: 'crm[\"a0\"]', destinations: lake}}\n")
		c, list := Parse("p.yaml", []byte(b.String()), "/srv", none)
		if (c != nil) != fits || !fits && !strings.Contains(rendered(t, list), "more than 2000") {
			t.Errorf("%d accounts: %s", n, rendered(t, list))
		}
	}
}

func TestDefaultsHoldWhereAThingLeavesTheKeyOut(t *testing.T) {
	key, err := filepath.Abs("testdata/key.txt")
	if err != nil {
		t.Fatal(err)
	}
	c := accept(t, strings.Replace(`version: 1
defaults:
  sources: {type: contacts_api, api_key: "${K}", page_size: 100, retry_for: 1m}
  destinations: {type: duckdb, memory_limit: 1GB, queue_age: 2d}
  pipelines:
    source: crm
    destinations: [lake]
    table: t_${each.key}
    full_every: 7d
    days: 30
    filters: {platform: whatsapp, blocked: false}
    reconcile: {max_probes: 5}
    schedule: "@daily"
sources:
  crm: {url: "https://a.example.com", page_size: 200}
  file: {url: "https://b.example.com", api_key_file: KEYFILE}
destinations:
  lake: {type: parquet, path: out}
  local: {path: c.duckdb, queue_age: 1d}
pipelines:
  all:
    for_each: {a: , b: }
  recent: {sync: recent, table: recent, filters: {platform: sms}}
  stage: {sync: snapshot, table: stage, schedule: null, filters: {}, source: file}
`, "KEYFILE", key, 1), env("K", "key-4711"))
	if s := c.Sources[0]; s.PageSize != 200 || s.RetryFor.String() != "1m0s" || s.APIKey.Reveal() != "key-4711" || s.Type != "contacts_api" {
		t.Errorf("source is %+v", s)
	}
	if l, d := c.Destinations[0], c.Destinations[1]; l.MemoryLimit != 0 || l.QueueAge.Hours() != 48 || d.Type != DuckDB || d.MemoryLimit != 1_000_000_000 || d.QueueAge.Hours() != 24 {
		t.Errorf("destinations are %+v and %+v", l, d)
	}
	type got struct {
		Name, Table, Sync, Schedule string
		Full, Days                  int
		Filters                     map[string][]string
		Reconciles                  bool
	}
	var list []got
	for _, p := range c.Pipelines {
		list = append(list, got{p.Name, p.Table, p.Sync, p.Schedule, int(p.FullEvery.Hours()), p.Days, p.Filters, p.Reconcile != nil})
	}
	both := map[string][]string{"platform": {"whatsapp"}, "blocked": {"false"}}
	if diff := cmp.Diff([]got{
		{`all["a"]`, "t_a", "incremental", "@daily", 168, 0, both, true},
		{`all["b"]`, "t_b", "incremental", "@daily", 168, 0, both, true},
		{"recent", "recent", "recent", "@daily", 0, 30, map[string][]string{"platform": {"sms"}}, true},
		{"stage", "stage", "snapshot", "", 0, 0, nil, false},
	}, list); diff != "" {
		t.Error(diff)
	}
	if at := c.Pipelines[0].Pos("full_every"); at.Line != 9 {
		t.Errorf("a default stands at line %d", at.Line)
	}
}
