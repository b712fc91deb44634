package views

import (
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/schemas"
)

// views lists the views in an order in which each can be created. Views that
// need a column the contract does not have are left out.
func (w *writer) views() []View {
	need := []string{schemas.ColID, schemas.ColCreatedAt, schemas.ColUpdatedAt, schemas.ColDeletedAt, schemas.ColExtractedAt, schemas.ColHash}
	if !w.has(need...) {
		return nil
	}
	out := append(w.stagesView(), w.tableViews()...)
	for _, v := range w.analystViews() {
		// A table named like one of these views keeps its own name.
		if v.Bare == w.o.Table || w.taken(v.Bare) {
			v.Bare = w.o.Table + "_" + v.Bare
			if w.taken(v.Bare) {
				continue
			}
		}
		out = append(out, v)
	}
	for i := range out {
		out[i].Name = out[i].Bare
		if out[i].Macro {
			out[i].Name += "(" + out[i].params + ")"
		}
	}
	return out
}

func (w *writer) taken(name string) bool { return slices.Contains(w.o.Taken, strings.ToLower(name)) }

// tableViews are the rows themselves.
func (w *writer) tableViews() []View {
	t := w.o.Table
	live := []string{`"_sluice_deleted_at" IS NULL`}
	without := "deleted"
	if w.suits(t+" shows blocked contacts", Blocked) {
		live = append(live, w.col(Blocked)+` IS NOT TRUE`)
		without += ", blocked"
	}
	if w.suits(t+" shows playground contacts", Platform) {
		live = append(live, w.col(Platform)+` IS DISTINCT FROM 'playground'`)
		without += " and playground"
	}
	at := w.o.Free("t")
	return []View{
		{
			Bare: t + "_all", Comment: "Every contact once, as last seen; deleted, blocked and playground contacts included.",
			body: "SELECT\n  " + w.columns() + "\nFROM " + w.currentRows(),
		},
		{
			Bare: t, Comment: "Every contact once, as last seen, without " + without + " ones.",
			body: w.staged() + "\nWHERE " + strings.Join(live, " AND "),
		},
		{
			Bare: t + "_history", Comment: "Every version of every contact, once each, as first seen.",
			body: "SELECT\n  " + w.columns() + "\nFROM " + w.historyRows() +
				"\nQUALIFY row_number() OVER (PARTITION BY \"id\", \"_sluice_hash\", \"_sluice_deleted_at\" IS NULL ORDER BY " + totalOrder("") + ") = 1",
		},
		{
			Bare: t + "_as_of", Macro: true, params: at, Comment: "The contacts as they had been exported up to the time t, without deleted ones.",
			body: "SELECT * FROM (\nSELECT\n  " + w.columns() + "\nFROM " + w.historyRows() +
				"\nWHERE \"_sluice_extracted_at\" <= CAST(" + QuoteName(at) + " AS TIMESTAMPTZ)" +
				"\nQUALIFY row_number() OVER (PARTITION BY \"id\" ORDER BY " + totalOrder(" DESC") + ") = 1\n) WHERE \"_sluice_deleted_at\" IS NULL",
		},
	}
}

// totalOrder is the order of load.Loader, by which a row replaces another of
// its id, as ORDER BY takes it. What had been read up to a time is ordered in
// the same way: a time that is past every row gives the current table.
func totalOrder(direction string) string {
	keys := []string{`least("updated_at", "_sluice_extracted_at")`, `"_sluice_extracted_at"`, `"_sluice_package"`, `"_sluice_row"`}
	return strings.Join(keys, direction+", ") + direction
}

// analystViews answer common questions. What they give has the same names under
// every contract.
func (w *writer) analystViews() []View {
	return slices.Concat(w.peopleViews(), w.countViews(), w.runViews())
}

// peopleViews have a row for each contact or customer that they find.
func (w *writer) peopleViews() []View {
	var out []View
	add := func(v View, fields ...Field) {
		if w.suits(v.Bare+" is left out", fields...) {
			out = append(out, v)
		}
	}
	contacts, seen, customer := w.main(""), w.col(LastMessage), w.col(Customer)
	days := w.o.Free("days")
	since := "now() - to_days(CAST(" + QuoteName(days) + " AS INTEGER))"
	latest := func(f Field) string {
		return "arg_max(" + w.col(f) + ", coalesce(" + seen + `, "updated_at")) FILTER (` + w.col(f) + " IS NOT NULL) AS " + string(f)
	}
	add(View{
		Bare: "customers", Comment: "One row per customer (ai_customer_id) across all channels.",
		body: "SELECT " + customer + ` AS "ai_customer_id",
  count(*) AS contacts,
  list(DISTINCT ` + w.col(Platform) + " ORDER BY " + w.col(Platform) + ") FILTER (" + w.col(Platform) + ` IS NOT NULL) AS platforms,
  ` + latest(Name) + `,
  ` + latest(Phone) + `,
  ` + latest(Email) + `,
  min("created_at") AS first_seen_at,
  max(` + seen + `) AS last_message_at,
  count(` + w.col(Ticket) + `) AS open_tickets,
  list("id" ORDER BY "created_at", "id") AS contact_ids
FROM ` + contacts + `
WHERE ` + customer + ` IS NOT NULL
GROUP BY ALL`,
	}, Customer, Platform, Name, Phone, Email, LastMessage, Ticket)
	add(View{
		Bare: "active", Macro: true, params: days, Comment: "Contacts with a message in the last so many days.",
		body: "SELECT * FROM " + contacts + " WHERE " + seen + " >= " + since,
	}, LastMessage)
	add(View{
		Bare: "unattended", Comment: "Contacts that wait for an answer, longest wait first.",
		body: "SELECT *, round(date_sub('minute', " + seen + ", now()) / 60.0, 1) AS " + w.o.Free("waiting_hours") + `
FROM ` + contacts + " WHERE " + w.col(ChatStatus) + " = 'UNATTENDED' ORDER BY " + seen + ` NULLS LAST, "id"`,
	}, ChatStatus, LastMessage)
	add(View{
		Bare: "reengagement", Macro: true, params: days, Comment: "Contacts silent for more than so many days, on this and on every other channel of the same customer, most recent first.",
		body: "SELECT *, date_diff('day', " + w.dayOf(seen) + ", " + w.dayOf("now()") + ") AS " + w.o.Free("silent_days") + `
FROM ` + contacts + ` AS _c
WHERE ` + seen + " < " + since + `
  AND NOT EXISTS (SELECT 1 FROM ` + contacts + " AS _o WHERE _o." + customer + " = _c." + customer + " AND _o." + seen + " >= " + since + `)
ORDER BY ` + seen + ` DESC, "id"`,
	}, LastMessage, Customer)
	return out
}

// countViews count contacts.
func (w *writer) countViews() []View {
	var out []View
	add := func(v View, fields ...Field) {
		if w.suits(v.Bare+" is left out", fields...) {
			out = append(out, v)
		}
	}
	contacts, seen, platform := w.main(""), w.col(LastMessage), w.col(Platform)
	add(View{
		Bare: "activity_daily", Comment: "Per day and channel: contacts with a message that day (as far as a run saw it before the next message) and contacts created.",
		body: `SELECT day, platform, sum(active)::BIGINT AS active_contacts, sum(created)::BIGINT AS new_contacts FROM (
  SELECT ` + w.dayOf(seen) + " AS day, " + platform + ` AS platform, count(DISTINCT "id") AS active, 0 AS created
  FROM ` + w.main("_history") + " WHERE " + seen + ` IS NOT NULL GROUP BY ALL
  UNION ALL
  SELECT ` + w.day("created_at") + ", " + platform + `, 0, count(*) FROM ` + w.main("_all") + ` GROUP BY ALL
) WHERE platform IS DISTINCT FROM 'playground'
GROUP BY ALL ORDER BY day, platform`,
	}, LastMessage, Platform)
	within := func(days string) string { return "count(*) FILTER (" + seen + " >= now() - INTERVAL " + days + " DAY)" }
	add(View{
		Bare: "engagement_by_channel", Comment: "Per channel: contacts, how many wrote in the last 7 and 30 days, how many wait for an answer, how many have an open ticket.",
		body: "SELECT " + platform + ` AS platform,
  count(*) AS contacts,
  ` + within("7") + ` AS active_7d,
  ` + within("30") + ` AS active_30d,
  round(100.0 * ` + within("30") + ` / count(*), 1) AS active_30d_percent,
  count(*) FILTER (` + w.col(ChatStatus) + ` = 'UNATTENDED') AS unattended,
  count(` + w.col(Ticket) + `) AS open_tickets,
  max(` + seen + `) AS last_message_at
FROM ` + contacts + ` GROUP BY ALL ORDER BY contacts DESC, platform`,
	}, Platform, LastMessage, ChatStatus, Ticket)
	add(View{
		Bare: "stage_funnel", Comment: "Contacts with an open ticket, by the stage it is in.",
		body: "SELECT " + w.col(Stage) + ` AS stage_id,` + w.stageNames() + `
  count(*) AS contacts,
  round(100.0 * count(*) / sum(count(*)) OVER (), 1) AS percent,
  min("updated_at") AS longest_unchanged_since
FROM ` + contacts + " WHERE " + w.col(Ticket) + ` IS NOT NULL
GROUP BY ALL ORDER BY contacts DESC, stage_id NULLS LAST`,
	}, Ticket, Stage)
	return out
}

// runViews tell what the runs brought.
func (w *writer) runViews() []View {
	runs := w.o.Runs
	if runs == "" {
		runs = `SELECT NULL::VARCHAR AS run_id, NULL::JSON AS coverage WHERE false`
	}
	return []View{
		{
			Bare: "new_and_updated", Comment: "Per day of extraction: contacts that were new, changed and found deleted.",
			body: `SELECT ` + w.day(schemas.ColExtractedAt) + ` AS day,
  count(DISTINCT "id") FILTER ("_sluice_change" = 'insert') AS new_contacts,
  count(DISTINCT "id") FILTER ("_sluice_change" = 'update') AS updated_contacts,
  count(DISTINCT "id") FILTER ("_sluice_change" = 'delete') AS deleted_contacts
FROM ` + w.main("_history") + ` GROUP BY ALL ORDER BY day`,
		},
		{Bare: "runs", Comment: "The coverage record of each run: what was walked, and under which assumptions.", body: runs},
	}
}
