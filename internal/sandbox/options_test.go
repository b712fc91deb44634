package sandbox

import (
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/sluice-etl/sluice/internal/clock"
)

// everything is an Options in which no field has its default.
func everything() Options {
	return Options{
		Contacts: 7, Seed: 3, Latency: time.Millisecond, LatencyJitter: 2 * time.Millisecond, RateLimit: 2.5, RateBurst: 4,
		RetryAfter: "mix", RetryAfterDelay: 3 * time.Second,
		Fault500: Rate{Share: 0.1}, Fault502: Rate{Every: 7}, FaultReset: Rate{Share: 0.25}, FaultTruncate: Rate{Every: 9},
		FaultCut: Rate{Share: 1}, FaultStall: Rate{Every: 11}, Fault429: Rate{Every: 12}, FaultDisorder: Rate{Every: 13},
		FaultLimit: 5, StallFor: time.Minute, Updates: 1.5, Creates: 2, Deletes: 0.5,
		UpdatesPerRequest: 3, CreatesPerRequest: 0.25, DeletesPerRequest: 0.125, BulkEvery: 10, BulkSize: 100,
		SilentShare: 0.5, LateShare: 0.75, LateDelay: time.Hour, LateRequests: 2,
		UpdatedTies: 1, UpdatedMsTies: 2, CreatedTies: 3, CreatedMsTies: 4, Future: 1,
		ShuffleTies: true, PageCap: 50, PageExtra: 3, DaysAlone: true, Wrap: "data", BareList: true, Forbid: "info", Skew: -time.Minute, ClockStep: time.Second,
		Date: "cached", DateAge: time.Hour, NoGzip: true, APIKey: "k", AllowRemote: true,
	}
}

func TestEveryOptionIsAFlagAndAParameter(t *testing.T) {
	want := everything()
	fields := reflect.ValueOf(want)
	for n := range fields.NumField() {
		if fields.Field(n).IsZero() {
			t.Errorf("everything() does not set %s", fields.Type().Field(n).Name)
		}
	}
	if n := len(want.params()); n != fields.NumField() {
		t.Errorf("%d parameters for %d options", n, fields.NumField())
	}
	byFlag := DefaultOptions()
	fs := pflag.NewFlagSet("sandbox", pflag.ContinueOnError)
	byFlag.Flags(fs)
	var args []string
	var inURL []string
	for _, p := range want.params() {
		args = append(args, "--"+strings.ReplaceAll(p.name, "_", "-")+"="+p.value.String())
		if !p.local {
			inURL = append(inURL, p.name+"="+p.value.String())
		}
	}
	if err := fs.Parse(args); err != nil {
		t.Fatal(err)
	}
	if byFlag != want {
		t.Errorf("flags gave %+v", byFlag)
	}
	byURL, err := ParseURL("sandbox://?" + strings.Join(inURL, "&"))
	if err != nil {
		t.Fatal(err)
	}
	want.APIKey, want.AllowRemote = DefaultKey, false
	if byURL != want {
		t.Errorf("URL gave %+v", byURL)
	}
}

func TestURLsOfASandbox(t *testing.T) {
	for _, raw := range []string{"sandbox:", "sandbox://", "sandbox:///", "sandbox://?"} {
		if o, err := ParseURL(raw); err != nil || o != DefaultOptions() {
			t.Errorf("%s: %+v, %v", raw, o, err)
		}
	}
	o, err := ParseURL("sandbox://?contacts=500&shuffle-ties&fault_500=5%25&no_gzip=false")
	if err != nil || o.Contacts != 500 || !o.ShuffleTies || o.Fault500.Share != 0.05 || o.NoGzip {
		t.Errorf("%+v, %v", o, err)
	}
}

func TestFaultyURLsSayWhatIsWrongAndWhatIsAllowed(t *testing.T) {
	for _, test := range []struct {
		raw  string
		want []string
	}{
		{"http://127.0.0.1/?contacts=1", []string{`scheme is "http", must be "sandbox"`}},
		{"sandbox://host?contacts=1", []string{"only parameters may follow"}},
		{"sandbox://?contacts=-1", []string{`parameter "contacts": must be a whole number from 0 to 20000000, got "-1"`}},
		{"sandbox://?contacts=", []string{`parameter "contacts": must be`}},
		{"sandbox://?contacts=1&contacts=2", []string{`parameter "contacts": given 2 times`}},
		{"sandbox://?late_dela=1s", []string{`unknown; did you mean "late_delay"?`}},
		{"sandbox://?zzzzzzzzz=1", []string{`unknown; allowed are bare_list, bulk_every, `}},
		{"sandbox://?latency=50", []string{`parameter "latency": must be a duration such as 50ms`}},
		{"sandbox://?latency=-1s", []string{`must not be negative`}},
		{"sandbox://?fault_500=every:0", []string{"every:N with N from 1"}},
		{"sandbox://?fault_500=1.5", []string{"must be a share from 0 to 1"}},
		{"sandbox://?silent_share=NaN", []string{"must be a number from 0 to 1"}},
		{"sandbox://?wrap=items", []string{"must be one of none, data, contacts"}},
		{"sandbox://?date=", []string{`parameter "date": must not be empty`}},
		{"sandbox://?api_key=x", []string{"not part of a URL"}},
		{"sandbox://?seed=x&creates=y&wat=1", []string{`"seed"`, `"creates"`, `"wat"`}},
	} {
		_, err := ParseURL(test.raw)
		for _, want := range test.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %q", test.raw, err, want)
			}
		}
	}
}

func TestNewChecksOptionsSetByHand(t *testing.T) {
	for _, test := range []struct {
		o    Options
		want string
	}{
		{Options{Contacts: -1}, "option contacts: must be"},
		{Options{SilentShare: 2}, "option silent_share: must be"},
		{Options{Wrap: "x"}, "option wrap: must be one of"},
		{Options{FaultCut: Rate{Share: -1}}, "option fault_cut: must be"},
		{Options{LateShare: 0.5}, "late_share needs late_delay or late_requests"},
		{Options{LateDelay: 1000, LateRequests: 1}, "exclude each other"},
	} {
		if _, err := New(test.o, clock.System{}); err == nil || !strings.Contains(err.Error(), test.want) {
			t.Errorf("%+v: %v, want %q", test.o, err, test.want)
		}
	}
}
