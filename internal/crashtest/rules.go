package crashtest

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
)

// Rules is a contract as a test means it. YAML is the file that says it; what
// a row has to hold by it is worked out apart from the code that reads such
// files: see Compare. Fields are written scope:key, as in schemas.FieldRef.
type Rules struct {
	Columns []Declared
	// Renames are the columns of fields without a declaration.
	Renames map[string]string
	// Exclude lists what is left out: fields, with * at the end all that begin so.
	Exclude []string
	// Table is what holds for undeclared fields of the contact and its ticket,
	// Customer and Ticket what for their custom fields.
	Table, Customer, Ticket Fate
	MaxColumns              int    // 0: the file says nothing
	HashKey                 []byte // of policies hash
}

// Declared is a column of the contract.
type Declared struct {
	Name, Field, Type string
	Policy            string // empty: keep
	Normal            string // text, phone or email; empty: text
	Discard           bool   // of values that do not fit
}

// Fate is what becomes of fields without a declared column.
type Fate struct {
	Policy         string // empty: keep
	DiscardNew     bool   // of fields without a column
	DiscardMisfits bool   // of values that do not fit their column
}

// BuiltInRules is the contract that holds where there is no other.
func BuiltInRules() Rules {
	var r Rules
	for _, c := range []string{
		"id string", "name string", "phone string", "email string", "platform string", "last_message_at timestamp",
		"chat_status string", "created_at timestamp", "updated_at timestamp", "client_id string", "ai_customer_id string",
		"default_stage_id string", "blocked bool", "is_chat_read bool",
	} {
		name, typ, _ := strings.Cut(c, " ")
		d := Declared{Name: name, Field: "contact:" + name, Type: typ}
		if name == "phone" || name == "email" {
			d.Normal = name
		}
		r.Columns = append(r.Columns, d)
	}
	for _, key := range []string{"id", "current_stage_id"} {
		r.Columns = append(r.Columns, Declared{Name: "active_ticket_v2_" + key, Field: "ticket:" + key, Type: "string"})
	}
	return r
}

// Clone returns a copy that may be changed.
func (r Rules) Clone() Rules {
	r.Columns, r.Exclude = slices.Clone(r.Columns), slices.Clone(r.Exclude)
	return r
}

func mandatory(field string) bool {
	return field == "contact:id" || field == "contact:created_at" || field == "contact:updated_at"
}

// Declaration returns the column that the contract declares for a field.
func (r Rules) Declaration(field string) (Declared, bool) {
	i := slices.IndexFunc(r.Columns, func(d Declared) bool { return d.Field == field })
	if i < 0 {
		return Declared{}, false
	}
	return r.Columns[i], true
}

// fate returns what becomes of an undeclared field.
func (r Rules) fate(field string) Fate {
	switch scope, _, _ := strings.Cut(field, ":"); scope {
	case "cf_customer":
		return r.Customer
	case "cf_ticket":
		return r.Ticket
	default:
		return r.Table
	}
}

// Wanted reports whether anything of a field is stored.
func (r Rules) Wanted(field string) bool {
	if mandatory(field) {
		return true
	}
	for _, pattern := range r.Exclude {
		prefix, many := strings.CutSuffix(pattern, "*")
		if pattern == field || many && strings.HasPrefix(field, prefix) {
			return false
		}
	}
	if d, ok := r.Declaration(field); ok {
		return d.Policy != "drop"
	}
	return r.fate(field).Policy != "drop"
}

// GivesColumns reports whether a field that has no column may get one.
func (r Rules) GivesColumns(field string) bool { return !r.fate(field).DiscardNew }

// YAML is the contract file.
func (r Rules) YAML() []byte {
	var b strings.Builder
	b.WriteString("version: 1\n")
	evolution := func(indent string, f Fate) {
		fmt.Fprintf(&b, "%snew_columns: %s\n", indent, word(f.DiscardNew))
		fmt.Fprintf(&b, "%stype_conflicts: %s\n", indent, word(f.DiscardMisfits))
	}
	evolution("", r.Table)
	if r.Table.Policy != "" {
		fmt.Fprintf(&b, "undeclared: %s\n", r.Table.Policy)
	}
	if r.MaxColumns > 0 {
		fmt.Fprintf(&b, "max_columns: %d\n", r.MaxColumns)
	}
	b.WriteString("columns:\n")
	for _, d := range r.Columns {
		fmt.Fprintf(&b, "  - name: %s\n    path: %s\n    type: %s\n    type_conflicts: %s\n", strconv.Quote(d.Name), path(d.Field), d.Type, word(d.Discard))
		if mandatory(d.Field) {
			b.WriteString("    required: true\n")
		}
		if d.Policy != "" {
			fmt.Fprintf(&b, "    policy: %s\n", d.Policy)
		}
	}
	b.WriteString("custom_fields:\n")
	for _, e := range []struct {
		name, prefix string
		fate         Fate
	}{{"customer", "", r.Customer}, {"ticket", "active_ticket_v2.", r.Ticket}} {
		fmt.Fprintf(&b, "  %s:\n    places: [%s%s]\n", e.name, e.prefix, strings.Join(places(), ", "+e.prefix))
		evolution("    ", e.fate)
		policy := e.fate.Policy
		if policy == "" {
			policy = "keep"
		}
		fmt.Fprintf(&b, "    policy: %s\n", policy)
	}
	if len(r.Renames) > 0 {
		b.WriteString("rename:\n")
		for _, field := range sorted(r.Renames) {
			fmt.Fprintf(&b, "  %s: %s\n", path(field), strconv.Quote(r.Renames[field]))
		}
	}
	if len(r.Exclude) > 0 {
		b.WriteString("exclude:\n")
		for _, field := range r.Exclude {
			fmt.Fprintf(&b, "  - %s\n", path(field))
		}
	}
	return []byte(b.String())
}

func word(discard bool) string {
	if discard {
		return "discard"
	}
	return "evolve"
}

// places are where custom fields stand, the first before the next.
func places() []string { return []string{"custom_fields", "custom_field_values", "metadata"} }

// path writes a field as contract files do.
func path(field string) string {
	scope, key, _ := strings.Cut(field, ":")
	switch scope {
	case "contact":
		return strconv.Quote(key)
	case "ticket":
		return strconv.Quote("active_ticket_v2." + key)
	default:
		return strconv.Quote(scope + "." + key)
	}
}
