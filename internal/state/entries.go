package state

import (
	"slices"

	"github.com/sluice-etl/sluice/schemas"
)

// Entries are the fields that the tables have and the contract need not: the
// registry, and the columns of earlier contracts that c leaves out. Those keep
// their names and types, as all columns do, and are null from now on.
func (p *Pipeline) Entries(c *schemas.Contract) []schemas.RegistryEntry {
	out := slices.Clone(p.Registry)
	for _, col := range p.Columns {
		ref, err := schemas.ParseFieldRef(col.Source)
		if err != nil {
			continue // no contract has such a field: it is compared by name alone
		}
		if _, declared := c.Column(ref); declared {
			continue
		}
		if slices.ContainsFunc(out, func(e schemas.RegistryEntry) bool { return e.Ref() == ref }) {
			continue
		}
		out = append(out, schemas.RegistryEntry{Scope: ref.Scope, Key: ref.Key, Column: col.Name, Type: col.Type})
	}
	return out
}
