package main

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
)

// newestMonths is where the contacts that change in a usual night were created.
const newestMonths = 2

// pick names contacts of the exported table, in a process of its own: what this
// one holds when it starts another counts as that one's peak, and DuckDB holds
// much.
func (n *nights) pick(ctx context.Context, spread bool, round int) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	name := childPick
	if spread {
		name = childPickSpread
	}
	cmd := exec.CommandContext(ctx, self, "-child", name, "-out", n.dir, "-contacts", fmt.Sprint(n.contacts), "-rounds", fmt.Sprint(round))
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("pick contacts: %w", err)
	}
	return strings.Fields(string(out)), nil
}

// The names of that process's work.
const (
	childPick       = "pick"
	childPickSpread = "pick-spread"
)

// changing is how many of a number of contacts change in a night: 1%.
func changing(contacts int) int { return max(contacts/100, 1) }

// printPicked prints ids of the exported table: of its newest months, or spread
// over all. Another round has others.
func printPicked(ctx context.Context, o options, spread bool, w io.Writer) (err error) {
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	from := fmt.Sprintf("read_parquet('%s', hive_partitioning=true)", filepath.Join(o.out, "out", "contacts", "current", "*", "*.parquet"))
	where := ""
	if !spread {
		where = fmt.Sprintf("WHERE created_month >= (SELECT min(m) FROM (SELECT DISTINCT created_month AS m FROM %s ORDER BY m DESC LIMIT %d))", from, newestMonths)
	}
	rows, err := db.QueryContext(ctx, fmt.Sprintf("SELECT id FROM %s %s ORDER BY hash(id || '%d') LIMIT %d", from, where, o.rounds, changing(o.contacts)))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	for rows.Next() {
		var id string
		if err := rows.Scan(&id); err != nil {
			return err
		}
		if _, err := fmt.Fprintln(w, id); err != nil {
			return err
		}
	}
	return rows.Err()
}

// change gives contacts a new name at the source, and the first of them a new
// custom field where one is named.
func (n *nights) change(ctx context.Context, ids []string, name, field string) error {
	var next atomic.Int64
	var wg sync.WaitGroup
	errs := make([]error, 4)
	for w := range errs {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < len(ids); i = int(next.Add(1)) - 1 {
				with := ""
				if i == 0 {
					with = field
				}
				if errs[w] = n.update(ctx, ids[i], name, with); errs[w] != nil {
					return
				}
			}
		})
	}
	wg.Wait()
	return errors.Join(errs...)
}

func (n *nights) update(ctx context.Context, id, name, field string) error {
	change := map[string]any{"name": name}
	if field != "" {
		change["customer"] = []map[string]string{{"key": field, "value": "new"}}
	}
	body, err := json.Marshal(change)
	if err != nil {
		return err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, n.source+"/_sandbox/contact/"+id+"/update", bytes.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("Content-Type", "application/json")
	req.Header.Set("X-Api-Key", "sandbox")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return fmt.Errorf("change contact: %w", err)
	}
	_, err = io.Copy(io.Discard, resp.Body)
	err = errors.Join(err, resp.Body.Close())
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("change contact %s: %s", id, resp.Status)
	}
	return err
}
