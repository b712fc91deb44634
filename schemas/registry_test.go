package schemas

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func ref(scope Scope, key string) FieldRef {
	return FieldRef{Scope: scope, Key: key}
}

func TestColumnNamesAreSnakeCaseASCII(t *testing.T) {
	for key, want := range map[string]string{
		"Lead Source": "cf_customer_lead_source", "leadSource": "cf_customer_lead_source", "lead-source": "cf_customer_lead_source",
		"  lead__source!! ": "cf_customer_lead_source", "HTTPServer": "cf_customer_http_server", "userID": "cf_customer_user_id",
		"País de origen": "cf_customer_pais_de_origen", "ÑANDÚ": "cf_customer_nandu", "Größe": "cf_customer_grosse", "ﬁne": "cf_customer_fine",
		"2nd phone": "cf_customer_2nd_phone", "A1b2C3": "cf_customer_a1b2c3", "_sluice_hash": "cf_customer_sluice_hash", "a\x00b": "cf_customer_a_b",
	} {
		if got := ref(ScopeCFCustomer, key).ColumnName(); got != want {
			t.Errorf("%q is named %s, want %s", key, got, want)
		}
	}
	for scope, want := range map[Scope]string{
		ScopeContact: "field_2nd", ScopeTicket: "active_ticket_v2_2nd", ScopeCFTicket: "cf_ticket_2nd",
	} {
		if got := ref(scope, "2nd").ColumnName(); got != want {
			t.Errorf("2nd in %s is named %s, want %s", scope, got, want)
		}
	}
}

// Names are in tables and state for ever: these may not change.
func TestNamesThatNeedAHashStayTheSame(t *testing.T) {
	for _, tc := range []struct{ key, want string }{
		{"", "field_52f0270e"},
		{"Имя", "field_0a63875c"},
		{"created_month", "created_month_d7cf9217"},
	} {
		if got := ref(ScopeContact, tc.key).ColumnName(); got != tc.want {
			t.Errorf("%q is named %s, want %s", tc.key, got, tc.want)
		}
	}
	if a, b := ref(ScopeContact, "Имя").ColumnName(), ref(ScopeContact, "Имена").ColumnName(); a == b {
		t.Error("two keys of another script share a name")
	}
	long := ref(ScopeContact, strings.Repeat("long ", 100)).ColumnName()
	if len(long) > 280 || long == ref(ScopeContact, strings.Repeat("long ", 101)).ColumnName() {
		t.Errorf("long keys are named %s", long)
	}
}

var safe = regexp.MustCompile(`^[a-z][a-z0-9]*(_[a-z0-9]+)*$`)

func FuzzColumnName(f *testing.F) {
	for _, s := range []string{"", "a", "Ⅷ", "１", "é", "e\u0301", "__", "日本", "\xff", strings.Repeat("ab_", 200)} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, key string) {
		for _, scope := range []Scope{ScopeContact, ScopeTicket, ScopeCFCustomer, ScopeCFTicket} {
			if got := ref(scope, key).ColumnName(); !safe.MatchString(got) || len(got) > 290 {
				t.Errorf("%q in %s is named %q", key, scope, got)
			}
		}
	})
}

func TestTypesAreInferredSoThatNothingIsLost(t *testing.T) {
	const (
		s, b, i, l, f, n, j = KindString, KindBool, KindInt, KindLongInt, KindFloat, KindBigNumber, KindNested
	)
	for kinds, want := range map[Kinds]Type{
		s: String, b: Bool, i: Int64, l: Int64, i | l: Int64, f: Float64, i | f: Float64,
		l | f: String, n: String, i | n: String, i | s: String, b | i: String, j: JSON, j | s | i: JSON, 0: String,
	} {
		if got := Infer(kinds); got != want {
			t.Errorf("kinds %b give %s, want %s", kinds, got, want)
		}
		for k := s; k <= j; k <<= 1 {
			if kinds&k != 0 && !want.Fits(k) {
				t.Errorf("type %s, inferred from %b, does not hold %b", want, kinds, k)
			}
		}
	}
}

func newRegistry(t *testing.T, entries ...RegistryEntry) *Registry {
	t.Helper()
	r, err := NewRegistry(Default(), entries)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestANameOnceGivenStaysThroughCollisionsAndRestarts(t *testing.T) {
	const seed = 11
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	keys := []string{"Lead Source", "lead_source", "lead-source", "leadSource", "LEAD SOURCE", "name", "Name", "NAME", "id", "created_month", "cf_customer_a", "a", "", "x", "X"}
	given := map[FieldRef]RegistryEntry{}
	reg := newRegistry(t)
	for round := range 200 {
		key := ref([]Scope{ScopeContact, ScopeTicket, ScopeCFCustomer, ScopeCFTicket}[r.IntN(4)], keys[r.IntN(len(keys))])
		e := reg.Settle(key, Kinds(1<<r.IntN(7)), fmt.Sprint("run", round))
		if before, ok := given[key]; ok && !before.Same(e) {
			t.Fatalf("%s was %+v, is %+v", key, before, e)
		}
		given[key] = e
		if r.IntN(10) == 0 { // the process ends, the state stays
			text, err := json.Marshal(reg.Entries())
			if err != nil {
				t.Fatal(err)
			}
			var entries []RegistryEntry
			if err := json.Unmarshal(text, &entries); err != nil {
				t.Fatal(err)
			}
			reg = newRegistry(t, entries...)
		}
	}
	owner := map[string]FieldRef{}
	for key, e := range given {
		if other, ok := owner[e.Column]; ok {
			t.Errorf("%s and %s share column %s", key, other, e.Column)
		}
		if owner[e.Column] = key; !safe.MatchString(e.Column) {
			t.Errorf("%s is named %s", key, e.Column)
		}
	}
	if e := reg.Settle(ref(ScopeContact, "name"), KindInt, ""); e.Column != "name" || e.Type != String {
		t.Errorf("a declared field is settled as %+v", e)
	}
}

func TestTheTableListsContractThenDiscoveredThenSystemColumns(t *testing.T) {
	reg := newRegistry(t)
	reg.Settle(ref(ScopeContact, "zeta"), KindInt, "r1")
	reg.Settle(ref(ScopeCFTicket, "Alpha"), KindString, "r1")
	if got := reg.Misfit(ref(ScopeContact, "zeta"), "r2") + reg.Misfit(ref(ScopeContact, "name"), "r2") + reg.Misfit(ref(ScopeContact, "unknown"), "r2"); got != "zeta__textname__text" {
		t.Errorf("misfit columns %s", got)
	}
	var got []string
	for _, c := range reg.Table().Columns[16:] {
		got = append(got, c.Name)
	}
	want := []string{
		"cf_ticket_alpha", "name__text", "zeta", "zeta__text", ColRunID, ColExtractedAt, ColPackage,
		ColRow, ColChange, ColDeletedAt, ColHash,
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("columns (-want +got):\n%s", diff)
	}
	if again := newRegistry(t, reg.Entries()...); cmp.Diff(again.Table(), reg.Table()) != "" {
		t.Error("the table differs after a restart")
	}
	if n, m := len(reg.StagedTable().Columns), len(reg.Table().Columns); n != m-3 {
		t.Errorf("%d staged columns of %d", n, m)
	}
}

func TestEntriesThatContradictTheContractOrEachOtherAreRefused(t *testing.T) {
	ok := RegistryEntry{Scope: ScopeContact, Key: "x", Column: "x", Type: Int64}
	for name, tc := range map[string]struct {
		change func(*RegistryEntry)
		want   string
	}{
		"another type than declared": {func(e *RegistryEntry) { e.Key, e.Column = "name", "name" }, "is declared as"},
		"a declared column's name":   {func(e *RegistryEntry) { e.Key, e.Column = "y", "name" }, ": field contact:name is to be column name, and that is the column of field contact:y already"},
		"the same name":              {func(e *RegistryEntry) { e.Key = "y" }, "belongs to field"},
		"the same field":             {func(*RegistryEntry) {}, "two entries"},
		"no type":                    {func(e *RegistryEntry) { e.Key, e.Type = "z", "text" }, "not all valid"},
		"no scope":                   {func(e *RegistryEntry) { e.Scope = "deal" }, "not all valid"},
	} {
		bad := ok
		tc.change(&bad)
		if _, err := NewRegistry(Default(), []RegistryEntry{ok, bad}); err == nil || !strings.Contains(err.Error(), tc.want) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestConcurrentChunksAgreeOnNames(t *testing.T) {
	reg := newRegistry(t)
	var wg sync.WaitGroup
	got := make([][]RegistryEntry, 4)
	for w := range got {
		wg.Add(1)
		go func() {
			defer wg.Done()
			for i := range 200 {
				got[w] = append(got[w], reg.Settle(ref(ScopeCFCustomer, fmt.Sprintf("key %d", i)), KindString, "r"))
				reg.Table()
			}
		}()
	}
	wg.Wait()
	for _, g := range got[1:] {
		if diff := cmp.Diff(got[0], g); diff != "" {
			t.Fatal(diff)
		}
	}
}
