package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/schemas"
)

// previewPage is a page whose contacts have what a preview has to tell of:
// personal data, keys and values that would steer a terminal, a value that does
// not fit, a record without an id.
const previewPage = `[
{"id":"c-1","created_at":"2026-01-01T00:00:00.000Z","updated_at":"2026-01-01T00:00:00.000Z","name":"Rosa Secreta","phone":"+56 9 1111 2222",
 "email":"rosa@secreta.example","blocked":"maybe","vip":true,"custom_fields":{"Lead Source":"web\u001b[31m\u202e","Size":"7","Día: #1 \"x\" \\ 😀":"2026-03-04","rut":"11.111.111-1"}},
{"id":"c-2","created_at":"2026-01-01T00:00:00.000Z","updated_at":"2026-01-01T00:00:00.000Z","name":"Ana Oculta","phone":null,
 "email":"ana@secreta.example","blocked":false,"a.b":1,"custom_fields":{"Lead Source":"a campaign with a name so long that no terminal has the room for it","Size":"12","rut":"22.222.222-2"}},
{"id":null,"name":"Nadie Escondida"}]`

const previewContract = `version: 1
undeclared: keep
columns:
  - {name: id, type: string, required: true}
  - {name: created_at, type: timestamp, required: true}
  - {name: updated_at, type: timestamp, required: true}
  - {name: name, type: string, policy: mask, description: "The name: as it came"}
  - {name: phone, type: string, policy: hash}
  - {name: email, type: string, policy: drop}
  - {name: blocked, type: bool}
custom_fields:
  customer: [custom_fields]
exclude: [cf_customer.rut]
`

// previewWorld is a pipeline over a source that has one page, under a contract.
func previewWorld(t *testing.T, contract string) *world {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(rw, previewPage) }))
	t.Cleanup(s.Close)
	w := newWorld(t, `version: 1
sources:
  crm: {type: contacts_api, url: "`+s.URL+`", api_key: "${KEY}", requests_per_second: 1000}
destinations:
  lake: {type: parquet, path: out}
pipelines:
  nightly: {source: crm, schema: contract.yaml, hash_key: "${HASH_KEY}", destinations: [lake]}
`)
	w.write(t, "contract.yaml", contract)
	w.env["KEY"], w.env["HASH_KEY"] = "k-123456789", "0123456789abcdef0123456789abcdef"
	return w
}

// secrets of previewPage under previewContract: values, never keys.
func hidesPreviewSecrets(t *testing.T, text string) {
	t.Helper()
	for _, secret := range []string{"Secreta", "Oculta", "Escondida", "1111", "secreta.example", "111.111", "222.222"} {
		if strings.Contains(text, secret) {
			t.Errorf("%q is shown in\n%s", secret, text)
		}
	}
}

func TestAPreviewTellsWhatTheContractMakesOfAPage(t *testing.T) {
	t.Parallel()
	w := previewWorld(t, previewContract)
	for width, name := range map[int]string{80: "preview_80.txt", 160: "preview_160.txt", 0: "preview_pipe.txt"} {
		got := w.run(t, Streams{OutTerminal: width > 0, Width: func() int { return width }}, "preview", "--rows", "2").mustBe(t, 0).out
		golden(t, name, got)
		hidesPreviewSecrets(t, got)
		if strings.ContainsAny(got, "\x1b\u202e") {
			t.Errorf("what steers a terminal is printed as it came: %q", got)
		}
		for line := range strings.Lines(got) {
			if width > 0 && strings.Contains(line, " | ") && displayWidth(strings.TrimRight(line, "\n")) > width {
				t.Errorf("a line has %d of %d columns: %s", displayWidth(line), width, line)
			}
		}
	}
	if entries, err := os.ReadDir(w.dir); err != nil || len(entries) != 2 {
		t.Errorf("preview left %v %v", entries, err)
	}
}

func TestAPreviewForProgramsHasAllOfIt(t *testing.T) {
	t.Parallel()
	text := previewWorld(t, previewContract).sluice(t, "preview", "nightly", "--json", "--rows", "1").mustBe(t, 0).out
	hidesPreviewSecrets(t, text)
	golden(t, "preview.json", text)
	var got struct {
		Requests, Contacts int64
		Columns            []previewColumn
		Rows               []map[string]any
		LeftOut            []leftOut       `json:"left_out"`
		SetAside           []previewRecord `json:"set_aside"`
	}
	if err := json.Unmarshal([]byte(text), &got); err != nil {
		t.Fatal(err)
	}
	if got.Requests != 1 || got.Contacts != 2 || len(got.Rows) != 1 || len(got.LeftOut) != 2 || len(got.SetAside) != 1 || got.SetAside[0].Position != 3 {
		t.Errorf("got %+v", got)
	}
}

func TestAContractMadeOfASampleIsOne(t *testing.T) {
	t.Parallel()
	w := previewWorld(t, previewContract)
	text := w.sluice(t, "preview", "nightly", "--contract").mustBe(t, 0).out
	hidesPreviewSecrets(t, text)
	golden(t, "preview_contract.yaml", text)
	made, err := schemas.ParseContract("made.yaml", []byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for column, key := range map[string]string{"cf_customer_lead_source": "Lead Source", "cf_customer_dia_1_x": `Día: #1 "x" \ 😀`} {
		col, ok := made.Column(schemas.FieldRef{Scope: schemas.ScopeCFCustomer, Key: key})
		if !ok || col.Name != column || col.Type != schemas.String {
			t.Errorf("field %q has column %+v", key, col)
		}
	}
	if col, ok := made.Column(schemas.FieldRef{Scope: schemas.ScopeContact, Key: "phone"}); !ok || col.Policy != schemas.Hash || col.Normal != schemas.Phone {
		t.Errorf("the policy of phone became %+v", col)
	}
	if len(made.Left) != 1 || len(made.Exclude) != 1 || !strings.Contains(text, "contact:a.b: a path cannot have a dot") {
		t.Errorf("left out: %+v, excluded: %+v in\n%s", made.Left, made.Exclude, text)
	}

	w.write(t, "contract.yaml", text)
	again := w.sluice(t, "preview", "nightly", "--contract").mustBe(t, 0).out
	twice, err := schemas.ParseContract("again.yaml", []byte(again))
	if err != nil || twice.Hash() != made.Hash() {
		t.Errorf("a contract made under itself differs (%v):\n%s", err, again)
	}
}

func TestAContractOfTheSandboxGivesTheSameTable(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	table := func() []schemas.Column {
		var got struct{ Columns []previewColumn }
		if err := json.Unmarshal([]byte(w.sluice(t, "preview", "--json").mustBe(t, 0).out), &got); err != nil {
			t.Fatal(err)
		}
		var out []schemas.Column
		for _, c := range got.Columns {
			out = append(out, schemas.Column{Name: c.Name, Type: c.Type, Source: c.Source})
		}
		return out
	}
	before := table()
	w.write(t, "made.yaml", w.sluice(t, "preview", "--contract").mustBe(t, 0).out)
	w.write(t, "pipelines.yaml", strings.Replace(small, "table: contacts", "table: contacts, schema: made.yaml", 1))
	after := table()
	if len(before) < 20 || len(before) != len(after) {
		t.Fatalf("%d columns became %d", len(before), len(after))
	}
	for i := range before {
		if before[i] != after[i] {
			t.Errorf("column %+v became %+v", before[i], after[i])
		}
	}
}

func TestAPreviewOfAFrozenTableShowsWhatWouldFail(t *testing.T) {
	t.Parallel()
	w := previewWorld(t, previewContract+"new_columns: freeze\n")
	got := w.sluice(t, "preview", "--rows", "0").mustBe(t, 0).out
	hidesPreviewSecrets(t, got)
	if !strings.Contains(got, "a run would fail: contact c-1: field ") || !strings.Contains(got, "+  vip") || !strings.Contains(got, "contract.yaml:") {
		t.Errorf("got\n%s", got)
	}
	w = previewWorld(t, previewContract+"new_columns: discard\n")
	got = w.sluice(t, "preview", "--rows", "0").mustBe(t, 0).out
	if strings.Contains(got, "+  vip") || !strings.Contains(got, "contact:vip ") || !strings.Contains(got, "1  new_columns: discard, line 14") {
		t.Errorf("got\n%s", got)
	}
}

func TestAPreviewOfSeveralPipelinesAsksForOne(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small+"  weekly: {source: crm, table: others, destinations: [lake]}\n")
	r := w.sluice(t, "preview").mustBe(t, 1)
	if !strings.Contains(r.err, "2 pipelines") || !strings.Contains(r.err, "nightly, weekly") {
		t.Errorf("got %s", r.err)
	}
	if r := w.sluice(t, "preview", "nightly", "--json", "--contract").mustBe(t, 1); !strings.Contains(r.err, "give one of them") {
		t.Errorf("got %s", r.err)
	}
	if _, err := os.Stat(filepath.Join(w.dir, ".sluice")); !os.IsNotExist(err) {
		t.Errorf("state was made: %v", err)
	}
}

func FuzzYAMLTextIsReadBackAsItWas(f *testing.F) {
	for _, s := range []string{"", "true", "1e3", "a: b", "# c", "\u0085\u2028\ufeff", "\x00\x1f\x7f", "😀\U000e0001", `\"'`, " x ", "- a", "*a", "é\tx\r\n", "0x1f", "~", "@", "Lead Source"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		s = strings.ToValidUTF8(s, "?")
		if s == "" {
			return // no path is empty
		}
		text := strings.Replace(previewContract, "policy: mask", "path: "+yamlText("cf_ticket."+s), 1)
		c, err := schemas.ParseContract("fuzz.yaml", []byte(text))
		if err != nil {
			t.Fatalf("%q: %v", s, err)
		}
		if _, ok := c.Column(schemas.FieldRef{Scope: schemas.ScopeCFTicket, Key: s}); !ok {
			t.Errorf("%q was read as %+v", s, c.Columns[3].Ref)
		}
	})
}
