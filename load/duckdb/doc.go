// Package duckdb is the DuckDB destination: one database file with the tables
// of any number of pipelines, and the same views as beside a Parquet table.
//
//	<path>                      the database; DuckDB puts <path>.wal and <path>.tmp beside it
//	  main.<table>, main.<table>_all, ...   views and macros
//	  _sluice.<table>__current              one row per contact, tombstones included
//	  _sluice.<table>__history              every version once
//	  _sluice.tables, packages, runs        lineage and position, results, coverage
//	  _sluice.counts                        how many rows there have to be
//
// A package is one transaction: its rows and the note that it was committed
// are durable together or not at all. The merge is set-wise SQL over the
// package's parts, which DuckDB reads itself; of the table it reads the column
// of ids, and the rest only where ids meet. Nothing but the merge keeps ids
// unique: an index on them would cost more than all the rest.
//
// An erasure makes the whole file anew and puts it in the old one's place: what
// DuckDB deletes, it leaves in the file.
//
// The file is open only during a call. DuckDB lets one process write or any
// number read; a call that finds it held otherwise waits for a while.
package duckdb
