package config

import (
	"strings"
	"time"
)

// things are what defaults has keys for.
func things() []string { return []string{"sources", "destinations", "pipelines"} }

// readDefaults reads what holds where a thing leaves a key out, and checks it
// by itself: a fault in a default that nothing takes is one all the same.
func (r *reader) readDefaults(top fields) {
	r.defaults = map[string]*value{}
	f, ok := r.fields("defaults", top.vals["defaults"], top.pos("defaults"))
	if !ok {
		return
	}
	for _, thing := range things() {
		v := f.vals[thing]
		if v == nil {
			continue
		}
		// What ${each.key} means is known later.
		g, ok := r.fields(thing+".*", v.in(&account{unknown: true}), f.pos(thing))
		if !ok {
			continue
		}
		if g.has(forEach) {
			r.errorf(g.keyPos[forEach], "give it to each thing of its own; an anchor (&accounts) lets several share one mapping", "for_each is no default")
		}
		for _, k := range r.children(thing + ".*") {
			if g.has(k.name()) {
				g.check(k)
			}
		}
		r.defaults[thing] = v
	}
}

// check judges one value by its type alone.
func (f fields) check(k Key) {
	name := k.name()
	switch k.Type {
	case TextType, ChoiceType, URLType, PathType, SourceType:
		f.text(name)
	case SecretType:
		f.scalar(name)
	case NameType:
		f.name(name)
	case NamesType, ValuesType, BooleansType, UUIDsType:
		f.each(name)
	case IntegerType:
		f.integer(name)
	case NumberType:
		f.number(name)
	case BooleanType:
		f.boolean(name)
	case DurationType:
		f.duration(name)
	case ShareType:
		f.share(name)
	case SizeType:
		f.size(name)
	case CronType:
		f.schedule(name, time.UTC)
	case TimezoneType:
		f.timezone(name)
	case LabelsType:
		f.labels(name)
	case MappingType:
		p := &Pipeline{Timezone: time.UTC}
		switch name {
		case "filters":
			f.r.filters(f, p)
		case "reconcile":
			f.r.reconcile(f, p)
		case "quarantine":
			f.r.quarantine(f)
		case "retry":
			f.r.retry(f)
		}
	case AccountsType: // refused
	}
}

// withDefaults adds to a thing what it leaves out and defaults has.
func (r *reader) withDefaults(thing string, v *value, at Pos) *value {
	d := r.defaults[thing]
	if d == nil || d.kind != mappingKind {
		return v
	}
	if v == nil || v.kind == nullKind {
		v = &value{kind: mappingKind, pos: at}
	}
	if v.kind != mappingKind {
		return v
	}
	out := *v
	out.entries = append([]*entry(nil), v.entries...)
	out.partial = v.partial || d.partial
	given := map[string]bool{}
	for _, e := range v.entries {
		given[e.key] = true
	}
	for _, e := range d.entries {
		if !given[e.key] && e.key != forEach && r.known(thing, e.key) {
			out.entries = append(out.entries, &entry{key: e.key, keyPos: e.keyPos, val: e.val, inherited: true})
		}
	}
	return &out
}

// known reports whether things of a kind have a key: of one that they have not,
// it is said once.
func (r *reader) known(thing, key string) bool {
	for _, k := range r.table {
		if k.Path == thing+".*."+key {
			return true
		}
	}
	return false
}

// dropInherited forgets a key that does not go with the rest, where it comes
// from defaults: there it is meant for those that it goes with. It reports
// whether it did.
func (f fields) dropInherited(name string) bool {
	if !f.inherited[name] {
		return false
	}
	delete(f.vals, name)
	delete(f.keyPos, name)
	delete(f.node.Keys, name)
	delete(f.inherited, name)
	return true
}

// preferOwn drops the one of two keys that exclude each other that comes from
// defaults, where the thing gives the other itself.
func (f fields) preferOwn(a, b string) {
	switch {
	case f.has(a) && !f.inherited[a]:
		f.dropInherited(b)
	case f.has(b) && !f.inherited[b]:
		f.dropInherited(a)
	}
}

// underscored is an account's key as part of a table's name.
func underscored(key string) string { return strings.ReplaceAll(key, "-", "_") }
