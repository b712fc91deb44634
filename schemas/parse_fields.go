package schemas

import (
	"fmt"
	"strings"

	"github.com/goccy/go-yaml/ast"
)

// Where the table's own keys say nothing, it evolves and keeps.
func (p *contractParser) defaults(at ast.Node, m map[string]ast.Node) {
	rule := FieldRule{Wanted: true, Policy: Keep, NewColumns: Evolve, TypeConflicts: Evolve}
	rule.NewColumnsLine, rule.TypeConflictsLine = line(at), line(at)
	p.evolutions(m, &rule)
	for _, s := range fieldScopes {
		p.contract.Undeclared[s] = rule
	}
	if policy, ok := p.policyOf(m, "undeclared"); ok {
		rule.Policy = policy
		for _, s := range fieldScopes {
			p.contract.Undeclared[s] = rule
		}
	}
	n := m["max_columns"]
	if n == nil {
		return
	}
	i, ok := resolve(n).(*ast.IntegerNode)
	if v, fits := asInt(i); ok && fits && v >= 1 && v <= maxMaxColumns {
		p.contract.MaxColumns = v
		return
	}
	p.fault(n, "leave it out for 2000", "max_columns must be a number from 1 to %d", maxMaxColumns)
}

// maxMaxColumns leaves room for declared, misfit and system columns below
// BigQuery's 10,000 columns of a table
// (https://cloud.google.com/bigquery/quotas#standard_tables).
const maxMaxColumns = 4_500

func asInt(i *ast.IntegerNode) (int, bool) {
	if i == nil {
		return 0, false
	}
	switch v := i.Value.(type) {
	case uint64:
		return int(min(v, 1<<31)), true //nolint:gosec // bounded
	case int64:
		return int(v), true
	default:
		return 0, false
	}
}

// line returns the line that a node begins in.
func line(n ast.Node) int {
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		n = m.Values[0].Key
	}
	if n == nil || n.GetToken() == nil || n.GetToken().Position == nil {
		return 1
	}
	return n.GetToken().Position.Line
}

// evolutions reads new_columns and type_conflicts.
func (p *contractParser) evolutions(m map[string]ast.Node, rule *FieldRule) {
	if e, ok := p.evolution(m, "new_columns"); ok {
		rule.NewColumns, rule.NewColumnsLine = e, line(m["new_columns"])
	}
	if e, ok := p.evolution(m, "type_conflicts"); ok {
		rule.TypeConflicts, rule.TypeConflictsLine = e, line(m["type_conflicts"])
	}
}

func (p *contractParser) evolution(m map[string]ast.Node, key string) (Evolution, bool) {
	text, ok := p.text(nil, m, key, false)
	switch e := Evolution(text); {
	case !ok:
		return "", false
	case e == Evolve, e == Freeze, e == Discard:
		return e, true
	default:
		p.fault(m[key], "allowed: evolve, freeze, discard", "unknown %s %q", key, text)
		return "", false
	}
}

func (p *contractParser) policyOf(m map[string]ast.Node, key string) (Policy, bool) {
	text, ok := p.text(nil, m, key, false)
	switch policy := Policy(text); {
	case !ok:
		return "", false
	case policy == Keep, policy == Hash, policy == Mask, policy == Drop:
		return policy, true
	default:
		p.fault(m[key], "allowed: keep, hash, mask, drop", "unknown policy %q", text)
		return "", false
	}
}

// columnPolicy reads what a column says of its values.
func (p *contractParser) columnPolicy(at ast.Node, m map[string]ast.Node, col *ContractColumn) {
	col.Policy = Keep
	if policy, ok := p.policyOf(m, "policy"); ok {
		col.Policy = policy
	}
	col.TypeConflicts = p.contract.Undeclared[ScopeContact].TypeConflicts
	if e, ok := p.evolution(m, "type_conflicts"); ok {
		col.TypeConflicts = e
	}
	text, given := p.text(at, m, "normalize", false)
	switch col.Normal = Normal(text); {
	case given && col.Normal != Text && col.Normal != Email && col.Normal != Phone:
		p.fault(m["normalize"], "allowed: text, email, phone", "unknown normalize %q", text)
	case given && col.Policy != Hash && col.Policy != Mask:
		p.fault(m["normalize"], "it prepares a value for policy hash or mask", "normalize without such a policy would change nothing")
	case !given && (col.Policy == Hash || col.Policy == Mask):
		col.Normal = normalOf(col.Ref)
	}
	if mandatoryName(col.Name) && col.Policy != Keep {
		p.fault(m["policy"], "write policy: keep, or leave the line out", "column %s finds and orders versions: it is kept as it is", col.Name)
	}
	if (col.Policy == Hash || col.Policy == Mask) && col.Type.Valid() && col.Type != String {
		p.fault(m["policy"], "write type: string", "policy %s makes text of any value", col.Policy)
	}
	if col.Policy == Drop && col.Required {
		p.fault(m["policy"], "leave required out", "a column that is dropped cannot be required")
	}
}

// normalOf is the form of the endpoint's own fields.
func normalOf(ref FieldRef) Normal {
	switch ref {
	case FieldRef{ScopeContact, "phone"}:
		return Phone
	case FieldRef{ScopeContact, "email"}:
		return Email
	default:
		return Text
	}
}

func mandatoryName(name string) bool {
	return name == ColID || name == ColCreatedAt || name == ColUpdatedAt
}

func (p *contractParser) customFields(n ast.Node) {
	if n == nil {
		p.contract.CustomFields = append(defaultSources(ScopeContact), defaultSources(ScopeTicket)...)
		return
	}
	m, ok := p.mapping(n, "custom_fields", "customer", "ticket")
	if !ok {
		return
	}
	p.entity(m["customer"], ScopeContact, ScopeCFCustomer)
	p.entity(m["ticket"], ScopeTicket, ScopeCFTicket)
}

// entity reads a list of places, or a mapping with the places and what becomes
// of the fields in them.
func (p *contractParser) entity(n ast.Node, scope, fields Scope) {
	if n == nil {
		return
	}
	if _, list := resolve(n).(*ast.SequenceNode); list {
		p.sources(n, scope)
		return
	}
	if _, ok := resolve(n).(*ast.MappingNode); !ok {
		p.fault(n, "", "the places of custom fields must be a list of paths, or a mapping with places, policy, new_columns, type_conflicts")
		return
	}
	m, _ := p.mapping(n, "an entity of custom_fields", "places", "policy", "new_columns", "type_conflicts")
	rule := p.contract.Undeclared[fields]
	p.evolutions(m, &rule)
	if policy, ok := p.policyOf(m, "policy"); ok {
		rule.Policy = policy
	}
	p.contract.Undeclared[fields] = rule
	places := m["places"]
	switch _, list := resolve(places).(*ast.SequenceNode); {
	case places == nil:
		p.contract.CustomFields = append(p.contract.CustomFields, defaultSources(scope)...)
	case !list:
		p.fault(places, "", "the places of custom fields must be a list of paths")
	default:
		p.sources(places, scope)
	}
}

func (p *contractParser) sources(n ast.Node, scope Scope) {
	seq := resolve(n).(*ast.SequenceNode) //nolint:forcetypeassert // seen by the caller
	for rank, item := range seq.Values {
		s, ok := resolve(item).(*ast.StringNode)
		if !ok {
			p.fault(item, "", "a place of custom fields must be a path")
			continue
		}
		ref := p.path(item, s.Value)
		if ref.Key == "" {
			continue
		}
		if ref.Scope != scope {
			p.fault(item, "customer takes fields of the contact, ticket takes "+TicketField+".<field>", "%q is not a place for this entity", s.Value)
		}
		if _, taken := p.contract.Column(ref); taken {
			p.fault(item, "", "%q is already a column", s.Value)
		}
		for _, other := range p.contract.CustomFields {
			if other.Place == ref {
				p.fault(item, "", "%q stands twice", s.Value)
			}
		}
		p.contract.CustomFields = append(p.contract.CustomFields, CustomFieldSource{Place: ref, Rank: rank})
	}
}

// defaultSources are the places seen in the field, for contracts that name none.
func defaultSources(scope Scope) []CustomFieldSource {
	var out []CustomFieldSource
	for rank, key := range []string{"custom_fields", "custom_field_values", "metadata"} {
		out = append(out, CustomFieldSource{Place: FieldRef{scope, key}, Rank: rank})
	}
	return out
}

// renames reads the names of undeclared fields' columns, path: name.
func (p *contractParser) renames(n ast.Node) {
	if n == nil {
		return
	}
	m, ok := resolve(n).(*ast.MappingNode)
	if !ok {
		p.fault(n, "", "rename must be a mapping of paths to names of columns")
		return
	}
	for _, kv := range m.Values {
		key := kv.Key.GetToken().Value
		ref := p.path(kv.Key, key)
		name, ok := resolve(kv.Value).(*ast.StringNode)
		if !ok {
			p.fault(kv.Value, "", "the name of a column must be text")
			continue
		}
		if ref.Key == "" {
			continue
		}
		p.columnName(kv.Value, name.Value)
		for _, r := range p.contract.Renames {
			if r.Column == name.Value {
				p.fault(kv.Value, "", "two fields are renamed to %q", name.Value)
			}
		}
		if col, declared := p.contract.Column(ref); declared {
			p.fault(kv.Key, "change the name of the column itself", "%q is already column %s", key, col.Name)
		}
		p.contract.Renames = append(p.contract.Renames, Rename{Ref: ref, Column: name.Value, Line: line(kv.Key)})
	}
}

// patterns reads a list of paths, each with * at its end for all that begin so.
func (p *contractParser) patterns(n ast.Node, what string) []FieldPattern {
	if n == nil {
		return nil
	}
	seq, ok := resolve(n).(*ast.SequenceNode)
	if !ok || len(seq.Values) == 0 {
		p.fault(n, "such as [name, cf_ticket.*]", "%s must be a list of paths", what)
		return nil
	}
	var out []FieldPattern
	for _, item := range seq.Values {
		s, ok := resolve(item).(*ast.StringNode)
		if !ok {
			p.fault(item, "", "%s must be a list of paths", what)
			continue
		}
		out = append(out, p.pattern(item, s.Value, what)...)
	}
	return out
}

// pattern reads one of them. A whole scope may be meant, whose key is empty then.
func (p *contractParser) pattern(n ast.Node, text, what string) []FieldPattern {
	path, prefix := strings.CutSuffix(text, "*")
	if strings.Contains(path, "*") {
		p.fault(n, "", "%q: * stands at the end alone", text)
		return nil
	}
	if prefix {
		if path == "" {
			return []FieldPattern{{Ref: FieldRef{Scope: ScopeContact}, Prefix: true, Line: line(n)}}
		}
		for _, s := range []Scope{ScopeCFCustomer, ScopeCFTicket} {
			if path == string(s)+"." {
				return []FieldPattern{{Ref: FieldRef{Scope: s}, Prefix: true, Line: line(n)}}
			}
		}
		if path == TicketField+"." {
			return []FieldPattern{{Ref: FieldRef{Scope: ScopeTicket}, Prefix: true, Line: line(n)}}
		}
	}
	ref := p.path(n, path)
	if ref.Key == "" {
		return nil
	}
	if what == "exclude" && ref.Scope == ScopeContact && (mandatoryName(ref.Key) && !prefix) {
		p.fault(n, "", "column %s finds and orders versions: it is always exported", ref.Key)
	}
	return []FieldPattern{{Ref: ref, Prefix: prefix, Line: line(n)}}
}

// noPlaces refuses to exclude a place of custom fields: what would be left out
// is not what is meant.
func (p *contractParser) noPlaces() {
	for _, pattern := range p.contract.Exclude {
		for _, s := range p.contract.CustomFields {
			if pattern.Prefix || pattern.Ref != s.Place {
				continue
			}
			p.faults = append(p.faults, Fault{
				Line: pattern.Line, Col: 1, Message: fmt.Sprintf("%s is a place of custom fields, which are columns of their own", s.Place.Key),
				Hint: fmt.Sprintf("exclude %s.* or some of them, or list the places to read under custom_fields", s.Entity()),
			})
		}
	}
}

// leave sets aside the declared columns that the table does not have.
func (p *contractParser) leave() {
	c := p.contract
	all := c.Columns
	c.Columns = nil
	for _, col := range all {
		if mandatoryName(col.Name) || col.Policy != Drop && c.wants(col.Ref) {
			c.Columns = append(c.Columns, col)
			continue
		}
		if col.Required && col.Policy != Drop {
			p.faults = append(p.faults, Fault{
				Line: col.Line, Col: 1, Message: fmt.Sprintf("column %s is required, and left out by select or exclude", col.Name),
				Hint: "take required away, or let the column in",
			})
		}
		c.Left = append(c.Left, col)
	}
}
