package bqtest

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"cloud.google.com/go/bigquery"
	"cloud.google.com/go/bigquery/storage/apiv1/storagepb"
	"google.golang.org/grpc/codes"
	"google.golang.org/protobuf/types/known/timestamppb"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

func TestRequestsThatBreakARuleAreRefused(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("testdata/refused_rest.txt")
	if err != nil {
		t.Fatal(err)
	}
	s := serve(t)
	s.query("CREATE TABLE t (id STRING, n INT64, ts TIMESTAMP) PARTITION BY TIMESTAMP_TRUNC(ts, MONTH); INSERT INTO t (n) VALUES (1); CREATE VIEW v AS SELECT id FROM ds.t")
	s.query("SELECT 1", func(q *bigquery.Query) { q.JobID = "known" })
	paths := strings.NewReplacer(" DS", " /projects/test-project/datasets/ds", " JOBS", " /projects/test-project/jobs")
	for i, line := range strings.Split(string(b), "\n") {
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		request, want, ok := strings.Cut(line, " => ")
		code, text, ok2 := strings.Cut(want, " ")
		if !ok || !ok2 {
			t.Fatalf("line %d says not what to expect", i+1)
		}
		if got, answer := s.call(paths.Replace(request)); fmt.Sprint(got) != code || !strings.Contains(answer, text) {
			t.Errorf("%s:\n got %d %s\nwant %s", request, got, answer, want)
		}
	}
	if got := s.one("SELECT COUNT(*) FROM t"); got != int64(1) {
		t.Errorf("%v rows", got)
	}
}

func TestLabelsDescriptionsRequestsAndRowsHaveTheirLimits(t *testing.T) {
	t.Parallel()
	s := serve(t)
	schema := bigquery.Schema{{Name: "a", Type: bigquery.StringFieldType}}
	labels := map[string]string{}
	for i := range maxLabels + 1 {
		labels[fmt.Sprint("l", i)] = ""
	}
	err := s.ds.Table("x").Create(t.Context(), &bigquery.TableMetadata{Schema: schema, Labels: labels})
	refuses(t, "65 labels", err, "Too many labels")
	delete(labels, "l0")
	if err := s.ds.Table("x").Create(t.Context(), &bigquery.TableMetadata{Schema: schema, Labels: labels}); err != nil {
		t.Errorf("64 labels: %v", err)
	}
	long := bigquery.Schema{{Name: "a", Type: bigquery.StringFieldType, Description: strings.Repeat("é", maxDescription+1)}}
	refuses(t, "a long description", s.ds.Table("y").Create(t.Context(), &bigquery.TableMetadata{Schema: long}), "longer than 1024")
	long[0].Description = long[0].Description[2:]
	if err := s.ds.Table("y").Create(t.Context(), &bigquery.TableMetadata{Schema: long}); err != nil {
		t.Errorf("a description of 1,024 characters: %v", err)
	}
	if code, _ := s.call("POST /projects/test-project/datasets " + strings.Repeat(" ", maxBody) + "{}"); code != http.StatusRequestEntityTooLarge {
		t.Errorf("a large request: %d", code)
	}
	if _, err := readLine(make([]byte, maxLine+1), nil, nil); err == nil || !strings.Contains(err.Error(), "maximum allowed size") {
		t.Errorf("a large row: %v", err)
	}
	s.query("CREATE TABLE long (a STRING)", func(q *bigquery.Query) { q.JobID = strings.Repeat("j", 1024) })
	q := s.client.Query("SELECT 1")
	q.JobID = strings.Repeat("j", 1025)
	if _, err := q.Run(t.Context()); codeOf(err) != http.StatusBadRequest {
		t.Errorf("an id of 1,025 characters: %v", err)
	}
}

func TestChunksOfAnUploadFollowEachOther(t *testing.T) {
	t.Parallel()
	u := &upload{}
	for i, x := range []struct {
		header, chunk string
		last, ok      bool
	}{
		{"bytes 0-1", "ab", false, false},
		{"bytes 1-2/*", "ab", false, false},
		{"bytes 0-2/*", "ab", false, false},
		{"bytes a-b/*", "ab", false, false},
		{"bytes 0-1/*", "ab", false, true},
		{"bytes 0-1/*", "ab", false, false},
		{"bytes 2-3/3", "cd", false, false},
		{"bytes */x", "", false, false},
		{"bytes */*", "", false, true},
	} {
		before := len(u.data)
		last, err := u.add(x.header, []byte(x.chunk))
		if last != x.last || (err == nil) != x.ok {
			t.Errorf("%d: %v, %v", i, last, err)
		}
		if err != nil {
			u.data = u.data[:before]
		}
	}
	if last, err := u.add("bytes */2", nil); !last || err != nil || string(u.data) != "ab" {
		t.Errorf("the end: %q, %v, %v", u.data, last, err)
	}
}

func TestLoadsOfOtherSchemasAreRefused(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t (n INT64 NOT NULL, x STRING)")
	field := func(name string, kind bigquery.FieldType, required bool) *bigquery.FieldSchema {
		return &bigquery.FieldSchema{Name: name, Type: kind, Required: required}
	}
	add := func(l *bigquery.Loader) { l.SchemaUpdateOptions = []string{"ALLOW_FIELD_ADDITION"} }
	for i, c := range []struct {
		schema bigquery.Schema
		set    func(*bigquery.Loader)
		want   string
	}{
		{bigquery.Schema{field("n", bigquery.IntegerFieldType, true), field("y", bigquery.StringFieldType, true)}, add, "Cannot add required fields"},
		{bigquery.Schema{field("n", bigquery.StringFieldType, true)}, add, "Field n has changed type from INTEGER to STRING"},
		{bigquery.Schema{field("n", bigquery.IntegerFieldType, true), field("x", bigquery.StringFieldType, true)}, add, "changed mode from NULLABLE to REQUIRED"},
		{bigquery.Schema{field("n", bigquery.IntegerFieldType, false)}, add, "changed mode from REQUIRED to NULLABLE"},
		{nil, func(l *bigquery.Loader) { l.Dst = s.ds.Table("v") }, "currently a VIEW"},
		{nil, func(l *bigquery.Loader) { l.Src.(*bigquery.ReaderSource).SourceFormat = bigquery.CSV }, "source format"},
		{nil, func(l *bigquery.Loader) { l.Src.(*bigquery.ReaderSource).MaxBadRecords = 1 }, "maxBadRecords"},
		{nil, func(l *bigquery.Loader) { l.Src.(*bigquery.ReaderSource).AutoDetect = true }, "autodetect"},
		{nil, func(l *bigquery.Loader) {
			l.TimePartitioning = &bigquery.TimePartitioning{Type: bigquery.DayPartitioningType, Field: "n"}
		}, "Cannot change partitioning"},
	} {
		if i == 4 {
			s.query("CREATE VIEW v AS SELECT n FROM ds.t")
		}
		row := map[string]string{"n": "1"}
		for _, f := range c.schema {
			row[f.Name] = "1"
		}
		line, err := json.Marshal(row)
		if err != nil {
			t.Fatal(err)
		}
		_, err = s.load("", string(line), func(l *bigquery.Loader) { l.Src.(*bigquery.ReaderSource).Schema = c.schema }, c.set)
		refuses(t, fmt.Sprint(i), err, c.want)
	}
	_, err := s.load("", `{"n": 1}`, func(l *bigquery.Loader) {
		l.Src.(*bigquery.ReaderSource).Schema = bigquery.Schema{field("n", bigquery.IntegerFieldType, false)}
		l.SchemaUpdateOptions = []string{"ALLOW_FIELD_RELAXATION"}
	})
	if err != nil {
		t.Errorf("relaxed: %v", err)
	}
	for line, want := range map[string]string{
		`{"n": 9007199254740992}`: "beyond 2^53", `{"n": -9007199254740992}`: "beyond 2^53", `{"n": true}`: "is a boolean", `{"n": "true"}`: "field: n",
	} {
		_, err := s.load("", line)
		refuses(t, line, err, want)
	}
	for _, line := range []string{`{"n": 9007199254740991}`, `{"n": "9007199254740993"}`} {
		if _, err := s.load("", line); err != nil {
			t.Errorf("%s: %v", line, err)
		}
	}
	if _, err := s.load("loaded", `{"n": 1}`); err != nil {
		t.Fatal(err)
	}
	if code, answer := s.call("GET /projects/test-project/queries/loaded"); code != http.StatusBadRequest || !strings.Contains(answer, "no query") {
		t.Errorf("results of a load: %d %s", code, answer)
	}
}

func TestATableWithChangesIsNotOverwritten(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("contacts", "id:STRING, n:INT64", "id")
	st.connect(t.Context()).ok(protoReq(ref.defaultStream(), changes, upsert("a", 1, "1")))
	sv := &service{t, st.s, st.client(), st.client().Dataset("crm")}
	_, answer := sv.call("POST /projects/test-project/jobs " + queryJob("SELECT 'b' AS id, 1 AS n",
		`"writeDisposition": "WRITE_TRUNCATE", "destinationTable": {"projectId": "test-project", "datasetId": "crm", "tableId": "contacts"}`))
	if !strings.Contains(answer, "WRITE_TRUNCATE is not supported") {
		t.Error(answer)
	}
	if got := st.rows(ref); len(got) != 1 || got[0] != "a 1" {
		t.Errorf("rows: %v", got)
	}
}

func TestRowsThatAreNoRowsOfTheirSchemaAreRefused(t *testing.T) {
	t.Parallel()
	st := start(t, Options{})
	ref := st.table("t", "s:STRING, n:INT64, f:FLOAT64, g:FLOAT64, ts:TIMESTAMP, b:BOOL")
	c := st.connect(t.Context())
	schema := message("s:string, n:int64, f:double, g:float, b:bool")
	c.ok(protoReq(ref.defaultStream(), schema, wire("a", 1, 0.5)))
	for what, row := range map[string][]byte{
		"a number for a string":  {0x08, 0},
		"a string for a number":  {0x12, 0},
		"a number for a double":  {0x18, 0, 0, 0, 0, 0, 0, 0, 0},
		"a number for a float":   {0x20, 0, 0, 0, 0},
		"half a double":          {0x19, 0, 0},
		"half a float":           {0x25, 0, 0},
		"half a string":          {0x0a, 9, 'a'},
		"half a number":          {0x10, 0x80},
		"half a tag":             {0x80},
		"a field without a name": {0x78, 1},
	} {
		if r, err := c.try(protoReq("", nil, row)); err != nil || len(r.GetRowErrors()) != 1 {
			t.Errorf("%s: %v, %v", what, r, err)
		}
	}
	times := nest(message("ts:google_protobuf_Timestamp"), &timestamppb.Timestamp{})
	d := st.connect(t.Context())
	d.ok(protoReq(ref.defaultStream(), times, wire([]byte{0x08, 1})))
	for what, value := range map[string][]byte{
		"nanoseconds below 0":        {0x10, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1},
		"a second of nanoseconds":    {0x10, 0x80, 0x94, 0xeb, 0xdc, 0x03},
		"a field of something else":  {0x18, 1},
		"text for a number":          {0x0a, 1, 'a'},
		"half a tag":                 {0x80},
		"before the year 1, by hand": {0x08, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 1},
	} {
		if r, err := d.try(protoReq("", nil, wire(value))); err != nil || len(r.GetRowErrors()) != 1 {
			t.Errorf("%s: %v, %v", what, r, err)
		}
	}
	if r, err := d.try(protoReq("", nil, []byte{0x08, 0})); err != nil || len(r.GetRowErrors()) != 1 {
		t.Errorf("a number for a message: %v, %v", r, err)
	}
	if got := st.rows(ref); len(got) != 2 {
		t.Errorf("rows: %v", got)
	}
	w := st.connect(t.Context())
	wrapped := nest(message("n:google_protobuf_Int64Value"), &wrapperspb.Int64Value{})
	w.ok(protoReq(ref.defaultStream(), wrapped, wire([]byte{0x08, 1})))
	for what, value := range map[string][]byte{"another field in a wrapper": {0x10, 1}, "half a wrapper": {0x08}, "half a tag": {0x80}} {
		if r, err := w.try(protoReq("", nil, wire(value))); err != nil || len(r.GetRowErrors()) != 1 {
			t.Errorf("%s: %v, %v", what, r, err)
		}
	}
	e := st.connect(t.Context())
	e.refused(protoReq(ref.defaultStream(), message("s:string, S:string"), wire("a", "b")), codes.InvalidArgument, "twice")
	f := st.connect(t.Context())
	f.refused(&storagepb.AppendRowsRequest{WriteStream: ref.defaultStream(), Rows: &storagepb.AppendRowsRequest_ProtoRows{
		ProtoRows: &storagepb.AppendRowsRequest_ProtoData{WriterSchema: &storagepb.ProtoSchema{}},
	}}, codes.InvalidArgument, "no proto_descriptor")
}

func TestAQueryFillsWhatItsDestinationRequires(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t (n INT64 NOT NULL, x STRING)")
	into := func(q *bigquery.Query) { q.Dst, q.WriteDisposition = s.ds.Table("t"), bigquery.WriteAppend }
	s.refuse("SELECT 'a' AS x", "Missing required field: n", into)
	s.refuse("SELECT IF(x = 1, NULL, 'a') AS x, IF(x = 1, NULL, 1) AS n FROM UNNEST([1, 2]) AS x", "n", into)
	if got := s.one("SELECT COUNT(*) FROM t"); got != int64(0) {
		t.Errorf("%v rows", got)
	}
}

func TestAnUploadHasAJobItsMediaAndADestination(t *testing.T) {
	t.Parallel()
	s := serve(t)
	for body, want := range map[string]string{
		"": "read upload", "--x\r\n\r\n{}\r\n--x--": "read upload", "--x\r\n\r\n{}\r\n--x\r\n\r\n": "read upload",
		"--x\r\n\r\n{\"configuration\": {\"load\": {\"sourceFormat\": \"NEWLINE_DELIMITED_JSON\"}}}\r\n--x\r\n\r\n{}\r\n--x--": "configuration.load.destinationTable",
	} {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL()+"/upload/bigquery/v2/projects/test-project/jobs?uploadType=multipart", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "multipart/related; boundary=x")
		answer, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(answer.Body)
		if err != nil || answer.Body.Close() != nil || !strings.Contains(string(b), want) {
			t.Errorf("%q: %s, %v; want %q", body, b, err, want)
		}
	}
	refuses(t, "a string over two lines", func() error { _, err := lex("SELECT 'a\nb'"); return err }(), "Unclosed string literal")
}

func TestErrorsOfRESTHaveTheirCodesInStreams(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		err  *apiError
		code codes.Code
	}{
		{notFound("Table", "t"), codes.NotFound},
		{invalid("no"), codes.InvalidArgument},
		{unknown("no"), codes.Unimplemented},
		{&apiError{status: http.StatusForbidden, message: "no"}, codes.Internal},
	} {
		wantStatus(t, asGRPC(fmt.Errorf("write: %w", c.err)), c.code, c.err.message)
	}
}

func TestAViewTakesNoStreams(t *testing.T) {
	t.Parallel()
	s := serve(t)
	s.query("CREATE TABLE t (id STRING); CREATE VIEW v AS SELECT id FROM ds.t")
	_, err := s.writeTable(tableRef{s.Project(), "ds", "v"})
	wantStatus(t, err, codes.InvalidArgument, "is a view")
}
