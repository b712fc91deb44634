package config

import (
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/diag"
)

func (r *reader) pipeline(c *Config, n namedValue) *Pipeline {
	p := &Pipeline{Name: n.name, Base: n.base, Account: n.account}
	f, ok := r.fields("pipelines.*", n.val, n.at)
	p.Node = f.node
	if !ok {
		return p
	}
	r.tableName(f, p)
	p.Verify, _ = f.text("verify")
	if f.has("max_requests") {
		p.MaxRequests = int64(f.integer("max_requests"))
	}
	if f.has("max_bytes") {
		p.MaxBytes = f.size("max_bytes")
	}
	p.Lookback = f.duration("lookback")
	if f.has("lookback") && p.Lookback == 0 && !r.list.HasErrors() {
		r.warnf(f.pos("lookback"), "an hour costs little", "a lookback of 0 loses a change that becomes visible after its updated_at")
	}
	if f.has("schema") {
		p.schema, p.Schema = f.path("schema")
		if info, err := os.Stat(p.Schema); p.Schema != "" && (err != nil || !info.Mode().IsRegular()) {
			why := "it is not a file"
			if err != nil {
				why = cause(err)
			}
			r.errorf(f.pos("schema"), "relative paths start at the directory of "+r.file+"; leave schema out for the built-in contract", "read schema: %s", why)
		} else if p.Schema != "" {
			p.contract = r.digest(f, p.Schema)
		}
	}
	r.hashKey(f, p)
	r.mode(f, p)
	p.Enrich, _ = f.text("enrich")
	if name, ok := f.name("stages"); ok && name != stagesOff {
		p.StagesTable = name
		if !f.has("stages") && p.Table != "" && p.Table != firstTable {
			p.StagesTable = p.Table + "_stages" // crm_stages is that of the usual table alone
		}
	}
	p.Timezone = f.timezone("timezone")
	r.times(f, p)
	p.Freshness = f.duration("freshness")
	p.Heartbeat = r.hook(f, "heartbeat")
	r.filters(f, p)
	p.Reconcile = r.reconcile(f, p)
	p.Quarantine = r.quarantine(f)
	r.references(c, f, p, n)
	r.noteUnion(f, p)
	return p
}

// references resolves the source and the destinations of a pipeline.
func (r *reader) references(c *Config, f fields, p *Pipeline, n namedValue) {
	if name, ok := f.text("source"); ok {
		p.Source = r.sourceOf(c, f, n, name)
	}
	var names []string
	for _, d := range c.Destinations {
		names = append(names, d.Name)
	}
	for _, s := range f.each("destinations") {
		if d := c.Destination(s.text); d != nil {
			p.Destinations = append(p.Destinations, d)
		} else {
			r.missing(s.pos, "destination", s.shown, s.text, names)
		}
	}
}

// missing reports a reference to nothing. Where nothing is declared at all,
// that has been reported.
func (r *reader) missing(at Pos, what, shown, name string, names []string) {
	if len(names) > 0 {
		r.errorf(at, diag.Hint(name, names), "there is no %s %s", what, shown)
	}
}

// filters reads the filters of a pipeline.
func (r *reader) filters(f fields, p *Pipeline) {
	g, _ := r.fields("pipelines.*.filters", f.vals["filters"], f.pos("filters"))
	for _, name := range []string{"platform", "chat_status", "blocked"} {
		var values []string
		for _, s := range g.each(name) {
			if g.key(name).Type == BooleansType && (s.text != "true" && s.text != "false" || s.kind == textKind && !s.env) {
				g.mistyped(name, s)
				continue
			}
			r.knownValue(name, s)
			values = append(values, s.text)
		}
		if len(values) == 0 {
			continue
		}
		if p.Filters == nil {
			p.Filters = map[string][]string{}
		}
		slices.Sort(values)
		p.Filters[name] = values
	}
	p.Stages = r.uuids(g, "stage_id", p.Sync)
	p.Pipelines = r.uuids(g, "pipeline_id", p.Sync)
	p.Field = r.field(g)
}

// uuidPattern is the one that the endpoint's page gives for stage_id and
// pipeline_id: it answers 400 to anything else.
var uuidPattern = regexp.MustCompile(`^(?:[0-9a-f]{8}-[0-9a-f]{4}-[1-8][0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}|00000000-0000-0000-0000-000000000000|ffffffff-ffff-ffff-ffff-ffffffffffff)$`)

// uuids returns the values of a filter by UUID, sorted, in lower case.
func (r *reader) uuids(g fields, name, sync string) []string {
	var out []string
	for i, s := range g.each(name) {
		id := strings.ToLower(s.text)
		switch {
		case !uuidPattern.MatchString(id):
			r.errorf(s.pos, "write a UUID such as 5e3cf1de-7a4b-4c1e-9a53-0d2f6b8c1e47", "%s: %s is not a UUID", name, s.shown)
		case i > 0 && sync == syncSnapshot:
			r.errorf(s.pos, "use sync: incremental, which takes any number of them, or one pipeline for each", "with sync: snapshot the source filters, and takes one %s", name)
		default:
			out = append(out, id)
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// field reads the filter by a custom field, nil for none.
func (r *reader) field(g fields) *Field {
	const key, value, entity = "custom_field_key", "custom_field_value", "entity_type"
	var f Field
	f.Key, _ = g.text(key)
	f.Value, _ = g.text(value)
	f.Entity, _ = g.text(entity)
	switch {
	case g.has(key) && g.has(value):
		return &f
	case g.partial: // the other may stand in what could not be read
	case g.has(key):
		r.errorf(g.keyPos[key], "add "+value+", or leave out both", "%s needs %s", key, value)
	case g.has(value):
		r.errorf(g.keyPos[value], "add "+key+", or leave out both", "%s needs %s", value, key)
	case g.has(entity):
		r.errorf(g.keyPos[entity], "add both, or leave it out", "%s needs %s and %s", entity, key, value)
	}
	return nil
}

// firstTable is the default of table, whose stages have a name of their own.
const firstTable = "contacts"

// stagesOff is the value of stages for no table.
const stagesOff = "off"

// The values of sync that other keys depend on.
const (
	syncRecent   = "recent"
	syncSnapshot = "snapshot"
)

// mode reads sync and the keys that belong to some of its values.
func (r *reader) mode(f fields, p *Pipeline) {
	p.Sync, _ = f.text("sync")
	if p.Sync != "" && p.Sync != syncRecent {
		f.dropInherited("days")
	}
	if p.Sync == syncRecent || p.Sync == syncSnapshot {
		f.dropInherited("full_every")
	}
	if p.Sync == syncSnapshot {
		f.dropInherited("reconcile")
	}
	p.Days = f.integer("days")
	if f.has("full_every") {
		p.FullEvery = f.duration("full_every")
	}
	switch {
	case p.Sync == "": // it is at fault, and what goes with it is not known
	case p.Sync == syncRecent:
		if !f.has("days") && !f.partial {
			r.errorf(f.pos("sync"), "add days: 30, or another number from 1 to 365", "sync: recent needs days")
		}
	case f.has("days"):
		r.errorf(f.keyPos["days"], "write sync: recent, or leave days out", "days does not go with sync: %s", p.Sync)
	}
	if (p.Sync == syncRecent || p.Sync == syncSnapshot) && f.has("full_every") {
		r.errorf(f.keyPos["full_every"], "leave it out: every run reads all that it asks for", "full_every does not go with sync: %s", p.Sync)
	}
}

// reconcile reads how deletions are looked for, nil where the file does not say.
func (r *reader) reconcile(f fields, p *Pipeline) *Reconcile {
	if !f.has("reconcile") {
		return nil
	}
	if p.Sync == syncSnapshot {
		r.errorf(f.keyPos["reconcile"], "leave it out: each run of a snapshot marks the contacts that the source no longer shows", "reconcile does not go with sync: snapshot")
	}
	g, ok := r.fields("pipelines.*.reconcile", f.vals["reconcile"], f.pos("reconcile"))
	rec := &Reconcile{Node: g.node}
	if !ok {
		return rec
	}
	rec.Schedule, rec.Cron = g.schedule("schedule", p.Timezone)
	rec.MaxShare = g.share("max_share")
	rec.MaxProbes = g.integer("max_probes")
	return rec
}

// quarantine reads what becomes of records that cannot be rows. A word alone
// is its store.
func (r *reader) quarantine(f fields) Quarantine {
	const name, store = "quarantine", "store"
	v := f.vals[name]
	if v != nil && v.kind == textKind && !strings.Contains(v.text, ":") {
		v = &value{kind: mappingKind, pos: v.pos, entries: []*entry{{key: store, keyPos: f.keyPos[name], val: v}}}
	}
	var q Quarantine
	g, ok := r.fields("pipelines.*."+name, v, f.pos(name))
	if !ok {
		return q
	}
	q.Store, _ = g.text(store)
	q.MaxShare = g.share("max_share")
	if g.has("max_records") {
		n := g.integer("max_records")
		q.MaxRecords = &n
	}
	return q
}

// knownValue warns of a filter value that looks like a slip. The sets are open:
// any value is allowed.
func (r *reader) knownValue(name string, s scalar) {
	known := map[string][]string{
		"platform":    {"whatsapp", "web-whatsapp", "instagram", "webchat", "sms", "messenger", "tiktok", "voice", "playground"},
		"chat_status": {"UNATTENDED", "ATTENDED"},
	}[name]
	if slices.Contains(known, s.text) {
		return
	}
	if near := diag.Suggest(s.text, known); near != "" {
		r.warnf(s.pos, "did you mean "+quote(near)+"? known: "+strings.Join(known, ", "), "%s %s is not one that is known, it may match nothing", name, s.shown)
	}
}
