// Package parquet is the Parquet destination: one directory per table, one
// row per contact in current, every version once in history, and a manifest
// that says which files belong to the table.
//
//	<path>/<table>/
//	  current/created_month=YYYY-MM/contacts.parquet   (UTC month of created_at)
//	  history/extracted_date=YYYY-MM-DD/<package>-NNNN.parquet
//	  history/extracted_date=YYYY-MM-DD/merged-<commit>-NNNN.parquet
//	  _ids/created_month=YYYY-MM.ids                    (which ids a file of current holds, hashed)
//	  _manifests/NNNNNNNN.json, latest.json
//	  _sluice_runs/<run-id>.json                        (coverage of each run)
//	  _sluice_runs/archive-NNNNNNNN.jsonl.gz            (of older runs, a line each)
//	  _staging/                                         (only while a commit is under way)
//	  views.sql
//	  .lock
//
// A commit writes and verifies every new file under _staging, records all of
// them in a numbered manifest, moves them into place by rename and then
// repoints latest.json. Until the numbered manifest exists nothing has
// happened; once it exists the commit is rolled forward by whoever holds the
// lock next. The merge is therefore never repeated over a half-replaced table.
//
// GSLoader keeps the same table in Google Cloud Storage.
package parquet
