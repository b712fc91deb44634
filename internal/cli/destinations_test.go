package cli

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/duck"
	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
	"github.com/sluice-etl/sluice/internal/sandbox"
)

// cloud is a sandbox and a bucket service beside a world that uses both.
type cloud struct {
	served
	gcs *gcstest.Server
}

// everywhere starts them. The pipeline writes to the destinations named.
func everywhere(t *testing.T, contacts int, destinations string) cloud {
	t.Helper()
	needsDuckDB(t)
	c := cloud{changing(t, contacts, ""), gcstest.Start(t, "lake", "sluice")}
	c.env[envEmulator] = strings.TrimPrefix(c.gcs.URL, "http://") // as the vendor's documents give it
	c.destinations(t, destinations)
	return c
}

// destinations writes the file anew, with these destinations of the pipeline.
func (c cloud) destinations(t *testing.T, names string) {
	t.Helper()
	source := ""
	for line := range strings.Lines(c.text(t)) {
		if strings.Contains(line, "contacts_api") {
			source = line
		}
	}
	c.write(t, "pipelines.yaml", `version: 1
state: {backend: gcs, path: gs://sluice/state}
sources:
`+source+`destinations:
  lake: {type: parquet, path: out}
  local: {type: duckdb, path: out/crm.duckdb, memory_limit: 300MB}
  bucket: {type: parquet, path: gs://lake/crm}
  late: {type: duckdb, path: late.duckdb}
pipelines:
  nightly: {source: crm, destinations: [`+names+`]}
`)
}

// relation is what a destination holds, as SQL.
func (c cloud) relation(t *testing.T, destination string) string {
	t.Helper()
	switch destination {
	case "lake":
		return "SELECT * FROM read_parquet('" + filepath.Join(c.dir, "out/contacts/current/**/*.parquet") + "', hive_partitioning = false)"
	case "bucket":
		dir := t.TempDir()
		for name, data := range c.gcs.Objects(t, "lake", "crm/contacts/current/") {
			path := filepath.Join(dir, filepath.FromSlash(name))
			if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(path, data, 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return "SELECT * FROM read_parquet('" + filepath.Join(dir, "**/*.parquet") + "', hive_partitioning = false)"
	default:
		return "SELECT * FROM " + destination + "._sluice.contacts__current"
	}
}

// same fails the test unless the destinations hold the same rows, those of the
// source. Where one was filled at another time than the others, what tells of
// that time is left out.
func (c cloud) same(t *testing.T, seeded bool, destinations ...string) {
	t.Helper()
	setup := ""
	for name, file := range map[string]string{"local": "out/crm.duckdb", "late": "late.duckdb"} {
		if slices.Contains(destinations, name) {
			setup += "ATTACH '" + filepath.Join(c.dir, file) + "' AS " + name + " (READ_ONLY);"
		}
	}
	dump := filepath.Join(t.TempDir(), "dump.jsonl")
	var text strings.Builder
	if err := c.Dump(&text); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(dump, []byte(text.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	db, err := duck.Open(t.Context(), setup)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	number := func(sql string) string {
		t.Helper()
		res, err := db.Query(t.Context(), sql, 0)
		if err != nil {
			t.Fatal(err)
		}
		return res.Rows[0][0].Text
	}
	first := c.relation(t, destinations[0])
	source := "SELECT id::VARCHAR, name, phone, email, platform, blocked, epoch_ms(updated_at::TIMESTAMPTZ) FROM read_json('" + dump + "', format = 'newline_delimited', columns = {id: 'VARCHAR', name: 'VARCHAR', phone: 'VARCHAR', email: 'VARCHAR', platform: 'VARCHAR', blocked: 'BOOLEAN', updated_at: 'TIMESTAMPTZ'})"
	mine := "SELECT id, name, phone, email, platform, blocked, epoch_ms(updated_at) FROM (" + first + ")"
	for _, pair := range [][2]string{{source, mine}, {mine, source}} {
		if n := number("SELECT count(*) FROM ((" + pair[0] + ") EXCEPT ALL (" + pair[1] + "))"); n != "0" {
			t.Fatalf("%s rows of the source and of %s differ", n, destinations[0])
		}
	}
	res, err := db.Query(t.Context(), "FROM ("+first+") LIMIT 0", 0)
	if err != nil {
		t.Fatal(err)
	}
	var names []string // tables that grew in other steps have them in another order
	for _, col := range res.Columns {
		if !seeded || col.Name == "_sluice_hash" || !strings.HasPrefix(col.Name, "_sluice") {
			names = append(names, `"`+col.Name+`"`)
		}
	}
	columns := strings.Join(names, ", ")
	for _, d := range destinations[1:] {
		other := c.relation(t, d)
		for _, pair := range [][2]string{{first, other}, {other, first}} {
			if n := number("SELECT count(*) FROM ((SELECT " + columns + " FROM (" + pair[0] + ")) EXCEPT ALL (SELECT " + columns + " FROM (" + pair[1] + ")))"); n != "0" {
				t.Fatalf("%s rows of %s and %s differ", n, destinations[0], d)
			}
		}
	}
}

func TestEveryKindOfDestinationHoldsTheSameAndStateInABucketOutlivesTheDisk(t *testing.T) {
	t.Parallel()
	c := everywhere(t, 40, "lake, local, bucket")
	change := func() {
		c.Mutate(sandbox.Mutation{Updates: 20, Creates: 5})
		c.move(2 * time.Hour)
	}
	r := c.sluice(t, "run").mustBe(t, 0)
	golden(t, "destinations/run.txt", r.out)
	if !strings.Contains(r.err, "stands in for Google Cloud Storage") {
		t.Errorf("nothing says that the service is not the real one:\n%s", r.err)
	}
	c.same(t, false, "lake", "local", "bucket")
	golden(t, "destinations/again.txt", c.sluice(t, "run").mustBe(t, 0).out)

	change()
	c.sluice(t, "run").mustBe(t, 0)
	c.same(t, false, "lake", "local", "bucket")

	// The bucket of the table is away: the others go on, and what it lacks
	// waits in the bucket of the state. This machine's own is lost meanwhile.
	c.gcs.SetFault(func(_ int, r *http.Request) gcstest.Fault {
		if strings.Contains(r.URL.Path, "/b/lake/") {
			return gcstest.Forbid
		}
		return gcstest.None
	})
	change()
	r = c.sluice(t, "run").mustBe(t, 1)
	if !strings.Contains(r.err, `"bucket"`) || !strings.Contains(r.err, "roles/storage.objectUser") {
		t.Errorf("it does not say what to do:\n%s", r.err)
	}
	c.same(t, false, "lake", "local")
	if err := os.RemoveAll(filepath.Join(c.dir, ".sluice")); err != nil {
		t.Fatal(err)
	}
	c.gcs.SetFault(nil)
	change()
	c.sluice(t, "run").mustBe(t, 0)
	c.same(t, false, "lake", "local", "bucket")
	for _, name := range c.gcs.Names(t, "sluice") {
		if strings.Contains(name, "/runs/") {
			t.Errorf("%s is left of a package that everyone has", name)
		}
	}
	if r := c.sluice(t, "runs").mustBe(t, 0); strings.Count(r.out, "nightly") != 5 {
		t.Errorf("state has forgotten a run:\n%s", r.out)
	}
	if r := c.sluice(t, "schema", "nightly").mustBe(t, 0); !strings.Contains(r.out, "cf_") {
		t.Errorf("state has forgotten the columns:\n%s", r.out)
	}
}

func TestANewDestinationIsFilledAndARemovedOneIsForgotten(t *testing.T) {
	t.Parallel()
	c := everywhere(t, 30, "bucket, lake")
	c.sluice(t, "run").mustBe(t, 0)
	c.Mutate(sandbox.Mutation{Updates: 10, Creates: 3})
	c.move(2 * time.Hour)
	c.destinations(t, "bucket, late")
	r := c.sluice(t, "run").mustBe(t, 0)
	if !strings.Contains(r.err, "reading everything") || !strings.Contains(r.err, "late") {
		t.Errorf("it does not say that it fills the new destination:\n%s", r.err)
	}
	c.same(t, true, "bucket", "late")
	var document struct {
		Destinations map[string]any `json:"destinations"`
	}
	for name, data := range c.gcs.Objects(t, "sluice", "state/state/") {
		if err := json.Unmarshal(data, &document); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if _, kept := document.Destinations["lake"]; kept || len(document.Destinations) != 2 {
		t.Errorf("state knows %v", document.Destinations)
	}
	c.Mutate(sandbox.Mutation{Updates: 10, Creates: 3})
	c.move(2 * time.Hour)
	if r := c.sluice(t, "run").mustBe(t, 0); strings.Contains(r.err, "reading everything") {
		t.Errorf("it reads everything again:\n%s", r.err)
	}
	c.same(t, true, "bucket", "late")
}

// database is a pipelines file of two tables in one database file, and nothing
// else.
const database = `version: 1
sources:
  crm: {type: contacts_api, url: "sandbox://?contacts=40&seed=1", requests_per_second: 1000}
destinations:
  local: {type: duckdb, path: out/crm.duckdb}
  other: {type: duckdb, path: other.duckdb}
  lake: {type: parquet, path: out}
  bucket: {type: parquet, path: gs://lake/crm}
pipelines:
  nightly: {source: crm, destinations: [local]}
  leads: {source: crm, table: leads, destinations: [local], filters: {platform: instagram}}
`

func TestADatabaseIsQueriedWithItsOwnViews(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := newWorld(t, database)
	if r := w.sluice(t, "query", "FROM contacts").mustBe(t, 1); !strings.Contains(r.err, "nothing is exported yet") {
		t.Errorf("got %s", r.err)
	}
	r := w.sluice(t, "run", "nightly").mustBe(t, 0)
	golden(t, "destinations/database.txt", r.out)
	next := r.out[strings.Index(r.out, `query "`)+len(`query "`):]
	next = next[:strings.Index(next, `"`)]
	if r := w.sluice(t, "query", next).mustBe(t, 0); !strings.HasPrefix(r.out, "platform,contacts\nwhatsapp,") {
		t.Errorf("what comes next gives\n%s", r.out)
	}
	if r := w.onTerminal(t, "query").mustBe(t, 0); !strings.Contains(r.out, "leads: nothing exported yet (leads)\n") {
		t.Errorf("got\n%s", r.out)
	}
	w.sluice(t, "run", "leads").mustBe(t, 0)
	golden(t, "destinations/database_list.txt", w.onTerminal(t, "query").mustBe(t, 0).out)
	for sql, want := range map[string]string{
		"SELECT count(*) AS n FROM contacts_all": "n\n40\n",
		"SELECT count(*) > 0 AS n FROM leads":    "n\ntrue\n",
		"SELECT count(*) AS n FROM active(36500) HAVING n = (SELECT count(last_message_at) FROM contacts)": "n\n37\n",
		"SELECT count(*) AS n FROM local.contacts_all":                                                     "n\n40\n",
		"CREATE TEMP TABLE t AS FROM contacts_all; SELECT count(*) AS n FROM temp.t":                       "n\n40\n",
	} {
		if got := w.sluice(t, "query", sql).mustBe(t, 0).out; got != want {
			t.Errorf("%s gives %q, want %q", sql, got, want)
		}
	}
	before := w.tree(t, "out")
	for _, sql := range []string{"DELETE FROM _sluice.contacts__current", "CREATE TABLE x AS SELECT 1", "DROP VIEW contacts"} {
		if r := w.sluice(t, "query", "--format", "table", sql).mustBe(t, 1); !strings.Contains(r.err, "read-only") {
			t.Errorf("%s: %s", sql, r.err)
		}
	}
	if r := w.sluice(t, "query", "FROM contacts", "-o", filepath.Join(w.dir, "out", "crm.duckdb"), "--format", "csv").mustBe(t, 1); !strings.Contains(r.err, "is the database of destination local") {
		t.Errorf("got %s", r.err)
	}
	if after := w.tree(t, "out"); len(after) != len(before) || after["out/crm.duckdb"] != before["out/crm.duckdb"] {
		t.Error("a query has changed the database")
	}
}

func TestAQueryReadsTheDestinationThatIsNamed(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := newWorld(t, strings.Replace(database, "destinations: [local]}", "destinations: [local, lake]}", 1))
	w.sluice(t, "run").mustBe(t, 0)
	// Parquet files come first; leads is in the database alone.
	for args, want := range map[string]int{
		"query|SELECT 1 FROM contacts LIMIT 1": 0, "query|SELECT 1 FROM leads LIMIT 1": 1,
		"query|-d|local|SELECT 1 FROM leads LIMIT 1": 0, "query|--destination|lake|SELECT 1 FROM contacts LIMIT 1": 0, "query|-d|lake|SELECT 1 FROM leads LIMIT 1": 1,
	} {
		w.sluice(t, strings.Split(args, "|")...).mustBe(t, want)
	}
	if r := w.sluice(t, "run", "leads").mustBe(t, 0); !strings.Contains(r.out, `Next: sluice query --destination local "SELECT platform, count(*) AS contacts FROM leads `) {
		t.Errorf("got\n%s", r.out)
	}
	if r := w.onTerminal(t, "query", "-d", "local").mustBe(t, 0); !strings.Contains(r.out, `sluice query -d local "FROM contacts"`) {
		t.Errorf("got\n%s", r.out)
	}
	if got := w.sluice(t, "__complete", "query", "--destination", "").mustBe(t, 0).out; !strings.HasPrefix(got, "local\nlake\n:") {
		t.Errorf("completion gives %q", got)
	}
	var b strings.Builder
	for _, line := range []string{"query -d loca x", "query -d bucket x", "query -d other x"} {
		b.WriteString("$ sluice " + line + "\n" + w.sluice(t, strings.Fields(line)...).mustBe(t, 1).err + "\n")
	}
	w.write(t, "pipelines.yaml", strings.Replace(database, "table: leads, destinations: [local]", "table: leads, destinations: [other]", 1))
	b.WriteString("$ sluice query x  # two databases\n" + w.sluice(t, "query", "x").mustBe(t, 1).err + "\n")
	w.write(t, "pipelines.yaml", strings.NewReplacer("[local]", "[bucket]", "sandbox://?contacts=40&seed=1", "https://api.example.com", "requests_per_second", "api_key: k0001, requests_per_second").Replace(database))
	b.WriteString("$ sluice query x  # a bucket\n" + w.sluice(t, "query", "x").mustBe(t, 1).err + "\n")
	golden(t, "destinations/query_errors.txt", b.String())
}

func TestTheEmulatorsPlaceIsReadAsTheVendorReadsIt(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "localhost:4443": "http://localhost:4443", "http://127.0.0.1:4443": "http://127.0.0.1:4443",
		"https://stand-in:443/storage/v1/": "https://stand-in:443", "stand-in": "http://stand-in",
	} {
		if got, err := emulator(in); err != nil || got != want {
			t.Errorf("%q is %q, %v", in, got, err)
		}
	}
	for _, in := range []string{"http://", "://x", "a b"} {
		if got, err := emulator(in); err == nil {
			t.Errorf("%q is %q", in, got)
		}
	}
}

func TestABuildWithoutDuckDBRefusesDatabasesAndNothingElse(t *testing.T) {
	t.Parallel()
	if duck.Available {
		t.Skip("this build has DuckDB")
	}
	w := newWorld(t, strings.Replace(database, "table: leads, destinations: [local]", "table: leads, destinations: [lake]", 1))
	for _, args := range [][]string{{"validate"}, {"run", "nightly"}} {
		r := w.sluice(t, args...).mustBe(t, 1)
		if !strings.Contains(r.err, "pipelines.yaml:5:17: error: this binary was built without DuckDB") || !strings.Contains(r.err, "CGO_ENABLED=1") {
			t.Errorf("%s: got\n%s", args, r.err)
		}
	}
	w.sluice(t, "run", "leads").mustBe(t, 0)
	w.sluice(t, "run").mustBe(t, exitPartial)
}

func TestADatabasesPathIsOneThatDuckDBOpens(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := newWorld(t, strings.Replace(database, "path: out/crm.duckdb", `path: "out/crm#1.duckdb"`, 1))
	if r := w.sluice(t, "validate").mustBe(t, 1); !strings.Contains(r.err, ":5:31: error: DuckDB cannot open a file at this path") {
		t.Errorf("got\n%s", r.err)
	}
}

func TestEverySettingOfADestinationReachesItsLoader(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := newWorld(t, strings.NewReplacer(
		"{type: duckdb, path: out/crm.duckdb}", "{type: duckdb, path: out/crm.duckdb, queue_limit: 3MiB, queue_age: 36h}",
		"destinations: [local]}", "destinations: [local, other, lake]}").Replace(database))
	a, cfg, s := wiring(t, w)
	job, closeLoaders, err := a.job(t.Context(), cfg, cfg.Pipelines[0], s)
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := closeLoaders(); err != nil {
			t.Error(err)
		}
	}()
	const day = 24 * time.Hour
	for i, want := range []struct {
		kind  string
		bytes int64
		age   time.Duration
	}{{"*duckdb.Loader", 3 << 20, 36 * time.Hour}, {"*duckdb.Loader", 10 << 30, 30 * day}, {"*parquet.Loader", 10 << 30, 30 * day}} {
		d := job.Destinations[i]
		if kind := fmt.Sprintf("%T", d.Loader); kind != want.kind || d.QueueBytes != want.bytes || d.QueueAge != want.age || d.Name != cfg.Destinations[i].Name {
			t.Errorf("destination %s is a %s that may keep %d bytes for %s", d.Name, kind, d.QueueBytes, d.QueueAge)
		}
	}
}
