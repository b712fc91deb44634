package config

import (
	"strings"
	"testing"
)

func TestALimitOfOneRunIsOffUntilTheFileSetsIt(t *testing.T) {
	p := accept(t, minimal, none).Pipelines[0]
	if p.MaxRequests != 0 || p.MaxBytes != 0 {
		t.Errorf("without the keys the limits are %d and %d", p.MaxRequests, p.MaxBytes)
	}
	p = accept(t, strings.Replace(minimal, "destinations: lake", "destinations: lake, max_requests: 250, max_bytes: 1.5GiB", 1), none).Pipelines[0]
	if p.MaxRequests != 250 || p.MaxBytes != 3<<29 {
		t.Errorf("the limits are %d and %d", p.MaxRequests, p.MaxBytes)
	}
	for _, bad := range []string{"max_requests: 0", "max_requests: 1000000001", "max_requests: 1.5", "max_bytes: 10", "max_bytes: 1KB"} {
		if _, list := Parse("p.yaml", []byte(strings.Replace(minimal, "destinations: lake", "destinations: lake, "+bad, 1)), "/srv", none); !list.HasErrors() {
			t.Errorf("%s was accepted", bad)
		}
	}
}

func TestTablesAreKeptFromDestroyUntilTheFileAllowsIt(t *testing.T) {
	if !accept(t, minimal, none).Destinations[0].PreventDestroy {
		t.Error("destroy is allowed by default")
	}
	if accept(t, strings.Replace(minimal, "path: out", "path: out, prevent_destroy: false", 1), none).Destinations[0].PreventDestroy {
		t.Error("prevent_destroy: false is ignored")
	}
}

func TestThePriceOfAScanIsOfBigQueryAlone(t *testing.T) {
	key := env("K", "key-4711")
	for text, want := range map[string]float64{"dataset: crm": 6.25, "dataset: crm, price_per_tib: 8.44": 8.44, "dataset: crm, price_per_tib: 0": 0} {
		if got := accept(t, strings.Replace(warehouse, "dataset: crm", text, 1), key).Destinations[0].PricePerTiB; got != want {
			t.Errorf("%s: %v", text, got)
		}
	}
	if _, list := Parse("p.yaml", []byte(strings.Replace(minimal, "path: out", "path: out, price_per_tib: 5", 1)), "/srv", none); !list.HasErrors() {
		t.Error("a Parquet destination has a price")
	}
}
