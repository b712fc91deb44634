package config

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// page renders the reference of all keys from the table that the loader
// checks against, so that the two cannot differ.
func page() string {
	var b strings.Builder
	b.WriteString(`# pipelines.yaml, key by key

This page is made from the table that the program itself checks files against
(` + "`make golden`" + ` renews it; a test compares the two). ` + "`sluice validate`" + ` reports
everything that is wrong with a file at once, each fault with its place.

` + "`*`" + ` stands for a name of your choice. ` + "`${VAR}`" + ` and ` + "`${VAR:-default}`" + ` are replaced in
values, ` + "`$${`" + ` is a literal ` + "`${`" + `.

| key | value | default | |
|---|---|---|---|
`)
	for _, k := range Keys() {
		fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", k.Path, valueOf(k), defaultOf(k), cell(describe(k)))
	}
	b.WriteString(afterTheTable)
	return b.String()
}

// afterTheTable is what follows; its example is run by a test of the commands.
const afterTheTable = `
## Many accounts

` + "`for_each`" + ` makes one source, or one pipeline, of a block for each account. In the
block, ` + "`${each.key}`" + ` is the account and ` + "`${each.value.NAME}`" + ` what ` + "`for_each`" + ` has for
it; ` + "`${each.value.NAME:-default}`" + ` where it may be left out. ` + "`defaults`" + ` holds keys that
are the same everywhere.

` + "```yaml" + `
version: 1
defaults:
  sources:
    type: contacts_api
    url: ${CONTACTS_API_URL:-sandbox://?contacts=1000}
  pipelines:
    schedule: "0 3 * * *"

sources:
  crm:
    api_key: ${each.value.api_key}
    for_each: &accounts
      acme: {api_key: "${ACME_KEY:-sandbox}", timezone: America/Santiago}
      globex: {api_key: "${GLOBEX_KEY:-sandbox}", timezone: America/Lima}

destinations:
  lake: {type: parquet, path: out}

pipelines:
  nightly:
    for_each: *accounts
    source: crm
    destinations: [lake]
    timezone: ${each.value.timezone}
` + "```" + `

This is two sources, ` + "`crm[\"acme\"]` and `crm[\"globex\"]`" + `, and two pipelines,
` + "`nightly[\"acme\"]` and `nightly[\"globex\"]`" + `, each with a state and a table of its own:
` + "`contacts_acme` and `contacts_globex`" + `. A pipeline with ` + "`for_each`" + ` reads the source of the
same account; one without names it, as in ` + "`source: 'crm[\"acme\"]'`" + `.

Every row of these tables names its account in ` + "`" + `_sluice_account` + "`" + `. Where an account gets
another key (` + "`" + `sluice state mv` + "`" + `), its views have the new one in all rows at once; rows
that are stored keep what they were written with.

One view has the contacts of all accounts: ` + "`" + `contacts` + "`" + ` here, or the name that ` + "`" + `union_view` + "`" + `
gives. It reads the main view of each account's table (without deleted, blocked and
playground contacts), and has every column that one of them has, null where another
lacks it. A column that is a number in one account and text in another is text; whole
numbers beside fractions are float64.

- In DuckDB it is a view of the database.
- Beside Parquet tables it is a file, ` + "`" + `out/contacts.sql` + "`" + `, that makes it and the views that
  it reads, from any folder; ` + "`" + `sluice query` + "`" + ` has it anyway. In a bucket it is an object,
  ` + "`" + `gs://my-bucket/crm/contacts.sql` + "`" + `, for a DuckDB with a
  [key of the bucket](tables.md#google-cloud-storage).
- In BigQuery it is a view of the dataset, over the ` + "`" + `_active` + "`" + ` views.

Where it gets another name, or none, a plan shows that the old one goes. What it leaves
out stands in the ` + "`" + `_all` + "`" + ` view of each account; there is none over all of them.

Every run makes it anew where an account gets a table or a column, over the tables that
exist: an account that is down, or has not been run yet, is no hindrance. ` + "`" + `sluice plan` + "`" + `
shows it, and ` + "`" + `sluice apply` + "`" + ` makes it, also after an account was taken out of the file.
What somebody else has made under the name stays; the plan says so.

` + "`sluice run nightly` runs all accounts, `sluice run nightly.acme`" + ` one. An account that
fails stops no other: the exit code is 4 then. Accounts on one host share its
` + "`requests_per_second`" + `: where they differ, the lowest holds.

Where a block gives a key itself, its default does not count; ` + "`null`" + ` leaves the key
out. A default that does not go with a block (` + "`days`" + ` without ` + "`sync: recent`" + `, a key of
another type of destination, ` + "`api_key` beside `api_key_file`" + `) is not taken. A fault in
a default is reported at its place in ` + "`defaults`" + `.

## Layout and editors

` + "`sluice fmt`" + ` lays out the file, and contract files that it is given, in one way, and keeps
comments; ` + "`--check`" + ` exits 1 where there is something to change, for a CI, and ` + "`--diff`" + `
shows it. ` + "`sluice config-schema`" + ` prints a JSON Schema, made from the table above, by
which an editor completes keys and marks what is wrong.
`

func valueOf(k Key) string {
	switch {
	case len(k.Allowed) > 0:
		return "`" + strings.Join(k.Allowed, "`, `") + "`"
	case k.Min != "" && k.Max != "":
		return strings.TrimSpace(fmt.Sprintf("%s, %s to %s %s", k.Type, k.Min, k.Max, k.Unit))
	case k.Min != "":
		return strings.TrimSpace(fmt.Sprintf("%s, from %s %s", k.Type, k.Min, k.Unit))
	default:
		return string(k.Type)
	}
}

func defaultOf(k Key) string {
	switch {
	case k.Required:
		return "required"
	case k.Default == "":
		return ""
	default:
		return "`" + cell(k.Default) + "`"
	}
}

func describe(k Key) string {
	s := k.Description
	if k.Of != "" {
		s += " (of type " + strings.Join(strings.Fields(k.Of), ", ") + ")"
	}
	return s
}

func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }

func TestTheConfigurationPageIsMadeFromTheTableOfKeys(t *testing.T) {
	path := filepath.Join("..", "..", "docs", "configuration.md")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(page()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != page() {
		t.Errorf("%s differs from the table of keys: run `make golden`", path)
	}
}
