//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"database/sql"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	_ "github.com/duckdb/duckdb-go/v2" // the other side
	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/duckdb"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/schemas"
)

// oddPrefix begins the keys of rows for columns that share their names with
// something of the views' own.
const oddPrefix = "odd "

// exports are two packages with everything that the views look at, as of now,
// under a contract that renames columns, or under the usual one.
func exports(t *testing.T, now time.Time, renamed map[string]string, extra ...schemas.Column) (first, second load.Package) {
	t.Helper()
	ago := func(days float64) time.Time {
		return now.Add(-time.Duration(days * float64(24*time.Hour))).Truncate(time.Microsecond)
	}
	contact := func(id string, created, updated float64, pairs ...any) loadtest.Row {
		return loadtest.Contact(id, ago(created), ago(updated), pairs...)
	}
	rows := []loadtest.Row{
		contact("a", 400, 3, "name", "Ana", "phone", "+56 1", "platform", "whatsapp", "last_message_at", ago(3), "ai_customer_id", "c1", "chat_status", "UNATTENDED"),
		contact("b", 300, 100, "name", "Ana M", "email", "a@x", "platform", "instagram", "last_message_at", ago(100), "ai_customer_id", "c1", "chat_status", "ATTENDED"),
		contact("c", 200, 90, "platform", "whatsapp", "last_message_at", ago(90), "ai_customer_id", "c2", "active_ticket_v2_id", "t1", "active_ticket_v2_current_stage_id", "s1"),
		contact("d", 100, 80, "platform", "whatsapp", "last_message_at", ago(80), "active_ticket_v2_id", "t2", "active_ticket_v2_current_stage_id", "s1"),
		contact("e", 90, 50, "name", "blocked", "platform", "whatsapp", "blocked", true, "last_message_at", ago(1), "active_ticket_v2_id", "t3"),
		contact("f", 80, 50, "platform", "playground", "last_message_at", ago(1)),
		contact("g", 70, 20, "last_message_at", ago(20), "active_ticket_v2_id", "t4", "chat_status", "UNATTENDED"),
		contact("h", 60, 55, "name", "it's \\ \"h\"", "platform", "sms", "ai_customer_id", "c3", "chat_status", "ATTENDED"),
		contact("i", 60, 55, "platform", "sms", "ai_customer_id", "c3", "name", "second", "last_message_at", ago(54)),
	}
	coverage := func(run string) []byte {
		return fmt.Appendf(nil, `{"run_id": %q, "requests": 3, "share": 0.1, "windows": [{"from": "x"}]}`, run)
	}
	fill := func(r loadtest.Row) loadtest.Row {
		for old, name := range renamed {
			if strings.HasPrefix(old, oddPrefix) {
				r = r.With(old, "odd "+name)
			}
		}
		return r
	}
	for i := range rows {
		rows[i] = fill(rows[i])
	}
	first = loadtest.Build(t, loadtest.Spec{Serial: 1, Extracted: ago(2), Renamed: renamed, Extra: extra, Rows: rows, Coverage: coverage("run-001")})
	second = loadtest.Build(t, loadtest.Spec{
		Serial: 2, Extracted: ago(1), Coverage: coverage("run-002"),
		Renamed: renamed, Extra: append(slices.Clone(extra), loadtest.Extra("cf_customer_plan_at", schemas.Timestamp)),
		Rows: []loadtest.Row{
			rows[0].With(schemas.ColUpdatedAt, ago(1.5), "chat_status", "ATTENDED", "last_message_at", ago(1.5), "cf_customer_plan_at", ago(1.5)),
			rows[3].With(schemas.ColDeletedAt, ago(1)),
			fill(contact("j", 1.2, 1.1, "platform", "webchat", "last_message_at", ago(1.1), "chat_status", "UNATTENDED")),
		},
	})
	return first, second
}

// viewQueries ask each view for all that it has, in the words of both.
func viewQueries(mid time.Time) map[string][2]string {
	dates := "last_message_date, created_date, updated_date, cf_customer_plan_date"
	text := func(columns string) (duck, bq string) {
		var a, b []string
		for c := range strings.SplitSeq(columns, ", ") {
			a, b = append(a, "CAST("+c+" AS VARCHAR)"), append(b, "CAST("+c+" AS STRING)")
		}
		return strings.Join(a, ", "), strings.Join(b, ", ")
	}
	dd, bd := text(dates)
	dday, bday := text("day")
	same := func(duck, bq string) [2]string { return [2]string{duck, bq} }
	at := mid.UTC().Format("2006-01-02 15:04:05.999999+00")
	rows := "id, name, phone, platform, last_message_at, chat_status, created_at, updated_at, ai_customer_id, blocked, _sluice_package, _sluice_change, _sluice_deleted_at, "
	stages := "stage_name, stage_position, pipeline_id, pipeline_name, "
	customers := "SELECT ai_customer_id, contacts, %s, name, phone, email, first_seen_at, last_message_at, open_tickets, %s FROM "
	engagement := "SELECT platform, contacts, active_7d, active_30d, active_30d_percent, unattended, open_tickets, last_message_at FROM "
	changes := "SELECT %s, new_contacts, updated_contacts, deleted_contacts FROM "
	daily := "SELECT %s, platform, active_contacts, new_contacts FROM "
	return map[string][2]string{
		"_all":           same("SELECT "+rows+dd+" FROM contacts_all", "SELECT "+rows+bd+" FROM T_all"),
		"_active":        same("SELECT "+rows+stages+dd+" FROM contacts", "SELECT "+rows+stages+bd+" FROM T_active"),
		"_as_of":         same("SELECT "+rows+dd+" FROM contacts_as_of('"+at+"')", "SELECT "+rows+bd+" FROM T_as_of(TIMESTAMP '"+at+"')"),
		"_as_of now":     same("SELECT "+rows+dd+" FROM contacts_as_of(now())", "SELECT "+rows+bd+" FROM T_as_of(CURRENT_TIMESTAMP())"),
		"_active_within": same("SELECT "+rows+dd+" FROM active(30)", "SELECT "+rows+bd+" FROM T_active_within(30)"),
		"_reengagement":  same("SELECT id, silent_days FROM reengagement(30)", "SELECT id, silent_days FROM T_reengagement(30)"),
		"_unattended":    same("SELECT id, round(waiting_hours) FROM unattended", "SELECT id, ROUND(waiting_hours) FROM T_unattended"),
		"_customers": same(fmt.Sprintf(customers, "array_to_string(platforms, ',')", "array_to_string(contact_ids, ',')")+"customers",
			fmt.Sprintf(customers, "ARRAY_TO_STRING(platforms, ',')", "ARRAY_TO_STRING(contact_ids, ',')")+"T_customers"),
		"_activity_daily":        same(fmt.Sprintf(daily, dday)+"activity_daily", fmt.Sprintf(daily, bday)+"T_activity_daily"),
		"_engagement_by_channel": same(engagement+"engagement_by_channel", engagement+"T_engagement_by_channel"),
		"_stage_funnel":          same("SELECT stage_id, "+stages+"contacts, percent, longest_unchanged_since FROM stage_funnel", "SELECT stage_id, "+stages+"contacts, percent, longest_unchanged_since FROM T_stage_funnel"),
		"_new_and_updated":       same(fmt.Sprintf(changes, dday)+"new_and_updated", fmt.Sprintf(changes, bday)+"T_new_and_updated"),
		"_runs": same("SELECT run_id, coverage->>'$.requests', coverage->>'$.windows[0].from' FROM runs",
			"SELECT run_id, JSON_VALUE(coverage, '$.requests'), JSON_VALUE(coverage, '$.windows[0].from') FROM T_runs"),
	}
}

// viewedWarehouse is a warehouse over a stand-in of its own.
func viewedWarehouse(t *testing.T, zone *time.Location) *Loader {
	t.Helper()
	s, err := bqtest.Start(t.Context(), bqtest.Options{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := New(t.Context(), Options{
		Project: s.Project(), Dataset: "crm", Table: "contacts", CreateDataset: true, Method: Stream, Timezone: zone,
		Endpoint: s.URL(), GRPCEndpoint: s.Addr(), Stages: loadtest.StagesTable,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		for _, c := range []io.Closer{l, s} {
			if err := c.Close(); err != nil {
				t.Error(err)
			}
		}
	})
	return l
}

// readOnly opens a database file, or none at all, as an analyst does.
func readOnly(t *testing.T, file string) *sql.DB {
	t.Helper()
	if file != "" {
		file += "?access_mode=READ_ONLY"
	}
	db, err := sql.Open("duckdb", file)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	})
	db.SetMaxOpenConns(1)
	if _, err := db.ExecContext(t.Context(), "SET TimeZone = 'UTC'"); err != nil {
		t.Fatal(err)
	}
	return db
}

// inWarehouse gives the views of a query the names that they have in BigQuery.
func inWarehouse(l *Loader, q string) string {
	prefix := l.o.quoted("contacts")
	q = strings.ReplaceAll(q, " T_", " "+strings.TrimSuffix(prefix, "`")+"_")
	// The name ends where the query or its arguments do.
	at := strings.Index(q, prefix[:len(prefix)-1]) + len(prefix) - 1
	end := at + strings.IndexFunc(q[at:]+" ", func(c rune) bool { return c != '_' && (c < 'a' || c > 'z') })
	return q[:end] + "`" + q[end:]
}

// Both destinations get the same packages; each view has to give the same rows.
func TestTheViewsAnswerAsThoseOfDuckDBDo(t *testing.T) {
	t.Parallel()
	now := time.Now()
	zone := time.UTC
	warehouse := viewedWarehouse(t, zone)
	file := filepath.Join(t.TempDir(), "crm.duckdb")
	local, err := duckdb.New(duckdb.Options{Path: file, Table: "contacts", Timezone: zone, Stages: loadtest.StagesTable})
	if err != nil {
		t.Fatal(err)
	}
	first, second := exports(t, now, nil)
	for _, p := range []load.Package{first, second} {
		for _, l := range []load.Loader{warehouse, local} {
			if _, err := l.Commit(t.Context(), p); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, l := range []load.StageKeeper{warehouse, local} {
		if err := l.ReplaceStages(t.Context(), loadtest.StagesOf("run-002")); err != nil {
			t.Fatal(err)
		}
	}
	if err := local.Close(); err != nil {
		t.Fatal(err)
	}
	db := readOnly(t, file)
	asked := viewQueries(now.Add(-36 * time.Hour))
	for _, v := range viewsSQL(viewOptions{Table: "contacts", Columns: second.Table}) {
		if _, ok := asked[strings.TrimPrefix(v.Name, "contacts")]; !ok {
			t.Errorf("%s is not compared", v.Name)
		}
	}
	for name, q := range asked {
		want, got := askDuckDB(t, db, q[0]), askWarehouse(t, warehouse, inWarehouse(warehouse, q[1]))
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%s (-DuckDB +BigQuery):\n%s", name, d)
		}
		if len(want) == 0 {
			t.Errorf("%s compares nothing", name)
		}
	}
}

// spelled is a row as text, comparable whatever driver it came from.
func spelled(row []any) string {
	var b strings.Builder
	for _, v := range row {
		if at, ok := v.(time.Time); ok {
			v = at.UTC().Format(time.RFC3339Nano)
		}
		fmt.Fprintf(&b, "%v | ", v)
	}
	return b.String()
}

func askDuckDB(t *testing.T, db *sql.DB, q string) map[string]int {
	t.Helper()
	rows, err := db.QueryContext(t.Context(), q)
	if err != nil {
		t.Fatalf("%s: %v", q, err)
	}
	defer func() { _ = rows.Close() }()
	columns, err := rows.Columns()
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]int{}
	for rows.Next() {
		values, into := make([]any, len(columns)), make([]any, len(columns))
		for i := range values {
			into[i] = &values[i]
		}
		if err := rows.Scan(into...); err != nil {
			t.Fatal(err)
		}
		out[spelled(values)]++
	}
	if err := rows.Err(); err != nil {
		t.Fatal(err)
	}
	return out
}

func askWarehouse(t *testing.T, l *Loader, q string) map[string]int {
	t.Helper()
	result, _, err := l.query(t.Context(), q)
	if err != nil {
		t.Errorf("%s: %v", q, err)
		return nil
	}
	out := map[string]int{}
	if err := result.each(t.Context(), func(row []any) error { out[spelled(row)]++; return nil }); err != nil {
		t.Errorf("%s: %v", q, err)
	}
	return out
}
