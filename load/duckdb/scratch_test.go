package duckdb

import (
	"context"
	"database/sql"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/duckdb/duckdb-go/v2"
)

func try(db *sql.DB, q string) {
	_, err := db.Exec(q)
	fmt.Printf("%-90.90s -> %v\n", q, err)
}
func show(db *sql.DB, q string) {
	rows, err := db.Query(q)
	if err != nil {
		fmt.Printf("%-90.90s -> %v\n", q, err)
		return
	}
	defer rows.Close()
	cols, _ := rows.Columns()
	n := 0
	for rows.Next() {
		v := make([]any, len(cols))
		p := make([]any, len(cols))
		for i := range v {
			p[i] = &v[i]
		}
		rows.Scan(p...)
		fmt.Printf("   %v\n", v)
		n++
	}
	fmt.Printf("%-90.90s -> %d rows %v\n", q, n, rows.Err())
}
func op(dsn string) *sql.DB {
	c, err := duckdb.NewConnector(dsn, nil)
	if err != nil {
		fmt.Println("OPEN", dsn, err)
		return nil
	}
	return sql.OpenDB(c)
}

func TestScratch(t *testing.T) {
	if p := os.Getenv("SCR"); p != "" {
		db := op(p)
		if db == nil {
			return
		}
		db.Ping()
		fmt.Println("child open", p)
		time.Sleep(3 * time.Second)
		return
	}
	dir := t.TempDir()
	path := filepath.Join(dir, "contacts.duckdb")
	db := op(path)
	try(db, `CREATE SCHEMA sluice`)
	try(db, `CREATE TABLE sluice.contacts__current(id VARCHAR NOT NULL, n BIGINT)`)
	try(db, `INSERT INTO sluice.contacts__current VALUES ('a',1),('b',2)`)
	try(db, `CREATE VIEW contacts_all AS SELECT id, n FROM sluice.contacts__current`)
	try(db, `CREATE VIEW contacts AS SELECT * FROM contacts_all WHERE n>0`)
	try(db, `CREATE VIEW q1 AS SELECT * FROM main.contacts_all WHERE n>0`)
	try(db, `CREATE MACRO active(d) AS TABLE SELECT * FROM contacts WHERE n >= d`)
	try(db, `CREATE MACRO active2(d) AS TABLE SELECT * FROM main.contacts WHERE n >= d`)
	show(db, `SELECT view_name, sql FROM duckdb_views() WHERE NOT internal`)
	show(db, `SELECT function_name, macro_definition FROM duckdb_functions() WHERE NOT internal`)
	try(db, `BEGIN`)
	db.Close()
	os.Rename(path, filepath.Join(dir, "other.duckdb"))
	m := op("")
	try(m, fmt.Sprintf(`ATTACH '%s' AS loc (READ_ONLY)`, filepath.Join(dir, "other.duckdb")))
	show(m, `FROM loc.contacts`)
	show(m, `FROM loc.q1`)
	show(m, `FROM loc.active(1)`)
	show(m, `FROM loc.active2(1)`)
	try(m, `SET search_path='loc,memory'`)
	show(m, `FROM active(1)`)
	try(m, `USE loc`)
	show(m, `FROM contacts`)
	show(m, `FROM active(1)`)
	show(m, `FROM active2(1)`)
	m.Close()
	db = op(filepath.Join(dir, "other.duckdb"))
	show(db, `FROM contacts`)
	show(db, `FROM active(1)`)
	show(db, `FROM active2(1)`)
	// tx: alter+delete+insert
	c, _ := db.Conn(context.Background())
	ex := func(q string) {
		r, err := c.ExecContext(context.Background(), q)
		var n int64
		if r != nil {
			n, _ = r.RowsAffected()
		}
		fmt.Printf("%-90.90s -> %d %v\n", q, n, err)
	}
	ex(`BEGIN`)
	ex(`CREATE OR REPLACE TEMP TABLE k AS SELECT rowid AS rid, * FROM sluice.contacts__current`)
	ex(`ALTER TABLE sluice.contacts__current ADD COLUMN z DOUBLE`)
	ex(`COMMENT ON COLUMN sluice.contacts__current.z IS 'hey'`)
	ex(`DELETE FROM sluice.contacts__current WHERE rowid IN (SELECT rid FROM k WHERE id='a')`)
	ex(`INSERT INTO sluice.contacts__current(id,n,z) VALUES ('a',5,0.5)`)
	ex(`INSERT INTO sluice.contacts__current(id,n,z) SELECT 'x'||i, i, 0.5 FROM range(300000) t(i)`)
	ex(`CREATE OR REPLACE VIEW contacts_all AS SELECT id, n, z FROM sluice.contacts__current`)
	ex(`COMMIT`)
	c.Close()
	show(db, `SELECT count(*), sum(n), count(z) FROM contacts`)
	show(db, `SELECT hex(chr(0)||'a'), 1.5::DOUBLE::BIT::VARCHAR, (-0.0)::DOUBLE::BIT::VARCHAR, md5_number_lower('abc'), md5_number_upper('abc')`)
	show(db, `SELECT database_name, tags, path, readonly, type FROM duckdb_databases()`)
	show(db, `SELECT name, value FROM duckdb_settings() WHERE name IN ('temp_directory','memory_limit','threads','storage_compatibility_version','wal_autocheckpoint','max_temp_directory_size')`)
	child := func(dsn string) string {
		cmd := exec.Command(os.Args[0], "-test.run=TestScratch$", "-test.v")
		cmd.Env = append(os.Environ(), "SCR="+dsn)
		out, _ := cmd.CombinedOutput()
		return string(out)
	}
	fmt.Println("RW held; child rw:", child(filepath.Join(dir, "other.duckdb")))
	fmt.Println("RW held; child ro:", child(filepath.Join(dir, "other.duckdb")+"?access_mode=READ_ONLY"))
	db2 := op(filepath.Join(dir, "other.duckdb") + "?access_mode=READ_ONLY")
	if db2 != nil {
		show(db2, `SELECT count(*) FROM contacts`)
		db2.Close()
	}
	fmt.Println("after ro closed; child rw:", child(filepath.Join(dir, "other.duckdb")))
	db.Close()
	db = op(filepath.Join(dir, "other.duckdb") + "?access_mode=READ_ONLY")
	db.Ping()
	fmt.Println("RO held; child rw:", child(filepath.Join(dir, "other.duckdb")))
	fmt.Println("RO held; child ro:", child(filepath.Join(dir, "other.duckdb")+"?access_mode=READ_ONLY"))
	db.Close()
	os.WriteFile(filepath.Join(dir, "junk"), []byte("hello world, this is no db"), 0o600)
	op(filepath.Join(dir, "junk") + "?access_mode=READ_ONLY")
	os.WriteFile(filepath.Join(dir, "junk2"), make([]byte, 20000), 0o600)
	op(filepath.Join(dir, "junk2") + "?access_mode=READ_ONLY")
	os.WriteFile(filepath.Join(dir, "empty"), nil, 0o600)
	op(filepath.Join(dir, "empty") + "?access_mode=READ_ONLY")
	op(filepath.Join(dir, "absent") + "?access_mode=READ_ONLY")
	op(dir + "?access_mode=READ_ONLY")
	os.WriteFile(filepath.Join(dir, "lite"), append([]byte("SQLite format 3\x00"), make([]byte, 5000)...), 0o600)
	op(filepath.Join(dir, "lite") + "?access_mode=READ_ONLY")
}
