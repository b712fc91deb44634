package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/diag"
	"github.com/sluice-etl/sluice/internal/run"
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

// staysPlain says what stays in plain text, a thing a line.
func staysPlain(p *run.PlainText) []string {
	columns := p.Columns
	if len(columns) > 5 {
		columns = append(slices.Clone(columns[:5]), fmt.Sprintf("and %d more", len(p.Columns)-5))
	}
	lines := []string{"the contract protects " + strings.Join(columns, ", ") + " from now on; as plain text stays what was stored before:"}
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
