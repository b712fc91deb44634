package bigquery

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/load"
)

// Loader commits packages to one table of a dataset.
type Loader struct {
	*remote
}

var (
	_ load.Loader   = (*Loader)(nil)
	_ load.Lister   = (*Loader)(nil)
	_ load.Verifier = (*Loader)(nil)
	_ load.Eraser   = (*Loader)(nil)
)

// New returns a Loader. It looks for credentials and asks nothing of the
// service yet.
func New(ctx context.Context, o Options) (*Loader, error) {
	r, err := newRemote(ctx, o)
	if err != nil {
		return nil, err
	}
	return &Loader{r}, nil
}

// Check implements load.Loader.
func (l *Loader) Check(ctx context.Context, lineage string) (int64, error) {
	lay, err := l.look(ctx)
	if err != nil {
		return 0, err
	}
	if lay.dataset == nil && !l.o.CreateDataset {
		return 0, l.noDataset()
	}
	if err := lay.ours(lineage); err != nil || lay.commits == nil {
		return 0, err
	}
	last, err := l.last(ctx)
	if err != nil {
		return 0, err
	}
	return last.position(), l.sameMethod(lay, last)
}

// Commit implements load.Loader.
func (l *Loader) Commit(ctx context.Context, p load.Package) (load.Result, error) {
	if err := checkPackage(p); err != nil {
		return load.Result{}, err
	}
	if remember := p.Remember; remember != nil {
		p.Remember = func(ctx context.Context, note []byte) error {
			if err := remember(ctx, note); err != nil {
				return err
			}
			p.Memo = slices.Clone(note) // for the next try
			return nil
		}
	}
	anew, before := false, l.scanned.Load()
	for try := 1; ; try++ {
		result, err := l.commit(ctx, p, anew)
		result.BytesScanned = l.scanned.Load() - before
		lost := misstaged(err) && !anew
		if err == nil || try == mostCommits || !overtaken(err) && !lost {
			return result, err
		}
		// Another process committed while this one was at it, perhaps this very
		// package: look again. Or the staged rows have changed since an earlier
		// commit noted them: only another attempt at staging helps.
		anew = lost
	}
}

// mostCommits bounds how often a commit begins anew, for either reason.
const mostCommits = 4

// overtaken reports whether a script failed because of another that committed
// at the same time (Multi-statement transactions, "Transaction concurrency").
func overtaken(err error) bool {
	var je *jobError
	return errors.As(err, &je) && (strings.Contains(je.message, assertPosition) || strings.Contains(je.message, "concurrent update"))
}

// misstaged reports whether a script has found other rows in the staging table
// than the package has. It changed nothing then.
func misstaged(err error) bool {
	var je *jobError
	return errors.As(err, &je) && strings.Contains(je.message, assertStaged)
}

// commit tries once; anew: it stages the rows again, whatever is noted.
func (l *Loader) commit(ctx context.Context, p load.Package, anew bool) (load.Result, error) {
	lay, last, done, err := l.admit(ctx, p)
	if err != nil {
		return load.Result{}, err
	}
	if done != nil && done.status == statusDone {
		return done.result, l.ensureViews(ctx, joined(p.Table, lay))
	}
	table, err := l.ensure(ctx, lay, p.Table, p.Lineage, p.Pipeline)
	if err != nil {
		return load.Result{}, err
	}
	if err := l.noteHashKey(ctx, lay, p.HashKey); err != nil {
		return load.Result{}, err
	}
	st := staged{}
	if len(p.Parts) > 0 {
		if st, err = l.stage(ctx, p, table, anew); err != nil {
			return load.Result{}, err
		}
	}
	m := &merge{
		o: l.o, table: table, pkg: p, staged: st, before: last.serial, beforeAt: last.committedAt,
		months: st.Months, whole: l.whole(lay), rebuilt: isRebuilt(lay), now: l.o.Clock.Now().Truncate(time.Microsecond),
	}
	if done == nil {
		if err := l.apply(ctx, m, last); err != nil {
			return load.Result{}, err
		}
		if done, err = l.recorded(ctx, p.Serial, m.now); err != nil {
			return load.Result{}, err
		}
		if done == nil {
			return load.Result{}, fmt.Errorf("look for the record of the package: it is not there, though the transaction was committed")
		}
	}
	if done.status == statusApplying {
		if err := l.upsertWinners(ctx, m, done); err != nil {
			return load.Result{}, err
		}
	}
	return done.result, l.ensureViews(ctx, table)
}

// whole reports whether the table has no partitions.
func (l *Loader) whole(lay layout) bool {
	if lay.current == nil {
		return l.o.Method == CDC
	}
	return lay.current.TimePartitioning == nil
}

// admit says what is to become of a package: refused with an error, on record
// already, or to be merged.
func (l *Loader) admit(ctx context.Context, p load.Package) (lay layout, last, done *commitRecord, err error) {
	last = &commitRecord{}
	if lay, err = l.look(ctx); err != nil {
		return lay, last, nil, err
	}
	if err := lay.ours(p.Lineage); err != nil || lay.commits == nil {
		return lay, last, nil, err
	}
	if last, err = l.last(ctx); err != nil {
		return lay, last, nil, err
	}
	if err := l.sameMethod(lay, last); err != nil {
		return lay, last, nil, err
	}
	if p.Serial > last.serial {
		if last.status == statusApplying {
			return lay, last, nil, &Error{
				Message: fmt.Sprintf("package %d was not brought into the table to its end", last.serial), Table: l.o.place(l.o.Table), Err: load.ErrAhead,
				hint: "Its upserts are made from its parts. Restore the state that has it, or give the pipeline another table name and run with --full.",
			}
		}
		return lay, last, nil, nil
	}
	at := time.Time{}
	if p.Serial == last.serial {
		at = last.committedAt
	}
	if done, err = l.recorded(ctx, p.Serial, at); err != nil {
		return lay, last, nil, err
	}
	if done == nil || done.runID != p.RunID {
		return lay, last, nil, &Error{
			Message: fmt.Sprintf("package %d of run %s comes too late: the table already holds package %d", p.Serial, p.RunID, last.serial),
			Table:   l.o.place(l.o.Table), Err: load.ErrAhead,
			hint: "State is older than the table, as after it was restored from a backup. Restore the newer state, or give the pipeline another table name and run with --full.",
		}
	}
	return lay, last, done, nil
}

// apply runs the transaction.
func (l *Loader) apply(ctx context.Context, m *merge, last *commitRecord) error {
	if m.staged.Rows > 0 {
		if err := l.locate(ctx, m, last); err != nil {
			return fmt.Errorf("look for the package's contacts in the table: %w", err)
		}
	}
	params, err := m.params()
	if err != nil {
		return err
	}
	_, _, err = l.query(ctx, m.script(), params...)
	return err
}

// settleTime is how long after its extraction began a package may miss a contact
// created before: the lookback, and clocks that differ.
const settleTime = 48 * time.Hour

// locate adds to the months to look at those in which contacts of the package
// stand whose created_at has changed. Such a contact is missing where it should
// be, though it is not new. Where there is none, the ids of the package's months
// are all that is read.
func (l *Loader) locate(ctx context.Context, m *merge, last *commitRecord) error {
	if m.o.Method == CDC && m.o.MaxStaleness > 0 {
		from, err := l.unsettled(ctx, m.now)
		if err != nil {
			return err
		}
		m.recent = from
	}
	if m.whole || last.serial == 0 || last.extractedFrom.IsZero() {
		return nil
	}
	q, _, err := l.query(ctx, m.strangers(last.extractedFrom.Add(-settleTime)))
	if err != nil {
		return err
	}
	counts, err := q.one(ctx)
	if err != nil {
		return err
	}
	missing, ok1 := counts[0].(int64)
	twice, ok2 := counts[1].(int64)
	if !ok1 || !ok2 {
		return fmt.Errorf("counts are %v", counts)
	}
	if missing > 0 {
		if q, _, err = l.query(ctx, m.elsewhere()); err != nil {
			return err
		}
		err = q.each(ctx, func(row []any) error {
			month, ok := row[0].(time.Time)
			if !ok {
				return fmt.Errorf("month is %v", row[0])
			}
			m.months = append(m.months, month)
			return nil
		})
		if err != nil {
			return err
		}
		m.months = slices.CompactFunc(slices.SortedFunc(slices.Values(m.months), time.Time.Compare), time.Time.Equal)
	}
	// Found in another month, a contact may stand in its own as well, but for
	// upserts, which find their row by its key wherever it stands.
	m.doubled = m.o.Method != CDC && (twice > 0 || missing > 0)
	return nil
}

// upsertWinners brings what the package changed into a table of method cdc, and
// closes its record. Sequence numbers make it safe to repeat.
func (l *Loader) upsertWinners(ctx context.Context, m *merge, c *commitRecord) error {
	q, _, err := l.query(ctx, m.upserts())
	if err != nil {
		return fmt.Errorf("read what the package changed: %w", err)
	}
	rows := func(each func(row int64, change string) error) error {
		return q.each(ctx, func(row []any) error {
			n, ok1 := row[0].(int64)
			change, ok2 := row[1].(string)
			if !ok1 || !ok2 {
				return fmt.Errorf("read what the package changed: a row is %v", row)
			}
			return each(n, change)
		})
	}
	if err := l.upsert(ctx, m.pkg, m.table, rows); err != nil {
		return err
	}
	return l.closeRecord(ctx, c)
}

func checkPackage(p load.Package) error {
	if p.Serial <= 0 || p.Lineage == "" || p.RunID == "" {
		return fmt.Errorf("check package: it needs a serial above 0, a lineage and a run id (serial %d, lineage %q, run %q)", p.Serial, p.Lineage, p.RunID)
	}
	need := needed()
	seen := make(map[string]bool, len(p.Table.Columns))
	for _, c := range p.Table.Columns {
		name := strings.ToLower(c.Name) // names that differ by case alone are one
		if seen[name] {
			return fmt.Errorf("check package: column %s appears twice", c.Name)
		}
		seen[name] = true
		if typ, ok := need[c.Name]; ok && c.Type != typ {
			return fmt.Errorf("check package: column %s is %s, want %s", c.Name, c.Type, typ)
		}
		delete(need, c.Name)
	}
	for name := range need {
		return fmt.Errorf("check package: no column %s", name)
	}
	return nil
}
