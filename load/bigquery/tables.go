package bigquery

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	bq "google.golang.org/api/bigquery/v2"

	"github.com/sluice-etl/sluice/schemas"
)

const (
	// stagingDays is for how long staged rows are kept: longer than any commit
	// takes, and short enough to cost nothing.
	stagingDays = 7
	day         = 24 * time.Hour
	// mostPatches is how often a change of a table's columns starts again
	// because somebody else changed the table meanwhile.
	mostPatches = 8
)

// layout is what is there of a table's four. A table that is not there is nil.
type layout struct {
	o       Options
	dataset *bq.Dataset
	current *bq.Table
	history *bq.Table
	staging *bq.Table
	commits *bq.Table
}

// look finds out what there is, and changes nothing.
func (r *remote) look(ctx context.Context) (layout, error) {
	lay := layout{o: r.o}
	var err error
	if lay.dataset, err = r.dataset(ctx); err != nil || lay.dataset == nil {
		return lay, err
	}
	for _, t := range []struct {
		name string
		into **bq.Table
	}{{r.o.Table, &lay.current}, {r.o.history(), &lay.history}, {r.o.staging(), &lay.staging}, {r.o.commits(), &lay.commits}} {
		if *t.into, err = r.table(ctx, t.name); err != nil {
			return lay, err
		}
	}
	return lay, nil
}

// table returns a table's resource, nil where there is none.
func (r *remote) table(ctx context.Context, name string) (*bq.Table, error) {
	var t *bq.Table
	err := r.retry(ctx, func(ctx context.Context) (err error) {
		t, err = r.rest.Tables.Get(r.o.Project, r.o.Dataset, name).Context(ctx).Do()
		return err
	})
	if notFound(err) {
		return nil, nil
	}
	return t, explain("look at table", r.o.place(name), err)
}

// ours refuses tables that are not lineage's, and those that are going.
func (l layout) ours(lineage string) error {
	if err := l.belongs(lineage); err != nil {
		return err
	}
	if err := l.going(); err != nil {
		return err
	}
	return nil
}

// belongs refuses tables that are not lineage's. The commits table is the first of
// them to be made, and the last to go, so without one, none of the others may be
// there.
func (l layout) belongs(lineage string) error {
	if l.commits == nil {
		for _, t := range []*bq.Table{l.current, l.history, l.staging} {
			if t != nil {
				return foreign(l.o.place(t.TableReference.TableId), "a table that sluice did not make has the name", otherName)
			}
		}
		return nil
	}
	if got := l.commits.Labels[lineageLabel]; got != lineageValue(lineage) {
		what := "table " + l.o.Table + " was written by another state"
		if l.commits.Description != "" {
			what += " (" + l.commits.Description + ")"
		}
		if got == "" {
			what = "a table that sluice did not make has the name of its own"
		}
		return foreign(l.o.place(l.o.commits()), what,
			"Point state at the one that wrote this table (or restore it from a backup), or give the destination another dataset or the pipeline another table name.")
	}
	return nil
}

// ownsColumn reports whether a column of the table is the loader's: those stand
// in the staging table too, unless they are constants.
func (l layout) ownsColumn(name string) bool {
	return constant(name) || l.staging == nil || fieldNamed(columnsOf(l.staging), name) != nil
}

// foreignColumns are the columns of the table that somebody else added.
func (l layout) foreignColumns() []string {
	var names []string
	for _, f := range columnsOf(l.current) {
		if !l.ownsColumn(f.Name) {
			names = append(names, f.Name)
		}
	}
	return names
}

// blueprint is a table as it is to be.
type blueprint struct {
	name   string
	fields []*bq.TableFieldSchema
	table  bq.Table
	keeps  bool // rows may never expire
	// relabel has labels of a table that is there set as well. A commit leaves them:
	// nights are to need no permission to change tables.
	relabel bool
	// stale is set of a table whose max_staleness is looked after.
	stale bool
	// earlier is how earlier versions partitioned it, if otherwise: such a table
	// goes on as it is.
	earlier func(*bq.TimePartitioning) bool
}

// blueprints are the four tables in the order in which they are made and
// widened: the table itself comes last, so that whatever column it has, the
// others have.
func (r *remote) blueprints(want schemas.Table, lineage, pipeline string) []blueprint {
	labels := r.o.labels(lineageLabel, lineageValue(lineage))
	current := bq.Table{
		Description: "Every contact once, as last seen; deleted ones are marked. Written by sluice: read the view " + r.o.Table + "_all", Labels: labels,
		Clustering:       &bq.Clustering{Fields: []string{schemas.ColID}},
		TableConstraints: &bq.TableConstraints{PrimaryKey: &bq.TableConstraintsPrimaryKey{Columns: []string{schemas.ColID}}},
	}
	byMonth := &bq.TimePartitioning{Type: "MONTH", Field: schemas.ColCreatedAt}
	of := "of lineage " + lineage
	if pipeline != "" {
		of = "by pipeline " + pipeline + " " + of
	}
	var earlier func(*bq.TimePartitioning) bool
	if r.o.Method == CDC {
		// Rows of any created_at are to be streamed, which partitions by it would
		// not take (BigQuery Storage Write API, "Time-unit column partitioning"),
		// and a query that applies upserts reads all partitions.
		earlier = func(got *bq.TimePartitioning) bool { return samePartitions(byMonth, got) }
	} else {
		current.TimePartitioning = byMonth
	}
	if r.o.Method == CDC && r.o.MaxStaleness > 0 {
		current.MaxStaleness = interval(r.o.MaxStaleness)
	}
	return []blueprint{
		{name: r.o.commits(), fields: commitsFields(), keeps: true, table: bq.Table{
			Description: fmt.Sprintf("Every package that was committed to %s, %s. Written by sluice", r.o.Table, of), Labels: labels,
			// So that a commit need not go through the records of all earlier ones.
			TimePartitioning: &bq.TimePartitioning{Type: "DAY", Field: colCommittedAt},
		}, earlier: func(got *bq.TimePartitioning) bool { return got == nil }},
		{name: r.o.staging(), fields: stagingFields(want), table: bq.Table{
			Description: "Rows on their way to " + r.o.Table + ". Written by sluice", Labels: labels,
			TimePartitioning: &bq.TimePartitioning{Type: "DAY", Field: colStagedAt, ExpirationMs: (stagingDays * day).Milliseconds()},
			Clustering:       &bq.Clustering{Fields: []string{schemas.ColPackage}},
		}},
		{name: r.o.history(), fields: fields(want), keeps: true, table: bq.Table{
			Description: "Every version of every contact. Written by sluice", Labels: labels,
			TimePartitioning: &bq.TimePartitioning{Type: "DAY", Field: schemas.ColExtractedAt},
			Clustering:       &bq.Clustering{Fields: []string{schemas.ColID}},
		}},
		{name: r.o.Table, fields: fields(want), keeps: true, table: current, earlier: earlier, stale: r.o.Method == CDC},
	}
}

// interval is a duration as INTERVAL literals have it, Y-M D H:M:S.
func interval(d time.Duration) string {
	s := int64(d / time.Second)
	return fmt.Sprintf("0-0 0 %d:%d:%d", s/3600, s/60%60, s%60)
}

// staleness is an interval as a duration, 0 for none; below 0: it is not one of
// hours, minutes and seconds (Table.maxStaleness has it in canonical form).
func staleness(interval string) time.Duration {
	if interval == "" {
		return 0
	}
	var y, m, d, hours, minutes, seconds int64
	if n, err := fmt.Sscanf(interval, "%d-%d %d %d:%d:%d", &y, &m, &d, &hours, &minutes, &seconds); n != 6 || err != nil || y != 0 || m != 0 {
		return -1
	}
	return time.Duration(((d*24+hours)*60+minutes)*60+seconds) * time.Second
}

// ensure makes what is missing of the four tables, adds the columns that they
// lack, and returns the table's columns afterwards. Nothing is dropped, retyped
// or repartitioned; whatever is not as it should be is an error.
func (r *remote) ensure(ctx context.Context, lay layout, want schemas.Table, lineage, pipeline string) (schemas.Table, error) {
	if err := lay.ours(lineage); err != nil {
		return schemas.Table{}, err
	}
	if err := r.ensureDataset(ctx, lay.dataset); err != nil {
		return schemas.Table{}, err
	}
	want = joined(want, lay)
	for _, b := range r.blueprints(want, lineage, pipeline) {
		if err := r.ensureTable(ctx, b, lay.named(b.name), lay.dataset); err != nil {
			return schemas.Table{}, err
		}
	}
	return want, nil
}

// named is one of the four tables, nil where it is not there.
func (l layout) named(name string) *bq.Table {
	return map[string]*bq.Table{l.o.Table: l.current, l.o.history(): l.history, l.o.staging(): l.staging, l.o.commits(): l.commits}[name]
}

// ensureTable makes a table, or what it lacks; t is what there is of it.
func (r *remote) ensureTable(ctx context.Context, b blueprint, t *bq.Table, d *bq.Dataset) error {
	var err error
	fresh := t == nil
	if fresh {
		if t, err = r.create(ctx, b); err != nil {
			return err
		}
	}
	if t, err = r.keep(ctx, b, t, fresh, d); err != nil {
		return err
	}
	return r.conform(ctx, b, t)
}

func (r *remote) ensureDataset(ctx context.Context, d *bq.Dataset) error {
	place := r.o.Project + "." + r.o.Dataset
	if d == nil {
		if !r.o.CreateDataset {
			return r.noDataset()
		}
		d = &bq.Dataset{
			DatasetReference: &bq.DatasetReference{ProjectId: r.o.Project, DatasetId: r.o.Dataset},
			Location:         cmp.Or(r.o.Location, defaultLocation), Labels: r.o.Labels,
		}
		err := r.retry(ctx, func(ctx context.Context) error {
			_, err := r.rest.Datasets.Insert(r.o.Project, d).Context(ctx).Do()
			return spent(err)
		})
		if err != nil {
			return explain("create dataset", place, err)
		}
		if d, err = r.dataset(ctx); err != nil {
			return err
		}
		if d == nil {
			return r.noDataset()
		}
	}
	if r.o.Location != "" && !strings.EqualFold(r.o.Location, d.Location) {
		return r.o.elsewhere(d)
	}
	return nil
}

// elsewhere reports a dataset in another location than that wanted.
func (o Options) elsewhere(d *bq.Dataset) *Error {
	return &Error{
		Message: fmt.Sprintf("the dataset is in %s, and the destination's location is %s", d.Location, o.Location), Table: o.Project + "." + o.Dataset,
		hint: "A dataset stays where it was made. Correct the destination's location, or name another dataset.",
	}
}

// create makes a table. One that is there all the same is an earlier attempt's,
// or a concurrent commit's, of the same lineage.
func (r *remote) create(ctx context.Context, b blueprint) (*bq.Table, error) {
	t := b.table
	t.TableReference = r.o.reference(b.name)
	t.Schema = &bq.TableSchema{Fields: b.fields}
	err := r.retry(ctx, func(ctx context.Context) error {
		_, err := r.rest.Tables.Insert(r.o.Project, r.o.Dataset, &t).Context(ctx).Do()
		return spent(err)
	})
	if err != nil {
		return nil, explain("create table", r.o.place(b.name), err)
	}
	made, err := r.table(ctx, b.name)
	if err != nil {
		return nil, err
	}
	if made == nil {
		return nil, fmt.Errorf("create table %s: it is not there afterwards", r.o.place(b.name))
	}
	for _, own := range []string{lineageLabel, stagesLabel} {
		if made.Labels[own] != b.table.Labels[own] {
			return nil, foreign(r.o.place(b.name), "a table that something else has just made has the name", otherName)
		}
	}
	return made, nil
}

// keep sees to it that rows do not expire where they may not. A table takes the
// dataset's defaults when it is made; those are overridden. An expiration that
// somebody has set is for them to take back.
func (r *remote) keep(ctx context.Context, b blueprint, t *bq.Table, fresh bool, d *bq.Dataset) (*bq.Table, error) {
	if !b.keeps || !expires(t) {
		return t, nil
	}
	inherited := fresh || d != nil && inherits(t, d)
	if inherited {
		if err := r.unexpire(ctx, b.name, t); err != nil {
			return nil, err
		}
		var err error
		if t, err = r.table(ctx, b.name); err != nil {
			return nil, err
		}
		if t == nil {
			return nil, fmt.Errorf("keep rows of %s: the table is gone", r.o.place(b.name))
		}
		if !expires(t) {
			return t, nil
		}
	}
	return nil, r.o.wouldExpire(b.name)
}

// wouldExpire reports a table whose rows somebody lets expire.
func (o Options) wouldExpire(table string) *Error {
	return &Error{
		Message: "rows of the table would expire", Table: o.place(table),
		hint: "Sluice keeps every contact and every version. Take the table's expiration and its partitions' away (ALTER TABLE ... SET OPTIONS (expiration_timestamp = NULL, partition_expiration_days = NULL)), or use a dataset without a default expiration.",
	}
}

// inherits reports whether a table's expirations are the dataset's defaults, as
// of one whose making was interrupted.
func inherits(t *bq.Table, d *bq.Dataset) bool {
	if t.TimePartitioning != nil && t.TimePartitioning.ExpirationMs != 0 && t.TimePartitioning.ExpirationMs != d.DefaultPartitionExpirationMs {
		return false
	}
	apart := t.ExpirationTime - t.CreationTime - d.DefaultTableExpirationMs
	return t.ExpirationTime == 0 || d.DefaultTableExpirationMs != 0 && max(apart, -apart) < time.Minute.Milliseconds()
}

// unexpire takes expirations away from a table.
func (r *remote) unexpire(ctx context.Context, name string, t *bq.Table) error {
	if t.ExpirationTime != 0 {
		// Null is how the vendor's client has it (bigquery.NeverExpire).
		patch := &bq.Table{NullFields: []string{"ExpirationTime"}}
		err := r.retry(ctx, func(ctx context.Context) error {
			_, err := r.rest.Tables.Patch(r.o.Project, r.o.Dataset, name, patch).Context(ctx).Do()
			return err
		})
		if err != nil {
			return explain("take the expiration away from table", r.o.place(name), err)
		}
	}
	if t.TimePartitioning == nil || t.TimePartitioning.ExpirationMs == 0 {
		return nil
	}
	// Data definition language, "ALTER TABLE SET OPTIONS": NULL clears an option.
	// REST has no value for partitions that never expire ("0 is an invalid
	// value", TimePartitioning.expirationMs).
	_, _, err := r.query(ctx, "ALTER TABLE "+r.o.quoted(name)+" SET OPTIONS (partition_expiration_days = NULL)")
	return err
}

func expires(t *bq.Table) bool {
	return t.ExpirationTime != 0 || t.TimePartitioning != nil && t.TimePartitioning.ExpirationMs != 0
}

// conform adds to a table the columns that it lacks, under the condition that
// nobody else has changed it since it was looked at.
func (r *remote) conform(ctx context.Context, b blueprint, t *bq.Table) error {
	for range mostPatches {
		if err := r.checkShape(b, t); err != nil {
			return err
		}
		fields, changed, err := widened(r.o.place(b.name), columnsOf(t), b.fields)
		if err != nil {
			return err
		}
		patch := &bq.Table{}
		if changed {
			patch.Schema = &bq.TableSchema{Fields: fields}
		}
		if want := b.table.MaxStaleness; b.stale && staleness(t.MaxStaleness) != staleness(want) {
			patch.MaxStaleness, changed = cmp.Or(want, interval(0)), true
		}
		if b.relabel && lacksLabels(t, b) {
			patch.Labels, changed = b.table.Labels, true
		}
		if !changed {
			return nil
		}
		etag := t.Etag
		err = r.retry(ctx, func(ctx context.Context) error {
			call := r.rest.Tables.Patch(r.o.Project, r.o.Dataset, b.name, patch).Context(ctx)
			call.Header().Set("If-Match", etag)
			_, err := call.Do()
			return err
		})
		if err != nil && httpCode(err) != http.StatusPreconditionFailed {
			return explain("add columns to table", r.o.place(b.name), err)
		}
		// Look again: at what another has changed, or an attempt of ours whose
		// answer was lost; or whether the change is there.
		if t, err = r.table(ctx, b.name); err != nil {
			return err
		}
		if t == nil {
			return fmt.Errorf("add columns to table %s: it is gone", r.o.place(b.name))
		}
	}
	return &Error{
		Message: "the table was changed by something else again and again while columns were added", Table: r.o.place(b.name),
		Err: errors.New("precondition failed"), hint: "Run again when whatever changes it is done.",
	}
}

// lacksLabels reports whether a table has not all labels that it is to have.
func lacksLabels(t *bq.Table, b blueprint) bool {
	for name, value := range b.table.Labels {
		if got, ok := t.Labels[name]; !ok || got != value {
			return true
		}
	}
	return false
}

// samePartitions reports whether a table is partitioned as wanted.
func samePartitions(want, got *bq.TimePartitioning) bool {
	return got != nil && strings.EqualFold(got.Type, want.Type) && strings.EqualFold(got.Field, want.Field)
}

// checkShape refuses a table that was made otherwise.
func (r *remote) checkShape(b blueprint, t *bq.Table) error {
	wrong := func(what string) error {
		return &Error{
			Message: what, Table: r.o.place(b.name),
			hint: "What a table is partitioned and clustered by is fixed when it is made. Move the table away, or give the pipeline another table name, and run with --full.",
		}
	}
	if t.Type != "TABLE" && t.Type != "" {
		return foreign(r.o.place(b.name), "a "+strings.ToLower(t.Type)+" has the name of a table", otherName)
	}
	want, got := b.table.TimePartitioning, t.TimePartitioning
	switch {
	case t.RangePartitioning == nil && b.earlier != nil && b.earlier(got):
	case want != nil && !samePartitions(want, got):
		return wrong(fmt.Sprintf("the table is not partitioned by %s of %s", strings.ToLower(want.Type), want.Field))
	case want == nil && (got != nil || t.RangePartitioning != nil):
		return wrong("the table is partitioned")
	}
	if t.RequirePartitionFilter || got != nil && got.RequirePartitionFilter {
		return &Error{
			Message: "the table requires a filter on its partitions", Table: r.o.place(b.name),
			hint: "Views and checks read all of it: ALTER TABLE ... SET OPTIONS (require_partition_filter = false).",
		}
	}
	if c := b.table.Clustering; c != nil && (t.Clustering == nil || !slices.EqualFunc(t.Clustering.Fields, c.Fields, strings.EqualFold)) {
		return wrong("the table is not clustered by " + strings.Join(c.Fields, ", "))
	}
	if b.table.TableConstraints != nil && r.o.Method == CDC {
		if c := t.TableConstraints; c == nil || c.PrimaryKey == nil || !slices.EqualFunc(c.PrimaryKey.Columns, []string{schemas.ColID}, strings.EqualFold) {
			return &Error{
				Message: "the table's primary key is not id, and method cdc finds rows by it", Table: r.o.place(b.name),
				hint: "ALTER TABLE ... ADD PRIMARY KEY (id) NOT ENFORCED, after dropping the one that is there.",
			}
		}
	}
	return nil
}
