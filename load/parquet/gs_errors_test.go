package parquet_test

import (
	"bytes"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/gcs"
	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/load/loadtest"
	"github.com/sluice-etl/sluice/load/parquet"
)

func hinted(err error) string {
	var h interface{ Hint() string }
	if errors.As(err, &h) {
		return h.Hint()
	}
	return ""
}

func gsPackage(t *testing.T, serial int64, name string) load.Package {
	t.Helper()
	return loadtest.Build(t, loadtest.Spec{Serial: serial, Verify: load.VerifyOff, Coverage: []byte(`{}`), Rows: []loadtest.Row{
		contact("a", 1, int(serial), "name", name),
	}})
}

// filled is a table with one package.
func filled(t *testing.T) (*gcstest.Server, *parquet.GSLoader) {
	t.Helper()
	s := gcstest.Start(t, gsBucket)
	l := openGS(t, gsClient(t, s, nil))
	if _, err := l.Commit(t.Context(), gsPackage(t, 1, "one")); err != nil {
		t.Fatal(err)
	}
	return s, l
}

func TestGSCheckNamesThePermissionsThatLack(t *testing.T) {
	s, l := filled(t)
	s.Deny("storage.objects.delete")
	_, err := l.Check(t.Context(), "lineage-a")
	if !errors.Is(err, gcs.ErrDenied) || !strings.Contains(err.Error(), "storage.objects.delete") || !strings.Contains(hinted(err), "roles/storage.objectUser") {
		t.Errorf("check gives %v; %s", err, hinted(err))
	}
	s.Deny()
	s.SetFault(func(_ int, r *http.Request) gcstest.Fault {
		if strings.HasSuffix(r.URL.Path, "testPermissions") {
			return gcstest.Refuse
		}
		return gcstest.None
	})
	if n, err := l.Check(t.Context(), "lineage-a"); err != nil || n != 1 {
		t.Errorf("a server that cannot tell permissions gives %d, %v", n, err)
	}
	s.SetFault(func(int, *http.Request) gcstest.Fault { return gcstest.Forbid })
	if _, err := l.Check(t.Context(), "lineage-a"); !errors.Is(err, gcs.ErrDenied) || hinted(err) == "" {
		t.Errorf("a bucket that may not be read gives %v", err)
	}
}

func TestGSCheckNamesABucketThatIsNotThere(t *testing.T) {
	s := gcstest.Start(t, gsBucket)
	l := openGS(t, gsClient(t, s, nil), func(o *parquet.GSOptions) { o.Path = "gs://no-such-bucket/x" })
	if _, err := l.Check(t.Context(), "lineage-a"); !errors.Is(err, gcs.ErrNoBucket) || !strings.Contains(hinted(err), "Create the bucket") {
		t.Errorf("check gives %v; %s", err, hinted(err))
	}
	if _, err := l.Commit(t.Context(), gsPackage(t, 1, "one")); !errors.Is(err, gcs.ErrNoBucket) {
		t.Errorf("commit gives %v", err)
	}
}

func TestGSCommitRefusesATableThatSomethingElseChanged(t *testing.T) {
	const file = gsTable + "current/created_month=2026-01/contacts.parquet"
	for what, spoil := range map[string]func(*gcstest.Server){
		"replaced": func(s *gcstest.Server) { s.Put(gsBucket, file, []byte("PAR1")) },
		"removed": func(s *gcstest.Server) {
			objects := s.Objects(t, gsBucket, "")
			delete(objects, file)
			s.Restore(t, gsBucket, objects)
		},
	} {
		s, l := filled(t)
		spoil(s)
		before := s.Generations(t, gsBucket)
		if _, err := l.Commit(t.Context(), gsPackage(t, 2, "two")); err == nil || !strings.Contains(hinted(err), "earlier version") {
			t.Errorf("%s: commit gives %v; %s", what, err, hinted(err))
		}
		if after := s.Generations(t, gsBucket); fmt.Sprint(after) != fmt.Sprint(before) {
			t.Errorf("%s: a refused commit changes %v to %v", what, before, after)
		}
	}
}

func TestGSCommitRefusesAnObjectWhereAFileWillBe(t *testing.T) {
	s, l := filled(t)
	s.Put(gsBucket, gsTable+"current/created_month=2026-02/contacts.parquet", []byte("PAR1"))
	p := loadtest.Build(t, loadtest.Spec{Serial: 2, Rows: []loadtest.Row{contact("b", 2, 2)}})
	before := s.Generations(t, gsBucket)
	if _, err := l.Commit(t.Context(), p); !errors.Is(err, load.ErrForeign) || hinted(err) == "" {
		t.Errorf("commit gives %v; %s", err, hinted(err))
	}
	if after := s.Generations(t, gsBucket); fmt.Sprint(after) != fmt.Sprint(before) {
		t.Errorf("a refused commit changes %v to %v", before, after)
	}
}

// Once a commit is recorded it can be completed, whatever was put in its way.
func TestGSCommitIsCompletedOverWhatSomethingElseWrote(t *testing.T) {
	want, _ := undisturbed(t, gsPackage(t, 1, "one"), gsPackage(t, 2, "two"))
	s, l := filled(t)
	s.SetFault(func(_ int, r *http.Request) gcstest.Fault {
		if strings.Contains(r.URL.Path, "/rewriteTo/") {
			return gcstest.Refuse
		}
		return gcstest.None
	})
	if _, err := l.Commit(t.Context(), gsPackage(t, 2, "two")); err == nil {
		t.Fatal("commit succeeds")
	}
	s.SetFault(nil)
	if n, err := l.Check(t.Context(), "lineage-a"); err != nil || n != 1 {
		t.Errorf("the position of a commit that is not in place is %d, %v", n, err)
	}
	for name := range s.Generations(t, gsBucket) {
		if strings.HasPrefix(name, gsTable+"current/") || name == gsTable+"views.sql" {
			s.Put(gsBucket, name, []byte("something else"))
		}
	}
	if _, err := l.Commit(t.Context(), gsPackage(t, 2, "two")); err != nil {
		t.Fatal(err)
	}
	delete(want, gsTable+"views.sql") // unchanged by the second commit
	got := gsState(t, s)
	delete(got, gsTable+"views.sql")
	if d := differences(want, got); d != "" {
		t.Error(d)
	}
}

func TestGSCommitSaysWhatIsLostWhenItCannotBeCompleted(t *testing.T) {
	s, l := filled(t)
	s.SetFault(func(_ int, r *http.Request) gcstest.Fault {
		if strings.Contains(r.URL.Path, "/rewriteTo/") {
			return gcstest.Refuse
		}
		return gcstest.None
	})
	if _, err := l.Commit(t.Context(), gsPackage(t, 2, "two")); err == nil {
		t.Fatal("commit succeeds")
	}
	s.SetFault(nil)
	objects := s.Objects(t, gsBucket, "")
	for name := range objects {
		if strings.Contains(name, "/_staging/") {
			delete(objects, name)
		}
	}
	s.Restore(t, gsBucket, objects)
	_, err := l.Commit(t.Context(), gsPackage(t, 2, "two"))
	if err == nil || !strings.Contains(err.Error(), "cannot be completed") || hinted(err) == "" {
		t.Errorf("commit gives %v; %s", err, hinted(err))
	}
}

func TestGSTableBroughtFromADiskGoesOn(t *testing.T) {
	root := t.TempDir()
	commit(t, open(t, root, on(unsynced{})), gsPackage(t, 1, "one"))
	s := gcstest.Start(t, gsBucket)
	for path, sum := range snapshot(t, filepath.Join(root, "contacts")) {
		if sum == "dir" {
			continue
		}
		data, err := os.ReadFile(filepath.Join(root, "contacts", path))
		if err != nil {
			t.Fatal(err)
		}
		s.Put(gsBucket, gsTable+filepath.ToSlash(path), data)
	}
	l := openGS(t, gsClient(t, s, nil))
	if n, err := l.Check(t.Context(), "lineage-a"); err != nil || n != 1 {
		t.Errorf("position is %d, %v", n, err)
	}
	if _, err := l.Commit(t.Context(), gsPackage(t, 2, "two")); err != nil {
		t.Fatal(err)
	}
	if rows := current(t, mirror(t, s)); len(rows) != 1 || rows[0]["name"] != "two" {
		t.Errorf("it holds %v", rows)
	}
	// A copy made in the middle of a commit is none.
	objects := s.Objects(t, gsBucket, "")
	objects[gsTable+"_manifests/00000007.json"] = objects[gsTable+"_manifests/00000001.json"]
	delete(objects, gsTable+"_manifests/head.json")
	s.Restore(t, gsBucket, objects)
	if _, err := l.Commit(t.Context(), gsPackage(t, 3, "three")); err == nil || !strings.Contains(hinted(err), "copy it again") {
		t.Errorf("half a copy gives %v; %s", err, hinted(err))
	}
}

func TestGSManifestThatIsDamagedIsSaid(t *testing.T) {
	for _, name := range []string{"head.json", "latest.json"} {
		s, l := filled(t)
		whole := s.Objects(t, gsBucket, gsTable+"_manifests/")[name]
		for what, data := range map[string][]byte{
			"empty":       {},
			"cut":         whole[:len(whole)/2],
			"future":      bytes.Replace(whole, []byte(`"format_version": 1`), []byte(`"format_version": 99`), 1),
			"no manifest": []byte(`{"a": 1}`),
		} {
			s.Put(gsBucket, gsTable+"_manifests/"+name, data)
			if _, err := l.Commit(t.Context(), gsPackage(t, 2, "two")); err == nil || hinted(err) == "" {
				t.Errorf("%s, %s: commit gives %v; %s", name, what, err, hinted(err))
			}
			if _, err := l.Check(t.Context(), "lineage-a"); err == nil {
				t.Errorf("%s, %s: the check passes", name, what)
			}
		}
	}
	s, l := filled(t)
	head := s.Objects(t, gsBucket, gsTable+"_manifests/")["head.json"]
	s.Put(gsBucket, gsTable+"_manifests/head.json", bytes.Replace(head, []byte(`"id": "`), []byte(`"id": "../`), 1))
	if _, err := l.Commit(t.Context(), gsPackage(t, 2, "two")); err == nil {
		t.Error("a commit staged elsewhere is taken")
	}
}

func TestGSWorkingDirectoryIsLocked(t *testing.T) {
	s := gcstest.Start(t, gsBucket)
	work := t.TempDir()
	same := func(o *parquet.GSOptions) { o.WorkDir = work }
	asleep, wake := make(chan struct{}), make(chan struct{})
	tr := &transport{before: func(n int, _ *http.Request) {
		if n == 1 {
			close(asleep)
			<-wake
		}
	}}
	done := make(chan error, 1)
	first := gsPackage(t, 1, "one")
	l := openGS(t, gsClient(t, s, tr), same)
	go func() { _, err := l.Commit(t.Context(), first); done <- err }()
	<-asleep
	var locked *parquet.LockedError
	if _, err := openGS(t, gsClient(t, s, nil), same).Commit(t.Context(), first); !errors.As(err, &locked) || locked.Holder.RunID != "run-001" {
		t.Errorf("the second commit gives %v", err)
	}
	close(wake)
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestNewGSRefusesWhatCannotBeRead(t *testing.T) {
	c := gsClient(t, gcstest.Start(t), nil)
	for _, o := range []parquet.GSOptions{
		{Options: parquet.Options{Path: "gs://lake/x", Table: "contacts"}, WorkDir: "w"},
		{Options: parquet.Options{Path: "gs://lake/x", Table: "contacts"}, Client: c},
		{Options: parquet.Options{Path: "lake/x", Table: "contacts"}, WorkDir: "w", Client: c},
		{Options: parquet.Options{Path: "gs://lake/x*", Table: "contacts"}, WorkDir: "w", Client: c},
		{Options: parquet.Options{Path: "gs://lake/x", Table: "a/b"}, WorkDir: "w", Client: c},
		{Options: parquet.Options{Path: "gs://lake/x", Table: ".."}, WorkDir: "w", Client: c},
		{Options: parquet.Options{Path: "gs://lake/x"}, WorkDir: "w", Client: c},
	} {
		if l, err := parquet.NewGS(o); err == nil {
			t.Errorf("%+v gives %s", o.Options, l.URL())
		}
	}
}
