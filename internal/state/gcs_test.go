package state

import (
	"errors"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/gcs"
	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
)

const bucketURL = "gs://acme-state/sluice/prod"

func gcsClient(t *testing.T, server *gcstest.Server) *gcs.Client {
	t.Helper()
	client, err := gcs.New(t.Context(), gcs.Options{Endpoint: server.URL, RetryPause: time.Millisecond, CallTimeout: 5 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := client.Close(); err != nil {
			t.Error(err)
		}
	})
	return client
}

func openGCS(t *testing.T, server *gcstest.Server, url, dir string, opts ...Option) *Store {
	t.Helper()
	s, err := OpenGCS(gcsClient(t, server), url, dir, noon, append([]Option{WithVersion("test"), WithCommand("sluice run")}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// gcsWorld is a bucket of a real server.
func gcsWorld(t *testing.T) *world {
	t.Helper()
	server := gcstest.Start(t, "acme-state")
	return bucketWorld(t, openGCS(t, server, bucketURL, t.TempDir()).shared)
}

func TestAStateURLThatIsNoneIsRefused(t *testing.T) {
	for _, url := range []string{"", "state", "s3://acme-state", "gs://", "gs://Acme State/x"} {
		if _, err := OpenGCS(nil, url, t.TempDir(), noon); err == nil {
			t.Errorf("%q was opened", url)
		}
	}
}

func TestStateAtTheTopOfABucketHasNoPrefix(t *testing.T) {
	server := gcstest.Start(t, "acme-state")
	s := openGCS(t, server, "gs://acme-state", t.TempDir())
	save(t, s, load(t, s, "nightly"))
	if names := server.Names(t, "acme-state"); len(names) != 1 || names[0] != "state/pipeline.nightly.json" || s.Path("nightly") != "gs://acme-state/state/pipeline.nightly.json" {
		t.Errorf("%v, %s", names, s.Path("nightly"))
	}
}

func TestABucketThatIsMissingIsNotTakenForOneWithoutState(t *testing.T) {
	server := gcstest.Start(t)
	s := openGCS(t, server, bucketURL, t.TempDir())
	_, err := s.Load(t.Context(), "nightly")
	if !errors.Is(err, gcs.ErrNoBucket) || !strings.Contains(hint(t, err), "ucket") {
		t.Errorf("got %v", err)
	}
	if _, err := s.Claim(t.Context(), "nightly", "sync"); err == nil {
		t.Error("it was claimed")
	}
}

func TestAccessThatIsDeniedNamesTheRole(t *testing.T) {
	server := gcstest.Start(t, "acme-state")
	s := openGCS(t, server, bucketURL, t.TempDir())
	server.SetFault(func(int, *http.Request) gcstest.Fault { return gcstest.Forbid })
	if _, err := s.Load(t.Context(), "nightly"); !errors.Is(err, gcs.ErrDenied) || !strings.Contains(hint(t, err), "roles/storage") {
		t.Errorf("got %v; %s", err, hint(t, err))
	}
}

// TestAFaultAtAnyRequestOfAnUpdateAppliesItOnceOrReportsIt fails each request
// of an update by each way there is. The document is the old one or the new
// one, and whole; an update that reports success took effect once.
func TestAFaultAtAnyRequestOfAnUpdateAppliesItOnceOrReportsIt(t *testing.T) {
	server := gcstest.Start(t, "acme-state")
	dir := t.TempDir()
	s := openGCS(t, server, bucketURL, dir, WithRescueDir(t.TempDir()))
	save(t, s, load(t, s, "nightly"))
	server.SetFault(nil)
	if _, err := s.Update(t.Context(), "nightly", enqueue); err != nil {
		t.Fatal(err)
	}
	requests := server.SetFault(nil)
	if requests < 2 {
		t.Fatalf("an update is %d requests: nothing is swept", requests)
	}
	want := load(t, s, "nightly").NextPackage
	for _, fault := range []gcstest.Fault{
		gcstest.Refuse, gcstest.RefuseAfter, gcstest.Drop, gcstest.DropAfter, gcstest.Busy, gcstest.BusyAfter, gcstest.Forbid,
	} {
		for at := 1; at <= requests; at++ {
			server.SetFault(func(n int, _ *http.Request) gcstest.Fault {
				if n == at {
					return fault
				}
				return gcstest.None
			})
			_, err := s.UpdateOrRescue(t.Context(), "nightly", enqueue)
			server.SetFault(nil)
			got := load(t, s, "nightly").NextPackage
			if err == nil {
				want++
			} else if hint(t, err) == "" {
				t.Errorf("no hint: %v", err)
			}
			// Without an answer it may be as before; with one it is as said.
			if got != want {
				t.Fatalf("fault %d at request %d: %v, next package %d, want %d", fault, at, err, got, want)
			}
		}
	}
}
