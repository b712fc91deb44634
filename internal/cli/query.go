package cli

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/duck"
)

type queryOptions struct {
	from   string // destination; empty: see scopeOf
	output string // file; empty or - for stdout
	format string // table, csv, json, jsonl, parquet; empty: from output, or by what stdout is
	rows   int    // most rows of a table; 0 for all
}

const formatTable = "table"

const queryLong = `Runs SQL in DuckDB over what was exported. Without SQL it reads standard
input, and on a terminal it lists what can be queried.

Each table's views stand in a schema called as the destination, followed by _
and the table's name where a destination has several tables. All schemas are
in the search path in the order of pipelines.yaml, so that plain names work:
SELECT * FROM contacts.

Parquet files on this machine are read, all of them, or those of --destination
alone. A DuckDB destination is read, as its file stands, with the views in it,
if --destination names it or it is all there is; it waits while a run commits
there. What is at gs:// is not read.

The database is in memory and new each time: what it reads is what was exported,
which it does not write. The SQL may also read other files. COPY and EXPORT are
refused; -o writes the result of the last statement, whole or not at all. Times
print in UTC.

On a terminal the result is a table, cut to its width and to --rows rows, and
it says so where it was cut. Otherwise, and unless --format says differently,
it is CSV, whole. In tables NULL is NULL and an empty string is ""; in JSON,
columns of times are ISO 8601.`

const queryExample = `  sluice query
  sluice query "SELECT platform, count(*) FROM contacts GROUP BY ALL"
  sluice query "FROM customers" -o customers.parquet
  sluice query < report.sql > report.csv`

func (a *app) queryCommand() *cobra.Command {
	var o queryOptions
	c := command(&cobra.Command{
		Use:     "query [SQL] [flags]",
		Short:   "Asks what was exported, in SQL",
		Long:    queryLong,
		Example: queryExample,
		Args: func(c *cobra.Command, args []string) error {
			if len(args) > 1 {
				return &usageError{command: c.CommandPath(), err: errors.New("sluice query takes the SQL as one argument: put it in quotes")}
			}
			return nil
		},
		RunE: func(c *cobra.Command, args []string) error { return a.query(c.Context(), args, o) },
	})
	c.Flags().SortFlags = false
	c.Flags().StringVarP(&o.from, "destination", "d", "", "read what was exported to the destination of this `NAME`")
	c.Flags().StringVarP(&o.output, "output", "o", "", "write the result to `FILE`, in the format of its extension")
	c.Flags().StringVar(&o.format, "format", "", "table, csv, json (an array), jsonl (an object a line) or parquet")
	c.Flags().IntVar(&o.rows, "rows", 100, "the most rows of a table; 0 for all")
	if err := c.RegisterFlagCompletionFunc("destination", a.completeDestinations); err != nil {
		panic(fmt.Sprintf("cli: completion of a flag that is there: %v", err))
	}
	return c
}

func (a *app) query(ctx context.Context, args []string, o queryOptions) (err error) {
	if !duck.Available {
		return duck.ErrUnavailable
	}
	format, err := a.queryFormat(o)
	if err != nil {
		return err
	}
	cfg, err := a.load(config.Offline())
	if err != nil {
		return err
	}
	if err := outsideDestinations(cfg, o.output); err != nil {
		return err
	}
	from, err := scopeOf(cfg, o.from)
	if err != nil {
		return err
	}
	sql, err := a.sqlText(args)
	if err != nil {
		return err
	}
	list := len(args) == 0 && a.Streams.InTerminal && o.output == "" && o.format == ""
	if strings.TrimSpace(sql) == "" && !list {
		// A list of views must not pass for a result.
		return &userError{message: "there is no SQL: neither as an argument nor on standard input", hint: "give it in quotes, as in: sluice" + a.fileFlag() + " query \"FROM contacts\"; on a terminal, without SQL and flags, the command lists what can be queried"}
	}
	db, tables, err := a.openScope(ctx, cfg, from)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	switch {
	case list:
		return a.listViews(ctx, db, from, tables)
	case format == formatTable:
		return a.queryTable(ctx, db, sql, o)
	case o.output == "" || o.output == "-":
		return a.queryStdout(ctx, db, sql, duck.Format(format))
	default:
		return a.queryFile(ctx, db, sql, o.output, duck.Format(format))
	}
}

// queryFormat settles the format before anything is done.
func (a *app) queryFormat(o queryOptions) (string, error) {
	allowed := []string{formatTable}
	for _, f := range duck.Formats() {
		allowed = append(allowed, string(f))
	}
	usage := func(format string, args ...any) error {
		return &usageError{command: "sluice query", err: fmt.Errorf(format, args...)}
	}
	if o.rows < 0 {
		return "", usage("--rows is %d, allowed are 0 (all) and more", o.rows)
	}
	toFile := o.output != "" && o.output != "-"
	format := o.format
	switch {
	case format == "" && toFile:
		format = strings.ToLower(strings.TrimPrefix(filepath.Ext(o.output), "."))
		if format == "ndjson" {
			format = string(duck.JSONL)
		}
		if format == formatTable || !slices.Contains(allowed, format) {
			return "", usage("-o %s does not say the format: the extension is none of .csv, .json, .jsonl, .parquet; name it with --format", o.output)
		}
	case format == "" && a.Streams.OutTerminal:
		format = formatTable
	case format == "":
		format = string(duck.CSV)
	case !slices.Contains(allowed, format):
		return "", usage("--format is %q, allowed are %s", format, joinNames(allowed))
	}
	if format == formatTable && toFile {
		return "", usage("a table is for the screen: write csv, json, jsonl or parquet with -o")
	}
	if format == string(duck.Parquet) && !toFile && a.Streams.OutTerminal {
		return "", usage("parquet does not belong on a terminal: name a file with -o")
	}
	return format, nil
}

// sqlText takes the SQL from the command line or from a stdin that is no
// terminal.
func (a *app) sqlText(args []string) (string, error) {
	if len(args) == 1 && args[0] != "-" {
		return args[0], nil
	}
	if a.Streams.InTerminal && len(args) == 0 {
		return "", nil
	}
	text, err := io.ReadAll(a.Streams.In)
	if err != nil {
		return "", fmt.Errorf("read SQL from standard input: %w", err)
	}
	return string(text), nil
}

func (a *app) queryTable(ctx context.Context, db *duck.DB, sql string, o queryOptions) error {
	res, err := db.Query(ctx, sql, o.rows)
	if err != nil {
		return err
	}
	width := 0
	if a.Streams.OutTerminal {
		width = a.Streams.width()
	}
	_, err = io.WriteString(a.Streams.Out, tableText(res, width))
	if err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	return nil
}

// tableText renders a result and says what of it is not shown.
func tableText(res *duck.Result, width int) string {
	if len(res.Columns) == 0 {
		return "done\n"
	}
	g := grid{rows: make([][]string, len(res.Rows))}
	for _, c := range res.Columns {
		g.columns = append(g.columns, column{name: c.Name, right: c.Numeric})
	}
	for i, row := range res.Rows {
		for _, v := range row {
			g.rows[i] = append(g.rows[i], cell(v))
		}
	}
	var b strings.Builder
	left, cutValues := g.write(&b, width)
	if res.More {
		fmt.Fprintf(&b, "(the first %s; there are more: --rows 0 shows all, -o FILE writes all)\n", counted(len(res.Rows), "row", "rows"))
	} else {
		fmt.Fprintf(&b, "(%s)\n", counted(len(res.Rows), "row", "rows"))
	}
	if note := omissions(left, cutValues); note != "" {
		fmt.Fprintf(&b, "(%s; -o FILE writes all)\n", note)
	}
	return b.String()
}

// cell prints a value so that NULL, an empty string and the text "NULL" differ.
func cell(v duck.Value) string {
	switch {
	case v.Null:
		return "NULL"
	case v.Text == "" || v.Text == "NULL":
		return `"` + v.Text + `"`
	default:
		return oneLine(v.Text)
	}
}

// queryFile writes the result beside path and renames it into place. Where path
// is a link, that is the place it leads to; a device or a pipe is no place for
// a rename, which would put a file where it stood.
func (a *app) queryFile(ctx context.Context, db *duck.DB, sql, path string, f duck.Format) error {
	target := path
	if info, err := os.Stat(path); err == nil {
		if !info.Mode().IsRegular() {
			return &userError{message: fmt.Sprintf("write result: %s is not a regular file", path), hint: "name a file, or leave -o out: the result then goes to stdout"}
		}
		if target, err = filepath.EvalSymlinks(path); err != nil {
			return fmt.Errorf("write result: %w", err)
		}
	}
	out, err := atomicfile.Create(target, 0o644)
	if err != nil {
		return &userError{err: fmt.Errorf("write result: %w", err), hint: "choose a file in a directory that exists and that you may write to"}
	}
	defer out.Abort()
	rows, err := db.Export(ctx, sql, out.TempPath(), f)
	if err != nil {
		return err
	}
	if err := out.Commit(); err != nil {
		return fmt.Errorf("write result: %w", err)
	}
	_, _ = fmt.Fprintf(a.err, "wrote %s to %s\n", counted(rows, "row", "rows"), path) // the file is there
	return nil
}

// queryStdout has DuckDB write a temporary file and copies that out: a query
// that fails half way leaves nothing half printed, and no result has to fit
// into memory.
func (a *app) queryStdout(ctx context.Context, db *duck.DB, sql string, f duck.Format) (err error) {
	temp, err := os.CreateTemp("", "sluice-query-*."+string(f))
	if err != nil {
		return fmt.Errorf("create temporary file: %w", err)
	}
	defer func() { err = errors.Join(err, temp.Close(), removeIfThere(temp.Name())) }()
	if _, err := db.Export(ctx, sql, temp.Name(), f); err != nil {
		return err
	}
	if _, err := io.Copy(a.Streams.Out, temp); err != nil {
		return fmt.Errorf("print result: %w", err)
	}
	return nil
}

// removeIfThere removes a temporary file, which DuckDB removes itself where a
// query fails.
func removeIfThere(path string) error {
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

// writeViews lists one schema's views, their comments wrapped beside them.
func writeViews(b *strings.Builder, schema string, views []duck.View, width int) {
	names := 0
	for _, v := range views {
		if v.Schema == schema {
			names = max(names, displayWidth(v.Name))
		}
	}
	indent := "  " + strings.Repeat(" ", names) + "  "
	room := width - len(indent)
	if width == 0 || room < 30 {
		room = math.MaxInt
	}
	for _, v := range views {
		if v.Schema != schema {
			continue
		}
		comment := strings.Join(wrapText(oneLine(v.Comment), room), "\n"+indent)
		b.WriteString(strings.TrimRight("  "+pad(v.Name, names, false)+"  "+comment, " ") + "\n")
	}
}

// joinNames lists names as prose does: a, b and c.
func joinNames(names []string) string {
	if len(names) < 2 {
		return strings.Join(names, "")
	}
	return strings.Join(names[:len(names)-1], ", ") + " and " + names[len(names)-1]
}
