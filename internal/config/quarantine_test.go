package config

import (
	"strings"
	"testing"
)

func TestQuarantineIsAWordOrAMappingAndHasDefaults(t *testing.T) {
	const file = `version: 1
sources: {crm: {type: contacts_api, url: "sandbox://"}}
destinations: {lake: {type: parquet, path: out}}
pipelines: {nightly: {source: crm, destinations: lake}}
`
	hashes := map[string]string{}
	for given, want := range map[string]Quarantine{
		"":                         {Store: "auto", MaxShare: 0.1},
		"raw":                      {Store: "raw", MaxShare: 0.1},
		"reference":                {Store: "reference", MaxShare: 0.1},
		"{max_share: 5%}":          {Store: "auto", MaxShare: 0.05},
		"{store: raw}":             {Store: "raw", MaxShare: 0.1},
		"{max_records: 0}":         {Store: "auto", MaxShare: 0.1, MaxRecords: new(int)},
		"{store: \"${WORD_RAW}\"}": {Store: "raw", MaxShare: 0.1},
	} {
		text := file
		if given != "" {
			text = strings.Replace(file, "lake}}", "lake, quarantine: "+given+"}}", 1)
		}
		c, list := Parse("p.yaml", []byte(text), "/srv", func(string) (string, bool) { return "raw", true })
		if c == nil {
			t.Fatalf("%s: %s", given, rendered(t, list))
		}
		got := c.Pipelines[0].Quarantine
		if got.Store != want.Store || got.MaxShare != want.MaxShare || (got.MaxRecords == nil) != (want.MaxRecords == nil) {
			t.Errorf("%q is %+v, want %+v", given, got, want)
		}
		hashes[c.Hash()] += given + " "
	}
	if len(hashes) != 5 { // raw stands there three times
		t.Errorf("the hashes tell %d of them apart: %v", len(hashes), hashes)
	}
}
