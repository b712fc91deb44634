package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/diag"
	"github.com/sluice-etl/sluice/internal/duck"
	"github.com/sluice-etl/sluice/load/views"
)

// scope is what a query reads: Parquet files on this machine, or one database
// file.
type scope struct {
	name     string              // as it was given
	only     *config.Destination // of the Parquet destinations; nil: all
	database *config.Destination // nil: Parquet files
}

// asked is a table of a scope.
type asked struct {
	schema   string // that its views stand in
	table    string
	place    string // as messages call it
	pipeline *config.Pipeline
	exported bool
	contacts int64 // deleted ones included
}

// scopeOf settles what a query reads: the destination that name says; else all
// Parquet files on this machine; else the one database file that there is.
func scopeOf(cfg *config.Config, name string) (scope, error) {
	used := usedDestinations(cfg)
	if name != "" {
		return namedScope(cfg, used, name)
	}
	if slices.ContainsFunc(used, isLake) {
		return scope{}, nil
	}
	databases := slices.DeleteFunc(slices.Clone(used), func(d *config.Destination) bool { return !isDatabase(d) })
	switch {
	case len(databases) == 0:
		return scope{}, notHere(used[0])
	case slices.ContainsFunc(databases, func(d *config.Destination) bool { return d.Path != databases[0].Path }):
		return scope{}, &userError{message: "there is more than one database to read", hint: "name one with --destination: " + strings.Join(destinationNames(databases), ", ")}
	default:
		return scope{database: databases[0]}, nil
	}
}

func namedScope(cfg *config.Config, used []*config.Destination, name string) (scope, error) {
	d := cfg.Destination(name)
	switch {
	case d == nil:
		return scope{}, &userError{message: fmt.Sprintf("no destination is called %q in %s", name, cfg.File), hint: diag.Hint(name, destinationNames(cfg.Destinations))}
	case !slices.Contains(used, d):
		return scope{}, &userError{message: fmt.Sprintf("no pipeline writes to destination %s", name), hint: diag.Hint(name, destinationNames(used))}
	case isDatabase(d):
		return scope{name: name, database: d}, nil
	case isLake(d):
		return scope{name: name, only: d}, nil
	default:
		return scope{}, notHere(d)
	}
}

// notHere refuses to read what is not on this machine.
func notHere(d *config.Destination) error {
	if isWarehouse(d) {
		return &userError{
			message: fmt.Sprintf("destination %s is the dataset %s of BigQuery, which `sluice query` does not read", d.Name, d.Place("")),
			hint:    "ask BigQuery in its console, or as in " + askBigQuery(d, "TABLE", "SELECT COUNT(*) FROM %s"),
		}
	}
	return &userError{
		message: fmt.Sprintf("destination %s is at %s, which `sluice query` does not read", d.Name, d.Place("")),
		hint:    "copy it, as in `gcloud storage rsync -r " + d.Place("") + "TABLE DIR`, and read DIR/current/**/*.parquet with any tool; or read the bucket from DuckDB, which has its own key for it: https://duckdb.org/docs/stable/guides/network_cloud_storage/gcs_import",
	}
}

// usedDestinations are those that pipelines write to, in the order of the file.
func usedDestinations(cfg *config.Config) []*config.Destination {
	var used []*config.Destination
	for _, d := range cfg.Destinations {
		if slices.ContainsFunc(cfg.Pipelines, func(p *config.Pipeline) bool { return slices.Contains(p.Destinations, d) }) {
			used = append(used, d)
		}
	}
	return used
}

func destinationNames(list []*config.Destination) []string {
	var names []string
	for _, d := range list {
		names = append(names, d.Name)
	}
	return names
}

// completeDestinations offers those that can be read.
func (a *app) completeDestinations(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
	cfg, list := config.Load(a.file, a.Env, config.Offline())
	if cfg == nil || list.HasErrors() {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	local := slices.DeleteFunc(usedDestinations(cfg), func(d *config.Destination) bool { return !d.Local() })
	return destinationNames(local), cobra.ShellCompDirectiveNoFileComp
}

// asking is how a pipeline's table is called in SQL, and the command that asks
// it; "" where there is none.
func (a *app) asking(cfg *config.Config, p *config.Pipeline) (table, command string) {
	if !duck.Available {
		return "", ""
	}
	command = "sluice" + a.fileFlag() + " query"
	if i := slices.IndexFunc(p.Destinations, isLake); i >= 0 {
		return tableName(cfg, p.Destinations[i], p.Table), command
	}
	i := slices.IndexFunc(p.Destinations, isDatabase)
	if i < 0 {
		return "", ""
	}
	d := p.Destinations[i]
	if from, err := scopeOf(cfg, ""); err != nil || from.database == nil || from.database.Path != d.Path {
		command += " --destination " + d.Name
	}
	return p.Table, command
}

// openScope opens what a query reads, and says which tables that has.
func (a *app) openScope(ctx context.Context, cfg *config.Config, from scope) (*duck.DB, []asked, error) {
	if from.database != nil {
		return a.openDatabase(ctx, cfg, from.database)
	}
	lake, err := lakeTables(cfg, from.only)
	if err != nil {
		return nil, nil, err
	}
	var tables []asked
	for _, t := range lake {
		k := asked{schema: t.schema, table: t.table, place: a.relative(t.dir), pipeline: t.pipeline, exported: t.manifest != nil}
		if k.exported {
			k.contacts = t.manifest.Rows()
		}
		tables = append(tables, k)
	}
	if err := a.something(tables); err != nil {
		return nil, nil, err
	}
	db, err := duck.Open(ctx, setup(lake))
	missing := a.missingFiles(lake)
	switch {
	case missing != nil && err != nil:
		err = missing
	case missing != nil:
		// The views read whatever a glob finds, so the answer would lack these
		// without a word. A commit that removed them has replaced the manifest.
		if lake, again := lakeTables(cfg, from.only); again == nil {
			if missing = a.missingFiles(lake); missing != nil {
				missing.message += ": the answer is without them"
				a.showAs("warning", missing)
			}
		}
	}
	return db, tables, err
}

// missingFiles says that a table lacks files; nil where none does.
func (a *app) missingFiles(tables []lakeTable) *userError {
	for _, t := range tables {
		if t.manifest == nil {
			continue
		}
		for _, f := range t.manifest.Current {
			path := filepath.Join(t.dir, filepath.FromSlash(f.Path))
			if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
				return &userError{
					message: fmt.Sprintf("files of the table %s are missing, such as %s", t.table, a.relative(path)),
					hint:    "put them back (is the disk mounted, is the path right?); `sluice" + a.fileFlag() + " verify` lists what is missing",
				}
			}
		}
	}
	return nil
}

func (a *app) something(tables []asked) error {
	if slices.ContainsFunc(tables, func(t asked) bool { return t.exported }) {
		return nil
	}
	return &userError{message: "nothing is exported yet", hint: "run `sluice" + a.fileFlag() + " run` first"}
}

// A commit of a few months' changes takes a second or two: that long a query
// waits, and some more.
const (
	databaseWait = 20 * time.Second
	databasePoll = 200 * time.Millisecond
)

// openDatabase opens a destination's file for reading, beside others that read
// it. Where a run is writing to it, it waits for a while.
func (a *app) openDatabase(ctx context.Context, cfg *config.Config, d *config.Destination) (*duck.DB, []asked, error) {
	for waited := time.Duration(0); ; waited += databasePoll {
		tables, err := a.databaseTables(ctx, cfg, d)
		if err == nil {
			if err = a.something(tables); err != nil {
				return nil, nil, err
			}
			var db *duck.DB
			if db, err = duck.Open(ctx, attach(d)); err == nil {
				return db, tables, nil
			}
			if _, again := a.databaseTables(ctx, cfg, d); again == nil {
				return nil, nil, err
			}
		}
		var used *duck.InUseError
		switch {
		case errors.Is(err, duck.ErrNotADatabase):
			return nil, nil, &userError{err: err, hint: "move it away, or give destination " + d.Name + " another path"}
		case ctx.Err() != nil:
			return nil, nil, err
		case errors.As(err, &used) && waited < databaseWait:
			if err := clock.Sleep(ctx, databasePoll); err != nil {
				return nil, nil, err
			}
		case errors.As(err, &used):
			return nil, nil, &userError{err: err, hint: "DuckDB lets nobody read a file while a process has it open to write: let the run end, or close the other program, and ask again"}
		default:
			return nil, nil, err
		}
	}
}

// attach is the SQL after which plain names are those of the database file.
func attach(d *config.Destination) string {
	name := d.Name
	if slices.Contains([]string{"main", "memory", "system", "temp"}, name) {
		name += "_db" // DuckDB has these already
	}
	return "ATTACH " + views.QuoteText(d.Path) + " AS " + views.QuoteName(name) + " (READ_ONLY);\nUSE " + views.QuoteName(name) + ";\n"
}

// databaseTables lists the tables of all pipelines that write to a database
// file, in the order of the file.
func (a *app) databaseTables(ctx context.Context, cfg *config.Config, d *config.Destination) (tables []asked, err error) {
	for _, p := range cfg.Pipelines {
		if slices.ContainsFunc(p.Destinations, func(o *config.Destination) bool { return isDatabase(o) && o.Path == d.Path }) {
			tables = append(tables, asked{schema: "main", table: p.Table, place: a.relative(d.Path), pipeline: p})
		}
	}
	if _, err := os.Stat(d.Path); errors.Is(err, fs.ErrNotExist) {
		return tables, nil
	}
	f, err := duck.OpenFile(ctx, d.Path, duck.FileOptions{ReadOnly: true})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	for i, t := range tables {
		const standing = `SELECT count(*) > 0 FROM duckdb_views() WHERE database_name = current_database() AND schema_name = 'main' AND view_name = ?`
		if err := f.Conn().QueryRowContext(ctx, standing, t.table+"_all").Scan(&tables[i].exported); err != nil {
			return nil, fmt.Errorf("read %s: %w", t.place, err)
		}
		if !tables[i].exported {
			continue
		}
		if err := f.Conn().QueryRowContext(ctx, "SELECT count(*) FROM "+views.QuoteName(t.table+"_all")).Scan(&tables[i].contacts); err != nil {
			return nil, fmt.Errorf("read %s: %w", t.place, err)
		}
	}
	return tables, nil
}

// listViews says what can be asked.
func (a *app) listViews(ctx context.Context, db *duck.DB, from scope, tables []asked) error {
	list, err := db.Views(ctx)
	if err != nil {
		return err
	}
	var b strings.Builder
	for _, t := range tables {
		name := t.schema
		if from.database != nil {
			name = t.table
		}
		if !t.exported {
			fmt.Fprintf(&b, "%s: nothing exported yet (%s)\n", name, t.pipeline.Name)
		} else {
			fmt.Fprintf(&b, "%s (%s, exported by %s to %s)\n", name, counted(t.contacts, "contact", "contacts"), t.pipeline.Name, t.place)
			if from.database == nil {
				writeViews(&b, t.schema, list, a.outWidth())
			}
		}
		if from.database == nil {
			b.WriteString("\n")
		}
	}
	if from.database != nil { // they stand together
		writeViews(&b, "main", list, a.outWidth())
		b.WriteString("\n")
	}
	b.WriteString("Try:\n" + a.queryExamples(from, tables))
	if _, err := io.WriteString(a.Streams.Out, visible(b.String())); err != nil {
		return fmt.Errorf("print views: %w", err)
	}
	return nil
}

// queryExamples are lines to copy, about the first table there is.
func (a *app) queryExamples(from scope, tables []asked) string {
	table := tables[slices.IndexFunc(tables, func(t asked) bool { return t.exported })].table
	query := "  sluice" + a.fileFlag() + " query "
	if from.name != "" {
		query += "-d " + from.name + " "
	}
	return query + `"SELECT platform, count(*) AS contacts FROM ` + table + ` GROUP BY ALL"` + "\n" +
		query + `"FROM ` + table + `" -o ` + table + ".parquet\n" +
		query + "< report.sql > report.csv\n"
}

// outsideDestinations keeps -o away from the files that Sluice looks after.
func outsideDestinations(cfg *config.Config, output string) error {
	if output == "" || output == "-" {
		return nil
	}
	abs, err := filepath.Abs(output)
	if err != nil {
		return fmt.Errorf("find %s: %w", output, err)
	}
	for _, p := range cfg.Pipelines {
		for _, d := range p.Destinations {
			if !d.Local() {
				continue
			}
			rel, err := filepath.Rel(d.Place(p.Table), abs)
			switch {
			case isDatabase(d) && (abs == d.Path || abs == d.Path+".wal"):
				return &userError{message: fmt.Sprintf("%s is the database of destination %s", output, d.Name), hint: "sluice alone writes there; choose another file"}
			case err == nil && rel != ".." && !strings.HasPrefix(rel, ".."+string(filepath.Separator)):
				return &userError{
					message: fmt.Sprintf("%s lies inside table %s of destination %s", output, p.Table, d.Name),
					hint:    "sluice alone writes there; choose another place",
				}
			}
		}
	}
	return nil
}
