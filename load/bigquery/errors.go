package bigquery

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strings"
	"syscall"

	"google.golang.org/api/googleapi"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/sluice-etl/sluice/load"
)

// Error is a failure the user can do something about.
type Error struct {
	Message string
	Table   string // project.dataset.table, or less; may be empty
	Err     error
	hint    string
}

// Error returns what failed, where, and the cause.
func (e *Error) Error() string {
	s := e.Message
	if e.Table != "" {
		s += " (" + e.Table + ")"
	}
	if e.Err != nil {
		s += ": " + e.Err.Error()
	}
	return s
}

// Hint returns what to do about it.
func (e *Error) Hint() string { return e.hint }

// Unwrap returns the cause.
func (e *Error) Unwrap() error { return e.Err }

// foreign reports a table that is not ours to write.
func foreign(table, what, hint string) error {
	return &Error{Message: what, Table: table, Err: load.ErrForeign, hint: hint}
}

const (
	otherName = "Give the pipeline another table name or the destination another dataset, or rename what is there."
	startAnew = "Something else changed it after it was sealed. Run with --full to read the contacts again."
)

func damaged(err error) error {
	return &Error{Message: "a part of the package is damaged or gone", Err: err, hint: startAnew}
}

// jobError is why a job failed: the errors of its status.
type jobError struct {
	id      string
	reason  string
	message string
	more    []string // further errors, with their places
}

func (e *jobError) Error() string {
	s := fmt.Sprintf("job %s: %s (%s)", e.id, e.message, e.reason)
	if len(e.more) > 0 {
		s += "; " + strings.Join(e.more, "; ")
	}
	return s
}

// passingReasons are the reasons of the page "Error messages" whose remedy is
// to try again.
func passingReasons() []string {
	return []string{"backendError", "rateLimitExceeded", "jobRateLimitExceeded", "internalError", "jobBackendError", "jobInternalError"}
}

// again reports whether the call may go well the next time. ctx is not over.
func again(err error) bool {
	if err == nil || errors.Is(err, context.Canceled) || errors.Is(err, errLostStream) || errors.Is(err, errUnknownColumn) {
		return false
	}
	if errors.Is(err, context.DeadlineExceeded) { // of one attempt
		return true
	}
	var je *jobError
	if errors.As(err, &je) {
		return slices.Contains(passingReasons(), je.reason)
	}
	var ge *googleapi.Error
	if errors.As(err, &ge) {
		if reason := reasonOf(ge); slices.Contains(passingReasons(), reason) {
			return true
		}
		switch ge.Code {
		case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusInternalServerError, http.StatusBadGateway,
			http.StatusServiceUnavailable, http.StatusGatewayTimeout:
			return true
		}
		return false
	}
	switch grpcCode(err) {
	// As the comments of AppendRowsResponse.error have it, and as the vendor's
	// own clients do: INTERNAL and ABORTED may be tried again, and RESOURCE_
	// EXHAUSTED says that a rate is too high.
	case codes.Unavailable, codes.Aborted, codes.ResourceExhausted, codes.Internal, codes.DeadlineExceeded, codes.Canceled:
		return true
	case codes.Unknown, codes.OK:
	default:
		return false
	}
	return lostConnection(err)
}

// lostConnection reports whether err is the network's.
func lostConnection(err error) bool {
	for _, known := range []error{io.EOF, io.ErrUnexpectedEOF, net.ErrClosed, syscall.ECONNRESET, syscall.ECONNREFUSED, syscall.ECONNABORTED, syscall.EPIPE} {
		if errors.Is(err, known) {
			return true
		}
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		return true
	}
	var dns *net.DNSError
	if errors.As(err, &dns) {
		return dns.IsTemporary
	}
	text := err.Error() // net/http has no types for these
	return strings.Contains(text, "http2: stream closed") || strings.Contains(text, "http2: client connection lost") ||
		strings.Contains(text, "server sent GOAWAY") || strings.Contains(text, "server closed idle connection")
}

func grpcCode(err error) codes.Code {
	var s interface{ GRPCStatus() *status.Status }
	if errors.As(err, &s) {
		return s.GRPCStatus().Code()
	}
	return codes.Unknown
}

func reasonOf(e *googleapi.Error) string {
	if len(e.Errors) == 0 {
		return ""
	}
	return e.Errors[0].Reason
}

// httpCode returns the status of a REST error, 0 for any other.
func httpCode(err error) int {
	var ge *googleapi.Error
	if errors.As(err, &ge) {
		return ge.Code
	}
	return 0
}

func notFound(err error) bool {
	return httpCode(err) == http.StatusNotFound || grpcCode(err) == codes.NotFound
}

// explain adds to an error of the service what the user can do.
func explain(doing, table string, err error) error {
	if err == nil || errors.Is(err, context.Canceled) {
		return err
	}
	var known interface{ Hint() string }
	if errors.As(err, &known) {
		return err
	}
	code, reason := grpcCode(err), ""
	var ge *googleapi.Error
	if errors.As(err, &ge) {
		reason = reasonOf(ge)
	}
	var je *jobError
	if errors.As(err, &je) {
		reason = je.reason
	}
	text := err.Error()
	var hint string
	switch {
	case httpCode(err) == http.StatusUnauthorized, code == codes.Unauthenticated, strings.Contains(text, "could not find default credentials"),
		strings.Contains(text, "oauth2:"), strings.Contains(text, "invalid_grant"):
		hint = "Log in with `gcloud auth application-default login`, or give the destination a key file or an account to impersonate."
	case reason == "accessDenied", code == codes.PermissionDenied:
		hint = "Grant the account the roles that the documentation lists for the nightly run (BigQuery Data Editor on the dataset, BigQuery Job User on the project)."
	case reason == "bytesBilledLimitExceeded":
		hint = "Raise the destination's maximum_bytes_billed, or leave it out."
	case reason == "quotaExceeded":
		hint = "A quota of the project is used up. Run again later; what is to be committed is kept."
	case reason == "billingNotEnabled", reason == "billingTierLimitExceeded":
		hint = "The project has to have billing enabled for this."
	case again(err):
		hint = "The service did not answer as it should, several times over. Run again later; what is to be committed is kept."
	default:
		return fmt.Errorf("%s (%s): %w", doing, table, err)
	}
	return &Error{Message: "cannot " + doing, Table: table, Err: err, hint: hint}
}
