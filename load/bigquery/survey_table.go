package bigquery

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	bq "google.golang.org/api/bigquery/v2"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// never is how an expiration reads that there is none.
const never = "never"

// pairs collects a resource's attributes.
type pairs struct{ want, have []load.Attribute }

// both adds an attribute that is wanted and there.
func (p *pairs) both(name, want, have string) {
	p.wanted(name, want)
	p.there(name, have)
}

// usual adds one that something else has changed.
func (p *pairs) usual(name, want, have string) {
	p.both(name, want, have)
	p.want[len(p.want)-1].Usual = true
}

func (p *pairs) wanted(name, value string) {
	p.want = append(p.want, load.Attribute{Name: name, Value: value})
}

func (p *pairs) there(name, value string) {
	p.have = append(p.have, load.Attribute{Name: name, Value: value})
}

// labels adds those of a thing: what is wanted, and what is there but for labels
// of Sluice's own.
func (p *pairs) labels(prefix string, want, have map[string]string) {
	add := func(to *[]load.Attribute, from map[string]string) {
		for _, name := range sortedKeys(from) {
			if !strings.HasPrefix(name, "sluice_") {
				*to = append(*to, load.Attribute{Name: prefix + "labels." + name, Value: from[name]})
			}
		}
	}
	add(&p.want, want)
	add(&p.have, have)
}

// without returns attributes of a thing that is not there.
func (p *pairs) without() pairs { return pairs{want: p.want} }

// ofDataset is the dataset beside its settings.
func (inv *inventory) ofDataset() load.Resource {
	r := load.Resource{Kind: load.KindDataset}
	var p pairs
	place, d := inv.o.Project+"."+inv.o.Dataset, inv.lay.dataset
	location := inv.o.Location
	switch {
	case d == nil:
		p.wanted("place", place)
		p.wanted("location", cmp.Or(location, defaultLocation))
		r.Want = p.want
		return r
	case location == "" || strings.EqualFold(location, d.Location):
		location = d.Location
	default:
		r.Blocked, r.Effects = true, append(r.Effects, inv.o.elsewhere(d).sentence())
	}
	p.both("place", place, place)
	p.both("location", location, d.Location)
	// Where a default is set, Sluice overrides it in its own tables.
	if ms := d.DefaultTableExpirationMs; ms != 0 {
		p.there("default_table_expiration", span(ms))
	}
	if ms := d.DefaultPartitionExpirationMs; ms != 0 {
		p.there("default_partition_expiration", span(ms))
	}
	r.Want, r.Have = p.want, p.have
	return r
}

// sentence is an error as a plan's effect.
func (e *Error) sentence() string {
	s := strings.ToUpper(e.Message[:1]) + e.Message[1:]
	if e.Table != "" {
		s += " (" + e.Table + ")"
	}
	return s + ". " + e.hint
}

// span is a number of milliseconds in words.
func span(ms int64) string {
	d := time.Duration(ms) * time.Millisecond
	switch {
	case d == day:
		return "1 day"
	case d%day == 0:
		return fmt.Sprintf("%d days", d/day)
	}
	return brief(d)
}

// brief is a duration without units that are zero, as settings have it: 15m.
func brief(d time.Duration) string {
	s := d.String()
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}

// ofTable is the table of the contacts, its history with it, beside what want
// asks for, which has the columns of both.
func (inv *inventory) ofTable(want schemas.Table) (load.Resource, error) {
	r := load.Resource{Kind: load.KindTable, Name: inv.o.Table}
	var current, history blueprint
	said := map[string]bool{}
	for _, b := range inv.blueprints(want, "", "") {
		t := inv.lay.named(b.name)
		switch b.name {
		case inv.o.Table:
			current = b
		case inv.o.history():
			history = b
		}
		if t == nil {
			continue
		}
		for _, err := range inv.refuses(b, t) {
			var e *Error
			if errors.Is(err, load.ErrForeign) || !errors.As(err, &e) {
				return r, err
			}
			// One sentence for all tables, which names the first of them.
			bare := *e
			bare.Table = ""
			if !said[bare.sentence()] {
				said[bare.sentence()] = true
				r.Effects = append(r.Effects, e.sentence())
			}
		}
	}
	r.Blocked = len(r.Effects) > 0
	p := inv.settings(current, inv.lay.current)
	if replaced := inv.method(&p); replaced != nil {
		r.Blocked, r.Effects = false, strings.Split(replaced.Detail, "\n")
	}
	inv.columns(&p, "", current, inv.lay.current)
	if inv.lay.current == nil {
		p = p.without()
	}
	inv.withHistory(&p, history)
	if err := inv.lay.going(); err != nil {
		r.Blocked, r.Effects = true, []string{err.sentence()}
	}
	r.Want, r.Have = p.want, p.have
	if inv.lay.current != nil {
		r.Holds.Contacts, r.Holds.Bytes = contacts(inv.lay.current), inv.lay.current.NumBytes
	}
	if inv.lay.history != nil {
		r.Holds.Versions = contacts(inv.lay.history)
		r.Holds.Bytes += inv.lay.history.NumBytes
	}
	return r, nil
}

// refuses says why Sluice would not write to a table as it is: what somebody has
// done to it has to be undone first.
func (inv *inventory) refuses(b blueprint, t *bq.Table) (out []error) {
	_, _, types := widened(inv.o.place(b.name), columnsOf(t), b.fields)
	for _, err := range []error{inv.checkShape(b, t), types} {
		if err != nil {
			out = append(out, err)
		}
	}
	if b.keeps && expires(t) && !inherits(t, inv.lay.dataset) {
		out = append(out, inv.o.wouldExpire(b.name))
	}
	return out
}

// settings are what a table was made with, but for its columns.
func (inv *inventory) settings(b blueprint, t *bq.Table) pairs {
	var p pairs
	if t == nil {
		t = &bq.Table{}
	}
	place := inv.o.place(b.name)
	p.both("place", place, place)
	want, have := partitioning(b.table.TimePartitioning, nil), partitioning(t.TimePartitioning, t.RangePartitioning)
	if t.RangePartitioning == nil && b.earlier != nil && b.earlier(t.TimePartitioning) {
		want = have // as an earlier version made it, and as it stays
	}
	p.both("partitioning", want, have)
	if t.RequirePartitionFilter || t.TimePartitioning != nil && t.TimePartitioning.RequirePartitionFilter {
		p.usual("require_partition_filter", "false", "true")
	}
	p.both("clustering", clustering(b.table.Clustering), clustering(t.Clustering))
	p.both("partition_expiration", never, partitionExpiration(t))
	inv.expiration(&p, t)
	if b.stale {
		p.both("primary_key", schemas.ColID, primaryKey(t))
		p.both("max_staleness", brief(staleness(b.table.MaxStaleness)), printedStaleness(t))
	}
	p.labels("", inv.o.Labels, t.Labels)
	return p
}

// expiration adds that of the table as a whole, where there is one.
func (inv *inventory) expiration(p *pairs, t *bq.Table) {
	if t.ExpirationTime != 0 {
		p.usual("expiration", never, time.UnixMilli(t.ExpirationTime).UTC().Format(time.RFC3339))
	}
}

func primaryKey(t *bq.Table) string {
	if t.TableConstraints == nil || t.TableConstraints.PrimaryKey == nil {
		return "none"
	}
	return strings.Join(t.TableConstraints.PrimaryKey.Columns, ", ")
}

// partitioning is how a table is divided, in words.
func partitioning(by *bq.TimePartitioning, ranges *bq.RangePartitioning) string {
	if ranges != nil {
		return "ranges of " + ranges.Field
	}
	return strings.TrimPrefix(partitions(by), "by ")
}

func clustering(c *bq.Clustering) string {
	if c == nil {
		return "none"
	}
	return strings.Join(c.Fields, ", ")
}

func partitionExpiration(t *bq.Table) string {
	if t.TimePartitioning == nil || t.TimePartitioning.ExpirationMs == 0 {
		return never
	}
	return span(t.TimePartitioning.ExpirationMs)
}

func printedStaleness(t *bq.Table) string {
	if d := staleness(t.MaxStaleness); d >= 0 {
		return brief(d)
	}
	return t.MaxStaleness
}

// method adds how rows get to the table. Where that asks for another table, it is
// what forces it, and so is all that differs with it.
func (inv *inventory) method(p *pairs) *load.ReplaceError {
	want := load.Attribute{Name: "method", Value: string(inv.o.Method)}
	have := want
	var replaced *load.ReplaceError
	if errors.As(inv.sameMethod(inv.lay, inv.last), &replaced) {
		want.Forces, have.Value = true, replaced.From
		if from, to, begun := strings.Cut(string(inv.last.method), underWay); begun {
			have.Value = from + ", on its way to " + to
		}
		for i, w := range p.want {
			if w.Name == "partitioning" {
				p.want[i].Forces = valueOf(p.have, w.Name) != w.Value
			}
		}
	}
	p.want, p.have = slices.Insert(p.want, 1, want), slices.Insert(p.have, 1, have)
	return replaced
}

func valueOf(list []load.Attribute, name string) string {
	for _, a := range list {
		if a.Name == name {
			return a.Value
		}
	}
	return ""
}

// columns adds those of a table. Types are those that the loader reads and
// writes, so that a column that needs no change is equal; one of somebody else's
// stands in what is there alone.
func (inv *inventory) columns(p *pairs, prefix string, b blueprint, t *bq.Table) {
	for _, w := range b.fields {
		f := fieldNamed(columnsOf(t), w.Name)
		mode := w.Mode
		if f != nil && mode == "REQUIRED" && f.Mode != "REPEATED" {
			mode = f.Mode // a column cannot become required
		}
		p.wanted(prefix+load.ColumnAttribute(w.Name), columnValue(w.Type, mode))
	}
	for _, f := range columnsOf(t) {
		name := f.Name
		if w := fieldNamed(b.fields, name); w != nil {
			name = w.Name // which may differ by case
		}
		p.there(prefix+load.ColumnAttribute(name), columnValue(f.Type, f.Mode))
	}
}

// columnValue is a column's type as load.ColumnAttributes has it.
func columnValue(kind, mode string) string {
	value := string(typeOf(kind))
	if value == "" {
		value = strings.ToLower(plainKind(kind))
	}
	switch mode {
	case "REPEATED":
		return "array<" + value + ">"
	case "REQUIRED":
		return value + " required"
	}
	return value
}

// withHistory adds what differs of the history from what it is to be.
func (inv *inventory) withHistory(p *pairs, b blueprint) {
	const prefix = "history."
	h, place := inv.lay.history, inv.o.place(b.name)
	switch {
	case h == nil && inv.lay.current == nil:
		return
	case h == nil:
		p.wanted(prefix+"place", place)
		return
	case inv.lay.current == nil:
		p.both(prefix+"place", place, place)
	}
	all := inv.settings(b, h)
	inv.columns(&all, "", b, h)
	for _, w := range all.want {
		if have := valueOf(all.have, w.Name); have != w.Value {
			p.want = append(p.want, load.Attribute{Name: prefix + w.Name, Value: w.Value, Usual: have != ""})
			if have != "" {
				p.there(prefix+w.Name, have)
			}
		}
	}
}
