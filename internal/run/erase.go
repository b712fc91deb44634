package run

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/parquetfile"
	"github.com/sluice-etl/sluice/internal/quarantine"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// Erased is what Engine.Erase has removed of a contact, or would.
type Erased struct {
	Tables []ErasedTable `json:"tables"`
	Staged int64         `json:"staged"` // rows in parts that wait for a destination, or of unfinished runs
	Aside  int64         `json:"aside"`  // records in quarantine
	Named  int64         `json:"named"`  // messages in state that name the contact
}

// ErasedTable is what one destination had of it.
type ErasedTable struct {
	Destination string `json:"destination"`
	load.Erased
}

// Any reports whether there is anything to remove.
func (e Erased) Any() bool {
	return e.Staged+e.Aside+e.Named > 0 || slices.ContainsFunc(e.Tables, func(t ErasedTable) bool { return t.Any() })
}

// CannotEraseError says why a contact cannot be removed everywhere. Nothing
// was changed.
type CannotEraseError struct {
	Reason string
	Next   string // what to do
}

func (e *CannotEraseError) Error() string { return "erase contact: " + e.Reason }

// Hint says what to do.
func (e *CannotEraseError) Hint() string { return e.Next }

// Erase removes a contact from everything that a pipeline has stored: parts of
// unfinished runs and of packages that wait for a destination, those that are
// kept in a bucket included, quarantine, state and the tables, in this order, so that nothing brings it back later but the
// source. Of the job it uses the pipeline and the destinations. Runs of the
// pipeline are kept out meanwhile. Each place changes wholly or not at all;
// stopped on the way, what is done stays done, and the same call does the rest.
// A dry run changes nothing and only counts, but for the remains of dead runs,
// which go as they do when a run starts.
func (e *Engine) Erase(ctx context.Context, job Job, id string, dryRun bool) (out Erased, err error) {
	if id == "" {
		return out, &CannotEraseError{Reason: "no id is given", Next: "give the contact's id"}
	}
	for _, d := range job.Destinations {
		if _, ok := d.Loader.(load.Eraser); !ok {
			return out, &CannotEraseError{
				Reason: fmt.Sprintf("destination %q cannot remove single contacts yet", d.Name),
				Next:   "remove the contact from it by hand, and erase it from the others by a pipelines file without that destination",
			}
		}
	}
	claim, release, err := e.keepOut(ctx, job.Pipeline)
	if err != nil {
		return out, err
	}
	defer func() { err = errors.Join(err, release()) }()
	st, err := e.Store.Load(ctx, job.Pipeline)
	if err != nil {
		return out, err
	}
	x := &erasure{Engine: e, claim: claim, pipeline: job.Pipeline, id: id, dryRun: dryRun}
	if err := x.everyRun(ctx, st, &out); err != nil {
		return out, err
	}
	if err := x.stored(ctx, &out); err != nil {
		return out, err
	}
	if st.Lineage == "" {
		return out, nil
	}
	for _, d := range job.Destinations {
		t := ErasedTable{Destination: d.Name}
		if t.Erased, err = d.Loader.(load.Eraser).Erase(ctx, load.Erasure{Lineage: st.Lineage, ID: id, DryRun: dryRun}); err != nil {
			return out, fmt.Errorf("erase contact from destination %q: %w", d.Name, err)
		}
		out.Tables = append(out.Tables, t)
	}
	return out, nil
}

// keepOut takes the locks of every kind of run. The claim is one of them.
func (e *Engine) keepOut(ctx context.Context, pipeline string) (claim *state.Claim, release func() error, err error) {
	var held []func() error
	release = func() error {
		var errs []error
		for _, r := range slices.Backward(held) {
			errs = append(errs, r())
		}
		return errors.Join(errs...)
	}
	for _, kind := range []string{kindSync, kindBackfill, kindReconcile, kindRetry} {
		if claim, err = e.Store.Claim(ctx, pipeline, kind); err != nil {
			return nil, nil, errors.Join(err, release())
		}
		taken := claim
		held = append(held, func() error { return taken.Release(ctx) })
	}
	unlock, err := e.Store.LockRun(ctx, pipeline, kindCommit)
	if err != nil {
		return nil, nil, errors.Join(err, release())
	}
	held = append(held, unlock)
	return claim, release, nil
}

// erasure removes a contact from what lies below the state directory, and
// beside state in its bucket.
type erasure struct {
	*Engine
	claim    *state.Claim
	pipeline string
	id       string
	dryRun   bool
}

func (x *erasure) disk() atomicfile.Disk { return (&syncRun{Engine: x.Engine}).disk() }

// everyRun removes the contact from what runs have staged, here and beside
// state in its bucket: packages kept there are fetched, and those that held the
// contact are kept anew under this claim. The old ones go as those of dead runs
// do, once the document names the new. Whatever of them was not here before
// goes again.
func (x *erasure) everyRun(ctx context.Context, st *state.Pipeline, out *Erased) (err error) {
	if err := errors.Join(x.claim.Sweep(ctx), x.Store.DropFetches(x.pipeline)); err != nil {
		return err
	}
	for dirName, kept := range keptRuns(st) {
		dir := x.Store.RunDir(dirName)
		if _, statErr := os.Stat(dir); errors.Is(statErr, os.ErrNotExist) {
			defer func() { err = errors.Join(err, removeRun(x.disk(), dir)) }()
		}
		if err := x.Store.FetchRun(ctx, dirName, kept); err != nil {
			return fmt.Errorf("erase contact from package in the state's bucket: %w", err)
		}
	}
	runs := filepath.Dir(x.Store.RunDir("x"))
	names, err := runDirs(runs, x.pipeline)
	if err != nil {
		return err
	}
	moved := map[string]string{}
	for _, name := range names {
		n, err := x.runDir(ctx, filepath.Join(runs, name))
		if err != nil {
			return fmt.Errorf("erase contact from %s: %w", filepath.Join(runs, name), err)
		}
		out.Staged += n
		if kept := keptRuns(st)[name]; kept != "" && n > 0 && !x.dryRun {
			if moved[name], err = x.claim.Keep(ctx, name); err != nil {
				return err
			}
		}
	}
	return x.keepMoved(ctx, moved)
}

// keptRuns are the runs whose packages wait in a bucket, by directory, and
// under which name.
func keptRuns(st *state.Pipeline) map[string]string {
	out := map[string]string{}
	for _, d := range st.Destinations {
		for _, ref := range d.Queue {
			if ref.Kept != "" {
				out[runDirName(st.Pipeline, ref.RunID)] = ref.Kept
			}
		}
	}
	return out
}

// keepMoved lets state name what was kept anew, and removes what it named
// before.
func (x *erasure) keepMoved(ctx context.Context, moved map[string]string) error {
	if len(moved) == 0 {
		return nil
	}
	_, err := x.Store.Update(ctx, x.pipeline, func(p *state.Pipeline) error {
		if err := x.claim.Check(p); err != nil {
			return err
		}
		for _, d := range p.Destinations {
			for i, ref := range d.Queue {
				if to := moved[runDirName(x.pipeline, ref.RunID)]; to != "" && ref.Kept != "" {
					d.Queue[i].Kept = to
				}
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("erase contact from packages in the state's bucket: %w", err)
	}
	return x.claim.Sweep(ctx)
}

// stored removes the contact from quarantine and state.
func (x *erasure) stored(ctx context.Context, out *Erased) (err error) {
	if out.Aside, err = x.aside(); err != nil {
		return fmt.Errorf("erase contact from quarantine: %w", err)
	}
	if out.Named, err = x.state(ctx); err != nil {
		return fmt.Errorf("erase contact from state: %w", err)
	}
	return nil
}

// runDir removes the contact from the parts of a run: new parts first, then a
// journal that names them in the place of the old one, then the old parts go,
// and whatever else the journal does not name.
func (x *erasure) runDir(ctx context.Context, dir string) (rows int64, err error) {
	records, _, err := readJournal(dir)
	if err != nil {
		return 0, err
	}
	if len(records) == 0 { // of a run that died before it fetched anything
		if x.dryRun {
			return 0, nil
		}
		return 0, x.disk().RemoveAll(dir)
	}
	var parts []partRecord
	for _, r := range records {
		if r.Part != nil {
			parts = append(parts, *r.Part)
		}
	}
	number := (&session{parts: parts}).numbers()
	named := map[string]bool{journalName: true}
	for i := range records {
		p := records[i].Part
		if p == nil || p.File == "" {
			continue
		}
		number++
		n, err := x.part(ctx, dir, p, fmt.Sprintf("part-%04d.parquet", number))
		if err != nil {
			return 0, err
		}
		rows += n
		named[p.File] = true
	}
	if x.dryRun {
		return rows, nil
	}
	if rows > 0 {
		var data []byte
		for _, r := range records {
			framed, err := frame(r)
			if err != nil {
				return 0, err
			}
			data = append(data, framed...)
		}
		if err := atomicfile.WriteFileOn(x.disk(), filepath.Join(dir, journalName), data, 0o600); err != nil {
			return 0, err
		}
	}
	return rows, removeUnnamed(x.disk(), dir, named)
}

// removeUnnamed removes what a journal does not name.
func removeUnnamed(disk atomicfile.Disk, dir string, named map[string]bool) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return fmt.Errorf("list run directory: %w", err)
	}
	for _, e := range entries {
		if named[e.Name()] {
			continue
		}
		if err := disk.RemoveAll(filepath.Join(dir, e.Name())); err != nil {
			return fmt.Errorf("remove unjournalled file: %w", err)
		}
	}
	return disk.SyncDir(dir)
}

// part writes a part without the contact under another name, and has p say so.
// One that does not hold the contact stays.
func (x *erasure) part(ctx context.Context, dir string, p *partRecord, name string) (rows int64, err error) {
	if err := checkPart(dir, *p); err != nil {
		return 0, err
	}
	path := filepath.Join(dir, p.File)
	err = eachID(ctx, path, func(id string) {
		if id == x.id {
			rows++
		}
	})
	switch {
	case err != nil || rows == 0 || x.dryRun:
		return rows, err
	case rows == p.Rows:
		p.File, p.Rows, p.Bytes, p.SHA256 = "", 0, 0, ""
		return rows, nil
	}
	r, err := parquetfile.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, r.Close()) }()
	w, err := parquetfile.Create(filepath.Join(dir, name), parquetfile.Options{Schema: r.Schema(), FS: x.disk()})
	if err != nil {
		return 0, err
	}
	defer w.Abort()
	if err := x.copyOthers(ctx, r, w); err != nil {
		return 0, err
	}
	stats, err := w.Finish()
	if err == nil {
		err = parquetfile.Verify(ctx, w.TempPath(), stats, parquetfile.VerifyFull)
	}
	if err == nil {
		err = w.Publish()
	}
	if err != nil {
		return 0, err
	}
	if stats.Rows != p.Rows-rows {
		return 0, fmt.Errorf("%d rows are left of %d, of which %d are the contact's", stats.Rows, p.Rows, rows)
	}
	p.File, p.Rows, p.Bytes, p.SHA256 = name, stats.Rows, stats.Bytes, stats.SHA256
	return rows, nil
}

// copyOthers copies the rows of other contacts.
func (x *erasure) copyOthers(ctx context.Context, r *parquetfile.Reader, w *parquetfile.Writer) error {
	at := r.Schema().FieldIndices(schemas.ColID)
	if len(at) != 1 {
		return errors.New("column id is missing")
	}
	records, err := r.Read(parquetfile.ReadOptions{})
	if err != nil {
		return err
	}
	for {
		if err := ctx.Err(); err != nil {
			return err
		}
		rec, err := records.Next()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		ids, err := column[*array.String](rec, at[0])
		for from := 0; err == nil && from < ids.Len(); {
			to := from
			for to < ids.Len() && ids.Value(to) != x.id {
				to++
			}
			if to > from {
				others := rec.NewSlice(int64(from), int64(to))
				err = w.Write(others)
				others.Release()
			}
			from = to + 1
		}
		rec.Release()
		if err != nil {
			return err
		}
	}
}

// aside removes the records that were set aside and have the contact's
// id, or name it anywhere.
func (x *erasure) aside() (n int64, err error) {
	dir := x.quarantine(x.pipeline).Dir()
	entries, err := os.ReadDir(dir)
	if errors.Is(err, os.ErrNotExist) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	for _, e := range entries {
		path := filepath.Join(dir, e.Name())
		data, err := os.ReadFile(path)
		if err != nil {
			return n, err
		}
		var rest []byte
		found := int64(0)
		for line := range strings.Lines(string(data)) {
			if x.names(line) {
				found++
			} else {
				rest = append(rest, line...)
			}
		}
		n += found
		switch {
		case found == 0 || x.dryRun:
		case len(rest) == 0:
			if err := cmp.Or(x.disk().Remove(path), x.disk().SyncDir(dir)); err != nil {
				return n, err
			}
		default:
			if err := atomicfile.WriteFileOn(x.disk(), path, rest, 0o600); err != nil {
				return n, err
			}
		}
	}
	return n, nil
}

// names reports whether a record that was set aside is the contact's.
func (x *erasure) names(line string) bool {
	var q quarantine.Record
	id := strings.ToLower(x.id)
	if json.Unmarshal([]byte(line), &q) != nil {
		return strings.Contains(strings.ToLower(line), id)
	}
	return strings.EqualFold(q.ID, x.id) || strings.Contains(strings.ToLower(q.Raw), id)
}

// erasedName stands where a message named the contact.
const erasedName = "(erased)"

// state takes the contact's id out of messages.
func (x *erasure) state(ctx context.Context) (n int64, err error) {
	clean := func(p *state.Pipeline) {
		n = 0
		for _, text := range messages(p) {
			if strings.Contains(*text, x.id) {
				n++
				*text = strings.ReplaceAll(*text, x.id, erasedName)
			}
		}
		for _, f := range p.InfoFailed {
			if strings.EqualFold(f.ID, x.id) {
				n++
			}
		}
		p.InfoFailed = slices.DeleteFunc(p.InfoFailed, func(f state.InfoFailed) bool { return strings.EqualFold(f.ID, x.id) })
	}
	copies, err := x.backups(ctx, func(p *state.Pipeline) int64 { clean(p); return n })
	if err != nil {
		return 0, err
	}
	st, err := x.Store.Load(ctx, x.pipeline)
	if err != nil {
		return 0, err
	}
	if clean(st); n == 0 || x.dryRun {
		return n + copies, nil
	}
	_, err = x.Store.Update(ctx, x.pipeline, func(p *state.Pipeline) error { clean(p); return nil })
	return n + copies, err
}

// backups takes the contact's id out of the copies that are kept of state.
func (x *erasure) backups(ctx context.Context, clean func(*state.Pipeline) int64) (n int64, err error) {
	err = x.Store.RewriteBackups(ctx, func(path string, data []byte) ([]byte, error) {
		if !strings.Contains(string(data), x.id) {
			return nil, nil
		}
		parsed, err := state.Parse(path, data)
		if err != nil {
			return nil, err
		}
		for _, p := range parsed.Pipelines { // the one
			found := clean(p)
			if n += found; found > 0 && !x.dryRun {
				return json.MarshalIndent(p, "", "  ")
			}
		}
		return nil, nil
	})
	return n, err
}

// messages are the texts of state that an error may have put an id into.
func messages(p *state.Pipeline) []*string {
	var out []*string
	for i := range p.Runs {
		out = append(out, &p.Runs[i].Error)
	}
	for _, d := range p.Destinations {
		out = append(out, &d.Error)
	}
	return out
}
