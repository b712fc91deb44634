package config

import (
	"strings"
	"testing"
)

const needsAccount = `version: 1
sources:
  crm:
    type: contacts_api
    url: ${URL}
    api_key: ${KEY}
    page_size: ${SIZE}
destinations:
  lake: {type: parquet, path: out}
pipelines:
  nightly: {source: crm, destinations: lake}
`

func TestOfflineASourceMayLackItsVariables(t *testing.T) {
	_, list := Parse("pipelines.yaml", []byte(needsAccount), "/srv", none)
	if got := rendered(t, list); strings.Count(got, "is not set") != 3 {
		t.Errorf("with a source to be asked, three variables are missing, and the file is judged so:\n%s", got)
	}
	for name, lookup := range map[string]func(string) (string, bool){
		"none":      none,
		"a url":     env("URL", "https://api.example.com"),
		"a sandbox": env("URL", "sandbox://"),
		"a key":     env("KEY", "a-real-key-0001"),
	} {
		c, list := Parse("pipelines.yaml", []byte(needsAccount), "/srv", lookup, Offline())
		if c == nil || len(list) > 0 {
			t.Errorf("%s: refused:\n%s", name, rendered(t, list))
			continue
		}
		if p := c.Pipelines[0]; p.Source != c.Sources[0] || p.Destinations[0].Path != "/srv/out" {
			t.Errorf("%s: the pipeline is %+v", name, p)
		}
	}
	insecure := strings.Replace(needsAccount, "page_size", "allow_insecure", 1)
	if c, list := Parse("pipelines.yaml", []byte(insecure), "/srv", env("URL", "http://api.example.com"), Offline()); c == nil {
		t.Errorf("a url is judged by a setting that is not known:\n%s", rendered(t, list))
	}
}

func TestOfflineEverythingElseIsJudgedAsEver(t *testing.T) {
	for name, tc := range map[string]struct{ old, new, want string }{
		"a variable elsewhere":       {"path: out", "path: '${OUT}'", "variable OUT is not set"},
		"a url that is there":        {"${URL}", "http://api.example.com", "unencrypted"},
		"a key that is there":        {"${KEY}", `"a key"`, "characters that no key has"},
		"a key that is left out":     {"url: ${URL}\n    api_key: ${KEY}", "url: https://api.example.com", "api_key is missing"},
		"a url that is left out":     {"    url: ${URL}\n", "", "url is missing"},
		"a variable without a name":  {"${KEY}", "${MY KEY}", "not a variable's name"},
		"a number out of its range":  {"${SIZE}", "2000", "out of range"},
		"a key that does not exist":  {"page_size", "pagesize", "unknown key"},
		"a default that is no url":   {"${URL}", "${URL:-nowhere}", "url is not a URL"},
		"a reference that goes away": {"source: crm", "source: crn", "there is no source"},
	} {
		text := strings.Replace(needsAccount, tc.old, tc.new, 1)
		c, list := Parse("pipelines.yaml", []byte(text), "/srv", none, Offline())
		if got := rendered(t, list); c != nil || !strings.Contains(got, tc.want) || strings.Count(got, "error:") > 1 {
			t.Errorf("%s: want one fault, %q, got\n%s", name, tc.want, got)
		}
	}
}
