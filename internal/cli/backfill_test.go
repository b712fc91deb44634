package cli

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/duck"
	"github.com/sluice-etl/sluice/internal/run"
)

func TestABackfillReadsARangeAgainAndSaysSo(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	w.sluice(t, "run").mustBe(t, 0)
	before := w.tree(t, "out/contacts/current", "out/contacts/history")
	w.clock = clock.Fixed(noon.Now().Add(time.Hour))
	args := []string{"backfill", "nightly", "--from", "2024-01-01", "--to", "2025-01-01", "--window", "30d"}
	dry := w.sluice(t, append(args, "--dry-run")...).mustBe(t, 0)
	golden(t, "backfill/dry_run.txt", dry.out)
	r := w.sluice(t, args...).mustBe(t, 0)
	if duck.Available { // the summary ends with what this build can do next
		golden(t, "backfill/summary.txt", r.out)
	}
	golden(t, "backfill/stderr.txt", r.err)
	if diff := cmp.Diff(before, w.tree(t, "out/contacts/current", "out/contacts/history")); diff != "" {
		t.Errorf("nothing had changed, but files did:\n%s", diff)
	}
	all := events(t, w.sluice(t, append(args, "--json")...).mustBe(t, 0).out)
	first, last := all[0], all[len(all)-1]
	if first["mode"] != "backfill" || last["type"] != eventFinished || last["status"] != "done" || last["unchanged"] == 0.0 || last["cursor"] == "" {
		t.Errorf("got %v and %v", first, last)
	}
	est := events(t, w.sluice(t, append(args, "--json", "--dry-run")...).mustBe(t, 0).out)
	if windows, _ := est[0]["windows"].([]any); est[0]["type"] != "backfill_estimate" || len(windows) != 13 || est[0]["contacts"] != last["unchanged"] {
		t.Errorf("got %v", est)
	}
	if list := w.sluice(t, "runs").mustBe(t, 0).out; strings.Count(list, "backfill") < 2 {
		t.Errorf("runs lists\n%s", list)
	}
	r = w.sluice(t, "backfill", "nightly", "--from", "2026-08-01", "--to", "2030-01-01", "--by", "updated_at").mustBe(t, 0)
	golden(t, "backfill/notes.txt", r.err)
}

func TestABackfillThatCannotBeSaysWhy(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	var b strings.Builder
	for _, line := range []string{
		"backfill", "backfill nightly", "backfill nightly --from 2024-01-01", "backfill nightyl --from 2024-01-01 --to 2024-02-01",
		"backfill nightly --from yesterday --to 2024-02-01", "backfill nightly --from 2024-02-01 --to 2024-01-01",
		"backfill nightly --from 2027-02-01 --to 2027-03-01", "backfill nightly --from 2024-01-01 --to 2024-02-01 --by seen_at",
		"backfill nightly --from 2024-01-01 --to 2024-02-01 --window daily", "backfill nightly --from 2020-01-01 --to 2024-02-01 --window 1m",
		"backfill nightly --from 2024-01-01 --to 2024-02-01 --parallel 65",
		"backfill nightly --from 2024-01-01 --to 2024-02-01", "backfill nightly --from 2024-01-01 --to 2024-02-01 --dry-run",
	} {
		r := w.sluice(t, strings.Fields(line)...).mustBe(t, 1)
		if r.out != "" {
			t.Errorf("%s writes to stdout: %s", line, r.out)
		}
		b.WriteString("$ sluice " + line + "\n" + r.err + "\n")
	}
	golden(t, "backfill/usage.txt", b.String())
}

func TestDatesOfABackfillAreThoseOfThePipelinesTimezone(t *testing.T) {
	t.Parallel()
	santiago, err := time.LoadLocation("America/Santiago")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"2024-06-01":                    "2024-06-01T04:00:00Z",
		"2024-01-01":                    "2024-01-01T03:00:00Z",
		"2026-09-06":                    "2026-09-06T04:00:00Z", // no clock shows that midnight
		"2024-06-01T00:00:00+02:00":     "2024-05-31T22:00:00Z",
		"2024-06-01T12:00:00.25Z":       "2024-06-01T12:00:00.25Z",
		"2024-06-31":                    "",
		"2024-06-01 12:00":              "",
		"":                              "",
		"2024-06-01T12:00:00":           "",
		"0000-00-00T00:00:00.000000000": "",
	} {
		got, err := parseInstant("from", text, santiago)
		if (err == nil) != (want != "") || err == nil && got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%q is %s, %v; want %q", text, got.UTC(), err, want)
		}
	}
	w := run.Window{From: run.StartOfDay(2024, 6, 1, santiago), To: time.Date(2024, 6, 2, 12, 0, 0, 0, santiago)}
	if got := w.String(); got != "2024-06-01 to 2024-06-02T12:00:00-04:00" {
		t.Errorf("got %s", got)
	}
}
