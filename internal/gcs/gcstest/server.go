// Package gcstest serves Google Cloud Storage to tests, on loopback: the one of
// github.com/fsouza/fake-gcs-server, with what it leaves out and with faults.
//
// That server (v1.56.1) checks ifGenerationMatch at the end of an upload, and
// ignores it in copies and deletions: those are checked here, together with
// their effect. It does not know testIamPermissions either.
package gcstest

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"

	"github.com/fsouza/fake-gcs-server/fakestorage"
)

// TB is what the package needs of testing.TB.
type TB interface {
	Helper()
	Fatal(args ...any)
	Cleanup(f func())
}

// Fault is what becomes of a request. The zero value is none.
type Fault int

// The faults. With Refuse nothing is done; with RefuseAfter, DropAfter and
// BusyAfter it is done and the answer does not say so.
const (
	None        Fault = iota
	Refuse            // an error that is not retried
	RefuseAfter       // the same, after the effect
	Drop              // the connection ends
	DropAfter         // the same, after the effect
	Busy              // 503
	BusyAfter         // 503, after the effect
	Forbid            // 403
	Garble            // the content of an answer is changed
)

// Server is a running server.
type Server struct {
	// URL is its base, without a slash at the end.
	URL string

	fake   *fakestorage.Server
	mu     sync.Mutex // held while a change is checked and made
	state  sync.Mutex // guards what follows
	count  int
	fault  func(n int, r *http.Request) Fault
	denied map[string]bool
}

// Start serves the buckets until the test ends.
func Start(tb TB, buckets ...string) *Server {
	tb.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // at once, and for the test's life
	if err != nil {
		tb.Fatal(err)
	}
	s := &Server{URL: "http://" + l.Addr().String()}
	s.fake, err = fakestorage.NewServerWithOptions(fakestorage.Options{NoListener: true, ExternalURL: s.URL, PublicHost: l.Addr().String()})
	if err != nil {
		tb.Fatal(err)
	}
	for _, b := range buckets {
		s.fake.CreateBucketWithOpts(fakestorage.CreateBucketOpts{Name: b})
	}
	srv := &http.Server{Handler: s} //nolint:gosec // loopback, for a test
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = srv.Serve(l) // ends with Close
	}()
	tb.Cleanup(func() {
		_ = srv.Close()
		<-done
	})
	return s
}

// SetFault says what becomes of each request from here on; n counts from 1. f
// may wait, and nil means no faults. It returns how many requests came since
// the last call.
func (s *Server) SetFault(f func(n int, r *http.Request) Fault) (requests int) {
	s.state.Lock()
	defer s.state.Unlock()
	n := s.count
	s.count, s.fault = 0, f
	return n
}

// Deny takes permissions away, as far as testIamPermissions says.
func (s *Server) Deny(permissions ...string) {
	s.state.Lock()
	defer s.state.Unlock()
	s.denied = map[string]bool{}
	for _, p := range permissions {
		s.denied[p] = true
	}
}

// Objects returns the content of all objects of a bucket whose names begin
// with prefix, by the rest of their names.
func (s *Server) Objects(tb TB, bucket, prefix string) map[string][]byte {
	tb.Helper()
	out := map[string][]byte{}
	for _, o := range s.list(tb, bucket, prefix) {
		full, err := s.fake.GetObject(bucket, o.Name)
		if err != nil {
			tb.Fatal(err)
		}
		out[strings.TrimPrefix(o.Name, prefix)] = full.Content
	}
	return out
}

// Generations returns the generation of every object of a bucket by name.
func (s *Server) Generations(tb TB, bucket string) map[string]int64 {
	tb.Helper()
	out := map[string]int64{}
	for _, o := range s.list(tb, bucket, "") {
		out[o.Name] = o.Generation
	}
	return out
}

// Put writes an object behind everyone's back.
func (s *Server) Put(bucket, name string, data []byte) {
	s.fake.CreateObject(fakestorage.Object{ObjectAttrs: fakestorage.ObjectAttrs{BucketName: bucket, Name: name}, Content: data})
}

// Names returns the names of a bucket's objects in order.
func (s *Server) Names(tb TB, bucket string) []string {
	tb.Helper()
	return slices.Sorted(maps.Keys(s.Generations(tb, bucket)))
}

// Restore empties a bucket and puts back what Objects gave.
func (s *Server) Restore(tb TB, bucket string, objects map[string][]byte) {
	tb.Helper()
	for _, name := range s.Names(tb, bucket) {
		if err := s.fake.Backend().DeleteObject(bucket, name); err != nil {
			tb.Fatal(err)
		}
	}
	for name, data := range objects {
		s.Put(bucket, name, data)
	}
}

func (s *Server) list(tb TB, bucket, prefix string) []fakestorage.ObjectAttrs {
	tb.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	found, err := s.fake.ListObjectsWithOptionsPaginated(bucket, fakestorage.ListOptions{Prefix: prefix})
	if err != nil {
		tb.Fatal(err)
	}
	return found.Objects
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	s.state.Lock()
	s.count++
	n, f := s.count, s.fault
	s.state.Unlock()
	fault := None
	if f != nil {
		fault = f(n, r)
	}
	var a *answer
	switch fault {
	case Refuse, Drop, Busy, Forbid:
	case None, RefuseAfter, DropAfter, BusyAfter, Garble:
		a = s.answer(r)
	}
	switch fault {
	case None:
		a.send(w)
	case Garble:
		if body := a.body.Bytes(); len(body) > 0 {
			body[len(body)/2] ^= 1
		}
		a.send(w)
	case Refuse, RefuseAfter:
		refuse(w, http.StatusTeapot, "stopped by the test")
	case Busy, BusyAfter:
		refuse(w, http.StatusServiceUnavailable, "busy")
	case Forbid:
		refuse(w, http.StatusForbidden, "exporter does not have storage.objects.get access to the object.")
	case Drop, DropAfter:
		panic(http.ErrAbortHandler) // ends the connection, without a word in the log
	}
}

func refuse(w http.ResponseWriter, code int, message string) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(map[string]any{"error": map[string]any{"code": code, "message": message}}) // the test sees
}

// answer has the request done by the server behind.
func (s *Server) answer(r *http.Request) *answer {
	a := &answer{header: http.Header{}, code: http.StatusOK}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		s.mu.Lock()
		defer s.mu.Unlock()
	}
	if strings.HasSuffix(r.URL.Path, "/iam/testPermissions") {
		s.permissions(a, r)
		return a
	}
	if bucket, object, ok := changed(r); ok {
		want, err := strconv.ParseInt(r.URL.Query().Get("ifGenerationMatch"), 10, 64)
		if err == nil && want != s.generation(bucket, object) {
			refuse(a, http.StatusPreconditionFailed, "At least one of the pre-conditions you specified did not hold.")
			return a
		}
	}
	s.fake.HTTPHandler().ServeHTTP(a, r)
	return a
}

// changed returns the object that a copy or a deletion changes.
func changed(r *http.Request) (bucket, object string, ok bool) {
	path := r.URL.EscapedPath()
	switch {
	case r.Method == http.MethodPost && strings.Contains(path, "/rewriteTo/"):
		_, path, _ = strings.Cut(path, "/rewriteTo")
	case r.Method == http.MethodDelete && strings.HasPrefix(path, "/storage/v1"):
		path = strings.TrimPrefix(path, "/storage/v1")
	default:
		return "", "", false
	}
	bucket, object, ok = strings.Cut(strings.TrimPrefix(path, "/b/"), "/o/")
	if name, err := url.PathUnescape(object); err == nil {
		object = name
	}
	return bucket, object, ok
}

// generation returns that of an object, 0 if there is none.
func (s *Server) generation(bucket, object string) int64 {
	o, err := s.fake.GetObjectStreaming(bucket, object)
	if err != nil {
		return 0
	}
	_ = o.Close() // in memory
	return o.Generation
}

func (s *Server) permissions(a *answer, r *http.Request) {
	s.state.Lock()
	defer s.state.Unlock()
	granted := []string{}
	for _, p := range r.URL.Query()["permissions"] {
		if !s.denied[p] {
			granted = append(granted, p)
		}
	}
	a.header.Set("Content-Type", "application/json")
	_ = json.NewEncoder(a).Encode(map[string]any{"permissions": granted}) // in memory
}

// answer is an answer that was not sent yet.
type answer struct {
	header http.Header
	code   int
	body   bytes.Buffer
}

var _ http.ResponseWriter = (*answer)(nil)

// Header implements http.ResponseWriter.
func (a *answer) Header() http.Header { return a.header }

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(code int) { a.code = code }

// Write implements http.ResponseWriter.
func (a *answer) Write(p []byte) (int, error) {
	n, err := a.body.Write(p)
	if err != nil {
		return n, fmt.Errorf("keep answer: %w", err)
	}
	return n, nil
}

func (a *answer) send(w http.ResponseWriter) {
	maps.Copy(w.Header(), a.header)
	w.WriteHeader(a.code)
	_, _ = w.Write(a.body.Bytes()) // the client sees
}
