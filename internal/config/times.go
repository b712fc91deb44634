package config

// daemon reads what holds for `sluice schedule` itself.
func (r *reader) daemon(top fields) Daemon {
	f, _ := r.fields("daemon", top.vals["daemon"], top.pos("daemon"))
	d := Daemon{Node: f.node, Concurrency: f.integer("concurrency"), Grace: f.duration("grace")}
	r.page(f, &d)
	return d
}

// times reads when a pipeline runs; its Timezone is known.
func (r *reader) times(f fields, p *Pipeline) {
	p.Schedule, p.Cron = f.schedule("schedule", p.Timezone)
	p.Jitter = f.duration("jitter")
	p.Overlap, _ = f.text("overlap")
	p.CatchUp = f.boolean("catch_up")
	p.Retry = r.retry(f)
}

// retry reads how a run that failed is repeated, nil where the file does not say.
func (r *reader) retry(f fields) *Retry {
	const name, longest = "retry", "max_backoff"
	if !f.has(name) {
		return nil
	}
	g, ok := r.fields("pipelines.*."+name, f.vals[name], f.pos(name))
	again := &Retry{Node: g.node}
	if !ok {
		return again
	}
	again.For, again.Backoff, again.MaxBackoff = g.duration("for"), g.duration("backoff"), g.duration(longest)
	switch given, limited := g.has("backoff"), g.has(longest); {
	case again.MaxBackoff >= again.Backoff || again.MaxBackoff == 0: // 0: it is at fault
	case given && limited:
		r.errorf(g.pos(longest), "give at least the backoff", "max_backoff is less than backoff")
	case given:
		again.MaxBackoff = again.Backoff
	default:
		again.Backoff = again.MaxBackoff
	}
	return again
}
