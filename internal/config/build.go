package config

import (
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/gcs"
)

const (
	schemeSandbox = "sandbox"
	schemeHTTP    = "http"
	schemeHTTPS   = "https"
)

// build reads the whole file into a Config; faults are in r.list.
func (r *reader) build(root *value) *Config {
	c := &Config{File: r.file, Dir: r.dir}
	top, ok := r.fields("", root, root.pos)
	if !ok {
		return c
	}
	r.version(top)
	c.State = r.state(top)
	c.Daemon = r.daemon(top)
	r.readDefaults(top)
	for _, n := range r.instances(r.named(top, "sources")) {
		c.Sources = append(c.Sources, r.source(n))
		if n.account != "" {
			r.accounts[n.base] = n.accounts
		}
	}
	for _, n := range r.named(top, "destinations") {
		c.Destinations = append(c.Destinations, r.destination(n))
	}
	for _, n := range r.instances(r.named(top, "pipelines")) {
		c.Pipelines = append(c.Pipelines, r.pipeline(c, n))
	}
	if top.vals["notify"] != nil {
		for _, n := range r.named(top, "notify") {
			c.Notify = append(c.Notify, r.notice(c, n))
		}
	}
	r.checkTables(c)
	r.checkStages(c)
	r.unionViews(c)
	r.checkSandbox(c)
	return c
}

func (r *reader) version(top fields) {
	s, ok := top.scalar("version")
	if ok && s.text != "1" {
		r.errorf(s.pos, "this version of sluice reads version: 1", "version cannot be %s", s.shown)
	}
}

func (r *reader) state(top fields) State {
	at := top.pos("state")
	f, _ := r.fields("state", top.vals["state"], at)
	st := State{Node: f.node}
	st.Backend, _ = f.text("backend")
	if f.has("backend") && st.Backend == "" {
		return st // what it is refused for is said; its other keys may not apply
	}
	if st.Backend != "gcs" {
		if f.has("work_dir") {
			r.errorf(f.keyPos["work_dir"], "leave it out, or write backend: gcs", "work_dir does not go with backend: %s", st.Backend)
		}
		if v := f.vals["path"]; v != nil && strings.HasPrefix(v.text, gcs.Scheme) {
			r.errorf(v.pos, "write backend: gcs, or a local directory", "path: gs:// needs backend: gcs")
			return st
		}
		st.path, st.Path = f.path("path")
		return st
	}
	if _, st.Path = f.path("work_dir"); !f.has("path") {
		f.missing("path", "gs://BUCKET/PREFIX")
		return st
	}
	st.path, st.URL = f.bucket("path")
	return st
}

// namedValue is an entry of sources, destinations or pipelines, or what it is
// for one account.
type namedValue struct {
	name string
	at   Pos
	val  *value
	// base is the name in the file; account the key of for_each, and accounts
	// all of them.
	base, account string
	accounts      []string
}

// named returns the entries of a mapping from names.
func (r *reader) named(top fields, key string) []namedValue {
	v := top.vals[key]
	if v == nil || v.kind == nullKind || v.kind == mappingKind && len(v.entries) == 0 {
		at := top.node.At
		if v != nil {
			at = v.pos
		}
		r.errorf(at, "add at least one under "+key+":", "there are no %s", key)
		return nil
	}
	if v.kind == badKind {
		return nil
	}
	if v.kind != mappingKind {
		r.errorf(v.pos, "write NAME: {...} under "+key+":", "%s: expected a mapping from names, got %s", key, v.describe())
		return nil
	}
	var out []namedValue
	for _, e := range v.entries {
		if !validName(e.key) {
			hint := nameHint
			if near := nameFor(e.key); near != "" {
				hint = "did you mean " + quote(near) + "? " + nameHint
			}
			r.errorf(e.keyPos, hint, "%s: %s is not a name", key, quote(e.key))
		}
		// Its content is checked all the same, and references to it resolve.
		out = append(out, namedValue{name: e.key, base: e.key, at: e.keyPos, val: r.withDefaults(key, e.val, e.keyPos)})
	}
	return out
}

func (r *reader) source(n namedValue) *Source {
	s := &Source{Name: n.name, Base: n.base, Account: n.account}
	f, ok := r.fields("sources.*", n.val, n.at)
	s.Node = f.node
	if !ok {
		return s
	}
	s.Type, _ = f.text("type")
	s.AllowInsecure = f.boolean("allow_insecure")
	s.PageSize = f.integer("page_size")
	s.Concurrency = f.integer("concurrency")
	s.RequestsPerSecond = f.number("requests_per_second")
	s.ConnectTimeout = f.duration("connect_timeout")
	s.ResponseTimeout = f.duration("response_timeout")
	s.RequestTimeout = f.duration("request_timeout")
	s.RetryFor = f.duration("retry_for")
	s.CombineFilters = f.boolean("combine_filters")
	r.url(f, s)
	r.key(f, s)
	return s
}

// url reads a source's url. Messages never quote it: it may hold a password.
func (r *reader) url(f fields, s *Source) {
	text, ok := f.text("url")
	if !ok {
		return
	}
	at, what := f.pos("url"), "url"+f.ofWhom("url")
	u, err := url.Parse(text)
	if err != nil || u.Scheme == "" {
		r.errorf(at, "write https://HOST or sandbox://?contacts=10000&seed=1", "%s is not a URL", what)
		return
	}
	switch {
	case u.User != nil:
		r.errorf(at, "give the key as api_key", "%s holds a user or password", what)
	case u.Scheme == schemeSandbox:
		if u.Host != "" || u.Path != "" || u.Fragment != "" {
			r.errorf(at, "options follow a question mark: sandbox://?contacts=10000&seed=1", "sandbox:// has no host and no path")
			return
		}
		s.URL, s.Scheme = text, u.Scheme
	case u.Scheme != schemeHTTPS && u.Scheme != schemeHTTP:
		r.errorf(at, "allowed: https://, sandbox://, http:// to this machine", "%s has a scheme that is not known", what)
	case u.Hostname() == "":
		r.errorf(at, "write https://HOST", "%s has no host", what)
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		r.errorf(at, "leave out what follows ? or #", "%s is the base of the API, without parameters", what)
	case u.Scheme == schemeHTTP && !loopback(u.Hostname()) && !s.AllowInsecure && !r.unset[f.vals["allow_insecure"]]:
		r.errorf(at, "use https://, or set allow_insecure: true if the network between is yours", "http:// would send the key unencrypted")
	default:
		s.URL, s.Scheme, s.Host = strings.TrimRight(text, "/"), u.Scheme, hostPort(u)
	}
}

// hostPort is a URL's host in lower case, its port only where it is not the
// scheme's own.
func hostPort(u *url.URL) string {
	host, port := strings.ToLower(u.Hostname()), u.Port()
	if port == "" || u.Scheme == schemeHTTPS && port == "443" || u.Scheme == schemeHTTP && port == "80" {
		if strings.Contains(host, ":") {
			return "[" + host + "]"
		}
		return host
	}
	return net.JoinHostPort(host, port)
}

func loopback(host string) bool {
	if strings.EqualFold(host, "localhost") {
		return true
	}
	ip, err := netip.ParseAddr(host)
	return err == nil && ip.IsLoopback()
}

// key reads a source's key, from the file, a variable or a file of its own.
func (r *reader) key(f fields, s *Source) {
	f.preferOwn("api_key", "api_key_file")
	if f.has("api_key") && f.has("api_key_file") {
		r.errorf(f.keyPos["api_key_file"], "keep one of them", "api_key and api_key_file are both given")
		return
	}
	if f.has("api_key_file") {
		if text, ok := f.secretFile("api_key_file"); ok {
			r.checkKey(f, s, "api_key_file", text)
		}
		return
	}
	text := ""
	if f.has("api_key") {
		k, ok := f.scalar("api_key")
		if !ok {
			return
		}
		if k.kind == numberKind || k.kind == boolKind {
			r.errorf(k.pos, "put quotes around it", "api_key: expected text, got %s", f.vals["api_key"].describe())
			return
		}
		text = k.text
	}
	switch {
	case text != "":
		r.checkKey(f, s, "api_key", text)
	case s.Scheme == schemeSandbox:
		s.APIKey = NewSecret(sandboxKey)
	case s.Scheme != "" && f.has("api_key"):
		r.errorf(f.pos("api_key"), "set the variable that it is taken from", "api_key%s is empty", f.ofWhom("api_key"))
	case s.Scheme != "":
		r.errorf(f.node.At, "add api_key: ${CONTACTS_API_KEY}, or api_key_file", "api_key is missing")
	}
}

// checkKey checks a key without ever naming it.
func (r *reader) checkKey(f fields, s *Source, name, text string) {
	s.APIKey = NewSecret(text)
	if strings.IndexFunc(text, func(c rune) bool { return c <= ' ' || c > '~' }) >= 0 {
		r.errorf(f.pos(name), "look for spaces and line ends around it", "%s%s holds characters that no key has", name, f.ofWhom(name))
	}
	switch {
	case s.Scheme == schemeSandbox && text != sandboxKey:
		r.errorf(f.pos(name), "for the sandbox write ${CONTACTS_API_KEY:-sandbox} and leave the variable unset; for the real API set the url (CONTACTS_API_URL in the example)", "a key that is not the sandbox's is set, and the url is sandbox://")
	case s.Scheme == schemeHTTPS && text == sandboxKey && !loopback(hostname(s.URL)):
		r.warnf(f.pos(name), "set CONTACTS_API_KEY, or the variable that it is taken from", "the key is the sandbox's, and the url is not")
	}
}

func hostname(raw string) string {
	u, err := url.Parse(raw)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

func (r *reader) destination(n namedValue) *Destination {
	d := &Destination{Name: n.name}
	f, ok := r.fields("destinations.*", n.val, n.at)
	d.Node = f.node
	if !ok {
		return d
	}
	d.Type, ok = f.text("type")
	if !ok {
		return d // which keys apply depends on it
	}
	for _, k := range r.children("destinations.*") {
		if k.Of == "" || f.vals[k.name()] == nil || slices.Contains(strings.Fields(k.Of), d.Type) {
			continue
		}
		if !f.dropInherited(k.name()) {
			r.errorf(f.keyPos[k.name()], "it belongs to type "+strings.ReplaceAll(k.Of, " ", " or "), "%s is not a key of type %s", k.name(), d.Type)
		}
	}
	if d.Type == Warehouse {
		r.bigQuery(f, d)
	} else if v, ok := f.text("path"); ok && d.Type == Parquet && strings.HasPrefix(v, gcs.Scheme) {
		d.path, d.URL = f.bucket("path")
	} else if ok {
		d.path, d.Path = f.path("path")
	}
	if d.Type == DuckDB {
		d.MemoryLimit = f.size("memory_limit")
	}
	d.QueueLimit, d.QueueAge = f.size("queue_limit"), f.duration("queue_age")
	d.PreventDestroy = f.boolean("prevent_destroy")
	compatibility, _ := f.text("compatibility")
	d.Plain = compatibility == "plain"
	return d
}
