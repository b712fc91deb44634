// Package bigquery commits sealed packages to BigQuery.
package bigquery

import (
	_ "cloud.google.com/go/bigquery"                     // the client
	_ "cloud.google.com/go/bigquery/storage/managedwriter" // appends
)
