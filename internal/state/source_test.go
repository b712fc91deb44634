package state

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestAStateAcceptsItsOwnSourceOnly(t *testing.T) {
	recorded := SourceIdentity{Scheme: "https", Host: "api.vambe.me", ClientIDs: []string{"a", "b"}}
	var many []string
	for i := range MaxClientIDs {
		many = append(many, fmt.Sprint(i))
	}
	for _, c := range []struct {
		name     string
		recorded SourceIdentity
		now      SourceIdentity
		ok       bool
	}{
		{"a state without a source", SourceIdentity{}, recorded, true},
		{"the same", recorded, recorded, true},
		{"the same before any contact was seen", recorded, SourceIdentity{Scheme: "https", Host: "api.vambe.me"}, true},
		{"another spelling", recorded, SourceIdentity{Scheme: "HTTPS", Host: "API.vambe.me", ClientIDs: []string{"b"}}, true},
		{"a client id more", recorded, SourceIdentity{Scheme: "https", Host: "api.vambe.me", ClientIDs: []string{"b", "c"}}, true},
		{"another host", recorded, SourceIdentity{Scheme: "https", Host: "api.example.com", ClientIDs: []string{"a"}}, false},
		{"another scheme", recorded, SourceIdentity{Scheme: "http", Host: "api.vambe.me", ClientIDs: []string{"a"}}, false},
		{"the sandbox", recorded, SourceIdentity{Scheme: "sandbox"}, false},
		{"real data after the sandbox", SourceIdentity{Scheme: "sandbox"}, recorded, false},
		{"another account of the same host", recorded, SourceIdentity{Scheme: "https", Host: "api.vambe.me", ClientIDs: []string{"c"}}, false},
		{"a list of ids that is full", SourceIdentity{Scheme: "https", Host: "h", ClientIDs: many}, SourceIdentity{Scheme: "https", Host: "h", ClientIDs: []string{"c"}}, true},
	} {
		p := New("nightly")
		p.Source = c.recorded
		err := CheckSource(p, c.now)
		if (err == nil) != c.ok {
			t.Errorf("%s: got %v", c.name, err)
		}
		if err == nil {
			continue
		}
		var foreign *ForeignSourceError
		if !errors.As(err, &foreign) || !errors.Is(err, ErrForeignSource) {
			t.Fatalf("%s: got %T", c.name, err)
		}
		if !strings.Contains(err.Error(), c.recorded.String()) || !strings.Contains(err.Error(), c.now.String()) {
			t.Errorf("%s: %v does not name both", c.name, err)
		}
		if h := hint(t, err); !strings.Contains(h, "pipeline") || !strings.Contains(h, "state.path") {
			t.Errorf("%s: no way out in %q", c.name, h)
		}
	}
}

func TestRecordSourceGathersClientIDsWithinBounds(t *testing.T) {
	p := New("nightly")
	p.RecordSource(SourceIdentity{Scheme: "HTTPS", Host: "API.vambe.me", ClientIDs: []string{"b"}})
	p.RecordSource(SourceIdentity{Scheme: "https", Host: "api.vambe.me", ClientIDs: []string{"a", "b", "a"}})
	want := SourceIdentity{Scheme: "https", Host: "api.vambe.me", ClientIDs: []string{"a", "b"}}
	if diff := cmp.Diff(want, p.Source); diff != "" {
		t.Error(diff)
	}
	for i := range 2 * MaxClientIDs {
		p.RecordSource(SourceIdentity{Scheme: "https", Host: "api.vambe.me", ClientIDs: []string{fmt.Sprint("x", i)}})
	}
	if len(p.Source.ClientIDs) != MaxClientIDs {
		t.Errorf("%d client ids", len(p.Source.ClientIDs))
	}
}

func TestFiltersFingerprintDependsOnTheSetsAlone(t *testing.T) {
	one := FiltersFingerprint(map[string][]string{"platform": {"sms", "whatsapp"}, "blocked": {"false"}, "chat_status": nil})
	same := FiltersFingerprint(map[string][]string{"blocked": {"false"}, "platform": {"whatsapp", "sms", "sms"}})
	other := FiltersFingerprint(map[string][]string{"blocked": {"false"}, "platform": {"whatsapp"}})
	if one == "" || one != same || one == other {
		t.Errorf("%s, %s, %s", one, same, other)
	}
	if FiltersFingerprint(nil) != "" || FiltersFingerprint(map[string][]string{"platform": {}}) != "" {
		t.Error("no filters have a fingerprint")
	}
}
