package run_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/transform"
)

// stages returns the sandbox's stages by how many contacts stand in them, and
// the stage of each contact.
func (w *world) stages() (counts map[string]int, of map[string]string) {
	counts, of = map[string]int{}, map[string]string{}
	w.source.Each(func(c sandbox.Contact) bool {
		if c.Ticket != nil && c.Ticket.CurrentStageID != nil {
			counts[*c.Ticket.CurrentStageID]++
			of[c.ID] = *c.Ticket.CurrentStageID
		}
		return true
	})
	return counts, of
}

// holds fails unless the contacts of a lake that are not marked as deleted are
// those for which want is true.
func (w *world) holds(name string, want func(sandbox.Contact) bool) {
	w.t.Helper()
	alive := w.alive(name)
	expected := 0
	w.source.Each(func(c sandbox.Contact) bool {
		if want(c) {
			expected++
		}
		if want(c) != alive[c.ID] {
			w.t.Errorf("contact %s is in the table: %t, belongs there: %t", c.ID, alive[c.ID], want(c))
		}
		return true
	})
	if expected != len(alive) {
		w.t.Errorf("the table holds %d contacts, %d belong there", len(alive), expected)
	}
	w.tidy()
}

func TestASnapshotHoldsWhatTheSourceLetsThroughAndMarksWhatHasLeft(t *testing.T) {
	w := newWorld(t, contacts(600))
	counts, of := w.stages()
	var stage, elsewhere string
	for s, n := range counts {
		if stage == "" || n > counts[stage] {
			stage, elsewhere = s, stage
		} else {
			elsewhere = s
		}
	}
	if stage == "" || elsewhere == "" {
		t.Fatalf("too few stages: %v", counts)
	}
	inStage := func(c sandbox.Contact) bool {
		return c.Ticket != nil && c.Ticket.CurrentStageID != nil && *c.Ticket.CurrentStageID == stage
	}
	job := w.job()
	job.Sync, job.Stages = run.SyncSnapshot, []string{stage}
	w.mustRun(job)
	w.holds("lake", inStage)
	if got := len(w.stored("lake")); got != counts[stage] {
		t.Errorf("%d rows are stored; the source was to leave all but %d out", got, counts[stage])
	}
	var moved []string
	for id, s := range of {
		if s == stage && len(moved) < 7 {
			moved = append(moved, id)
		}
	}
	for i, id := range moved {
		// Half of them move without their updated_at: a snapshot sees it all the same.
		if err := w.source.Update(id, sandbox.Change{StageID: &elsewhere, Silent: i%2 == 0}); err != nil {
			t.Fatal(err)
		}
	}
	sum := w.mustRun(job)
	w.holds("lake", inStage)
	if sum.Changed != 0 || sum.Deleted != int64(len(moved)) {
		t.Errorf("%d contacts changed and %d were marked, %d left", sum.Changed, sum.Deleted, len(moved))
	}
	if err := w.source.Update(moved[0], sandbox.Change{StageID: &stage, Silent: true}); err != nil {
		t.Fatal(err)
	}
	w.mustRun(job)
	w.holds("lake", inStage)
	if ev := w.events[0]; ev.Mode != "snapshot" {
		t.Errorf("mode %q: %s", ev.Mode, ev.Reason)
	}
}

func TestASnapshotThatNobodyPassesIsEmptyAndAnEmptyAccountAnError(t *testing.T) {
	w := newWorld(t, contacts(120))
	job := w.job()
	job.Sync, job.Stages = run.SyncSnapshot, []string{"123e4567-e89b-12d3-a456-426614174000"}
	w.mustRun(job)
	w.holds("lake", func(sandbox.Contact) bool { return false })
	empty := newWorld(t, contacts(0))
	job = empty.job()
	job.Sync, job.Stages = run.SyncSnapshot, []string{"123e4567-e89b-12d3-a456-426614174000"}
	var none *run.EmptySourceError
	if _, err := empty.run(t.Context(), job); !errors.As(err, &none) {
		t.Errorf("got %v", err)
	}
}

func TestRecentHoldsThoseWhoWroteLatelyAndMarksTheOthers(t *testing.T) {
	for _, alone := range []bool{false, true} {
		t.Run(map[bool]string{false: "filters combine", true: "days alone"}[alone], func(t *testing.T) {
			w := newWorld(t, contacts(800))
			// A window whose edge no contact crosses while the test runs.
			days, edge := w.quietEdge()
			job := w.job()
			job.Sync, job.Days, job.DaysAlone = run.SyncRecent, days, alone
			recent := func(c sandbox.Contact) bool { return c.LastMessageAt != nil && c.LastMessageAt.After(edge) }
			w.mustRun(job)
			w.holds("lake", recent)
			if n := len(w.alive("lake")); n == 0 || n == 800 {
				t.Fatalf("%d of 800 contacts are recent", n)
			}
			var old string
			w.source.Each(func(c sandbox.Contact) bool {
				old = c.ID
				return recent(c)
			})
			if err := w.source.Update(old, sandbox.Change{}); err != nil { // a message
				t.Fatal(err)
			}
			w.mustRun(job)
			w.holds("lake", recent)
			// A narrower window takes out those who are outside by now, and keeps
			// their rows.
			stored := len(w.stored("lake"))
			job.Days = 1
			w.mustRun(job)
			w.holds("lake", func(c sandbox.Contact) bool {
				return c.LastMessageAt != nil && time.Since(*c.LastMessageAt) < 24*time.Hour
			})
			if got := len(w.stored("lake")); got != stored {
				t.Errorf("%d rows are stored, were %d", got, stored)
			}
		})
	}
}

// quietEdge returns a number of days such that no contact's last message lies
// near the border, with contacts on both sides.
func (w *world) quietEdge() (days int, edge time.Time) {
	w.t.Helper()
	now := time.Now()
	for days = 5; days <= 365; days++ {
		edge = now.AddDate(0, 0, -days)
		near, inside := false, 0
		w.source.Each(func(c sandbox.Contact) bool {
			if m := c.LastMessageAt; m != nil {
				near = near || m.Sub(edge).Abs() < 10*time.Minute
				if m.After(edge) {
					inside++
				}
			}
			return true
		})
		if !near && inside > 20 {
			return days, edge
		}
	}
	w.t.Fatal("no window has a quiet edge")
	return 0, edge
}

func (w *world) pipelines(ctx context.Context) []extract.Pipeline {
	w.t.Helper()
	client, err := extract.NewClient(w.job().Source, clock.System{})
	if err != nil {
		w.t.Fatal(err)
	}
	defer client.Close()
	list, err := client.Pipelines(ctx)
	if err != nil {
		w.t.Fatal(err)
	}
	return list
}

func TestFiltersByStageAndFieldTakeThoseOutWhoLeave(t *testing.T) {
	w := newWorld(t, contacts(500))
	counts, of := w.stages()
	var stage string
	for s, n := range counts {
		if stage == "" || n > counts[stage] {
			stage = s
		}
	}
	job := w.job()
	job.Stages = []string{stage}
	in := func(c sandbox.Contact) bool {
		return c.Ticket != nil && c.Ticket.CurrentStageID != nil && *c.Ticket.CurrentStageID == stage
	}
	w.mustRun(job)
	w.holds("lake", in)
	none := ""
	for id, s := range of {
		if s == stage {
			if err := w.source.Update(id, sandbox.Change{StageID: &none}); err != nil {
				t.Fatal(err)
			}
			break
		}
	}
	w.mustRun(job)
	w.holds("lake", in)

	var pipeline string
	for _, p := range w.pipelines(t.Context()) {
		for _, s := range p.Stages {
			if s.ID == stage {
				pipeline = p.ID
			}
		}
	}
	job.Pipelines = []string{pipeline}
	w.mustRun(job)
	w.holds("lake", in)
	if ev := w.events[0]; ev.Mode != "incremental" { // the same stages: nothing to read again
		t.Errorf("a pipeline that adds nothing to the filter led to %s: %s", ev.Mode, ev.Reason)
	}
	job.Pipelines = []string{"123e4567-e89b-12d3-a456-426614174000"}
	var unknown *run.NoPipelineError
	if _, err := w.run(t.Context(), job); !errors.As(err, &unknown) || !strings.Contains(unknown.Hint(), pipeline) {
		t.Errorf("got %v", err)
	}
}

func TestAFilterByACustomFieldIsTheSameOnEitherSide(t *testing.T) {
	w := newWorld(t, contacts(500))
	tier := "gold"
	n := 0
	w.source.Each(func(c sandbox.Contact) bool {
		n++
		if n%3 == 0 {
			if err := w.source.Update(c.ID, sandbox.Change{Customer: []sandbox.Field{{Key: "loyalty_tier", Value: json.RawMessage(`"` + tier + `"`)}}}); err != nil {
				t.Error(err)
			}
		}
		return true
	})
	field := &transform.FieldFilter{Key: "loyalty_tier", Value: tier, Entity: "customer"}
	ours, theirs := w.job(run.Destination{Name: "ours", Loader: w.lake("ours")}), w.job(run.Destination{Name: "theirs", Loader: w.lake("theirs")})
	ours.Field, theirs.Field, theirs.Sync, theirs.Pipeline = field, field, run.SyncSnapshot, "other"
	w.mustRun(ours)
	w.mustRun(theirs)
	a, b := w.alive("ours"), w.alive("theirs")
	if len(a) != n/3 || len(b) != n/3 {
		t.Errorf("%d pass on our side, %d at the source, %d have the value", len(a), len(b), n/3)
	}
	for id := range a {
		if !b[id] {
			t.Errorf("%s passes on our side alone", id)
		}
	}
}

func TestARunThatIsGoneOnWithUnderAnotherKeyIsRefused(t *testing.T) {
	w := newWorld(t, contacts(2000))
	o := contacts(2000)
	o.Seed = 99
	other := newWorld(t, o)
	ctx, cancel := context.WithCancel(t.Context())
	w.afterPage = func(pages int64) {
		if pages >= 7 {
			cancel()
		}
	}
	var interrupted *run.InterruptedError
	if _, err := w.run(ctx, w.job()); !errors.As(err, &interrupted) || interrupted.Staged == 0 {
		t.Fatalf("got %v", err)
	}
	w.afterPage = nil
	job := w.job()
	job.Source.BaseURL = other.url
	_, err := w.run(t.Context(), job)
	var mixed *run.MixedRunError
	if !errors.As(err, &mixed) || !strings.Contains(mixed.Hint(), mixed.Dir) {
		t.Fatalf("got %v", err)
	}
	w.mustRun(w.job())
	w.same("lake")
	w.tidy()
}

func TestTheCoverageSaysWhatWasRetriedWhatIsFinalAndWhichIDsCame(t *testing.T) {
	w := newWorld(t, contacts(300))
	job := w.job()
	ill := 0
	job.Source.MaxRetries = 3
	job.Source.Transport = &failing{bad: func(url.Values) bool { ill++; return ill == 2 || ill == 5 }}
	sum := w.mustRun(job)
	var cov struct {
		RetriesBy map[string]int64 `json:"retries_by"`
		IDs       struct {
			Count  int64  `json:"count"`
			MD5XOR string `json:"md5_xor"`
		} `json:"ids"`
		Phases []struct {
			Phase   string `json:"phase"`
			Outcome struct {
				Final []struct{ After, Through *time.Time } `json:"final"`
			} `json:"outcome"`
		} `json:"phases"`
	}
	if err := json.Unmarshal(sum.Coverage, &cov); err != nil {
		t.Fatal(err)
	}
	if cov.RetriesBy["server_error"] != 2 {
		t.Errorf("retries: %v", cov.RetriesBy)
	}
	if cov.IDs.Count != 300 || len(cov.IDs.MD5XOR) < 28 {
		t.Errorf("ids: %+v", cov.IDs)
	}
	if len(cov.Phases) != 2 || len(cov.Phases[0].Outcome.Final) != 1 || cov.Phases[0].Outcome.Final[0].Through == nil {
		t.Errorf("phases: %+v", cov.Phases)
	}
}

func TestTiesDrainedBeforeAKillAreInTheCoverage(t *testing.T) {
	o := contacts(4000)
	o.CreatedTies = 330
	w := newWorld(t, o)
	job := w.job()
	job.Source.Concurrency = 1
	var sum run.Summary
	for stops := 0; ; stops++ {
		ctx, cancel := context.WithCancel(t.Context())
		pages := 0
		w.afterPage = func(int64) {
			if pages++; pages == 8 {
				cancel()
			}
		}
		var err error
		sum, err = w.run(ctx, job)
		cancel()
		if err == nil {
			if stops < 3 {
				t.Fatalf("it was stopped %d times only", stops)
			}
			break
		}
	}
	var cov struct {
		Phases []struct {
			Phase   string `json:"phase"`
			Outcome struct {
				Ties []extract.TieBlock `json:"ties"`
			} `json:"outcome"`
		} `json:"phases"`
	}
	if err := json.Unmarshal(sum.Coverage, &cov); err != nil {
		t.Fatal(err)
	}
	if ties := cov.Phases[0].Outcome.Ties; len(ties) != 1 || ties[0].Size < 330 {
		t.Errorf("ties of %s: %+v", cov.Phases[0].Phase, ties)
	}
	w.same("lake")
}
