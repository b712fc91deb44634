package cli

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"
	"unicode"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/schemas"
)

// contractFile writes the contract with every column found declared, for a
// person to edit. It holds no value of the sample.
func contractFile(p *config.Pipeline, s *pageSample) (string, error) {
	w := &contractWriter{sample: s, c: s.contract, declared: map[schemas.FieldRef]bool{}}
	w.line("# The columns of pipeline %s: those of the contract, then those found in the", printable(oneLine(p.Name)))
	w.line("# data, %s of this sample included. Save it, edit it, and name", counted(s.sealed.Record.NumRows(), "contact", "contacts"))
	w.line("# it in the pipeline: `schema: FILE`.")
	w.line("#")
	w.line("# policy: keep, hash (needs hash_key), mask or drop, for personal data.")
	w.line("# A column that the table has keeps its name and type for ever. The next run")
	w.line("# with another contract reads everything again. docs/tables.md has the rest.")
	w.line("version: %d", schemas.FormatVersion)
	w.rules()
	w.line("columns:")
	declared := slices.Concat(w.c.Columns, w.c.Left)
	slices.SortStableFunc(declared, func(a, b schemas.ContractColumn) int { return cmp.Compare(a.Line, b.Line) })
	for _, col := range declared {
		w.column(col, "")
	}
	w.discovered()
	w.places()
	w.names()
	w.patterns("select", w.c.Select)
	w.patterns("exclude", w.c.Exclude)
	text := w.b.String()
	if _, err := schemas.ParseContract("the contract printed", []byte(text)); err != nil {
		return "", fmt.Errorf("write contract: %w", err)
	}
	return text, nil
}

type contractWriter struct {
	b        strings.Builder
	sample   *pageSample
	c        *schemas.Contract
	declared map[schemas.FieldRef]bool
}

func (w *contractWriter) line(format string, args ...any) { fmt.Fprintf(&w.b, format+"\n", args...) }

// rules writes what holds for the whole table, where it is not the default.
func (w *contractWriter) rules() {
	rule := w.c.Undeclared[schemas.ScopeContact]
	w.line("new_columns: %s  # evolve, freeze or discard", rule.NewColumns)
	w.line("type_conflicts: %s  # evolve, freeze or discard", rule.TypeConflicts)
	w.line("undeclared: %s  # policy of fields that have no column below", rule.Policy)
	if w.c.MaxColumns > 0 {
		w.line("max_columns: %d", w.c.MaxColumns)
	}
}

// column writes one column; note is a comment behind its type.
func (w *contractWriter) column(col schemas.ContractColumn, note string) {
	w.declared[col.Ref] = true
	w.line("  - name: %s", col.Name)
	w.line("    path: %s", yamlText(contractPath(col.Ref)))
	w.line("    type: %s%s", col.Type, note)
	if col.Required {
		w.line("    required: true")
	}
	switch {
	case col.Policy != schemas.Keep:
		w.line("    policy: %s", col.Policy)
	case col.Name == schemas.ColID || col.Name == schemas.ColCreatedAt || col.Name == schemas.ColUpdatedAt:
	case col.Type == schemas.String:
		w.line("    # policy: keep  # hash, mask, drop")
	default:
		w.line("    # policy: keep  # drop")
	}
	if (col.Policy == schemas.Hash || col.Policy == schemas.Mask) && col.Normal != schemas.AsIs {
		w.line("    normalize: %s", col.Normal)
	}
	if col.TypeConflicts != w.c.Undeclared[schemas.ScopeContact].TypeConflicts {
		w.line("    type_conflicts: %s", col.TypeConflicts)
	}
	if col.Description != "" {
		w.line("    description: %s", yamlText(col.Description))
	}
}

// discovered declares the columns that the data brought.
func (w *contractWriter) discovered() {
	var cannot []string
	first := true
	for i, col := range w.sample.sealed.Table.Columns {
		ref, err := schemas.ParseFieldRef(col.Source)
		if err != nil || col.Origin != schemas.Discovered || ref.Scope == schemas.ScopeOverflow {
			continue
		}
		rule := w.c.Rule(ref)
		if !rule.Wanted {
			continue // the table had it once
		}
		declared := schemas.ContractColumn{Column: col, Ref: ref, Policy: rule.Policy, TypeConflicts: rule.TypeConflicts}
		if why := w.undeclarable(declared); why != "" {
			cannot = append(cannot, fmt.Sprintf("#   %s: %s", cut(shownText(ref.String()), longestKey), why))
			continue
		}
		if first {
			w.line("  # found in the data")
			first = false
		}
		values := w.sample.sealed.Record.Column(i)
		w.column(declared, w.typeNote(declared, values))
	}
	if len(cannot) > 0 {
		w.line("# These stay undeclared:")
		w.line("%s", strings.Join(cannot, "\n"))
	}
}

const longestName = 270 // of a column that a contract names, in bytes

// undeclarable says why a contract cannot name the column, "" where it can.
func (w *contractWriter) undeclarable(col schemas.ContractColumn) string {
	key := col.Ref.Key
	switch {
	case key == "":
		return "its key is empty"
	case (col.Ref.Scope == schemas.ScopeContact || col.Ref.Scope == schemas.ScopeTicket) && strings.Contains(key, "."):
		return "a path cannot have a dot in its key"
	case col.Ref == schemas.FieldRef{Scope: schemas.ScopeContact, Key: schemas.TicketField}:
		return "the active ticket is taken apart"
	case slices.ContainsFunc(w.c.CustomFields, func(s schemas.CustomFieldSource) bool { return s.Place == col.Ref }):
		return "it is a place of custom fields"
	case len(col.Name) > longestName:
		return "the name of its column is too long"
	case (col.Policy == schemas.Hash || col.Policy == schemas.Mask) && col.Type != schemas.String:
		return fmt.Sprintf("its column is %s, and policy %s makes text of it", col.Type, col.Policy)
	default:
		return ""
	}
}

// typeNote says how much of the sample has the column, and which narrower type
// texts look like while a new column may still have any.
func (w *contractWriter) typeNote(col schemas.ContractColumn, values arrow.Array) string {
	n := values.Len() - values.NullN()
	note := "  # in " + share(int64(n), int64(values.Len())) + " of the sample"
	if n == 0 {
		note = "  # not in the sample"
	}
	if col.Type != schemas.String || col.Policy != schemas.Keep || n == 0 || w.sample.before.Index(col.Name) >= 0 {
		return note
	}
	for _, look := range looks() {
		like := true
		for r := range values.Len() {
			like = like && (values.IsNull(r) || look.like(values.ValueStr(r)))
		}
		if like {
			return note + fmt.Sprintf("; all look like %s", look.typ)
		}
	}
	return note
}

type look struct {
	typ  schemas.Type
	like func(string) bool
}

// looks are the narrower types, in the order in which they are tried.
func looks() []look {
	parses := func(layout string) func(string) bool {
		return func(s string) bool { _, err := time.Parse(layout, s); return err == nil }
	}
	return []look{
		{schemas.Int64, regexp.MustCompile(`^(0|-?[1-9][0-9]{0,17})$`).MatchString},
		{schemas.Float64, regexp.MustCompile(`^-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,6})?$`).MatchString},
		{schemas.Date, parses(time.DateOnly)},
		{schemas.Timestamp, parses(time.RFC3339Nano)},
	}
}

// places writes where custom fields stand, and what becomes of those that no
// column is declared for.
func (w *contractWriter) places() {
	w.line("custom_fields:")
	for _, entity := range []struct {
		name  string
		scope schemas.Scope
	}{{"customer", schemas.ScopeCFCustomer}, {"ticket", schemas.ScopeCFTicket}} {
		var places []string
		sources := slices.Clone(w.c.CustomFields)
		slices.SortStableFunc(sources, func(a, b schemas.CustomFieldSource) int { return cmp.Compare(a.Rank, b.Rank) })
		for _, s := range sources {
			if s.Entity() == entity.scope {
				places = append(places, yamlText(contractPath(s.Place)))
			}
		}
		rule := w.c.Undeclared[entity.scope]
		w.line("  %s:", entity.name)
		w.line("    places: [%s]", strings.Join(places, ", "))
		w.line("    policy: %s", rule.Policy)
		w.line("    new_columns: %s", rule.NewColumns)
		w.line("    type_conflicts: %s", rule.TypeConflicts)
	}
}

// names writes the names given to fields that no column is declared for.
func (w *contractWriter) names() {
	title := "rename:"
	for _, r := range w.c.Renames {
		if w.declared[r.Ref] {
			continue
		}
		if title != "" {
			w.line("%s", title)
			title = ""
		}
		w.line("  %s: %s", yamlText(contractPath(r.Ref)), r.Column)
	}
}

func (w *contractWriter) patterns(key string, patterns []schemas.FieldPattern) {
	if len(patterns) == 0 {
		return
	}
	w.line("%s:", key)
	for _, p := range patterns {
		path := contractPath(p.Ref)
		if p.Prefix {
			path += "*"
		}
		w.line("  - %s", yamlText(path))
	}
}

// contractPath is a field as a contract writes it.
func contractPath(ref schemas.FieldRef) string {
	switch ref.Scope {
	case schemas.ScopeContact:
		return ref.Key
	case schemas.ScopeTicket:
		return schemas.TicketField + "." + ref.Key
	default:
		return string(ref.Scope) + "." + ref.Key
	}
}

// plainYAML is text that needs no quotes wherever a value stands. Words such
// as true and null, and everything that could be a number, are not among it.
var plainYAML = regexp.MustCompile(`^[a-z]+(_[a-z0-9]+)+(\.[a-z_]+)?$|^(id|name|phone|email|platform|blocked|metadata)$`)

// yamlText is a text as a YAML value, in quotes where it needs them.
func yamlText(s string) string {
	if plainYAML.MatchString(s) {
		return s
	}
	var b strings.Builder
	b.WriteByte('"')
	for _, r := range s {
		switch {
		case r == '"' || r == '\\':
			b.WriteByte('\\')
			b.WriteRune(r)
		case unicode.IsPrint(r):
			b.WriteRune(r)
		case r > 0xffff:
			fmt.Fprintf(&b, `\U%08x`, r)
		default:
			fmt.Fprintf(&b, `\u%04x`, r)
		}
	}
	b.WriteByte('"')
	return b.String()
}
