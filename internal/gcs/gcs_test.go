package gcs_test

import (
	"bytes"
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/gcs"
	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
)

const bucket = "lake"

func start(t *testing.T, change ...func(*gcs.Options)) (*gcstest.Server, *gcs.Client) {
	t.Helper()
	s := gcstest.Start(t, bucket)
	return s, client(t, s, change...)
}

func client(t *testing.T, s *gcstest.Server, change ...func(*gcs.Options)) *gcs.Client {
	t.Helper()
	o := gcs.Options{Endpoint: s.URL, RetryPause: time.Millisecond}
	for _, f := range change {
		f(&o)
	}
	c, err := gcs.New(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Close(); err != nil {
			t.Error(err)
		}
	})
	return c
}

func put(t *testing.T, c *gcs.Client, name, data string, cond gcs.If) gcs.Object {
	t.Helper()
	o, err := c.Put(t.Context(), bucket, name, []byte(data), cond, nil)
	if err != nil {
		t.Fatalf("put %s: %v", name, err)
	}
	return o
}

func wantContent(t *testing.T, c *gcs.Client, name, want string) {
	t.Helper()
	got, _, err := c.Get(t.Context(), bucket, name)
	if err != nil || string(got) != want {
		t.Errorf("%s holds %q, %v; want %q", name, got, err, want)
	}
}

func TestAnObjectComesBackAsItWasWritten(t *testing.T) {
	_, c := start(t)
	const name = "a folder/ñ+ü%20 & 'x' (1)=2026-01.parquet"
	o, err := c.Put(t.Context(), bucket, name, []byte("contacts"), gcs.Absent, map[string]string{"by": "run 1"})
	if err != nil {
		t.Fatal(err)
	}
	data, got, err := c.Get(t.Context(), bucket, name)
	if err != nil || string(data) != "contacts" {
		t.Fatalf("read %q, %v", data, err)
	}
	if got.Generation != o.Generation || got.Generation == 0 || got.CRC32C != o.CRC32C || got.Size != 8 {
		t.Errorf("read %+v, written was %+v", got, o)
	}
	stat, err := c.Stat(t.Context(), bucket, name)
	if err != nil || stat.Generation != o.Generation || stat.Metadata["by"] != "run 1" || stat.CRC32C != o.CRC32C || stat.Name != name || stat.Updated.IsZero() {
		t.Errorf("it is %+v, %v", stat, err)
	}
	wantContent(t, c, name, "contacts")
	empty := put(t, c, "empty", "", gcs.Absent)
	wantContent(t, c, "empty", "")
	if empty.Size != 0 {
		t.Errorf("an empty object has %d bytes", empty.Size)
	}
}

func TestAFileTravelsInChunksAndBack(t *testing.T) {
	_, c := start(t, func(o *gcs.Options) { o.ChunkBytes = 256 << 10 })
	dir := t.TempDir()
	for _, size := range []int{1, 256<<10 - 1, 256 << 10, 256<<10 + 1, 1<<20 + 7} {
		data := make([]byte, size)
		for i := range data {
			data[i] = byte(rand.Uint32())
		}
		path := filepath.Join(dir, "file")
		if err := os.WriteFile(path, data, 0o600); err != nil {
			t.Fatal(err)
		}
		o, err := c.Upload(t.Context(), bucket, "file", path, gcs.Any, nil)
		if err != nil || o.Size != int64(size) {
			t.Fatalf("%d bytes: upload gives %+v, %v", size, o, err)
		}
		back, sum := filepath.Join(dir, "back"), &bytes.Buffer{}
		got, err := c.Download(t.Context(), bucket, "file", atomicfile.OS{}, back, 0o600, sum)
		if err != nil || got.Generation != o.Generation {
			t.Fatalf("%d bytes: download gives %+v, %v", size, got, err)
		}
		if stored, err := os.ReadFile(back); err != nil || !bytes.Equal(stored, data) || !bytes.Equal(sum.Bytes(), data) {
			t.Errorf("%d bytes come back otherwise: %v", size, err)
		}
	}
}

func TestAWriteThatFindsAnotherGenerationChangesNothing(t *testing.T) {
	_, c := start(t)
	ctx := t.Context()
	first := put(t, c, "x", "one", gcs.Absent)
	put(t, c, "from", "copy", gcs.Absent)
	if _, err := c.Put(ctx, bucket, "x", []byte("two"), gcs.Absent, nil); !errors.Is(err, gcs.ErrChanged) {
		t.Errorf("creating what is there gives %v", err)
	}
	if _, err := c.Copy(ctx, bucket, "from", "x", gcs.Absent, nil); !errors.Is(err, gcs.ErrChanged) {
		t.Errorf("copying onto what is there gives %v", err)
	}
	second := put(t, c, "x", "two", gcs.If(first.Generation))
	if second.Generation == first.Generation {
		t.Error("a generation comes twice")
	}
	stale := gcs.If(first.Generation)
	if _, err := c.Put(ctx, bucket, "x", []byte("three"), stale, nil); !errors.Is(err, gcs.ErrChanged) {
		t.Errorf("replacing an old generation gives %v", err)
	}
	if _, err := c.Copy(ctx, bucket, "from", "x", stale, nil); !errors.Is(err, gcs.ErrChanged) {
		t.Errorf("copying onto an old generation gives %v", err)
	}
	if err := c.Delete(ctx, bucket, "x", stale); !errors.Is(err, gcs.ErrChanged) {
		t.Errorf("deleting an old generation gives %v", err)
	}
	if _, err := c.Put(ctx, bucket, "gone", []byte("x"), stale, nil); !errors.Is(err, gcs.ErrChanged) {
		t.Errorf("replacing what is not there gives %v", err)
	}
	wantContent(t, c, "x", "two")
	o, err := c.Copy(ctx, bucket, "from", "x", gcs.If(second.Generation), map[string]string{"by": "me"})
	if err != nil || o.Metadata["by"] != "me" {
		t.Errorf("copying gives %+v, %v", o, err)
	}
	wantContent(t, c, "x", "copy")
	for range 2 {
		if err := c.Delete(ctx, bucket, "x", gcs.If(o.Generation)); err != nil {
			t.Errorf("deleting gives %v", err)
		}
	}
	if err := c.Delete(ctx, bucket, "x", gcs.Any); err != nil {
		t.Errorf("deleting what is gone gives %v", err)
	}
	if _, _, err := c.Get(ctx, bucket, "x"); !errors.Is(err, gcs.ErrNotExist) {
		t.Errorf("reading what was deleted gives %v", err)
	}
	if _, err := c.Stat(ctx, bucket, "x"); !errors.Is(err, gcs.ErrNotExist) {
		t.Errorf("looking at what was deleted gives %v", err)
	}
	if _, err := c.Copy(ctx, bucket, "x", "y", gcs.Absent, nil); !errors.Is(err, gcs.ErrNotExist) {
		t.Errorf("copying what was deleted gives %v", err)
	}
}

func TestOfManyWritersOneWins(t *testing.T) {
	_, c := start(t)
	first := put(t, c, "head", "0", gcs.Absent)
	put(t, c, "from", "copy", gcs.Absent)
	var wg sync.WaitGroup
	var mu sync.Mutex
	won := 0
	for i := range 8 {
		wg.Go(func() {
			var err error
			if i%2 == 0 {
				_, err = c.Put(t.Context(), bucket, "head", []byte{byte('a' + i)}, gcs.If(first.Generation), nil)
			} else {
				_, err = c.Copy(t.Context(), bucket, "from", "head", gcs.If(first.Generation), nil)
			}
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				won++
			case !errors.Is(err, gcs.ErrChanged):
				t.Error(err)
			}
		})
	}
	wg.Wait()
	if won != 1 {
		t.Errorf("%d writers won", won)
	}
}

// changes tells requests that change something from those that ask.
func changes(r *http.Request) bool { return r.Method != http.MethodGet }

func TestAWriteWhoseAnswerIsLostSucceedsAndIsDoneOnce(t *testing.T) {
	for _, fault := range []gcstest.Fault{gcstest.Drop, gcstest.DropAfter, gcstest.Busy, gcstest.BusyAfter} {
		s, c := start(t)
		once := func() {
			lost := false
			s.SetFault(func(_ int, r *http.Request) gcstest.Fault {
				if lost || !changes(r) {
					return gcstest.None
				}
				lost = true
				return fault
			})
		}
		put(t, c, "from", "copy", gcs.Absent)
		once()
		o := put(t, c, "x", "one", gcs.Absent)
		once()
		o2 := put(t, c, "x", "two", gcs.If(o.Generation))
		wantContent(t, c, "x", "two")
		once()
		o3, err := c.Copy(t.Context(), bucket, "from", "x", gcs.If(o2.Generation), nil)
		if err != nil || o3.Generation <= o2.Generation {
			t.Errorf("fault %d: copy gives %+v, %v", fault, o3, err)
		}
		wantContent(t, c, "x", "copy")
		if now, err := c.Stat(t.Context(), bucket, "x"); err != nil || now.Generation != o3.Generation {
			t.Errorf("fault %d: generation %d was returned, %d stands there, %v", fault, o3.Generation, now.Generation, err)
		}
		once()
		if err := c.Delete(t.Context(), bucket, "x", gcs.If(o3.Generation)); err != nil {
			t.Errorf("fault %d: delete gives %v", fault, err)
		}
	}
}

func TestALostWriteThatAnotherReplacedIsChanged(t *testing.T) {
	s, c := start(t)
	first := put(t, c, "x", "one", gcs.Absent)
	n := 0
	s.SetFault(func(_ int, r *http.Request) gcstest.Fault {
		if !changes(r) {
			return gcstest.None
		}
		if n++; n == 1 {
			return gcstest.DropAfter
		}
		s.Put(bucket, "x", []byte("another's"))
		return gcstest.None
	})
	if _, err := c.Put(t.Context(), bucket, "x", []byte("two"), gcs.If(first.Generation), nil); !errors.Is(err, gcs.ErrChanged) {
		t.Errorf("put gives %v", err)
	}
	wantContent(t, c, "x", "another's")
}

func TestAnUploadThatLosesAChunkGoesOn(t *testing.T) {
	data := bytes.Repeat([]byte("contacts "), 100_000)
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, data, 0o600); err != nil {
		t.Fatal(err)
	}
	s, c := start(t, func(o *gcs.Options) { o.ChunkBytes = 256 << 10 })
	for n := 1; n <= 5; n++ { // one to begin, four chunks
		s.SetFault(func(i int, _ *http.Request) gcstest.Fault {
			if i == n {
				return gcstest.Busy
			}
			return gcstest.None
		})
		o, err := c.Upload(t.Context(), bucket, "file", path, gcs.Any, nil)
		if n == 1 { // without a condition, beginning is not repeated
			var hinted interface{ Hint() string }
			if err == nil || !errors.As(err, &hinted) || hinted.Hint() == "" {
				t.Errorf("a busy service gives %v", err)
			}
			continue
		}
		if err != nil || o.Size != int64(len(data)) {
			t.Errorf("request %d lost: %+v, %v", n, o, err)
		}
	}
}

func TestContentThatChangedOnItsWayIsNotTaken(t *testing.T) {
	s, c := start(t)
	put(t, c, "x", strings.Repeat("contacts", 100), gcs.Absent)
	s.SetFault(func(int, *http.Request) gcstest.Fault { return gcstest.Garble })
	path := filepath.Join(t.TempDir(), "file")
	if o, err := c.Download(t.Context(), bucket, "x", atomicfile.OS{}, path, 0o600); err == nil {
		t.Errorf("download gives %+v", o)
	}
	if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it is there: %v", err)
	}
}

func TestAListIsCompleteAndInOrder(t *testing.T) {
	_, c := start(t)
	for _, name := range []string{"p/b", "p/a", "p/a/c", "q/a", "p"} {
		put(t, c, name, name, gcs.Absent)
	}
	list, err := c.List(t.Context(), bucket, "p/")
	var names []string
	for _, o := range list {
		names = append(names, o.Name)
		if o.Generation == 0 || o.Size == 0 || o.CRC32C == 0 {
			t.Errorf("listed as %+v", o)
		}
	}
	if got := strings.Join(names, " "); err != nil || got != "p/a p/a/c p/b" {
		t.Errorf("list is %s, %v", got, err)
	}
	enough, calls := errors.New("enough"), 0
	if err := c.Each(t.Context(), bucket, "", func(gcs.Object) error { calls++; return enough }); !errors.Is(err, enough) || calls != 1 {
		t.Errorf("a listing ends after %d objects with %v", calls, err)
	}
	if list, err := c.List(t.Context(), bucket, "nothing/"); err != nil || len(list) != 0 {
		t.Errorf("nothing is %v, %v", list, err)
	}
}

func hintOf(err error) string {
	var hinted interface{ Hint() string }
	if errors.As(err, &hinted) {
		return hinted.Hint()
	}
	return ""
}

func TestErrorsSayWhatToDo(t *testing.T) {
	s, c := start(t)
	_, err := c.List(t.Context(), "no-such-bucket", "x/")
	if !errors.Is(err, gcs.ErrNoBucket) || !strings.Contains(hintOf(err), "Create the bucket") || !strings.Contains(err.Error(), "gs://no-such-bucket/x/") {
		t.Errorf("no bucket: %v; %s", err, hintOf(err))
	}
	s.SetFault(func(int, *http.Request) gcstest.Fault { return gcstest.Forbid })
	_, _, err = c.Get(t.Context(), bucket, "x")
	if !errors.Is(err, gcs.ErrDenied) || !strings.Contains(hintOf(err), "roles/storage.objectUser") || !strings.Contains(err.Error(), "read gs://lake/x") {
		t.Errorf("no permission: %v; %s", err, hintOf(err))
	}
	_, err = c.Put(t.Context(), bucket, "x", nil, gcs.Absent, nil)
	if !errors.Is(err, gcs.ErrDenied) || !strings.Contains(err.Error(), "storage.objects.get") {
		t.Errorf("no permission: %v", err)
	}
	t.Setenv("GOOGLE_APPLICATION_CREDENTIALS", filepath.Join(t.TempDir(), "absent.json"))
	if _, err := gcs.New(t.Context(), gcs.Options{}); !strings.Contains(hintOf(err), "GOOGLE_APPLICATION_CREDENTIALS") {
		t.Errorf("no credentials: %v; %s", err, hintOf(err))
	}
}

func TestMissingPermissionsAreNamed(t *testing.T) {
	s, c := start(t)
	s.Deny("storage.objects.delete")
	missing, err := c.Missing(t.Context(), bucket, "storage.objects.create", "storage.objects.delete")
	if err != nil || len(missing) != 1 || missing[0] != "storage.objects.delete" {
		t.Errorf("missing are %v, %v", missing, err)
	}
}

func TestACallThatGetsNoAnswerEnds(t *testing.T) {
	s, c := start(t, func(o *gcs.Options) { o.CallTimeout, o.StallTimeout = 50*time.Millisecond, 50*time.Millisecond })
	block := make(chan struct{})
	defer close(block)
	s.SetFault(func(int, *http.Request) gcstest.Fault { <-block; return gcstest.None })
	for name, call := range map[string]func(context.Context) error{
		"get":  func(ctx context.Context) error { _, _, err := c.Get(ctx, bucket, "x"); return err },
		"stat": func(ctx context.Context) error { _, err := c.Stat(ctx, bucket, "x"); return err },
		"put":  func(ctx context.Context) error { _, err := c.Put(ctx, bucket, "x", nil, gcs.Absent, nil); return err },
		"list": func(ctx context.Context) error { _, err := c.List(ctx, bucket, "x"); return err },
	} {
		if err := call(t.Context()); !errors.Is(err, context.DeadlineExceeded) || hintOf(err) == "" {
			t.Errorf("%s gives %v", name, err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if err := call(ctx); !errors.Is(err, context.Canceled) {
			t.Errorf("%s of a caller who left gives %v", name, err)
		}
	}
}

func TestParseURL(t *testing.T) {
	for _, good := range [][3]string{
		{"gs://lake", "lake", ""},
		{"gs://lake/", "lake", ""},
		{"gs://my.lake-1_x/a/b c/ñ/", "my.lake-1_x", "a/b c/ñ"},
	} {
		b, p, err := gcs.ParseURL(good[0])
		if err != nil || b != good[1] || p != good[2] {
			t.Errorf("%s is %q, %q, %v", good[0], b, p, err)
		}
	}
	for _, bad := range []string{"", "lake/x", "s3://lake/x", "gs://", "gs:///x", "gs://Lake", "gs://la", "gs://lake//x", "gs://lake/../x", "gs://lake/x*", "gs://lake/x?y", "gs://lake/a\nb", "gs://lake/\xff"} {
		if b, p, err := gcs.ParseURL(bad); err == nil {
			t.Errorf("%q is %q, %q", bad, b, p)
		}
	}
}

func TestTheVendorsVariableNamesAServer(t *testing.T) {
	s := gcstest.Start(t, bucket)
	t.Setenv("STORAGE_EMULATOR_HOST", strings.TrimPrefix(s.URL, "http://"))
	c, err := gcs.New(t.Context(), gcs.Options{})
	if err != nil {
		t.Fatal(err)
	}
	put(t, c, "x", "one", gcs.Absent)
	wantContent(t, c, "x", "one")
	if err := c.Close(); err != nil {
		t.Error(err)
	}
}
