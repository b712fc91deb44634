package bigquery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	bq "google.golang.org/api/bigquery/v2"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

var _ load.Surveyor = (*Loader)(nil)

// Survey implements load.Surveyor. It runs no job: the resources of dataset,
// tables, views and functions are read, and the list of records, all of which
// the service gives for nothing.
func (l *Loader) Survey(ctx context.Context, lineage string, table schemas.Table) ([]load.Resource, error) {
	inv, err := l.inventory(ctx, lineage)
	if err != nil {
		return nil, fmt.Errorf("look at what stands at the destination: %w", err)
	}
	out := []load.Resource{inv.ofDataset()}
	contacts, err := inv.ofTable(joined(table, inv.lay))
	if err != nil {
		return nil, fmt.Errorf("look at what stands at the destination: %w", err)
	}
	tables := []load.Resource{contacts}
	if l.o.Stages != "" {
		tables = append(tables, inv.ofStages())
	}
	all := slices.Concat(tables, inv.ofViews(joined(table, inv.lay)), inv.ofUnion())
	slices.SortStableFunc(all, func(a, b load.Resource) int { // tables before views, as their words are
		if c := strings.Compare(a.Kind, b.Kind); c != 0 {
			return c
		}
		return strings.Compare(a.Name, b.Name)
	})
	return append(out, all...), nil
}

// inventory is all that stands at a destination.
type inventory struct {
	*Loader
	lay    layout
	stages *bq.Table // the table that has the name of the stages; nil: there is none
	last   *commitRecord
	views  []standing
	union  *bq.Table // what has the name of the view over accounts; nil: nothing
	former []*bq.Table
}

// inventory looks at everything. What is not lineage's is an error, and so is a
// dataset that is missing and that nobody is to make.
func (l *Loader) inventory(ctx context.Context, lineage string) (*inventory, error) {
	inv := &inventory{Loader: l, last: &commitRecord{}}
	var err error
	if inv.lay, err = l.look(ctx); err != nil {
		return nil, err
	}
	if inv.lay.dataset == nil {
		if !l.o.CreateDataset {
			return nil, l.noDataset()
		}
		return inv, nil
	}
	if err := inv.lay.belongs(lineage); err != nil {
		return nil, err
	}
	if l.o.Stages != "" {
		if inv.stages, err = l.table(ctx, l.o.Stages); err != nil {
			return nil, err
		}
	}
	if inv.lay.commits != nil {
		if inv.last, err = l.listLast(ctx); err != nil {
			return nil, err
		}
	}
	if inv.views, err = l.standingViews(ctx); err != nil {
		return inv, err
	}
	if inv.former, err = l.formerUnions(ctx); err != nil || l.o.Union.Name == "" {
		return inv, err
	}
	inv.union, err = l.table(ctx, l.o.Union.Name)
	return inv, err
}

// listLast is last without a job: of the record of the last package its serial,
// status and method. It goes through the list of records by tabledata.list, some
// 100,000 a page, as one who browses a table ("Managing table data", "Browse table
// data").
func (l *Loader) listLast(ctx context.Context) (*commitRecord, error) {
	out := &commitRecord{}
	for token := ""; ; {
		var page *bq.TableDataList
		err := l.retry(ctx, func(ctx context.Context) (err error) {
			call := l.rest.Tabledata.List(l.o.Project, l.o.Dataset, l.o.commits()).Context(ctx).SelectedFields("format_version,package,status,method")
			if token != "" {
				call.PageToken(token)
			}
			page, err = call.Do()
			return err
		})
		if err != nil {
			return nil, explain("read the list of packages", l.o.place(l.o.commits()), err)
		}
		for _, row := range page.Rows {
			if err := l.listed(row, out); err != nil {
				return nil, err
			}
		}
		if token = page.PageToken; token == "" {
			return out, nil
		}
	}
}

// listed takes over a record that is later than last.
func (l *Loader) listed(row *bq.TableRow, last *commitRecord) error {
	place := l.o.place(l.o.commits())
	var text [4]string
	ok := len(row.F) == len(text)
	for i := 0; ok && i < len(text); i++ {
		text[i], ok = row.F[i].V.(string)
	}
	if !ok {
		return foreign(place, "a record of a package is not laid out as sluice lays it out", otherName)
	}
	version, err1 := strconv.ParseInt(text[0], 10, 64)
	serial, err2 := strconv.ParseInt(text[1], 10, 64)
	if err := errors.Join(err1, err2); err != nil {
		return foreign(place, "a record of a package is not laid out as sluice lays it out", otherName)
	}
	if version > FormatVersion {
		return l.laterFormat(version)
	}
	if serial > last.serial {
		last.serial, last.status, last.method = serial, text[2], Method(text[3])
	}
	return nil
}

// getRoutine returns a function, nil where there is none.
func (l *Loader) getRoutine(ctx context.Context, name string) (*bq.Routine, error) {
	var found *bq.Routine
	err := l.retry(ctx, func(ctx context.Context) (err error) {
		found, err = l.rest.Routines.Get(l.o.Project, l.o.Dataset, name).Context(ctx).Do()
		return err
	})
	if notFound(err) {
		return nil, nil
	}
	return found, explain("look at function", l.o.place(name), err)
}

// standing is a view or a function that has the name of one of ours.
type standing struct {
	name     string
	function bool
	own      bool // made by viewsSQL; else it is left alone
	sql      string
	labels   map[string]string
	fields   []*bq.TableFieldSchema // of a view
}

// viewSuffixes are what the names of views and functions end in that this version
// or an earlier one makes, in the order in which each can be made; true: of a
// function.
func viewSuffixes() []struct {
	suffix   string
	function bool
} {
	return []struct {
		suffix   string
		function bool
	}{
		{"_all", false},
		{"_active", false},
		{"_as_of", true},
		{"_customers", false},
		{"_active_within", true},
		{"_unattended", false},
		{"_reengagement", true},
		{"_activity_daily", false},
		{"_engagement_by_channel", false},
		{"_stage_funnel", false},
		{"_new_and_updated", false},
		{"_runs", false},
	}
}

// standingViews looks at everything that has the name of a view or function of
// ours, in the order in which each can be made.
func (l *Loader) standingViews(ctx context.Context) ([]standing, error) {
	names := viewSuffixes()
	found := make([]*standing, len(names))
	err := parallel(ctx, len(names), l.o.InFlight, func(ctx context.Context, i int) error {
		name := l.o.Table + names[i].suffix
		if names[i].function {
			r, err := l.getRoutine(ctx, name)
			if r != nil {
				found[i] = &standing{name: name, function: true, own: ownView(r.Description), sql: r.DefinitionBody}
			}
			return err
		}
		t, err := l.table(ctx, name)
		if t == nil {
			return err
		}
		found[i] = &standing{name: name, labels: t.Labels, fields: columnsOf(t)}
		if t.View != nil {
			found[i].own, found[i].sql = ownView(t.Description), t.View.Query
		}
		return err
	})
	var out []standing
	for _, s := range found {
		if s != nil {
			out = append(out, *s)
		}
	}
	return out, err
}
