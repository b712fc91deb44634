package parquet_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/schemas"
)

// oddPath is a directory whose name means something in SQL and in globs.
const oddPath = "o'dd [dir]*? ü"

func santiago(tb testing.TB) *time.Location {
	tb.Helper()
	loc, err := time.LoadLocation("America/Santiago")
	if err != nil {
		tb.Fatal(err)
	}
	return loc
}

// run executes views.sql of the table in dir.
func runViews(tb testing.TB, db *sql.DB, dir string) {
	tb.Helper()
	text, err := os.ReadFile(filepath.Join(dir, "views.sql"))
	if err != nil {
		tb.Fatal(err)
	}
	if _, err := db.Exec(string(text)); err != nil {
		tb.Fatalf("run views.sql: %v\n%s", err, text)
	}
}

// table prints a result, one row a line, values in the order of cols.
func table(tb testing.TB, db *sql.DB, q string, cols ...string) string {
	tb.Helper()
	var out []string
	for _, r := range query(tb, db, q) {
		var line []string
		for _, c := range cols {
			v, ok := r[c]
			if !ok {
				tb.Fatalf("%s: no column %s in %v", q, c, r)
			}
			if at, isTime := v.(time.Time); isTime {
				v = strings.TrimSuffix(at.Format(time.RFC3339), "T00:00:00Z")
			}
			line = append(line, fmt.Sprint(v))
		}
		out = append(out, strings.Join(line, " "))
	}
	return strings.Join(out, "\n")
}

func want(tb testing.TB, db *sql.DB, q, rows string, cols ...string) {
	tb.Helper()
	if d := cmp.Diff(strings.TrimSpace(rows), table(tb, db, q, cols...)); d != "" {
		tb.Errorf("%s (-want +got):\n%s", q, d)
	}
}

// viewed is a table with every kind of contact the views tell apart. Messages
// are dated from the real clock, as now() in the views is.
func viewed(tb testing.TB) (db *sql.DB, dir string) {
	tb.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	ago := func(days int) time.Time { return now.AddDate(0, 0, -days).Add(-time.Minute) }
	made := time.Date(2026, 5, 1, 2, 0, 0, 0, time.UTC) // April in Santiago
	l := open(tb, filepath.Join(tb.TempDir(), oddPath), func(o *parquet.Options) { o.Timezone = santiago(tb) })
	ana := loadtest.Contact("ana", made, made, "name", "Ana", "platform", "whatsapp", "chat_status", "UNATTENDED", "last_message_at", ago(2),
		"ai_customer_id", "k1", "active_ticket_v2_id", "t1", "active_ticket_v2_current_stage_id", "s1", "phone", "+56 1")
	anaIG := loadtest.Contact("ana-ig", made.AddDate(0, 1, 0), made, "name", "ana_ig", "platform", "instagram", "chat_status", "ATTENDED", "last_message_at", ago(60), "ai_customer_id", "k1", "email", "ana@example.org")
	bo := loadtest.Contact("bo", made.AddDate(0, 1, 0), made, "name", "Bo", "platform", "whatsapp", "chat_status", "UNATTENDED", "last_message_at", ago(40), "ai_customer_id", "k2",
		"active_ticket_v2_id", "t2", "active_ticket_v2_current_stage_id", "s1")
	cy := loadtest.Contact("cy", made.AddDate(0, 1, 0), made, "name", "Cy", "platform", "whatsapp", "active_ticket_v2_id", "t3", "active_ticket_v2_current_stage_id", "s2")
	blocked := loadtest.Contact("blocked", made, made, "platform", "whatsapp", "blocked", true, "last_message_at", ago(1))
	play := loadtest.Contact("play", made, made, "platform", "playground", "last_message_at", ago(1))
	gone := loadtest.Contact("gone", made, made, "name", "Gone", "platform", "sms", "blocked", false)
	commit(tb, l, loadtest.Build(tb, loadtest.Spec{
		Serial: 1, Extracted: time.Date(2026, 9, 1, 1, 0, 0, 0, time.UTC), Coverage: []byte(`{"run_id": "run-001", "walks": [{"rows": 7}]}`),
		Rows: []loadtest.Row{ana.With("name", "Anna"), anaIG, bo, blocked, play, gone},
	}))
	commit(tb, l, loadtest.Build(tb, loadtest.Spec{
		Serial: 2, Extracted: time.Date(2026, 9, 2, 12, 0, 0, 0, time.UTC), Coverage: []byte(`{"run_id": "run-002", "other": "shape"}`),
		Rows: []loadtest.Row{ana.With("updated_at", made.Add(time.Hour)), bo, cy, gone.With(schemas.ColDeletedAt, made.Add(time.Hour), schemas.ColHash, loadtest.Hash(gone))},
	}))
	db = duck(tb)
	runViews(tb, db, l.Dir())
	return db, l.Dir()
}

func TestViewsShowContacts(t *testing.T) {
	db, _ := viewed(t)
	want(t, db, "FROM contacts ORDER BY id", `
ana Ana 2026-04-30
ana-ig ana_ig 2026-05-31
bo Bo 2026-05-31
cy Cy 2026-05-31`, "id", "name", "created_date")
	want(t, db, "FROM contacts_all ORDER BY id", "ana\nana-ig\nblocked\nbo\ncy\ngone\nplay", "id")
	want(t, db, "SELECT id, name, _sluice_deleted_at IS NOT NULL AS dead FROM contacts_history ORDER BY id, _sluice_package", `
ana Anna false
ana Ana false
ana-ig ana_ig false
blocked <nil> false
bo Bo false
cy Cy false
gone Gone false
gone Gone true
play <nil> false`, "id", "name", "dead")
	want(t, db, "SELECT typeof(created_date) AS t, count(*) AS n FROM contacts GROUP BY ALL", "DATE 4", "t", "n")
}

func TestViewsShowTheTableAsOfATime(t *testing.T) {
	db, _ := viewed(t)
	want(t, db, "FROM contacts_as_of('2026-08-31') ORDER BY id", "", "id")
	want(t, db, "FROM contacts_as_of(TIMESTAMPTZ '2026-09-01 01:00:00Z') ORDER BY id", "ana Anna\nana-ig ana_ig\nblocked <nil>\nbo Bo\ngone Gone\nplay <nil>", "id", "name")
	want(t, db, "FROM contacts_as_of('2026-09-03') ORDER BY id", "ana Ana\nana-ig ana_ig\nblocked <nil>\nbo Bo\ncy Cy\nplay <nil>", "id", "name")
	want(t, db, "SELECT count(*) AS n FROM contacts_as_of(now()) a JOIN contacts_all c USING (id, _sluice_hash, _sluice_package, _sluice_row)", "6", "n")
}

func TestViewsFollowTheOrderOfRows(t *testing.T) {
	l := open(t, t.TempDir(), on(unsynced{}))
	future := time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)
	hour := func(n int) time.Time { return loadtest.Epoch.Add(time.Duration(n) * time.Hour) }
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 1, Extracted: hour(2), Rows: []loadtest.Row{
		contact("corrected", 1, 0, schemas.ColUpdatedAt, future, "name", "wrong"), contact("backfilled", 1, 0, "name", "read at 2"),
	}}))
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 2, Extracted: hour(1), Rows: []loadtest.Row{
		contact("backfilled", 1, 0, "name", "read at 1"), contact("again", 1, 0, "name", "first"),
	}}))
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 3, Extracted: hour(4), Rows: []loadtest.Row{
		contact("corrected", 1, 3, "name", "right"), contact("again", 1, 0, "name", "second"), contact("again", 1, 0, "name", "first", schemas.ColExtractedAt, hour(5)),
	}}))
	for i, id := range []string{"in order", "reversed"} { // as parts of windows read side by side may be
		p := loadtest.Build(t, loadtest.Spec{Serial: int64(4 + i), Extracted: hour(9), PartRows: 1, Rows: []loadtest.Row{
			contact(id, 1, 0, "name", "first"), contact(id, 1, 0, "name", "second"),
		}})
		if id == "reversed" {
			slices.Reverse(p.Parts)
		}
		commit(t, l, p)
	}
	db := duck(t)
	runViews(t, db, l.Dir())
	want(t, db, "FROM contacts_as_of('2026-09-01 01:30:00Z') ORDER BY id", "again first\nbackfilled read at 1", "id", "name")
	want(t, db, "FROM contacts_as_of('2026-09-01 02:30:00Z') ORDER BY id", "again first\nbackfilled read at 2\ncorrected wrong", "id", "name")
	want(t, db, "FROM contacts_as_of('2026-09-01 04:30:00Z') ORDER BY id", "again second\nbackfilled read at 2\ncorrected right", "id", "name")
	want(t, db, "FROM contacts_as_of('2026-09-01 05:30:00Z') ORDER BY id", "again first\nbackfilled read at 2\ncorrected right", "id", "name")
	want(t, db, "FROM contacts_as_of('2026-09-02') WHERE id IN ('in order', 'reversed') ORDER BY id", "in order second\nreversed second", "id", "name")
	want(t, db, "FROM contacts_history WHERE id = 'again' ORDER BY name", "first 2\nsecond 3", "name", "_sluice_package")
}

func TestTheTableAsOfNowIsTheTable(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	l := open(t, t.TempDir(), on(unsynced{}))
	for serial := range int64(6) {
		var rows []loadtest.Row
		for range 80 {
			r := contact(fmt.Sprint(rnd.IntN(20)), 1, rnd.IntN(4), "name", fmt.Sprint(rnd.IntN(3)))
			if rnd.IntN(6) == 0 {
				r = r.With(schemas.ColDeletedAt, loadtest.Epoch, schemas.ColHash, loadtest.Hash(r))
			}
			rows = append(rows, r.With(schemas.ColExtractedAt, loadtest.Epoch.Add(time.Duration(1+rnd.IntN(3))*time.Hour)))
		}
		commit(t, l, build(t, serial+1, rows...))
	}
	db := duck(t)
	runViews(t, db, l.Dir())
	live := query(t, db, "FROM contacts_all WHERE _sluice_deleted_at IS NULL ORDER BY id")
	if d := cmp.Diff(live, query(t, db, "FROM contacts_as_of(now()) ORDER BY id")); d != "" || len(live) == 0 {
		t.Errorf("as of now (-table +as of):\n%s", d)
	}
}

func TestViewsAnswerAnalysts(t *testing.T) {
	db, _ := viewed(t)
	want(t, db, "FROM customers ORDER BY 1", `
k1 2 [instagram whatsapp] Ana +56 1 ana@example.org 1 [ana ana-ig]
k2 1 [whatsapp] Bo <nil> <nil> 1 [bo]`, "ai_customer_id", "contacts", "platforms", "name", "phone", "email", "open_tickets", "contact_ids")
	want(t, db, "FROM active(30) ORDER BY id", "ana", "id")
	want(t, db, "FROM active(50) ORDER BY id", "ana\nbo", "id")
	want(t, db, "FROM engagement_by_channel", `
whatsapp 3 1 1 33.3 2 3
instagram 1 0 0 0 0 0`, "platform", "contacts", "active_7d", "active_30d", "active_30d_percent", "unattended", "open_tickets")
	want(t, db, "SELECT id, waiting_hours >= 960 AS long FROM unattended", "bo true\nana false", "id", "long")
	want(t, db, "FROM reengagement(30)", "bo", "id")
	want(t, db, "FROM reengagement(1)", "ana\nbo\nana-ig", "id")
	want(t, db, "FROM stage_funnel", "s1 2 66.7\ns2 1 33.3", "stage_id", "contacts", "percent")
	want(t, db, "FROM new_and_updated", "2026-08-31 6 0 0\n2026-09-02 1 1 1", "day", "new_contacts", "updated_contacts", "deleted_contacts")
	want(t, db, "SELECT run_id, coverage->>'run_id' AS inside FROM runs ORDER BY 1", "run-001 run-001\nrun-002 run-002", "run_id", "inside")
	want(t, db, "SELECT platform, sum(active_contacts)::BIGINT AS active, sum(new_contacts)::BIGINT AS created FROM activity_daily GROUP BY ALL ORDER BY 1",
		"instagram 1 1\nsms 0 1\nwhatsapp 3 4", "platform", "active", "created")
	want(t, db, "FROM activity_daily WHERE new_contacts > 0", `
2026-04-30 sms 1
2026-04-30 whatsapp 2
2026-05-31 instagram 1
2026-05-31 whatsapp 2`, "day", "platform", "new_contacts")
}

func TestViewsDoNotDependOnTheSession(t *testing.T) {
	db, _ := viewed(t)
	const q = "SELECT id, created_date FROM contacts ORDER BY id"
	before := table(t, db, q, "id", "created_date")
	if _, err := db.Exec("SET TimeZone = 'Asia/Tokyo'"); err != nil {
		t.Fatal(err)
	}
	want(t, db, q, before, "id", "created_date")
}

func TestSilenceIsCountedInDaysOfTheTimezoneAndWaitingInFullMinutes(t *testing.T) {
	l := open(t, t.TempDir(), func(o *parquet.Options) { o.Timezone = santiago(t) })
	seen := time.Date(2026, 8, 30, 5, 0, 59, 0, time.UTC) // one at night there
	row := loadtest.Contact("a", seen, seen, "chat_status", "UNATTENDED", "last_message_at", seen, "platform", nil, "ai_customer_id", "k")
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: []loadtest.Row{row}}))
	db := duck(t)
	runViews(t, db, l.Dir())
	at := func(now string) {
		if _, err := db.Exec("CREATE OR REPLACE TEMP MACRO now() AS TIMESTAMPTZ '" + now + "'"); err != nil {
			t.Fatal(err)
		}
	}
	for _, zone := range []string{"UTC", "Asia/Tokyo"} {
		if _, err := db.Exec("SET TimeZone = '" + zone + "'"); err != nil {
			t.Fatal(err)
		}
		at("2026-09-01 03:00:00Z") // the day after, late in the evening there
		want(t, db, "FROM reengagement(1)", "a 1", "id", "silent_days")
		at("2026-08-30 05:03:00Z")
		want(t, db, "FROM unattended", "a 0", "id", "waiting_hours")
		at("2026-08-30 05:03:59Z")
		want(t, db, "FROM unattended", "a 0.1", "id", "waiting_hours")
	}
	want(t, db, "FROM customers", "k 1 <nil>", "ai_customer_id", "contacts", "platforms") // as in BigQuery, whose arrays have no NULL
}

func TestEveryViewIsExplainedAndRuns(t *testing.T) {
	db, dir := viewed(t)
	m, err := parquet.OpenManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	empty := parquet.ViewsOptions{Root: dir, Table: "contacts", Columns: m.Schema}
	fresh := duck(t)
	if _, err := fresh.Exec(parquet.Views(empty)); err != nil {
		t.Fatalf("views of an empty table: %v", err)
	}
	comments := map[string]any{}
	for _, r := range query(t, db, "SELECT view_name AS n, comment FROM duckdb_views() WHERE NOT internal UNION ALL SELECT function_name, comment FROM duckdb_functions() WHERE NOT internal") {
		comments[fmt.Sprint(r["n"])] = r["comment"]
	}
	views := parquet.ListViews(parquet.ViewsFor(dir, m))
	if len(views) != len(comments) {
		t.Errorf("%d views are listed, %d exist: %v", len(views), len(comments), comments)
	}
	for _, v := range views {
		name, _, macro := strings.Cut(v.Name, "(")
		if comments[name] != v.Comment || v.Comment == "" {
			t.Errorf("%s has the comment %q, want %q", name, comments[name], v.Comment)
		}
		call := name
		if macro {
			call += "(3)"
			if strings.HasSuffix(name, "_as_of") {
				call = name + "(now())"
			}
		}
		full, none := query(t, db, "FROM "+call), query(t, fresh, "FROM "+call)
		if len(full) == 0 {
			t.Errorf("%s is empty", call)
		}
		if len(none) != 0 {
			t.Errorf("%s of an empty table has %d rows", call, len(none))
		}
	}
}

func TestViewsOfSeveralTablesStandInTheirSchemas(t *testing.T) {
	_, dir := viewed(t)
	m, err := parquet.OpenManifest(dir)
	if err != nil {
		t.Fatal(err)
	}
	db := duck(t)
	for _, schema := range []string{"one", `t"wo`} {
		o := parquet.ViewsFor(dir, m)
		o.Schema = schema
		o.HasCurrent = schema == "one"
		if _, err := db.Exec(parquet.Views(o)); err != nil {
			t.Fatal(err)
		}
	}
	want(t, db, `SELECT (SELECT count(*) FROM one.contacts) AS a, (SELECT count(*) FROM "t""wo".contacts) AS b, (SELECT count(*) FROM one.active(30)) AS c`, "4 0 1", "a", "b", "c")
	want(t, db, `SELECT count(*) AS n FROM one.customers`, "2", "n")
}

func TestViewsAdaptToTheContract(t *testing.T) {
	columns := loadtest.Table()
	columns.Columns = slices.DeleteFunc(columns.Columns, func(c schemas.Column) bool {
		return c.Origin == schemas.FromContract && !c.Required
	})
	o := parquet.ViewsOptions{Root: "/nowhere", Table: "runs", Columns: columns}
	db := duck(t)
	if _, err := db.Exec(parquet.Views(o)); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, v := range parquet.ListViews(o) {
		names = append(names, v.Name)
	}
	if d := cmp.Diff([]string{"runs_all", "runs", "runs_history", "runs_as_of(t)", "new_and_updated", "runs_runs"}, names); d != "" {
		t.Errorf("views (-want +got):\n%s", d)
	}
	if sql := parquet.Views(parquet.ViewsOptions{Root: "/nowhere", Table: "contacts"}); strings.Contains(sql, "CREATE") {
		t.Errorf("a table without columns has views:\n%s", sql)
	}
}

func TestHistoryViewKnowsColumnsThatNoVersionHasYet(t *testing.T) {
	l := open(t, t.TempDir())
	rows := []loadtest.Row{loadtest.Contact("a", loadtest.Epoch, loadtest.Epoch)}
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: rows}))
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 2, Rows: rows, Extra: []schemas.Column{loadtest.Extra("cf_ticket_new", schemas.Float64)}}))
	db := duck(t)
	runViews(t, db, l.Dir())
	want(t, db, "SELECT typeof(cf_ticket_new) AS t, cf_ticket_new AS v FROM contacts_history", "DOUBLE <nil>", "t", "v")
	want(t, db, "SELECT typeof(cf_ticket_new) AS t, cf_ticket_new AS v FROM contacts", "DOUBLE <nil>", "t", "v")
}
