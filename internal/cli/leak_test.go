//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package cli

import (
	"database/sql"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
)

const (
	leakAPIKey  = "apikey-Leak+7f3b/2c4d6e8f"
	leakHashKey = "hashkey-Leak-9a8b7c6d5e4f3a2b1c0d9e8f7a6b5c4d"
)

const leakContract = `version: 1
max_columns: 6
undeclared: hash
columns:
  - {name: id, path: id, type: string, required: true}
  - {name: created_at, path: created_at, type: timestamp, required: true}
  - {name: updated_at, path: updated_at, type: timestamp, required: true}
  - {name: client_id, path: client_id, type: string, policy: hash}
  - {name: platform, path: platform, type: string}
  - {name: phone, path: phone, type: string, policy: hash}
  - {name: email, path: email, type: string, policy: mask}
  - {name: name, path: name, type: string, policy: drop}
custom_fields:
  customer: {places: [custom_fields, custom_field_values, metadata], policy: mask}
  ticket: {places: [active_ticket_v2.metadata], policy: drop}
`

const leakPipelines = `version: 1
sources:
  crm: {type: contacts_api, url: "SOURCE", api_key: "${API_KEY}", page_size: 10, concurrency: 1, requests_per_second: 1000, retry_for: 5s}
destinations:
  lake: {type: parquet, path: out}
  local: {type: duckdb, path: out/contacts.duckdb}
  warehouse: {type: bigquery, project: PROJECT, dataset: crm, endpoint: "REST", grpc_endpoint: "GRPC"}
pipelines:
  nightly: {source: crm, schema: contract.yaml, hash_key: "${HASH_KEY}", destinations: [lake, local, warehouse], filters: {custom_field_key: rut, custom_field_value: Plantedfilter}}
`

// leakWorld is a pipeline whose contacts have planted values, and all that
// comes out of it.
type leakWorld struct {
	*world
	source     *leakSource
	service    *bqtest.Server
	rest, grpc *tap
	printed    strings.Builder
}

func newLeakWorld(t *testing.T) *leakWorld {
	t.Helper()
	service, err := bqtest.Start(t.Context(), bqtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := service.Close(); err != nil {
			t.Error(err)
		}
	})
	l := &leakWorld{source: newLeakSource(t), service: service, grpc: newTap(t, service.Addr())}
	l.rest = newTap(t, strings.TrimPrefix(service.URL(), "http://"))
	l.world = newWorld(t, strings.NewReplacer("SOURCE", l.source.URL, "PROJECT", service.Project(),
		"REST", "http://"+l.rest.Addr().String(), "GRPC", l.grpc.Addr().String(), "Plantedfilter", "PlantedFilter").Replace(leakPipelines))
	// The filter's value stands in the file by the user's own hand.
	l.write(t, "pipelines.yaml", strings.Replace(l.read(t, "pipelines.yaml"), ", filters: {custom_field_key: rut, custom_field_value: PlantedFilter}", "", 1))
	l.write(t, "contract.yaml", leakContract)
	l.clock = clock.System{}
	l.env = map[string]string{"API_KEY": leakAPIKey, "HASH_KEY": leakHashKey}
	for n := range 40 {
		l.source.put(plantedContact(n, 0))
	}
	return l
}

func (l *leakWorld) read(t *testing.T, name string) string {
	t.Helper()
	data, err := os.ReadFile(filepath.Join(l.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// does runs a command, keeps what it prints, and looks for leaks.
func (l *leakWorld) does(t *testing.T, code int, args ...string) result {
	t.Helper()
	got := l.keeps(t, code, args...)
	l.search(t, strings.Join(args, " "))
	return got
}

// keeps runs a command and keeps what it prints, for the next search.
func (l *leakWorld) keeps(t *testing.T, code int, args ...string) result {
	t.Helper()
	got := l.sluice(t, append(args, "-v", "--log-format", "json")...)
	fmt.Fprintf(&l.printed, "%v\n%s\n%s\n", args, got.out, got.err)
	return got.mustBe(t, code)
}

// search fails for every planted value that anything produced holds.
func (l *leakWorld) search(t *testing.T, after string) {
	t.Helper()
	look := func(where, text string) {
		for _, found := range leaks(text) {
			i := strings.Index(strings.ToLower(text), found)
			t.Errorf("after %s: %s holds %q: ...%q...", after, where, found, text[max(0, i-80):min(len(text), i+80)])
		}
	}
	look("the output", l.printed.String())
	look("what BigQuery was asked", string(l.rest.bytes()))
	look("what BigQuery was given", string(l.grpc.bytes()))
	err := filepath.WalkDir(l.dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		rel, _ := filepath.Rel(l.dir, path)
		look("the name of a file", rel)
		look(rel, string(data))
		switch filepath.Ext(path) {
		case ".parquet":
			look("a row of "+rel, rowsOf(t, "", "FROM read_parquet('"+path+"')"))
		case ".duckdb":
			look("a row of "+rel, databaseRows(t, path))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if t.Failed() {
		t.FailNow()
	}
}

// leaks returns the planted texts that are in text, in any of the spellings
// that encoders give.
func leaks(text string) (found []string) {
	plain := []string{"planted", "87654321", "8765 4321", "8765.4321", leakAPIKey, leakHashKey}
	lower := strings.ToLower(text)
	for _, p := range plain {
		spellings := []string{p, url.QueryEscape(p), hex.EncodeToString([]byte(p))}
		for _, word := range []string{p, strings.ToUpper(p[:1]) + p[1:]} {
			for shift := range 3 { // base64 of a text that p stands anywhere in
				encoded := base64.RawStdEncoding.EncodeToString(append(make([]byte, shift), word...))
				whole := encoded[(shift*8+5)/6 : (shift+len(word))*8/6]
				if strings.Contains(text, whole) {
					found = append(found, strings.ToLower(whole))
				}
			}
		}
		for _, s := range spellings {
			if strings.Contains(lower, strings.ToLower(s)) {
				found = append(found, strings.ToLower(s))
			}
		}
	}
	return found
}

// rowsOf returns every row that a query gives as text, a line each, from a
// database file or from none.
func rowsOf(t *testing.T, database, query string) string {
	t.Helper()
	return strings.Join(textsOf(t, database, "SELECT CAST(t AS VARCHAR) FROM ("+query+") t"), "\n")
}

func textsOf(t *testing.T, database, query string) (out []string) {
	t.Helper()
	db, err := sql.Open("duckdb", database)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	rows, err := db.QueryContext(t.Context(), query)
	if err != nil {
		t.Fatalf("%s: %v", query, err)
	}
	defer func() { _ = rows.Close() }()
	for rows.Next() {
		var text string
		if err := rows.Scan(&text); err != nil {
			t.Fatal(err)
		}
		out = append(out, text)
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

// databaseRows returns every row of every table of a database file.
func databaseRows(t *testing.T, path string) string {
	t.Helper()
	database := path + "?access_mode=read_only"
	var all []string
	for _, name := range textsOf(t, database, `SELECT '"' || schema_name || '"."' || table_name || '"' FROM duckdb_tables()`) {
		all = append(all, rowsOf(t, database, "FROM "+name))
	}
	return strings.Join(all, "\n")
}

func TestNoPersonalValueLeavesMemoryUnderAPolicy(t *testing.T) {
	t.Parallel()
	l := newLeakWorld(t)
	s := l.source
	s.put(rejectedContact(900))
	s.fail(
		func(w http.ResponseWriter, page []byte) { _, _ = w.Write(page[:len(page)/2]) },
		func(w http.ResponseWriter, page []byte) { w.WriteHeader(http.StatusBadGateway); _, _ = w.Write(page) },
		func(w http.ResponseWriter, _ []byte) {
			_, _ = w.Write([]byte(`{"phone":"+56 9 8765 4321","name":"Planted"}`))
		},
	)
	l.does(t, 0, "validate")
	l.does(t, 0, "preview", "nightly")
	l.does(t, 0, "preview", "nightly", "--json")
	l.does(t, 0, "preview", "nightly", "--contract")
	l.planned(t, "first.plan")
	for _, command := range [][]string{{"preview", "nightly"}, {"run"}} { // what is refused is shown with its answer
		s.fail(func(w http.ResponseWriter, page []byte) { w.WriteHeader(http.StatusBadRequest); _, _ = w.Write(page) })
		l.does(t, 1, command...)
	}
	broken := func(w http.ResponseWriter, page []byte) { _, _ = w.Write(page[:len(page)/2]) }
	for range 40 {
		s.fail(broken)
	}
	l.does(t, 1, "run") // every answer breaks off
	s.mu.Lock()
	s.faults = nil
	s.mu.Unlock()
	l.interrupted(t, os.Interrupt)
	l.interrupted(t, os.Kill)
	l.service.Inject(bqtest.Fault{Call: "AppendRows", Code: codes.InvalidArgument, Message: "the rows are refused"})
	l.does(t, 1, "run", "--json") // one destination fails
	for n := range 7 {
		s.put(plantedContact(n, 1))
	}
	s.put(rejectedContact(901))
	l.planned(t, "second.plan")
	l.does(t, 0, "apply", filepath.Join(l.dir, "second.plan"))
	l.does(t, 0, "run")
	l.does(t, 0, "backfill", "nightly", "--from", "2026-07-01", "--to", "2026-07-03", "--by", "created_at")
	if out := l.does(t, 0, "verify", "--source", "--sample", "all", "--show-values", "nightly").out; !strings.Contains(out, "all 40 contacts") || strings.Contains(out, "changed without") {
		t.Errorf("compared under the policies, the table differs from the source:\n%s", out)
	}
	s.remove("contact-010")
	l.does(t, 0, "reconcile", "nightly", "--max-share", "50%")
	l.does(t, 0, "verify", "nightly")
	l.does(t, 0, "query", "FROM contacts")
	for _, command := range [][]string{
		{"schema", "nightly"},
		{"schema", "--json", "nightly"},
		{"schema", "--dictionary", "-o", filepath.Join(l.dir, "dictionary.md")},
		{"runs"},
		{"runs", "--json"},
		{"state", "show", "pipeline.nightly"},
		{"state", "pull"},
		{"quarantine", "show", "contact-901"},
		{"quarantine", "retry", "nightly"}, // none of them is better by now
	} {
		l.keeps(t, 0, command...)
	}
	if out := l.does(t, 0, "quarantine", "list").out; !strings.Contains(out, "contact-90") {
		t.Errorf("nothing was set aside:\n%s", out)
	}
	l.enriched(t)
	if os.Getenv("SLUICE_SOAK") != "" {
		l.otherPolicies(t)
	}
	// What is removed is told by its columns and numbers.
	l.write(t, "pipelines.yaml", strings.ReplaceAll(l.read(t, "pipelines.yaml"), "{type: ", "{prevent_destroy: false, type: "))
	l.write(t, "pipelines.yaml", strings.Replace(l.read(t, "pipelines.yaml"), "{prevent_destroy: false, type: contacts_api", "{type: contacts_api", 1))
	l.service.Inject(bqtest.Fault{Call: "tables.delete", Skip: 4, Status: http.StatusForbidden, Reason: "accessDenied", Message: "no"})
	l.does(t, 1, "destroy", "--auto-approve")
	l.keeps(t, 0, "plan", "--no-data", "--json")
	l.does(t, 0, "destroy", "--auto-approve")
}

// enriched reads a table whose contacts are asked for one by one, and lists of
// stages: torn, refused, and with more in them than a stage has.
func (l *leakWorld) enriched(t *testing.T) {
	t.Helper()
	file := l.read(t, "pipelines.yaml")
	l.write(t, "pipelines.yaml", file+`  detailed: {source: crm, table: detailed, stages: steps, schema: contract.yaml, hash_key: "${HASH_KEY}", destinations: [lake, local], enrich: info}
`)
	const list = `[{"id": "7b1f5e0a-1111-4222-8333-123456789abc", "name": "Sales", "owner": "Planted Owner", "stages": [{"id": "7b1f5e0a-1111-4222-8333-123456789abd", "name": "New", "phone": "+56 9 8765 4321"}]}]`
	s := l.source
	s.mu.Lock()
	s.stages = append(s.stages,
		func(w http.ResponseWriter) { _, _ = w.Write([]byte(list[:len(list)-2])) },
		func(w http.ResponseWriter) { w.WriteHeader(http.StatusBadRequest); _, _ = w.Write([]byte(list)) },
		func(w http.ResponseWriter) { _, _ = w.Write([]byte(list)) },
	)
	s.noInfo = true
	s.mu.Unlock()
	l.does(t, 1, "run", "detailed")
	s.mu.Lock()
	s.noInfo = false
	s.mu.Unlock()
	l.keeps(t, 0, "plan", "detailed")
	l.does(t, 0, "run", "detailed")
	l.does(t, 0, "run", "detailed", "--full")
	l.does(t, 0, "query", "FROM detailed")
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.infos < 39 || len(s.stages) > 0 {
		t.Errorf("%d contacts were asked for by id, and %d lists of stages were not", s.infos, len(s.stages))
	}
	if got := rowsOf(t, "", "FROM read_parquet('"+filepath.Join(l.dir, "out", "steps", "*.parquet")+"')"); !strings.Contains(got, "Sales") {
		t.Errorf("the stages are %q", got)
	}
}

// planned makes plans in all forms, saved ones too.
func (l *leakWorld) planned(t *testing.T, name string) {
	t.Helper()
	l.keeps(t, 0, "plan")
	l.keeps(t, 0, "plan", "--json")
	l.does(t, 0, "plan", "--out", filepath.Join(l.dir, name))
	if !strings.Contains(l.read(t, name), `"syncs"`) {
		t.Errorf("%s holds no plan of what is read", name)
	}
}

// otherPolicies lets each policy hold for the columns that another has had.
func (l *leakWorld) otherPolicies(t *testing.T) {
	t.Helper()
	for i, turn := range []*strings.Replacer{
		strings.NewReplacer("policy: hash", "policy: mask", "policy: mask", "policy: drop", "policy: drop", "policy: hash"),
		strings.NewReplacer("policy: hash", "policy: drop", "policy: mask", "policy: hash", "policy: drop", "policy: mask"),
	} {
		l.write(t, "contract.yaml", turn.Replace(leakContract))
		name := fmt.Sprintf("policies-%d.plan", i)
		l.planned(t, name)
		l.does(t, 0, "apply", filepath.Join(l.dir, name))
	}
}

// interrupted begins a run that is stopped after some pages.
func (l *leakWorld) interrupted(t *testing.T, by os.Signal) {
	t.Helper()
	reached, goOn := make(chan struct{}), make(chan struct{})
	l.source.mu.Lock()
	from := l.source.pages
	l.source.hold = func(n int) {
		if n == from+4 {
			close(reached)
			<-goOn
		}
	}
	l.source.mu.Unlock()
	c := l.process(t, "run", "-v", "--log-format", "json", "-f", l.file())
	var out strings.Builder
	c.Stdout, c.Stderr = &out, &out
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	<-reached
	if err := c.Process.Signal(by); err != nil {
		t.Fatal(err)
	}
	close(goOn)
	if err := c.Wait(); err == nil {
		t.Fatal("the run was not stopped")
	}
	l.source.mu.Lock()
	l.source.hold = nil
	l.source.mu.Unlock()
	l.printed.WriteString(out.String())
	l.search(t, "a run stopped by "+by.String())
}
