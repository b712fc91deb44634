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
	// Columns are the table's columns. Views that need a column it lacks are
	// left out.
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
	needs                         []string // columns
	reads                         []string // suffixes of views
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

// suit is has, of columns in types that the views can reckon with.
func (w *viewWriter) suit(columns ...string) bool {
	return w.has(columns...) && !slices.ContainsFunc(w.o.Columns.Columns, func(c schemas.Column) bool {
		return slices.Contains(columns, c.Name) && !sqlviews.Suits(c)
	})
}

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
	var exported, dates, system []string
	for _, c := range w.o.Columns.Columns {
		if c.Origin == schemas.SystemDefined {
			system = append(system, w.name(c.Name))
			continue
		}
		exported = append(exported, w.name(c.Name))
		if base, ok := strings.CutSuffix(c.Name, "_at"); ok && c.Type == schemas.Timestamp && !w.has(base+"_date") {
			dates = append(dates, w.day(w.name(c.Name))+" AS "+w.name(base+"_date"))
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
	if w.suit("blocked") {
		live = append(live, "blocked IS NOT TRUE")
		without += ", blocked"
	}
	if w.suit("platform") {
		live = append(live, "platform IS DISTINCT FROM 'playground'")
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

// contactViews have a row for each contact or customer that they find.
func (w *viewWriter) contactViews() {
	active := []string{"_active"}
	latest := func(column string) string {
		return "ARRAY_AGG(" + column + " IGNORE NULLS ORDER BY COALESCE(last_message_at, updated_at) DESC, id LIMIT 1)[SAFE_OFFSET(0)] AS " + column
	}
	w.add(spec{
		suffix: "_customers", comment: "One row per customer (ai_customer_id) across all channels.", reads: active,
		needs: []string{"ai_customer_id", "platform", "name", "phone", "email", "last_message_at", "active_ticket_v2_id"},
		body: `SELECT ai_customer_id,
  COUNT(*) AS contacts,
  ARRAY_AGG(DISTINCT platform IGNORE NULLS ORDER BY platform) AS platforms,
  ` + latest("name") + `,
  ` + latest("phone") + `,
  ` + latest("email") + `,
  MIN(created_at) AS first_seen_at,
  MAX(last_message_at) AS last_message_at,
  COUNT(active_ticket_v2_id) AS open_tickets,
  ARRAY_AGG(id ORDER BY created_at, id) AS contact_ids
FROM ` + w.ref("_active") + `
WHERE ai_customer_id IS NOT NULL
GROUP BY ai_customer_id`,
	})
	days := w.free("days")
	since := "TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL " + days + " DAY)"
	w.add(spec{
		suffix: "_active_within", params: days + " INT64", comment: "Contacts with a message in the last so many days.", reads: active, needs: []string{"last_message_at"},
		body: "SELECT * FROM " + w.ref("_active") + "\nWHERE last_message_at >= " + since,
	})
	w.add(spec{
		suffix: "_unattended", comment: "Contacts that wait for an answer, longest wait first.", reads: active, needs: []string{"chat_status", "last_message_at"},
		body: `SELECT *, ROUND(TIMESTAMP_DIFF(CURRENT_TIMESTAMP(), last_message_at, MINUTE) / 60, 1) AS ` + w.free("waiting_hours") + `
FROM ` + w.ref("_active") + `
WHERE chat_status = 'UNATTENDED'
ORDER BY last_message_at NULLS LAST, id`,
	})
	w.add(spec{
		suffix: "_reengagement", params: days + " INT64", reads: active, needs: []string{"last_message_at", "ai_customer_id"},
		comment: "Contacts silent for more than so many days, on this and on every other channel of the same customer, most recent first.",
		body: `SELECT *, DATE_DIFF(CURRENT_DATE(` + w.text(w.zone) + `), ` + w.day("last_message_at") + `, DAY) AS ` + w.free("silent_days") + `
FROM ` + w.ref("_active") + ` AS c
WHERE last_message_at < ` + since + `
  AND NOT EXISTS (SELECT 1 FROM ` + w.ref("_active") + ` AS o WHERE o.ai_customer_id = c.ai_customer_id AND o.last_message_at >= ` + since + `)
ORDER BY last_message_at DESC, id`,
	})
}

// reportViews count contacts. They group by number: a name that the query gives
// may also be a column's.
func (w *viewWriter) reportViews() {
	active := []string{"_active"}
	w.add(spec{
		suffix: "_activity_daily", needs: []string{"last_message_at", "platform"},
		comment: "Per day and channel: contacts with a message that day (as far as a run saw it before the next message) and contacts created.",
		body: `SELECT day, platform, SUM(active) AS active_contacts, SUM(created) AS new_contacts FROM (
  SELECT ` + w.day("last_message_at") + ` AS day, platform, COUNT(DISTINCT id) AS active, 0 AS created
  FROM ` + w.ref("_history") + ` WHERE last_message_at IS NOT NULL GROUP BY 1, 2
  UNION ALL
  SELECT ` + w.day("created_at") + ` AS day, platform, 0 AS active, COUNT(*) AS created
  FROM ` + w.ref("") + ` GROUP BY 1, 2
)
WHERE platform IS DISTINCT FROM 'playground'
GROUP BY day, platform
ORDER BY day, platform NULLS LAST`,
	})
	const within30 = "COUNTIF(last_message_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 30 DAY))"
	w.add(spec{
		suffix: "_engagement_by_channel", reads: active, needs: []string{"platform", "last_message_at", "chat_status", "active_ticket_v2_id"},
		comment: "Per channel: contacts, how many wrote in the last 7 and 30 days, how many wait for an answer, how many have an open ticket.",
		body: `SELECT platform,
  COUNT(*) AS contacts,
  COUNTIF(last_message_at >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 7 DAY)) AS active_7d,
  ` + within30 + ` AS active_30d,
  ROUND(100 * ` + within30 + ` / COUNT(*), 1) AS active_30d_percent,
  COUNTIF(chat_status = 'UNATTENDED') AS unattended,
  COUNT(active_ticket_v2_id) AS open_tickets,
  MAX(last_message_at) AS last_message_at
FROM ` + w.ref("_active") + `
GROUP BY platform
ORDER BY contacts DESC, platform NULLS LAST`,
	})
	names, group := w.stageNames()
	w.add(spec{
		suffix: "_stage_funnel", comment: "Contacts with an open ticket, by the stage it is in.", reads: active,
		needs: []string{"active_ticket_v2_id", "active_ticket_v2_current_stage_id"},
		body: `SELECT active_ticket_v2_current_stage_id AS stage_id,` + names + `
  COUNT(*) AS contacts,
  ROUND(100 * COUNT(*) / SUM(COUNT(*)) OVER (), 1) AS percent,
  MIN(updated_at) AS longest_unchanged_since
FROM ` + w.ref("_active") + `
WHERE active_ticket_v2_id IS NOT NULL
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
