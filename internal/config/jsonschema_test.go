package config

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

func compiled(t *testing.T) *jsonschema.Schema {
	t.Helper()
	text, err := JSONSchema()
	if err != nil {
		t.Fatal(err)
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("pipelines.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("pipelines.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// asJSON is a file as a validator of JSON sees it.
func asJSON(t *testing.T, text string) any {
	t.Helper()
	root, list := meaning("p.yaml", []byte(text))
	if root == nil {
		t.Fatalf("%s\n%s", rendered(t, list), text)
	}
	return root.plain()
}

func (v *value) plain() any {
	switch v.kind {
	case textKind:
		return v.text
	case numberKind:
		if n := json.Number(v.text); json.Valid([]byte(v.text)) {
			return n
		}
		return v.text
	case boolKind:
		return v.text == "true"
	case mappingKind:
		out := map[string]any{}
		for _, e := range v.entries {
			out[e.key] = e.val.plain()
		}
		return out
	case sequenceKind:
		out := []any{}
		for _, item := range v.items {
			out = append(out, item.plain())
		}
		return out
	case nullKind, badKind:
		return nil
	default:
		return nil
	}
}

var yamlBlock = regexp.MustCompile("(?s)```yaml\n(.*?)```")

func TestGoodFilesFitTheJSONSchema(t *testing.T) {
	s := compiled(t)
	example, err := os.ReadFile("../../pipelines.yaml")
	if err != nil {
		t.Fatal(err)
	}
	good := map[string]string{
		"the example": string(example), "minimal": minimal, "full": full, "everywhere": everywhere, "warehouse": warehouse, "many accounts": manyAccounts,
		"defaults": "version: 1\ndefaults: {sources: {type: contacts_api}, destinations: {type: parquet}, pipelines: {source: crm, quarantine: raw}}\n" +
			"sources: {crm: {url: 'sandbox://'}}\ndestinations: {lake: {path: out}}\npipelines: {nightly: {destinations: lake, page_size: }}\n",
	}
	good["defaults"] = strings.Replace(good["defaults"], ", page_size: ", "", 1)
	pages, err := filepath.Glob("../../docs/*.md")
	if err != nil {
		t.Fatal(err)
	}
	for _, page := range append(pages, "../../README.md") {
		text, err := os.ReadFile(page)
		if err != nil {
			t.Fatal(err)
		}
		for _, m := range yamlBlock.FindAllStringSubmatch(string(text), -1) {
			if strings.Contains(m[1], "pipelines:") && strings.Contains(m[1], "version: 1") {
				good[page] = m[1]
			}
		}
	}
	for name, text := range good {
		if err := s.Validate(asJSON(t, text)); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestEveryValueOfTheTableFitsTheJSONSchemaAndNoOtherDoes(t *testing.T) {
	s := compiled(t)
	for _, k := range Keys() {
		if k.Type == MappingType || k.Type == AccountsType {
			if err := s.Validate(asJSON(t, fileWith(k, "5"))); err == nil && !strings.HasSuffix(k.Path, "*") {
				t.Errorf("%s: 5 fits", k.Path)
			}
			continue
		}
		for _, v := range append([]string{k.Default, k.Min, k.Max}, k.Allowed...) {
			if v == "" {
				continue
			}
			if err := s.Validate(asJSON(t, fileWith(k, v))); err != nil {
				t.Errorf("%s: %s: %v", k.Path, v, err)
			}
		}
		bad := []string{"{a: {b: c}}"}
		switch k.Type {
		case ChoiceType, NameType, NamesType, IntegerType, NumberType, BooleanType, BooleansType, DurationType, ShareType, SizeType, UUIDsType, SourceType:
			bad = append(bad, `"Not One!"`)
		case TextType, URLType, PathType, SecretType, CronType, TimezoneType, ValuesType:
			bad = append(bad, "5", "true")
		case LabelsType:
			bad = append(bad, "5")
		case MappingType, AccountsType:
		}
		if k.Type == IntegerType {
			bad = append(bad, k.Max+"0", "1.5")
		}
		for _, v := range bad {
			if err := s.Validate(asJSON(t, fileWith(k, v))); err == nil {
				t.Errorf("%s: %s fits", k.Path, v)
			}
		}
		if variable := `"${VALUE}"`; !slices.Contains([]KeyType{LabelsType}, k.Type) {
			if err := s.Validate(asJSON(t, fileWith(k, variable))); err != nil {
				t.Errorf("%s: a variable does not fit: %v", k.Path, err)
			}
		}
	}
}

func TestBadFilesDoNotFitTheJSONSchema(t *testing.T) {
	s := compiled(t)
	for _, name := range []string{"everything", "shapes", "sizes", "secrets", "filters", "bigquery", "defaults", "accounts", "modes", "reconcile", "quarantine", "bare"} {
		data, err := os.ReadFile(filepath.Join("testdata", name+".yaml"))
		if err != nil {
			t.Fatal(err)
		}
		root, _ := meaning(name, data)
		if root == nil {
			t.Fatal(name)
		}
		if err := s.Validate(root.plain()); err == nil {
			t.Errorf("%s fits", name)
		}
	}
	for name, change := range map[string][2]string{
		"a key of another type": {"type: parquet, path: out", "type: parquet, path: out, memory_limit: 1GB"},
		"no path":               {"type: parquet, path: out", "type: parquet"},
		"no source":             {"source: crm, ", ""},
		"no days":               {"destinations: lake", "destinations: lake, sync: recent"},
		"a default of accounts": {"version: 1", "version: 1\ndefaults: {sources: {for_each: {a: {}}}}"},
		"an account's list":     {`url: "sandbox://"`, `url: "sandbox://", for_each: {a: {b: [c]}}`},
		"a slip":                {"pipelines:", "piplines:"},
	} {
		if err := s.Validate(asJSON(t, strings.Replace(minimal, change[0], change[1], 1))); err == nil {
			t.Errorf("%s fits", name)
		}
	}
}
