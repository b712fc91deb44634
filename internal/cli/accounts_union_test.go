package cli

import (
	"encoding/json"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/sandbox"
)

// fleet is a world whose pipeline reads several accounts, each a sandbox of its
// own, with one clock.
type fleet struct {
	*world
	*hands
	accounts map[string]*sandbox.Server
	urls     map[string]string
}

// newFleet starts accounts of so many contacts.
func newFleet(t *testing.T, contacts map[string]int) fleet {
	t.Helper()
	f := fleet{world: newWorld(t, ""), hands: &hands{}, accounts: map[string]*sandbox.Server{}, urls: map[string]string{}}
	start := noon.Now()
	f.now.Store(&start)
	f.clock = f.hands
	f.env["KEY"] = sandboxKey
	for seed, account := range sortedNames(contacts) {
		o := sandbox.DefaultOptions()
		o.Contacts, o.Seed = contacts[account], uint64(seed+1)
		server, err := sandbox.New(o, f.hands)
		if err != nil {
			t.Fatal(err)
		}
		running, err := server.Start(t.Context(), loopback)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := running.Close(); err != nil {
				t.Error(err)
			}
		})
		f.accounts[account], f.urls[account] = server, running.URL
	}
	return f
}

// writes has the pipeline read accounts, in this order, to destinations. A bad
// URL stands for one that is down.
func (f fleet) writes(t *testing.T, destinations, rest string, accounts ...string) {
	t.Helper()
	var each strings.Builder
	for _, a := range accounts {
		url, ok := f.urls[a]
		if !ok {
			url = "http://127.0.0.1:1"
		}
		fmt.Fprintf(&each, "\n      %s: {url: %q}", a, url)
	}
	var names []string
	for line := range strings.Lines(destinations) {
		if name, _, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			names = append(names, name)
		}
	}
	f.write(t, "pipelines.yaml", `version: 1
state: {path: .sluice}
sources:
  crm:
    type: contacts_api
    url: ${each.value.url}
    api_key: ${KEY}
    requests_per_second: 1000
    retry_for: 1s
    for_each: &accounts`+each.String()+`
destinations:
`+destinations+`
pipelines:
  nightly: {source: crm, for_each: *accounts, destinations: [`+strings.Join(names, ", ")+`]`+rest+`}
`)
}

// kill deletes a contact of an account.
func (f fleet) kill(t *testing.T, account string) {
	t.Helper()
	var dump strings.Builder
	if err := f.accounts[account].Dump(&dump); err != nil {
		t.Fatal(err)
	}
	line, _, _ := strings.Cut(dump.String(), "\n")
	var c struct{ ID string }
	if err := json.Unmarshal([]byte(line), &c); err != nil {
		t.Fatal(err)
	}
	if err := f.accounts[account].Delete(c.ID); err != nil {
		t.Fatal(err)
	}
}

// asks runs SQL over what was exported.
func (f fleet) asks(t *testing.T, sql string, args ...string) string {
	t.Helper()
	return strings.TrimSpace(f.sluice(t, append([]string{"query", "--format", "csv", sql}, args...)...).mustBe(t, 0).out)
}

const fleetFiles = "  lake: {type: parquet, path: out}\n  db: {type: duckdb, path: crm.duckdb}"

func TestEveryRowOfAnAccountNamesItTombstonesIncluded(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	f := newFleet(t, map[string]int{"acme": 30, "globex-eu": 20})
	f.writes(t, fleetFiles, "", "acme", "globex-eu")
	f.sluice(t, "run").mustBe(t, 0)
	f.kill(t, "acme")
	f.move(time.Hour)
	f.sluice(t, "reconcile", "nightly.acme", "--max-share", "10%").mustBe(t, 0)

	for account, table := range map[string]string{"acme": "contacts_acme", "globex-eu": "contacts_globex_eu"} {
		for _, rows := range []string{"current", "history"} {
			files := "'" + filepath.ToSlash(filepath.Join(f.dir, "out", table, rows)) + "/**/*.parquet'"
			if got := f.asks(t, "SELECT DISTINCT _sluice_account FROM "+files); got != "_sluice_account\n"+account {
				t.Errorf("files of %s in %s: %q", table, rows, got)
			}
			stored := "db._sluice." + table + "__" + rows
			if got := f.asks(t, "SELECT DISTINCT _sluice_account FROM "+stored, "--destination", "db"); got != "_sluice_account\n"+account {
				t.Errorf("%s: %q", stored, got)
			}
		}
		for _, destination := range []string{"lake", "db"} {
			want := "dead\n" + map[string]string{"acme": "1", "globex-eu": "0"}[account]
			sql := "SELECT count(_sluice_deleted_at) AS dead FROM " + table + "_all WHERE _sluice_account = '" + account + "'"
			if got := f.asks(t, sql, "--destination", destination); got != want {
				t.Errorf("%s in %s: %q", table, destination, got)
			}
		}
	}
	f.sluice(t, "verify", "--parity").mustBe(t, 0)
	f.sluice(t, "verify", "nightly.acme", "--source").mustBe(t, 0)
	f.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 0)
}

// The stored rows keep the key that they were written with: views go by the file.
func TestAnAccountWithAnotherKeyHasItInItsViewsAtOnce(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	f := newFleet(t, map[string]int{"acme": 10})
	f.writes(t, fleetFiles, ", table: \"c\", stages: off", "acme")
	text := f.text(t, "pipelines.yaml")
	one := strings.NewReplacer("    for_each: &accounts\n      acme: {url: ", "    url: ", "}\ndestinations", "\ndestinations", "    url: ${each.value.url}\n", "", " for_each: *accounts,", "").Replace(text)
	f.write(t, "pipelines.yaml", one)
	f.sluice(t, "run").mustBe(t, 0)
	f.write(t, "pipelines.yaml", text)
	f.sluice(t, "state", "mv", "pipeline.nightly", `pipeline.nightly["acme"]`).mustBe(t, 0)
	f.move(time.Hour)
	f.accounts["acme"].Create(1)
	f.kill(t, "acme")
	f.move(time.Hour)
	f.sluice(t, "run").mustBe(t, 0)
	f.sluice(t, "reconcile", "nightly.acme", "--max-share", "50%").mustBe(t, 0)
	for _, destination := range []string{"lake", "db"} {
		for _, view := range []string{"c_all", "c_history"} {
			if got := f.asks(t, "SELECT DISTINCT _sluice_account FROM "+view, "--destination", destination); got != "_sluice_account\nacme" {
				t.Errorf("%s of %s: %q", view, destination, got)
			}
		}
	}
	files := "'" + filepath.ToSlash(filepath.Join(f.dir, "out", "c", "current")) + "/**/*.parquet'"
	if got := f.asks(t, "SELECT count(*) FILTER (_sluice_account = 'acme') AS new, count(_sluice_deleted_at) AS dead, count(*) AS all_of_them FROM "+files); got != "new,dead,all_of_them\n2,1,11" {
		t.Errorf("the files have %s", got)
	}
	f.sluice(t, "verify", "--parity").mustBe(t, 0)
	f.sluice(t, "plan", "--detailed-exitcode").mustBe(t, 0)
}
