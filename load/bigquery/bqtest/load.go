package bqtest

import (
	"context"
	"database/sql"
	"net/http"
	"slices"
	"strings"

	bq "google.golang.org/api/bigquery/v2"
)

// maxUpload is how large a media upload may be ("Quotas and limits", "Load
// jobs": 100 MB from a local file is for the console; the API's resumable
// uploads take 5 TB, a compressed JSON file 4 GB). The stand-in keeps uploads in
// memory and bounds them by that.
const maxUpload = 1 << 30

// loadOutcome is what a load job did.
type loadOutcome struct {
	files, input, rows, output, bad int64
}

func (o *loadOutcome) statistics() *bq.JobStatistics3 {
	return &bq.JobStatistics3{
		InputFiles: o.files, InputFileBytes: o.input, OutputRows: o.rows, OutputBytes: o.output, BadRecords: o.bad,
		ForceSendFields: []string{"OutputRows", "BadRecords", "InputFiles", "InputFileBytes"},
	}
}

// loading writes rows into the destination of a load job, or of a query.
type loading struct {
	s       *Server
	ctx     context.Context //nolint:containedctx // the job's
	dest    *bq.TableReference
	create  string
	write   string
	schema  []*bq.TableFieldSchema // nil: the table's own
	options []string               // schemaUpdateOptions
	part    *bq.TimePartitioning
	cluster *bq.Clustering
}

// loadWork loads media into a table.
func (s *Server) loadWork(media []byte) work {
	return func(ctx context.Context, j *job) error {
		c := j.conf.Load
		if c.DestinationTable == nil {
			return &apiError{status: http.StatusBadRequest, reason: "required", message: "Required parameter is missing: configuration.load.destinationTable"}
		}
		if c.Autodetect || c.IgnoreUnknownValues || c.MaxBadRecords != 0 || c.JsonExtension != "" || c.NullMarker != "" || c.ProjectionFields != nil || c.DestinationTableProperties != nil {
			return unknown("autodetect, ignoreUnknownValues, maxBadRecords and such of a load job")
		}
		if len(media) > maxUpload {
			return invalid("Upload of %d bytes is too large", len(media))
		}
		l := &loading{
			s: s, ctx: ctx, dest: c.DestinationTable, create: c.CreateDisposition, write: c.WriteDisposition, options: c.SchemaUpdateOptions,
			part: c.TimePartitioning, cluster: c.Clustering,
		}
		if c.Schema != nil {
			l.schema = c.Schema.Fields
		}
		if l.write == "" {
			l.write = "WRITE_APPEND" // REST v2, JobConfigurationLoad.writeDisposition
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if err := l.count(); err != nil {
			return err
		}
		cols, err := l.columns()
		if err != nil {
			return err
		}
		var rows []batch
		var problems []*apiError
		switch c.SourceFormat {
		case "NEWLINE_DELIMITED_JSON":
			rows, problems = readJSONLines(media, cols)
		case "PARQUET":
			rows, cols, problems = s.readParquet(ctx, media, cols, l.schema == nil)
			if l.schema == nil && len(problems) == 0 {
				l.schema = schemaFields(cols)
			}
		default:
			return unknown("source format %q", c.SourceFormat)
		}
		if len(problems) > 0 {
			j.problems = problems
			return &apiError{status: http.StatusBadRequest, reason: "invalid", location: problems[0].location, message: "Error while reading data, error message: " + problems[0].message}
		}
		j.load = &loadOutcome{files: 1, input: int64(len(media))}
		for _, b := range rows {
			j.load.rows += int64(len(b.rows))
		}
		return l.put(rows)
	}
}

// find gives the destination, nil where it is not there.
func (l *loading) find() (*dataset, *table, error) {
	d, err := l.s.findDataset(l.dest.ProjectId, l.dest.DatasetId)
	if err != nil {
		return nil, nil, err
	}
	t := d.tables[l.dest.TableId]
	if t != nil && l.s.expired(t) {
		t = nil
	}
	if t != nil && t.phys == "" {
		return nil, nil, invalid("%s is not allowed for this operation because it is currently a %s.", t.ref, t.meta.Type)
	}
	return d, t, nil
}

// count takes the quotas of a job that writes to a table before it does: a load
// job counts "including failed load jobs" ("Load jobs per table per day"). Of a
// partitioned table the partitions count, which are known once rows are written.
func (l *loading) count() error {
	_, t, err := l.find()
	if err != nil {
		return err
	}
	ref := tableRef{l.dest.ProjectId, l.dest.DatasetId, l.dest.TableId}
	if err := l.s.update(ref, false); err != nil {
		return err
	}
	if t == nil && l.part != nil || t != nil && t.partitioning() != nil {
		return nil
	}
	return l.s.modify(ref, false, 1)
}

// columns are the columns that the rows are read as.
func (l *loading) columns() ([]column, error) {
	_, t, err := l.find()
	if err != nil {
		return nil, err
	}
	if t == nil || l.schema != nil {
		return columnsOfSchema(l.schema, l.s.now())
	}
	return t.columns, nil
}

// put applies the dispositions (REST v2, JobConfigurationLoad) and writes rows,
// all in one transaction; s.mu is held.
func (l *loading) put(rows []batch) error {
	d, t, err := l.find()
	if err != nil {
		return err
	}
	ref := tableRef{l.dest.ProjectId, l.dest.DatasetId, l.dest.TableId}
	if t == nil {
		if l.create == "CREATE_NEVER" {
			return notFound("Table", ref.String())
		}
		m := &bq.Table{TableReference: l.dest, Schema: &bq.TableSchema{Fields: l.schema}, TimePartitioning: l.part, Clustering: l.cluster}
		if t, err = l.s.newTable(l.ctx, d, m); err != nil {
			return err
		}
		t.meta.Schema = nil
		if err := l.s.changeTable(l.ctx, t, l.appendAll(rows, false)); err != nil {
			return err
		}
		d.tables[ref.table] = t
		return nil
	}
	if l.write == "WRITE_EMPTY" {
		sz, err := l.s.measure(l.ctx, l.s.db, t, true)
		if err != nil {
			return err
		}
		if len(sz.parts) > 0 {
			return duplicate("Table", ref.String())
		}
	}
	if l.part != nil {
		if err := samePartitioning(t.meta, &bq.Table{TimePartitioning: l.part}); err != nil {
			return err
		}
	}
	if l.schema != nil {
		if err := l.updateSchema(t); err != nil {
			return err
		}
	}
	truncate := l.write == "WRITE_TRUNCATE"
	if truncate && l.s.hasCDC(t) {
		return invalid("WRITE_TRUNCATE is not supported over table %s, which has change data capture active", ref)
	}
	if truncate {
		t.mutated++
	}
	return l.s.changeTable(l.ctx, t, l.appendAll(rows, truncate))
}

func (l *loading) appendAll(rows []batch, truncate bool) func(*sql.Conn, *table) error {
	return func(conn *sql.Conn, t *table) error {
		var emptied int64
		if truncate {
			var err error
			if emptied, err = l.s.countPartitions(l.ctx, conn, t, t.partitionsOf("", t.phys)); err != nil {
				return err
			}
			if _, err := conn.ExecContext(l.ctx, "DELETE FROM "+t.phys); err != nil {
				return err
			}
		}
		last, err := l.s.lastRow(l.ctx, conn, t)
		if err != nil {
			return err
		}
		for _, b := range rows {
			if err := t.append(conn, b); err != nil {
				return err
			}
		}
		if err := l.s.checkAppended(l.ctx, conn, t, last); err != nil || t.partitioning() == nil {
			return err
		}
		return l.s.countModified(l.ctx, conn, t, emptied, last)
	}
}

// updateSchema: the job's schema has to be the table's, except for what
// schemaUpdateOptions allow; columns may be left out where they are NULLABLE.
func (l *loading) updateSchema(t *table) error {
	now := l.s.now()
	next, err := columnsOfSchema(l.schema, now)
	if err != nil {
		return err
	}
	mismatch := "Provided Schema does not match Table " + t.ref.String() + ". "
	cols := slices.Clone(t.columns)
	for _, n := range next {
		at := slices.IndexFunc(cols, func(c column) bool { return strings.EqualFold(c.name, n.name) })
		switch {
		case at < 0 && !slices.Contains(l.options, "ALLOW_FIELD_ADDITION"):
			return invalid("%sCannot add fields (field: %s)", mismatch, n.name)
		case at < 0 && n.required:
			return invalid("%sCannot add required fields to an existing schema. (field: %s)", mismatch, n.name)
		case at < 0:
			cols = append(cols, n)
		case cols[at].kind != n.kind:
			return invalid("%sField %s has changed type from %s to %s", mismatch, n.name, restType(cols[at].kind), restType(n.kind))
		case n.required && !cols[at].required:
			return invalid("%sField %s has changed mode from NULLABLE to REQUIRED", mismatch, n.name)
		case !n.required && cols[at].required:
			if !slices.Contains(l.options, "ALLOW_FIELD_RELAXATION") {
				return invalid("%sField %s has changed mode from REQUIRED to NULLABLE", mismatch, n.name)
			}
			cols[at].required = false
		}
	}
	if slices.Equal(cols, t.columns) {
		return nil
	}
	if err := l.s.alterRows(l.ctx, t, cols); err != nil {
		return err
	}
	t.columns, t.etag = cols, l.s.nextSerial()
	return nil
}
