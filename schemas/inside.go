package schemas

// Stored returns what is stored of the values of a field that the table has: its
// own policy, and of a field that others are taken out of, the ticket or a place
// of custom fields, no more than those show of themselves. What is dropped there
// is masked here: that something stood in this place may be seen.
func (c *Contract) Stored(ref FieldRef) Policy {
	policy := c.Rule(ref).Policy
	stricter := func(p Policy) {
		switch {
		case policy == Drop:
		case p == Mask || p == Drop:
			policy = Mask
		case p == Hash && policy == Keep:
			policy = p
		}
	}
	for _, s := range c.Inside(ref) {
		stricter(c.Undeclared[s].Policy)
		for _, cols := range [][]ContractColumn{c.Columns, c.Left} {
			for _, col := range cols {
				if col.Ref.Scope == s {
					stricter(col.Policy)
				}
			}
		}
	}
	return policy
}

// Inside returns the scopes of the fields that a field is taken apart into; none
// for most. Where it is not, because it is served in another shape than usual, or
// is kept as a whole as well, its own column holds their values.
func (c *Contract) Inside(ref FieldRef) []Scope {
	if ref == (FieldRef{Scope: ScopeContact, Key: TicketField}) {
		return []Scope{ScopeTicket, ScopeCFTicket}
	}
	for _, s := range c.CustomFields {
		if s.Place == ref {
			return []Scope{s.Entity()}
		}
	}
	return nil
}
