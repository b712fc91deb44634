package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/schemas"
)

// maxChanges bounds how often the source changes during a run, so that what a
// run meets does not depend on how often it tells of progress.
const maxChanges = 12

// whileChanging runs the program to its end and changes the source, as change
// says, when it tells of progress. It returns the last event.
func whileChanging(t *testing.T, url, change string, cmd *exec.Cmd) map[string]any {
	t.Helper()
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(stdout)
	lines.Buffer(nil, 1<<24)
	var last map[string]any
	changes := 0
	for lines.Scan() {
		last = nil
		if err := json.Unmarshal(lines.Bytes(), &last); err != nil {
			t.Fatalf("%v in %s", err, lines.Bytes())
		}
		if last["type"] == "progress" && change != "" && changes < maxChanges {
			call(t, http.MethodPost, url+"/_sandbox/mutate", change)
			changes++
		}
	}
	if err := cmd.Wait(); err != nil || last["status"] != "done" {
		t.Fatalf("%v: %v, %v\n%s", cmd.Args[1:], err, last, stderr.Bytes())
	}
	if change != "" && changes < 3 {
		t.Fatalf("%v: the source changed %d times meanwhile", cmd.Args[1:], changes)
	}
	return last
}

// checkLive fails the test unless the rows that are not marked as deleted are
// the source's contacts for which keep holds, cell by cell. Those for which it
// holds neither way (ok false) are left out.
func (j *judge) checkLive(t *testing.T, pipeline, name string, keep func(map[string]any) (in, ok bool)) {
	t.Helper()
	var table schemas.Table
	if err := json.Unmarshal(output(t, sluice(t, j.dir, "schema", pipeline, "--json")), &table); err != nil {
		t.Fatal(err)
	}
	rows := j.rows(t, name)
	faults, kept := 0, 0
	for id, contact := range j.source(t) {
		row := rows[id]
		delete(rows, id)
		in, ok := keep(contact)
		live := row != nil && row["_sluice_deleted_at"] == nil
		switch {
		case !ok:
		case in != live:
			t.Errorf("contact %s belongs into %s: %t, stands there: %t", id, name, in, live)
			faults++
		case live:
			kept++
			faults += compareContact(t, table, contact, row)
		}
		if faults > 10 {
			t.Fatal("and more")
		}
	}
	for id, row := range rows {
		if row["_sluice_deleted_at"] == nil {
			t.Errorf("contact %s is no longer at the source and stands in %s", id, name)
		}
	}
	if kept == 0 {
		t.Errorf("%s holds nobody", name)
	}
}

func everyone(map[string]any) (in, ok bool) { return true, true }

func TestFullReadsBackfillsAndReconcileBesideASourceThatChanges(t *testing.T) {
	contacts := 10_000
	if testing.Short() || raceEnabled {
		contacts = 4_000
	}
	url := startSandbox(t, "--contacts", fmt.Sprint(contacts), "--seed", "11", "--updated-ties", "2500", "--created-ties", "1500",
		"--shuffle-ties", "--fault-502", "every:29", "--fault-truncate", "every:23", "--fault-limit", "6")
	dir := t.TempDir()
	writePipelines(t, dir, url, "0 3 * * *")
	j := newJudge(t, dir, url)
	const changes = `{"updates": 25, "creates": 3, "bulk": 5, "silent": 4}`

	whileChanging(t, url, changes, sluice(t, dir, "run", "--json"))
	whileChanging(t, url, changes, sluice(t, dir, "run", "--full", "--json"))
	whileChanging(t, url, changes, sluice(t, dir, "backfill", "nightly", "--from", "2020-01-01", "--to", "2030-01-01", "--window", "30d", "--json"))
	// The source stands still: what changed without its updated_at comes by
	// created_at, all the rest by updated_at.
	whileChanging(t, url, "", sluice(t, dir, "backfill", "nightly", "--from", "2020-01-01", "--to", "2030-01-01", "--window", "30d", "--json"))
	whileChanging(t, url, "", sluice(t, dir, "run", "--json"))
	j.checkLive(t, "nightly", "contacts", everyone)

	call(t, http.MethodPost, url+"/_sandbox/mutate", `{"deletes": 30}`)
	whileChanging(t, url, `{"updates": 5, "creates": 1}`, sluice(t, dir, "reconcile", "nightly", "--json"))
	whileChanging(t, url, "", sluice(t, dir, "run", "--json"))
	j.checkLive(t, "nightly", "contacts", everyone)

	// Some come back as they were, which no cursor sees, some with a new
	// updated_at.
	call(t, http.MethodPost, url+"/_sandbox/mutate", `{"restores": 7, "returns": 5}`)
	whileChanging(t, url, "", sluice(t, dir, "run", "--json"))
	last := whileChanging(t, url, "", sluice(t, dir, "reconcile", "nightly", "--json"))
	if r := last["reconciled"].(map[string]any); r["gone"] != 0.0 || r["returned"].(float64) < 1 {
		t.Errorf("reconciled: %v", r)
	}
	j.checkLive(t, "nightly", "contacts", everyone)
}

const modesFor = `version: 1
sources:
  crm: {type: contacts_api, url: %q, api_key: "${CONTACTS_API_KEY}", requests_per_second: 1000}
  old: {type: contacts_api, url: %q, api_key: "${CONTACTS_API_KEY}", requests_per_second: 1000, combine_filters: false, page_size: 200}
destinations:
  lake: {type: parquet, path: out}
# Who was created within the lookback is not marked as gone yet, nor anybody
# where more contacts write within it than a page holds.
pipelines:
  stage: {source: crm, table: stage, sync: snapshot, lookback: 1ms, filters: {stage_id: %s}, destinations: [lake]}
  recent: {source: crm, table: recent, sync: recent, days: 200, lookback: 1ms, destinations: [lake]}
  alone: {source: old, table: alone, sync: recent, days: 200, lookback: 1ms, destinations: [lake]}
`

func TestSnapshotsAndRecentContactsFollowTheSource(t *testing.T) {
	args := []string{
		"--contacts", "3000", "--seed", "5", "--updated-ties", "400", "--created-ties", "300", "--shuffle-ties",
		"--fault-502", "every:19", "--fault-truncate", "every:17", "--fault-limit", "6",
	}
	url := startSandbox(t, args...)
	old := startSandbox(t, append(args, "--days-alone")...)
	dir := t.TempDir()
	crm, older := newJudge(t, dir, url), newJudge(t, dir, old)
	stage := mostFrequentStage(crm.source(t))
	if err := os.WriteFile(filepath.Join(dir, "pipelines.yaml"), fmt.Appendf(nil, modesFor, url, old, stage), 0o600); err != nil {
		t.Fatal(err)
	}
	inStage := func(c map[string]any) (bool, bool) { return stageOf(c) == stage, true }
	edge := time.Now().AddDate(0, 0, -200)
	recent := func(c map[string]any) (in, ok bool) {
		text, _ := c["last_message_at"].(string)
		at, err := time.Parse(time.RFC3339, text)
		return err == nil && at.After(edge), err != nil || at.Sub(edge).Abs() > time.Hour
	}
	check := func() {
		t.Helper()
		crm.checkLive(t, "stage", "stage", inStage)
		crm.checkLive(t, "recent", "recent", recent)
		older.checkLive(t, "alone", "alone", recent)
	}
	for _, change := range []string{"", `{"updates": 40, "creates": 4, "stages": 3, "messages": 25, "deletes": 3, "silent": 5}`} {
		for _, pipeline := range []string{"stage", "recent", "alone"} {
			at := url
			if pipeline == "alone" {
				at = old
			}
			whileChanging(t, at, change, sluice(t, dir, "run", pipeline, "--json"))
		}
	}
	// The source stands still.
	for _, pipeline := range []string{"stage", "recent", "alone"} {
		whileChanging(t, url, "", sluice(t, dir, "run", pipeline, "--json"))
	}
	check()
}

func stageOf(contact map[string]any) string {
	ticket, _ := contact["active_ticket_v2"].(map[string]any)
	stage, _ := ticket["current_stage_id"].(string)
	return stage
}

func mostFrequentStage(contacts map[string]map[string]any) string {
	counts := map[string]int{}
	best := ""
	for _, c := range contacts {
		if s := stageOf(c); s != "" {
			if counts[s]++; counts[s] > counts[best] {
				best = s
			}
		}
	}
	return best
}
