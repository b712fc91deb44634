package state

import (
	"slices"
	"testing"

	"github.com/sluice-etl/sluice/schemas"
)

func hashedID(key, id string) string { return schemas.HashedAccount + key + ":" + id }

func TestAccountsAreComparedAsTheyAreWritten(t *testing.T) {
	for name, c := range map[string]struct {
		known, found []string
		refused      bool
		kept         []string
	}{
		"the same hash":          {[]string{hashedID("k1", "a")}, []string{hashedID("k1", "a")}, false, []string{hashedID("k1", "a")}},
		"another hash":           {[]string{hashedID("k1", "a")}, []string{hashedID("k1", "b")}, true, nil},
		"hashes after plain ids": {[]string{"a"}, []string{hashedID("k1", "x")}, false, []string{hashedID("k1", "x")}},
		"plain ids after hashes": {[]string{hashedID("k1", "x")}, []string{"a"}, false, []string{"a"}},
		"another key":            {[]string{hashedID("k1", "x")}, []string{hashedID("k2", "y")}, false, []string{hashedID("k2", "y")}},
		"no ids":                 {[]string{"a"}, nil, false, []string{"a"}},
		"another plain id":       {[]string{"a"}, []string{"b"}, true, nil},
	} {
		p := New("nightly")
		p.RecordSource(SourceIdentity{Scheme: "https", Host: "h", ClientIDs: c.known})
		id := SourceIdentity{Scheme: "https", Host: "h", ClientIDs: c.found}
		if err := CheckSource(p, id); (err != nil) != c.refused {
			t.Errorf("%s: %v", name, err)
		}
		if c.refused {
			continue
		}
		p.RecordSource(id)
		if !slices.Equal(p.Source.ClientIDs, c.kept) {
			t.Errorf("%s: state keeps %q, want %q", name, p.Source.ClientIDs, c.kept)
		}
	}
}
