package parquet_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
	"github.com/sluice-etl/sluice/schemas"
)

// tickets are contacts in a stage of two pipelines, in one of one, in one that
// the source no longer has, and in none.
func tickets() []loadtest.Row {
	ticket := func(id, stage string) loadtest.Row {
		return contact(id, 1, 0, "platform", "whatsapp", "active_ticket_v2_id", "t-"+id, "active_ticket_v2_current_stage_id", stage)
	}
	return []loadtest.Row{ticket("ana", "s1"), ticket("bo", "s1"), ticket("cy", "s2"), ticket("di", "s9"), contact("ed", 1, 0, "platform", "sms")}
}

const namedContacts = `
ana Nuevo 0 p1 Ventas
bo Nuevo 0 p1 Ventas
cy Ganó "sí" 'é' 1 p1 Ventas
di <nil> <nil> <nil> <nil>
ed <nil> <nil> <nil> <nil>`

func TestViewsNameTheStageOfATicketOnceThereIsATableOfStages(t *testing.T) {
	l := open(t, filepath.Join(t.TempDir(), "o'dd [base]* ü"), on(unsynced{}), staged)
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: tickets()}))
	db := duck(t)
	runViews(t, db, l.Dir())
	if _, err := db.ExecContext(t.Context(), "SELECT stage_name FROM contacts"); err == nil {
		t.Error("stages have names before there is a table of them")
	}
	want(t, db, "FROM stage_funnel ORDER BY stage_id", "s1 2\ns2 1\ns9 1", "stage_id", "contacts")
	if err := l.ReplaceStages(t.Context(), loadtest.StagesOf("run-001")); err != nil {
		t.Fatal(err)
	}
	t.Chdir(t.TempDir()) // views.sql is usable from anywhere
	db = duck(t)
	runViews(t, db, l.Dir())
	want(t, db, "FROM contacts ORDER BY id", namedContacts, "id", "stage_name", "stage_position", "pipeline_id", "pipeline_name")
	want(t, db, "SELECT count(*) AS n FROM crm_stages", "4", "n")
	want(t, db, "FROM stage_funnel ORDER BY stage_id", `
s1 Nuevo 0 p1 Ventas 2
s2 Ganó "sí" 'é' 1 p1 Ventas 1
s9 <nil> <nil> <nil> <nil> 1`, "stage_id", "stage_name", "stage_position", "pipeline_id", "pipeline_name", "contacts")
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 2, Rows: tickets()[:1]}))
	db = duck(t)
	runViews(t, db, l.Dir())
	want(t, db, "FROM contacts ORDER BY id", namedContacts, "id", "stage_name", "stage_position", "pipeline_id", "pipeline_name")
}

func TestStagesAreNamedBesideColumnsOfTheirNames(t *testing.T) {
	l := open(t, t.TempDir(), on(unsynced{}), staged)
	extra := []schemas.Column{loadtest.Extra("stage_name", schemas.String), loadtest.Extra("pipeline_id", schemas.String)}
	row := tickets()[2].With("stage_name", "theirs", "pipeline_id", "other")
	commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 1, Extra: extra, Rows: []loadtest.Row{row}}))
	if err := l.ReplaceStages(t.Context(), loadtest.StagesOf("run-001")); err != nil {
		t.Fatal(err)
	}
	db := duck(t)
	runViews(t, db, l.Dir())
	want(t, db, "FROM contacts", `theirs other Ganó "sí" 'é' p1`, "stage_name", "pipeline_id", "stage_name__", "pipeline_id__")
	want(t, db, "FROM stage_funnel", `s2 Ganó "sí" 'é' p1`, "stage_id", "stage_name", "pipeline_id")
}

func TestAContractWithoutTheStageHasNoNamesOfIt(t *testing.T) {
	p := loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: tickets()})
	less := schemas.Table{}
	for _, c := range p.Table.Columns {
		if c.Name != "active_ticket_v2_current_stage_id" {
			less.Columns = append(less.Columns, c)
		}
	}
	sql := parquet.Views(parquet.ViewsOptions{Root: "/lake/contacts", Columns: less, Stages: "/lake/crm_stages/stages.parquet"})
	if !strings.Contains(sql, `VIEW "contacts"`) || strings.Contains(sql, "JOIN") {
		t.Errorf("the views are\n%s", sql)
	}
}

func TestALoaderWithoutATableOfStagesKeepsNone(t *testing.T) {
	l := open(t, t.TempDir(), on(unsynced{}))
	if err := l.ReplaceStages(t.Context(), loadtest.StagesOf("run-001")); !errors.Is(err, load.ErrNoStages) {
		t.Errorf("got %v", err)
	}
}

func TestStagesGoNowhereNearOtherFiles(t *testing.T) {
	for _, name := range []string{"notes.txt", "part-0.parquet"} {
		root := t.TempDir()
		if err := os.MkdirAll(filepath.Join(root, "crm_stages"), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(filepath.Join(root, "crm_stages", name), []byte("theirs"), 0o600); err != nil {
			t.Fatal(err)
		}
		err := open(t, root, staged).ReplaceStages(t.Context(), loadtest.StagesOf("run-001"))
		if !errors.Is(err, load.ErrForeign) || !strings.Contains(err.Error(), name) {
			t.Errorf("beside %s: got %v", name, err)
		}
	}
}

func TestTheViewsOfABucketNameStagesFromTheNextCommitOn(t *testing.T) {
	s := gcstest.Start(t, gsBucket)
	c := gsClient(t, s, nil)
	l := openGS(t, c, func(o *parquet.GSOptions) { staged(&o.Options) })
	for serial := int64(1); serial <= 2; serial++ {
		if _, err := l.Commit(t.Context(), loadtest.Build(t, loadtest.Spec{Serial: serial, Rows: tickets()})); err != nil {
			t.Fatal(err)
		}
		if err := l.ReplaceStages(t.Context(), loadtest.StagesOf("run-001")); err != nil {
			t.Fatal(err)
		}
		sql := string(s.Objects(t, gsBucket, gsTable)["views.sql"])
		if got := strings.Contains(sql, "gs://lake/exports/crm/crm_stages/stages.parquet"); got != (serial == 2) {
			t.Errorf("after commit %d: that views name stages is %t", serial, got)
		}
		_, err := l.Verify(t.Context(), "lineage-a", func(f load.Fault) { t.Errorf("after commit %d: %+v", serial, f) })
		if err != nil {
			t.Fatal(err)
		}
	}
}
