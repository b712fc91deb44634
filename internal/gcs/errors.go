package gcs

import (
	"context"
	"errors"
	"net/http"
	"strings"

	"cloud.google.com/go/storage"
	"google.golang.org/api/googleapi"
)

// ErrNotExist marks an object that is not there.
var ErrNotExist = errors.New("object does not exist")

// ErrNoBucket marks a bucket that is not there.
var ErrNoBucket = errors.New("bucket does not exist")

// ErrChanged marks a write that was refused because the object is not, or no
// longer, the one that it was to replace.
var ErrChanged = errors.New("object was changed by another")

// ErrDenied marks a request that the credentials do not allow.
var ErrDenied = errors.New("not allowed")

// Error is a failure the user can do something about.
type Error struct {
	Message string
	Err     error
	hint    string
}

// Error returns what failed, and the cause.
func (e *Error) Error() string { return e.Message + ": " + e.Err.Error() }

// Hint returns what to do about it; it may be empty.
func (e *Error) Hint() string { return e.hint }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

func isNotExist(err error) bool { return errors.Is(err, ErrNotExist) }
func isChanged(err error) bool  { return errors.Is(err, ErrChanged) }

const (
	hintCredentials = "Set GOOGLE_APPLICATION_CREDENTIALS to the key file of a service account, or log in with `gcloud auth application-default login`, or run where the machine has a service account."
	hintRefused     = "The credentials were not accepted: look whether the key was deleted or has expired, and whether this machine's clock is right."
	hintRole        = "Give the service account the role Storage Object User (roles/storage.objectUser) on the bucket; to read only, Storage Object Viewer (roles/storage.objectViewer)."
	hintBucket      = "Create the bucket, or look for a slip in its name."
	hintLater       = "The service or the way to it is disturbed. Run again later: what was begun is completed then."
)

// failure is an error of the service with one of the sentinels.
type failure struct {
	kind error
	err  error
}

func (f *failure) Error() string {
	var api *googleapi.Error
	if !errors.As(f.err, &api) || api.Message == "" {
		return f.kind.Error()
	}
	return f.kind.Error() + " (" + strings.TrimSpace(api.Message) + ")"
}

func (f *failure) Unwrap() []error { return []error{f.kind, f.err} }

// explain names what was done and, where there is something to do about it,
// says so. The end of ctx goes before what the service says about it.
func explain(ctx context.Context, doing, what string, err error) error {
	if err == nil {
		return nil
	}
	message := doing
	if what != "" {
		message += " " + what
	}
	if ctx.Err() != nil {
		cause := context.Cause(ctx)
		var late *overdueError
		if errors.As(cause, &late) {
			return &Error{Message: message, Err: errors.Join(late, last(err)), hint: hintLater}
		}
		return &Error{Message: message, Err: cause}
	}
	hint, kind := classify(err)
	if kind != nil {
		err = &failure{kind: kind, err: err}
	}
	return &Error{Message: message, Err: err, hint: hint}
}

// last is what went wrong before the time was over, if the service said.
func last(err error) error {
	var api *googleapi.Error
	if errors.As(err, &api) {
		return api
	}
	return nil
}

func classify(err error) (hint string, kind error) {
	var api *googleapi.Error
	code := 0
	if errors.As(err, &api) {
		code = api.Code
	}
	switch text := err.Error(); {
	case errors.Is(err, storage.ErrBucketNotExist), code == http.StatusNotFound && strings.Contains(text, "bucket does not exist"):
		return hintBucket, ErrNoBucket
	case errors.Is(err, storage.ErrObjectNotExist), code == http.StatusNotFound:
		return "", ErrNotExist
	case code == http.StatusPreconditionFailed, code == http.StatusNotModified:
		return "", ErrChanged
	case code == http.StatusForbidden:
		return hintRole, ErrDenied
	case code == http.StatusUnauthorized:
		return hintRefused, ErrDenied
	case strings.Contains(text, "cannot fetch token"), strings.Contains(text, "invalid_grant"):
		return hintRefused, ErrDenied
	case code == http.StatusTooManyRequests, code >= http.StatusInternalServerError:
		return hintLater, nil
	default:
		return "", nil
	}
}

// again says which failures of an attempt are worth another one, in calls that
// may be repeated. The vendor's own choice leaves out uploads whose connection
// ended without an answer, and what HTTP/2 says in its own words.
func again(err error) bool {
	if storage.ShouldRetry(err) {
		return true
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return true
	}
	for _, s := range []string{"server sent GOAWAY", "stream error:", "client connection lost"} {
		if err != nil && strings.Contains(err.Error(), s) {
			return true
		}
	}
	return false
}
