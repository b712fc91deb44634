package extract

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode"
)

// ErrBadPage marks a body that is not a page of contacts. A Sink's Decode
// wraps it; the client then asks again.
var ErrBadPage = errors.New("not a page of contacts")

// Hinter is an error that also says what to do about it.
type Hinter interface {
	error
	Hint() string
}

var (
	_ Hinter = (*SourceError)(nil)
	_ Hinter = (*StatusError)(nil)
	_ Hinter = (*BadRequestError)(nil)
	_ Hinter = (*UnauthorizedError)(nil)
	_ Hinter = (*ForbiddenError)(nil)
	_ Hinter = (*TransportError)(nil)
	_ Hinter = (*PageError)(nil)
	_ Hinter = (*TooLargeError)(nil)
	_ Hinter = (*RedirectError)(nil)
	_ Hinter = (*OrderError)(nil)
	_ Hinter = (*TieError)(nil)
	_ Hinter = (*GapError)(nil)
	_ Hinter = (*WrongContactError)(nil)
)

// SourceError says that a Source cannot be used as it is.
type SourceError struct {
	Field   string // of Source
	Message string
	Advice  string
}

// Error names the fault.
func (e *SourceError) Error() string { return "check source: " + e.Message }

// Hint says what to do.
func (e *SourceError) Hint() string { return e.Advice }

// StatusError is an answer with a status that is not 200, after the retries
// that were due. Every such error can be taken with errors.As as a
// *StatusError.
type StatusError struct {
	Status     int
	Request    string // path and query
	Body       string // its start, the key removed
	Attempts   int
	RetryAfter time.Duration // as the server asked; 0 where it did not
}

// Error names status, request and the start of the body.
func (e *StatusError) Error() string {
	return fmt.Sprintf("get %s: status %d%s%s", readable(e.Request), e.Status, times(e.Attempts), quoted(e.Body))
}

// Hint says what to do.
func (e *StatusError) Hint() string {
	switch {
	case e.Status == 404 && !strings.Contains(e.Request, contactsPath):
		return "the endpoint does not have this path: check the source's url, and whether your account has this part of the API"
	case e.Status == 404:
		return "check the source's url: the path /api/public/contacts is appended to it"
	case e.Status == 429 && e.RetryAfter > 0:
		return fmt.Sprintf("the server asks to wait %s, which is more than the retry budget; run again later or lower requests_per_second", e.RetryAfter)
	case e.Status == 429:
		return "lower requests_per_second of the source, or run when fewer others use the key"
	case e.Status >= 500:
		return "the server failed repeatedly; run again later, what was read is kept"
	case e.Status >= 300 && e.Status < 400:
		return "the server redirects without saying where to; check the source's url"
	default:
		return "check the source's url and filters"
	}
}

// BadRequestError is a 400: a parameter was refused.
type BadRequestError struct{ StatusError }

// Hint says what to do.
func (e *BadRequestError) Hint() string {
	return "the endpoint refused a parameter; its message names it. Check the source's filters and page_size"
}

// Unwrap gives the general form.
func (e *BadRequestError) Unwrap() error { return &e.StatusError }

// UnauthorizedError is a 401: the key is missing or wrong.
type UnauthorizedError struct{ StatusError }

// Hint says what to do.
func (e *UnauthorizedError) Hint() string {
	return "the API key is missing or wrong: check api_key (or api_key_file, or the variable it comes from) and that it belongs to this url"
}

// Unwrap gives the general form.
func (e *UnauthorizedError) Unwrap() error { return &e.StatusError }

// ForbiddenError is a 403: the key is known and may not do this.
type ForbiddenError struct{ StatusError }

// Hint says what to do.
func (e *ForbiddenError) Hint() string {
	return "the API key is known but may not read contacts: ask the vendor for a key that may, or check for a proxy that refuses the request"
}

// Unwrap gives the general form.
func (e *ForbiddenError) Unwrap() error { return &e.StatusError }

// TransportError says that no whole answer came, after the retries.
type TransportError struct {
	Cause    Cause
	Request  string
	Attempts int
	Err      error
	message  string // of Err, the key removed
}

// Error names request and cause.
func (e *TransportError) Error() string {
	return fmt.Sprintf("get %s: %s%s: %s", readable(e.Request), e.Cause, times(e.Attempts), e.message)
}

// Hint says what to do.
func (e *TransportError) Hint() string {
	switch e.Cause {
	case CauseTimeout:
		return "the server was too slow: run again later, lower page_size, or raise the source's timeouts"
	case CauseTruncated:
		return "answers ended early: run again, or lower page_size"
	default:
		return "the host could not be reached: check the source's url, the network and any proxy"
	}
}

// Unwrap gives the error beneath.
func (e *TransportError) Unwrap() error { return e.Err }

// PageError says that the answers were whole but not what was asked for, after
// the retries.
type PageError struct {
	Request  string
	Body     string // its start, the key removed; empty where it may hold contacts
	Attempts int
	Err      error  // wraps ErrBadPage
	private  bool   // its body may hold contacts
	message  string // of Err, the key removed
}

// Error names request, fault and the start of the body.
func (e *PageError) Error() string {
	return fmt.Sprintf("get %s%s: %s%s", readable(e.Request), times(e.Attempts), e.message, quoted(e.Body))
}

// Hint says what to do.
func (e *PageError) Hint() string {
	if strings.HasPrefix(strings.TrimSpace(e.Body), "<") {
		return "the answer is HTML: the source's url points at a web page, or a proxy or login page answered in its place"
	}
	var found Hinter
	if errors.As(e.Err, &found) && found.Hint() != "" {
		return found.Hint()
	}
	if e.private {
		return "the answer broke off, or is no list of contacts: run again, and if it stays so look at any proxy in between and at the source's url"
	}
	return "the answer is not a list of contacts: check the source's url"
}

// Unwrap gives the error beneath.
func (e *PageError) Unwrap() error { return e.Err }

// TooLargeError is a body above Source.MaxBody, or above what the answer about
// one contact may be.
type TooLargeError struct {
	Request string
	Limit   int64 // bytes
}

// Error names request and limit.
func (e *TooLargeError) Error() string {
	return fmt.Sprintf("get %s: the answer is larger than %d bytes", readable(e.Request), e.Limit)
}

// Hint says what to do.
func (e *TooLargeError) Hint() string {
	if !strings.Contains(e.Request, contactsPath) {
		return "the endpoint answers something else at this path: check the source's url"
	}
	return "lower page_size"
}

// WrongContactError is an answer about another contact than the one asked for,
// or about none.
type WrongContactError struct {
	Request string
	Got     string // id of the contact that the answer is about; empty: none
}

// Error names both.
func (e *WrongContactError) Error() string {
	if e.Got == "" {
		return fmt.Sprintf("get %s: the answer holds no contact's id", readable(e.Request))
	}
	return fmt.Sprintf("get %s: the answer is about contact %q", readable(e.Request), e.Got)
}

// Hint says what to do.
func (e *WrongContactError) Hint() string {
	return "whether a contact still exists cannot be told from such answers, and nothing was concluded from it; check the source's url and any proxy between"
}

// RedirectError is a redirect that was refused, because following it would
// carry the key elsewhere.
type RedirectError struct {
	From, To string // scheme and host
	Reason   string
}

// Error names both ends.
func (e *RedirectError) Error() string {
	return fmt.Sprintf("refuse redirect from %s to %s: %s", e.From, e.To, e.Reason)
}

// Hint says what to do.
func (e *RedirectError) Hint() string {
	return "if " + e.To + " is the right place, set it as the source's url"
}

func times(attempts int) string {
	if attempts > 1 {
		return fmt.Sprintf(" (%d attempts)", attempts)
	}
	return ""
}

// quoted is the start of a body as the end of a message: on one line, without
// what would steer a terminal, and otherwise as served, so that it can be read.
func quoted(body string) string {
	if body == "" {
		return ""
	}
	clean := func(r rune) rune {
		if unicode.IsPrint(r) {
			return r
		}
		return unicode.ReplacementChar
	}
	return ": '" + strings.Map(clean, strings.Join(strings.Fields(body), " ")) + "'"
}

// readable is a request with the colons of its times as they are: a query may
// hold them so, and the line stays short.
func readable(request string) string { return strings.ReplaceAll(request, "%3A", ":") }
