//go:build unix

package cli

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/duck"
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
	for seed, account := range slices.Sorted(maps.Keys(contacts)) {
		o := sandbox.DefaultOptions()
		o.Contacts, o.Seed = contacts[account], uint64(seed+1)
		f.accounts[account], f.urls[account] = startSandbox(t, o, f.hands)
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
	f.writes(t, fleetFiles, ", verify: off", "acme", "globex-eu")
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

// field creates a contact of an account that has a custom field.
func (f fleet) field(t *testing.T, account, key, value string) {
	t.Helper()
	s := f.accounts[account]
	platform, blocked := "whatsapp", false
	err := s.Update(s.Create(1)[0], sandbox.Change{Platform: &platform, Blocked: &blocked, Customer: []sandbox.Field{{Key: key, Value: json.RawMessage(value)}}})
	if err != nil {
		t.Fatal(err)
	}
}

// counts is how many contacts the view over all accounts has of each.
func (f fleet) counts(t *testing.T, destination string) string {
	t.Helper()
	out := f.asks(t, "SELECT _sluice_account, count(*) FROM contacts GROUP BY ALL ORDER BY ALL", "--destination", destination)
	_, rows, _ := strings.Cut(out, "\n")
	return strings.ReplaceAll(rows, "\n", " ")
}

// each is how many contacts the views of the accounts have.
func (f fleet) each(t *testing.T, destination string, accounts ...string) string {
	t.Helper()
	var each []string
	for _, a := range accounts {
		each = append(each, "SELECT '"+a+"' AS account, count(*) AS n FROM contacts_"+strings.ReplaceAll(a, "-", "_"))
	}
	_, rows, _ := strings.Cut(f.asks(t, strings.Join(each, " UNION ALL ")+" ORDER BY ALL", "--destination", destination), "\n")
	return strings.ReplaceAll(rows, "\n", " ")
}

// counted is how many contacts of each account the views have that a file beside
// the tables makes, elsewhere than where it stands.
func (f fleet) counted(t *testing.T) string {
	t.Helper()
	return perAccount(t, f.text(t, "out/contacts.sql"), "contacts")
}

// perAccount is how many contacts of each account a view has that a script makes.
func perAccount(t *testing.T, script, name string) string {
	t.Helper()
	db, err := duck.Open(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	res, err := db.Query(t.Context(), script+"\nSELECT _sluice_account, count(*) FROM "+name+" GROUP BY ALL ORDER BY ALL", 0)
	if err != nil {
		t.Fatal(err)
	}
	var out []string
	for _, row := range res.Rows {
		out = append(out, row[0].Text+","+row[1].Text)
	}
	return strings.Join(out, " ")
}

func TestOneViewHasTheContactsOfAllAccounts(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	const quick = ", verify: off, stages: off"
	f := newFleet(t, map[string]int{"acme": 20, "globex-eu": 6, "initech": 8})
	check := func(when string, accounts ...string) {
		t.Helper()
		want := f.each(t, "lake", accounts...)
		for place, got := range map[string]string{"lake": f.counts(t, "lake"), "db": f.counts(t, "db"), "file": f.counted(t)} {
			if got != want {
				t.Errorf("%s, %s has %s, the accounts %s", when, place, got, want)
			}
		}
	}
	// One is down: there is a view over the others.
	f.writes(t, fleetFiles, quick, "acme", "down", "globex-eu")
	f.sluice(t, "run").mustBe(t, exitPartial)
	check("while one is down", "acme", "globex-eu")

	// One has come, one is away, and two have a column more, which is text for one
	// and a number for the other.
	f.move(time.Hour)
	f.accounts["acme"].Create(3)
	f.field(t, "acme", "Lives In", `"Santiago"`)
	f.field(t, "globex-eu", "Lives In", `7`)
	f.writes(t, fleetFiles, quick, "acme", "globex-eu", "initech")
	f.sluice(t, "run").mustBe(t, 0)
	check("with one more", "acme", "globex-eu", "initech")
	for _, d := range []string{"lake", "db"} {
		if got := f.asks(t, "SELECT _sluice_account, max(cf_customer_lives_in) AS v, count(cf_customer_lives_in) AS n FROM contacts GROUP BY ALL ORDER BY ALL", "-d", d); got != "_sluice_account,v,n\nacme,Santiago,1\nglobex-eu,7,1\ninitech,,0" {
			t.Errorf("%s has %s", d, got)
		}
	}
	f.sluice(t, "plan", "--no-data", "--detailed-exitcode").mustBe(t, 0)

	// One that is no longer in the file is no longer in the view.
	f.writes(t, fleetFiles, quick, "acme", "initech")
	f.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, 0)
	check("with one less", "acme", "initech")
	f.sluice(t, "plan", "--no-data", "--detailed-exitcode").mustBe(t, 0)
}

func TestWhatSomebodyElseMadeUnderTheNameOfTheViewStays(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	f := newFleet(t, map[string]int{"acme": 5, "globex": 4})
	f.writes(t, fleetFiles, ", verify: off, stages: off, union_view: everybody", "acme", "globex")
	f.write(t, "out/everybody.sql", "SELECT 'mine';\n")
	f.database(t, "CREATE VIEW everybody AS SELECT 'mine' AS x")
	f.sluice(t, "run").mustBe(t, 0)
	shown := f.sluice(t, "plan", "--no-data", "--detailed-exitcode").mustBe(t, exitPending).out
	for _, want := range []string{"! destination.lake.view.everybody cannot be made", "! destination.db.view.everybody cannot be made", "The file everybody.sql is none of sluice", "main.everybody, which is no view over accounts"} {
		if !strings.Contains(strings.Join(strings.Fields(shown), " "), want) {
			t.Errorf("no %q in\n%s", want, shown)
		}
	}
	refused := f.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, exitError)
	if !strings.Contains(refused.err, "another union_view") {
		t.Errorf("got\n%s", refused.err)
	}
	if got := f.asks(t, "FROM everybody", "-d", "db"); got != "x\nmine" || f.text(t, "out/everybody.sql") != "SELECT 'mine';\n" {
		t.Errorf("it is now %s and %s", got, f.text(t, "out/everybody.sql"))
	}

	// Under another name it is there, and without one it goes.
	f.writes(t, fleetFiles, ", verify: off, stages: off, union_view: all_of_them", "acme", "globex")
	f.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, 0)
	if got := f.asks(t, "SELECT count(DISTINCT _sluice_account) AS n FROM all_of_them", "-d", "db"); got != "n\n2" || !strings.Contains(f.text(t, "out/all_of_them.sql"), "contacts_globex") {
		t.Errorf("got %s", got)
	}
	f.writes(t, fleetFiles, ", verify: off, stages: off, union_view: off", "acme", "globex")
	if out := f.sluice(t, "plan", "--no-data", "--detailed-exitcode").mustBe(t, exitPending).out; !strings.Contains(out, "- destination.db.view.all_of_them") || !strings.Contains(out, "- destination.lake.view.all_of_them") {
		t.Errorf("got\n%s", out)
	}
	f.sluice(t, "apply", "--no-data", "--auto-approve").mustBe(t, 0)
	if _, err := os.Stat(filepath.Join(f.dir, "out", "all_of_them.sql")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
	if f.sluice(t, "query", "-d", "db", "FROM all_of_them").code == 0 {
		t.Error("the view is still there")
	}
	f.sluice(t, "plan", "--no-data", "--detailed-exitcode").mustBe(t, 0)
}

func TestAnAccountThatIsDestroyedLeavesTheViewOfTheOthers(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	f := newFleet(t, map[string]int{"acme": 5, "globex": 4})
	files := strings.ReplaceAll(fleetFiles, "}", ", prevent_destroy: false}")
	f.writes(t, files, ", verify: off, stages: off", "acme", "globex")
	f.sluice(t, "run").mustBe(t, 0)
	f.sluice(t, "destroy", "nightly.acme", "--auto-approve").mustBe(t, 0)
	for _, destination := range []string{"lake", "db"} {
		if got := f.counts(t, destination); got != f.each(t, destination, "globex") {
			t.Errorf("%s has %s", destination, got)
		}
	}
	if got := f.counted(t); got != f.each(t, "lake", "globex") {
		t.Errorf("the file has %s", got)
	}
	f.sluice(t, "destroy", "--auto-approve").mustBe(t, 0)
	if _, err := os.Stat(filepath.Join(f.dir, "out", "contacts.sql")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the file is still there: %v", err)
	}
}

// database runs SQL in the database of a DuckDB destination.
func (f fleet) database(t *testing.T, sql string) {
	t.Helper()
	file, err := duck.OpenFile(t.Context(), filepath.Join(f.dir, "crm.duckdb"), duck.FileOptions{})
	if err != nil {
		t.Fatal(err)
	}
	_, err = file.Conn().ExecContext(t.Context(), sql)
	if err := errors.Join(err, file.Close()); err != nil {
		t.Fatal(err)
	}
}
