package schemas

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"regexp"
	"strings"
	"testing"
)

// BigQuery's rules for names of columns, which DuckDB and Parquet share or do
// without (https://cloud.google.com/bigquery/docs/schemas#column_names).
var (
	bigQueryName     = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]{0,299}$`)
	bigQueryPrefixes = []string{"_TABLE_", "_FILE_", "_PARTITION", "_ROW_TIMESTAMP", "__ROOT__", "_COLIDENTIFIER", "_CHANGE_SEQUENCE_NUMBER", "_CHANGE_TYPE", "_CHANGE_TIMESTAMP"}
)

// checkNames reports what is wrong with the names of a table.
func checkNames(t Table) error {
	owner := map[string]string{}
	for _, c := range t.Columns {
		if !bigQueryName.MatchString(c.Name) {
			return fmt.Errorf("%q (%q) is no name for BigQuery", c.Name, c.Source)
		}
		for _, p := range bigQueryPrefixes {
			if strings.HasPrefix(strings.ToUpper(c.Name), p) {
				return fmt.Errorf("%q (%q) begins with %s", c.Name, c.Source, p)
			}
		}
		lower := strings.ToLower(c.Name)
		if other, ok := owner[lower]; ok {
			return fmt.Errorf("%q and %q share %s", c.Source, other, lower)
		}
		owner[lower] = c.Source
		if reserved(lower) || c.Origin == Discovered && (lower == "created_date" || lower == "updated_date") {
			return fmt.Errorf("%q takes the name %s of a partition or of a view's column", c.Source, lower)
		}
	}
	return nil
}

// anyKey is a key of a field as no one would want it: valid UTF-8, as pages are.
func anyKey(r *rand.Rand) string {
	words := []string{
		"Lead", "lead", "LEAD", "source", "Source", "select", "from", "order", "null", "created", "date", "at", "month", "sluice", "hash", "text", "_table_", "_PARTITION",
		"__root__", "_CHANGE_TYPE", "País", "pais", "Größe", "имя", "日本", "Ⅷ", "１", "e\u0301", "é", "🙂", "\x00", "\ufffd", "", "2", "2nd", "cf", "customer", "ticket", "active_ticket_v2",
		"name", "email", "id", strings.Repeat("long ", 60+r.IntN(3)), strings.Repeat("ж", 301),
	}
	var b strings.Builder
	for i := range 1 + r.IntN(3) {
		if i > 0 {
			b.WriteString([]string{" ", "_", "-", "", "__", "."}[r.IntN(6)])
		}
		b.WriteString(words[r.IntN(len(words))])
	}
	return b.String()
}

// Whatever keys come, in whatever order, with the process ending at any point:
// names are unique, take any destination, and never change.
func TestNamesOfAnyKeysAreUniqueValidAndStable(t *testing.T) {
	const seed = 23
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	contract := parsed(t, "  - {name: lead, path: cf_customer.Lead, type: string}\n  - {name: email, type: string, policy: drop}\nrename: {cf_ticket.source: lead_source, LEAD: cf_customer_lead}\n")
	for range 20 {
		reg, err := NewRegistry(contract, nil)
		if err != nil {
			t.Fatal(err)
		}
		given := map[FieldRef]string{}
		for i := range 300 {
			key := ref(fieldScopes[r.IntN(4)], anyKey(r))
			e := reg.Settle(key, Kinds(1<<r.IntN(7)), "r")
			if before, ok := given[key]; ok && before != e.Column {
				t.Fatalf("%q was %s, is %s", key, before, e.Column)
			}
			given[key] = e.Column
			if r.IntN(4) == 0 {
				reg.Misfit(key, "r")
			}
			if r.IntN(30) == 0 {
				reg = restarted(t, contract, reg)
			}
			if i%50 == 49 {
				if err := checkNames(reg.Table()); err != nil {
					t.Fatal(err)
				}
			}
		}
		for key, name := range given {
			holder, plain := reg.taken[key.ColumnName()], name == key.ColumnName()
			if _, isGiven := reg.given[key]; !plain && !isGiven && holder == (FieldRef{}) && !strings.HasSuffix(key.ColumnName(), "_date") {
				t.Errorf("%q is %s, though nobody has %s", key, name, key.ColumnName())
			}
		}
	}
}

func restarted(t *testing.T, c *Contract, reg *Registry) *Registry {
	t.Helper()
	text, err := json.Marshal(reg.Entries())
	if err != nil {
		t.Fatal(err)
	}
	var entries []RegistryEntry
	if err := json.Unmarshal(text, &entries); err != nil {
		t.Fatal(err)
	}
	if reg, err = NewRegistry(c, entries); err != nil {
		t.Fatal(err)
	}
	return reg
}

// The name of the field that comes second depends on its key alone.
func TestOfTwoFieldsOfOneNameTheFirstHasThePlainOne(t *testing.T) {
	a, b := ref(ScopeCFCustomer, "Lead Source"), ref(ScopeCFCustomer, "lead_source")
	first, second := newRegistry(t), newRegistry(t)
	a1, b1 := first.Settle(a, KindString, "").Column, first.Settle(b, KindString, "").Column
	b2, a2 := second.Settle(b, KindString, "").Column, second.Settle(a, KindString, "").Column
	const plain = "cf_customer_lead_source"
	if a1 != plain || b2 != plain || b1 != plain+"_"+b.digest(6) || a2 != plain+"_"+a.digest(6) {
		t.Errorf("%s and %s, %s and %s", a1, b1, a2, b2)
	}
}

func TestAFieldDoesNotTakeTheNameOfAViewsColumn(t *testing.T) {
	reg := newRegistry(t)
	for _, key := range []string{"created_date", "Last Message Date", "_sluice_hash", "name__text"} {
		e := reg.Settle(ref(ScopeContact, key), KindString, "")
		switch e.Column {
		case "created_date", "last_message_date", ColHash, "name__text":
			t.Errorf("%q is %s", key, e.Column)
		}
	}
	// A table that has such a column already keeps it.
	newRegistry(t, RegistryEntry{Scope: ScopeContact, Key: "created_date", Column: "created_date", Type: String})
}

func TestStateWithNamesThatNoColumnCanHaveIsRefused(t *testing.T) {
	for _, name := range []string{"_sluice_hash", "Name", "a__text", "_PARTITIONTIME", "x y", strings.Repeat("a", 300), ColOverflow} {
		if _, err := NewRegistry(Default(), []RegistryEntry{{Scope: ScopeContact, Key: "k", Column: name, Type: String}}); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
}
