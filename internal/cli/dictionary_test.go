package cli

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

func TestADictionarySaysWhatThereIsAndWhatIsNot(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := previewWorld(t, previewContract)
	w.sluice(t, "preview", "--rows", "0").mustBe(t, 0)
	w.write(t, "contract.yaml", previewContract+"new_columns: discard\n")
	page := w.sluice(t, "schema", "--dictionary").mustBe(t, 0).out
	for _, want := range []string{
		"; contract contract.yaml;", "| email | policy: drop, line 9 |", `| cf\_customer.rut | exclude, line 13 |`,
		"custom fields of the customer that the table does not have | new\\_columns: discard, line 14 |",
		"| string | yes | The name: as it came | name | mask |",
		"Because of the contract: contacts shows playground contacts: the table has no column of platform; ",
	} {
		if !strings.Contains(page, want) {
			t.Errorf("no %q in\n%s", want, page)
		}
	}
	hidesPreviewSecrets(t, page)
}

func TestADictionaryOfWhatWasExportedIsTheSameEachTime(t *testing.T) {
	t.Parallel()
	needsDuckDB(t)
	w := exported(t)
	page := w.sluice(t, "schema", "nightly", "--dictionary").mustBe(t, 0).out
	golden(t, "dictionary.md", page)
	if again := w.sluice(t, "schema", "--dictionary").mustBe(t, 0).out; again != page {
		t.Error("the page differs when it is written again")
	}
	html := w.sluice(t, "schema", "--dictionary", "--format", "html").mustBe(t, 0).out
	golden(t, "dictionary.html", html)
	for _, outside := range []string{"http://", "https://", "src=", "url(", "<script", "@import"} {
		if strings.Contains(html, outside) {
			t.Errorf("the page asks for something elsewhere: %s", outside)
		}
	}
	ids := map[string]int{}
	for _, m := range regexp.MustCompile(`id="([^"]+)"`).FindAllStringSubmatch(html, -1) {
		ids[m[1]]++
	}
	for id, n := range ids {
		if n > 1 {
			t.Errorf("%d places have the anchor %s", n, id)
		}
	}
	for _, text := range []string{html, strings.ReplaceAll(page, "](#", `href="#`)} {
		for _, m := range regexp.MustCompile(`href="#([^")]+)[")]`).FindAllStringSubmatch(text, -1) {
			if ids[m[1]] == 0 {
				t.Errorf("a link leads to %s, which is not there", m[1])
			}
		}
	}
	for line := range strings.Lines(w.sluice(t, "schema", "nightly").mustBe(t, 0).out) {
		name, _, _ := strings.Cut(line, " ")
		if strings.Contains(name, "_") && (!strings.Contains(page, "`"+name+"`") || ids["nightly.contacts."+name] == 0) {
			t.Errorf("column %s is not on the page", name)
		}
	}
}

func TestADictionaryShowsTextAsItIs(t *testing.T) {
	t.Parallel()
	got := mdText("a|b <img src=x> `c` *d* [e](f) \\ g_h\n\u202e")
	want := `a\|b &lt;img src=x> ` + "\\`c\\`" + ` \*d\* \[e\](f) \\ g\_h\\n\\u202e`
	if got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	html, err := dictionaryHTML([]dictPipeline{{ID: "p", Name: `<script>alert("x")</script>`, Tables: []dictTable{{Name: "t"}}}})
	if err != nil || strings.Contains(html, "<script") {
		t.Errorf("%v\n%s", err, html)
	}
}

func TestADictionaryIsWrittenWholeToAFile(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	file := filepath.Join(w.dir, "dictionary.html")
	r := w.sluice(t, "schema", "--dictionary", "-o", file).mustBe(t, 0)
	data, err := os.ReadFile(file)
	if err != nil || !strings.HasPrefix(string(data), "<!doctype html>") || r.out != "" || r.err != "wrote DIR/dictionary.html\n" {
		t.Errorf("%v: %q %q\n%.80s", err, r.out, r.err, data)
	}
	if r := w.sluice(t, "schema", "--dictionary", "-o", w.dir).mustBe(t, 1); !strings.Contains(r.err, "is not a regular file") {
		t.Errorf("got %s", r.err)
	}
	for _, args := range [][]string{{"-o", file}, {"--format", "html"}, {"--dictionary", "--json"}, {"--dictionary", "--format", "pdf"}} {
		if r := w.sluice(t, append([]string{"schema"}, args...)...).mustBe(t, 1); !strings.Contains(r.err, "see `sluice schema --help`") {
			t.Errorf("%v: got %s", args, r.err)
		}
	}
}
