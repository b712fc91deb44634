package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
)

const warehouse = `version: 1
sources:
  crm: {type: contacts_api, url: "https://api.example.com", api_key: "${K}"}
destinations:
  warehouse: {type: bigquery, project: my-project, dataset: crm}
pipelines:
  nightly: {source: crm, destinations: warehouse}
`

func TestABigQueryDestinationIsReadWhole(t *testing.T) {
	key := env("K", "key-4711", "TEAM", "data")
	c := accept(t, warehouse, key)
	want := Destination{
		Name: "warehouse", Type: Warehouse, QueueLimit: 10 << 30, QueueAge: 30 * 24 * time.Hour, PreventDestroy: true, PricePerTiB: 6.25,
		BigQuery: BigQuery{Project: "my-project", Dataset: "crm", Method: "stream", CreateDataset: true},
	}
	ignore := cmp.Options{cmpopts.IgnoreFields(Destination{}, "Node"), cmpopts.IgnoreUnexported(Destination{})}
	if diff := cmp.Diff(want, *c.Destinations[0], ignore); diff != "" {
		t.Error(diff)
	}
	if d := c.Destinations[0]; d.Place("contacts") != "my-project.crm.contacts" || d.Place("") != "my-project.crm" || d.Local() || d.here() {
		t.Errorf("it is at %s, local: %t", d.Place("contacts"), d.Local())
	}
	text := strings.Replace(warehouse, "project: my-project, dataset: crm", `
    project: example.com:my-project, dataset: CRM_2, location: southamerica-west1, method: cdc, create_dataset: false, maximum_bytes_billed: 1.5TiB,
    max_staleness: 15m, labels: {team: "${TEAM}", größe: "", a-b_c: "1"}, key_file: /etc/hostname, impersonate: loader@my-project.iam.gserviceaccount.com`, 1)
	dir := t.TempDir()
	text = strings.Replace(text, "/etc/hostname", placeKey(t, dir), 1)
	c = accept(t, text, key)
	wantFull := BigQuery{
		Project: "example.com:my-project", Dataset: "CRM_2", Location: "southamerica-west1", Method: "cdc", MaximumBytesBilled: 3 << 39,
		MaxStaleness: 15 * time.Minute, Labels: map[string]string{"team": "data", "größe": "", "a-b_c": "1"},
		KeyFile: placeKey(t, dir), Impersonate: "loader@my-project.iam.gserviceaccount.com",
	}
	if diff := cmp.Diff(wantFull, c.Destinations[0].BigQuery); diff != "" {
		t.Error(diff)
	}
}

func TestAnEmulatorOnThisMachineTakesTheSandboxsContacts(t *testing.T) {
	for at, here := range map[[2]string]bool{
		{"http://127.0.0.1:9050", "localhost:9060"}:  true,
		{"http://localhost:9050/", "[::1]:9060"}:     true,
		{"http://127.0.0.1:9050", "10.0.0.1:9060"}:   false,
		{"http://emulator:9050", "127.0.0.1:9060"}:   false,
		{"http://127.0.0.1.nip.io:9050", "[::1]:90"}: false,
	} {
		text := strings.NewReplacer(`"https://api.example.com", api_key: "${K}"`, `"sandbox://"`,
			"project: my-project, dataset: crm", `project: any_thing, dataset: crm, endpoint: "`+at[0]+`", grpc_endpoint: "`+at[1]+`"`).Replace(warehouse)
		c, list := Parse("p.yaml", []byte(text), "/srv", none)
		if (c != nil) != here || here != (len(list) == 0) {
			t.Errorf("%v: accepted: %t\n%s", at, c != nil, rendered(t, list))
		}
		if here && c.Destinations[0].Endpoint != strings.TrimSuffix(at[0], "/") {
			t.Errorf("endpoint is %s", c.Destinations[0].Endpoint)
		}
	}
}

func TestABigQueryDestinationIsInTheHashButForItsKey(t *testing.T) {
	key := env("K", "key-4711")
	want := accept(t, warehouse, key).Hash()
	with := func(more string) string {
		return accept(t, strings.Replace(warehouse, "dataset: crm", "dataset: crm, "+more, 1), key).Hash()
	}
	for _, same := range []string{"method: stream", "create_dataset: true", "key_file: " + placeKey(t, t.TempDir())} {
		if with(same) != want {
			t.Errorf("%s changes the hash", same)
		}
	}
	seen := map[string]string{want: "nothing"}
	for _, more := range []string{
		"method: load", "method: cdc", "method: cdc, max_staleness: 5m", "location: EU", "create_dataset: false", "maximum_bytes_billed: 1GB",
		"labels: {a: b}", "labels: {a: c}", "impersonate: a@b-project.iam.gserviceaccount.com", `endpoint: "http://localhost:1", grpc_endpoint: "localhost:2"`,
	} {
		h := with(more)
		if o, ok := seen[h]; ok {
			t.Errorf("%s has the hash of %s", more, o)
		}
		seen[h] = more
	}
}

func TestLabelsAreBounded(t *testing.T) {
	for text, ok := range map[string]bool{
		"a": true, strings.Repeat("é", 63): true, strings.Repeat("a", 64): false, "日本": true, "a.b": false, "a b": false, "É": false, "ǅ": false, "": false,
	} {
		if labelText(text) != ok {
			t.Errorf("%q: %t", text, !ok)
		}
	}
	many := "labels: {"
	for i := range maxLabels + 1 {
		many += strings.Repeat("a", i+1) + ": b, "
	}
	_, list := Parse("p.yaml", []byte(strings.Replace(warehouse, "dataset: crm", "dataset: crm, "+many+"}", 1)), "/srv", env("K", "key-4711"))
	if !strings.Contains(rendered(t, list), "more than 56") {
		t.Errorf("got %s", rendered(t, list))
	}
}

// placeKey puts a file where a key could be.
func placeKey(t *testing.T, dir string) string {
	t.Helper()
	path := filepath.Join(dir, "key.json")
	if err := os.WriteFile(path, []byte("{}"), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
