package state

import (
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/schemas"
)

// String names the source as messages do.
func (id SourceIdentity) String() string {
	if id.Scheme == "" && id.Host == "" {
		return "an unknown source"
	}
	s := id.Scheme + "://" + id.Host
	switch n := len(id.ClientIDs); {
	case n == 1:
		s += " (client_id " + id.ClientIDs[0] + ")"
	case n > 1:
		s += " (client_id " + id.ClientIDs[0] + " and others)"
	}
	return s
}

// IsZero reports whether no source is recorded.
func (id SourceIdentity) IsZero() bool {
	return id.Scheme == "" && id.Host == "" && len(id.ClientIDs) == 0
}

// CheckSource reports, as a *ForeignSourceError, that p was made from another
// source than id: another scheme or host, or, where both have seen contacts,
// none of the same client ids. A state without a source accepts any.
func CheckSource(p *Pipeline, id SourceIdentity) error {
	old := p.Source
	if old.IsZero() {
		return nil
	}
	same := strings.EqualFold(old.Scheme, id.Scheme) && strings.EqualFold(old.Host, id.Host)
	// A full list may lack the ids that came later: it proves nothing. Nor do
	// hashes, compared with ids or with those under another key.
	known := sameKind(old.ClientIDs, id.ClientIDs)
	if same && len(known) > 0 && len(id.ClientIDs) > 0 && len(old.ClientIDs) < MaxClientIDs {
		same = slices.ContainsFunc(id.ClientIDs, func(c string) bool { return slices.Contains(known, c) })
	}
	if same {
		return nil
	}
	return &ForeignSourceError{Pipeline: p.Pipeline, Recorded: old, Configured: id}
}

// sameKind returns the known client ids that are written as the new ones are:
// plain, or as hashes under the same key. Without new ones it is all of them.
func sameKind(known, fresh []string) []string {
	if len(fresh) == 0 {
		return known
	}
	like := hashedUnder(fresh[0])
	return slices.DeleteFunc(slices.Clone(known), func(id string) bool { return hashedUnder(id) != like })
}

// hashedUnder returns the id of the key that a client id is hashed with, empty
// for a plain one.
func hashedUnder(id string) string {
	hashed, ok := strings.CutPrefix(id, schemas.HashedAccount)
	if !ok {
		return ""
	}
	key, _, _ := strings.Cut(hashed, ":")
	return key
}

// RecordSource notes in p what was read, adding client ids not seen before.
// Those that are written otherwise than the new ones go: where hashes come now,
// no plain id may stay. Call CheckSource first.
func (p *Pipeline) RecordSource(id SourceIdentity) {
	ids := slices.Concat(sameKind(p.Source.ClientIDs, id.ClientIDs), id.ClientIDs)
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if len(ids) > MaxClientIDs {
		ids = ids[:MaxClientIDs]
	}
	if len(ids) == 0 {
		ids = nil
	}
	p.Source = SourceIdentity{Scheme: strings.ToLower(id.Scheme), Host: strings.ToLower(id.Host), ClientIDs: ids}
}
