//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	bq "google.golang.org/api/bigquery/v2"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/schemas"
)

func TestTablesAreMadeAsDesignedAndLeftAloneThen(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	r := remoteAt(t, s, Options{Method: CDC, MaxStaleness: 90 * time.Second, Labels: map[string]string{"team": "crm"}})
	want := loadtest.Table(edgeColumns()...)
	got, err := ensureFor(t.Context(), r, want)
	if err != nil {
		t.Fatal(err)
	}
	if !slices.EqualFunc(got.Columns, want.Columns, func(a, b schemas.Column) bool { return a.Name == b.Name && a.Type == b.Type }) {
		t.Errorf("columns %+v", got.Columns)
	}
	current := resource(t, r, "contacts")
	if p := current.TimePartitioning; p != nil { // rows of any created_at can be streamed
		t.Errorf("partitioning %+v", p)
	}
	if c := current.Clustering; c == nil || !slices.Equal(c.Fields, []string{"id"}) {
		t.Errorf("clustering %+v", c)
	}
	if c := current.TableConstraints; c == nil || c.PrimaryKey == nil || !slices.Equal(c.PrimaryKey.Columns, []string{"id"}) {
		t.Errorf("constraints %+v", c)
	}
	if current.MaxStaleness != "0-0 0 0:1:30" || current.Labels["team"] != "crm" || current.Description == "" {
		t.Errorf("table %+v", current)
	}
	for _, c := range want.Columns {
		f := fieldNamed(current.Schema.Fields, c.Name)
		if f == nil || typeOf(f.Type) != c.Type || f.Description != c.Description || (f.Mode == "REQUIRED") != (field(c).Mode == "REQUIRED") {
			t.Errorf("column %s is %+v", c.Name, f)
		}
	}
	staging := resource(t, r, "contacts__staging")
	if p := staging.TimePartitioning; p == nil || p.Type != "DAY" || p.Field != "_sluice_staged_at" || p.ExpirationMs != 7*24*3600*1000 {
		t.Errorf("staging partitioned by %+v", p)
	}
	if fieldNamed(staging.Schema.Fields, schemas.ColRunID) != nil || fieldNamed(staging.Schema.Fields, "an_int") == nil {
		t.Error("staging table has other columns")
	}
	if h := resource(t, r, "contacts_history"); h.TimePartitioning.Field != "_sluice_extracted_at" || h.TimePartitioning.ExpirationMs != 0 {
		t.Errorf("history partitioned by %+v", h.TimePartitioning)
	}
	if p := resource(t, r, "contacts__commits").TimePartitioning; p == nil || p.Type != "DAY" || p.Field != "committed_at" || p.ExpirationMs != 0 {
		t.Errorf("packages partitioned by %+v", p)
	}
	if c := resource(t, r, "contacts__commits"); c.Labels[lineageLabel] != lineageValue(testLineage) || !strings.Contains(c.Description, testLineage) {
		t.Errorf("commits table %+v", c)
	}
	if _, err := ensureFor(t.Context(), r, want); err != nil {
		t.Fatal(err)
	}
	if n := s.Calls()["tables.patch"]; n != 0 {
		t.Errorf("%d tables patched the second time", n)
	}
}

func TestATableThatStatementsChangeIsPartitionedByMonth(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	for _, method := range []Method{Stream, Load} {
		r := remoteAt(t, s, Options{Method: method})
		if _, err := ensureFor(t.Context(), r, loadtest.Table()); err != nil {
			t.Fatal(err)
		}
		if p := resource(t, r, "contacts").TimePartitioning; p == nil || p.Type != "MONTH" || p.Field != "created_at" || p.ExpirationMs != 0 {
			t.Errorf("partitioning %+v", p)
		}
	}
}

// repartition makes a table as an earlier version made it.
func repartition(t *testing.T, r *remote, name string, by *bq.TimePartitioning) {
	t.Helper()
	made := resource(t, r, name)
	if err := r.rest.Tables.Delete(r.o.Project, r.o.Dataset, name).Context(t.Context()).Do(); err != nil {
		t.Fatal(err)
	}
	again := &bq.Table{
		TableReference: made.TableReference, Schema: made.Schema, Labels: made.Labels, Description: made.Description,
		Clustering: made.Clustering, TableConstraints: made.TableConstraints, TimePartitioning: by,
	}
	if _, err := r.rest.Tables.Insert(r.o.Project, r.o.Dataset, again).Context(t.Context()).Do(); err != nil {
		t.Fatal(err)
	}
}

func TestOnlyTheWaysInWhichATableWasOnceMadeAreTaken(t *testing.T) {
	t.Parallel()
	byMonth := &bq.TimePartitioning{Type: "MONTH", Field: "created_at"}
	for _, c := range []struct {
		method Method
		table  string
		by     *bq.TimePartitioning
		wrong  string
	}{
		{CDC, "contacts", byMonth, ""},
		{CDC, "contacts__commits", nil, ""},
		{Stream, "contacts__commits", nil, ""},
		{CDC, "contacts", &bq.TimePartitioning{Type: "DAY", Field: "created_at"}, "the table is partitioned"},
		{Stream, "contacts", nil, "not partitioned by month of created_at"},
		{CDC, "contacts_history", nil, "not partitioned by day of _sluice_extracted_at"},
		{Stream, "contacts__commits", &bq.TimePartitioning{Type: "MONTH", Field: "committed_at"}, "not partitioned by day of committed_at"},
	} {
		r := remoteAt(t, standIn(t, bqtest.Options{}), Options{Method: c.method})
		if _, err := ensureFor(t.Context(), r, loadtest.Table()); err != nil {
			t.Fatal(err)
		}
		repartition(t, r, c.table, c.by)
		_, err := ensureFor(t.Context(), r, loadtest.Table())
		if (err == nil) != (c.wrong == "") || err != nil && !strings.Contains(err.Error(), c.wrong) {
			t.Errorf("method %s, %s by %+v: error %v, want %q", c.method, c.table, c.by, err, c.wrong)
		}
	}
}

func TestColumnsAreAddedToAllTablesAndNoneDropped(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	r := remoteAt(t, s, Options{})
	if _, err := ensureFor(t.Context(), r, loadtest.Table(loadtest.Extra("b_first", schemas.String))); err != nil {
		t.Fatal(err)
	}
	got, err := ensureFor(t.Context(), r, loadtest.Table(loadtest.Extra("a_second", schemas.JSON)))
	if err != nil {
		t.Fatal(err)
	}
	at := got.Index("b_first")
	if at < 0 || got.Index("a_second") < 0 || got.Columns[at+1].Origin != schemas.SystemDefined || got.Columns[at].Type != schemas.String {
		t.Errorf("columns %+v", got.Columns)
	}
	for _, name := range []string{"contacts", "contacts_history", "contacts__staging"} {
		for _, column := range []string{"b_first", "a_second"} {
			if f := fieldNamed(resource(t, r, name).Schema.Fields, column); f == nil || f.Mode == "REQUIRED" {
				t.Errorf("%s has column %s as %+v", name, column, f)
			}
		}
	}
	_, err = ensureFor(t.Context(), r, loadtest.Table(loadtest.Extra("a_second", schemas.Int64)))
	var e *Error
	if !errors.As(err, &e) || !strings.Contains(e.Message, "a_second is JSON in the table and INT64") {
		t.Errorf("error %v", err)
	}
}

func TestColumnsOfOthersAreReportedAndLeftAlone(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	r := remoteAt(t, s, Options{})
	if _, err := ensureFor(t.Context(), r, loadtest.Table()); err != nil {
		t.Fatal(err)
	}
	fields := append(resource(t, r, "contacts").Schema.Fields, &bq.TableFieldSchema{Name: "theirs", Type: "STRING", Mode: "NULLABLE"})
	if _, err := r.rest.Tables.Patch(r.o.Project, "crm", "contacts", &bq.Table{Schema: &bq.TableSchema{Fields: fields}}).Context(t.Context()).Do(); err != nil {
		t.Fatal(err)
	}
	got, err := ensureFor(t.Context(), r, loadtest.Table(loadtest.Extra("ours", schemas.String)))
	if err != nil {
		t.Fatal(err)
	}
	lay, err := r.look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if names := lay.foreignColumns(); !slices.Equal(names, []string{"theirs"}) || got.Index("theirs") >= 0 {
		t.Errorf("foreign columns %v, table %+v", names, got.Columns)
	}
	if fieldNamed(resource(t, r, "contacts").Schema.Fields, "theirs") == nil {
		t.Error("the column is gone")
	}
}

func TestTablesOfOthersAreRefused(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	r := remoteAt(t, s, Options{})
	if _, err := ensureFor(t.Context(), r, loadtest.Table()); err != nil {
		t.Fatal(err)
	}
	lay, err := r.look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.ensure(t.Context(), lay, loadtest.Table(), "lineage-b", "nightly"); !errors.Is(err, load.ErrForeign) {
		t.Errorf("another lineage's table: error %v", err)
	}
	if err := r.rest.Tables.Delete(r.o.Project, "crm", "contacts__commits").Context(t.Context()).Do(); err != nil {
		t.Fatal(err)
	}
	if _, err := ensureFor(t.Context(), r, loadtest.Table()); !errors.Is(err, load.ErrForeign) {
		t.Errorf("tables that nobody vouches for: error %v", err)
	}
}

func TestADatasetIsMadeOnlyWhereThatIsWanted(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	r := remoteAt(t, s, Options{Location: "EU"})
	r.o.CreateDataset = false
	var e *Error
	if _, err := ensureFor(t.Context(), r, loadtest.Table()); !errors.As(err, &e) || !strings.Contains(e.Hint(), "create_dataset") {
		t.Errorf("error %v", err)
	}
	r.o.CreateDataset = true
	if _, err := ensureFor(t.Context(), r, loadtest.Table()); err != nil {
		t.Fatal(err)
	}
	if d, err := r.dataset(t.Context()); err != nil || d.Location != "EU" {
		t.Errorf("dataset %+v, error %v", d, err)
	}
	r.o.Location = "US"
	if _, err := ensureFor(t.Context(), r, loadtest.Table()); !errors.As(err, &e) || !strings.Contains(e.Message, "is in EU") {
		t.Errorf("error %v", err)
	}
}

func TestADefaultExpirationOfTheDatasetIsOverridden(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	r := remoteAt(t, s, Options{})
	d := &bq.Dataset{
		DatasetReference: &bq.DatasetReference{ProjectId: r.o.Project, DatasetId: "crm"}, Location: "US",
		DefaultPartitionExpirationMs: 30 * 24 * 3600 * 1000, DefaultTableExpirationMs: 60 * 24 * 3600 * 1000,
	}
	if _, err := r.rest.Datasets.Insert(r.o.Project, d).Context(t.Context()).Do(); err != nil {
		t.Fatal(err)
	}
	if _, err := ensureFor(t.Context(), r, loadtest.Table()); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"contacts", "contacts_history", "contacts__commits"} {
		if expires(resource(t, r, name)) {
			t.Errorf("%s expires", name)
		}
	}
	// So is that of a table whose making was interrupted.
	for _, name := range []string{"contacts", "contacts__commits"} {
		fresh := resource(t, r, name)
		patch := &bq.Table{ExpirationTime: fresh.CreationTime + d.DefaultTableExpirationMs}
		if p := fresh.TimePartitioning; p != nil {
			p.ExpirationMs = d.DefaultPartitionExpirationMs
			patch = &bq.Table{TimePartitioning: p}
		}
		if _, err := r.rest.Tables.Patch(r.o.Project, "crm", name, patch).Context(t.Context()).Do(); err != nil {
			t.Fatal(err)
		}
		if _, err := ensureFor(t.Context(), r, loadtest.Table()); err != nil {
			t.Fatal(err)
		}
		if expires(resource(t, r, name)) {
			t.Errorf("%s expires", name)
		}
	}
	// What somebody sets is theirs to take back.
	patch := &bq.Table{ExpirationTime: time.Now().Add(time.Hour).UnixMilli()}
	if _, err := r.rest.Tables.Patch(r.o.Project, "crm", "contacts", patch).Context(t.Context()).Do(); err != nil {
		t.Fatal(err)
	}
	var e *Error
	if _, err := ensureFor(t.Context(), r, loadtest.Table()); !errors.As(err, &e) || !strings.Contains(e.Message, "would expire") {
		t.Errorf("error %v", err)
	}
}

func TestTablesAreMadeAndWidenedThroughFaults(t *testing.T) {
	t.Parallel()
	for _, call := range []string{"datasets.get", "datasets.insert", "tables.get", "tables.insert", "tables.patch"} {
		for _, f := range []bqtest.Fault{
			{Status: http.StatusServiceUnavailable, Reason: "backendError", Times: 2},
			{Status: http.StatusForbidden, Reason: "rateLimitExceeded", Times: 2, Skip: 1},
			{Status: http.StatusInternalServerError, Reason: "internalError", After: true},
			{Drop: true, After: true, Skip: 1},
			{Drop: true},
		} {
			f.Call = call
			s := standIn(t, bqtest.Options{})
			r := remoteAt(t, s, Options{})
			s.Inject(f)
			for _, column := range []string{"first", "second"} {
				if _, err := ensureFor(t.Context(), r, loadtest.Table(loadtest.Extra("a_first", schemas.String), loadtest.Extra("b_"+column, schemas.Date))); err != nil {
					t.Fatalf("%+v: %v", f, err)
				}
			}
			for _, name := range []string{"contacts", "contacts_history", "contacts__staging"} {
				if fieldNamed(resource(t, r, name).Schema.Fields, "b_second") == nil {
					t.Errorf("%+v: %s lacks a column", f, name)
				}
			}
		}
	}
}

func TestAColumnAddedBySomebodyElseMeanwhileStays(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	r := remoteAt(t, s, Options{})
	if _, err := ensureFor(t.Context(), r, loadtest.Table()); err != nil {
		t.Fatal(err)
	}
	lay, err := r.look(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	fields := append(resource(t, r, "contacts").Schema.Fields, &bq.TableFieldSchema{Name: "theirs", Type: "STRING", Mode: "NULLABLE"})
	if _, err := r.rest.Tables.Patch(r.o.Project, "crm", "contacts", &bq.Table{Schema: &bq.TableSchema{Fields: fields}}).Context(t.Context()).Do(); err != nil {
		t.Fatal(err)
	}
	if _, err := r.ensure(t.Context(), lay, loadtest.Table(loadtest.Extra("ours", schemas.String)), testLineage, "nightly"); err != nil {
		t.Fatal(err)
	}
	got := resource(t, r, "contacts").Schema.Fields
	if fieldNamed(got, "theirs") == nil || fieldNamed(got, "ours") == nil {
		t.Error("one of the columns is lost")
	}
}
