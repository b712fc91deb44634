package schemas

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTheRegistryRemembersWhenAndHowAFieldWasSeen(t *testing.T) {
	reg := newRegistry(t)
	city := ref(ScopeCFCustomer, "city")
	reg.Settle(city, KindString, "r1")
	handedOut := reg.Entries()
	at := time.Date(2026, 5, 1, 3, 0, 0, 0, time.FixedZone("", 3600))
	reg.Saw([]Sighting{
		{Scope: ScopeCFCustomer, Key: "city", Values: map[string]int64{"string": 3, KindEmpty: 1}},
		{Scope: ScopeCFCustomer, Key: "unsettled", Values: map[string]int64{"int": 3}},
	}, "r1", at)
	first := reg.Entries()
	reg.Saw([]Sighting{{Scope: ScopeCFCustomer, Key: "city", Values: map[string]int64{"int": 2, "string": 1}}}, "r2", at.Add(time.Hour))
	reg.Saw([]Sighting{{Scope: ScopeCFCustomer, Key: "city", Values: map[string]int64{"int": 1}}}, "r0", at.Add(-time.Hour)) // of a part that is told of late

	want := []RegistryEntry{{
		Scope: ScopeCFCustomer, Key: "city", Column: "cf_customer_city", Type: String, FirstRun: "r1",
		FirstSeen: at.Add(-time.Hour).UTC(), LastSeen: at.Add(time.Hour).UTC(), LastRun: "r2", Observed: map[string]int64{"string": 4, "empty": 1, "int": 3},
	}}
	if diff := cmp.Diff(want, reg.Entries()); diff != "" {
		t.Errorf("entries (-want +got):\n%s", diff)
	}
	if handedOut[0].Observed != nil || first[0].Observed["string"] != 3 {
		t.Error("entries that had been handed out changed")
	}
	if !reg.Entries()[0].Same(handedOut[0]) {
		t.Error("to be seen again makes another column of a field")
	}
	if again := newRegistry(t, reg.Entries()...); cmp.Diff(want, again.Entries()) != "" {
		t.Error("it is forgotten over a restart")
	}
}

func TestStateOfBeforeSightingsReadsAndStaysAsItWas(t *testing.T) {
	const old = `{"scope":"cf_customer","key":"a","column":"cf_customer_a","type":"int64","first_run":"r1"}`
	var e RegistryEntry
	if err := json.Unmarshal([]byte(old), &e); err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(newRegistry(t, e).Entries()[0])
	if err != nil || string(text) != old {
		t.Errorf("it is %s now, %v", text, err)
	}
}

func TestKindsHaveNames(t *testing.T) {
	for kind, want := range map[Kinds]string{KindString: "string", KindLongInt: "long_int", KindNested: "nested", 0: "", KindInt | KindBool: ""} {
		if got := kind.Name(); got != want {
			t.Errorf("kind %b is named %q, want %q", kind, got, want)
		}
	}
}

func TestAFreezeNamesContactFieldTypesAndTheLineToChange(t *testing.T) {
	for _, tc := range []struct {
		err  FreezeError
		want []string
	}{
		{
			FreezeError{New: true, Got: Int64, Kind: KindInt},
			[]string{"contact c1", "cf_customer:Lead Source", "new", "a whole number", "crm.yaml:12", "column cf_customer_lead_source (int64)", "discard", "exclude"},
		},
		{
			FreezeError{Have: Int64, Got: String, Kind: KindString},
			[]string{"contact c1", "cf_customer:Lead Source", "is text (string)", "column cf_customer_lead_source is int64", "crm.yaml:12", "cf_customer_lead_source__text", "discard"},
		},
		{
			FreezeError{Have: String, Got: String, Kind: KindString, Twice: true},
			[]string{"contact c1", "different values", "holds one", "crm.yaml:12"},
		},
	} {
		tc.err.Contract, tc.err.Line, tc.err.Contact = "crm.yaml", 12, "c1"
		tc.err.Field, tc.err.Column = "cf_customer:Lead Source", "cf_customer_lead_source"
		text := tc.err.Error() + "\n" + tc.err.Hint()
		for _, w := range tc.want {
			if !strings.Contains(text, w) {
				t.Errorf("%q is missing in %s", w, text)
			}
		}
	}
}
