package schemas

import (
	"errors"
	"fmt"
	"regexp"
	"slices"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// FormatVersion is the version of the contract format that this code reads.
const FormatVersion = 1

// ParseContract reads a contract file. The error is a *ContractError with
// everything that is wrong; name is the file's name for its messages.
func ParseContract(name string, data []byte) (*Contract, error) {
	p := &contractParser{contract: &Contract{}}
	file, err := parser.ParseBytes(data, 0)
	switch {
	case err != nil:
		p.syntax(err)
	default:
		p.file(file)
	}
	if len(p.faults) > 0 {
		slices.SortStableFunc(p.faults, func(a, b Fault) int {
			if a.Line != b.Line {
				return a.Line - b.Line
			}
			return a.Col - b.Col
		})
		return nil, &ContractError{Name: name, Faults: p.faults}
	}
	return p.contract, nil
}

type contractParser struct {
	contract *Contract
	faults   []Fault
}

func (p *contractParser) fault(n ast.Node, hint, format string, args ...any) {
	f := Fault{Line: 1, Col: 1, Message: fmt.Sprintf(format, args...), Hint: hint}
	if m, ok := n.(*ast.MappingNode); ok && !m.IsFlowStyle && len(m.Values) > 0 {
		n = m.Values[0].Key // its own token is the first colon
	}
	if n != nil && n.GetToken() != nil && n.GetToken().Position != nil {
		f.Line, f.Col = n.GetToken().Position.Line, n.GetToken().Position.Column
	}
	p.faults = append(p.faults, f)
}

func (p *contractParser) syntax(err error) {
	f := Fault{Line: 1, Col: 1, Message: err.Error()}
	var ye yaml.Error
	if errors.As(err, &ye) {
		f.Message = "broken YAML: " + ye.GetMessage()
		if t := ye.GetToken(); t != nil && t.Position != nil {
			f.Line, f.Col = t.Position.Line, t.Position.Column
		}
	}
	p.faults = append(p.faults, f)
}

func (p *contractParser) file(file *ast.File) {
	var docs []ast.Node
	for _, d := range file.Docs {
		if d.Body != nil {
			docs = append(docs, d.Body)
		}
	}
	switch {
	case len(docs) == 0:
		p.fault(nil, "begin with version: 1 and columns, or leave the contract out: there is a built-in one", "the contract is empty")
		return
	case len(docs) > 1:
		p.fault(docs[1], "keep one document in a file", "a contract is a single YAML document")
		return
	}
	m, ok := p.mapping(docs[0], "the contract", "version", "columns", "custom_fields")
	if !ok {
		return
	}
	p.version(docs[0], m["version"])
	p.columns(docs[0], m["columns"])
	p.customFields(m["custom_fields"])
}

// resolve looks through anchors; aliases are refused by the callers, since a
// contract must say at each place what holds there.
func resolve(n ast.Node) ast.Node {
	if a, ok := n.(*ast.AnchorNode); ok {
		return a.Value
	}
	return n
}

// mapping returns the values of a mapping by key, reporting unknown keys.
func (p *contractParser) mapping(n ast.Node, what string, allowed ...string) (map[string]ast.Node, bool) {
	m, ok := resolve(n).(*ast.MappingNode)
	if !ok {
		p.fault(n, "", "%s must be a mapping with %s", what, strings.Join(allowed, ", "))
		return nil, false
	}
	out := make(map[string]ast.Node, len(m.Values))
	for _, kv := range m.Values {
		key := kv.Key.GetToken().Value
		if !slices.Contains(allowed, key) {
			p.fault(kv.Key, "allowed: "+strings.Join(allowed, ", "), "unknown key %q in %s", key, what)
			continue
		}
		if _, twice := out[key]; twice {
			p.fault(kv.Key, "", "key %q stands twice in %s", key, what)
			continue
		}
		out[key] = kv.Value
	}
	return out, true
}

func (p *contractParser) version(at, n ast.Node) {
	want := fmt.Sprintf("write version: %d", FormatVersion)
	if n == nil {
		p.fault(at, want, "the contract has no version")
		return
	}
	i, ok := resolve(n).(*ast.IntegerNode)
	if !ok {
		p.fault(n, want, "version must be a number")
		return
	}
	switch v := fmt.Sprint(i.Value); v {
	case fmt.Sprint(FormatVersion):
		p.contract.Version = FormatVersion
	default:
		p.fault(n, want, "contract version %s is not one that this version of sluice reads", v)
	}
}

func (p *contractParser) columns(at, n ast.Node) {
	seq, ok := resolve(n).(*ast.SequenceNode)
	if !ok {
		if n == nil {
			n = at
		}
		p.fault(n, "list at least id, created_at and updated_at", "columns must be a list")
		return
	}
	for _, item := range seq.Values {
		p.column(item)
	}
	p.mandatory(n)
}

var columnName = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

func (p *contractParser) column(n ast.Node) {
	m, ok := p.mapping(n, "a column", "name", "path", "type", "description", "required", "policy")
	if !ok {
		return
	}
	col := ContractColumn{Column: Column{Origin: FromContract}}
	col.Name, ok = p.text(n, m, "name", true)
	if ok {
		p.columnName(m["name"], col.Name)
	}
	if path, ok := p.text(n, m, "path", false); ok {
		col.Ref = p.path(m["path"], path)
	} else if m["path"] == nil {
		col.Ref = FieldRef{ScopeContact, col.Name}
	}
	if t, ok := p.text(n, m, "type", true); ok {
		if col.Type = Type(t); !col.Type.Valid() {
			p.fault(m["type"], "allowed: string, int64, float64, bool, timestamp, date, json", "unknown type %q", t)
		}
	}
	col.Description, _ = p.text(n, m, "description", false)
	if r := m["required"]; r != nil {
		b, ok := resolve(r).(*ast.BoolNode)
		if !ok {
			p.fault(r, "", "required must be true or false")
		} else {
			col.Required = b.Value
		}
	}
	p.policy(n, m)
	col.Source = col.Ref.String()
	for _, c := range p.contract.Columns {
		if col.Ref.Key != "" && c.Ref == col.Ref {
			p.fault(n, "", "columns %q and %q take the same path", c.Name, col.Name)
		}
	}
	p.contract.Columns = append(p.contract.Columns, col)
}

func (p *contractParser) columnName(n ast.Node, name string) {
	switch {
	case !columnName.MatchString(name) || len(name) > maxName:
		p.fault(n, "lower-case letters, digits and single underscores, beginning with a letter", "%q cannot be a column's name", name)
	case reserved(name):
		p.fault(n, "choose another name", "%q is the name of a partition", name)
	}
	for _, c := range p.contract.Columns {
		if c.Name == name {
			p.fault(n, "", "two columns are named %q", name)
		}
	}
}

func (p *contractParser) policy(at ast.Node, m map[string]ast.Node) {
	if policy, ok := p.text(at, m, "policy", false); ok && policy != "keep" {
		p.fault(m["policy"], "write policy: keep, or leave the line out", "policy %q: this version only keeps values as they are", policy)
	}
}

// path reads "field" or "active_ticket_v2.field".
func (p *contractParser) path(n ast.Node, path string) FieldRef {
	if key, ok := strings.CutPrefix(path, TicketField+"."); ok && key != "" && !strings.Contains(key, ".") {
		return FieldRef{ScopeTicket, key}
	}
	if path == "" || path == TicketField || strings.Contains(path, ".") {
		p.fault(n, "write a field of a contact, or "+TicketField+".<field>", "path %q leads nowhere that columns can come from", path)
		return FieldRef{}
	}
	return FieldRef{ScopeContact, path}
}

// text returns the string under key. Missing keys are faults only if wanted.
func (p *contractParser) text(at ast.Node, m map[string]ast.Node, key string, wanted bool) (string, bool) {
	n := m[key]
	switch v := resolve(n).(type) {
	case nil:
		if wanted {
			p.fault(at, "", "a column needs %s", key)
		}
		return "", false
	case *ast.StringNode:
		return v.Value, true
	case *ast.LiteralNode:
		return strings.TrimSpace(v.Value.Value), true
	default:
		p.fault(n, "", "%s must be text", key)
		return "", false
	}
}

// mandatory reports what Sluice itself relies on and the columns do not give.
func (p *contractParser) mandatory(at ast.Node) {
	for _, want := range []struct {
		name string
		typ  Type
	}{{ColID, String}, {ColCreatedAt, Timestamp}, {ColUpdatedAt, Timestamp}} {
		i := slices.IndexFunc(p.contract.Columns, func(c ContractColumn) bool { return c.Name == want.name })
		if i < 0 {
			p.fault(at, "", "column %s is missing: it is needed to find and order versions", want.name)
			continue
		}
		c := p.contract.Columns[i]
		if c.Type != want.typ || !c.Required || c.Ref != (FieldRef{ScopeContact, want.name}) {
			p.fault(at, fmt.Sprintf("write {name: %s, path: %s, type: %s, required: true}", want.name, want.name, want.typ),
				"column %s must have its own path, type %s and required: true", want.name, want.typ)
		}
	}
}

func (p *contractParser) customFields(n ast.Node) {
	if n == nil {
		p.contract.CustomFields = defaultSources()
		return
	}
	m, ok := p.mapping(n, "custom_fields", "customer", "ticket")
	if !ok {
		return
	}
	p.sources(m["customer"], ScopeContact)
	p.sources(m["ticket"], ScopeTicket)
}

func (p *contractParser) sources(n ast.Node, scope Scope) {
	if n == nil {
		return
	}
	seq, ok := resolve(n).(*ast.SequenceNode)
	if !ok {
		p.fault(n, "", "the places of custom fields must be a list of paths")
		return
	}
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
func defaultSources() []CustomFieldSource {
	var out []CustomFieldSource
	for _, scope := range []Scope{ScopeContact, ScopeTicket} {
		for rank, key := range []string{"custom_fields", "custom_field_values", "metadata"} {
			out = append(out, CustomFieldSource{Place: FieldRef{scope, key}, Rank: rank})
		}
	}
	return out
}
