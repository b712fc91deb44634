CREATE OR REPLACE VIEW `my-project.crm.contacts_all`
OPTIONS (description='Every contact once, as last seen; deleted, blocked and playground contacts included. Made by sluice, which replaces it when columns are added.', labels=[('env', ''), ('team', 'data')])
AS
SELECT
  `id`,
  `name`,
  `phone`,
  `email`,
  `platform`,
  `last_message_at`,
  `chat_status`,
  `created_at`,
  `updated_at`,
  `client_id`,
  `ai_customer_id`,
  `default_stage_id`,
  `blocked`,
  `is_chat_read`,
  `active_ticket_v2_id`,
  `active_ticket_v2_current_stage_id`,
  DATE(`last_message_at`, 'America/Santiago') AS `last_message_date`,
  DATE(`created_at`, 'America/Santiago') AS `created_date`,
  DATE(`updated_at`, 'America/Santiago') AS `updated_date`,
  `_sluice_run_id`,
  `_sluice_extracted_at`,
  `_sluice_package`,
  `_sluice_row`,
  `_sluice_change`,
  `_sluice_deleted_at`,
  `_sluice_hash`
FROM `my-project.crm.contacts`;

CREATE OR REPLACE VIEW `my-project.crm.contacts_active`
OPTIONS (description='Every contact once, as last seen, without deleted, blocked and playground ones. Made by sluice, which replaces it when columns are added.', labels=[('env', ''), ('team', 'data')])
AS
SELECT * FROM `my-project.crm.contacts_all`
WHERE _sluice_deleted_at IS NULL AND `blocked` IS NOT TRUE AND `platform` IS DISTINCT FROM 'playground';

CREATE OR REPLACE TABLE FUNCTION `my-project.crm.contacts_as_of`(t TIMESTAMP)
OPTIONS (description='The contacts as they had been exported up to the time t, without deleted ones. Made by sluice, which replaces it when columns are added.')
AS
SELECT * FROM (
SELECT
  `id`,
  `name`,
  `phone`,
  `email`,
  `platform`,
  `last_message_at`,
  `chat_status`,
  `created_at`,
  `updated_at`,
  `client_id`,
  `ai_customer_id`,
  `default_stage_id`,
  `blocked`,
  `is_chat_read`,
  `active_ticket_v2_id`,
  `active_ticket_v2_current_stage_id`,
  DATE(`last_message_at`, 'America/Santiago') AS `last_message_date`,
  DATE(`created_at`, 'America/Santiago') AS `created_date`,
  DATE(`updated_at`, 'America/Santiago') AS `updated_date`,
  `_sluice_run_id`,
  `_sluice_extracted_at`,
  `_sluice_package`,
  `_sluice_row`,
  `_sluice_change`,
  `_sluice_deleted_at`,
  `_sluice_hash`
FROM `my-project.crm.contacts_history`
WHERE _sluice_extracted_at <= t
QUALIFY ROW_NUMBER() OVER (PARTITION BY id ORDER BY LEAST(updated_at, _sluice_extracted_at) DESC, _sluice_extracted_at DESC, _sluice_package DESC, _sluice_row DESC) = 1
) WHERE _sluice_deleted_at IS NULL;

CREATE OR REPLACE VIEW `my-project.crm.contacts_customers`
OPTIONS (description='One row per customer (ai_customer_id) across all channels. Made by sluice, which replaces it when columns are added.', labels=[('env', ''), ('team', 'data')])
AS
SELECT `ai_customer_id` AS ai_customer_id,
  COUNT(*) AS contacts,
  ARRAY_AGG(DISTINCT `platform` IGNORE NULLS ORDER BY `platform`) AS platforms,
  ARRAY_AGG(`name` IGNORE NULLS ORDER BY COALESCE(`last_message_at`, updated_at) DESC, id LIMIT 1)[SAFE_OFFSET(0)] AS name,
  ARRAY_AGG(`phone` IGNORE NULLS ORDER BY COALESCE(`last_message_at`, updated_at) DESC, id LIMIT 1)[SAFE_OFFSET(0)] AS phone,
  ARRAY_AGG(`email` IGNORE NULLS ORDER BY COALESCE(`last_message_at`, updated_at) DESC, id LIMIT 1)[SAFE_OFFSET(0)] AS email,
  MIN(created_at) AS first_seen_at,
  MAX(`last_message_at`) AS last_message_at,
  COUNT(`active_ticket_v2_id`) AS open_tickets,
  ARRAY_AGG(id ORDER BY created_at, id) AS contact_ids
FROM `my-project.crm.contacts_active`
WHERE `ai_customer_id` IS NOT NULL
GROUP BY 1;

CREATE OR REPLACE TABLE FUNCTION `my-project.crm.contacts_active_within`(days INT64)
OPTIONS (description='Contacts with a message in the last so many days. Made by sluice, which replaces it when columns are added.')
AS
SELECT * FROM `my-project.crm.contacts_active`
WHERE `last_message_at` >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL days DAY);

CREATE OR REPLACE VIEW `my-project.crm.contacts_unattended`
OPTIONS (description='Contacts that wait for an answer, longest wait first. Made by sluice, which replaces it when columns are added.', labels=[('env', ''), ('team', 'data')])
AS
SELECT *, ROUND(TIMESTAMP_DIFF(CURRENT_TIMESTAMP(), `last_message_at`, MINUTE) / 60, 1) AS waiting_hours
FROM `my-project.crm.contacts_active`
WHERE `chat_status` = 'UNATTENDED'
ORDER BY `last_message_at` NULLS LAST, id;

CREATE OR REPLACE TABLE FUNCTION `my-project.crm.contacts_reengagement`(days INT64)
OPTIONS (description='Contacts silent for more than so many days, on this and on every other channel of the same customer, most recent first. Made by sluice, which replaces it when columns are added.')
AS
SELECT *, DATE_DIFF(CURRENT_DATE('America/Santiago'), DATE(`last_message_at`, 'America/Santiago'), DAY) AS silent_days
FROM `my-project.crm.contacts_active` AS _c
WHERE `last_message_at` < TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL days DAY)
  AND NOT EXISTS (SELECT 1 FROM `my-project.crm.contacts_active` AS _o WHERE _o.`ai_customer_id` = _c.`ai_customer_id` AND _o.`last_message_at` >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL days DAY))
ORDER BY `last_message_at` DESC, id;

CREATE OR REPLACE VIEW `my-project.crm.contacts_activity_daily`
OPTIONS (description='Per day and channel: contacts with a message that day (as far as a run saw it before the next message) and contacts created. Made by sluice, which replaces it when columns are added.', labels=[('env', ''), ('team', 'data')])
AS
SELECT day, platform, SUM(active) AS active_contacts, SUM(created) AS new_contacts FROM (
  SELECT DATE(`last_message_at`, 'America/Santiago') AS day, `platform` AS platform, COUNT(DISTINCT id) AS active, 0 AS created
  FROM `my-project.crm.contacts_history` WHERE `last_message_at` IS NOT NULL GROUP BY 1, 2
  UNION ALL
  SELECT DATE(created_at, 'America/Santiago') AS day, `platform` AS platform, 0 AS active, COUNT(*) AS created
  FROM `my-project.crm.contacts` GROUP BY 1, 2
)
WHERE platform IS DISTINCT FROM 'playground'
GROUP BY day, platform
ORDER BY day, platform NULLS LAST;

CREATE OR REPLACE VIEW `my-project.crm.contacts_engagement_by_channel`
OPTIONS (description='Per channel: contacts, how many wrote in the last 7 and 30 days, how many wait for an answer, how many have an open ticket. Made by sluice, which replaces it when columns are added.', labels=[('env', ''), ('team', 'data')])
AS
SELECT `platform` AS platform,
  COUNT(*) AS contacts,
  COUNTIF(`last_message_at` >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 7 DAY)) AS active_7d,
  COUNTIF(`last_message_at` >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 30 DAY)) AS active_30d,
  ROUND(100 * COUNTIF(`last_message_at` >= TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 30 DAY)) / COUNT(*), 1) AS active_30d_percent,
  COUNTIF(`chat_status` = 'UNATTENDED') AS unattended,
  COUNT(`active_ticket_v2_id`) AS open_tickets,
  MAX(`last_message_at`) AS last_message_at
FROM `my-project.crm.contacts_active`
GROUP BY 1
ORDER BY contacts DESC, platform NULLS LAST;

CREATE OR REPLACE VIEW `my-project.crm.contacts_stage_funnel`
OPTIONS (description='Contacts with an open ticket, by the stage it is in. Made by sluice, which replaces it when columns are added.', labels=[('env', ''), ('team', 'data')])
AS
SELECT `active_ticket_v2_current_stage_id` AS stage_id,
  COUNT(*) AS contacts,
  ROUND(100 * COUNT(*) / SUM(COUNT(*)) OVER (), 1) AS percent,
  MIN(updated_at) AS longest_unchanged_since
FROM `my-project.crm.contacts_active`
WHERE `active_ticket_v2_id` IS NOT NULL
GROUP BY 1
ORDER BY contacts DESC, stage_id NULLS LAST;

CREATE OR REPLACE VIEW `my-project.crm.contacts_new_and_updated`
OPTIONS (description='Per day of extraction: contacts that were new, changed and found deleted. Made by sluice, which replaces it when columns are added.', labels=[('env', ''), ('team', 'data')])
AS
SELECT DATE(_sluice_extracted_at, 'America/Santiago') AS day,
  COUNT(DISTINCT IF(_sluice_change = 'insert', id, NULL)) AS new_contacts,
  COUNT(DISTINCT IF(_sluice_change = 'update', id, NULL)) AS updated_contacts,
  COUNT(DISTINCT IF(_sluice_change = 'delete', id, NULL)) AS deleted_contacts
FROM `my-project.crm.contacts_history`
GROUP BY 1
ORDER BY day;

CREATE OR REPLACE VIEW `my-project.crm.contacts_runs`
OPTIONS (description='The coverage record of each run: what was walked, and under which assumptions. Made by sluice, which replaces it when columns are added.', labels=[('env', ''), ('team', 'data')])
AS
SELECT run_id, PARSE_JSON(coverage) AS coverage
FROM `my-project.crm.contacts__commits`
WHERE coverage IS NOT NULL AND status = 'done'
QUALIFY ROW_NUMBER() OVER (PARTITION BY run_id ORDER BY package DESC) = 1;

