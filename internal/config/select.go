package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/diag"
)

// SelectError says why pipelines cannot be chosen by what was given.
type SelectError struct{ message, hint string }

// Error says what is wrong with the names.
func (e *SelectError) Error() string { return e.message }

// Hint says which names there are, or what was probably meant.
func (e *SelectError) Hint() string { return e.hint }

// Select returns the pipelines of the names, all of them where there is no
// name. The name of a pipeline with for_each means it for each account; one
// account of it is NAME["ACCOUNT"], or NAME.ACCOUNT, which no shell takes
// apart. Errors are of type *SelectError.
func (c *Config) Select(names []string) ([]*Pipeline, error) {
	if len(names) == 0 {
		return c.Pipelines, nil
	}
	var chosen []*Pipeline
	for _, name := range names {
		found := c.called(name)
		if len(found) == 0 {
			return nil, c.noPipeline(name)
		}
		for _, p := range found {
			if slices.Contains(chosen, p) {
				return nil, &SelectError{fmt.Sprintf("pipeline %s is named twice", quotedName(p.Name)), "name each pipeline once"}
			}
		}
		chosen = append(chosen, found...)
	}
	return chosen, nil
}

// SelectOne is Select for what takes exactly one pipeline.
func (c *Config) SelectOne(name string) (*Pipeline, error) {
	found := c.called(name)
	switch len(found) {
	case 0:
		return nil, c.noPipeline(name)
	case 1:
		return found[0], nil
	}
	return nil, &SelectError{
		fmt.Sprintf("pipeline %q is one for each of %d accounts, and this takes one", name, len(found)),
		"name one of them: " + strings.Join(addresses(found), ", "),
	}
}

// called returns the pipelines that a name means.
func (c *Config) called(name string) []*Pipeline {
	base, account := splitName(name)
	if bare, rest, ok := strings.Cut(name, "["); ok && account == "" { // what a shell leaves of it
		base, account = bare, strings.TrimSuffix(rest, "]")
	} else if account == "" {
		base, account, _ = strings.Cut(name, ".")
	}
	var found []*Pipeline
	for _, p := range c.Pipelines {
		if p.Name == name || p.Base == name || p.Account != "" && p.Base == base && p.Account == account {
			found = append(found, p)
		}
	}
	return found
}

func (c *Config) noPipeline(name string) error {
	known := addresses(c.Pipelines)
	for _, p := range c.Pipelines {
		if p.Account != "" && !slices.Contains(known, p.Base) {
			known = append(known, p.Base)
		}
	}
	return &SelectError{fmt.Sprintf("no pipeline is called %q in %s", name, c.File), diag.Hint(name, known)}
}

// Address is a pipeline's name as one would type it: nightly, or nightly.acme.
func (p *Pipeline) Address() string {
	if p.Account == "" {
		return p.Name
	}
	return p.Base + "." + p.Account
}

func addresses(list []*Pipeline) []string {
	var out []string
	for _, p := range list {
		out = append(out, p.Address())
	}
	return out
}

// quotedName quotes a name for a message, where it has no quotes of its own.
func quotedName(name string) string {
	if strings.Contains(name, `"`) {
		return name
	}
	return fmt.Sprintf("%q", name)
}
