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
	p := &contractParser{contract: &Contract{Name: name, Undeclared: map[Scope]FieldRule{}}}
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
	m, ok := p.mapping(docs[0], "the contract", "version", "columns", "custom_fields",
		"new_columns", "type_conflicts", "undeclared", "max_columns", "rename", "select", "exclude")
	if !ok {
		return
	}
	p.version(docs[0], m["version"])
	p.defaults(docs[0], m)
	p.columns(docs[0], m["columns"])
	p.customFields(m["custom_fields"])
	p.renames(m["rename"])
	p.contract.Select = p.patterns(m["select"], "select")
	p.contract.Exclude = p.patterns(m["exclude"], "exclude")
	p.noPlaces()
	p.leave()
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
	m, ok := p.mapping(n, "a column", "name", "path", "type", "description", "required", "policy", "normalize", "type_conflicts")
	if !ok {
		return
	}
	col := ContractColumn{Column: Column{Origin: FromContract}, Line: line(n)}
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
	p.columnPolicy(n, m, &col)
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

// path reads "field", "active_ticket_v2.field", or "cf_customer.key" and
// "cf_ticket.key" for a custom field, whose key may have any characters.
func (p *contractParser) path(n ast.Node, path string) FieldRef {
	for _, s := range []Scope{ScopeCFCustomer, ScopeCFTicket} {
		if key, ok := strings.CutPrefix(path, string(s)+"."); ok && key != "" {
			return FieldRef{s, key}
		}
	}
	if key, ok := strings.CutPrefix(path, TicketField+"."); ok && key != "" && !strings.Contains(key, ".") {
		return FieldRef{ScopeTicket, key}
	}
	if path == "" || path == TicketField || strings.Contains(path, ".") {
		p.fault(n, "write a field of a contact, "+TicketField+".<field>, cf_customer.<key> or cf_ticket.<key>",
			"path %q leads nowhere that columns can come from", path)
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
