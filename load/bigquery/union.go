package bigquery

import (
	"context"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strings"

	bq "google.golang.org/api/bigquery/v2"

	"github.com/sluice-etl/sluice/load"
	sqlviews "github.com/sluice-etl/sluice/load/views"
)

// unionComment is the description of a view over accounts, by which it is told
// apart from what somebody else made.
const unionComment = "The contacts of all accounts, as the _active view of each has them. Made by sluice, which replaces it when one of them changes."

// unionLabel is the label by which a view over accounts is found where it has
// another name than it is to have: lists of tables tell labels, and no descriptions.
const unionLabel = "sluice_union"

// unionTries bounds how often the view is looked at again after it was made:
// another account's commit may have changed what it reads meanwhile.
const unionTries = 3

// unionFrom is a line of the view that names a table's view.
var unionFrom = regexp.MustCompile("(?m)^FROM `[^`]*\\.([^`.]+)_active`$")

// isUnion reports whether something is a view over accounts that sluice made.
func isUnion(t *bq.Table) bool { return t != nil && t.View != nil && t.Description == unionComment }

// unionReads are the tables that the view reads, sorted.
func unionReads(t *bq.Table) []string {
	var out []string
	for _, m := range unionFrom.FindAllStringSubmatch(t.View.Query, -1) {
		out = append(out, m[1])
	}
	slices.Sort(out)
	return out
}

// ensureUnion makes the view over accounts, over those whose tables exist, unless
// it is there as it is to be. changed says that what it reads may be another; the
// table without is left out: it is going. A name that something else has is left to
// it: what a survey says of that is no reason to take no data.
func (l *Loader) ensureUnion(ctx context.Context, changed bool, without string) error {
	if l.o.Union.Name == "" {
		return nil
	}
	for range unionTries {
		stands, err := l.table(ctx, l.o.Union.Name)
		switch {
		case err != nil:
			return err
		case stands != nil && !isUnion(stands), stands != nil && !changed && slices.Equal(unionReads(stands), l.o.Union.Sorted()):
			return nil
		}
		parts, err := l.unionParts(ctx, without)
		if err != nil {
			return err
		}
		if len(parts) == 0 {
			if stands == nil {
				return nil
			}
			return l.remove(ctx, l.o.Union.Name)
		}
		body := unionBody(parts)
		if stands != nil && strings.TrimSpace(stands.View.Query) == body && stands.Labels[unionLabel] != "" {
			return nil
		}
		if _, _, err := l.query(ctx, l.unionSQL(body)); err != nil {
			return fmt.Errorf("make view %s over all accounts: %w", l.o.place(l.o.Union.Name), err)
		}
		changed = true
	}
	return nil
}

// unionParts are the views of the accounts' tables that exist.
func (l *Loader) unionParts(ctx context.Context, without string) ([]sqlviews.UnionPart, error) {
	tables := slices.DeleteFunc(l.o.Union.Sorted(), func(t string) bool { return t == without })
	found := make([]*bq.Table, len(tables))
	err := parallel(ctx, len(tables), l.o.InFlight, func(ctx context.Context, i int) (err error) {
		found[i], err = l.table(ctx, tables[i]+"_active")
		return err
	})
	var out []sqlviews.UnionPart
	for i, t := range found {
		if t == nil || t.View == nil || !ownView(t.Description) {
			continue
		}
		p := sqlviews.UnionPart{Table: tables[i], From: l.o.quoted(tables[i] + "_active")}
		for _, f := range columnsOf(t) {
			p.Columns = append(p.Columns, sqlviews.UnionColumn{Name: f.Name, Type: plainKind(f.Type)})
		}
		out = append(out, p)
	}
	return out, err
}

// unionBody names every column in every branch: BigQuery puts them together by
// their place.
func unionBody(parts []sqlviews.UnionPart) string {
	columns := sqlviews.UnionColumns(parts, commonKind)
	var branches []string
	for _, p := range parts {
		kinds := map[string]string{}
		for _, c := range p.Columns {
			kinds[c.Name] = c.Type
		}
		var list []string
		for _, c := range columns {
			name := quoteName(c.Name)
			switch kind := kinds[c.Name]; {
			case kind == "":
				name = "CAST(NULL AS " + c.Type + ") AS " + name
			case kind == "JSON" && kind != c.Type:
				name = "TO_JSON_STRING(" + name + ") AS " + name
			case kind != c.Type:
				name = "CAST(" + name + " AS " + c.Type + ") AS " + name
			}
			list = append(list, name)
		}
		branches = append(branches, "SELECT "+strings.Join(list, ", ")+"\nFROM "+p.From)
	}
	return strings.Join(branches, "\nUNION ALL\n")
}

// commonKind holds numbers as numbers and everything else as text.
func commonKind(a, b string) string {
	number := func(t string) bool { return t == "INT64" || t == "FLOAT64" }
	switch {
	case a == b:
		return a
	case number(a) && number(b):
		return "FLOAT64"
	default:
		return "STRING"
	}
}

func (l *Loader) unionSQL(body string) string {
	w := &viewWriter{}
	labels := map[string]string{unionLabel: "1"}
	maps.Copy(labels, l.o.Labels)
	options := "description=" + w.text(unionComment) + ", labels=" + w.labels(labels)
	return "CREATE OR REPLACE VIEW " + l.o.quoted(l.o.Union.Name) + "\nOPTIONS (" + options + ")\nAS\n" + body
}

// formerUnions are the views over accounts that read this table and have another
// name than the one that is wanted.
func (l *Loader) formerUnions(ctx context.Context) (out []*bq.Table, err error) {
	if len(l.o.Union.Tables) == 0 {
		return nil, nil
	}
	for token := ""; ; {
		var page *bq.TableList
		err := l.retry(ctx, func(ctx context.Context) (err error) {
			call := l.rest.Tables.List(l.o.Project, l.o.Dataset).Context(ctx).MaxResults(tablesPage)
			if token != "" {
				call.PageToken(token)
			}
			page, err = call.Do()
			return err
		})
		if err != nil {
			return nil, explain("list the tables of dataset", l.o.Project+"."+l.o.Dataset, err)
		}
		for _, listed := range page.Tables {
			name := listed.TableReference.TableId
			if listed.Labels[unionLabel] == "" || name == l.o.Union.Name {
				continue
			}
			t, err := l.table(ctx, name)
			if err != nil {
				return nil, err
			}
			if isUnion(t) && slices.Contains(unionReads(t), l.o.Table) {
				out = append(out, t)
			}
		}
		if token = page.NextPageToken; token == "" {
			return out, nil
		}
	}
}

// tablesPage is how many tables are listed at once, of the most that the service
// gives.
const tablesPage = 1000

// ofUnion is the view over accounts beside what stands there: whether it has the
// columns of this account; and those that nothing wants any more.
func (inv *inventory) ofUnion() (out []load.Resource) {
	for _, t := range inv.former {
		out = append(out, load.Resource{Kind: load.KindView, Name: t.TableReference.TableId, Have: load.UnionAttributes(unionReads(t), true)})
	}
	if inv.o.Union.Name == "" {
		return out
	}
	r := load.Resource{Kind: load.KindView, Name: inv.o.Union.Name, Want: inv.o.Union.Attributes()}
	switch t := inv.union; {
	case isUnion(t):
		fresh := true
		if own := inv.standing(inv.o.Table + "_active"); own != nil && own.own {
			for _, c := range own.fields {
				fresh = fresh && fieldNamed(columnsOf(t), c.Name) != nil
			}
		}
		r.Have = load.UnionAttributes(unionReads(t), fresh)
	case t != nil:
		r.Blocked, r.Effects = true, []string{inv.o.foreignUnion().sentence()}
	}
	return append(out, r)
}

func (o Options) foreignUnion() *Error {
	return &Error{
		Message: "what has the name is no view over accounts that sluice made", Table: o.place(o.Union.Name), Err: load.ErrForeign,
		hint: "Give the pipeline another union_view, or union_view: off, or rename what is there.",
	}
}
