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

// ensureViews makes the views over a table unless they are there as they are to
// be. It comes after a commit, and again with the next one where it failed.
func (l *Loader) ensureViews(ctx context.Context, table schemas.Table) error {
	o := viewOptions{Project: l.o.Project, Dataset: l.o.Dataset, Table: l.o.Table, Columns: table, Timezone: l.o.Timezone, Labels: l.o.Labels}
	var err error
	if o.Stages, err = l.stagesOf(ctx); err != nil {
		return err
	}
	all := viewsSQL(o)
	commits, err := l.table(ctx, l.o.commits())
	if err != nil {
		return err
	}
	if commits == nil {
		return fmt.Errorf("make views: table %s is gone", l.o.place(l.o.commits()))
	}
	if commits.Labels[viewsLabel] == digestOf(all) {
		return nil
	}
	for _, v := range all {
		taken, err := l.taken(ctx, v)
		if err != nil {
			return err
		}
		if taken {
			o.Taken = append(o.Taken, v.Name)
		}
	}
	free := viewsSQL(o)
	digest := digestOf(free)
	if commits.Labels[viewsLabel] == digest {
		return nil
	}
	for _, v := range free {
		if _, _, err := l.query(ctx, v.SQL); err != nil {
			return fmt.Errorf("make view %s: %w", l.o.place(v.Name), err)
		}
	}
	err = l.retry(ctx, func(ctx context.Context) error {
		_, err := l.rest.Tables.Patch(l.o.Project, l.o.Dataset, l.o.commits(), &bq.Table{Labels: map[string]string{viewsLabel: digest}}).Context(ctx).Do()
		return err
	})
	return explain("label table", l.o.place(l.o.commits()), err)
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
	var found *bq.Routine
	err := l.retry(ctx, func(ctx context.Context) (err error) {
		found, err = l.rest.Routines.Get(l.o.Project, l.o.Dataset, v.Name).Context(ctx).Do()
		return err
	})
	if notFound(err) {
		return false, nil
	}
	if err != nil {
		return false, explain("look at function", l.o.place(v.Name), err)
	}
	return !ownView(found.Description), nil
}
