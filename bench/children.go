package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/apache/arrow/go/v17/arrow/memory"
	_ "github.com/duckdb/duckdb-go/v2" // registers the driver

	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

// runChild does one contender's work in this process.
func runChild(ctx context.Context, o options) error {
	pages := filepath.Join(o.dir, fmt.Sprintf("pages-%d", o.contacts))
	switch o.child {
	case "sluice":
		return runSluice(ctx, o, pages, parquetfile.VerifyOff)
	case "sluice-verify":
		return runSluice(ctx, o, pages, parquetfile.VerifyFull)
	case "duckdb-told":
		return runDuckDB(ctx, o, func(*sql.DB) (string, error) { return toldSQL(pages, o.out), nil })
	case "duckdb-discover":
		return runDuckDB(ctx, o, func(db *sql.DB) (string, error) { return discoverSQL(ctx, db, pages, o.out) })
	case "duckdb-infer":
		return runDuckDB(ctx, o, func(*sql.DB) (string, error) { return inferSQL(pages, o.out), nil })
	case childPick, childPickSpread:
		return printPicked(ctx, o, o.child == childPickSpread, os.Stdout)
	default:
		return fmt.Errorf("no contender %q", o.child)
	}
}

// runSluice does what a run does between the response body and the staged
// part: decode, discover columns, type, hash, group by month, write, flush.
func runSluice(ctx context.Context, o options, pages string, verify parquetfile.Mode) error {
	contract := schemas.Default()
	registry, err := schemas.NewRegistry(contract, nil)
	if err != nil {
		return err
	}
	s := staging{options: o, registry: registry, verify: verify, chunk: transform.NewChunk(transform.Options{Contract: contract})}
	files, err := filepath.Glob(filepath.Join(pages, "*.json"))
	if err != nil {
		return err
	}
	slices.Sort(files)
	for _, name := range files {
		body, err := os.ReadFile(name)
		if err != nil {
			return err
		}
		rows, err := s.chunk.Decode(body)
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		s.chunk.Keep(nil, transform.Meta{ExtractedAt: time.UnixMicro(1), FirstRow: s.rows, Request: name})
		s.rows += int64(len(rows))
		if s.chunk.Rows() >= parquetfile.DefaultRowGroupRows {
			if err := s.seal(ctx); err != nil {
				return err
			}
		}
	}
	if err := s.seal(ctx); err != nil {
		return err
	}
	if s.rows != int64(o.contacts) || s.written != s.rows {
		return fmt.Errorf("decoded %d and wrote %d of %d contacts", s.rows, s.written, o.contacts)
	}
	return nil
}

type staging struct {
	options
	chunk         *transform.Chunk
	registry      *schemas.Registry
	verify        parquetfile.Mode
	rows, written int64
	parts         int
}

func (s *staging) seal(ctx context.Context) error {
	if s.chunk.Rows() == 0 {
		return nil
	}
	sealed, err := s.chunk.Seal(s.registry, "bench", memory.DefaultAllocator)
	if err != nil {
		return err
	}
	defer sealed.Record.Release()
	s.parts++
	w, err := parquetfile.Create(filepath.Join(s.out, fmt.Sprintf("part-%04d.parquet", s.parts)),
		parquetfile.Options{Schema: sealed.Record.Schema(), Workers: s.threads})
	if err != nil {
		return err
	}
	defer w.Abort()
	if err := w.Write(sealed.Record); err != nil {
		return err
	}
	stats, err := w.Finish()
	if err != nil {
		return err
	}
	if err := parquetfile.Verify(ctx, w.TempPath(), stats, s.verify); err != nil {
		return err
	}
	s.written += stats.Rows
	return w.Publish()
}

func runDuckDB(ctx context.Context, o options, query func(*sql.DB) (string, error)) (err error) {
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	for _, stmt := range []string{fmt.Sprintf("SET threads=%d", o.threads), "SET preserve_insertion_order=false", "SET enable_progress_bar=false"} {
		if _, err := db.ExecContext(ctx, stmt); err != nil {
			return err
		}
	}
	stmt, err := query(db)
	if err != nil {
		return err
	}
	_, err = db.ExecContext(ctx, stmt)
	return err
}

const copyOptions = "(FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE 131072)"

// plainColumns are the contract's columns, read by a read_json that ends with
// the types of custom_fields and of the ticket's custom fields.
const plainColumns = `id, name, phone, email, platform, last_message_at, chat_status, created_at, updated_at,
	client_id, ai_customer_id, default_stage_id, blocked, is_chat_read,
	active_ticket_v2.id AS active_ticket_v2_id, active_ticket_v2.current_stage_id AS active_ticket_v2_current_stage_id`

func readJSON(pages, customer, ticket string) string {
	return fmt.Sprintf(`read_json('%s/*.json', format='array', columns={id:'VARCHAR', name:'VARCHAR', phone:'VARCHAR', email:'VARCHAR',
	platform:'VARCHAR', last_message_at:'TIMESTAMP', chat_status:'VARCHAR', created_at:'TIMESTAMP', updated_at:'TIMESTAMP',
	client_id:'VARCHAR', ai_customer_id:'VARCHAR', default_stage_id:'VARCHAR', blocked:'BOOLEAN', is_chat_read:'BOOLEAN',
	custom_fields:'%s', active_ticket_v2:'STRUCT(id VARCHAR, current_stage_id VARCHAR, custom_fields %s)'})`, pages, customer, ticket)
}

func copySQL(columns []string, from, out string) string {
	return fmt.Sprintf("COPY (SELECT %s, %s FROM %s) TO '%s/contacts.parquet' %s", plainColumns, strings.Join(columns, ", "), from, out, copyOptions)
}

// toldSQL names every key and type beforehand: the fastest that DuckDB can be.
func toldSQL(pages, out string) string {
	structOf := func(keys []string) string { return "STRUCT(" + strings.Join(keys, " VARCHAR, ") + " VARCHAR)" }
	var cols []string
	for _, k := range customerKeys() {
		cols = append(cols, "custom_fields."+k+" AS cf_customer_"+k)
	}
	for _, k := range ticketKeys() {
		cols = append(cols, "active_ticket_v2.custom_fields."+k+" AS cf_ticket_"+k)
	}
	return copySQL(cols, readJSON(pages, structOf(customerKeys()), structOf(ticketKeys())), out)
}

// discoverSQL asks for the keys that occur and then reads each: what an
// exporter of open-ended custom fields has to do, whatever their number and
// however they differ from contact to contact.
func discoverSQL(ctx context.Context, db *sql.DB, pages, out string) (string, error) {
	from := readJSON(pages, "JSON", "JSON")
	var cols []string
	for _, place := range []struct{ field, prefix string }{
		{"custom_fields", "cf_customer_"}, {"active_ticket_v2.custom_fields", "cf_ticket_"},
	} {
		rows, err := db.QueryContext(ctx, "SELECT DISTINCT unnest(json_keys("+place.field+")) AS k FROM "+from+" ORDER BY k")
		if err != nil {
			return "", err
		}
		for rows.Next() {
			var k string
			if err := rows.Scan(&k); err != nil {
				return "", errors.Join(err, rows.Close())
			}
			cols = append(cols, place.field+"->>'"+k+"' AS "+place.prefix+k)
		}
		if err := errors.Join(rows.Err(), rows.Close()); err != nil {
			return "", err
		}
	}
	return copySQL(cols, from, out), nil
}

// inferSQL lets read_json infer one struct from all of the data. That works
// while custom fields are objects of one kind of value and few keys.
func inferSQL(pages, out string) string {
	return fmt.Sprintf(`COPY (SELECT c.* EXCLUDE (custom_fields, active_ticket_v2),
	unnest(custom_fields), unnest(active_ticket_v2, recursive := true)
	FROM read_json('%s/*.json', format='array', sample_size=-1, map_inference_threshold=-1) c)
	TO '%s/contacts.parquet' %s`, pages, out, copyOptions)
}
