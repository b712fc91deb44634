package bigquery

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	sqlviews "github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

// viewOptions describe the tables that views are written for.
type viewOptions struct {
	// Project, Dataset and Table name the table of current rows. Required.
	Project, Dataset, Table string
	// Columns are the table's columns. Views find those that they reckon with by
	// the field that each is filled from; one that needs a field which the table
	// lacks is left out.
	Columns schemas.Table
	// Timezone gives the calendar of *_date columns. Default, also for
	// time.Local: UTC.
	Timezone *time.Location
	// Labels are set on views; functions cannot have any.
	Labels map[string]string
	// Stages names the dataset's table of stages. Empty: there is none, and views
	// name no stages.
	Stages string
	// Taken are names that something else has in the dataset: such a view is
	// left out, and so are those that read it.
	Taken []string
}

// view is a view, or a table function, over a table.
type view struct {
	Name     string // in the dataset, without parameters
	Params   string // of a function, as declared: "t TIMESTAMP"; empty for a view
	Function bool
	SQL      string // one statement, which replaces the view
	Comment  string // its description
}

// viewMark ends the description of everything that viewsSQL makes: CREATE OR
// REPLACE must not take the name of something that a user made, and a function
// has no labels.
const viewMark = "Made by sluice, which replaces it when columns are added."

// ownView reports whether a view or function of the given description is one
// that viewsSQL made.
func ownView(description string) bool { return strings.HasSuffix(description, viewMark) }

// viewsSQL returns the views of a table in an order in which each can be made,
// none where the table lacks what every exported table has.
func viewsSQL(o viewOptions) []view {
	w := &viewWriter{o: o, zone: sqlviews.Zone(o.Timezone)}
	if !w.has(schemas.ColID, schemas.ColCreatedAt, schemas.ColUpdatedAt, schemas.ColDeletedAt, schemas.ColExtractedAt, schemas.ColHash) {
		return nil
	}
	w.rowViews()
	w.contactViews()
	w.reportViews()
	w.runViews()
	return w.out
}

// viewWriter spells the views of one table.
type viewWriter struct {
	o    viewOptions
	zone string
	out  []view
	left []string // out, because their name is taken
}

// spec is a view before it is spelled out.
type spec struct {
	suffix, params, comment, body string
	needs                         []sqlviews.Field // fields of a contact
	reads                         []string         // suffixes of views
}

func (w *viewWriter) add(s spec) {
	name := w.o.Table + s.suffix
	if slices.ContainsFunc(w.o.Taken, func(t string) bool { return strings.EqualFold(t, name) }) ||
		slices.ContainsFunc(s.reads, func(r string) bool { return slices.Contains(w.left, r) }) {
		w.left = append(w.left, s.suffix)
		return
	}
	if !w.suit(s.needs...) {
		return
	}
	v := view{Name: name, Params: s.params, Function: s.params != "", Comment: s.comment + " " + viewMark}
	options := "description=" + w.text(v.Comment)
	if v.Function {
		v.SQL = fmt.Sprintf("CREATE OR REPLACE TABLE FUNCTION %s(%s)\nOPTIONS (%s)\nAS\n%s", w.ref(s.suffix), s.params, options, s.body)
	} else {
		if len(w.o.Labels) > 0 {
			options += ", labels=" + w.labels(w.o.Labels)
		}
		v.SQL = fmt.Sprintf("CREATE OR REPLACE VIEW %s\nOPTIONS (%s)\nAS\n%s", w.ref(s.suffix), options, s.body)
	}
	w.out = append(w.out, v)
}

// labels spells labels as an option.
func (w *viewWriter) labels(labels map[string]string) string {
	var pairs []string
	for _, k := range slices.Sorted(maps.Keys(labels)) {
		pairs = append(pairs, "("+w.text(k)+", "+w.text(labels[k])+")")
	}
	return "[" + strings.Join(pairs, ", ") + "]"
}

// has reports whether the table has all of the columns. Names do not
// distinguish case in BigQuery.
func (w *viewWriter) has(columns ...string) bool {
	return !slices.ContainsFunc(columns, func(name string) bool {
		return !slices.ContainsFunc(w.o.Columns.Columns, func(c schemas.Column) bool { return strings.EqualFold(c.Name, name) })
	})
}

// suit reports whether the views can reckon with the fields.
func (w *viewWriter) suit(fields ...sqlviews.Field) bool {
	return sqlviews.Lacks(w.o.Columns, fields...) == ""
}

// col is the quoted name of the column of a field, by the name of the field
// where there is none.
func (w *viewWriter) col(f sqlviews.Field) string { return w.name(sqlviews.ColumnName(w.o.Columns, f)) }

// free returns a name for a column or parameter of a view that no column of
// the table has: BigQuery refuses two columns of one name, and takes a column
// for a parameter of its name.
func (w *viewWriter) free(name string) string {
	for w.has(name) {
		name += "__"
	}
	return name
}

// ref returns the name of the table, or of one named after it.
func (w *viewWriter) ref(suffix string) string {
	return "`" + w.o.Project + "." + w.o.Dataset + "." + w.o.Table + suffix + "`"
}

func (w *viewWriter) name(column string) string { return "`" + column + "`" }

// text spells a string. A backslash escapes within one (Lexical structure,
// "Escape sequences").
func (w *viewWriter) text(s string) string {
	return "'" + strings.NewReplacer(`\`, `\\`, `'`, `\'`, "\n", `\n`, "\r", `\r`).Replace(s) + "'"
}

// day is the local day of a timestamp.
func (w *viewWriter) day(expr string) string { return "DATE(" + expr + ", " + w.text(w.zone) + ")" }

// columns is the select list: exported columns, their dates, system columns.
func (w *viewWriter) columns() string {
	var exported, dates, named, system []string
	for _, c := range w.o.Columns.Columns {
		if c.Constant != "" { // of which a query that asks for another value reads nothing
			system = append(system, w.text(c.Constant)+" AS "+w.name(c.Name))
			continue
		}
		if c.Origin == schemas.SystemDefined {
			system = append(system, w.name(c.Name))
			continue
		}
		exported = append(exported, w.name(c.Name))
		if date := sqlviews.DateName(c); date != "" && !w.has(date) && !slices.Contains(named, date) {
			named = append(named, date)
			dates = append(dates, w.day(w.name(c.Name))+" AS "+w.name(date))
		}
	}
	return strings.Join(slices.Concat(exported, dates, system), ",\n  ")
}

// viewOrder is the order of load.Loader by which a row replaces another of its
// id, latest first.
const viewOrder = "LEAST(updated_at, _sluice_extracted_at) DESC, _sluice_extracted_at DESC, _sluice_package DESC, _sluice_row DESC"

// rowViews are the rows themselves.
func (w *viewWriter) rowViews() {
	live, without := []string{"_sluice_deleted_at IS NULL"}, "deleted"
	if w.suit(sqlviews.Blocked) {
		live = append(live, w.col(sqlviews.Blocked)+" IS NOT TRUE")
		without += ", blocked"
	}
	if w.suit(sqlviews.Platform) {
		live = append(live, w.col(sqlviews.Platform)+" IS DISTINCT FROM 'playground'")
		without += " and playground"
	}
	w.add(spec{
		suffix: "_all", comment: "Every contact once, as last seen; deleted, blocked and playground contacts included.",
		body: "SELECT\n  " + w.columns() + "\nFROM " + w.ref(""),
	})
	w.add(spec{
		suffix: "_active", comment: "Every contact once, as last seen, without " + without + " ones.", reads: []string{"_all"},
		body: w.staged() + "\nWHERE " + strings.Join(live, " AND "),
	})
	t := w.free("t")
	w.add(spec{
		suffix: "_as_of", params: t + " TIMESTAMP", comment: "The contacts as they had been exported up to the time t, without deleted ones.",
		body: "SELECT * FROM (\nSELECT\n  " + w.columns() + "\nFROM " + w.ref("_history") +
			"\nWHERE _sluice_extracted_at <= " + t +
			"\nQUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY " + viewOrder + ") = 1\n) WHERE _sluice_deleted_at IS NULL",
	})
}

// contactViews have a row for each contact or customer that they find. What
// views compute has the same names under every contract.
func (w *viewWriter) contactViews() {
	active := []string{"_active"}
	seen, customer, platform := w.col(sqlviews.LastMessage), w.col(sqlviews.Customer), w.col(sqlviews.Platform)
	latest := func(f sqlviews.Field) string {
		return "ARRAY_AGG(" + w.col(f) + " IGNORE NULLS ORDER BY COALESCE(" + seen + ", updated_at) DESC, id LIMIT 1)[SAFE_OFFSET(0)] AS " + string(f)
	}
	w.add(spec{
		suffix: "_customers", comment: "One row per customer (ai_customer_id) across all channels.", reads: active,
		needs: []sqlviews.Field{
			sqlviews.Customer, sqlviews.Platform, sqlviews.Name, sqlviews.Phone, sqlviews.Email, sqlviews.LastMessage, sqlviews.Ticket,
		},
		body: `SELECT ` + customer + ` AS ai_customer_id,
  COUNT(*) AS contacts,
  ARRAY_AGG(DISTINCT ` + platform + ` IGNORE NULLS ORDER BY ` + platform + `) AS platforms,
  ` + latest(sqlviews.Name) + `,
  ` + latest(sqlviews.Phone) + `,
  ` + latest(sqlviews.Email) + `,
  MIN(created_at) AS first_seen_at,
  MAX(` + seen + `) AS last_message_at,
  COUNT(` + w.col(sqlviews.Ticket) + `) AS open_tickets,
  ARRAY_AGG(id ORDER BY created_at, id) AS contact_ids
FROM ` + w.ref("_active") + `
WHERE ` + customer + ` IS NOT NULL
GROUP BY 1`,
	})
	days := w.free("days")
	since := "TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL " + days + " DAY)"
	w.add(spec{
		suffix: "_active_within", params: days + " INT64", comment: "Contacts with a message in the last so many days.", reads: active, needs: []sqlviews.Field{sqlviews.LastMessage},
		body: "SELECT * FROM " + w.ref("_active") + "\nWHERE " + seen + " >= " + since,
	})
	w.add(spec{
		suffix: "_unattended", comment: "Contacts that wait for an answer, longest wait first.", reads: active, needs: []sqlviews.Field{sqlviews.ChatStatus, sqlviews.LastMessage},
		body: `SELECT *, ROUND(TIMESTAMP_DIFF(CURRENT_TIMESTAMP(), ` + seen + `, MINUTE) / 60, 1) AS ` + w.free("waiting_hours") + `
FROM ` + w.ref("_active") + `
WHERE ` + w.col(sqlviews.ChatStatus) + ` = 'UNATTENDED'
ORDER BY ` + seen + ` NULLS LAST, id`,
	})
	w.add(spec{
		suffix: "_reengagement", params: days + " INT64", reads: active, needs: []sqlviews.Field{sqlviews.LastMessage, sqlviews.Customer},
		comment: "Contacts silent for more than so many days, on this and on every other channel of the same customer, most recent first.",
		body: `SELECT *, DATE_DIFF(CURRENT_DATE(` + w.text(w.zone) + `), ` + w.day(seen) + `, DAY) AS ` + w.free("silent_days") + `
FROM ` + w.ref("_active") + ` AS _c
WHERE ` + seen + ` < ` + since + `
  AND NOT EXISTS (SELECT 1 FROM ` + w.ref("_active") + ` AS _o WHERE _o.` + customer + ` = _c.` + customer + ` AND _o.` + seen + ` >= ` + since + `)
ORDER BY ` + seen + ` DESC, id`,
	})
}

// reportViews count contacts. They group by number: a name that the query gives
// may also be a column's.
func (w *viewWriter) reportViews() {
	active := []string{"_active"}
	seen, platform := w.col(sqlviews.LastMessage), w.col(sqlviews.Platform)
	w.add(spec{
		suffix: "_activity_daily", needs: []sqlviews.Field{sqlviews.LastMessage, sqlviews.Platform},
		comment: "Per day and channel: contacts with a message that day (as far as a run saw it before the next message) and contacts created.",
		body: `SELECT day, platform, SUM(active) AS active_contacts, SUM(created) AS new_contacts FROM (
  SELECT ` + w.day(seen) + ` AS day, ` + platform + ` AS platform, COUNT(DISTINCT id) AS active, 0 AS created
  FROM ` + w.ref("_history") + ` WHERE ` + seen + ` IS NOT NULL GROUP BY 1, 2
  UNION ALL
  SELECT ` + w.day("created_at") + ` AS day, ` + platform + ` AS platform, 0 AS active, COUNT(*) AS created
  FROM ` + w.ref("") + ` GROUP BY 1, 2
)
WHERE platform IS DISTINCT FROM 'playground'
GROUP BY day, platform
ORDER BY day, platform NULLS LAST`,
	})
	within := func(days string) string {
		return "COUNTIF(" + seen + " >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL " + days + " DAY))"
	}
	w.add(spec{
		suffix: "_engagement_by_channel", reads: active, needs: []sqlviews.Field{sqlviews.Platform, sqlviews.LastMessage, sqlviews.ChatStatus, sqlviews.Ticket},
		comment: "Per channel: contacts, how many wrote in the last 7 and 30 days, how many wait for an answer, how many have an open ticket.",
		body: `SELECT ` + platform + ` AS platform,
  COUNT(*) AS contacts,
  ` + within("7") + ` AS active_7d,
  ` + within("30") + ` AS active_30d,
  ROUND(100 * ` + within("30") + ` / COUNT(*), 1) AS active_30d_percent,
  COUNTIF(` + w.col(sqlviews.ChatStatus) + ` = 'UNATTENDED') AS unattended,
  COUNT(` + w.col(sqlviews.Ticket) + `) AS open_tickets,
  MAX(` + seen + `) AS last_message_at
FROM ` + w.ref("_active") + `
GROUP BY 1
ORDER BY contacts DESC, platform NULLS LAST`,
	})
	names, group := w.stageNames()
	w.add(spec{
		suffix: "_stage_funnel", comment: "Contacts with an open ticket, by the stage it is in.", reads: active,
		needs: []sqlviews.Field{sqlviews.Ticket, sqlviews.Stage},
		body: `SELECT ` + w.col(sqlviews.Stage) + ` AS stage_id,` + names + `
  COUNT(*) AS contacts,
  ROUND(100 * COUNT(*) / SUM(COUNT(*)) OVER (), 1) AS percent,
  MIN(updated_at) AS longest_unchanged_since
FROM ` + w.ref("_active") + `
WHERE ` + w.col(sqlviews.Ticket) + ` IS NOT NULL
GROUP BY 1` + group + `
ORDER BY contacts DESC, stage_id NULLS LAST`,
	})
}

// runViews tell what the runs brought.
func (w *viewWriter) runViews() {
	change := func(kind string) string {
		return "COUNT(DISTINCT IF(_sluice_change = '" + kind + "', id, NULL))"
	}
	w.add(spec{
		suffix: "_new_and_updated", comment: "Per day of extraction: contacts that were new, changed and found deleted.",
		body: `SELECT ` + w.day(schemas.ColExtractedAt) + ` AS day,
  ` + change("insert") + ` AS new_contacts,
  ` + change("update") + ` AS updated_contacts,
  ` + change("delete") + ` AS deleted_contacts
FROM ` + w.ref("_history") + `
GROUP BY 1
ORDER BY day`,
	})
	// A run that sealed several packages gave the same record with each.
	w.add(spec{
		suffix: "_runs", comment: "The coverage record of each run: what was walked, and under which assumptions.",
		body: `SELECT run_id, PARSE_JSON(coverage) AS coverage
FROM ` + w.ref("__commits") + `
WHERE coverage IS NOT NULL AND status = 'done'
QUALIFY ROW_NUMBER() OVER (PARTITION BY run_id ORDER BY package DESC) = 1`,
	})
}
