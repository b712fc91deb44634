// Package bigquery commits sealed packages to BigQuery: rows are staged by
// write streams or load jobs, and one transaction compares them with the table,
// keeps each new version in history and merges the winners.
package bigquery
