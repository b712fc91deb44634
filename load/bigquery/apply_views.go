package bigquery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"

	bq "google.golang.org/api/bigquery/v2"

	"github.com/sluice-etl/sluice/schemas"
)

// viewsLabel is the label of the commits table that says which views were made:
// a digest of their statements. Where a name was taken, and a view left out, it
// is another digest than that of all views, so that the names are looked at again
// after each commit, until they are free.
const viewsLabel = "sluice_views"

// ensureViews makes the views over a table, and the one over all accounts, unless
// they are there as they are to be. It comes after a commit, and again with the
// next one where it failed.
func (l *Loader) ensureViews(ctx context.Context, table schemas.Table) error {
	changed, err := l.ownViews(ctx, table)
	if err != nil {
		return err
	}
	return l.ensureUnion(ctx, changed, "")
}

// ownViews makes the views over a table, and reports whether there was anything
// to make.
func (l *Loader) ownViews(ctx context.Context, table schemas.Table) (changed bool, err error) {
	stages, err := l.stagesOf(ctx)
	if err != nil {
		return false, err
	}
	o := l.viewOptions(table, stages)
	all := viewsSQL(o)
	commits, err := l.table(ctx, l.o.commits())
	if err != nil {
		return false, err
	}
	if commits == nil {
		return false, fmt.Errorf("make views: table %s is gone", l.o.place(l.o.commits()))
	}
	if commits.Labels[viewsLabel] == digestOf(all) {
		return false, nil
	}
	for _, v := range all {
		taken, err := l.taken(ctx, v)
		if err != nil {
			return false, err
		}
		if taken {
			o.Taken = append(o.Taken, v.Name)
		}
	}
	free := viewsSQL(o)
	digest := digestOf(free)
	if commits.Labels[viewsLabel] == digest {
		return false, nil
	}
	for _, v := range free {
		if _, _, err := l.query(ctx, v.SQL); err != nil {
			return false, fmt.Errorf("make view %s: %w", l.o.place(v.Name), err)
		}
	}
	return true, l.label(ctx, l.o.commits(), viewsLabel, digest)
}

// viewOptions describe the views over a table with columns; stages names the
// table of stages, empty where there is none.
func (l *Loader) viewOptions(columns schemas.Table, stages string) viewOptions {
	return viewOptions{
		Project: l.o.Project, Dataset: l.o.Dataset, Table: l.o.Table, Columns: columns,
		Timezone: l.o.Timezone, Labels: l.o.Labels, Stages: stages,
	}
}

// label sets a label of a table, beside those that it has.
func (r *remote) label(ctx context.Context, table, name, value string) error {
	err := r.retry(ctx, func(ctx context.Context) error {
		_, err := r.rest.Tables.Patch(r.o.Project, r.o.Dataset, table, &bq.Table{Labels: map[string]string{name: value}}).Context(ctx).Do()
		return err
	})
	return explain("label table", r.o.place(table), err)
}

// digestOf identifies what views say.
func digestOf(views []view) string {
	sum := sha256.New()
	for _, v := range views {
		sum.Write([]byte(v.SQL))
	}
	return hex.EncodeToString(sum.Sum(nil))[:32]
}

// taken reports whether something that is not ours has the name of a view.
func (l *Loader) taken(ctx context.Context, v view) (bool, error) {
	if !v.Function {
		t, err := l.table(ctx, v.Name)
		return t != nil && (t.View == nil || !ownView(t.Description)), err
	}
	found, err := l.getRoutine(ctx, v.Name)
	return found != nil && !ownView(found.Description), err
}
