package run

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

const (
	defaultSample   = 100
	defaultExamples = 20
	// maxAsked is how many contacts that the source does not list are asked for
	// by id.
	maxAsked = 1000
	// comparedRows is how many rows a whole comparison decodes before it looks
	// at them.
	comparedRows = 8192
)

// Comparison is how Engine.Compare looks at a table.
type Comparison struct {
	// Destination names the one whose table is compared. "": the first that can
	// be listed.
	Destination string
	// Sample is how many of the table's live contacts are drawn. 0: 100. All
	// compares every contact, and finds those that the table lacks.
	Sample int
	All    bool
	// Seed draws the sample; 0: another one each time.
	Seed uint64
	// Examples bounds Compared.Examples. 0: 20. Values has them say what either
	// side holds, and not only in which columns they differ.
	Examples int
	Values   bool
}

// Compared is what a comparison found, in contacts.
type Compared struct {
	Destination string `json:"destination"`
	Seed        uint64 `json:"seed,omitempty"` // of a sample
	Checked     int64  `json:"checked"`        // of the table, live
	Same        int64  `json:"same"`           // in the hash of all cells
	Since       int64  `json:"since"`          // changed at the source since: its updated_at is later
	Unseen      int64  `json:"unseen"`         // other cells with the same updated_at: no incremental run sees that
	Backwards   int64  `json:"backwards"`      // updated_at at the source is earlier
	Deleted     int64  `json:"deleted"`        // the source has none of that id
	Unlisted    int64  `json:"unlisted"`       // it has, and does not list it where it should
	Unasked     int64  `json:"unasked"`        // not listed, and beyond the number asked for by id
	Missing     int64  `json:"missing"`        // at the source, changed before the cursor, and not in the table
	New         int64  `json:"new"`            // at the source, changed after the cursor
	Requests    int64  `json:"requests"`

	Examples []Difference `json:"examples,omitempty"`
}

// Wrong is the number of contacts that the table should have otherwise.
func (c Compared) Wrong() int64 { return c.Unseen + c.Backwards + c.Missing }

// Difference is one contact that differs.
type Difference struct {
	Kind    string       `json:"kind"` // unseen, backwards, deleted, unlisted or missing
	ID      string       `json:"id"`
	Columns []ColumnPair `json:"columns,omitempty"`
}

// ColumnPair is a column in which a contact differs. The values are given
// where they were asked for; nil is null.
type ColumnPair struct {
	Name   string  `json:"name"`
	Table  *string `json:"table,omitempty"`
	Source *string `json:"source,omitempty"`
}

// The kinds of differences that examples are given of.
const (
	diffUnseen    = "unseen"
	diffBackwards = "backwards"
	diffDeleted   = "deleted"
	diffUnlisted  = "unlisted"
	diffMissing   = "missing"
)

// outsideColumn stands for being marked as deleted, or not passing the filters.
const outsideColumn = "(deleted or outside the filters)"

// CannotCompareError refuses to compare all contacts where the source does not
// combine `days` with a range of time.
type CannotCompareError struct{ Pipeline string }

func (e *CannotCompareError) Error() string {
	return fmt.Sprintf("all contacts of pipeline %s cannot be listed: its source does not combine `days` with a range of time", e.Pipeline)
}

// Hint says what to do.
func (e *CannotCompareError) Hint() string { return "compare a sample: --sample 1000" }

// Compare reads contacts from the source, by the pipeline's own filters and
// policies, and compares them with a table by the hash of their cells: a sample,
// each contact looked up in the list by its created_at, or all of them, in one
// full read. The examples are compared cell by cell. A cell that was changed in
// the table without its row's hash is not seen. It stages and changes nothing. The table is read first, so that what changes
// meanwhile has a later updated_at at the source. It blocks until done or ctx
// ends, and holds 16 bytes for each contact of the table, 40 where all are
// compared.
func (e *Engine) Compare(ctx context.Context, job Job, how Comparison) (Compared, error) {
	if err := job.checkHashKey(); err != nil {
		return Compared{}, err
	}
	st, err := e.Store.Load(ctx, job.Pipeline)
	if err != nil {
		return Compared{}, err
	}
	if err := state.CheckSource(st, job.Identity); err != nil {
		return Compared{}, err
	}
	client, err := extract.NewClient(job.Source, e.Clock)
	if err != nil {
		return Compared{}, err
	}
	defer client.Close()
	if job, err = job.resolve(ctx, client); err != nil {
		return Compared{}, err
	}
	if reason := unprepared(st, job); reason != "" {
		return Compared{}, &NotReadyError{Pipeline: job.Pipeline, Kind: "verify", Reason: reason}
	}
	registry, err := schemas.NewRegistry(job.Contract, st.Registry)
	if err != nil {
		return Compared{}, fmt.Errorf("restore column registry: %w", err)
	}
	r := &syncRun{Engine: e, job: job, st: st, client: client}
	c := &comparer{r: r, how: how, registry: registry, policies: columnPolicies(registry), began: e.Clock.Now()}
	c.how.Examples = cmp.Or(how.Examples, defaultExamples)
	if err := c.run(ctx); err != nil {
		return Compared{}, fmt.Errorf("compare with the source: %w", err)
	}
	c.out.Requests = client.Stats().Requests
	return c.out, nil
}

// comparer is one comparison.
type comparer struct {
	r        *syncRun
	how      Comparison
	registry *schemas.Registry
	policies map[string]schemas.Policy // of columns whose values are not kept
	began    time.Time
	lister   load.Lister
	out      Compared

	mu       sync.Mutex
	rows     []tableRow // by id
	known    idSet      // every id of the table; of a sample
	examples []pending
}

// tableRow is what decides of a row of the table.
type tableRow struct {
	id            idKey
	hash, updated int64
	created       int64
	deleted, seen bool
}

// pending is an example whose cells of the table are still to be read.
type pending struct {
	kind   string
	id     string
	key    idKey
	source map[string]string
}

func (c *comparer) run(ctx context.Context) error {
	if err := c.choose(); err != nil {
		return err
	}
	c.out.Destination = c.how.Destination
	var err error
	if c.how.All {
		err = c.everything(ctx)
	} else {
		err = c.sample(ctx)
	}
	if err != nil {
		return err
	}
	return c.explain(ctx)
}

// choose takes the table to compare.
func (c *comparer) choose() error {
	for _, d := range c.r.job.Destinations {
		l, ok := d.Loader.(load.Lister)
		if ok && (c.how.Destination == "" || c.how.Destination == d.Name) {
			c.lister, c.how.Destination = l, d.Name
			return nil
		}
	}
	return &NoListingError{Pipeline: c.r.job.Pipeline}
}

// list gives the table's rows that decide, and the column of their ids.
func (c *comparer) list(ctx context.Context, each func(id string, r tableRow)) error {
	columns := []string{schemas.ColID, schemas.ColCreatedAt, schemas.ColUpdatedAt, schemas.ColHash, schemas.ColDeletedAt}
	return c.lister.List(ctx, load.Listing{Lineage: c.r.st.Lineage, Columns: columns}, func(rec arrow.Record) error {
		ids, err1 := column[*array.String](rec, 0)
		created, err2 := column[*array.Timestamp](rec, 1)
		updated, err3 := column[*array.Timestamp](rec, 2)
		hashes, err4 := column[*array.Int64](rec, 3)
		if err := errors.Join(err1, err2, err3, err4); err != nil {
			return err
		}
		for i := range int(rec.NumRows()) {
			id := ids.Value(i)
			each(id, tableRow{
				id: hashID(id), hash: hashes.Value(i), updated: int64(updated.Value(i)), created: int64(created.Value(i)),
				deleted: rec.Column(4).IsValid(i),
			})
		}
		return nil
	})
}

func (c *comparer) find(k idKey) *tableRow {
	i, ok := slices.BinarySearchFunc(c.rows, k, func(r tableRow, k idKey) int { return compareIDs(r.id, k) })
	if !ok {
		return nil
	}
	return &c.rows[i]
}

func (c *comparer) sortRows() {
	slices.SortFunc(c.rows, func(a, b tableRow) int { return compareIDs(a.id, b.id) })
}

// meet compares rows of the source, as a part would have them.
func (c *comparer) meet(rec arrow.Record) error {
	ids, updated, hashes := rec.Schema().FieldIndices(schemas.ColID), rec.Schema().FieldIndices(schemas.ColUpdatedAt), rec.Schema().FieldIndices(schemas.ColHash)
	deleted := rec.Schema().FieldIndices(schemas.ColDeletedAt)
	if len(ids)+len(updated)+len(hashes)+len(deleted) != 4 {
		return errors.New("columns of a staged row are missing")
	}
	id, err1 := column[*array.String](rec, ids[0])
	at, err2 := column[*array.Timestamp](rec, updated[0])
	hash, err3 := column[*array.Int64](rec, hashes[0])
	if err := errors.Join(err1, err2, err3); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range int(rec.NumRows()) {
		c.meetRow(rec, i, id.Value(i), tableRow{hash: hash.Value(i), updated: int64(at.Value(i)), deleted: rec.Column(deleted[0]).IsValid(i)})
	}
	return nil
}

// meetRow compares one row; mu is held.
func (c *comparer) meetRow(rec arrow.Record, i int, id string, source tableRow) {
	k := hashID(id)
	row := c.find(k)
	switch {
	case row == nil && source.deleted: // it does not pass the filters
	case row == nil:
		c.lacks(id, source.updated)
	case row.seen, row.deleted:
	default:
		row.seen = true
		kind := ""
		switch {
		case source.hash == row.hash && !source.deleted:
			c.out.Same++
		case source.updated > row.updated:
			c.out.Since++
		case source.updated < row.updated:
			c.out.Backwards++
			kind = diffBackwards
		default:
			c.out.Unseen++
			kind = diffUnseen
		}
		if kind != "" && len(c.examples) < c.how.Examples {
			c.examples = append(c.examples, pending{kind: kind, id: strings.Clone(id), key: k, source: cells(rec, i)})
		}
	}
}

// lacks notes a contact that the table does not have; mu is held.
func (c *comparer) lacks(id string, updated int64) {
	if updated > c.r.st.Cursor.UnixMicro() {
		c.out.New++
		return
	}
	c.out.Missing++
	c.example(diffMissing, id)
}

// example notes a contact of which there are no cells to compare.
func (c *comparer) example(kind, id string) {
	if len(c.examples) < c.how.Examples {
		c.examples = append(c.examples, pending{kind: kind, id: strings.Clone(id)})
	}
}

// cells returns the exported columns of a row that are not null, as text.
func cells(rec arrow.Record, row int) map[string]string {
	out := map[string]string{}
	for i, f := range rec.Schema().Fields() {
		if rec.Column(i).IsNull(row) {
			continue
		}
		switch {
		case f.Name == schemas.ColDeletedAt:
			out[outsideColumn] = "true"
		case !strings.HasPrefix(f.Name, "_sluice_"):
			out[f.Name] = strings.Clone(rec.Column(i).ValueStr(row))
		}
	}
	return out
}

// absent asks for contacts that the source did not list.
func (c *comparer) absent(ctx context.Context, ids []string) error {
	if len(ids) == 0 {
		return nil
	}
	c.out.Unasked = int64(max(0, len(ids)-maxAsked))
	ids = ids[:min(len(ids), maxAsked)]
	known, err := c.somebody(ctx)
	if err != nil {
		return err
	}
	if err := c.r.checkInfo(ctx, known); err != nil {
		return err
	}
	for _, id := range ids {
		_, found, err := c.r.client.Contact(ctx, id)
		var other *extract.WrongContactError
		switch {
		case errors.As(err, &other), err == nil && found:
			c.out.Unlisted++
			c.example(diffUnlisted, id)
		case err != nil:
			return fmt.Errorf("ask for single contacts: %w", err)
		default:
			c.out.Deleted++
			c.example(diffDeleted, id)
		}
	}
	return nil
}

// somebody names contacts that the source has listed.
func (c *comparer) somebody(ctx context.Context) (ids []string, err error) {
	err = c.list(ctx, func(id string, r tableRow) {
		if row := c.find(r.id); len(ids) < controls && row != nil && row.seen {
			ids = append(ids, strings.Clone(id))
		}
	})
	return ids, err
}

// explain reads the cells of the table of those that differ.
func (c *comparer) explain(ctx context.Context) error {
	months := map[time.Time]bool{}
	wanted := map[string]map[string]string{}
	for _, p := range c.examples {
		if row := c.find(p.key); p.source != nil && row != nil {
			at := time.UnixMicro(row.created).UTC()
			months[time.Date(at.Year(), at.Month(), 1, 0, 0, 0, 0, time.UTC)] = true
			wanted[p.id] = nil
		}
	}
	for _, month := range slices.SortedFunc(maps.Keys(months), time.Time.Compare) {
		err := c.lister.List(ctx, load.Listing{Lineage: c.r.st.Lineage, From: month, Until: month.AddDate(0, 1, 0)}, func(rec arrow.Record) error {
			ids, err := column[*array.String](rec, rec.Schema().FieldIndices(schemas.ColID)[0])
			for i := 0; err == nil && i < ids.Len(); i++ {
				if _, is := wanted[ids.Value(i)]; is {
					wanted[strings.Clone(ids.Value(i))] = cells(rec, i)
				}
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, p := range c.examples {
		d := Difference{Kind: p.kind, ID: p.id}
		if p.source != nil {
			d.Columns = c.differing(wanted[p.id], p.source)
		}
		c.out.Examples = append(c.out.Examples, d)
	}
	slices.SortStableFunc(c.out.Examples, func(a, b Difference) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID)) })
	return nil
}

// differing lists the columns in which two rows differ, by name.
func (c *comparer) differing(table, source map[string]string) []ColumnPair {
	names := map[string]bool{}
	for _, side := range []map[string]string{table, source} {
		for name := range side {
			names[name] = true
		}
	}
	var out []ColumnPair
	for _, name := range slices.Sorted(maps.Keys(names)) {
		t, inTable := table[name]
		s, atSource := source[name]
		if inTable == atSource && t == s {
			continue
		}
		pair := ColumnPair{Name: name}
		policy := c.policies[name]
		if c.how.Values && inTable {
			pair.Table = new(shown(policy, t))
		}
		if c.how.Values && atSource {
			pair.Source = new(shown(policy, s))
		}
		out = append(out, pair)
	}
	return out
}
