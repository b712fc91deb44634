// Package bqtest is a stand-in for BigQuery: a server on 127.0.0.1 that speaks
// REST v2 and the gRPC BigQueryWrite service, for tests and benchmarks.
//
// It is a judge. It enforces what the service documents, each rule citing the
// page or the comment of the published API it follows, and refuses whatever it
// does not know; docs/bigquery-standin.md lists the rules, and what could not
// be confirmed. SQL is parsed, typed by BigQuery's rules and run on an embedded
// DuckDB, which also holds the rows.
package bqtest
