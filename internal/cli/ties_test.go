package cli

import (
	"encoding/json"
	"regexp"
	"strings"
	"testing"
)

func TestTheSummarySaysWhatRestsOnRepetition(t *testing.T) {
	t.Parallel()
	yaml := strings.NewReplacer("contacts=40", "contacts=60&created_ties=30&shuffle_ties=true", "requests_per_second", "page_size: 10, requests_per_second").Replace(small)
	w := newWorld(t, yaml)
	out := w.sluice(t, "run").mustBe(t, 0).out
	if ok, err := regexp.MatchString(`(?m)^  repeated    \d+ contacts right after \d{4}-\S+Z rest on repeated reading, not on anchors`, out); err != nil || !ok {
		t.Errorf("got\n%s", out)
	}
	if out := newWorld(t, small).sluice(t, "run").mustBe(t, 0).out; strings.Contains(out, "repeated") {
		t.Errorf("a run whose ties were anchored says\n%s", out)
	}
}

func TestOnlyTiesDrainedStatisticallyAreSaidToBeRepeated(t *testing.T) {
	t.Parallel()
	const tie = `{"at":"1970-01-01T00:00:00Z","size":1234,"statistical":true}`
	for record, want := range map[string]string{
		"":     "",
		"oops": "",
		`{"phases":[{"outcome":{"ties":[{"at":0,"size":3}]}}]}`:                                            "",
		`{"phases":[{"outcome":{"ties":[{"at":1000000,"size":1,"statistical":true},{"at":0,"size":9}]}}]}`: "1 contact right after 1970-01-01T00:00:01.000Z rests on",
		`{"phases":[{"outcome":{"ties":[` + tie + `]}},{"outcome":{"ties":[` + tie + `]}}]}`:               "2,468 contacts right after 1970-01-01T00:00:00.000Z and 1970-01-01T00:00:00.000Z rest on",
		`{"phases":[{"outcome":{"ties":[` + tie + "," + tie + "," + tie + "," + tie + "," + tie + `]}}]}`:  "and 2 more time stamps rest on",
	} {
		got := repeatedTies(json.RawMessage(record))
		if !strings.Contains(got, want) || (got == "") != (want == "") {
			t.Errorf("%s: got %q, want %q", record, got, want)
		}
	}
}
