package extract_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/extract"
)

func TestTheStartOfABodyIsShownOnOneLineAsServed(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(http.StatusNotFound)
		_, _ = io.WriteString(w, "{\n\t\"message\": \"it's\x1b[31m gone\"}\r\n")
	})
	_, _, err := read(t, client)
	if err == nil || !strings.HasSuffix(err.Error(), "status 404: '{ \"message\": \"it's\ufffd[31m gone\"}'") {
		t.Errorf("got %v", err)
	}
}

func TestTimesInARequestKeepTheirColons(t *testing.T) {
	err := &extract.StatusError{Status: 404, Request: "/api/public/contacts?created_after=1970-01-01T00%3A00%3A00.000Z"}
	if want := "get /api/public/contacts?created_after=1970-01-01T00:00:00.000Z: status 404"; err.Error() != want {
		t.Errorf("got %q, want %q", err, want)
	}
}

type advised struct{ hint string }

func (*advised) Error() string  { return "element 1 is a string" }
func (e *advised) Hint() string { return e.hint }

func TestWhoFoundTheFaultOfAPageAdvises(t *testing.T) {
	for hint, want := range map[string]string{"ask the vendor": "ask the vendor", "": "check the source's url"} {
		err := &extract.PageError{Err: fmt.Errorf("%w: %w", extract.ErrBadPage, &advised{hint})}
		if !strings.Contains(err.Hint(), want) || !errors.Is(err, extract.ErrBadPage) {
			t.Errorf("the hint is %q, want %q", err.Hint(), want)
		}
	}
}
