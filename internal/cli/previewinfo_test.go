package cli

import (
	"encoding/json"
	"strings"
	"testing"
)

// enrichedSmall is a pipeline over a list that lacks what info has.
var enrichedSmall = strings.NewReplacer(
	"sandbox://?contacts=40&seed=1", "sandbox://?contacts=40&seed=1&bare_list=true", "table: contacts", "table: contacts, enrich: info").Replace(small)

// sampled is what a preview for programs says.
type sampled struct {
	Requests, Contacts int64
	Enriched           struct{ Fetched int64 }
	Columns            []struct{ Name, Type, Source string }
}

func (w *world) sampled(t *testing.T, args ...string) (s sampled) {
	t.Helper()
	if err := json.Unmarshal([]byte(w.sluice(t, append([]string{"preview", "--json"}, args...)...).mustBe(t, 0).out), &s); err != nil {
		t.Fatal(err)
	}
	return s
}

func TestAPreviewShowsTheColumnsThatAnEnrichedRunMakes(t *testing.T) {
	t.Parallel()
	w := newWorld(t, enrichedSmall)
	if s := w.sampled(t); s.Contacts != 20 || s.Requests != 21 || s.Enriched.Fetched != 20 {
		t.Errorf("a sample has %d contacts by %d requests, %d of them enriched", s.Contacts, s.Requests, s.Enriched.Fetched)
	}
	text := w.sluice(t, "preview", "--rows", "0").mustBe(t, 0).out
	if !strings.Contains(text, "20 contacts of source crm, by 21 requests; nothing was written\n\ninfo: 20 contacts stored with what the info endpoint has more\n") {
		t.Errorf("got\n%s", text)
	}
	all := w.sampled(t, "--rows", "40")
	if all.Contacts != 40 || all.Requests != 41 {
		t.Errorf("a larger sample has %d contacts by %d requests", all.Contacts, all.Requests)
	}
	w.sluice(t, "run", "nightly").mustBe(t, 0)
	var table struct {
		Columns []struct{ Name, Type, Source string }
	}
	if err := json.Unmarshal([]byte(w.sluice(t, "schema", "nightly", "--json").mustBe(t, 0).out), &table); err != nil {
		t.Fatal(err)
	}
	found := 0
	for i, c := range table.Columns[:len(table.Columns)-7] { // without Sluice's own
		if i >= len(all.Columns) || all.Columns[i] != c {
			t.Fatalf("column %d of the table is %+v; of the preview there are %+v", i, c, all.Columns)
		}
		if strings.HasPrefix(c.Name, "cf_") || c.Name == "last_message_content" {
			found++
		}
	}
	if found < 5 || len(all.Columns) != len(table.Columns)-7 {
		t.Errorf("%d columns of what info alone has, %d in all for %d of the table", found, len(all.Columns), len(table.Columns))
	}
}

func TestAPreviewWithoutTheRightToReadInfoSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.Replace(enrichedSmall, "bare_list=true", "bare_list=true&forbid=info", 1))
	if r := w.sluice(t, "preview").mustBe(t, 1); !strings.Contains(strings.Join(strings.Fields(r.err), " "), "leave enrich: info out of the pipeline") {
		t.Errorf("got %s", r.err)
	}
}
