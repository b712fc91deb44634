//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bigquery

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/schemas"
)

// methods are the ways to the staging table.
func methods() []Method { return []Method{Stream, Load} }

func TestEveryValueArrivesAsItIs(t *testing.T) {
	t.Parallel()
	for _, method := range methods() {
		t.Run(string(method), func(t *testing.T) {
			t.Parallel()
			s := standIn(t, bqtest.Options{})
			r := remoteAt(t, s, Options{Method: method})
			rows := edges()
			rows[3] = rows[3].With("name", strings.Repeat("漢", 1<<20/3))
			p := loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: rows, Extra: edgeColumns(), PartRows: 3})
			got, err := r.stage(t.Context(), p, prepare(t, r, p), false)
			if err != nil {
				t.Fatal(err)
			}
			stored := stagedRows(t, r, p, got)
			if len(stored) != len(rows) {
				t.Fatalf("%d rows, want %d", len(stored), len(rows))
			}
			for i, want := range rows {
				want = want.With(schemas.ColRow, int64(i), schemas.ColExtractedAt, loadtest.Epoch.Add(time.Hour))
				sameJSON(t, want, stored[i])
				if diff := gocmp.Diff(map[string]any(want), map[string]any(stored[i])); diff != "" {
					t.Errorf("row %d (-want +got):\n%s", i, diff)
				}
			}
			months := []time.Time{time.Date(1969, 12, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC), time.Date(2026, 10, 1, 0, 0, 0, 0, time.UTC)}
			if !slices.EqualFunc(got.Months, months, time.Time.Equal) || got.Rows != 4 || !got.ExtractedFrom.Equal(loadtest.Epoch.Add(time.Hour)) || !got.ExtractedTo.Equal(got.ExtractedFrom) {
				t.Errorf("staged %+v", got)
			}
		})
	}
}

// sameJSON takes JSON that means the same for the same.
func sameJSON(t *testing.T, want, got loadtest.Row) {
	t.Helper()
	var a, b any
	if want["a_json"] == nil || got["a_json"] == nil {
		return
	}
	for text, into := range map[any]*any{want["a_json"]: &a, got["a_json"]: &b} {
		if err := json.Unmarshal([]byte(fmt.Sprint(text)), into); err != nil {
			t.Fatal(err)
		}
	}
	if gocmp.Equal(a, b) {
		got["a_json"] = want["a_json"]
	}
}

func TestPartsWithDifferentColumnsArriveTogether(t *testing.T) {
	t.Parallel()
	for _, method := range methods() {
		s := standIn(t, bqtest.Options{})
		r := remoteAt(t, s, Options{Method: method, InFlight: 3})
		rows := many(900)
		for i := range rows {
			if i%400 == 0 {
				rows[i] = rows[i].With("an_int", int64(i))
			}
		}
		p := loadtest.Build(t, loadtest.Spec{Serial: 5, Rows: rows, Extra: edgeColumns(), PartRows: 100})
		got, err := r.stage(t.Context(), p, prepare(t, r, p), false)
		if err != nil {
			t.Fatal(err)
		}
		arrivedOnce(t, r, p, got, rows)
	}
}

// stageFaults are faults of every call that staging makes.
func stageFaults(method Method) []bqtest.Fault {
	var out []bqtest.Fault
	if method == Stream {
		for _, call := range []string{"CreateWriteStream", "AppendRows", "AppendRows.response", "FinalizeWriteStream", "BatchCommitWriteStreams"} {
			for _, code := range []codes.Code{codes.Unavailable, codes.Aborted, codes.ResourceExhausted} {
				out = append(out,
					bqtest.Fault{Call: call, Code: code, Times: 2},
					bqtest.Fault{Call: call, Code: code, After: true, Times: 2},
					bqtest.Fault{Call: call, Code: code, Skip: 1, After: true})
			}
			if call != "AppendRows.response" {
				out = append(out, bqtest.Fault{Call: call, Drop: true}, bqtest.Fault{Call: call, Drop: true, After: true}, bqtest.Fault{Call: call, Drop: true, After: true, Skip: 1})
			}
		}
		return append(out, bqtest.Fault{Call: "AppendRows", Delay: 20 * time.Millisecond, Times: 3}, bqtest.Fault{Call: "AppendRows", Code: codes.OutOfRange, Skip: 1})
	}
	for _, call := range []string{"jobs.insert", "jobs.get"} {
		for _, f := range []bqtest.Fault{
			{Status: http.StatusServiceUnavailable, Reason: "backendError"},
			{Status: http.StatusForbidden, Reason: "rateLimitExceeded"},
			{Status: http.StatusInternalServerError, Reason: "internalError"},
			{Drop: true},
		} {
			for _, after := range []bool{false, true} {
				f.Call, f.After, f.Times = call, after, 2
				out = append(out, f)
			}
		}
	}
	return append(out, bqtest.Fault{Call: "job", Status: http.StatusServiceUnavailable, Reason: "backendError", Times: 2}, bqtest.Fault{Call: "jobs.insert", Delay: 20 * time.Millisecond})
}

func TestRowsArriveOnceThroughEveryFault(t *testing.T) {
	t.Parallel()
	for _, method := range methods() {
		s := standIn(t, bqtest.Options{})
		r := remoteAt(t, s, Options{Method: method, InFlight: 2})
		rows := many(40)
		faults := stageFaults(method)
		if testing.Short() {
			faults = slices.DeleteFunc(faults, func(f bqtest.Fault) bool { return f.Code == codes.ResourceExhausted || f.Code == codes.Aborted })
		}
		for i, f := range faults {
			p := loadtest.Build(t, loadtest.Spec{Serial: int64(i + 1), Rows: rows, PartRows: 10})
			table := prepare(t, r, p)
			var n notes
			p.Remember = n.remember
			s.Inject(f)
			got, err := r.stage(t.Context(), p, table, false)
			if err != nil {
				t.Fatalf("%s, %+v: %v", method, f, err)
			}
			arrivedOnce(t, r, p, got, rows)
		}
	}
}

func TestAppendsWhoseAnswersWereLostAreNotMadeTwice(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	r := remoteAt(t, s, Options{InFlight: 2})
	rows := many(40)
	p := loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: rows, PartRows: 10})
	table := prepare(t, r, p)
	for range 2 {
		s.Inject(bqtest.Fault{Call: "AppendRows", Code: codes.Unavailable, After: true})
	}
	var n notes
	p.Remember = n.remember
	got, err := r.stage(t.Context(), p, table, false)
	if err != nil {
		t.Fatal(err)
	}
	arrivedOnce(t, r, p, got, rows)
	if calls := s.Calls()["CreateWriteStream"]; calls > 2 {
		t.Errorf("%d streams, want at most 2: rows were appended twice and thrown away", calls)
	}
}

func TestAStageThatWasKilledIsGoneOnWith(t *testing.T) {
	t.Parallel()
	// What another process sees of one that stopped: the note, and whatever
	// took effect.
	for name, stop := range map[string]struct {
		method Method
		fault  bqtest.Fault
	}{
		"before the commit":             {Stream, bqtest.Fault{Call: "BatchCommitWriteStreams"}},
		"after the commit":              {Stream, bqtest.Fault{Call: "BatchCommitWriteStreams", After: true}},
		"before the streams are closed": {Stream, bqtest.Fault{Call: "FinalizeWriteStream", Skip: 1}},
		"before a job":                  {Load, bqtest.Fault{Call: "jobs.insert", Skip: 1}},
		"after a job":                   {Load, bqtest.Fault{Call: "jobs.insert", After: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := standIn(t, bqtest.Options{})
			r := remoteAt(t, s, Options{Method: stop.method, InFlight: 2})
			rows := many(30)
			p := loadtest.Build(t, loadtest.Spec{Serial: 3, Rows: rows, PartRows: 10})
			for i := range p.Parts { // so that each is a job
				p.Parts[i].Bytes = loadBytes
			}
			table := prepare(t, r, p)
			var n notes
			p.Remember = n.remember
			ctx, kill := context.WithCancel(t.Context())
			stop.fault.OnCall = kill
			stop.fault.Code, stop.fault.Status = codes.Unavailable, http.StatusServiceUnavailable
			s.Inject(stop.fault)
			if _, err := r.stage(ctx, p, table, false); !errors.Is(err, context.Canceled) {
				t.Fatalf("error %v", err)
			}
			p.Memo = n.last()
			got, err := remoteAt(t, s, Options{Method: stop.method}).stage(t.Context(), p, table, false)
			if err != nil {
				t.Fatal(err)
			}
			arrivedOnce(t, r, p, got, rows)
			if all := read(t, r, "SELECT COUNT(*) AS n FROM "+r.o.quoted(r.o.staging())); all[0]["n"] != int64(len(rows)) {
				t.Errorf("%v rows in the staging table, want %d", all[0]["n"], len(rows))
			}
			// Once more, now that it is done.
			p.Memo = n.last()
			again, err := r.stage(t.Context(), p, table, false)
			if err != nil || again.Attempt != got.Attempt || !again.StagedAt.Equal(got.StagedAt) {
				t.Errorf("again %+v, error %v", again, err)
			}
			arrivedOnce(t, r, p, again, rows)
		})
	}
}

func TestAnotherAttemptBeginsWhereNothingIsLeftOfTheLast(t *testing.T) {
	t.Parallel()
	for name, m := range map[string]memo{
		"streams that are gone": {Method: Stream, Attempt: 4, Streams: []string{"projects/test-project/datasets/crm/tables/contacts__staging/streams/gone"}, Rows: 30},
		"rows that may expire":  {Method: Stream, Attempt: 4, Rows: 30, Streams: []string{"x"}, StagedAt: loadtest.Epoch.Add(-6 * day)},
		"another method":        {Method: Load, Attempt: 4, Rows: 30},
	} {
		s := standIn(t, bqtest.Options{Clock: clock.Fixed(loadtest.Epoch)})
		r := remoteAt(t, s, Options{Clock: clock.Fixed(loadtest.Epoch)})
		if m.StagedAt.IsZero() {
			m.StagedAt = loadtest.Epoch.Add(-time.Hour)
		}
		note, err := json.Marshal(m)
		if err != nil {
			t.Fatal(err)
		}
		rows := many(30)
		p := loadtest.Build(t, loadtest.Spec{Serial: 3, Rows: rows})
		var n notes
		p.Memo, p.Remember = note, n.remember
		got, err := r.stage(t.Context(), p, prepare(t, r, p), false)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if got.Attempt != 5 {
			t.Errorf("%s: attempt %d", name, got.Attempt)
		}
		arrivedOnce(t, r, p, got, rows)
	}
}

func TestWithoutNotesEachAttemptHasItsOwnNumber(t *testing.T) {
	t.Parallel()
	for _, method := range methods() {
		s := standIn(t, bqtest.Options{})
		r := remoteAt(t, s, Options{Method: method, Clock: clock.Fixed(time.Now().UTC().Truncate(time.Microsecond))})
		rows := many(20)
		p := loadtest.Build(t, loadtest.Spec{Serial: 3, Rows: rows})
		table := prepare(t, r, p)
		var attempts []int64
		for range 3 {
			got, err := r.stage(t.Context(), p, table, false)
			if err != nil {
				t.Fatal(err)
			}
			arrivedOnce(t, r, p, got, rows)
			attempts = append(attempts, got.Attempt)
		}
		if !slices.Equal(attempts, []int64{1, 2, 3}) {
			t.Errorf("%s: attempts %v", method, attempts)
		}
	}
}

func TestNewColumnsAreWaitedFor(t *testing.T) {
	t.Parallel()
	now := new(hands)
	s := standIn(t, bqtest.Options{Clock: now, SchemaDelay: time.Hour})
	r := remoteAt(t, s, Options{})
	first := loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: many(5)})
	if _, err := r.stage(t.Context(), first, prepare(t, r, first), false); err != nil {
		t.Fatal(err)
	}
	rows := []loadtest.Row{loadtest.Contact("new", loadtest.Epoch, loadtest.Epoch, "an_int", int64(5))}
	p := loadtest.Build(t, loadtest.Spec{Serial: 2, Rows: rows, Extra: edgeColumns()})
	table := prepare(t, r, p)
	r.first = time.Nanosecond
	var e *Error
	if _, err := r.stage(t.Context(), p, table, false); !errors.As(err, &e) || !strings.Contains(e.Message, "an_int") {
		t.Errorf("a wait that is too short: error %v", err)
	}
	r.first = time.Millisecond
	s.Inject(bqtest.Fault{Call: "CreateWriteStream", Skip: 3, OnCall: func() { now.passed.Add(int64(2 * time.Hour)) }})
	got, err := r.stage(t.Context(), p, table, false)
	if err != nil {
		t.Fatal(err)
	}
	if stored := stagedRows(t, r, p, got); len(stored) != 1 || stored[0]["an_int"] != int64(5) {
		t.Errorf("rows %v", stored)
	}
}

func TestAPackageThatIsNotWhatWasSealedIsRefused(t *testing.T) {
	t.Parallel()
	p := loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: many(5)})
	p.Parts[0].Rows = 4
	var e *Error
	if _, err := survey(t.Context(), p, p.Table); !errors.As(err, &e) || e.Hint() == "" {
		t.Errorf("another number of rows: error %v", err)
	}
	p = loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: []loadtest.Row{loadtest.Contact("a", loadtest.Epoch, loadtest.Epoch, "an_int", int64(1))}, Extra: edgeColumns()})
	if _, err := survey(t.Context(), p, loadtest.Table()); err == nil || !strings.Contains(err.Error(), "an_int") {
		t.Errorf("a column that the table lacks: error %v", err)
	}
}

func TestAPackageWithoutRowsIsStagedAtOnce(t *testing.T) {
	t.Parallel()
	for _, method := range methods() {
		s := standIn(t, bqtest.Options{})
		r := remoteAt(t, s, Options{Method: method})
		p := load.Package{Serial: 1, Lineage: testLineage, Table: loadtest.Table()}
		var n notes
		p.Remember = n.remember
		if got, err := r.stage(t.Context(), p, p.Table, false); err != nil || got.Rows != 0 || got.Attempt != 1 {
			t.Errorf("staged %+v, error %v", got, err)
		}
	}
}

func TestAFileOfSeveralChunksIsLoadedOnce(t *testing.T) {
	t.Parallel()
	s := standIn(t, bqtest.Options{})
	r := remoteAt(t, s, Options{Method: Load})
	rows := many(12)
	for i := range rows {
		rows[i] = rows[i].With("name", strings.Repeat(string(rune('a'+i)), 1<<20))
	}
	p := loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: rows, PartRows: 5})
	s.Inject(bqtest.Fault{Call: "jobs.insert", After: true, Status: http.StatusServiceUnavailable, Reason: "backendError"})
	got, err := r.stage(t.Context(), p, prepare(t, r, p), false)
	if err != nil {
		t.Fatal(err)
	}
	stored := stagedRows(t, r, p, got)
	for i, row := range stored {
		if row["name"] != rows[i]["name"] {
			t.Errorf("row %d is another", i)
		}
	}
	if len(stored) != len(rows) {
		t.Errorf("%d rows, want %d", len(stored), len(rows))
	}
}
