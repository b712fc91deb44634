package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const untidy = `


# The head.
version:   1    # one
state: {backend: file,   path: ".sluice"}
sources:   # where from
    crm:
        # of crm
        type: "contacts_api"
        url:  'https://api.example.com'   # the host
        api_key: "${CONTACTS_API_KEY}"


        page_size: 500
      # after crm
    # before two
    two: &two
        type: contacts_api
        url: "sandbox://?contacts=5"
        api_key: "yes"
destinations:
    lake:
        type: parquet
        path: >-
              out/
              lake
    # no more
# above pipelines
pipelines:
    nightly:
        source: crm
        destinations:
        # the lake
        -   lake   
        - "local"
        filters: {platform: [whatsapp,
              sms],   # both
            blocked: false}
        schedule: "0 3 * * *"
        note: a text
          that goes on
# the end

`

const tidy = `# The head.
version: 1      # one
state: {backend: file,   path: ".sluice"}
sources:   # where from
  crm:
    # of crm
    type: contacts_api
    url: 'https://api.example.com'    # the host
    api_key: "${CONTACTS_API_KEY}"

    page_size: 500
  # after crm
  # before two
  two: &two
    type: contacts_api
    url: "sandbox://?contacts=5"
    api_key: "yes"

destinations:
  lake:
    type: parquet
    path: >-
          out/
          lake
  # no more

# above pipelines
pipelines:
  nightly:
    source: crm
    destinations:
      # the lake
      - lake
      - local
    filters: {platform: [whatsapp,
          sms],   # both
        blocked: false}
    schedule: "0 3 * * *"
    note: a text
      that goes on
# the end
`

func format(t *testing.T, text string) string {
	t.Helper()
	got, list := Format("p.yaml", []byte(text))
	if len(list) > 0 {
		t.Fatalf("refused: %s\n%s", rendered(t, list), text)
	}
	return got
}

func TestFormatKeepsCommentsAndOrderAndTidiesTheRest(t *testing.T) {
	if diff := cmp.Diff(tidy, format(t, untidy)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(tidy, format(t, strings.ReplaceAll("\ufeff"+untidy, "\n", "\r\n"))); diff != "" {
		t.Errorf("with other line ends: %s", diff)
	}
}

func TestTheFilesThatComeWithSluiceAreFormatted(t *testing.T) {
	for _, file := range []string{"../../pipelines.yaml", "../../schemas/contacts.yaml"} {
		data, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(data), format(t, string(data))); diff != "" {
			t.Errorf("%s: %s", file, diff)
		}
	}
}

func TestFormatChangesNothingThatItDoesNotKnow(t *testing.T) {
	for name, text := range map[string]string{
		"a key of its own line": "? a\n:   b\n",
		"a document's first":    "--- {a: 1}\n",
	} {
		if got := format(t, text); got != text {
			t.Errorf("%s: %q", name, got)
		}
	}
	for name, text := range map[string]string{
		"words that are none": "a: \"true\"\nb: \"1\"\nc: \"1e3\"\nd: 'null'\ne: \"~\"\nf: \"a b\"\ng: \"#x\"\nh: \"x:\"\ni: \"\"\nj: \"0x1\"\nk: \"Off\"\n",
		"blocks of text":      "a: |2-\n    x\n   y\n\n  # no comment\n\nb: |+\n  x\n\n\nc: 1\n",
		"quotes over lines":   "a: \"x\n\n  # no comment\n  y\" # one\n\nb: 'it''s\n  so'\n",
		"brackets over lines": "a: [1,  # one\n\n  \"]\", 'x', {b: \"#\"}] # two\nc: 1\n",
		"quotes within":       "a: it's \"so\" [ #x\nb: x#y\n",
	} {
		if got := format(t, text); got != text {
			t.Errorf("%s: %q became %q", name, text, got)
		}
	}
}

func TestFormatRefusesWhatIsNoYAML(t *testing.T) {
	for _, text := range []string{"a: [1\n", "a: 1\na: 2\n", "- a\n", "a: 1\n---\nb: 2\n", "\ta: 1\n", ""} {
		got, list := Format("p.yaml", []byte(text))
		if got != "" || !list.HasErrors() {
			t.Errorf("%q gives %q, %v", text, got, list)
		}
	}
}

// FuzzFormat: what Format gives says the same, has the same comments, and
// stays as it is when it is formatted again.
func FuzzFormat(f *testing.F) {
	files, err := filepath.Glob("testdata/*.yaml")
	if err != nil {
		f.Fatal(err)
	}
	for _, file := range append(files, "../../pipelines.yaml", "../../schemas/contacts.yaml") {
		data, err := os.ReadFile(file)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(string(data))
	}
	for _, text := range []string{
		untidy, full, manyAccounts, "a:\n- b\n-   c: 1\n    d: 2\n- - e\n  - f\n", "a: |\n   x\n     y\n   # z\nb: >+\n x\n\n# c\n",
		"a:\n     b\n      c\nd: \"e\n  f\"  # g\n", "a:\n# x\n   b: {c: 1,\n d: '2'}\n# y\n", "a: # x\n  # y\n    b: 1\n   # z\nc: 'd'  # e\n",
	} {
		f.Add(text)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, list := Format("p.yaml", []byte(text))
		if list.HasErrors() {
			return
		}
		before, _ := meaning("p.yaml", []byte(text))
		after, faults := meaning("p.yaml", []byte(got))
		if faults.HasErrors() || !sameValue(before, after, map[[2]*value]bool{}) {
			t.Fatalf("it says something else:\n%s", got)
		}
		if diff := cmp.Diff(comments(text), comments(got)); diff != "" {
			t.Fatalf("comments: %s", diff)
		}
		if again, list := Format("p.yaml", []byte(got)); list.HasErrors() || again != got {
			t.Fatalf("again: %s", cmp.Diff(got, again))
		}
	})
}
