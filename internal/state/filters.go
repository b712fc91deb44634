package state

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
)

// FiltersFingerprint identifies a set of filters (column to allowed values)
// for Pipeline.Filters: the same for the same sets in any order, "" for none.
func FiltersFingerprint(filters map[string][]string) string {
	sets := map[string][]string{}
	for column, values := range filters {
		if len(values) > 0 {
			v := slices.Clone(values)
			slices.Sort(v)
			sets[column] = slices.Compact(v)
		}
	}
	if len(sets) == 0 {
		return ""
	}
	data, err := json.Marshal(sets) // maps in order of key
	if err != nil {
		panic(fmt.Sprintf("state: fingerprint of filters: %v", err)) // plain data: cannot happen
	}
	sum := sha256.Sum256(data)
	return "v1:" + hex.EncodeToString(sum[:16])
}
