package bqtest

import (
	"errors"
	"fmt"
	"net/http"
	"strings"
)

// apiError is an error as REST v2 prints it: an HTTP status and the reason of
// the page "Error messages".
type apiError struct {
	status   int
	reason   string
	location string
	message  string
}

func (e *apiError) Error() string { return e.message }

func invalid(format string, args ...any) *apiError {
	return &apiError{status: http.StatusBadRequest, reason: "invalid", message: fmt.Sprintf(format, args...)}
}

func notFound(what, name string) *apiError {
	return &apiError{status: http.StatusNotFound, reason: "notFound", message: "Not found: " + what + " " + name}
}

func duplicate(what, name string) *apiError {
	return &apiError{status: http.StatusConflict, reason: "duplicate", message: "Already Exists: " + what + " " + name}
}

// unknown refuses what the stand-in does not have, rather than ignoring it.
func unknown(format string, args ...any) *apiError {
	return &apiError{status: http.StatusNotImplemented, reason: "notImplemented", message: "stand-in: " + fmt.Sprintf(format, args...)}
}

// queryError is an error in a query, at a place of its text.
func queryError(p pos, format string, args ...any) *apiError {
	return &apiError{
		status: http.StatusBadRequest, reason: "invalidQuery", location: "query",
		message: fmt.Sprintf(format, args...) + " at " + p.String(),
	}
}

// asAPI makes an error of the engine, or any other, one of the API.
func asAPI(err error) *apiError {
	var e *apiError
	if errors.As(err, &e) {
		return e
	}
	var f *faultError
	if errors.As(err, &f) {
		return &apiError{status: f.status, reason: f.reason, message: f.message}
	}
	return &apiError{status: http.StatusInternalServerError, reason: "internalError", message: err.Error()}
}

// asQuery makes an error of DuckDB while it ran a translated query one of a
// query: what passes translation and fails there is a fault of its values.
func asQuery(err error) error {
	if err == nil {
		return nil
	}
	var e *apiError
	if errors.As(err, &e) {
		return err
	}
	message := strings.TrimPrefix(err.Error(), "Invalid Input Error: ")
	return &apiError{status: http.StatusBadRequest, reason: "invalidQuery", location: "query", message: message}
}
