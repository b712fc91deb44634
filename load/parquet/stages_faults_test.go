package parquet_test

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs"
	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
)

// stagesIn are the stages of a lake, none where there is no table of them.
func stagesIn(t *testing.T, root string) []load.Stage {
	t.Helper()
	file := parquet.StagesFile(root, loadtest.StagesTable)
	if file == "" {
		return nil
	}
	return loadtest.ReadStages(t, duck(t), fmt.Sprintf(askStages, "'"+file+"'"))
}

// A process that dies at any operation leaves the old stages or the new ones,
// and views that can be read; the next call ends as if nothing had been.
func TestStagesStoppedAnywhereAreTheOldOrTheNewOnes(t *testing.T) {
	slow(t)
	for name, before := range map[string]*load.StageList{"none before": nil, "some before": new(loadtest.StagesOf("run-001"))} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			scratch := t.TempDir()
			root, base := filepath.Join(scratch, "lake"), filepath.Join(scratch, "base")
			l := open(t, root, on(unsynced{}), staged)
			commit(t, l, loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: tickets()}))
			var old []load.Stage
			if before != nil {
				if err := l.ReplaceStages(t.Context(), *before); err != nil {
					t.Fatal(err)
				}
				old = before.Stages
			}
			copyTree(t, root, base)
			list := loadtest.ManyStages("run-002", 3000)
			count := faultfs.New(unsynced{}, faultfs.Fault{})
			if err := open(t, root, on(count), staged).ReplaceStages(t.Context(), list); err != nil {
				t.Fatal(err)
			}
			after := snapshot(t, root)
			for op, what := range count.Trace() {
				// Writes to one file are all alike.
				if op++; strings.HasPrefix(what, "write") && op%16 != 0 {
					continue
				}
				if err := os.RemoveAll(root); err != nil {
					t.Fatal(err)
				}
				copyTree(t, base, root)
				fsys := faultfs.New(unsynced{}, faultfs.Fault{Op: op, Err: faultfs.ErrKilled, Sticky: true})
				if err := open(t, root, on(fsys), staged).ReplaceStages(t.Context(), list); err == nil && !fsys.Failed() {
					t.Errorf("operation %d is none", op)
				}
				got := stagesIn(t, root)
				if cmp.Diff(old, got) != "" && cmp.Diff(list.Stages, got) != "" {
					t.Errorf("stopped at operation %d there are %d stages, neither the old nor the new", op, len(got))
				}
				if op%5 == 0 || op == count.Ops() {
					db := duck(t)
					runViews(t, db, filepath.Join(root, "contacts"))
					want(t, db, "SELECT count(*) AS n FROM contacts", "5", "n")
				}
				if err := open(t, root, on(unsynced{}), staged).ReplaceStages(t.Context(), list); err != nil {
					t.Fatalf("after operation %d: %v", op, err)
				}
				if d := cmp.Diff(after, snapshot(t, root)); d != "" {
					t.Fatalf("after operation %d the next call ends in other files (-want +got):\n%s", op, d)
				}
			}
			t.Logf("%d operations", count.Ops())
		})
	}
}

func TestStagesInABucketStoppedAtAnyRequestAreTheOldOrTheNewOnes(t *testing.T) {
	s := gcstest.Start(t, gsBucket)
	withStages := func(o *parquet.GSOptions) { staged(&o.Options) }
	l := openGS(t, gsClient(t, s, nil), withStages)
	if _, err := l.Commit(t.Context(), loadtest.Build(t, loadtest.Spec{Serial: 1, Rows: tickets()})); err != nil {
		t.Fatal(err)
	}
	first := loadtest.StagesOf("run-001")
	if err := l.ReplaceStages(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	before := gsState(t, s)
	list := loadtest.ManyStages("run-002", 3000)
	s.SetFault(nil)
	if err := l.ReplaceStages(t.Context(), list); err != nil {
		t.Fatal(err)
	}
	requests, after := s.SetFault(nil), gsState(t, s)
	object := ""
	for name := range after {
		if strings.HasSuffix(name, "/stages.parquet") {
			object = name
		}
	}
	for n := 1; n <= requests; n++ {
		for _, at := range []gcstest.Fault{gcstest.Refuse, gcstest.RefuseAfter} {
			if err := l.ReplaceStages(t.Context(), first); err != nil {
				t.Fatal(err)
			}
			s.SetFault(func(i int, _ *http.Request) gcstest.Fault {
				switch {
				case i < n:
					return gcstest.None
				case i == n:
					return at
				default:
					return gcstest.Refuse
				}
			})
			err := openGS(t, gsClient(t, s, nil), withStages).ReplaceStages(t.Context(), list)
			s.SetFault(nil)
			if got := gsState(t, s)[object]; err == nil && got != after[object] || got != before[object] && got != after[object] || errors.Is(err, load.ErrForeign) {
				t.Errorf("stopped at request %d (%v) the object is neither the old one nor the new", n, err)
			}
			if err := openGS(t, gsClient(t, s, nil), withStages).ReplaceStages(t.Context(), list); err != nil {
				t.Fatalf("after request %d: %v", n, err)
			}
			if d := differences(after, gsState(t, s)); d != "" {
				t.Errorf("after request %d the next call ends in another table: %s", n, d)
			}
		}
	}
	t.Logf("%d requests", requests)
}
