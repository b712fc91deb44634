package parquet

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/gcs"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/views"
)

// unionSuffix ends the name of the file with a view over accounts, which stands
// beside their tables.
const unionSuffix = ".sql"

// unionFile is what a file with a view over accounts says.
type unionFile struct {
	text       string
	tables     []string // nil where sluice did not write it
	stale      bool     // it lacks a column, or its views are not those of the tables
	generation gcs.If   // in a bucket
}

// unions is what stands of views over accounts.
type unions struct {
	files map[string]unionFile // by the view's name
	want  string               // the text over the tables that exist; empty where there is none
	there []string             // these tables, sorted
}

// unionPlace names the file of a view over accounts, or its object (gs://).
func (l *Loader) unionPlace(name string) string {
	if l.root != l.dir {
		return strings.TrimSuffix(l.root, l.o.Table) + name + unionSuffix
	}
	return filepath.Join(filepath.Dir(l.dir), name+unionSuffix)
}

// unions looks at the files beside the table, and at its siblings.
func (l *Loader) unions() (u unions, err error) {
	u.files = map[string]unionFile{}
	parent := filepath.Dir(l.dir)
	paths, err := filepath.Glob(filepath.Join(escapeMatch(parent), "*"+unionSuffix))
	if err != nil {
		return u, fmt.Errorf("look for views over accounts: %w", err)
	}
	for _, path := range paths {
		name := strings.TrimSuffix(filepath.Base(path), unionSuffix)
		data, err := os.ReadFile(path)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			continue
		case err != nil && name != l.o.Union.Name: // somebody else's
			continue
		case err != nil:
			return u, explain("read", path, err)
		}
		u.files[name] = unionFile{text: string(data), tables: unionTables(string(data))}
	}
	if l.o.Union.Name == "" {
		return u, nil
	}
	siblings, err := siblingsIn(parent, l.o.Union)
	if err != nil {
		return u, err
	}
	u.want, u.there = unionText(l.o.Union.Name, "", siblings)
	if f, ok := u.files[l.o.Union.Name]; ok {
		f.stale = f.text != u.want && slices.Equal(f.tables, u.there)
		u.files[l.o.Union.Name] = f
	}
	return u, nil
}

// escapeMatch makes a path match itself in filepath.Glob.
func escapeMatch(path string) string {
	if filepath.Separator == '\\' {
		return path // Windows has no escape, and no * or ? in names
	}
	return strings.NewReplacer(`\`, `\\`, "*", `\*`, "?", `\?`, "[", `\[`).Replace(path)
}

// unionTables reads which tables a file with a view over accounts is about, nil
// for a file that sluice did not write.
func unionTables(text string) []string {
	_, list := views.Split(text)
	if len(list) == 0 {
		return nil
	}
	comment, _ := strings.CutSuffix(list[len(list)-1].Text, "';\n")
	tables, _, _ := views.ReadUnion(comment)
	return tables
}

// sibling is a table that a view over accounts reads.
type sibling struct {
	table    string
	manifest *Manifest
	views    string // what its views.sql says
}

// siblingsIn are the tables of a folder that exist.
func siblingsIn(parent string, u load.Union) (out []sibling, err error) {
	for _, table := range u.Sorted() {
		dir := filepath.Join(parent, table)
		m, err := OpenManifest(dir)
		if err != nil { // there is none; or what is the matter is said by its own account, and is no other's
			continue
		}
		data, err := os.ReadFile(filepath.Join(dir, viewsName))
		if errors.Is(err, fs.ErrNotExist) {
			continue // its first commit has not come so far
		}
		if err != nil {
			return nil, explain("read", filepath.Join(dir, viewsName), err)
		}
		out = append(out, sibling{table, m, string(data)})
	}
	return out, nil
}

// unionText is the file of a view over tables, with the views of each that it
// reads as their own files have them, and a remark after its head.
func unionText(name, remark string, siblings []sibling) (text string, there []string) {
	v := views.Union{Name: name}
	var own []views.Statement
	for _, s := range siblings {
		list := mainViews(s.views, s.table)
		if len(list) == 0 {
			continue
		}
		own = append(own, list...)
		v.Parts = append(v.Parts, views.UnionPart{Table: s.table, From: views.QuoteName(s.table), Columns: mainColumns(s.table, s.manifest, list)})
		there = append(there, s.table)
	}
	if len(there) == 0 {
		return "", nil
	}
	_, made := views.Split("\n" + v.SQL())
	head := "-- " + oneLine(name) + ", the view over all accounts, and the views that it reads, for DuckDB.\n" +
		"-- Written by sluice, and again when one of them changes. Your own views belong in another file.\n"
	return views.Join(head+remark, append(own, made...)), there
}

// mainViews are the statements of a table's views.sql that its main view takes.
func mainViews(text, table string) []views.Statement {
	_, list := views.Split(text)
	list = slices.DeleteFunc(list, func(s views.Statement) bool { return s.Macro || s.Name != table && s.Name != table+"_all" })
	if len(list) != 2 {
		return nil
	}
	return list
}

// mainColumns are the columns of the main view that a table's file makes.
func mainColumns(table string, m *Manifest, list []views.Statement) []views.UnionColumn {
	o := views.Options{Table: table, Columns: m.Schema}
	if strings.Contains(list[len(list)-1].Text, `AS _s ON _s."stage_id"`) {
		o.Stages = "stages"
	}
	return views.MainColumns(o)
}

// writeUnion writes the view over accounts where it does not say what it should,
// and removes one over this table that nothing wants. Another account's commit
// may change what was read: it looks once more after it has written, so that of
// several writers the last one is right. A file that somebody else wrote stays;
// what a survey says of it is no reason to take no data.
func (l *Loader) writeUnion() error {
	for range 3 {
		u, err := l.unions()
		if err != nil {
			return err
		}
		wrote := false
		for name, f := range u.files {
			path := l.unionPlace(name)
			wanted := name == l.o.Union.Name && u.want != ""
			if wanted || f.tables == nil || name != l.o.Union.Name && !slices.Contains(f.tables, l.o.Table) {
				continue
			}
			if err := l.o.FS.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
				return explain("remove", path, err)
			}
		}
		f, stands := u.files[l.o.Union.Name]
		if u.want != "" && f.text != u.want && (!stands || f.tables != nil) {
			path := l.unionPlace(l.o.Union.Name)
			if err := atomicfile.WriteFileOn(l.o.FS, path, []byte(u.want), fileMode); err != nil {
				return explain("write", path, err)
			}
			wrote = true
		}
		if !wrote {
			return nil
		}
	}
	return nil
}

// unionResources are the view over accounts that is wanted, and those over this
// table that are not any more.
func (l *Loader) unionResources(u unions) (out []load.Resource) {
	if l.o.Union.Name != "" {
		r := load.Resource{Kind: load.KindView, Name: l.o.Union.Name, Want: l.o.Union.Attributes()}
		if f, ok := u.files[l.o.Union.Name]; ok && f.tables != nil {
			r.Have = load.UnionAttributes(f.tables, !f.stale)
		} else if ok {
			r.Blocked, r.Effects = true, []string{l.foreignUnion().sentence()}
		}
		out = append(out, r)
	}
	for name, f := range u.files {
		if name != l.o.Union.Name && slices.Contains(f.tables, l.o.Table) {
			out = append(out, load.Resource{Kind: load.KindView, Name: name, Have: load.UnionAttributes(f.tables, true)})
		}
	}
	return out
}

// foreignUnion refuses to replace a file that somebody else wrote.
func (l *Loader) foreignUnion() *Error {
	return &Error{
		Message: "the file " + l.o.Union.Name + unionSuffix + " is none of sluice", Path: l.unionPlace(l.o.Union.Name), Err: load.ErrForeign,
		hint: "Give the pipeline another union_view, or union_view: off, or move the file away.",
	}
}

// convergeUnion makes the view over accounts as far as c looks after it, and
// always after what it reads has changed.
func (l *Loader) convergeUnion(c load.Convergence, changed bool) error {
	u, err := l.unions()
	if err != nil {
		return err
	}
	differs, err := l.unionDiffers(u, c)
	if err != nil {
		return err
	}
	if !changed && !differs {
		return nil
	}
	return l.writeUnion()
}

// unionDiffers reports whether c looks after a view over accounts that is not as
// it is wanted, and refuses one that is not ours.
func (l *Loader) unionDiffers(u unions, c load.Convergence) (bool, error) {
	found := false
	for _, r := range l.unionResources(u) {
		if !c.Wants(r.Kind, r.Name) || (r.Want == nil) == (r.Have == nil) && !differs(r.Want, r.Have) {
			continue
		}
		if f, ok := u.files[r.Name]; ok && f.tables == nil {
			return false, l.foreignUnion()
		}
		found = true
	}
	return found, nil
}
