-- Views over /srv/out/contacts, for DuckDB.
-- Written by sluice, and again when columns are added. Your own views belong in another file.
-- *_date columns are days in UTC. Text without an offset, as in contacts_as_of('2026-09-01'), is a time in the session's TimeZone.

CREATE OR REPLACE VIEW "contacts_all" AS
SELECT
  "id",
  "name",
  "phone",
  "email",
  "platform",
  "last_message_at",
  "chat_status",
  "created_at",
  "updated_at",
  "client_id",
  "ai_customer_id",
  "default_stage_id",
  "blocked",
  "is_chat_read",
  "active_ticket_v2_id",
  "active_ticket_v2_current_stage_id",
  "cf_customer_ano_de_compra",
  "cf_customer_lead_source",
  "cf_customer_message_count",
  "cf_customer_rut",
  "cf_ticket_articulo_de_interes",
  "cf_ticket_monto",
  CAST(timezone('UTC', "last_message_at") AS DATE) AS "last_message_date",
  CAST(timezone('UTC', "created_at") AS DATE) AS "created_date",
  CAST(timezone('UTC', "updated_at") AS DATE) AS "updated_date",
  "_sluice_run_id",
  "_sluice_extracted_at",
  "_sluice_package",
  "_sluice_row",
  "_sluice_change",
  "_sluice_deleted_at",
  "_sluice_hash"
FROM read_parquet('/srv/out/contacts/current/**/*.parquet', hive_partitioning = false);
COMMENT ON VIEW "contacts_all" IS 'Every contact once, as last seen; deleted, blocked and playground contacts included.';

CREATE OR REPLACE VIEW "contacts" AS
SELECT * FROM "contacts_all"
WHERE "_sluice_deleted_at" IS NULL AND "blocked" IS NOT TRUE AND "platform" IS DISTINCT FROM 'playground';
COMMENT ON VIEW "contacts" IS 'Every contact once, as last seen, without deleted, blocked and playground ones.';

CREATE OR REPLACE VIEW "contacts_history" AS
SELECT
  "id",
  "name",
  "phone",
  "email",
  "platform",
  "last_message_at",
  "chat_status",
  "created_at",
  "updated_at",
  "client_id",
  "ai_customer_id",
  "default_stage_id",
  "blocked",
  "is_chat_read",
  "active_ticket_v2_id",
  "active_ticket_v2_current_stage_id",
  "cf_customer_ano_de_compra",
  "cf_customer_lead_source",
  "cf_customer_message_count",
  "cf_customer_rut",
  "cf_ticket_articulo_de_interes",
  "cf_ticket_monto",
  CAST(timezone('UTC', "last_message_at") AS DATE) AS "last_message_date",
  CAST(timezone('UTC', "created_at") AS DATE) AS "created_date",
  CAST(timezone('UTC', "updated_at") AS DATE) AS "updated_date",
  "_sluice_run_id",
  "_sluice_extracted_at",
  "_sluice_package",
  "_sluice_row",
  "_sluice_change",
  "_sluice_deleted_at",
  "_sluice_hash"
FROM (FROM read_parquet('/srv/out/contacts/history/**/*.parquet', union_by_name = true, hive_partitioning = false)
  UNION ALL BY NAME SELECT CAST(NULL AS VARCHAR) AS "id", CAST(NULL AS VARCHAR) AS "name", CAST(NULL AS VARCHAR) AS "phone", CAST(NULL AS VARCHAR) AS "email", CAST(NULL AS VARCHAR) AS "platform", CAST(NULL AS TIMESTAMP WITH TIME ZONE) AS "last_message_at", CAST(NULL AS VARCHAR) AS "chat_status", CAST(NULL AS TIMESTAMP WITH TIME ZONE) AS "created_at", CAST(NULL AS TIMESTAMP WITH TIME ZONE) AS "updated_at", CAST(NULL AS VARCHAR) AS "client_id", CAST(NULL AS VARCHAR) AS "ai_customer_id", CAST(NULL AS VARCHAR) AS "default_stage_id", CAST(NULL AS BOOLEAN) AS "blocked", CAST(NULL AS BOOLEAN) AS "is_chat_read", CAST(NULL AS VARCHAR) AS "active_ticket_v2_id", CAST(NULL AS VARCHAR) AS "active_ticket_v2_current_stage_id", CAST(NULL AS VARCHAR) AS "cf_customer_ano_de_compra", CAST(NULL AS VARCHAR) AS "cf_customer_lead_source", CAST(NULL AS BIGINT) AS "cf_customer_message_count", CAST(NULL AS VARCHAR) AS "cf_customer_rut", CAST(NULL AS VARCHAR) AS "cf_ticket_articulo_de_interes", CAST(NULL AS DOUBLE) AS "cf_ticket_monto", CAST(NULL AS VARCHAR) AS "_sluice_run_id", CAST(NULL AS TIMESTAMP WITH TIME ZONE) AS "_sluice_extracted_at", CAST(NULL AS BIGINT) AS "_sluice_package", CAST(NULL AS BIGINT) AS "_sluice_row", CAST(NULL AS VARCHAR) AS "_sluice_change", CAST(NULL AS TIMESTAMP WITH TIME ZONE) AS "_sluice_deleted_at", CAST(NULL AS BIGINT) AS "_sluice_hash" WHERE false)
QUALIFY row_number() OVER (PARTITION BY "id", "_sluice_hash", "_sluice_deleted_at" IS NULL ORDER BY "updated_at", "_sluice_package", "_sluice_row") = 1;
COMMENT ON VIEW "contacts_history" IS 'Every version of every contact, once each, as first seen.';

CREATE OR REPLACE MACRO "contacts_as_of"(t) AS TABLE
SELECT * FROM (
SELECT
  "id",
  "name",
  "phone",
  "email",
  "platform",
  "last_message_at",
  "chat_status",
  "created_at",
  "updated_at",
  "client_id",
  "ai_customer_id",
  "default_stage_id",
  "blocked",
  "is_chat_read",
  "active_ticket_v2_id",
  "active_ticket_v2_current_stage_id",
  "cf_customer_ano_de_compra",
  "cf_customer_lead_source",
  "cf_customer_message_count",
  "cf_customer_rut",
  "cf_ticket_articulo_de_interes",
  "cf_ticket_monto",
  CAST(timezone('UTC', "last_message_at") AS DATE) AS "last_message_date",
  CAST(timezone('UTC', "created_at") AS DATE) AS "created_date",
  CAST(timezone('UTC', "updated_at") AS DATE) AS "updated_date",
  "_sluice_run_id",
  "_sluice_extracted_at",
  "_sluice_package",
  "_sluice_row",
  "_sluice_change",
  "_sluice_deleted_at",
  "_sluice_hash"
FROM (FROM read_parquet('/srv/out/contacts/history/**/*.parquet', union_by_name = true, hive_partitioning = false)
  UNION ALL BY NAME SELECT CAST(NULL AS VARCHAR) AS "id", CAST(NULL AS VARCHAR) AS "name", CAST(NULL AS VARCHAR) AS "phone", CAST(NULL AS VARCHAR) AS "email", CAST(NULL AS VARCHAR) AS "platform", CAST(NULL AS TIMESTAMP WITH TIME ZONE) AS "last_message_at", CAST(NULL AS VARCHAR) AS "chat_status", CAST(NULL AS TIMESTAMP WITH TIME ZONE) AS "created_at", CAST(NULL AS TIMESTAMP WITH TIME ZONE) AS "updated_at", CAST(NULL AS VARCHAR) AS "client_id", CAST(NULL AS VARCHAR) AS "ai_customer_id", CAST(NULL AS VARCHAR) AS "default_stage_id", CAST(NULL AS BOOLEAN) AS "blocked", CAST(NULL AS BOOLEAN) AS "is_chat_read", CAST(NULL AS VARCHAR) AS "active_ticket_v2_id", CAST(NULL AS VARCHAR) AS "active_ticket_v2_current_stage_id", CAST(NULL AS VARCHAR) AS "cf_customer_ano_de_compra", CAST(NULL AS VARCHAR) AS "cf_customer_lead_source", CAST(NULL AS BIGINT) AS "cf_customer_message_count", CAST(NULL AS VARCHAR) AS "cf_customer_rut", CAST(NULL AS VARCHAR) AS "cf_ticket_articulo_de_interes", CAST(NULL AS DOUBLE) AS "cf_ticket_monto", CAST(NULL AS VARCHAR) AS "_sluice_run_id", CAST(NULL AS TIMESTAMP WITH TIME ZONE) AS "_sluice_extracted_at", CAST(NULL AS BIGINT) AS "_sluice_package", CAST(NULL AS BIGINT) AS "_sluice_row", CAST(NULL AS VARCHAR) AS "_sluice_change", CAST(NULL AS TIMESTAMP WITH TIME ZONE) AS "_sluice_deleted_at", CAST(NULL AS BIGINT) AS "_sluice_hash" WHERE false)
WHERE "_sluice_extracted_at" <= CAST(t AS TIMESTAMPTZ)
QUALIFY row_number() OVER (PARTITION BY "id" ORDER BY "updated_at" DESC, "_sluice_package" DESC, "_sluice_row" DESC) = 1
) WHERE "_sluice_deleted_at" IS NULL;
COMMENT ON MACRO TABLE "contacts_as_of" IS 'The contacts as they had been exported up to the time t, without deleted ones.';

CREATE OR REPLACE VIEW "customers" AS
SELECT "ai_customer_id",
  count(*) AS contacts,
  list(DISTINCT "platform" ORDER BY "platform") AS platforms,
  arg_max("name", coalesce("last_message_at", "updated_at")) FILTER ("name" IS NOT NULL) AS name,
  arg_max("phone", coalesce("last_message_at", "updated_at")) FILTER ("phone" IS NOT NULL) AS phone,
  arg_max("email", coalesce("last_message_at", "updated_at")) FILTER ("email" IS NOT NULL) AS email,
  min("created_at") AS first_seen_at,
  max("last_message_at") AS last_message_at,
  count("active_ticket_v2_id") AS open_tickets,
  list("id" ORDER BY "created_at", "id") AS contact_ids
FROM "contacts"
WHERE "ai_customer_id" IS NOT NULL
GROUP BY ALL;
COMMENT ON VIEW "customers" IS 'One row per customer (ai_customer_id) across all channels.';

CREATE OR REPLACE MACRO "active"(days) AS TABLE
SELECT * FROM "contacts" WHERE "last_message_at" >= now() - to_days(CAST(days AS INTEGER));
COMMENT ON MACRO TABLE "active" IS 'Contacts with a message in the last so many days.';

CREATE OR REPLACE VIEW "activity_daily" AS
SELECT day, platform, sum(active)::BIGINT AS active_contacts, sum(created)::BIGINT AS new_contacts FROM (
  SELECT CAST(timezone('UTC', "last_message_at") AS DATE) AS day, "platform" AS platform, count(DISTINCT "id") AS active, 0 AS created
  FROM "contacts_history" WHERE "last_message_at" IS NOT NULL GROUP BY ALL
  UNION ALL
  SELECT CAST(timezone('UTC', "created_at") AS DATE), "platform", 0, count(*) FROM "contacts_all" GROUP BY ALL
) WHERE platform IS DISTINCT FROM 'playground'
GROUP BY ALL ORDER BY day, platform;
COMMENT ON VIEW "activity_daily" IS 'Per day and channel: contacts with a message that day (as far as a run saw it before the next message) and contacts created.';

CREATE OR REPLACE VIEW "engagement_by_channel" AS
SELECT "platform" AS platform,
  count(*) AS contacts,
  count(*) FILTER ("last_message_at" >= now() - INTERVAL 7 DAY) AS active_7d,
  count(*) FILTER ("last_message_at" >= now() - INTERVAL 30 DAY) AS active_30d,
  round(100.0 * count(*) FILTER ("last_message_at" >= now() - INTERVAL 30 DAY) / count(*), 1) AS active_30d_percent,
  count(*) FILTER ("chat_status" = 'UNATTENDED') AS unattended,
  count("active_ticket_v2_id") AS open_tickets,
  max("last_message_at") AS last_message_at
FROM "contacts" GROUP BY ALL ORDER BY contacts DESC, platform;
COMMENT ON VIEW "engagement_by_channel" IS 'Per channel: contacts, how many wrote in the last 7 and 30 days, how many wait for an answer, how many have an open ticket.';

CREATE OR REPLACE VIEW "unattended" AS
SELECT *, round(date_diff('minute', "last_message_at", now()) / 60.0, 1) AS waiting_hours
FROM "contacts" WHERE "chat_status" = 'UNATTENDED' ORDER BY "last_message_at" NULLS LAST, "id";
COMMENT ON VIEW "unattended" IS 'Contacts that wait for an answer, longest wait first.';

CREATE OR REPLACE MACRO "reengagement"(days) AS TABLE
SELECT *, date_diff('day', "last_message_at", now()) AS silent_days
FROM "contacts" AS c
WHERE "last_message_at" < now() - to_days(CAST(days AS INTEGER))
  AND NOT EXISTS (SELECT 1 FROM "contacts" AS o WHERE o."ai_customer_id" = c."ai_customer_id" AND o."last_message_at" >= now() - to_days(CAST(days AS INTEGER)))
ORDER BY "last_message_at" DESC, "id";
COMMENT ON MACRO TABLE "reengagement" IS 'Contacts silent for more than so many days, on this and on every other channel of the same customer, most recent first.';

CREATE OR REPLACE VIEW "stage_funnel" AS
SELECT "active_ticket_v2_current_stage_id" AS stage_id,
  count(*) AS contacts,
  round(100.0 * count(*) / sum(count(*)) OVER (), 1) AS percent,
  min("updated_at") AS longest_unchanged_since
FROM "contacts" WHERE "active_ticket_v2_id" IS NOT NULL
GROUP BY ALL ORDER BY contacts DESC, stage_id NULLS LAST;
COMMENT ON VIEW "stage_funnel" IS 'Contacts with an open ticket, by the stage it is in.';

CREATE OR REPLACE VIEW "new_and_updated" AS
SELECT CAST(timezone('UTC', "_sluice_extracted_at") AS DATE) AS day,
  count(DISTINCT "id") FILTER ("_sluice_change" = 'insert') AS new_contacts,
  count(DISTINCT "id") FILTER ("_sluice_change" = 'update') AS updated_contacts,
  count(DISTINCT "id") FILTER ("_sluice_change" = 'delete') AS deleted_contacts
FROM "contacts_history" GROUP BY ALL ORDER BY day;
COMMENT ON VIEW "new_and_updated" IS 'Per day of extraction: contacts that were new, changed and found deleted.';

CREATE OR REPLACE VIEW "runs" AS
SELECT parse_filename(filename, true) AS run_id, json AS coverage FROM read_json_objects('/srv/out/contacts/_sluice_runs/*.json', filename = true);
COMMENT ON VIEW "runs" IS 'The coverage record of each run: what was walked, and under which assumptions.';
