//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"testing"

	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/loadtest"
)

func TestAViewWhoseNameWasTakenIsMadeOnceItIsFree(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	l := loaderAt(t, s, Stream)
	serial := int64(0)
	put := func() {
		serial++
		commit(t, l, loadtest.Spec{Serial: serial, Rows: []loadtest.Row{loadtest.Contact("a", loadtest.Epoch, loadtest.Epoch)}})
	}
	etag := func(name string) string { return resource(t, l.remote, name).Etag }
	do := func(sql string) {
		if _, _, err := l.query(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	prepare(t, l.remote, loadtest.Build(t, loadtest.Spec{Serial: 1})) // tables, without views yet
	do("CREATE TABLE crm.contacts_active (theirs INT64)")
	do("CREATE TABLE FUNCTION crm.contacts_as_of(n INT64) AS SELECT n AS theirs")
	put()
	views := map[string]string{}
	for range 2 {
		if got := resource(t, l.remote, "contacts_active"); got.Type != "TABLE" {
			t.Fatalf("a table of that name became a %s", got.Type)
		}
		if rows := read(t, l.remote, "SELECT theirs FROM crm.contacts_as_of(7)"); len(rows) != 1 || rows[0]["theirs"] != int64(7) {
			t.Fatalf("a function of that name gives %v", rows)
		}
		if got, err := l.table(t.Context(), "contacts_customers"); got != nil || err != nil {
			t.Fatalf("a view is there that reads one that is not: %v, error %v", got, err)
		}
		for _, name := range []string{"contacts_all", "contacts_runs", "contacts_activity_daily"} {
			now := etag(name)
			if was := views[name]; was != "" && was != now {
				t.Errorf("%s was made again, though nothing has changed", name)
			}
			views[name] = now
		}
		put()
	}

	do("DROP TABLE crm.contacts_active")
	put()
	if got := resource(t, l.remote, "contacts_active"); !ownView(got.Description) {
		t.Errorf("once its name is free the view is %+v", got)
	}
	if rows := read(t, l.remote, "SELECT contacts FROM crm.contacts_customers"); len(rows) != 0 {
		t.Errorf("customers without an id: %v", rows)
	}
	do("DROP TABLE FUNCTION crm.contacts_as_of")
	put()
	if rows := read(t, l.remote, "SELECT id FROM crm.contacts_as_of(CURRENT_TIMESTAMP())"); len(rows) != 1 {
		t.Errorf("once its name is free the function gives %v", rows)
	}

	// With all of them there, their names are not looked at any more.
	put()
	before, was := s.Calls(), etag("contacts_active")
	put()
	if after := s.Calls(); after["routines.get"] != before["routines.get"] || etag("contacts_active") != was {
		t.Error("views were looked at or made again, though nothing has changed")
	}
}
