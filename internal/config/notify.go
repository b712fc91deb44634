package config

import (
	"net/url"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/diag"
)

const (
	heartbeatPath = "pipelines.*.heartbeat"
	noticeURLPath = "notify.*.url"
)

// The types of notices.
const (
	Slack   = "slack"
	Webhook = "webhook"
)

// The things that a notice may tell of.
const (
	OnFailure  = "failure"
	OnRecovery = "recovery"
	OnStale    = "stale"
)

// Troubles are all that a notice may tell of.
func Troubles() []string { return []string{OnFailure, OnRecovery, OnStale} }

// Notice is a place that is told how pipelines fare.
type Notice struct {
	Node
	Name string
	Type string // slack or webhook
	// URL is https, or http to this machine, and a key; zero: nobody is told.
	URL Secret
	// On are some of Troubles, in their order.
	On []string
	// Pipelines are the names of those that it is told of, in the file's order.
	Pipelines []string
}

func notifyKeys() []Key {
	const p = "notify.*"
	return []Key{
		{Path: "notify", Type: MappingType, Description: "Who is told how pipelines fare, by name: by `sluice schedule`, and by `sluice run --notify`."},
		{Path: p, Type: MappingType, Description: "One place that is told. Its name is for `sluice notify test`."},
		{Path: p + ".type", Type: ChoiceType, Required: true, Allowed: []string{Slack, Webhook}, Description: "What is sent. slack: a message, for an incoming webhook of Slack or of what takes the same. webhook: JSON, described in docs/monitoring.md."},
		{Path: p + ".url", Type: SecretType, Required: true, Description: "Where it is sent, by POST: https, or http to this machine. Take it from a variable: it is a key. Empty, as by ${SLACK_URL:-}: nobody is told."},
		{Path: p + ".on", Type: ValuesType, Description: "What is told, some of failure, recovery and stale. failure: a pipeline fails, once, when it is not tried again. recovery: it is done again, or no more late. stale: its data is older than its freshness. Left out: all of them."},
		{Path: p + ".pipelines", Type: ValuesType, Description: "The pipelines it is told of; NAME is all accounts of one with for_each, NAME.ACCOUNT one. Left out: all."},
	}
}

// hook reports whether the key's value is a URL that is a key.
func (k Key) hook() bool { return k.Path == heartbeatPath || k.Path == noticeURLPath }

func (r *reader) notice(c *Config, n namedValue) *Notice {
	out := &Notice{Name: n.name}
	f, ok := r.fields("notify.*", n.val, n.at)
	out.Node = f.node
	if !ok {
		return out
	}
	out.Type, _ = f.text("type")
	if !f.has("url") {
		f.missing("url", "${SLACK_URL}")
	}
	out.URL = r.hook(f, "url")
	asked := map[string]bool{}
	for _, s := range f.each("on") {
		if !slices.Contains(Troubles(), s.text) {
			r.errorf(s.pos, diag.Hint(s.text, Troubles()), "on: nothing is called %s", s.shown)
		}
		asked[s.text] = true
	}
	for _, trouble := range Troubles() {
		if asked[trouble] || !f.has("on") {
			out.On = append(out.On, trouble)
		}
	}
	chosen := map[string]bool{}
	for _, s := range f.each("pipelines") {
		found := c.called(s.text)
		if len(found) == 0 {
			r.missing(s.pos, "pipeline", s.shown, s.text, addresses(c.Pipelines))
		}
		for _, p := range found {
			chosen[p.Name] = true
		}
	}
	for _, p := range c.Pipelines {
		if chosen[p.Name] || !f.has("pipelines") {
			out.Pipelines = append(out.Pipelines, p.Name)
		}
	}
	return out
}

// hook reads a URL that is a key. Messages never quote it.
func (r *reader) hook(f fields, name string) Secret {
	if !f.has(name) {
		return Secret{}
	}
	s, ok := f.scalar(name)
	if !ok || s.text == "" || r.unset[f.vals[name]] {
		return Secret{}
	}
	what := name + f.ofWhom(name)
	u, err := url.Parse(s.text)
	switch {
	case err != nil || u.Hostname() == "" || u.Scheme != schemeHTTPS && u.Scheme != schemeHTTP:
		r.errorf(s.pos, "write https://HOST/PATH, or the variable that has it", "%s is not a URL that can be asked", what)
	case u.User != nil || u.Fragment != "" || strings.ContainsAny(s.text, " \t\r\n"):
		r.errorf(s.pos, "look for a user, a # and blanks in it", "%s has more than an address", what)
	case u.Scheme == schemeHTTP && !loopback(u.Hostname()):
		r.errorf(s.pos, "use https://", "%s would be sent unencrypted, and it is a key", what)
	default:
		return NewSecret(s.text)
	}
	return Secret{}
}
