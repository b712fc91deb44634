package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"reflect"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/atomicfile/faultfs"
)

// put adds a resource at an address.
func put(address string) func(*Resources) error {
	return func(r *Resources) error {
		parts := splitAddress(address)
		r.Items[address] = Resource{Kind: parts[2], Destination: parts[1], AppliedAt: noon.Now()}
		return nil
	}
}

func change(t *testing.T, s *Store, f func(*Resources) error) *Resources {
	t.Helper()
	r, err := s.UpdateResources(t.Context(), f)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func resources(t *testing.T, s *Store) *Resources {
	t.Helper()
	r, err := s.LoadResources(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestTheSerialOfResourcesCountsWhatChanged(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		s, other := w.open(t), w.elsewhere(t)
		if r := change(t, s, func(*Resources) error { return nil }); r.Serial != 0 || len(w.documents(t)) > 0 {
			t.Fatalf("a change of nothing saved serial %d, %v", r.Serial, w.documents(t))
		}
		r := change(t, s, put("destination.lake.table.contacts"))
		if r.Serial != 1 || len(r.Lineage) != 36 || r.SluiceVersion != "test" {
			t.Fatalf("after the first change: %+v", r)
		}
		for range 3 {
			change(t, other, put("destination.lake.table.contacts"))
		}
		got := resources(t, other)
		if diff := cmp.Diff(r, got); diff != "" {
			t.Errorf("saving the same changed something:\n%s", diff)
		}
		change(t, other, put("destination.lake.view.active"))
		change(t, s, func(r *Resources) error { delete(r.Items, "destination.lake.table.contacts"); return nil })
		if got := resources(t, s); got.Serial != 3 || got.Lineage != r.Lineage || len(got.Items) != 1 {
			t.Errorf("got %+v", got)
		}
		failed := errors.New("no")
		if _, err := s.UpdateResources(t.Context(), func(r *Resources) error { clear(r.Items); return failed }); !errors.Is(err, failed) || len(resources(t, s).Items) != 1 {
			t.Errorf("a change that failed was saved, or %v", err)
		}
	})
}

func TestChangesOfResourcesBesideEachOtherAreAllKept(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		stores := []*Store{w.open(t), w.open(t), w.elsewhere(t)}
		var all sync.WaitGroup
		for i := range 12 {
			all.Go(func() {
				if _, err := stores[i%3].UpdateResources(t.Context(), put(fmt.Sprintf("destination.lake.view.v%d", i))); err != nil {
					t.Error(err)
				}
			})
		}
		all.Wait()
		if r := resources(t, stores[0]); len(r.Items) != 12 || r.Serial != 12 {
			t.Errorf("%d items, serial %d", len(r.Items), r.Serial)
		}
	})
}

func TestADocumentOfResourcesOfFormat1LoadsWhole(t *testing.T) {
	data, err := os.ReadFile("testdata/resources.v1.json")
	if err != nil {
		t.Fatal(err)
	}
	everywhere(t, func(w *world) {
		t := w.t
		w.put(t, resourcesDoc, data)
		r := resources(t, w.open(t))
		again, err := json.MarshalIndent(r, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(data), string(again)+"\n"); diff != "" {
			t.Errorf("fields were lost or changed:\n%s", diff)
		}
		if path := unset(reflect.ValueOf(*r), "Resources"); path != "" {
			t.Errorf("the fixture does not show %s", path)
		}
	})
}

func TestResourcesThatCannotBeReadAreNamedAndLeftAsTheyAre(t *testing.T) {
	const lineage = `"lineage":"5f0c8f5e-6c1b-4f0e-9d6a-0d8f2b1c7a11"`
	for name, tc := range map[string]struct {
		doc  string
		is   error
		says string
	}{
		"a newer format":           {`{"format_version":2,"sluice_version":"9.1","things":[]}`, ErrFuture, "format 2, written by sluice 9.1; this version reads formats up to 1"},
		"an unknown field":         {`{"format_version":1,` + lineage + `,"serial":1,"items":{},"more":1}`, ErrCorrupt, "more"},
		"cut":                      {`{"format_version":1,`, ErrCorrupt, "not whole JSON"},
		"no items":                 {`{"format_version":1,` + lineage + `,"serial":1,"items":null}`, ErrCorrupt, "no items"},
		"no lineage":               {`{"format_version":1,"serial":1,"items":{}}`, ErrCorrupt, "not a UUID"},
		"an address of other kind": {`{"format_version":1,` + lineage + `,"serial":1,"items":{"destination.lake.view.x":{"kind":"table","destination":"lake","applied_at":"2026-09-01T12:00:00Z"}}}`, ErrCorrupt, "no address of kind"},
		"another destination":      {`{"format_version":1,` + lineage + `,"serial":1,"items":{"destination.lake.view.x":{"kind":"view","destination":"pond","applied_at":"2026-09-01T12:00:00Z"}}}`, ErrCorrupt, `at destination "pond"`},
		"nothing":                  {``, ErrCorrupt, "empty"},
	} {
		t.Run(name, func(t *testing.T) {
			everywhere(t, func(w *world) {
				t := w.t
				w.put(t, resourcesDoc, []byte(tc.doc))
				s := w.open(t)
				_, loadErr := s.LoadResources(t.Context())
				_, updateErr := s.UpdateResources(t.Context(), put("destination.lake.view.v"))
				for _, err := range []error{loadErr, updateErr} {
					if !errors.Is(err, tc.is) || !strings.Contains(err.Error(), tc.says) || !strings.Contains(err.Error(), s.ResourcesPath()) || hint(t, err) == "" {
						t.Errorf("got %v", err)
					}
				}
				if got := w.documents(t); len(got) != 1 || got[resourcesDoc] != tc.doc {
					t.Errorf("now there are %v", got)
				}
			})
		})
	}
}

func TestResourcesThatCannotBeSavedAreRescuedAndPushedBack(t *testing.T) {
	dir, rescue := t.TempDir(), t.TempDir()
	good := open(t, dir)
	change(t, good, put("destination.lake.table.contacts"))
	full := open(t, dir, WithFS(faultfs.New(nil, faultfs.Fault{Op: 1, Err: syscall.ENOSPC, Sticky: true})), WithRescueDir(rescue), WithPushCommand("sluice -f x.yaml state push"))
	_, err := full.UpdateResources(t.Context(), put("destination.lake.view.active"))
	var e *EmergencyError
	if !errors.As(err, &e) || e.Pipeline != "" || !strings.HasPrefix(e.Rescue, rescue) || !strings.HasSuffix(hint(t, err), "sluice -f x.yaml state push "+e.Rescue) {
		t.Fatalf("got %v", err)
	}
	info, err := os.Stat(e.Rescue)
	if err != nil || info.Mode().Perm()&0o077 != 0 {
		t.Errorf("rescued with mode %v, %v", info.Mode(), err)
	}
	data, err := os.ReadFile(e.Rescue)
	if err != nil {
		t.Fatal(err)
	}
	p, err := Parse(e.Rescue, data)
	if err != nil {
		t.Fatal(err)
	}
	for _, already := range []bool{false, true} {
		got, err := good.PushResources(t.Context(), p.Resources, false, false)
		if err != nil || got.Same != already || got.Serial != 2 || len(got.Lost) > 0 {
			t.Errorf("%+v, %v", got, err)
		}
	}
	if r := resources(t, good); len(r.Items) != 2 || r.Serial != 2 {
		t.Errorf("recovered %+v", r)
	}
}

func TestAnAddressIsCutAtItsDotsButNotWithinBrackets(t *testing.T) {
	for address, kind := range map[string]string{
		`pipeline.nightly`: KindPipeline, `pipeline.nightly["a.b"]`: KindPipeline, `destination.lake.dataset`: KindDataset,
		`destination.lake.table.contacts`: KindTable, `destination.lake.view.contacts_active`: KindView, "pipeline": "", "pipeline.": "",
		"destination.lake": "", "destination.lake.table": "", "destination.lake.table.a.b": "", "pipeline.a b": "",
	} {
		for _, k := range []string{KindPipeline, KindDataset, KindTable, KindView} {
			if got := ValidAddress(address, k); got != (k == kind) {
				t.Errorf("%s as %s: %v", address, k, got)
			}
		}
	}
}
