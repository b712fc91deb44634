package run_test

import (
	"bytes"
	"context"
	"crypto/md5" //nolint:gosec // a checksum, not a secret
	"encoding/hex"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
)

// evidence is a coverage record as a reader of it sees it.
type evidence struct {
	Rows       int64            `json:"rows"`
	Pages      int64            `json:"pages"`
	Requests   int64            `json:"requests"`
	Duplicates int64            `json:"duplicates"`
	Retries    int64            `json:"retries"`
	RetriesBy  map[string]int64 `json:"retries_by"`
	Resumed    bool             `json:"resumed"`
	IDs        struct {
		Count  int64  `json:"count"`
		MD5XOR string `json:"md5_xor"`
	} `json:"ids"`
	Phases []struct {
		Phase   string `json:"phase"`
		Outcome struct {
			Final []struct {
				After   time.Time  `json:"after"`
				Through *time.Time `json:"through"`
			} `json:"final"`
			Ties        []extract.TieBlock `json:"ties"`
			Assumptions []string           `json:"assumptions"`
		} `json:"outcome"`
	} `json:"phases"`
}

func evidenceIn(tb testing.TB, record []byte) (e evidence) {
	tb.Helper()
	if err := json.Unmarshal(record, &e); err != nil {
		tb.Fatalf("%v in %s", err, record)
	}
	return e
}

// compact is a JSON document without spaces.
func compact(tb testing.TB, doc []byte) string {
	tb.Helper()
	var b bytes.Buffer
	if err := json.Compact(&b, doc); err != nil {
		tb.Fatal(err)
	}
	return b.String()
}

// journalled returns the coverage record in the journal of the only run that a
// destination still waits for.
func (w *world) journalled() string {
	w.t.Helper()
	paths, err := filepath.Glob(filepath.Join(w.dir, "state", "runs", "*", "journal"))
	if err != nil || len(paths) != 1 {
		w.t.Fatalf("journals: %v %v", paths, err)
	}
	data, err := os.ReadFile(paths[0])
	if err != nil {
		w.t.Fatal(err)
	}
	lines := bytes.Split(bytes.TrimSpace(data), []byte("\n"))
	_, last, _ := bytes.Cut(lines[len(lines)-1], []byte("{"))
	var record struct {
		Sealed struct {
			Coverage json.RawMessage `json:"coverage"`
		} `json:"sealed"`
	}
	if err := json.Unmarshal(append([]byte("{"), last...), &record); err != nil {
		w.t.Fatal(err)
	}
	return compact(w.t, record.Sealed.Coverage)
}

// digestOf is the exclusive or of the MD5 sums of the source's ids, first byte
// lowest.
func (w *world) digest() string {
	var x [md5.Size]byte
	w.source.Each(func(c sandbox.Contact) bool {
		for i, b := range md5.Sum([]byte(c.ID)) { //nolint:gosec // as above
			x[i] ^= b
		}
		return true
	})
	slices.Reverse(x[:])
	return strings.TrimLeft(hex.EncodeToString(x[:]), "0")
}

func TestTheCoverageRecordIsWholeAndTheSameInTheJournalInStateAndBesideTheData(t *testing.T) {
	slow(t)
	for name, shuffled := range map[string]bool{"ties that hold still": false, "ties that do not": true} {
		t.Run(name, func(t *testing.T) {
			o := contacts(900)
			o.CreatedTies, o.ShuffleTies = 330, shuffled
			w := newWorld(t, o)
			waiting := &brokenLoader{Loader: w.lake("waiting")} // keeps the journal
			waiting.down.Store(true)
			job := w.job(run.Destination{Name: "lake", Loader: w.lake("lake")}, run.Destination{Name: "waiting", Loader: waiting})
			asked := int64(0)
			job.Source.MaxRetries, job.Source.Concurrency = 3, 1
			job.Source.Transport = &failing{bad: func(url.Values) bool { asked++; return asked == 3 || asked == 7 }}
			sum, err := w.run(t.Context(), job)
			if err == nil {
				t.Fatal("the destination that is down took the package")
			}
			record := compact(t, sum.Coverage)
			files, err := filepath.Glob(filepath.Join(w.dir, "lake", "contacts", "_sluice_runs", "*.json"))
			if err != nil || len(files) != 1 {
				t.Fatalf("records beside the data: %v %v", files, err)
			}
			beside, err := os.ReadFile(files[0])
			if err != nil {
				t.Fatal(err)
			}
			runs := w.state().Runs
			for place, got := range map[string]string{
				"the journal": w.journalled(), "state": compact(t, runs[len(runs)-1].Coverage), "the table's directory": compact(t, beside),
			} {
				if got != record {
					t.Errorf("in %s stands\n%s\nwant\n%s", place, got, record)
				}
			}
			w.checkEvidence(evidenceIn(t, sum.Coverage), asked, shuffled)
		})
	}
}

// checkEvidence compares the record of a first run, by pages of 100, with the
// source.
func (w *world) checkEvidence(e evidence, asked int64, shuffled bool) {
	t := w.t
	t.Helper()
	if e.Requests != asked || e.Retries != 2 || e.RetriesBy["server_error"] != 2 || e.Pages < 9 || e.Pages > asked-2 || e.Rows < 900 {
		t.Errorf("%d requests were sent, 2 failed; the record says %+v", asked, e)
	}
	// Each page of the tie overlaps the one before it.
	if e.Duplicates < 330/5 {
		t.Errorf("%d duplicates were dropped", e.Duplicates)
	}
	if e.IDs.Count != 900 || e.IDs.MD5XOR != w.digest() {
		t.Errorf("ids are %+v, the source's give %s", e.IDs, w.digest())
	}
	if len(e.Phases) != 2 {
		t.Fatalf("phases: %+v", e.Phases)
	}
	for _, p := range e.Phases {
		if all := strings.Join(p.Outcome.Assumptions, "\n"); len(p.Outcome.Assumptions) < 3 || !strings.Contains(all, "within 1h0m0s of") {
			t.Errorf("%s assumes %q", p.Phase, p.Outcome.Assumptions)
		}
	}
	final := e.Phases[0].Outcome.Final
	if len(final) != 1 || !final[0].After.Equal(time.Unix(0, 0)) || final[0].Through == nil || time.Since(*final[0].Through) > 2*time.Hour {
		t.Errorf("%s is final for %+v, want one stretch up to the lookback", e.Phases[0].Phase, final)
	}
	ties := e.Phases[0].Outcome.Ties
	if len(ties) != 1 || ties[0].Size < 330 || ties[0].Requests < 4 || ties[0].Statistical != shuffled {
		t.Fatalf("ties: %+v", ties)
	}
	if passes := ties[0].Passes; !shuffled && (passes != 2 || ties[0].Why != "") || shuffled && (passes < 11 || ties[0].Why == "") {
		t.Errorf("the tie was drained so: %+v", ties[0])
	}
}

func TestDuplicatesDroppedBeforeAKillAreInTheCoverage(t *testing.T) {
	o := contacts(1200)
	o.CreatedTies = 900
	whole, cut := newWorld(t, o), newWorld(t, o)
	job := whole.job()
	job.Source.Concurrency = 1
	want := evidenceIn(t, whole.mustRun(job).Coverage).Duplicates

	job = cut.job()
	job.Source.Concurrency = 1
	// Stopped in the scan, past the tie: hardly anything is left to be dropped.
	ctx, cancel := context.WithCancel(t.Context())
	cut.afterPage = func(int64) {
		if last := cut.events[len(cut.events)-1]; last.Phase == "scan" && last.Contacts >= 1000 {
			cancel()
		}
	}
	if _, err := cut.run(ctx, job); err == nil {
		t.Fatal("it was not stopped")
	}
	cancel()
	cut.afterPage = nil
	got := evidenceIn(t, cut.mustRun(job).Coverage)
	if !got.Resumed || got.Duplicates < want*9/10 || want < 900 {
		t.Errorf("%d duplicates are in the record of a run that was stopped, %d in that of one that was not", got.Duplicates, want)
	}
	cut.same("lake")
}
