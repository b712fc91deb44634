//go:build unix

package cli

import (
	"encoding/json"
	"io"
	"net/http"
	"strconv"
	"strings"
	"testing"
)

// pageAnswers returns what the daemon's page answers one who shows the token.
func pageAnswers(t *testing.T, method, address string) string {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, address, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Authorization", "Bearer "+pageToken)
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil || res.StatusCode != http.StatusOK {
		t.Fatalf("%s %s: %s, %v\n%s", method, address, res.Status, err, body)
	}
	return string(body)
}

// scraped returns the metrics of a scrape that count what runs did, without those
// that are zero.
func scraped(t *testing.T, scrape string) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	for line := range strings.Lines(scrape) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), "} ")
		name, _, _ := strings.Cut(series, "{")
		switch name {
		case "sluice_runs_total", "sluice_contacts_total", "sluice_source_requests_total", "sluice_source_retries_total", "sluice_quarantined_total", "sluice_destination_written_bytes_total", "sluice_destination_scanned_bytes_total":
			n, err := strconv.ParseFloat(value, 64)
			if err != nil {
				t.Fatal(err)
			}
			if n != 0 {
				all[series+"}"] = int64(n)
			}
		}
	}
	return all
}

// recorded returns the same of what `sluice runs --json` says.
func recorded(t *testing.T, lines string) map[string]int64 {
	t.Helper()
	all := map[string]int64{}
	for line := range strings.Lines(lines) {
		var r pastRun
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			t.Fatal(err)
		}
		add := func(series string, n int64) {
			if n != 0 {
				all[series] += n
			}
		}
		add(`sluice_runs_total{kind="`+r.Kind+`",pipeline="nightly",status="`+r.Status+`",trigger="manual"}`, 1)
		add(`sluice_contacts_total{change="new",pipeline="nightly"}`, r.New)
		add(`sluice_contacts_total{change="changed",pipeline="nightly"}`, r.Changed)
		add(`sluice_contacts_total{change="unchanged",pipeline="nightly"}`, r.Unchanged)
		if r.Deleted != nil {
			add(`sluice_contacts_total{change="deleted",pipeline="nightly"}`, *r.Deleted)
		}
		add(`sluice_source_requests_total{pipeline="nightly"}`, r.Requests)
		add(`sluice_source_retries_total{pipeline="nightly"}`, r.Retries)
		add(`sluice_quarantined_total{pipeline="nightly"}`, r.Quarantined)
		for where, w := range r.Written {
			add(`sluice_destination_written_bytes_total{destination="`+where+`",pipeline="nightly"}`, w.Bytes)
			add(`sluice_destination_scanned_bytes_total{destination="`+where+`",pipeline="nightly"}`, w.Scanned)
		}
	}
	return all
}
