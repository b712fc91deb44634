//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package cli

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/clock"
)

const protectedPipelines = `version: 1
sources:
  crm: {type: contacts_api, url: "SOURCE", api_key: "${API_KEY}", requests_per_second: 1000}
destinations:
  lake: {type: parquet, path: out}
  local: {type: duckdb, path: out/contacts.duckdb}
pipelines:
  nightly: {source: crm, schema: contract.yaml, hash_key: "${HASH_KEY:-}", destinations: [lake, local]}
`

// keptContract is leakContract with every value kept.
func keptContract() string {
	return strings.NewReplacer(", policy: hash", "", ", policy: mask", "", ", policy: drop", "", "undeclared: hash\n", "", "max_columns: 6\n", "").Replace(leakContract)
}

// protectedWorld is a pipeline of a few contacts, whose contract keeps all.
func protectedWorld(t *testing.T) (*world, *leakSource) {
	t.Helper()
	s := newLeakSource(t)
	w := newWorld(t, strings.Replace(protectedPipelines, "SOURCE", s.URL, 1))
	w.write(t, "contract.yaml", keptContract())
	w.env = map[string]string{"API_KEY": leakAPIKey, "HASH_KEY": leakHashKey}
	w.clock = clock.System{}
	for n := range 5 {
		s.put(plantedContact(n, 0))
	}
	return w, s
}

func TestAContractThatHashesNeedsAKeyBeforeAnythingIsFetched(t *testing.T) {
	t.Parallel()
	w, s := protectedWorld(t)
	w.write(t, "pipelines.yaml", strings.Replace(w.text(t, "pipelines.yaml"), `hash_key: "${HASH_KEY:-}", `, "", 1))
	w.write(t, "contract.yaml", leakContract)
	for _, command := range [][]string{{"validate"}, {"run"}, {"preview", "nightly"}, {"verify", "--source", "nightly"}} {
		got := w.sluice(t, command...).mustBe(t, 1)
		if !strings.Contains(got.err, "pipelines.yaml:8:34") || !strings.Contains(got.err, "the contract of pipeline nightly hashes values") || !strings.Contains(got.err, "openssl rand -hex 32") {
			t.Errorf("%v said\n%s", command, got.err)
		}
	}
	if s.pages > 0 {
		t.Errorf("%d requests were made", s.pages)
	}
}

func TestAnotherHashKeyHasEverythingReadAgain(t *testing.T) {
	t.Parallel()
	w, _ := protectedWorld(t)
	w.write(t, "contract.yaml", leakContract)
	hashes := func() string {
		return w.sluice(t, "query", "SELECT string_agg(phone, ',' ORDER BY id) FROM contacts").mustBe(t, 0).out
	}
	w.sluice(t, "run").mustBe(t, 0)
	first := hashes()
	if got := w.sluice(t, "run").mustBe(t, 0).err; !strings.Contains(got, "reading what changed") {
		t.Errorf("with the same key:\n%s", got)
	}
	w.env["HASH_KEY"] = leakHashKey + "x"
	if got := w.sluice(t, "verify", "--source", "nightly").mustBe(t, 1).err; !strings.Contains(got, "the hash key changed") {
		t.Errorf("compared under another key:\n%s", got)
	}
	got := w.sluice(t, "run").mustBe(t, 0)
	if !strings.Contains(got.err, "reading everything (the hash key changed)") || !strings.Contains(got.out, "5 changed") || strings.Contains(got.out, "plain text") {
		t.Errorf("with another key:\n%s\n%s", got.err, got.out)
	}
	if second := hashes(); second == first {
		t.Error("the hashes stayed")
	}
}

func TestAPolicyThatBeginsToProtectSaysWhatStaysPlain(t *testing.T) {
	t.Parallel()
	w, s := protectedWorld(t)
	s.put(rejectedContact(900))
	w.sluice(t, "run").mustBe(t, 0)
	if state := w.text(t, ".sluice/state/pipeline.nightly.json"); !strings.Contains(state, `"plantedaccount"`) {
		t.Fatalf("state does not know the account, so that this test shows nothing:\n%s", state)
	}
	w.write(t, "contract.yaml", leakContract)
	saysBeforehandWhatStays(t, w, true)
	got := w.sluice(t, "run").mustBe(t, 0)
	saysBeforehandWhatStays(t, w, false)
	for _, want := range []string{
		"plain text  the contract protects active_ticket_v2_id", "more from now on; as plain text stays",
		"lake: up to 5 versions in its history, and contacts that the source no longer shows", "local: up to 5 versions in its history",
		"1 record set aside whole", "`sluice erase --id`",
	} {
		if !strings.Contains(got.out, want) {
			t.Errorf("no %q in\n%s", want, got.out)
		}
	}
	if !strings.Contains(got.err, "(the contract changed)") || !strings.Contains(got.err, "stays as plain text") {
		t.Errorf("while it ran:\n%s", got.err)
	}
	if found := leaks(w.sluice(t, "query", "FROM contacts").mustBe(t, 0).out); len(found) > 0 {
		t.Errorf("the table still has %q", found)
	}
	state := w.text(t, ".sluice/state/pipeline.nightly.json")
	if found := leaks(state); len(found) > 0 || !strings.Contains(state, `"hash_key_id"`) {
		t.Errorf("state has %q:\n%s", found, state)
	}
	if got := w.sluice(t, "run").mustBe(t, 0).out; strings.Contains(got, "plain text") {
		t.Errorf("it is said again:\n%s", got)
	}
	saysWhereItStays(t, w, "lake", "local")
	w.write(t, "contract.yaml", keptContract())
	saysWhereItStays(t, w) // nothing is protected
	w.write(t, "contract.yaml", leakContract)
	if err := os.RemoveAll(filepath.Join(w.dir, "out", "contacts")); err != nil {
		t.Fatal(err)
	}
	w.sluice(t, "run", "--full").mustBe(t, 0)
	saysWhereItStays(t, w, "local") // the other table began anew
	s.mu.Lock()
	for _, c := range s.contacts {
		c["client_id"] = "another account"
		c["updated_at"] = time.Now().UTC().Format("2006-01-02T15:04:05.000Z")
	}
	s.mu.Unlock()
	if got := w.sluice(t, "run").mustBe(t, 1).err; !strings.Contains(got, "hmac-sha256:") || strings.Contains(got, "another account") {
		t.Errorf("contacts of another account were taken, or it is named:\n%s", got)
	}
}

// saysWhereItStays fails unless verify and schema name these destinations, and no
// other, as those that have plain text of phone from before.
func saysWhereItStays(t *testing.T, w *world, want ...string) {
	t.Helper()
	var verified, listed []string
	for _, e := range events(t, w.sluice(t, "verify", "--json").mustBe(t, 0).out) {
		if columns, _ := e["plain_text"].([]any); slices.Contains(columns, any("phone")) {
			verified = append(verified, e["destination"].(string))
		}
	}
	var schema struct {
		Columns []struct {
			Name    string   `json:"name"`
			PlainIn []string `json:"plain_text_in"`
		} `json:"columns"`
	}
	if err := json.Unmarshal([]byte(w.sluice(t, "schema", "nightly", "--json").mustBe(t, 0).out), &schema); err != nil {
		t.Fatal(err)
	}
	for _, c := range schema.Columns {
		switch c.Name {
		case "phone":
			listed = c.PlainIn
		case "id", "platform":
			if c.PlainIn != nil {
				t.Errorf("%s is not protected, and said to be plain in %v", c.Name, c.PlainIn)
			}
		}
	}
	if !slices.Equal(verified, want) || !slices.Equal(listed, want) {
		t.Errorf("verify names %q, schema %q, want %q", verified, listed, want)
	}
	said := w.sluice(t, "verify").mustBe(t, 0).out
	if got := strings.Count(said, "plain text  "); got != len(want) {
		t.Errorf("verify says it %d times, want %d:\n%s", got, len(want), said)
	}
	said = w.sluice(t, "schema", "nightly").mustBe(t, 0).out
	for _, name := range []string{"lake", "local"} {
		if strings.Contains(said, "("+name+" has plain text of ") != slices.Contains(want, name) {
			t.Errorf("of %s schema says\n%s", name, said)
		}
	}
}

// A tombstone without its plain text has no hash of it either, and tables agree.
func TestTheHashOfATombstoneIsNotThatOfItsPlainText(t *testing.T) {
	t.Parallel()
	w, s := protectedWorld(t)
	w.sluice(t, "run").mustBe(t, 0)
	hash := func() string {
		return w.sluice(t, "query", "SELECT _sluice_hash FROM contacts_all WHERE id = 'contact-001'").mustBe(t, 0).out
	}
	before := hash()
	s.remove("contact-001")
	w.write(t, "contract.yaml", leakContract)
	w.sluice(t, "run").mustBe(t, 0)
	if hash() != before {
		t.Fatal("the contact was read again, so that this test shows nothing")
	}
	w.sluice(t, "reconcile", "nightly", "--max-share", "50%").mustBe(t, 0)
	if hash() == before {
		t.Error("the tombstone has the hash of the plain text")
	}
	w.sluice(t, "verify").mustBe(t, 0)
	w.sluice(t, "verify", "--parity").mustBe(t, 0)
	w.sluice(t, "verify", "--source", "--sample", "all", "nightly").mustBe(t, 0)
	w.write(t, "contract.yaml", keptContract())
	s.put(plantedContact(1, 0)) // it returns as it was
	w.sluice(t, "run").mustBe(t, 0)
	if hash() != before {
		t.Error("the contact that returned has another hash")
	}
	w.sluice(t, "verify").mustBe(t, 0)
	w.sluice(t, "verify", "--parity").mustBe(t, 0)
}

func TestARunsRecordCountsWhatTheContractDidToValues(t *testing.T) {
	t.Parallel()
	w, _ := protectedWorld(t)
	w.write(t, "contract.yaml", strings.NewReplacer("undeclared: hash\n", "undeclared: hash\nnew_columns: discard\n", "platform, type: string", "platform, type: int64").Replace(leakContract))
	w.sluice(t, "run").mustBe(t, 0)
	past := events(t, w.sluice(t, "runs", "--json").mustBe(t, 0).out)
	record, _ := past[0]["coverage"].(map[string]any)
	discarded, _ := record["discarded"].(map[string]any)
	misfits, _ := record["misfits"].(map[string]any)
	policies, _ := record["policies"].(map[string]any)
	if discarded["contact:notes"] != 5.0 || misfits["platform"] != 5.0 {
		t.Errorf("left out %v, did not fit %v", discarded, misfits)
	}
	want := map[string]any{
		"contact": "hash", "ticket": "hash", "cf_customer": "mask", "cf_ticket": "drop",
		"contact:client_id": "hash", "contact:phone": "hash", "contact:email": "mask", "contact:name": "drop",
	}
	if diff := cmp.Diff(want, policies); diff != "" {
		t.Errorf("policies (-want +got):\n%s", diff)
	}
	if id, _ := record["hash_key_id"].(string); len(id) != 16 {
		t.Errorf("the key is %q", id)
	}
	if found := leaks(w.sluice(t, "runs", "--json").out); len(found) > 0 {
		t.Errorf("records hold %q", found)
	}
}

func TestAContactThatIsGoneIsMarkedWithoutItsPlainText(t *testing.T) {
	t.Parallel()
	w, s := protectedWorld(t)
	w.sluice(t, "run").mustBe(t, 0)
	s.remove("contact-001")
	w.write(t, "contract.yaml", leakContract)
	w.sluice(t, "run").mustBe(t, 0)
	row := func() string {
		return w.sluice(t, "query", "FROM contacts_all WHERE id = 'contact-001'").mustBe(t, 0).out
	}
	if len(leaks(row())) == 0 {
		t.Fatal("the contact was read again, so that this test shows nothing")
	}
	w.sluice(t, "reconcile", "nightly", "--max-share", "50%").mustBe(t, 0)
	if got := row(); len(leaks(got)) > 0 || !strings.Contains(got, "whatsapp") || !strings.Contains(got, "contact-001") {
		t.Errorf("marked as deleted, it is\n%s", got)
	}
}

func (w *world) text(t *testing.T, name string) string {
	t.Helper()
	return string(w.bytes(t, name))
}

// saysBeforehandWhatStays looks whether plans of all forms name the columns of
// which plain text stays, and no value of them.
func saysBeforehandWhatStays(t *testing.T, w *world, want bool) {
	t.Helper()
	text := w.sluice(t, "plan", "--out", w.at("policies.plan")).mustBe(t, 0).out
	object := w.sluice(t, "plan", "--json").mustBe(t, 0).out
	saved := w.text(t, "policies.plan")
	if is := strings.Contains(text, "the contract protects active_ticket_v2_id"); is != want || is != strings.Contains(text, "reads everything (the contract changed)") {
		t.Errorf("plain text is named: %t, want %t, in\n%s", is, want, text)
	}
	for _, form := range []string{object, saved} {
		var doc struct {
			Syncs []struct {
				PlainText []string `json:"plain_text"`
			} `json:"syncs"`
		}
		if err := json.Unmarshal([]byte(form), &doc); err != nil || len(doc.Syncs) != 1 {
			t.Fatalf("%v in\n%s", err, form)
		}
		if is := slices.Contains(doc.Syncs[0].PlainText, "phone"); is != want {
			t.Errorf("phone is among %q: %t, want %t", doc.Syncs[0].PlainText, is, want)
		}
	}
	if found := leaks(text + object + saved); len(found) > 0 {
		t.Errorf("a plan holds %q", found)
	}
}
