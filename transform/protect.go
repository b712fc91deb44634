package transform

import (
	"errors"
	"fmt"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/sluice-etl/sluice/schemas"
)

// checkPolicies refuses a contract whose policies cannot be kept.
func (c *Chunk) checkPolicies() error {
	if c.o.Contract.Hashes() && c.o.HashKey == nil {
		return errors.New("configure decoder: the contract hashes values, and there is no hash key")
	}
	for _, col := range c.declared {
		if p := col.decl.Policy; (p == schemas.Hash || p == schemas.Mask) && col.decl.Type != schemas.String {
			return fmt.Errorf("configure decoder: column %s of the contract has policy %s and is of type %s, not string", col.decl.Name, p, col.decl.Type)
		}
	}
	return nil
}

// policy returns what is stored of a field's values, and the form that they
// are brought to before. Undeclared fields are hashed as text.
func (c *Chunk) policy(ref schemas.FieldRef) (schemas.Policy, schemas.Normal) {
	rule := c.o.Contract.Rule(ref)
	normal := rule.Normal
	if normal == schemas.AsIs {
		normal = schemas.Text
	}
	if !rule.Wanted {
		return schemas.Drop, normal
	}
	return c.o.Contract.Stored(ref), normal
}

// protected returns the values of col as its policy has them stored; that is
// col itself where they are kept. Every other policy makes text of them. col
// stays as it is: sealing may fail, and is tried again.
func (s *sealer) protected(col *column) *column {
	policy, normal := s.c.policy(col.ref)
	if policy == schemas.Keep {
		return col
	}
	out := s.c.protectedTexts(col, policy, normal)
	if col.bad != nil {
		out.bad = s.c.protectedTexts(col.bad, policy, normal)
	}
	return out
}

func (c *Chunk) protectedTexts(col *column, policy schemas.Policy, normal schemas.Normal) *column {
	out := newColumn(col.ref, col.decl)
	out.misfit = col.misfit
	if policy == schemas.Drop {
		return out
	}
	for i := range col.n {
		out.data = c.protect(out.data, col.kindOf(i), col.text(i), policy, normal)
		out.end(col.rowOf(i), kindString)
	}
	return out
}

// protect appends what policy stores of one value. Numbers are taken as they
// were served, booleans as true and false, objects and arrays in one spelling.
func (c *Chunk) protect(dst []byte, kind uint8, text []byte, policy schemas.Policy, normal schemas.Normal) []byte {
	switch kind {
	case kindTrue:
		text = []byte("true")
	case kindFalse:
		text = []byte("false")
	case kindNested:
		text = canonical(text)
	}
	return policy.Protect(dst, text, normal, c.o.HashKey)
}

// canonical returns an object or array in one spelling: members in order of
// their keys, no space, strings with the fewest escapes; numbers as they are.
// An endpoint that lists the members in another order today has not changed
// the value. What jsontext does not take apart stays as it is.
func canonical(text []byte) []byte {
	v := jsontext.Value(text).Clone()
	if v.Format(
		jsontext.AllowDuplicateNames(true), jsontext.ReorderRawObjects(true),
		jsontext.PreserveRawStrings(false), jsontext.SpaceAfterComma(false), jsontext.SpaceAfterColon(false), jsontext.Multiline(false),
	) != nil {
		return text
	}
	return v
}

// protectedMember is protect for a value of a field without a column, as a
// member of the overflow column; ok is false where nothing of it is stored.
func (c *Chunk) protectedMember(ref schemas.FieldRef, kind uint8, text []byte) (outKind uint8, out []byte, ok bool) {
	switch policy, normal := c.policy(ref); policy {
	case schemas.Keep:
		return kind, text, true
	case schemas.Drop:
		return 0, nil, false
	default:
		return kindString, c.protect(nil, kind, text, policy, normal), true
	}
}

// accounts returns client ids as the table holds them: as they are, as marked
// hashes, or, where the contract masks the column, none.
func (c *Chunk) accounts(ids []string) []string {
	if c.client == nil {
		return nil
	}
	switch policy, normal := c.policy(c.client.ref); policy {
	case schemas.Keep:
		return ids
	case schemas.Hash:
		for i, id := range ids {
			hash := policy.Protect(nil, []byte(id), normal, c.o.HashKey)
			ids[i] = schemas.HashedAccount + c.o.HashKey.ID() + ":" + string(hash)
		}
		return ids
	default:
		return nil
	}
}
