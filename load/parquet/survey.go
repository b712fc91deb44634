package parquet

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/views"
	"github.com/sluice-etl/sluice/schemas"
)

var (
	_ load.Surveyor = (*Loader)(nil)
	_ load.Surveyor = (*GSLoader)(nil)
)

// The attributes of a table besides its columns.
const (
	attrPlace         = "place"
	attrCompatibility = "compatibility"
	attrTimezone      = "timezone"
	attrFiles         = "files" // only where some are missing
	attrDefinition    = "definition"
)

// standing is what stands at a table's place.
type standing struct {
	m       *Manifest // nil where there is no table
	pending bool      // it may not be wholly in place, or has left something
	missing int       // of the files that it names
	runs    bool      // whether there are coverage records
	views   string    // what views.sql says
	// stages is the size of the table of stages, negative where there is none.
	stages int64
}

// Survey implements load.Surveyor. It reads the manifest and views.sql, and asks
// for the size of every file.
func (l *Loader) Survey(ctx context.Context, lineage string, table schemas.Table) ([]load.Resource, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	s, err := l.stand(lineage)
	if err != nil {
		return nil, err
	}
	u, err := l.unions()
	if err != nil {
		return nil, err
	}
	return l.surveyed(s, u, table), nil
}

// surveyed are the resources of a table and of the views over accounts.
func (l *Loader) surveyed(s standing, u unions, table schemas.Table) []load.Resource {
	out := append(l.resources(s, table), l.unionResources(u)...)
	slices.SortStableFunc(out, func(a, b load.Resource) int { return cmp.Or(cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Name, b.Name)) })
	return out
}

// stand looks at what stands there without changing anything.
func (l *Loader) stand(lineage string) (s standing, err error) {
	s.stages = -1
	if l.o.Stages != "" {
		dir := filepath.Join(filepath.Dir(l.dir), l.o.Stages)
		if err := stagesFree(dir); err != nil {
			return s, err
		}
		if info, err := os.Stat(filepath.Join(dir, stagesName)); err == nil {
			s.stages = info.Size()
		}
	}
	t, found, err := inspect(l.dir)
	if err != nil || !found {
		return s, err
	}
	if s.m, err = t.ours(l.dir, lineage); err != nil {
		return s, err
	}
	_, statErr := os.Lstat(filepath.Join(l.dir, stagingDir))
	s.pending, s.runs = t.pending != nil || statErr == nil, hasRuns(l.dir)
	text, err := os.ReadFile(filepath.Join(l.dir, viewsName))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return s, explain("read", filepath.Join(l.dir, viewsName), err)
	}
	s.views = string(text)
	for _, f := range slices.Concat(s.m.Current, s.m.History) {
		// What an interrupted commit has not put in place yet is not lost.
		if t.pending != nil && slices.Contains(t.pending.Published, f.Path) {
			continue
		}
		_, err := os.Stat(at(l.dir, f.Path))
		switch {
		case errors.Is(err, fs.ErrNotExist), errors.Is(err, errNotDir):
			s.missing++
		case err != nil:
			return s, explain("read", at(l.dir, f.Path), err)
		}
	}
	return s, nil
}

// compatibility is how files are written, as the setting of that name has it.
func (l *Loader) compatibility() string {
	if l.o.Plain {
		return "plain"
	}
	return "standard"
}

// resources are the table's, that of the stages and the views.
func (l *Loader) resources(s standing, table schemas.Table) []load.Resource {
	tables := []load.Resource{l.tableResource(s, table)}
	if l.o.Stages != "" {
		tables = append(tables, l.stagesResource(s))
	}
	slices.SortFunc(tables, func(a, b load.Resource) int { return cmp.Compare(a.Name, b.Name) })
	return append(tables, l.viewResources(s, table)...)
}

func (l *Loader) tableResource(s standing, table schemas.Table) load.Resource {
	place := load.Attribute{Name: attrPlace, Value: l.root}
	compatibility := load.Attribute{Name: attrCompatibility, Value: l.compatibility()}
	timezone := load.Attribute{Name: attrTimezone, Value: views.Zone(l.o.Timezone)}
	r := load.Resource{Kind: load.KindTable, Name: l.o.Table, Want: []load.Attribute{place, compatibility, timezone}}
	if s.m == nil {
		r.Want = append(r.Want, load.ColumnAttributes(table)...)
		return r
	}
	r.Have = []load.Attribute{place}
	// Manifests of before these were kept do not tell: then nothing is known to
	// differ.
	for _, a := range []struct {
		want load.Attribute
		have string
	}{{compatibility, s.m.Compatibility}, {timezone, s.m.Timezone}} {
		a.want.Value = cmp.Or(a.have, a.want.Value)
		r.Have = append(r.Have, a.want)
	}
	if s.missing > 0 {
		r.Want = append(r.Want, load.Attribute{Name: attrFiles, Value: "complete", Usual: true})
		r.Have = append(r.Have, load.Attribute{Name: attrFiles, Value: fmt.Sprintf("%d missing", s.missing)})
	}
	wanted := wantedColumns(s.m, table)
	r.Want = append(r.Want, wanted...)
	r.Have = append(r.Have, load.ColumnAttributes(s.m.Schema)...)
	r.Holds = s.m.holds()
	var blocks *Error
	if r.Blocked = errors.As(errors.Join(l.missingFiles(s), l.retyped(s, table)), &blocks); r.Blocked {
		r.Effects = []string{blocks.sentence()}
	} else {
		r.Effects = effects(s, r, wanted)
	}
	return r
}

// wantedColumns are the attributes of table's columns, as they can be in a table
// that has rows (see unite).
func wantedColumns(m *Manifest, table schemas.Table) []load.Attribute {
	table.Columns = slices.Clone(table.Columns)
	for i := range table.Columns {
		c := &table.Columns[i]
		k := m.Schema.Index(c.Name)
		switch {
		case k < 0:
			c.Required = c.Required && m.Rows() == 0
		case retypes(m.Schema.Columns[k], *c): // see retyped
		default:
			c.Required = c.Required && m.Schema.Columns[k].Required
		}
	}
	return load.ColumnAttributes(table)
}

// retypes reports whether a stored column has another type than it is to have.
func retypes(stored, wanted schemas.Column) bool {
	return stored.Type.Arrow().ID() != wanted.Type.Arrow().ID()
}

// effects say what making a table what it is wanted to be does beyond that.
func effects(s standing, r load.Resource, columns []load.Attribute) (out []string) {
	var current Manifest
	current.Current = s.m.Current
	if now := current.holds(); now.Contacts > 0 && differs(columns, r.Have) {
		out = append(out, fmt.Sprintf("Every file of current is written anew, because all have the same columns: %d files, %d bytes.", now.Files, now.Bytes))
	}
	if s.m.Compatibility != "" && r.Holds.Files > 0 && !slices.Contains(r.Have, r.Want[1]) {
		out = append(out, "Files that are there stay as they are until a run writes them anew.")
	}
	return out
}

// differs reports whether anything that is wanted is otherwise.
func differs(want, have []load.Attribute) bool {
	return slices.ContainsFunc(want, func(a load.Attribute) bool {
		return !slices.ContainsFunc(have, func(h load.Attribute) bool { return h.Name == a.Name && h.Value == a.Value })
	})
}

// holds is what the table holds by its manifest.
func (m *Manifest) holds() (h load.Holdings) {
	for _, f := range m.Current {
		h.Contacts += f.Rows
	}
	for _, f := range m.History {
		h.Versions += f.Rows
	}
	for _, f := range slices.Concat(m.Current, m.History) {
		h.Files++
		h.Bytes += f.Bytes
	}
	return h
}

// stagesPlace is where the file of the table of stages stands or will.
func (l *Loader) stagesPlace() string {
	if l.root == l.dir {
		return filepath.Join(filepath.Dir(l.dir), l.o.Stages, stagesName)
	}
	return strings.TrimSuffix(l.root, l.o.Table) + l.o.Stages + "/" + stagesName
}

func (l *Loader) stagesResource(s standing) load.Resource {
	place := strings.TrimSuffix(strings.TrimSuffix(l.stagesPlace(), stagesName), "/")
	if l.root == l.dir {
		place = filepath.Clean(place)
	}
	all := append([]load.Attribute{{Name: attrPlace, Value: place}}, load.ColumnAttributes(load.StageTable())...)
	r := load.Resource{Kind: load.KindTable, Name: l.o.Stages, Want: all}
	if s.stages >= 0 { // its columns are those of its format
		r.Have = slices.Clone(all)
		r.Holds = load.Holdings{Files: 1, Bytes: s.stages}
	}
	return r
}

// viewResources are the views that views.sql has to make, and those that it
// makes.
func (l *Loader) viewResources(s standing, table schemas.Table) []load.Resource {
	var m Manifest
	if s.m != nil {
		m = *s.m
	}
	united, err := unite(m.Schema, table, m.Rows() > 0)
	if err != nil { // the table's resource says so
		united = m.Schema
	}
	o := ViewsOptions{
		Root: l.root, Table: l.o.Table, Columns: united, Timezone: l.o.Timezone,
		HasCurrent: len(m.Current) > 0, HasHistory: len(m.History) > 0, HasRuns: s.runs,
	}
	if l.o.Stages != "" {
		o.Stages = l.stagesPlace()
	}
	var out []load.Resource
	_, wanted := views.Split(Views(o))
	for _, v := range wanted {
		out = append(out, load.Resource{Kind: load.KindView, Name: v.Name, Want: definition(v)})
	}
	_, there := views.Split(s.views)
	for _, v := range there {
		i := slices.IndexFunc(out, func(r load.Resource) bool { return r.Name == v.Name })
		if i < 0 {
			i = len(out)
			out = append(out, load.Resource{Kind: load.KindView, Name: v.Name})
		}
		out[i].Have = definition(v)
	}
	slices.SortFunc(out, func(a, b load.Resource) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

func definition(v views.Statement) []load.Attribute {
	return []load.Attribute{{Name: attrDefinition, Value: v.Digest()}}
}

// missingFiles refuses a table of which files are gone: nothing that is made of
// the rest would be right.
func (l *Loader) missingFiles(s standing) error {
	if s.missing == 0 {
		return nil
	}
	return &Error{Message: fmt.Sprintf("%d files of the table are missing", s.missing), Path: l.root, hint: missingHint}
}

const (
	missingHint = "`sluice verify` names the files that are missing. Put them back, or move the table's folder away and run with --full."
	retypeHint  = "Column types never change in place. Give the column its type back, or `sluice destroy` the table, which the next run fills again; or give the changed field another column name in the contract, or the pipeline another table name."
)

// retyped refuses a table in which a column has another type than it is to have.
func (l *Loader) retyped(s standing, table schemas.Table) error {
	if s.m == nil {
		return nil
	}
	for _, c := range table.Columns {
		if k := s.m.Schema.Index(c.Name); k >= 0 && retypes(s.m.Schema.Columns[k], c) {
			return &Error{Message: fmt.Sprintf("column %s is %s in the table, and is to be %s", c.Name, s.m.Schema.Columns[k].Type, c.Type), Path: l.root, hint: retypeHint}
		}
	}
	return nil
}

// Survey implements load.Surveyor. It reads the manifests and views.sql, lists
// the table's objects, and reads the views over accounts beside it.
func (l *GSLoader) Survey(ctx context.Context, lineage string, table schemas.Table) ([]load.Resource, error) {
	_, s, err := l.stand(ctx, lineage)
	if err != nil {
		return nil, err
	}
	u, err := l.unions(ctx)
	if err != nil {
		return nil, err
	}
	return l.local.surveyed(s, u, table), nil
}

// stand looks at what stands in the bucket without changing anything.
func (l *GSLoader) stand(ctx context.Context, lineage string) (t gsTable, s standing, err error) {
	s.stages = -1
	if l.o.Stages != "" {
		if err := l.stagesFree(ctx); err != nil {
			return t, s, err
		}
		o, err := l.statStages(ctx)
		if err != nil {
			return t, s, err
		}
		if o.Generation != 0 {
			s.stages = o.Size
		}
	}
	if t, err = l.look(ctx); err != nil || !t.found() {
		return t, s, err
	}
	if s.m, err = t.ours(l.URL(), lineage); err != nil {
		return t, s, err
	}
	s.pending = t.pending()
	text, _, err := l.get(ctx, viewsName)
	if err != nil {
		return t, s, err
	}
	s.views = string(text)
	if s.runs, err = l.hasRuns(ctx); err != nil {
		return t, s, err
	}
	s.missing, err = l.countMissing(ctx, t, s.m)
	return t, s, err
}

// countMissing counts the files of the manifest that are not there, in one
// listing for each folder.
func (l *GSLoader) countMissing(ctx context.Context, t gsTable, m *Manifest) (int, error) {
	there := map[string]bool{}
	for _, dir := range []string{currentDir, historyDir} {
		if err := (&gsShelf{l: l}).each(ctx, dir, func(rel string) { there[rel] = true }); err != nil {
			return 0, err
		}
	}
	if t.pending() {
		for _, rel := range t.head.Published {
			there[rel] = true
		}
	}
	n := 0
	for _, f := range slices.Concat(m.Current, m.History) {
		if !there[f.Path] {
			n++
		}
	}
	return n, nil
}
