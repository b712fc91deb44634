package bqtest

import "testing"

func TestATableFunctionIsARoutineAndNothingElseIs(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t (n INT64)")
	s.query("CREATE TABLE FUNCTION f(n INT64) OPTIONS (description='counts') AS SELECT n AS m")
	m, err := s.ds.Routine("f").Metadata(t.Context())
	if err != nil || m.Type != "TABLE_VALUED_FUNCTION" || m.Language != "SQL" || m.Description != "counts" || m.ETag == "" {
		t.Errorf("%+v, %v", m, err)
	}
	for _, name := range []string{"t", "none"} {
		if _, err := s.ds.Routine(name).Metadata(t.Context()); codeOf(err) != 404 {
			t.Errorf("%s: %v", name, err)
		}
		if err := s.ds.Routine(name).Delete(t.Context()); codeOf(err) != 404 {
			t.Errorf("deleting %s: %v", name, err)
		}
	}
	if r, err := s.ds.Routines(t.Context()).Next(); err != nil || r.RoutineID != "f" {
		t.Errorf("listed are %v, %v", r, err)
	}
	if err := s.ds.Routine("f").Delete(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := s.ds.Routine("f").Metadata(t.Context()); codeOf(err) != 404 {
		t.Errorf("a function that was deleted: %v", err)
	}
	s.query("SELECT n FROM t")
}

func TestACallThatTheStandInLacksDoesNotSayThatSomethingIsNotThere(t *testing.T) {
	t.Parallel()
	s := serve(t)
	if _, err := s.ds.Model("m").Metadata(t.Context()); codeOf(err) != 501 {
		t.Errorf("a model: %v", err)
	}
}
