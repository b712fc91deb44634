package config

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// two returns two values that a key may have, and that differ in what a run
// does; ok is false where there are none.
func two(k Key) (a, b string, ok bool) {
	switch k.Type {
	case ChoiceType:
		if len(k.Allowed) < 2 {
			return "", "", false
		}
		return k.Allowed[0], k.Allowed[1], true
	case IntegerType, NumberType, DurationType, ShareType, SizeType:
		return k.Min, k.Max, true
	case BooleanType, BooleansType:
		return "true", "false", true
	case NameType:
		return "aa", "bb", true
	case ValuesType, TextType:
		switch k.name() {
		case "grpc_endpoint":
			return `"127.0.0.1:1"`, `"127.0.0.1:2"`, true
		case "project":
			return "project-a", "project-b", true
		default:
			return "aa", "bb", true
		}
	case UUIDsType:
		return "b1a7c0de-0000-4000-8000-000000000001", "b1a7c0de-0000-4000-8000-000000000002", true
	case URLType:
		if k.name() == "endpoint" {
			return `"http://127.0.0.1:1"`, `"http://127.0.0.1:2"`, true
		}
		return "", "", false // the values of accounts stand for it, below
	case PathType:
		return "a", "b", true
	case CronType:
		return `"@daily"`, `"@weekly"`, true
	case TimezoneType:
		return "UTC", "America/Santiago", true
	case LabelsType:
		return "{a: b}", "{a: c}", true
	case AccountsType:
		return "{acme: {}}", "{globex: {}}", true
	case MappingType, NamesType, SecretType, SourceType:
		return "", "", false
	default:
		return "", "", false
	}
}

func TestEveryKeyIsInTheHashButSecretsAndWhereTheyLie(t *testing.T) {
	apart := map[string]bool{
		"sources.*.api_key": true, "sources.*.api_key_file": true, "pipelines.*.hash_key": true, "pipelines.*.hash_key_file": true,
		"destinations.*.key_file": true, "destinations.*.impersonate": true, // the latter has another test
		"pipelines.*.filters.custom_field_key": true, "pipelines.*.filters.custom_field_value": true, // of one another, with a test of their own
		"pipelines.*.freshness": true, "notify.*.type": true, "notify.*.on": true, "notify.*.pipelines": true, // tell, and make nothing
		"state.work_dir": true, // of one machine
		// When and how often a pipeline is run by itself changes nothing that a plan
		// shows, or an apply does.
		"daemon.concurrency": true, "daemon.grace": true, "daemon.listen": true, "daemon.url": true, "daemon.token_file": true,
		"pipelines.*.jitter": true, "pipelines.*.overlap": true, "pipelines.*.catch_up": true,
		"pipelines.*.retry.for": true, "pipelines.*.retry.backoff": true, "pipelines.*.retry.max_backoff": true,
		"state.backend":      true, // needs another path, which is in it
		"pipelines.*.schema": true, // has a test of its own
		"sources.*.for_each": true, // the pipeline cannot follow
	}
	tested := 0
	for _, k := range Keys() {
		a, b, ok := two(k)
		if !ok || apart[k.Path] || strings.HasSuffix(k.Path, "*") || strings.HasPrefix(k.Path, "defaults") {
			continue
		}
		hash := func(v string) string { return accept(t, fileWith(k, v), none).Hash() }
		if hash(a) == hash(b) {
			t.Errorf("%s is not in the hash", k.Path)
		}
		tested++
	}
	if tested < 45 {
		t.Errorf("%d keys were tested", tested)
	}
}

func TestTheHashFollowsTheContractFilesAndVariables(t *testing.T) {
	dir := t.TempDir()
	contract := filepath.Join(dir, "c.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(contract, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	text := strings.Replace(manyAccounts, "table: weekly,", "table: weekly, schema: c.yaml,", 1)
	hash := func(text string, lookup func(string) (string, bool)) string {
		t.Helper()
		c, list := Parse("p.yaml", []byte(text), dir, lookup)
		if c == nil {
			t.Fatal(rendered(t, list))
		}
		return c.Hash()
	}
	write("version: 1\n")
	want := hash(text, accountKeys())
	if hash(text, env("ACME_KEY", "x-4711", "GLOBEX_KEY", "y-4711")) != want {
		t.Error("a key is in the hash")
	}
	if hash(strings.Replace(text, "version: 1", "version: 1 # one", 1), accountKeys()) != want {
		t.Error("a comment is in the hash")
	}
	head, tail, _ := strings.Cut(text, "pipelines:\n")
	top, middle, _ := strings.Cut(head, "destinations:\n")
	if hash("destinations:\n"+middle+top+"pipelines:\n"+tail, accountKeys()) != want {
		t.Error("the order of keys is in the hash")
	}
	if hash(strings.Replace(text, "region: south", "region: west", 1), accountKeys()) == want {
		t.Error("the value of an account is not in the hash")
	}
	region := strings.Replace(text, "region: south", "region: \"${REGION:-south}\"", 1)
	if hash(region, accountKeys()) != want {
		t.Error("how a value is written is in the hash")
	}
	write("version: 1\nmax_columns: 10\n")
	if hash(text, accountKeys()) == want {
		t.Error("the contract file is not in the hash")
	}
}
