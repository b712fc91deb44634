package web

import (
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// policy lets a browser load and send nothing but what this page has.
const policy = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; connect-src 'self'; " +
	"form-action 'self'; base-uri 'none'; frame-ancestors 'none'"

// maxForm bounds what a form may send, in bytes.
const maxForm = 64 << 10

// secured adds the headers that everything has.
func secured(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		h := w.Header()
		h.Set("Content-Security-Policy", policy)
		h.Set("X-Content-Type-Options", "nosniff")
		h.Set("X-Frame-Options", "DENY")
		// Not no-referrer: browsers send forms without an origin then.
		h.Set("Referrer-Policy", "same-origin")
		h.Set("Cross-Origin-Opener-Policy", "same-origin")
		h.Set("Cross-Origin-Resource-Policy", "same-origin")
		h.Set("Cache-Control", "no-store")
		r.Body = http.MaxBytesReader(w, r.Body, maxForm)
		next.ServeHTTP(w, r)
	})
}

// atHome refuses requests for hosts that are not this one: a name that somebody
// else has made to lead to loopback (DNS rebinding) would make their page ours.
// Who has the token by heart is no browser that was led here.
func (p *Page) atHome(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !p.knows(r.Host) && !p.shows(r) {
			http.Error(w, "This address is not one of the page's.\n"+
				"Use the address that the log tells at the start, or set daemon.url in the pipelines file to the one that people use.", http.StatusMisdirectedRequest)
			return
		}
		next.ServeHTTP(w, r)
	})
}

// knows reports whether a Host header may be the page's.
func (p *Page) knows(hostport string) bool {
	host := hostport
	if h, _, err := net.SplitHostPort(hostport); err == nil {
		host = h
	}
	host = strings.ToLower(strings.TrimSuffix(strings.Trim(host, "[]"), "."))
	if host == "localhost" || slices.ContainsFunc(p.o.Hosts, func(o string) bool { return strings.EqualFold(o, host) }) {
		return true
	}
	ip, err := netip.ParseAddr(host)
	// An address is nobody else's name. Without a token the page is on loopback,
	// and so is who asks for it.
	return err == nil && (ip.IsLoopback() || p.o.Token != "")
}

// sameOrigin refuses what another site has a browser send.
func (p *Page) sameOrigin(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := p.cross.Check(r); err != nil {
			p.refuse(w, r, http.StatusForbidden, "The request came from another site, and nothing was done.",
				"Open the page itself and try again. Behind a proxy set daemon.url to the address that people use.")
			return
		}
		next.ServeHTTP(w, r)
	})
}

// formToken is what a form has to send back, for the browser that has the
// cookie: a client that tells no origin cannot guess it.
func (p *Page) formToken(w http.ResponseWriter, r *http.Request) string {
	id := p.cookie(r)
	if id == "" {
		id = random()
		p.setCookie(w, r, id)
		r.AddCookie(&http.Cookie{Name: p.cookieName(), Value: id}) // what is rendered next sees the same
	}
	return p.sign(id)
}

func (p *Page) sign(id string) string {
	mac := hmac.New(sha256.New, p.key)
	_, _ = mac.Write([]byte("form\x00" + id)) // a hash never fails
	return base64.RawURLEncoding.EncodeToString(mac.Sum(nil))
}

// sentByForm reports whether a request comes from a form of this page, or from a
// client that shows the token, and refuses it otherwise.
func (p *Page) sentByForm(w http.ResponseWriter, r *http.Request) bool {
	if err := r.ParseForm(); err != nil {
		p.refuse(w, r, http.StatusBadRequest, "The form could not be read, and nothing was done.", "")
		return false
	}
	if p.shows(r) {
		return true
	}
	id := p.cookie(r)
	if id == "" || subtle.ConstantTimeCompare([]byte(p.sign(id)), []byte(r.PostFormValue("form"))) != 1 {
		p.refuse(w, r, http.StatusForbidden, "The form is too old, and nothing was done.", "Load the page again, and send the form once more.")
		return false
	}
	return true
}

// shows reports whether a request has the page's token in its header. A wrong one
// counts, as everywhere: a door that does not count is the one to guess at.
func (p *Page) shows(r *http.Request) bool {
	token := bearer(r)
	if p.o.Token == "" || token == "" {
		return false
	}
	ok, _ := p.check(r, token)
	return ok
}

// bearer is the token in the Authorization header; empty for none.
func bearer(r *http.Request) string {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	if !strings.EqualFold(scheme, "bearer") {
		return ""
	}
	return strings.TrimSpace(token)
}

// matches compares a token with the page's, in a time that does not tell how much
// of it is right.
func (p *Page) matches(token string) bool {
	got, want := sha256.Sum256([]byte(token)), sha256.Sum256([]byte(p.o.Token))
	return token != "" && subtle.ConstantTimeCompare(got[:], want[:]) == 1
}
