package config

import (
	"fmt"
	"regexp"
	"slices"
	"strings"
)

const (
	forEach    = "for_each"
	eachPrefix = "${each."
	// maxInstances bounds what the accounts of a file come to: each is a source
	// or a pipeline that is checked against all others.
	maxInstances = 2000
)

// account is what ${each.key} and ${each.value.NAME} mean in one instance.
type account struct {
	key    string
	at     Pos
	values map[string]*value
	// unknown says that the mapping is at fault, or is not known yet: nothing is
	// said of what refers to it.
	unknown bool
	// blank gives the empty text for everything.
	blank bool
}

// accountKey is what a key of for_each looks like.
var accountKey = regexp.MustCompile(`^[a-z0-9_-]{1,63}$`)

// in returns a copy of a value that belongs to an account.
func (v *value) in(a *account) *value { return v.copyFor(a, map[*value]*value{}) }

// copyFor copies each value once: aliases may name one very often.
func (v *value) copyFor(a *account, done map[*value]*value) *value {
	if v == nil || done[v] != nil {
		return done[v]
	}
	out := *v
	out.each = a
	done[v] = &out
	out.items, out.entries = nil, nil
	for _, item := range v.items {
		out.items = append(out.items, item.copyFor(a, done))
	}
	for _, e := range v.entries {
		own := *e
		own.val = e.val.copyFor(a, done)
		out.entries = append(out.entries, &own)
	}
	return &out
}

// without returns a mapping that says of one entry only where it stands: no
// account needs a copy of all accounts.
func (v *value) without(given *entry) *value {
	out := *v
	out.entries = nil
	for _, e := range v.entries {
		if e == given {
			e = &entry{key: e.key, keyPos: e.keyPos, val: &value{pos: e.val.pos}}
		}
		out.entries = append(out.entries, e)
	}
	return &out
}

// instanceName is the name of what a thing is for one account.
func instanceName(base, account string) string { return base + `["` + account + `"]` }

// splitName is the inverse of instanceName; account is empty for other names.
func splitName(name string) (base, account string) {
	base, rest, _ := strings.Cut(name, `["`)
	account, closed := strings.CutSuffix(rest, `"]`)
	if !closed {
		return name, ""
	}
	return base, account
}

// instances replaces each thing with for_each by one for each account.
func (r *reader) instances(list []namedValue) []namedValue {
	var out []namedValue
	for _, n := range list {
		var given *entry
		if n.val != nil {
			if i := slices.IndexFunc(n.val.entries, func(e *entry) bool { return e.key == forEach && !e.inherited }); i >= 0 {
				given = n.val.entries[i]
			}
		}
		if given == nil || given.val.kind == nullKind {
			out = append(out, n)
			continue
		}
		accounts := r.readAccounts(given)
		if len(out)+len(accounts) > maxInstances {
			r.errorf(given.keyPos, "split the file", "for_each: this makes more than %d", maxInstances)
			accounts = nil
		}
		if len(accounts) == 0 {
			n.val = n.val.in(&account{unknown: true})
			out = append(out, n)
			continue
		}
		for _, a := range accounts {
			n.accounts = append(n.accounts, a.key)
		}
		shared := n.val.without(given)
		for _, a := range accounts {
			one := n
			one.name, one.account, one.val = instanceName(n.base, a.key), a.key, shared.in(a)
			out = append(out, one)
		}
	}
	return out
}

// readAccounts reads a for_each. Accounts at fault are among the result, so
// that references to them resolve.
func (r *reader) readAccounts(given *entry) []*account {
	v := given.val
	switch {
	case v.kind == badKind:
		return nil
	case v.kind != mappingKind:
		r.errorf(v.pos, "write ACCOUNT: {NAME: VALUE} under for_each:", "for_each: expected %s, got %s", AccountsType.expects(), v.describe())
		return nil
	case len(v.entries) == 0 && !v.partial:
		r.errorf(v.pos, "name at least one account, as in {acme: {}}", "for_each is empty")
	}
	var out []*account
	for _, e := range v.entries {
		if !accountKey.MatchString(e.key) {
			hint := "an account's key has a-z, 0-9, _ and -, at most 63"
			if near := nameFor(e.key); near != "" {
				hint = "did you mean " + quote(near) + "? " + hint
			}
			r.errorf(e.keyPos, hint, "for_each: %s is not the key of an account", quote(e.key))
		}
		out = append(out, r.readAccount(e))
	}
	return out
}

func (r *reader) readAccount(e *entry) *account {
	a := &account{key: e.key, at: e.keyPos, values: map[string]*value{}}
	switch e.val.kind {
	case nullKind:
	case badKind:
		a.unknown = true
	case mappingKind:
		a.unknown = e.val.partial
		for _, own := range e.val.entries {
			switch own.val.kind {
			case textKind, numberKind, boolKind:
			case mappingKind, sequenceKind:
				r.errorf(own.val.pos, "write text, a number, true or false", "for_each: %s of account %s is %s", quote(own.key), e.key, own.val.describe())
				a.unknown = true
				continue
			case badKind:
				a.unknown = true
				continue
			case nullKind:
				continue // as if it were left out
			}
			if !validVariable(own.key) {
				r.errorf(own.keyPos, "a name has letters, digits and _ and does not begin with a digit", "for_each: %s cannot be the name of a value", quote(own.key))
			}
			a.values[own.key] = own.val
		}
	default:
		r.errorf(e.val.pos, "write NAME: VALUE, or nothing", "for_each: expected a mapping of values of account %s, got %s", e.key, e.val.describe())
		a.unknown = true
	}
	return a
}

// ofAccount gives ${each.key} or ${each.value.NAME} in v. The value may hold
// variables; it is one of k, a secret where k is.
func (r *reader) ofAccount(at Pos, v *value, k Key, name, fallback string, hasFallback bool) (string, bool) {
	field, isValue := strings.CutPrefix(name, "each.value.")
	switch {
	case v.each == nil:
		r.errorf(at, "give the source or pipeline that it is for a for_each", "${%s} has no meaning here: there is no for_each", name)
		return "", false
	case name != "each.key" && (!isValue || !validVariable(field)) || name == "each.key" && hasFallback:
		r.errorf(at, "write ${each.key}, ${each.value.NAME} or ${each.value.NAME:-default}", "this is nothing that an account has")
		return "", false
	case v.each.unknown:
		return "", false
	case v.each.blank:
		return "", true
	case !isValue && k.Type == NameType:
		return underscored(v.each.key), true
	case !isValue:
		return v.each.key, true
	}
	own := v.each.values[field]
	if own == nil {
		if hasFallback {
			return fallback, true
		}
		r.errorf(at, fmt.Sprintf("add it to for_each at line %d, or give a default: ${each.value.%s:-...}", v.each.at.Line, field), "account %s has no value %s", v.each.key, field)
		return "", false
	}
	text, _, ok := r.interpolate(own, k)
	if r.unset[own] {
		r.leaveOut(v)
		return "", false
	}
	if ok && text == "" && hasFallback {
		return fallback, true
	}
	return text, ok
}

// ofWhom is " of account NAME" where a value depends on the account, for
// messages that do not quote it.
func (f fields) ofWhom(name string) string {
	if v := f.vals[name]; v != nil && v.each != nil && strings.Contains(v.text, eachPrefix) {
		return " of account " + v.each.key
	}
	return ""
}

// sourceOf resolves the source of a pipeline, nil where it is at fault.
func (r *reader) sourceOf(c *Config, f fields, n namedValue, name string) *Source {
	if s := c.Source(name); s != nil {
		return s
	}
	base, wanted := splitName(name)
	accounts, many := r.accounts[base]
	at := f.pos("source")
	switch {
	case !many:
		var names []string
		for _, s := range c.Sources {
			if !slices.Contains(names, s.Base) {
				names = append(names, s.Base)
			}
		}
		r.missing(at, "source", f.shown("source"), name, names)
		return nil
	case wanted == "" && n.account == "":
		r.errorf(at, fmt.Sprintf("write source: '%s' for one of its accounts, or give the pipeline for_each too", instanceName(base, accounts[0])), "source %s has for_each, and pipeline %s has not", base, n.base)
		return nil
	case wanted == "":
		wanted = n.account
	}
	if s := c.Source(instanceName(base, wanted)); s != nil {
		return s
	}
	lacking := []string{wanted}
	if wanted == n.account { // the same is said of all of the pipeline's accounts, once
		lacking = slices.DeleteFunc(slices.Clone(n.accounts), func(a string) bool { return slices.Contains(accounts, a) })
	}
	what := "account"
	if len(lacking) > 1 {
		what = "accounts"
	}
	r.errorf(at, "it has "+strings.Join(accounts, ", "), "source %s has no %s %s", base, what, strings.Join(lacking, ", "))
	return nil
}
