package bigquery

import (
	"crypto/sha256"
	"encoding/hex"
	"maps"
	"strings"

	bq "google.golang.org/api/bigquery/v2"
)

// The suffixes of the loader's tables; no table's own name has two underscores.
const (
	historySuffix = "_history"
	stagingSuffix = "__staging"
	commitsSuffix = "__commits"
)

// lineageLabel is the label of the commits table that says whose it is.
const lineageLabel = "sluice_lineage"

// tableLabel is the label that says which table of contacts something is of.
const tableLabel = "sluice_table"

// tableNames are the four tables by what they are for.
func (o Options) history() string { return o.Table + historySuffix }
func (o Options) staging() string { return o.Table + stagingSuffix }
func (o Options) commits() string { return o.Table + commitsSuffix }

// place is how messages name a table.
func (o Options) place(table string) string { return o.Project + "." + o.Dataset + "." + table }

// quoted is a table's name in SQL.
func (o Options) quoted(table string) string { return quoteName(o.place(table)) }

// quoteName quotes an identifier, or a path of them (Lexical structure, "Quoted
// identifiers": escapes are those of strings).
func quoteName(s string) string {
	return "`" + strings.NewReplacer(`\`, `\\`, "`", "\\`").Replace(s) + "`"
}

// path is a table's name in the Storage Write API.
func (o Options) path(table string) string {
	return "projects/" + o.Project + "/datasets/" + o.Dataset + "/tables/" + table
}

func (o Options) reference(table string) *bq.TableReference {
	return &bq.TableReference{ProjectId: o.Project, DatasetId: o.Dataset, TableId: table}
}

// lineageValue is a lineage as a label: label values have at most 63
// characters, of few kinds.
func lineageValue(lineage string) string {
	sum := sha256.Sum256([]byte(lineage))
	return hex.EncodeToString(sum[:])[:32]
}

// labelValue makes a text one that a label can have: lower-case letters, digits,
// "_" and "-", at most 63 (Creating and managing labels, "Requirements for
// labels").
func labelValue(s string) string {
	s = strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z', c >= '0' && c <= '9', c == '_', c == '-':
			return c
		case c >= 'A' && c <= 'Z':
			return c + 'a' - 'A'
		default:
			return '-'
		}
	}, s)
	return s[:min(len(s), 63)]
}

// labels are the options' and the loader's own, given as key, value, ...
func (o Options) labels(own ...string) map[string]string {
	out := maps.Clone(o.Labels)
	if out == nil {
		out = map[string]string{}
	}
	out[tableLabel] = labelValue(o.Table)
	for i := 0; i+1 < len(own); i += 2 {
		out[own[i]] = own[i+1]
	}
	return out
}
