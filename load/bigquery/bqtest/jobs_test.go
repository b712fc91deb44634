package bqtest

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"cloud.google.com/go/bigquery"
	"google.golang.org/api/googleapi"
)

// load runs a load job of JSON lines.
func (s *service) load(id, data string, set ...func(*bigquery.Loader)) (*bigquery.JobStatus, error) {
	return s.loadFrom(strings.NewReader(data), id, bigquery.JSON, set...)
}

func (s *service) loadFrom(r io.Reader, id string, format bigquery.DataFormat, set ...func(*bigquery.Loader)) (*bigquery.JobStatus, error) {
	src := bigquery.NewReaderSource(r)
	src.SourceFormat = format
	l := s.ds.Table("t").LoaderFrom(src)
	l.JobID = id
	for _, f := range set {
		f(l)
	}
	job, err := l.Run(context.Background())
	if err != nil {
		return nil, err
	}
	status, err := job.Wait(context.Background())
	if err != nil {
		return nil, err
	}
	return status, status.Err()
}

func TestAJobIDIsSpentOnceAlsoByAFailedJob(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t (n INT64)")
	if _, err := s.load("one", `{"n": "x"}`); err == nil {
		t.Error("a bad row was loaded")
	}
	if _, err := s.load("one", `{"n": 1}`); codeOf(err) != 409 {
		t.Errorf("the id again: %v", err)
	}
	if _, err := s.load("two", `{"n": 1}`); err != nil {
		t.Error(err)
	}
	q := s.client.Query("SELECT 1")
	q.JobID = "two"
	if _, err := q.Run(t.Context()); codeOf(err) != 409 {
		t.Errorf("the id again for a query: %v", err)
	}
	j, err := s.client.JobFromID(t.Context(), "one")
	if err != nil || j.LastStatus().Err() == nil {
		t.Errorf("the failed job: %v, %v", j, err)
	}
	if got := s.one("SELECT COUNT(*) FROM t"); got != int64(1) {
		t.Errorf("%v rows", got)
	}
}

func TestLoadsAreTypedStrictlyAndTellLineAndField(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t (id STRING NOT NULL, n INT64, f FLOAT64, b BOOL, ts TIMESTAMP, d DATE, j JSON, y BYTES)")
	status, err := s.load("", `{"id": "a", "n": "9223372036854775807", "f": 1.5, "b": true, "ts": "2024-01-01T00:00:00.000001Z", "d": "2024-01-02", "j": {"x": [1]}, "y": "AP8="}
{"ID": "b", "n": null, "j": "text"}
`)
	if err != nil {
		t.Fatal(err)
	}
	if st := status.Statistics.Details.(*bigquery.LoadStatistics); st.OutputRows != 2 {
		t.Errorf("%d rows", st.OutputRows)
	}
	if got := s.one("SELECT FORMAT('%d %d %s', n, UNIX_MICROS(ts), JSON_VALUE(j, '$.x[0]')) FROM t WHERE id = 'a'"); got != "9223372036854775807 1704067200000001 1" {
		t.Errorf("got %v", got)
	}
	for line, want := range map[string]string{
		`{"id": "a", "n": 1.5}`:                 "field: n",
		`{"id": "a", "n": true}`:                "field: n",
		`{"id": "a", "n": 9223372036854775808}`: "field: n",
		`{"id": "a", "b": 1}`:                   "field: b",
		`{"id": "a", "ts": "yesterday"}`:        "field: ts",
		`{"id": "a", "d": 20240101}`:            "field: d",
		`{"id": {"x": 1}}`:                      "field: id",
		`{"id": "a", "more": 1}`:                "no such field: more",
		`{"id": "a", "ID": "b"}`:                "specified twice",
		`{"n": 1}`:                              "missing required field: id",
		`{"id": "a"`:                            "line 2",
		`{"id": "a"} {"id": "b"}`:               "after the object",
		`[1]`:                                   "no object",
	} {
		if _, err := s.load("", `{"id": "fine"}`+"\n"+line); err == nil || !strings.Contains(err.Error(), want) || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%s: %v, want one with %q of line 2", line, err, want)
		}
	}
	if got := s.one("SELECT COUNT(*) FROM t"); got != int64(2) {
		t.Errorf("%v rows: a failed load left some", got)
	}
}

func TestLoadsObeyTheirDispositions(t *testing.T) {
	t.Parallel()
	s := serve(t)
	schema := func(fields ...*bigquery.FieldSchema) func(*bigquery.Loader) {
		return func(l *bigquery.Loader) { l.Src.(*bigquery.ReaderSource).Schema = fields }
	}
	n, x := &bigquery.FieldSchema{Name: "n", Type: bigquery.IntegerFieldType}, &bigquery.FieldSchema{Name: "x", Type: bigquery.StringFieldType}
	write := func(d bigquery.TableWriteDisposition) func(*bigquery.Loader) {
		return func(l *bigquery.Loader) { l.WriteDisposition = d }
	}
	if _, err := s.load("", `{"n": 1}`, schema(n), func(l *bigquery.Loader) { l.CreateDisposition = bigquery.CreateNever }); err == nil {
		t.Error("a table was created")
	}
	for i, c := range []struct {
		data string
		set  []func(*bigquery.Loader)
		want string
		rows int64
	}{
		{`{"n": 1}`, []func(*bigquery.Loader){schema(n)}, "", 1},
		{`{"n": 2}`, nil, "", 2},
		{`{"n": 3}`, []func(*bigquery.Loader){write(bigquery.WriteEmpty)}, "Already Exists", 2},
		{`{"n": 4, "x": "a"}`, []func(*bigquery.Loader){schema(n, x)}, "Cannot add fields (field: x)", 2},
		{`{"n": 4, "x": "a"}`, []func(*bigquery.Loader){schema(n, x), func(l *bigquery.Loader) { l.SchemaUpdateOptions = []string{"ALLOW_FIELD_ADDITION"} }}, "", 3},
		{`{"n": "z"}`, []func(*bigquery.Loader){write(bigquery.WriteTruncate)}, "field: n", 3},
		{`{"n": 5}`, []func(*bigquery.Loader){write(bigquery.WriteTruncate)}, "", 1},
	} {
		_, err := s.load("", c.data, c.set...)
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("load %d: %v, want %q", i, err, c.want)
		}
		if got := s.one("SELECT COUNT(*) FROM t"); got != c.rows {
			t.Errorf("load %d: %v rows, want %d", i, got, c.rows)
		}
	}
}

func TestLargeAndCompressedUploadsArriveWhole(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t (n INT64, pad STRING)")
	var b bytes.Buffer
	pad := strings.Repeat("x", 100_000)
	for i := range 200 {
		fmt.Fprintf(&b, `{"n": %d, "pad": "%s"}`+"\n", i, pad)
	}
	if _, err := s.loadFrom(bytes.NewReader(b.Bytes()), "", bigquery.JSON); err != nil { // more than one chunk of 16 MB
		t.Fatal(err)
	}
	var z bytes.Buffer
	w := gzip.NewWriter(&z)
	if _, err := io.Copy(w, &b); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	if _, err := s.loadFrom(&z, "", bigquery.JSON); err != nil {
		t.Fatal(err)
	}
	if got := s.query("SELECT COUNT(*), COUNT(DISTINCT n), SUM(LENGTH(pad)) FROM t")[0]; got[0] != int64(400) || got[1] != int64(200) || got[2] != int64(40_000_000) {
		t.Errorf("got %v", got)
	}
}

func TestAFaultHitsTheCallsItNames(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t (n INT64)")
	get := func() error {
		_, err := s.ds.Table("t").Metadata(t.Context())
		return err
	}
	s.Inject(Fault{Call: "tables.get", Skip: 1, Status: 403, Reason: "accessDenied", Message: "no"})
	if err := get(); err != nil {
		t.Errorf("the first: %v", err)
	}
	var e *googleapi.Error
	if err := get(); !errors.As(err, &e) || e.Code != 403 || e.Errors[0].Reason != "accessDenied" {
		t.Errorf("the second: %v", err)
	}
	if err := get(); err != nil {
		t.Errorf("the third: %v", err)
	}
	s.Inject(Fault{Call: "tables.delete", After: true, Status: 400, Reason: "invalid"})
	if err := s.ds.Table("t").Delete(t.Context()); codeOf(err) != 400 {
		t.Errorf("the delete: %v", err)
	}
	if err := get(); codeOf(err) != 404 {
		t.Errorf("the table after a delete whose answer was lost: %v", err)
	}
	s.Inject(Fault{Call: "jobs.insert", After: true, Drop: true})
	q := s.client.Query("CREATE TABLE ds.made (n INT64)")
	q.JobID = "lost"
	if _, err := q.Run(t.Context()); err == nil {
		t.Error("the job's answer arrived")
	}
	s.query("SELECT * FROM made")
}

func TestAJobThatIsHeldRunsUntilItIsCancelled(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.Inject(Fault{Call: "job", Delay: time.Hour})
	j, err := s.client.Query("SELECT 1").Run(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if st, err := j.Status(t.Context()); err != nil || st.State != bigquery.Running {
		t.Errorf("%+v, %v", st, err)
	}
	if err := j.Cancel(t.Context()); err != nil {
		t.Fatal(err)
	}
	st, err := j.Status(t.Context())
	if err != nil || st.State != bigquery.Done || st.Err() == nil || !strings.Contains(st.Err().Error(), "cancelled") {
		t.Errorf("%+v, %v", st, err)
	}
	s.Inject(Fault{Call: "job", Status: 400, Reason: "resourcesExceeded", Message: "too much"})
	s.refuse("SELECT 1", "too much")
}

func TestWhatTheStandInDoesNotKnowItRefuses(t *testing.T) {
	t.Parallel()
	s := serve(t)
	q := s.client.Query("SELECT 1")
	q.UseLegacySQL = true
	if _, err := q.Run(t.Context()); codeOf(err) != 501 {
		t.Errorf("legacy SQL: %v", err)
	}
	q = s.client.Query("SELECT 1")
	q.CreateSession = true
	if _, err := q.Run(t.Context()); codeOf(err) != 501 {
		t.Errorf("a session: %v", err)
	}
	if _, err := s.load("", "{}", func(l *bigquery.Loader) { l.Src.(*bigquery.ReaderSource).IgnoreUnknownValues = true }); err == nil {
		t.Error("ignoreUnknownValues was taken")
	}
	err := s.ds.Table("x").Create(t.Context(), &bigquery.TableMetadata{Schema: bigquery.Schema{{Name: "a", Type: bigquery.StringFieldType}}, DefaultCollation: "und:ci"})
	if codeOf(err) != 501 {
		t.Errorf("a collation: %v", err)
	}
}

func TestAJobThatTookEffectDoesNotFail(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]Fault{"an error": {Drop: true}, "a cancellation": {Delay: time.Hour}} {
		s := serve(t)
		s.query("CREATE TABLE t (n INT64)")
		goOn := make(chan struct{})
		f.Call, f.After, f.OnCall = "job", true, func() { <-goOn }
		s.Inject(f)
		src := bigquery.NewReaderSource(strings.NewReader(`{"n": 1}`))
		src.SourceFormat = bigquery.JSON
		j, err := s.ds.Table("t").LoaderFrom(src).Run(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if st, err := j.Status(t.Context()); err != nil || st.State != bigquery.Running {
			t.Errorf("%s: before, %+v, %v", name, st, err)
		}
		close(goOn)
		if f.Delay > 0 {
			if err := j.Cancel(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		st, err := j.Wait(t.Context())
		if err != nil || st.Err() != nil {
			t.Errorf("%s: after, %+v, %v", name, st, err)
		}
		if got := s.query("SELECT n FROM t"); len(got) != 1 {
			t.Errorf("%s: rows %v", name, got)
		}
	}
}
