package doctor

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"syscall"

	"github.com/sluice-etl/sluice/extract"
)

// smallLimit is asked for where the largest limit is refused.
const smallLimit = 100

// checkReachable asks for the page that everything else is compared with: the
// contacts changed longest ago, as many as a page may have.
func (e *exam) checkReachable(ctx context.Context) (finding, error) {
	q := extract.Query{UpdatedAfter: at(0), Limit: fullLimit}
	p, err := e.ask(ctx, q)
	if words, bad := refused(err); bad {
		q.Limit = smallLimit
		if p, err = e.ask(ctx, q); err == nil {
			e.limit, e.refusal = smallLimit, words
		}
	}
	if err != nil {
		e.stopped = "Not asked: the first request brought no contacts."
		f, ok := unreachable(err)
		if !ok {
			return finding{}, err // the end of ctx, or of the budget
		}
		if refusal, is := keyRefused(err); is {
			e.keyRefusal = &refusal
			e.stopped = "Not asked: the endpoint refused the key."
		}
		return f, nil
	}
	e.first = p
	found := fmt.Sprintf("The first page came in %s: %s.", span(elapsed(p.resp)), contacts(len(p.rows)))
	if e.sent > 1 && e.refusal == "" {
		found += fmt.Sprintf(" It took %d attempts.", e.sent)
	}
	if len(p.rows) == 0 {
		return finding{Note, found, "The source is empty, or the key belongs to another account: most checks need contacts."}, nil
	}
	return finding{OK, found, ""}, nil
}

// permanent reports whether asking again would change nothing.
func permanent(err *extract.TransportError) bool {
	cause, _ := reason(err)
	return cause != ""
}

// reason says what kept a request from being answered, and what to do.
func reason(err error) (cause, advice string) {
	var (
		dns     *net.DNSError
		record  tls.RecordHeaderError
		host    x509.HostnameError
		unknown x509.UnknownAuthorityError
		invalid x509.CertificateInvalidError
		verify  *tls.CertificateVerificationError
	)
	switch {
	case errors.As(err, &dns) && dns.IsNotFound:
		return "No such host: " + dns.Name, "Check the source's url."
	case errors.As(err, &host):
		return "TLS: the certificate is not for this host", "Check the source's url."
	case errors.As(err, &unknown):
		return "TLS: the certificate is signed by an unknown authority", "Check the source's url, and that this machine has its root certificates; a proxy that opens TLS needs its own among them."
	case errors.As(err, &invalid), errors.As(err, &verify):
		return "TLS: the certificate is not valid now", "Check this machine's clock, then ask the vendor."
	case errors.As(err, &record), errors.Is(err, http.ErrSchemeMismatch):
		return "TLS: the port does not speak TLS", "Check the scheme and port of the source's url."
	case errors.Is(err, syscall.ECONNREFUSED):
		return "The connection was refused", "Nothing listens there: check host and port of the source's url."
	default:
		return "", ""
	}
}

// unreachable says why no page came; false where the examination was stopped.
func unreachable(err error) (finding, bool) {
	var (
		status    *extract.StatusError
		transport *extract.TransportError
		redirect  *extract.RedirectError
		bad       *extract.PageError
		large     *extract.TooLargeError
	)
	switch {
	case errors.As(err, &status) && (status.Status == 401 || status.Status == 403):
		return finding{OK, fmt.Sprintf("The endpoint answers: status %d.", status.Status), ""}, true
	case errors.As(err, &status):
		return finding{Problem, fmt.Sprintf("The host answers with status %d%s.", status.Status, quote(status.Body)), advice(err)}, true
	case errors.As(err, &transport):
		cause, what := reason(err)
		if cause == "" {
			cause, what = "No answer: "+string(transport.Cause)+", "+transport.Err.Error(), advice(err)
		}
		return finding{Problem, sentence(cause), what}, true
	case errors.As(err, &redirect):
		return finding{Problem, sentence("The host redirects: " + redirect.Error()), advice(err)}, true
	case errors.As(err, &bad):
		found := "The host answers, but not with contacts"
		if strings.HasPrefix(bad.Body, "<") {
			found = "The host answers with HTML"
		}
		return finding{Problem, found + quote(bad.Body) + ".", advice(err)}, true
	case errors.As(err, &large):
		return finding{Problem, sentence(large.Error()), "Set a smaller page_size."}, true
	default:
		return finding{}, false
	}
}

// advice is what the client's error says is to be done.
func advice(err error) string {
	var h extract.Hinter
	if !errors.As(err, &h) || h.Hint() == "" {
		return ""
	}
	hint := h.Hint()
	return sentence(strings.ToUpper(hint[:1]) + hint[1:])
}

// quote shows the start of an answer.
func quote(body string) string {
	const most = 120
	if body == "" {
		return ""
	}
	if len(body) > most {
		body = strings.ToValidUTF8(body[:most], "") + "..."
	}
	return fmt.Sprintf(": %q", body)
}

// checkKey says whether the key was taken, and asks once without one.
func (e *exam) checkKey(ctx context.Context) (finding, error) {
	if e.keyless == nil {
		return finding{Note, "No key is configured, and the endpoint answers without one.", "A real account needs api_key or api_key_file."}, nil
	}
	p, err := e.askWith(ctx, e.keyless, extract.Query{UpdatedAfter: at(0), Limit: 1}, 1)
	var status *extract.StatusError
	switch {
	case err == nil:
		found := fmt.Sprintf("The key is accepted, but the same request without a key brings %s too.", contacts(len(p.rows)))
		return finding{Note, found, "Nothing checks the key there: a cache, a proxy or a test server may stand in front of the endpoint. Make sure that the url is the right one, and tell the vendor."}, nil
	case errors.As(err, &status) && (status.Status == 401 || status.Status == 403):
		return finding{OK, fmt.Sprintf("The key is accepted; without a key the endpoint answers %d.", status.Status), ""}, nil
	case errors.As(err, &status):
		return finding{OK, fmt.Sprintf("The key is accepted; without a key the endpoint answers %d, where 401 is documented.", status.Status), ""}, nil
	case errors.Is(err, errBudget):
		return finding{}, err
	default:
		return finding{OK, "The key is accepted. Whether it is needed could not be seen: " + sentence(err.Error()), ""}, nil
	}
}

// keyRefused is the second check where the first request met a 401 or 403.
func keyRefused(err error) (finding, bool) {
	var (
		unauthorized *extract.UnauthorizedError
		forbidden    *extract.ForbiddenError
	)
	switch {
	case errors.As(err, &unauthorized):
		return finding{Problem, "The key is missing or wrong: status 401" + quote(unauthorized.Body) + ".", advice(err)}, true
	case errors.As(err, &forbidden):
		return finding{Problem, "The key is known and may not read contacts: status 403" + quote(forbidden.Body) + ".", advice(err)}, true
	default:
		return finding{}, false
	}
}
