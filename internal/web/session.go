package web

import (
	"crypto/rand"
	"crypto/sha256"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync"
	"time"
)

const (
	// sessionFor is how long a login lasts.
	sessionFor  = 12 * time.Hour
	maxSessions = 1000

	// freeTries wrong tokens in a row cost nothing; each one more makes the next
	// wait, twice as long as the one before.
	freeTries   = 5
	longestWait = time.Minute
	maxTriers   = 1024
)

// random returns 256 bits as text.
func random() string { return rand.Text() + rand.Text() }

// sessions are the logins. Cookies are kept as hashes, so that what this process
// holds in memory lets nobody in.
type sessions struct {
	mu   sync.Mutex
	ends map[[sha256.Size]byte]time.Time
}

func (s *sessions) add(id string, now time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ends == nil {
		s.ends = map[[sha256.Size]byte]time.Time{}
	}
	var first [sha256.Size]byte
	for k, end := range s.ends {
		if end.Before(now) {
			delete(s.ends, k)
		} else if old, ok := s.ends[first]; !ok || end.Before(old) {
			first = k
		}
	}
	if len(s.ends) >= maxSessions {
		delete(s.ends, first)
	}
	s.ends[sha256.Sum256([]byte(id))] = now.Add(sessionFor)
}

func (s *sessions) has(id string, now time.Time) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	end, ok := s.ends[sha256.Sum256([]byte(id))]
	return ok && id != "" && now.Before(end)
}

func (s *sessions) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.ends, sha256.Sum256([]byte(id)))
}

// attempts slows down who sends wrong tokens, by address.
type attempts struct {
	mu   sync.Mutex
	from map[string]tries
}

type tries struct {
	wrong int
	until time.Time // before which nothing is looked at
}

// wait is how long an address has to wait before a token of it is looked at.
func (a *attempts) wait(from string, now time.Time) time.Duration {
	a.mu.Lock()
	defer a.mu.Unlock()
	return max(0, a.from[from].until.Sub(now))
}

// failed notes a wrong token.
func (a *attempts) failed(from string, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.from == nil {
		a.from = map[string]tries{}
	}
	t := a.from[from]
	t.wrong++
	t.until = now
	if over := t.wrong - freeTries; over >= 0 {
		t.until = now.Add(min(longestWait, time.Second<<min(over, 10)))
	}
	if len(a.from) >= maxTriers {
		oldest, end := "", time.Time{}
		for k, o := range a.from {
			if oldest == "" || o.until.Before(end) {
				oldest, end = k, o.until
			}
		}
		delete(a.from, oldest)
	}
	a.from[from] = t
}

func (a *attempts) passed(from string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.from, from)
}

// check looks at a token. wait is above zero where it did not.
func (p *Page) check(r *http.Request, token string) (ok bool, wait time.Duration) {
	from := r.RemoteAddr
	if host, _, err := net.SplitHostPort(from); err == nil {
		from = host
	}
	now := p.o.Clock.Now()
	if wait = p.wrong.wait(from, now); wait > 0 {
		return false, wait
	}
	if !p.matches(token) {
		p.wrong.failed(from, now)
		return false, 0
	}
	p.wrong.passed(from)
	return true, 0
}

func (p *Page) cookieName() string { return "sluice-" + p.o.Port }

func (p *Page) cookie(r *http.Request) string {
	c, err := r.Cookie(p.cookieName())
	if err != nil {
		return "" // there is none
	}
	return c.Value
}

func (p *Page) setCookie(w http.ResponseWriter, r *http.Request, value string) {
	c := &http.Cookie{
		Name: p.cookieName(), Value: value, Path: "/", HttpOnly: true, SameSite: http.SameSiteStrictMode,
		Secure: r.TLS != nil || strings.EqualFold(r.Header.Get("X-Forwarded-Proto"), "https"),
	}
	if value == "" {
		c.MaxAge = -1
	}
	http.SetCookie(w, c)
}

// withToken lets in who is logged in, or shows the token.
func (p *Page) withToken(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if p.o.Token == "" || p.sessions.has(p.cookie(r), p.o.Clock.Now()) {
			next.ServeHTTP(w, r)
			return
		}
		if token := bearer(r); token != "" {
			ok, wait := p.check(r, token)
			switch {
			case ok:
				next.ServeHTTP(w, r)
			case wait > 0:
				p.tooFast(w, r, wait)
			default:
				w.Header().Set("WWW-Authenticate", "Bearer")
				http.Error(w, "The token is not the one of daemon.token.", http.StatusUnauthorized)
			}
			return
		}
		if r.Method == http.MethodGet && strings.Contains(r.Header.Get("Accept"), "text/html") {
			http.Redirect(w, r, "/login?next="+url.QueryEscape(r.URL.RequestURI()), http.StatusSeeOther)
			return
		}
		w.Header().Set("WWW-Authenticate", "Bearer")
		http.Error(w, "A token is needed: log in at /login, or send it as Authorization: Bearer TOKEN.", http.StatusUnauthorized)
	})
}

func (p *Page) tooFast(w http.ResponseWriter, r *http.Request, wait time.Duration) {
	seconds := int((wait + time.Second - 1) / time.Second)
	w.Header().Set("Retry-After", strconv.Itoa(seconds))
	p.refuse(w, r, http.StatusTooManyRequests, "Too many wrong tokens: none is looked at for "+counted(seconds, "second", "seconds")+".", "")
}

// loginView is the form that asks for the token.
type loginView struct {
	Frame
	Next, Error string
}

func (p *Page) loginForm(w http.ResponseWriter, r *http.Request) {
	next := ownPath(r.FormValue("next"))
	if p.o.Token == "" || p.sessions.has(p.cookie(r), p.o.Clock.Now()) {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	p.render(w, http.StatusOK, "login", loginView{Frame: p.frame(w, r, "Log in"), Next: next})
}

func (p *Page) login(w http.ResponseWriter, r *http.Request) {
	if !p.sentByForm(w, r) {
		return
	}
	next := ownPath(r.PostFormValue("next"))
	if p.o.Token == "" {
		http.Redirect(w, r, next, http.StatusSeeOther)
		return
	}
	ok, wait := p.check(r, strings.TrimSpace(r.PostFormValue("token")))
	switch {
	case wait > 0:
		p.tooFast(w, r, wait)
	case !ok:
		p.o.Log.WarnContext(r.Context(), "a wrong token was sent to the page", "from", r.RemoteAddr)
		v := loginView{Frame: p.frame(w, r, "Log in"), Next: next, Error: "That is not the token. It is the one of daemon.token in the pipelines file."}
		p.render(w, http.StatusUnauthorized, "login", v)
	default:
		id := random() // another than before: nobody can have given it to the browser
		p.sessions.add(id, p.o.Clock.Now())
		p.setCookie(w, r, id)
		http.Redirect(w, r, next, http.StatusSeeOther)
	}
}

func (p *Page) logout(w http.ResponseWriter, r *http.Request) {
	if !p.sentByForm(w, r) {
		return
	}
	p.sessions.end(p.cookie(r))
	p.setCookie(w, r, "")
	http.Redirect(w, r, "/", http.StatusSeeOther)
}

// ownPath is a path of this page; that of the overview where the text is none.
func ownPath(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Scheme != "" || u.Host != "" || u.User != nil || !strings.HasPrefix(text, "/") ||
		strings.HasPrefix(text, "//") || strings.ContainsAny(text, "\\\r\n\t") {
		return "/"
	}
	return text
}
