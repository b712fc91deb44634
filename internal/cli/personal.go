package cli

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/diag"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/schemas"
)

const eventPlainText = "plain_text_stays"

// hashKey makes the key that a pipeline's contract hashes with; nil where the
// pipeline has none and needs none.
func hashKey(cfg *config.Config, p *config.Pipeline, c *schemas.Contract) (*schemas.HashKey, error) {
	switch {
	case !p.HashKey.IsZero():
		return schemas.NewHashKey([]byte(p.HashKey.Reveal()))
	case c.Hashes():
		d := cfg.Diagnostic(p.Pos("schema"), diag.Error, fmt.Sprintf("the contract of pipeline %s hashes values, and the pipeline has no hash_key", p.Name),
			"add hash_key: ${SLUICE_HASH_KEY}, or hash_key_file; `openssl rand -hex 32` makes a key, which has to be kept")
		return nil, diag.List{d}.Err()
	default:
		return nil, nil //nolint:nilnil // no key is none
	}
}

// plainIn returns the columns that a pipeline's contract protects, and of which
// a destination has values from before.
func plainIn(cfg *config.Config, p *config.Pipeline, st *state.Pipeline, destination string) ([]string, error) {
	if d := st.Destinations[destination]; d == nil || len(d.PlainText) == 0 {
		return nil, nil
	}
	c, err := contract(cfg, p)
	if err != nil {
		return nil, err
	}
	reg, err := schemas.NewRegistry(c, st.Entries(c))
	if err != nil {
		return nil, fmt.Errorf("restore column registry: %w", err)
	}
	return run.StillPlain(st, reg, destination), nil
}

// writePlain says below a table which columns its history has as plain text.
func writePlain(b *strings.Builder, columns []string) {
	if len(columns) > 0 {
		fmt.Fprintf(b, "  %s  %s: from before the contract protected this, in history and in contacts that the source no longer shows\n",
			pad("plain text", 18, false), fewColumns(columns))
	}
}

// markPlain notes at each column which destinations have values of it from before
// the contract protected them.
func (a *app) markPlain(ctx context.Context, cfg *config.Config, p *config.Pipeline, reg *schemas.Registry, columns []fieldColumn) error {
	store, err := a.store(cfg)
	if err != nil {
		return err
	}
	st, err := store.Load(ctx, p.Name)
	if err != nil {
		return err
	}
	for _, d := range p.Destinations {
		plain := run.StillPlain(st, reg, d.Name)
		for i := range columns {
			if slices.Contains(plain, columns[i].Name) {
				columns[i].PlainIn = append(columns[i].PlainIn, d.Name)
			}
		}
	}
	return nil
}

// writePlainIn says below the columns which of them some destination has as plain
// text still.
func writePlainIn(b *strings.Builder, columns []fieldColumn) {
	places := map[string][]string{}
	for _, c := range columns {
		for _, name := range c.PlainIn {
			places[name] = append(places[name], c.Name)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(places)) {
		fmt.Fprintf(b, "(%s has plain text of %s from before the contract protected this, in history and in contacts that the source no longer shows)\n",
			name, fewColumns(places[name]))
	}
}

// fewColumns names some of the columns.
func fewColumns(columns []string) string {
	const most = 5
	if left := len(columns) - most; left > 0 {
		columns = append(slices.Clone(columns[:most]), fmt.Sprintf("and %d more", left))
	}
	return strings.Join(columns, ", ")
}

// staysPlain says what stays in plain text, a thing a line.
func staysPlain(p *run.PlainText) []string {
	lines := []string{"the contract protects " + fewColumns(p.Columns) + " from now on; as plain text stays what was stored before:"}
	for _, d := range p.Places {
		what := "the versions in its history"
		if d.Versions != nil {
			what = "up to " + counted(*d.Versions, "version", "versions") + " in its history"
		}
		what = d.Destination + ": " + what + ", and contacts that the source no longer shows"
		if d.Waiting > 0 {
			what += ", " + counted(d.Waiting, "package", "packages") + " that waited for it"
		}
		lines = append(lines, what)
	}
	if p.Records > 0 {
		lines = append(lines, counted(p.Records, "record", "records")+" set aside whole: see `sluice quarantine --help`")
	}
	if p.Runs > 0 {
		lines = append(lines, counted(p.Runs, "unfinished run", "unfinished runs")+" of another kind in the runs folder of the state")
	}
	return append(lines, "`sluice erase --id` removes a contact everywhere; to be rid of all of it give the pipeline another table, and delete the old one")
}
