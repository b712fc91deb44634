//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package duck

import (
	"crypto/rand"
	"database/sql"

	"github.com/duckdb/duckdb-go/v2"
)

// openPool opens a database file. Extensions are not fetched from the network
// unasked: DuckDB would for a file that looks like another database's.
func openPool(path string, readOnly bool) (*sql.DB, error) {
	// A process that opens a file twice in the same way gets one database in
	// both places: two commits in one. A name of its own makes each differ.
	dsn := path + "?autoinstall_known_extensions=false&autoload_known_extensions=false&custom_user_agent=sluice-" + rand.Text()
	if readOnly {
		dsn += "&access_mode=READ_ONLY"
	}
	connector, err := duckdb.NewConnector(dsn, nil)
	if err != nil {
		return nil, err
	}
	return sql.OpenDB(connector), nil
}
