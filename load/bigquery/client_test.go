package bigquery

import (
	"crypto/rand"
	"crypto/rsa"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"google.golang.org/api/googleapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// keyFile writes the key of a service account that nobody knows.
func keyFile(t *testing.T) string {
	t.Helper()
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	text, err := json.Marshal(map[string]string{
		"type": "service_account", "project_id": "p", "private_key_id": "k", "client_email": "a@p.iam.gserviceaccount.com", "token_uri": "http://127.0.0.1:1/token",
		"private_key": string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der})),
	})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestEveryWayToLogInConnects(t *testing.T) {
	t.Parallel()
	key := keyFile(t)
	for name, o := range map[string]Options{
		"key file":                      {KeyFile: key},
		"key file and another account":  {KeyFile: key, Impersonate: "b@p.iam.gserviceaccount.com"},
		"an emulator, which needs none": {Endpoint: "http://127.0.0.1:1", GRPCEndpoint: "127.0.0.1:2", KeyFile: "/nowhere"},
	} {
		o.Project, o.Dataset, o.Table, o.Method = "p", "d", "t", Stream
		r, err := newRemote(t.Context(), o)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		if err := r.Close(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestOptionsThatCannotBeMeantAreRefused(t *testing.T) {
	t.Parallel()
	whole := Options{Project: "p", Dataset: "d", Table: "t", Method: Stream, Endpoint: "http://127.0.0.1:1", GRPCEndpoint: "127.0.0.1:2"}
	broken := filepath.Join(t.TempDir(), "key.json")
	if err := os.WriteFile(broken, []byte(`{"private_key": "very secret"`), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, change := range map[string]func(o *Options){
		"no table":                  func(o *Options) { o.Table = "" },
		"no method":                 func(o *Options) { o.Method = "" },
		"half an emulator":          func(o *Options) { o.GRPCEndpoint = "" },
		"staleness without cdc":     func(o *Options) { o.MaxStaleness = time.Second },
		"a key file that is gone":   func(o *Options) { o.Endpoint, o.GRPCEndpoint, o.KeyFile = "", "", "/nowhere/key.json" },
		"a key file that is no key": func(o *Options) { o.Endpoint, o.GRPCEndpoint, o.KeyFile = "", "", broken },
	} {
		o := whole
		change(&o)
		_, err := newRemote(t.Context(), o)
		if err == nil || strings.Contains(err.Error(), "very secret") {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

func TestErrorsSayWhatToDo(t *testing.T) {
	t.Parallel()
	rest := func(code int, reason string) error {
		return &googleapi.Error{Code: code, Message: "no", Errors: []googleapi.ErrorItem{{Reason: reason}}}
	}
	for _, tc := range []struct {
		err  error
		hint string
	}{
		{rest(http.StatusForbidden, "accessDenied"), "BigQuery Data Editor"},
		{status.Error(codes.PermissionDenied, "no"), "BigQuery Data Editor"},
		{rest(http.StatusUnauthorized, "authError"), "gcloud auth"},
		{rest(http.StatusForbidden, "quotaExceeded"), "quota"},
		{&jobError{reason: "bytesBilledLimitExceeded"}, "maximum_bytes_billed"},
		{status.Error(codes.Unavailable, "no"), "Run again later"},
		{fmt.Errorf("ask: %w", rest(http.StatusServiceUnavailable, "backendError")), "Run again later"},
	} {
		var e *Error
		if err := explain("do it", "p.d.t", tc.err); !errors.As(err, &e) || !strings.Contains(e.Hint(), tc.hint) || !errors.Is(err, tc.err) {
			t.Errorf("%v: explained as %v", tc.err, err)
		}
	}
}
