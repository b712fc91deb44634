//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	bq "google.golang.org/api/bigquery/v2"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/schemas"
)

// settled is a loader whose table is as it is wanted, without rows.
func settled(t *testing.T, s *bqtest.Server, o Options) *Loader {
	t.Helper()
	l := &Loader{remoteAt(t, s, o)}
	converge(t, l, loadtest.Table())
	return l
}

func converge(t *testing.T, l *Loader, table schemas.Table) {
	t.Helper()
	if err := l.Converge(t.Context(), load.Convergence{Lineage: testLineage, Table: table}); err != nil {
		t.Fatal(err)
	}
}

func surveyed(t *testing.T, l *Loader, table schemas.Table) []load.Resource {
	t.Helper()
	list, err := l.Survey(t.Context(), testLineage, table)
	if err != nil {
		t.Fatal(err)
	}
	return list
}

// unlike checks in what the destination differs from what is wanted.
func unlike(t *testing.T, l *Loader, what string, want ...string) {
	t.Helper()
	if d := gocmp.Diff(append([]string{}, want...), loadtest.Unlike(surveyed(t, l, loadtest.Table()))); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

// resourceOf is one of the resources.
func resourceOf(t *testing.T, l *Loader, kind, name string) load.Resource {
	t.Helper()
	for _, r := range surveyed(t, l, loadtest.Table()) {
		if r.Kind == kind && r.Name == name {
			return r
		}
	}
	t.Fatalf("no %s %s", kind, name)
	return load.Resource{}
}

// printed are attributes, but for columns, a line each.
func printed(list []load.Attribute) string {
	var b strings.Builder
	for _, a := range list {
		if strings.HasPrefix(a.Name, "column.") {
			continue
		}
		fmt.Fprintf(&b, "%s=%s", a.Name, a.Value)
		if a.Forces {
			b.WriteString(" (forces)")
		}
		b.WriteString("\n")
	}
	return b.String()
}

func have(r load.Resource, name string) string { return valueOf(r.Have, name) }

// do runs a statement, as somebody else does.
func do(t *testing.T, l *Loader, sql string) {
	t.Helper()
	if _, _, err := l.query(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

func TestASurveyRunsNoJobAndAsksForEachThingOnce(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	l := settled(t, s, Options{Stages: "crm_stages"})
	commit(t, l, loadtest.Spec{Serial: 1, Rows: many(3)})
	l = &Loader{remoteAt(t, s, Options{Stages: "crm_stages"})}
	got := counted(s, func() { surveyed(t, l, loadtest.Table()) })
	// Four tables, that of the stages and nine views; three functions.
	if d := gocmp.Diff(map[string]int{"datasets.get": 1, "tables.get": 14, "routines.get": 3, "tabledata.list": 1}, got); d != "" {
		t.Errorf("calls (-want +got):\n%s", d)
	}
}

func TestAttributesOfATableAreItsSettings(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	for _, c := range []struct {
		o    Options
		want string
	}{
		{Options{Method: Stream, Labels: map[string]string{"team": "crm"}}, `place=test-project.crm.contacts
method=stream
partitioning=month of created_at
clustering=id
partition_expiration=never
labels.team=crm
`},
		{Options{Method: CDC, MaxStaleness: 15 * time.Minute}, `place=test-project.crm.contacts
method=cdc
partitioning=none
clustering=id
partition_expiration=never
primary_key=id
max_staleness=15m
`},
	} {
		l := &Loader{remoteAt(t, s, c.o)}
		r := resourceOf(t, l, load.KindTable, "contacts")
		if d := gocmp.Diff(c.want, printed(r.Want)); d != "" || r.Have != nil {
			t.Errorf("wanted (-want +got):\n%s\nand have %v", d, r.Have)
		}
		converge(t, l, loadtest.Table())
		r = resourceOf(t, l, load.KindTable, "contacts")
		if d := gocmp.Diff(r.Want, r.Have); d != "" || r.Effects != nil {
			t.Errorf("made (-want +have):\n%s\nwith effects %q", d, r.Effects)
		}
		columns := slices.DeleteFunc(slices.Clone(r.Want), func(a load.Attribute) bool { return !strings.HasPrefix(a.Name, "column.") })
		if d := gocmp.Diff(load.ColumnAttributes(loadtest.Table()), columns); d != "" {
			t.Errorf("columns (-want +got):\n%s", d)
		}
		if err := l.Destroy(t.Context(), load.Destruction{Lineage: testLineage}); err != nil {
			t.Fatal(err)
		}
	}
}

func TestADatasetIsToBeWhereItIsUnlessAnotherLocationIsAskedFor(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	l := &Loader{remoteAt(t, s, Options{Location: "EU"})}
	if got := printed(resourceOf(t, l, load.KindDataset, "").Want); got != "place=test-project.crm\nlocation=EU\n" {
		t.Errorf("wanted is %q", got)
	}
	converge(t, l, loadtest.Table())
	l.o.Location = ""
	unlike(t, l, "without a location")
	l.o.Location = "US"
	unlike(t, l, "with another", "dataset  has location EU, not US")
	if r := resourceOf(t, l, load.KindDataset, ""); len(r.Effects) != 1 || !strings.Contains(r.Effects[0], "stays where it was made") {
		t.Errorf("effects %q", r.Effects)
	}
	var e *Error
	if err := l.Converge(t.Context(), load.Convergence{Lineage: testLineage, Table: loadtest.Table()}); !errors.As(err, &e) || !strings.Contains(e.Message, "is in EU") {
		t.Errorf("converging gives %v", err)
	}
	l = &Loader{remoteAt(t, s, Options{})}
	l.o.Dataset, l.o.CreateDataset = "none", false
	if _, err := l.Survey(t.Context(), testLineage, loadtest.Table()); !errors.As(err, &e) || !strings.Contains(e.Hint(), "create_dataset") {
		t.Errorf("a dataset that nobody is to make gives %v", err)
	}
}

func TestAnotherKindOfMethodForcesAReplacementThatTheSurveyExplains(t *testing.T) {
	t.Parallel()
	for _, c := range [][2]Method{{Stream, CDC}, {CDC, Load}} {
		s := standIn(t, bqtest.Options{})
		g := newLedger(t, s, c[0], "crm")
		if err := g.through("first", false, nil); err != nil {
			t.Fatal(err)
		}
		g.method = c[1]
		l := g.loader()
		e := wants(t, l)
		r := resourceOf(t, l, load.KindTable, "contacts")
		i := slices.IndexFunc(r.Want, func(a load.Attribute) bool { return a.Name == "method" })
		if i < 0 || r.Want[i] != (load.Attribute{Name: "method", Value: string(c[1]), Forces: true}) || have(r, "method") != string(c[0]) {
			t.Errorf("%v: wanted %s, have %s", c, printed(r.Want), printed(r.Have))
		}
		if d := gocmp.Diff(strings.Split(e.Detail, "\n"), r.Effects); d != "" {
			t.Errorf("%v: effects (-want +got):\n%s", c, d)
		}
		var replace *load.ReplaceError
		if err := l.Converge(t.Context(), load.Convergence{Lineage: testLineage, Table: loadtest.Table()}); !errors.As(err, &replace) || *replace != *e {
			t.Errorf("%v: converging gives %v", c, err)
		}
		// Begun and not ended, whatever the settings are then.
		s.Inject(bqtest.Fault{Call: "tables.insert", Times: -1, Status: http.StatusForbidden, Reason: "accessDenied"})
		if _, err := l.Replace(t.Context(), testLineage); err == nil {
			t.Fatal("the replacement did not fail")
		}
		s.Heal()
		for _, method := range c {
			g.method = method
			r = resourceOf(t, g.loader(), load.KindTable, "contacts")
			if want := fmt.Sprintf("%s, on its way to %s", c[0], c[1]); have(r, "method") != want || !strings.Contains(strings.Join(r.Effects, " "), "did not end") {
				t.Errorf("%v: have %q with effects %q", c, have(r, "method"), r.Effects)
			}
		}
		if _, err := l.Replace(t.Context(), testLineage); err != nil {
			t.Fatal(err)
		}
		unlike(t, l, fmt.Sprint(c, " replaced"))
	}
}

func TestStreamAndLoadAreNoDifference(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	g := newLedger(t, s, Stream, "crm")
	if err := g.through("first", false, nil); err != nil {
		t.Fatal(err)
	}
	g.method = Load
	unlike(t, g.loader(), "from stream to load")
}

func TestATableWithoutAPackageIsMadeAnewForAnotherMethod(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	settled(t, s, Options{Method: CDC})
	l := loaderAt(t, s, Stream)
	unlike(t, l, "made for cdc", "table contacts has method cdc, not stream", "table contacts has partitioning none, not month of created_at")
	if e := wants(t, l); e == nil || e.From != "cdc" || e.To != "stream" {
		t.Fatalf("a check gives %v", e)
	}
	if _, err := l.Replace(t.Context(), testLineage); err != nil {
		t.Fatal(err)
	}
	unlike(t, l, "made anew")
	commit(t, l, loadtest.Spec{Serial: 1, Rows: many(3)})
	// With rows that nobody vouches for it is left.
	other := loaderAt(t, standIn(t, bqtest.Options{}), CDC)
	converge(t, other, loadtest.Table())
	other.o.Method = Stream
	names := []string{}
	for name := range needed() {
		if name != schemas.ColDeletedAt {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	values := map[schemas.Type]string{schemas.String: "'x'", schemas.Int64: "1", schemas.Timestamp: "CURRENT_TIMESTAMP()"}
	var list []string
	for _, name := range names {
		list = append(list, values[needed()[name]])
	}
	do(t, other, "INSERT INTO crm.contacts ("+strings.Join(names, ", ")+") VALUES ("+strings.Join(list, ", ")+")")
	if _, err := other.Replace(t.Context(), testLineage); err == nil || !strings.Contains(err.Error(), "has rows") {
		t.Errorf("replacing a table with rows and no package gives %v", err)
	}
	if rows := read(t, other.remote, "SELECT id FROM crm.contacts"); len(rows) != 1 {
		t.Errorf("the table has %v", rows)
	}
}

func TestWhatSomebodyHasDoneToATableIsSeenAndExplained(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ sql, name, want, have, effect string }{
		{"ALTER TABLE crm.contacts SET OPTIONS (partition_expiration_days = 90)", "partition_expiration", "never", "90 days", "Rows of the table would expire"},
		{"ALTER TABLE crm.contacts SET OPTIONS (expiration_timestamp = TIMESTAMP '2999-01-01')", "expiration", "never", "2999-01-01T00:00:00Z", "Rows of the table would expire"},
		{"ALTER TABLE crm.contacts_history SET OPTIONS (partition_expiration_days = 1)", "history.partition_expiration", "never", "1 day", "contacts_history). Sluice keeps"},
		{"ALTER TABLE crm.contacts SET OPTIONS (require_partition_filter = true)", "require_partition_filter", "false", "true", "requires a filter"},
	} {
		l := settled(t, standIn(t, bqtest.Options{}), Options{})
		do(t, l, c.sql)
		unlike(t, l, c.sql, fmt.Sprintf("table contacts has %s %s, not %s", c.name, c.have, c.want))
		r := resourceOf(t, l, load.KindTable, "contacts")
		if len(r.Effects) != 1 || !strings.Contains(r.Effects[0], c.effect) {
			t.Errorf("%s: effects %q", c.sql, r.Effects)
		}
		var e *Error
		if err := l.Converge(t.Context(), load.Convergence{Lineage: testLineage, Table: loadtest.Table()}); !errors.As(err, &e) {
			t.Errorf("%s: converging gives %v", c.sql, err)
		}
	}
}

func TestDefaultExpirationsOfADatasetAreSeenAndOverridden(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	l := &Loader{remoteAt(t, s, Options{Stages: "crm_stages"})}
	d := &bq.Dataset{DatasetReference: &bq.DatasetReference{DatasetId: "crm"}, DefaultTableExpirationMs: 7 * day.Milliseconds(), DefaultPartitionExpirationMs: 90 * time.Minute.Milliseconds()}
	if _, err := l.rest.Datasets.Insert(s.Project(), d).Context(t.Context()).Do(); err != nil {
		t.Fatal(err)
	}
	converge(t, l, loadtest.Table())
	unlike(t, l, "defaults of the dataset")
	r := resourceOf(t, l, load.KindDataset, "")
	if have(r, "default_table_expiration") != "7 days" || have(r, "default_partition_expiration") != "1h30m" {
		t.Errorf("have %s", printed(r.Have))
	}
	if m := resource(t, l.remote, "crm_stages"); expires(m) {
		t.Errorf("stages expire: %d", m.ExpirationTime)
	}
}

func TestLabelsOfOthersStayAndOursFollowTheSettings(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	l := settled(t, s, Options{Labels: map[string]string{"team": "crm", "old": "1"}, Stages: "crm_stages"})
	if err := l.label(t.Context(), "contacts", "theirs", "x"); err != nil {
		t.Fatal(err)
	}
	l.o.Labels = map[string]string{"team": "sales"}
	r := resourceOf(t, l, load.KindTable, "contacts")
	if have(r, "labels.theirs") != "x" || have(r, "labels.team") != "crm" || valueOf(r.Want, "labels.team") != "sales" || valueOf(r.Want, "labels.theirs") != "" {
		t.Errorf("want %s, have %s", printed(r.Want), printed(r.Have))
	}
	commit(t, l, loadtest.Spec{Serial: 1, Rows: many(3)})
	if m := resource(t, l.remote, "contacts"); m.Labels["team"] != "crm" {
		t.Errorf("after a commit the labels are %v", m.Labels)
	}
	converge(t, l, loadtest.Table())
	unlike(t, l, "labelled anew")
	for _, name := range []string{"contacts", "contacts_history", "contacts__staging", "contacts__commits", "crm_stages", "contacts_all"} {
		if m := resource(t, l.remote, name); m.Labels["team"] != "sales" {
			t.Errorf("%s has labels %v", name, m.Labels)
		}
	}
	if m := resource(t, l.remote, "contacts"); m.Labels["theirs"] != "x" || m.Labels["old"] != "1" || m.Labels[lineageLabel] == "" {
		t.Errorf("labels %v", m.Labels)
	}
}

func TestStalenessFollowsTheSettingsAlsoBackToNone(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	l := settled(t, s, Options{Method: CDC, MaxStaleness: time.Hour})
	for _, c := range []struct {
		d    time.Duration
		want string
	}{{90 * time.Second, "table contacts has max_staleness 1h, not 1m30s"}, {0, "table contacts has max_staleness 1m30s, not 0s"}} {
		l.o.MaxStaleness = c.d
		unlike(t, l, "another staleness", c.want)
		converge(t, l, loadtest.Table())
		unlike(t, l, "converged")
	}
	// A commit sets it too: it reckons with what the settings say.
	l.o.MaxStaleness = time.Hour
	commit(t, l, loadtest.Spec{Serial: 1, Rows: many(3)})
	l.o.MaxStaleness = 0
	commit(t, l, loadtest.Spec{Serial: 2, Rows: many(3)})
	unlike(t, l, "committed")
}

func TestWhatHistoryLacksIsSeenWithTheTableAndMended(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	l := settled(t, s, Options{})
	do(t, l, "DROP TABLE crm.contacts_history")
	unlike(t, l, "no history", "table contacts lacks history.place")
	converge(t, l, loadtest.Table())
	unlike(t, l, "history")
	table := loadtest.Table(loadtest.Extra("cf_customer_x", schemas.Int64))
	do(t, l, "ALTER TABLE crm.contacts ADD COLUMN cf_customer_x INT64")
	got := loadtest.Unlike(surveyed(t, l, table))
	if len(got) == 0 || got[0] != "table contacts lacks history.column.cf_customer_x" {
		t.Errorf("a history without a column: %q", got)
	}
	converge(t, l, table)
	if got := loadtest.Unlike(surveyed(t, l, table)); len(got) != 0 {
		t.Errorf("converged: %q", got)
	}
}

func TestADefinitionIsADigestOfTheSQLThatStandsThere(t *testing.T) {
	t.Parallel()
	l := settled(t, standIn(t, bqtest.Options{}), Options{})
	sum := sha256.Sum256([]byte(resource(t, l.remote, "contacts_active").View.Query))
	if got := have(resourceOf(t, l, load.KindView, "contacts_active"), "definition"); got != hex.EncodeToString(sum[:])[:12] {
		t.Errorf("definition %q", got)
	}
	do(t, l, "CREATE OR REPLACE TABLE FUNCTION crm.contacts_as_of(t TIMESTAMP) OPTIONS (description='"+viewMark+"') AS SELECT id FROM crm.contacts")
	got := loadtest.Unlike(surveyed(t, l, loadtest.Table()))
	if len(got) != 1 || !strings.HasPrefix(got[0], "view contacts_as_of has definition") {
		t.Errorf("a changed function: %q", got)
	}
	converge(t, l, loadtest.Table())
	unlike(t, l, "converged")
}

func TestEveryViewIsOneThatTheSurveyLooksFor(t *testing.T) {
	t.Parallel()
	l := loaderAt(t, standIn(t, bqtest.Options{}), Stream)
	for i, v := range viewsSQL(l.viewOptions(loadtest.Table(), "crm_stages")) {
		if s := viewSuffixes()[i]; v.Name != "contacts"+s.suffix || v.Function != s.function {
			t.Errorf("view %d is %s, %+v is looked for", i, v.Name, s)
		}
	}
}

func TestViewsThatNothingWantsAreRemovedAndThoseOfOthersAreNot(t *testing.T) {
	t.Parallel()
	l := loaderAt(t, standIn(t, bqtest.Options{}), Stream)
	var few schemas.Table // without what some views read
	for _, c := range loadtest.Table().Columns {
		if c.Origin == schemas.SystemDefined || slices.Contains([]string{"id", "created_at", "updated_at"}, c.Name) {
			few.Columns = append(few.Columns, c)
		}
	}
	converge(t, l, few)
	mark := " OPTIONS (description='Earlier. " + viewMark + "')"
	do(t, l, "CREATE VIEW crm.contacts_customers"+mark+" AS SELECT id FROM crm.contacts")
	do(t, l, "CREATE TABLE FUNCTION crm.contacts_reengagement(n INT64)"+mark+" AS SELECT id FROM crm.contacts_customers")
	do(t, l, "CREATE VIEW crm.contacts_unattended OPTIONS (description='mine') AS SELECT id FROM crm.contacts")
	if d := gocmp.Diff([]string{"view contacts_customers is not wanted", "view contacts_reengagement is not wanted"}, loadtest.Unlike(surveyed(t, l, few))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	only := []load.ResourceName{{Kind: load.KindView, Name: "contacts_reengagement"}}
	if err := l.Converge(t.Context(), load.Convergence{Lineage: testLineage, Table: few, Only: only}); err != nil {
		t.Fatal(err)
	}
	if d := gocmp.Diff([]string{"view contacts_customers is not wanted"}, loadtest.Unlike(surveyed(t, l, few))); d != "" {
		t.Errorf("(-want +got):\n%s", d)
	}
	converge(t, l, few)
	if got := loadtest.Unlike(surveyed(t, l, few)); len(got) != 0 {
		t.Errorf("left: %q", got)
	}
	if m := resource(t, l.remote, "contacts_unattended"); m.Description != "mine" {
		t.Errorf("a view of somebody else's: %+v", m)
	}
}

func TestATableOfStagesThatSomebodyElseMadeIsNamedAndRefused(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	l := settled(t, s, Options{})
	do(t, l, "CREATE TABLE crm.crm_stages (stage_id STRING)")
	l.o.Stages = "crm_stages"
	if r := resourceOf(t, l, load.KindTable, "crm_stages"); len(r.Effects) != 1 || !strings.Contains(r.Effects[0], "no table of stages that sluice wrote") {
		t.Errorf("effects %q", r.Effects)
	}
	if err := l.Converge(t.Context(), load.Convergence{Lineage: testLineage, Table: loadtest.Table()}); !errors.Is(err, load.ErrForeign) {
		t.Errorf("converging gives %v", err)
	}
	if err := l.Destroy(t.Context(), load.Destruction{Lineage: testLineage, Stages: true}); err != nil {
		t.Fatal(err)
	}
	resource(t, l.remote, "crm_stages")
}
