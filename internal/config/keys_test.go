package config

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

func TestTheKeyTableIsSound(t *testing.T) {
	seen := map[string]bool{}
	for _, k := range Keys() {
		if seen[k.Path] || k.Path == "" || !strings.HasSuffix(k.Description, ".") || k.Type == "" {
			t.Errorf("%+v", k)
		}
		seen[k.Path] = true
		if i := strings.LastIndexByte(k.Path, '.'); i >= 0 && !seen[k.Path[:i]] {
			t.Errorf("%s stands before its parent", k.Path)
		}
		if len(k.Allowed) > 0 != (k.Type == ChoiceType) {
			t.Errorf("%s: only a choice has allowed values", k.Path)
		}
		if k.Default != "" && (k.Required || k.Type == ChoiceType && !slices.Contains(k.Allowed, k.Default)) {
			t.Errorf("%s has a default that cannot be", k.Path)
		}
	}
}

// fileWith returns a file that is right but for one key, whose value is given.
func fileWith(k Key, value string) string {
	doc := map[string]string{"version": "1"}
	source := map[string]string{"type": "contacts_api", "url": "sandbox://"}
	destination := map[string]string{"type": "parquet", "path": "out"}
	pipeline := map[string]string{"source": "crm", "destinations": "lake"}
	notice := map[string]string{"type": "webhook", "url": "\"https://127.0.0.1/x\""}
	retry, daemon := map[string]string{}, map[string]string{}
	filters, state, reconcile, quarantine, defaults := map[string]string{}, map[string]string{}, map[string]string{}, map[string]string{}, map[string]string{}
	parent, name := "", k.Path
	if i := strings.LastIndexByte(k.Path, '.'); i >= 0 {
		parent, name = k.Path[:i], k.Path[i+1:]
	}
	map[string]map[string]string{
		"": doc, "state": state, "sources.*": source, "destinations.*": destination, "pipelines.*": pipeline, "pipelines.*.filters": filters, "pipelines.*.reconcile": reconcile,
		"pipelines.*.quarantine": quarantine, "pipelines.*.retry": retry, "daemon": daemon, "defaults": defaults,
		"sources": {}, "destinations": {}, "pipelines": {}, "notify": {}, "notify.*": notice,
	}[parent][name] = value
	switch { // what goes with it
	case k.Of == Warehouse || k.Path == "destinations.*.type" && value == Warehouse:
		delete(destination, "path")
		for key, v := range map[string]string{"type": Warehouse, "project": "my-project", "dataset": "crm", "endpoint": "\"http://127.0.0.1:9050\"", "grpc_endpoint": "\"127.0.0.1:9060\""} {
			if key != name {
				destination[key] = v
			}
		}
		if name == "max_staleness" {
			destination["method"] = MethodCDC
		}
	case k.Path == "pipelines.*.union_view":
		pipeline["for_each"] = "{acme: {}}"
	case k.Path == "pipelines.*.days":
		pipeline["sync"] = "recent"
	case k.Path == "pipelines.*.sync" && value == "recent":
		pipeline["days"] = "30"
	case k.Path == "state.backend" && value == "gcs":
		state["path"] = "gs://bucket/state"
	case k.Path == "state.work_dir":
		state["backend"], state["path"] = "gcs", "gs://bucket/state"
	case k.Path == "destinations.*.memory_limit":
		destination["type"] = "duckdb"
	case k.Path == "pipelines.*.filters.entity_type":
		filters["custom_field_key"], filters["custom_field_value"] = "city", "Lima"
	}
	flow := func(m map[string]string) string {
		var parts []string
		for key, v := range m {
			parts = append(parts, fmt.Sprintf("%q: %s", key, v))
		}
		slices.Sort(parts)
		return "{" + strings.Join(parts, ", ") + "}"
	}
	wrap := func(name, key string, m map[string]string) {
		if _, given := doc[key]; !given {
			doc[key] = "{" + name + ": " + flow(m) + "}"
		}
	}
	if _, given := pipeline["filters"]; !given {
		pipeline["filters"] = flow(filters)
	}
	if _, given := pipeline["reconcile"]; !given && len(reconcile) > 0 {
		pipeline["reconcile"] = flow(reconcile)
	}
	if _, given := pipeline["retry"]; !given && len(retry) > 0 {
		pipeline["retry"] = flow(retry)
	}
	if _, given := pipeline["quarantine"]; !given && len(quarantine) > 0 {
		pipeline["quarantine"] = flow(quarantine)
	}
	if _, given := doc["daemon"]; !given && len(daemon) > 0 {
		doc["daemon"] = flow(daemon)
	}
	if _, given := doc["defaults"]; !given && len(defaults) > 0 {
		doc["defaults"] = flow(defaults)
	}
	if _, given := doc["state"]; !given {
		doc["state"] = flow(state)
	}
	source["url"] = strings.ReplaceAll(source["url"], "sandbox://", `"sandbox://"`)
	wrap("crm", "sources", source)
	wrap("lake", "destinations", destination)
	wrap("nightly", "pipelines", pipeline)
	if strings.HasPrefix(k.Path, "notify") {
		wrap("ops", "notify", notice)
	}
	return flow(doc)
}

// A key that is known but never looked at would be accepted and ignored.
func TestEveryKnownKeyIsLookedAt(t *testing.T) {
	for _, k := range Keys() {
		if strings.HasSuffix(k.Path, "*") {
			continue
		}
		if k.Type == MappingType || k.Type == AccountsType {
			if _, list := Parse("p.yaml", []byte(fileWith(k, "5")), "/srv", none); !list.HasErrors() {
				t.Errorf("%s: 5 was accepted:\n%s", k.Path, fileWith(k, "5"))
			}
			continue
		}
		if c, list := Parse("p.yaml", []byte(fileWith(k, "{a: {b: c}}")), "/srv", none); c != nil || !list.HasErrors() {
			t.Errorf("%s: a mapping was accepted:\n%s", k.Path, fileWith(k, "{a: {b: c}}"))
		}
	}
	if c, list := Parse("p.yaml", []byte(fileWith(Key{Path: "version"}, "1")), "/srv", none); c == nil {
		t.Errorf("the file is wrong by itself: %s", rendered(t, list))
	}
}

func TestDefaultsAndBoundsOfTheTableAreAccepted(t *testing.T) {
	for _, k := range Keys() {
		if k.Type == MappingType {
			continue
		}
		for _, v := range append([]string{k.Default, k.Min, k.Max}, k.Allowed...) {
			if v == "" {
				continue
			}
			if c, list := Parse("p.yaml", []byte(fileWith(k, v)), "/srv", none); c == nil {
				t.Errorf("%s: %s was refused: %s", k.Path, v, rendered(t, list))
			}
		}
	}
}
