//go:build cgo

package duckdb_test

import (
	"database/sql"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/duckdb"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/schemas"
)

// TestEveryViewShowsWhatItShowsOverParquet commits the same packages to both
// destinations and compares types and rows of every view, and the results.
func TestEveryViewShowsWhatItShowsOverParquet(t *testing.T) {
	t.Parallel()
	rnd := seeded(t)
	zone, err := time.LoadLocation("America/Santiago")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "contacts.duckdb")
	lake, err := parquet.New(parquet.Options{Path: filepath.Join(dir, "lake"), Table: "contacts", Timezone: zone})
	if err != nil {
		t.Fatal(err)
	}
	l := open(t, path, func(o *duckdb.Options) { o.Timezone = zone })
	for serial := int64(1); serial <= 4; serial++ {
		p := reportPackage(t, rnd, serial)
		want, err := lake.Commit(t.Context(), p)
		if err != nil {
			t.Fatal(err)
		}
		got := commit(t, l, p)
		want.Files, got.Files = nil, nil
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("package %d (-parquet +duckdb):\n%s", serial, d)
		}
	}
	text, err := os.ReadFile(filepath.Join(lake.Dir(), "views.sql"))
	if err != nil {
		t.Fatal(err)
	}
	m, err := parquet.OpenManifest(lake.Dir())
	if err != nil {
		t.Fatal(err)
	}
	with(t, "", func(db *sql.DB) {
		script := fmt.Sprintf("SET TimeZone = 'UTC'; ATTACH '%s' AS crm (READ_ONLY); CREATE SCHEMA memory.lake; USE memory.lake; %s", path, text)
		if _, err := db.Exec(script); err != nil {
			t.Fatal(err)
		}
		at := time.Now().UTC().Format(time.RFC3339)
		queries := []string{"FROM contacts_as_of('2026-09-01 02:30:00+00')"}
		for _, v := range parquet.ListViews(parquet.ViewsFor(lake.Dir(), m)) {
			name, _, macro := strings.Cut(v.Name, "(")
			switch {
			case strings.HasSuffix(name, "_as_of"):
				name += "('" + at + "')"
			case macro:
				name += "(30)"
			}
			queries = append(queries, "FROM "+name)
		}
		answers := map[string]map[string][]string{}
		for _, place := range []string{"memory.lake", "crm.main"} {
			answers[place] = map[string][]string{}
			if _, err := db.Exec("USE " + place); err != nil {
				t.Fatal(err)
			}
			for _, q := range queries {
				rows := q
				if q == "FROM customers" { // of contacts equally late, any may give the name
					rows = "SELECT * EXCLUDE (name, phone, email) " + q
				}
				for _, r := range ask(t, db, "SELECT CAST(t AS VARCHAR) AS line FROM ("+rows+") t ORDER BY ALL") {
					line := fmt.Sprint(r["line"])
					if cut := strings.LastIndex(line, ", 'waiting_hours'"); cut >= 0 {
						line = line[:cut] // of now
					}
					answers[place][q] = append(answers[place][q], line)
				}
				for _, r := range ask(t, db, "SELECT column_name || ' ' || column_type AS line FROM (DESCRIBE "+q+")") {
					answers[place][q] = append(answers[place][q], fmt.Sprint(r["line"]))
				}
			}
		}
		for _, q := range queries {
			if d := cmp.Diff(answers["memory.lake"][q], answers["crm.main"][q]); d != "" {
				t.Errorf("%s (-parquet +duckdb):\n%s", q, d)
			}
			if len(ask(t, db, q)) == 0 {
				t.Errorf("%s is empty", q)
			}
		}
	})
	comments := lines(t, path, "SELECT column_name, comment FROM duckdb_columns() WHERE table_name IN ('contacts__current', 'contacts__history') AND comment IS NOT NULL AND column_name IN ('name', 'cf_customer_4', '_sluice_row') ORDER BY ALL")
	want := []string{
		"{'column_name': _sluice_row, 'comment': Order of arrival within the package}", "{'column_name': _sluice_row, 'comment': Order of arrival within the package}",
		"{'column_name': cf_customer_4, 'comment': 'It\\'s new'}", "{'column_name': cf_customer_4, 'comment': 'It\\'s new'}",
		"{'column_name': name, 'comment': Name as the channel gives it}", "{'column_name': name, 'comment': Name as the channel gives it}",
	}
	if d := cmp.Diff(want, comments); d != "" {
		t.Errorf("descriptions (-want +got):\n%s", d)
	}
}

// reportPackage has contacts of every kind that the reports tell apart, with
// ids, times and contents that collide.
func reportPackage(t *testing.T, rnd *rand.Rand, serial int64) load.Package {
	t.Helper()
	now := time.Now().UTC().Truncate(time.Second)
	var extra []schemas.Column
	for i, typ := range []schemas.Type{schemas.String, schemas.JSON, schemas.Float64, schemas.Date}[:serial] {
		c := loadtest.Extra(fmt.Sprintf("cf_customer_%d", i+1), typ)
		c.Description = "It's new"
		extra = append(extra, c)
	}
	pick := func(list ...any) any { return list[rnd.IntN(len(list))] }
	s := loadtest.Spec{Serial: serial, Extra: extra, PartRows: 40, Coverage: fmt.Appendf(nil, `{"run_id": "run-%03d", "walks": []}`, serial)}
	for range 150 {
		id := rnd.IntN(60)
		r := loadtest.Contact(fmt.Sprintf("c%02d", id), loadtest.Epoch.AddDate(0, -id%5, -id), loadtest.Epoch.Add(time.Duration(rnd.IntN(5)-2)*time.Hour),
			"name", pick("Ana", "Bo", nil), "platform", pick("whatsapp", "instagram", "playground"), "chat_status", pick("UNATTENDED", "ATTENDED"),
			"last_message_at", pick(now.AddDate(0, 0, -3), now.AddDate(0, 0, -50), nil), "blocked", pick(true, false, false, nil),
			"ai_customer_id", pick(fmt.Sprint("k", id/2), nil), "active_ticket_v2_id", pick("t", nil), "active_ticket_v2_current_stage_id", pick("s1", "s2", nil))
		if serial > 1 {
			r["cf_customer_2"] = pick(`{"a": [1]}`, nil)
		}
		if rnd.IntN(6) == 0 {
			r[schemas.ColDeletedAt] = loadtest.Epoch
		}
		s.Rows = append(s.Rows, r)
	}
	return loadtest.Build(t, s)
}
