package run_test

import (
	"bytes"
	"context"
	"database/sql"
	"encoding/json"
	"errors"
	"io"
	"maps"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/schemas"
)

// dressed lets a test change the contacts that a source lists, by id.
type dressed struct{ change func(contact map[string]any) }

func (d *dressed) RoundTrip(r *http.Request) (*http.Response, error) {
	r = r.Clone(r.Context())
	r.Header.Set("Accept-Encoding", "identity")
	resp, err := http.DefaultTransport.RoundTrip(r)
	if err != nil || resp.StatusCode != http.StatusOK || d.change == nil {
		return resp, err
	}
	body, err := io.ReadAll(resp.Body)
	if err = errors.Join(err, resp.Body.Close()); err != nil {
		return nil, err
	}
	var list []map[string]any
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	if dec.Decode(&list) == nil {
		for _, c := range list {
			d.change(c)
		}
		if body, err = json.Marshal(list); err != nil {
			return nil, err
		}
	}
	resp.Body = io.NopCloser(bytes.NewReader(body))
	resp.ContentLength = int64(len(body))
	resp.Header.Set("Content-Length", strconv.Itoa(len(body)))
	return resp, nil
}

// entry returns what state's registry has of a field.
func (w *world) entry(scope schemas.Scope, key string) schemas.RegistryEntry {
	w.t.Helper()
	for _, e := range w.state().Registry {
		if e.Scope == scope && e.Key == key {
			return e
		}
	}
	return schemas.RegistryEntry{}
}

// sum is how many values a field had.
func sum(e schemas.RegistryEntry) (n int64) {
	for _, values := range e.Observed {
		n += values
	}
	return n
}

func contractOf(tb testing.TB, lines string) *schemas.Contract {
	tb.Helper()
	c, err := schemas.ParseContract("crm.yaml", append(schemas.BuiltIn(), []byte("\n"+lines)...))
	if err != nil {
		tb.Fatal(err)
	}
	return c
}

func TestTheRegistryCountsTheValuesOfEachRunOnce(t *testing.T) {
	slow(t)
	w := newWorld(t, contacts(600))
	d := &dressed{change: func(c map[string]any) { c["shoe_size"] = 41 }}
	job := w.job()
	job.Source.Transport = d
	w.mustRun(job)
	first := w.entry(schemas.ScopeContact, "shoe_size")
	if first.Observed["int"] < 600 || len(first.Observed) != 1 || first.FirstSeen.IsZero() || first.LastRun != w.state().Runs[0].RunID {
		t.Fatalf("after the first run %+v", first)
	}
	d.change = func(c map[string]any) { c["shoe_size"] = "" }
	job.Full = true
	w.mustRun(job)
	second := w.entry(schemas.ScopeContact, "shoe_size")
	if second.Observed["int"] != first.Observed["int"] || second.Observed["empty"] < 600 || !second.Misfit {
		t.Errorf("after the second %+v", second)
	}
	if !second.FirstSeen.Equal(first.FirstSeen) || !second.LastSeen.After(first.LastSeen) || second.LastRun != w.state().Runs[1].RunID || second.FirstRun != first.FirstRun {
		t.Errorf("the first run left %+v, the second %+v", first, second)
	}
}

func TestValuesSeenBeforeAKillAreCountedOnce(t *testing.T) {
	w := newWorld(t, contacts(2000))
	d := &dressed{change: func(c map[string]any) { c["shoe_size"] = 41 }}
	job := w.job()
	job.Source.Transport, job.Source.Concurrency = d, 1
	stops := 0
	for {
		ctx, cancel := context.WithCancel(t.Context())
		pages := 0
		w.afterPage = func(int64) {
			if pages++; pages >= 9 {
				cancel()
			}
		}
		_, err := w.run(ctx, job)
		cancel()
		if err == nil {
			break
		}
		if w.entry(schemas.ScopeContact, "shoe_size").Key != "" {
			t.Fatal("a run that was stopped has left its columns in state")
		}
		if stops++; stops > 40 {
			t.Fatal("the run does not end")
		}
	}
	if stops == 0 {
		t.Fatal("the run was not stopped")
	}
	w.afterPage = nil
	// Every row that a part holds is counted, those read twice over included.
	if e := w.entry(schemas.ScopeContact, "shoe_size"); sum(e) != w.state().Runs[len(w.state().Runs)-1].Rows {
		t.Errorf("%d values, %d rows staged", sum(e), w.state().Runs[len(w.state().Runs)-1].Rows)
	}
}

// ask returns the rows of a query of DuckDB, in which LAKE stands for what is
// current in the lake, read by a bare glob, and columns are told apart by "|".
func (w *world) ask(query string) []string {
	w.t.Helper()
	db, err := sql.Open("duckdb", "")
	if err != nil {
		w.t.Fatal(err)
	}
	defer func() { _ = db.Close() }()
	glob := filepath.Join(w.dir, "lake", "contacts", "current", "*", "*.parquet")
	query = strings.ReplaceAll(query, "LAKE", "read_parquet('"+glob+"', hive_partitioning = false)")
	query = strings.ReplaceAll(query, "LOCAL", "crm.contacts_all")
	if strings.Contains(query, "crm.") {
		if _, err := db.ExecContext(w.t.Context(), "ATTACH '"+filepath.Join(w.dir, "crm.duckdb")+"' AS crm (READ_ONLY)"); err != nil {
			w.t.Fatal(err)
		}
	}
	rows, err := db.QueryContext(w.t.Context(), query)
	if err != nil {
		w.t.Fatalf("%s: %v", query, err)
	}
	defer func() { _ = rows.Close() }()
	names, err := rows.Columns()
	if err != nil {
		w.t.Fatal(err)
	}
	var out []string
	for rows.Next() {
		cells, into := make([]sql.NullString, len(names)), make([]any, len(names))
		for i := range cells {
			into[i] = &cells[i]
		}
		if err := rows.Scan(into...); err != nil {
			w.t.Fatal(err)
		}
		var line []string
		for _, c := range cells {
			line = append(line, c.String)
		}
		out = append(out, strings.Join(line, "|"))
	}
	if err := rows.Err(); err != nil {
		w.t.Fatal(err)
	}
	return out
}

// both fails unless lake and database answer a query about them (FROM ALL) alike
// and as wanted.
func (w *world) both(query string, want ...string) {
	w.t.Helper()
	for _, place := range []string{"LAKE", "LOCAL"} {
		if got := w.ask(strings.ReplaceAll(query, "ALL", place)); !slices.Equal(got, want) {
			w.t.Errorf("%s in %s: got %v, want %v", query, place, got, want)
		}
	}
}

// evolving is a pipeline into a lake and a database over 400 contacts whose
// fields a test changes.
func evolving(t *testing.T) (*world, *dressed, func(contract string) run.Job) {
	t.Helper()
	w := newWorld(t, contacts(400))
	local, _ := w.database()
	d := &dressed{}
	lake := w.lake("lake")
	return w, d, func(lines string) run.Job {
		job := w.job(run.Destination{Name: "lake", Loader: lake}, local)
		job.Source.Transport, job.Contract = d, contractOf(t, lines)
		return job
	}
}

func TestAFrozenTableFailsTheRunBeforeAnythingIsCommittedAndConvergesOnceItIsLetIn(t *testing.T) {
	slow(t)
	for name, c := range map[string]struct {
		frozen, lifted string
		field          any
		want           []string
	}{
		"a new field":     {"new_columns: freeze", "", 41, []string{"field contact:shoe_size is new (a whole number)"}},
		"a type conflict": {"type_conflicts: freeze", "", "large", []string{"field contact:shoe_size is text (string), column shoe_size is int64"}},
		"left out":        {"new_columns: freeze", "new_columns: discard", 41, []string{"field contact:shoe_size is new"}},
		"mended":          {"new_columns: freeze", "new_columns: freeze", 41, []string{"field contact:shoe_size is new"}},
	} {
		t.Run(name, func(t *testing.T) {
			w, d, job := evolving(t)
			conflict := c.frozen == "type_conflicts: freeze"
			if conflict {
				d.change = func(c map[string]any) { c["shoe_size"] = 38 }
			}
			w.mustRun(job(""))
			w.mustRun(job(c.frozen))
			before := w.state()
			marked := w.stored("lake")
			w.source.Mutate(sandbox.Mutation{Updates: 300})
			n := 0
			d.change = func(contact map[string]any) {
				if conflict {
					contact["shoe_size"] = 38
				}
				if n++; n > 250 { // parts have been journalled by then
					contact["shoe_size"] = c.field
				}
			}
			small := job(c.frozen)
			small.PageSize = 20
			e := run.Engine{Store: w.store, Clock: clock.System{}, SealRows: 60}
			_, err := e.Run(t.Context(), small)
			var frozen *schemas.FreezeError
			if !errors.As(err, &frozen) {
				t.Fatalf("got %v", err)
			}
			for _, want := range append(c.want, "contact "+frozen.Contact) {
				if !strings.Contains(err.Error(), want) {
					t.Errorf("%q is not in %v", want, err)
				}
			}
			if strings.Count(err.Error(), "contact "+frozen.Contact) != 1 {
				t.Errorf("it is said more than once: %v", err)
			}
			line := 1 + strings.Count(string(schemas.BuiltIn())+"\n", "\n")
			if at := "crm.yaml:" + strconv.Itoa(line); !strings.Contains(frozen.Hint(), at) {
				t.Errorf("the hint does not name %s: %s", at, frozen.Hint())
			}
			after := w.state()
			if !after.Cursor.Equal(*before.Cursor) || after.NextPackage != before.NextPackage || len(after.Registry) != len(before.Registry) {
				t.Errorf("the run moved state from %+v to %+v", before, after)
			}
			if got := w.stored("lake"); !maps.Equal(got, marked) {
				t.Error("the lake has changed")
			}
			if c.lifted == c.frozen {
				d.change = nil
			} else {
				d.change = func(contact map[string]any) { contact["shoe_size"] = c.field }
			}
			done := w.mustRun(job(c.lifted))
			w.mustRun(job(c.lifted))
			w.same("lake")
			w.tidy()
			switch name {
			case "left out":
				if done.Discarded["contact:shoe_size"] == 0 || w.entry(schemas.ScopeContact, "shoe_size").Key != "" {
					t.Errorf("left out %v", done.Discarded)
				}
			case "a type conflict":
				if done.Misfits["shoe_size"] == 0 {
					t.Errorf("misfits %v", done.Misfits)
				}
				w.both(`SELECT count(*), count(*) FILTER (shoe_size__text = 'large') > 0, count(*) FILTER ((shoe_size = 38) = (shoe_size__text IS NOT NULL)) FROM ALL`, "400|true|0")
			case "a new field":
				w.both(`SELECT count(*), count(*) FILTER (shoe_size = 41) > 0 FROM ALL`, "400|true")
			}
		})
	}
}

func TestAColumnThatIsLeftOutStaysInTheTablesAndComesBackAsItWas(t *testing.T) {
	slow(t)
	for name, exclude := range map[string]string{
		"excluded":     "exclude: [phone, last_message_at, platform, blocked, ai_customer_id, chat_status, active_ticket_v2.current_stage_id]",
		"not selected": "select: [id, created_at, updated_at, name, email]",
	} {
		t.Run(name, func(t *testing.T) {
			w, _, job := evolving(t)
			w.mustRun(job(""))
			whole := w.ask("SELECT count(*), count(phone), count(last_message_at), count(platform) FROM LAKE")
			w.mustRun(job(exclude))
			w.same("lake")
			w.both("SELECT count(*), count(phone), count(last_message_at), count(platform) FROM ALL", "400|0|0|0")
			w.both("SELECT DISTINCT typeof(phone), typeof(last_message_at), typeof(blocked) FROM ALL", "VARCHAR|TIMESTAMP WITH TIME ZONE|BOOLEAN")
			if got := w.ask("SELECT count(*) FROM crm.contacts"); got[0] == "0" {
				t.Error("the view shows nobody")
			}
			w.mustRun(job(""))
			w.both("SELECT count(*), count(phone), count(last_message_at), count(platform) FROM ALL", whole...)
			w.tidy()
		})
	}
}

func TestTheNameOfAColumnThatWasLeftOutIsNotGivenAway(t *testing.T) {
	slow(t)
	w, d, job := evolving(t)
	w.mustRun(job(""))
	d.change = func(c map[string]any) { c["Phone"] = 5 }
	w.mustRun(job("exclude: [phone]"))
	if e := w.entry(schemas.ScopeContact, "Phone"); e.Column == "phone" || e.Column == "" || e.Type != schemas.Int64 {
		t.Errorf("another field was given %+v", e)
	}
	w.both("SELECT count(phone) FROM ALL", "0")
	taken := strings.Replace(string(schemas.BuiltIn()), "path: phone\n    type: string", "path: phone\n    type: int64", 1)
	retyped := job("")
	var err error
	if retyped.Contract, err = schemas.ParseContract("crm.yaml", []byte(taken)); err != nil {
		t.Fatal(err)
	}
	var typ *schemas.TypeError
	if _, err := w.run(t.Context(), retyped); !errors.As(err, &typ) || typ.Column != "phone" || !strings.Contains(typ.Hint(), "declare phone as string") {
		t.Errorf("it came back with another type: %v", err)
	}
	w.mustRun(job("exclude: [phone]"))
	w.same("lake")
}

func TestAChangeOfNameOrTypeIsRefusedBeforeAnythingIsRead(t *testing.T) {
	slow(t)
	w, d, job := evolving(t)
	d.change = func(c map[string]any) { c["shoe_size"] = 41 }
	w.mustRun(job(""))
	requests := w.source.Stats().Pages
	builtIn := string(schemas.BuiltIn())
	for name, c := range map[string]struct{ contract, message, hint string }{
		"a discovered field of another name": {
			strings.Replace(builtIn, "columns:\n", "columns:\n  - {name: size, path: shoe_size, type: int64}\n", 1),
			"field contact:shoe_size is to be column size, and is column shoe_size already", "write shoe_size",
		},
		"a discovered field of another type": {
			strings.Replace(builtIn, "columns:\n", "columns:\n  - {name: shoe_size, path: shoe_size, type: string}\n", 1),
			"field contact:shoe_size is declared as string, and is column shoe_size of type int64 already", "declare shoe_size as int64",
		},
		"a discovered field renamed": {builtIn + "\nrename: {shoe_size: size}\n", "is to be column size", "write shoe_size"},
		"a column renamed": {
			strings.Replace(builtIn, "- name: phone", "- name: telephone", 1), "column phone is to be called telephone", "undo the change",
		},
		"a column that is gone": {
			strings.Replace(builtIn, "  - name: phone\n    path: phone\n    type: string\n    description: Phone number as the endpoint prints it\n", "", 1),
			"column phone is gone", "listed under exclude",
		},
	} {
		t.Run(name, func(t *testing.T) {
			changed := job("")
			var err error
			if changed.Contract, err = schemas.ParseContract("crm.yaml", []byte(c.contract)); err != nil {
				t.Fatal(err)
			}
			_, err = w.run(t.Context(), changed)
			var hinted interface {
				error
				Hint() string
			}
			if !errors.As(err, &hinted) || !strings.Contains(err.Error(), c.message) || !strings.Contains(hinted.Hint(), c.hint) {
				t.Errorf("got %v", err)
			}
		})
	}
	if got := w.source.Stats().Pages; got != requests {
		t.Errorf("%d pages were read", got-requests)
	}
	same := job("")
	var err error
	if same.Contract, err = schemas.ParseContract("crm.yaml", []byte(strings.Replace(builtIn, "columns:\n", "columns:\n  - {name: shoe_size, path: shoe_size, type: int64, description: European}\n", 1))); err != nil {
		t.Fatal(err)
	}
	w.mustRun(same)
	w.same("lake")
	w.both("SELECT count(*), CAST(sum(shoe_size) AS BIGINT) FROM ALL", "400|16400")
}

func TestARunAndABackfillBesideItAddUpWhatTheySaw(t *testing.T) {
	w := newWorld(t, contacts(1500))
	d := &dressed{change: func(c map[string]any) { c["shoe_size"] = 41 }}
	job := w.job()
	job.Source.Transport = d
	w.mustRun(job)
	b := spring()
	b.Parallel = 1
	slow, once := job, sync.Once{}
	slow.PageSize = 20
	w.afterPage = func(pages int64) {
		if pages < 3 {
			return
		}
		once.Do(func() {
			again := job
			again.Full = true
			if _, err := (&run.Engine{Store: w.store, Clock: clock.System{}}).Run(t.Context(), again); err != nil {
				t.Error(err)
			}
		})
	}
	if _, err := w.backfill(t.Context(), slow, b, 50); err != nil {
		t.Fatal(err)
	}
	rows := int64(0)
	for _, rec := range w.state().Runs {
		rows += rec.Rows
	}
	if e := w.entry(schemas.ScopeContact, "shoe_size"); len(w.state().Runs) != 3 || sum(e) != rows {
		t.Errorf("%d values in %d runs with %d rows", sum(e), len(w.state().Runs), rows)
	}
}

func TestColumnsOfOtherTypesThanTheViewsKnowStopNoRun(t *testing.T) {
	w, _, job := evolving(t)
	odd := job("")
	text := string(schemas.BuiltIn())
	for _, c := range [][3]string{
		{"last_message_at", "timestamp", "string"},
		{"blocked", "bool", "string"},
		{"chat_status", "string", "int64"},
		{"platform", "string", "json"},
		{"ai_customer_id", "string", "float64"},
	} {
		text = strings.Replace(text, "path: "+c[0]+"\n    type: "+c[1], "path: "+c[0]+"\n    type: "+c[2], 1)
	}
	var err error
	if odd.Contract, err = schemas.ParseContract("crm.yaml", []byte(text)); err != nil {
		t.Fatal(err)
	}
	w.mustRun(odd)
	w.same("lake")
	w.both("SELECT count(*), count(last_message_at) > 0, count(chat_status) FROM ALL", "400|true|0")
	if got := w.ask("SELECT count(*) FROM crm.contacts"); got[0] != "400" {
		t.Errorf("the view shows %s", got)
	}
	w.tidy()
}

func TestABareGlobAndADatabaseHaveNewColumnsTheMomentARunEnds(t *testing.T) {
	slow(t)
	w, d, job := evolving(t)
	w.mustRun(job("max_columns: 30"))
	months := w.ask("SELECT min(strftime(created_at, '%Y-%m')), count(DISTINCT strftime(created_at, '%Y-%m')) > 5 FROM LAKE")
	month, many, _ := strings.Cut(months[0], "|")
	if many != "true" {
		t.Fatalf("too few months: %s", months)
	}
	in := w.ask("SELECT count(*) FROM LAKE WHERE strftime(created_at, '%Y-%m') = '" + month + "'")[0]
	wear := func(fields map[string]any) func(map[string]any) {
		return func(c map[string]any) {
			if strings.HasPrefix(c["created_at"].(string), month) {
				maps.Copy(c, fields)
			}
		}
	}
	full := func(lines string) run.Job {
		j := job(lines)
		j.Full = true
		return j
	}
	d.change = wear(map[string]any{"shoe_size": 41})
	w.mustRun(full("max_columns: 30"))
	w.both("SELECT count(*), count(shoe_size) FROM ALL", "400|"+in)
	d.change = wear(map[string]any{"shoe_size": "large"})
	w.mustRun(full("max_columns: 30"))
	w.both("SELECT count(*), count(shoe_size), count(shoe_size__text) FROM ALL", "400|0|"+in)
	d.change = nil // the field vanishes
	w.mustRun(full("max_columns: 30"))
	w.both("SELECT count(*), count(shoe_size), count(shoe_size__text) FROM ALL", "400|0|0")
	d.change = wear(map[string]any{"shoe_size": 38, "hat_size": 58}) // returns, and another is one too many
	w.mustRun(full("max_columns: 12"))
	w.both("SELECT count(*), count(shoe_size), count(shoe_size__text), count(other_fields__json) FROM ALL", "400|"+in+"|0|"+in)
	w.same("lake")
	w.tidy()
}
