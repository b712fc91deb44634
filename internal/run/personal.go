package run

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/quarantine"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// NoHashKeyError is a contract that hashes values of a pipeline without a key.
type NoHashKeyError struct{ Pipeline string }

func (e *NoHashKeyError) Error() string {
	return fmt.Sprintf("check pipeline %s: its contract hashes values, and it has no hash key", e.Pipeline)
}

// Hint says what to do.
func (e *NoHashKeyError) Hint() string {
	return "nothing was read. Set hash_key: ${SLUICE_HASH_KEY} at the pipeline; `openssl rand -hex 32` makes a key, which has to be kept"
}

// checkHashKey refuses a job that could not keep its contract's policies.
func (j Job) checkHashKey() error {
	if j.Contract.Hashes() && j.HashKey == nil {
		return &NoHashKeyError{Pipeline: j.Pipeline}
	}
	return nil
}

// hashKeyID is the id of the key that the job's hashes are made with, empty
// where its contract hashes nothing.
func (j Job) hashKeyID() string {
	if !j.Contract.Hashes() {
		return ""
	}
	return j.HashKey.ID()
}

// hidesAccount reports whether client_id is stored in no form that tells
// accounts apart, so that state may not have it either.
func (j Job) hidesAccount() bool {
	rule := j.Contract.Rule(schemas.FieldRef{Scope: schemas.ScopeContact, Key: "client_id"})
	return !rule.Wanted || rule.Policy == schemas.Mask || rule.Policy == schemas.Drop
}

// policies are those of a contract as state remembers them.
func policies(c *schemas.Contract) map[string]schemas.Policy {
	out := map[string]schemas.Policy{}
	for _, col := range slices.Concat(c.Columns, c.Left) {
		if col.Policy != schemas.Keep {
			out[col.Ref.String()] = col.Policy
		}
	}
	for scope, rule := range c.Undeclared {
		if rule.Policy != schemas.Keep {
			out[string(scope)] = rule.Policy
		}
	}
	return out
}

// policyNow is what the contract stores of a field's values.
func policyNow(c *schemas.Contract, ref schemas.FieldRef) schemas.Policy {
	for _, col := range slices.Concat(c.Columns, c.Left) {
		if col.Ref == ref {
			return col.Policy
		}
	}
	return c.Undeclared[ref.Scope].Policy
}

// PlainText says where values still stand as they came that the contract of
// now hashes, masks or drops.
type PlainText struct {
	Columns []string     `json:"columns"` // that held them
	Places  []PlainPlace `json:"places"`
	// Records are those set aside whole, Runs the unfinished runs of other kinds
	// with parts on this machine.
	Records int64 `json:"records,omitempty"`
	Runs    int   `json:"runs,omitempty"`
}

// PlainPlace is a destination with such values.
type PlainPlace struct {
	Destination string `json:"destination"`
	// Versions are the rows of its history, nil where it does not tell.
	Versions *int64 `json:"versions,omitempty"`
	Waiting  int    `json:"waiting,omitempty"` // packages made before, and not committed yet
}

// nowProtected returns the columns whose values were stored as they came, and
// no longer are, sorted.
func nowProtected(st *state.Pipeline, c *schemas.Contract) []string {
	var out []string
	look := func(ref schemas.FieldRef, column, key string) {
		inside := c.Inside(ref)
		switch {
		case st.Policies[key] != "" || slices.ContainsFunc(inside, func(s schemas.Scope) bool { return hadPolicy(st, s) }):
		case policyNow(c, ref) != schemas.Keep, len(inside) > 0 && c.Stored(ref) != schemas.Keep:
			out = append(out, column)
		}
	}
	for _, col := range st.Columns {
		scope, key, _ := strings.Cut(col.Source, ":")
		look(schemas.FieldRef{Scope: schemas.Scope(scope), Key: key}, col.Name, col.Source)
	}
	for _, e := range st.Registry {
		if slices.ContainsFunc(st.Columns, func(col state.Column) bool { return col.Source == e.Ref().String() }) {
			continue // its misfits, counted with it
		}
		if e.Scope != schemas.ScopeOverflow {
			look(e.Ref(), e.Column, string(e.Scope))
			continue
		}
		for scope := range c.Undeclared { // it holds fields of all of them
			look(schemas.FieldRef{Scope: scope}, e.Column, string(scope))
		}
	}
	slices.Sort(out)
	return slices.Compact(out)
}

// hadPolicy reports whether a field of the scope was protected already.
func hadPolicy(st *state.Pipeline, scope schemas.Scope) bool {
	for key := range st.Policies {
		if of, _, _ := strings.Cut(key, ":"); of == string(scope) {
			return true
		}
	}
	return false
}

// notePlain lets state remember in which destinations values stay as they came,
// before it learns of the contract that protects them from now on. A table that
// begins anew has none.
func (r *syncRun) notePlain(p *state.Pipeline) {
	var columns []string
	if p.Contract != "" {
		columns = nowProtected(p, r.job.Contract)
	}
	for name, d := range p.Destinations {
		if slices.Contains(r.anew, name) {
			d.PlainText = nil
			continue
		}
		if d.Position > 0 || len(d.Queue) > 0 {
			d.PlainText = joined(d.PlainText, columns)
		}
	}
}

// joined returns the names of both lists, each once, sorted; nil for none.
func joined(a, b []string) []string {
	return slices.Compact(slices.Sorted(slices.Values(slices.Concat(a, b))))
}

// StillPlain returns the columns that the registry's contract protects and of
// which a destination's history has values from before, as far as state knows;
// sorted.
func StillPlain(st *state.Pipeline, reg *schemas.Registry, destination string) []string {
	d := st.Destinations[destination]
	if d == nil {
		return nil
	}
	protected := columnPolicies(reg)
	return slices.DeleteFunc(slices.Clone(d.PlainText), func(name string) bool { return protected[name] == "" })
}

// tellPlainText says, when the contract protects more than it did, what stays
// as it was: the run reads everything again, and that reaches neither history
// nor contacts that the source no longer shows.
func (r *syncRun) tellPlainText(ctx context.Context) error {
	if r.kind != kindSync || r.st.Contract == "" {
		return nil
	}
	p := &PlainText{Columns: nowProtected(r.st, r.job.Contract)}
	if len(p.Columns) == 0 {
		return nil
	}
	for _, d := range r.job.Destinations {
		place := PlainPlace{Destination: d.Name, Waiting: len(r.queue(d.Name))}
		if h, ok := d.Loader.(load.Historian); ok && slices.Contains(r.ready, d.Name) {
			n, err := h.Versions(ctx, r.st.Lineage)
			if err != nil {
				return fmt.Errorf("count versions of destination %q: %w", d.Name, err)
			}
			place.Versions = &n
		}
		p.Places = append(p.Places, place)
	}
	err := quarantine.In(r.Store.Dir(), r.job.Pipeline, r.Disk).All(func(_ string, q quarantine.Record) {
		if q.Raw != "" {
			p.Records++
		}
	})
	if err != nil {
		return fmt.Errorf("look for records set aside: %w", err)
	}
	names, err := runDirs(filepath.Dir(r.Store.RunDir("x")), r.job.Pipeline)
	if err != nil {
		return err
	}
	for _, name := range names {
		if id := runIDOf(name); kindOf(id) != r.kind && !r.accounted(id) {
			p.Runs++
		}
	}
	r.summary.PlainText = p
	r.emit(Event{Type: "plain_text_stays", Plain: p})
	return nil
}
