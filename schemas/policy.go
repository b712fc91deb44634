package schemas

// Policy says what is stored of a value, with a view to personal data. It is
// applied before anything touches a disk.
type Policy string

// The policies.
const (
	Keep Policy = "keep" // the value as it came
	Hash Policy = "hash" // a keyed hash of it: equal values stay equal
	Mask Policy = "mask" // a trace of it that does not identify anybody
	Drop Policy = "drop" // nothing; the table has no such column
)

// Normal names the form that text is brought to before it is hashed or masked,
// so that two spellings of one address give one hash.
type Normal string

// The forms.
const (
	AsIs  Normal = ""      // as it came
	Text  Normal = "text"  // Unicode NFC, without space at the ends
	Email Normal = "email" // as Text, and in lower case
	Phone Normal = "phone" // its digits, without an international prefix 00
)

// Evolution says what becomes of data that the contract does not foresee.
type Evolution string

// The evolutions.
const (
	Evolve  Evolution = "evolve"  // the table grows; what does not fit stands as text beside
	Freeze  Evolution = "freeze"  // the run fails before anything is committed
	Discard Evolution = "discard" // the value is left out, and counted
)

// fieldScopes are the scopes that a field of a contact can have.
var fieldScopes = []Scope{ScopeContact, ScopeTicket, ScopeCFCustomer, ScopeCFTicket}

// policyOf is Column.Policy of a field that is not declared.
func (r *Registry) policyOf(ref FieldRef) Policy {
	if ref.Scope == ScopeOverflow {
		return ""
	}
	rule := r.contract.Rule(ref)
	if !rule.Wanted {
		return Drop
	}
	return stored(rule.Policy)
}

// stored is a policy as a column has it.
func stored(p Policy) Policy {
	if p == Keep {
		return ""
	}
	return p
}
