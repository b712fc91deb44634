package bqtest

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	bq "google.golang.org/api/bigquery/v2"
)

// Limits of tables ("Quotas and limits", "Table limits"; "Specifying a schema",
// "Column names" and "Column descriptions"; "Create clustered tables"; "Primary
// and foreign keys").
const (
	maxColumns     = 10_000
	maxColumnName  = 300
	maxDescription = 1024
	maxTableName   = 1024
	maxClustering  = 4
	maxPrimaryKey  = 16
	maxLabels      = 64

	maxStalenessDays = 366 // so that it is counted in nanoseconds
)

var (
	columnPattern  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`)
	datasetPattern = regexp.MustCompile(`^[A-Za-z0-9_]+$`)
	tablePattern   = regexp.MustCompile(`^[\p{L}\p{M}\p{N}\p{Pc}\p{Pd} ]+$`)
	labelPattern   = regexp.MustCompile(`^[\p{Ll}\p{Lo}][\p{Ll}\p{Lo}\p{N}_-]{0,62}$`)
	labelValue     = regexp.MustCompile(`^[\p{Ll}\p{Lo}\p{N}_-]{0,63}$`)
)

// reservedPrefixes no column's name may begin with ("Column names").
var reservedPrefixes = []string{"_TABLE_", "_FILE_", "_PARTITION", "_ROW_TIMESTAMP", "__ROOT__", "_COLIDENTIFIER"}

// cdcNames are pseudo-columns of change data capture.
var cdcNames = []string{"_CHANGE_TYPE", "_CHANGE_SEQUENCE_NUMBER", "_CHANGE_TIMESTAMP"}

// kindOfField reads a type's name: REST has older names for some.
func kindOfField(s string) (string, bool) {
	switch k := strings.ToUpper(s); k {
	case "INTEGER":
		return "INT64", true
	case "FLOAT":
		return "FLOAT64", true
	case "BOOLEAN":
		return "BOOL", true
	case "INTERVAL":
		return "", false
	default:
		return k, isScalarKind(k)
	}
}

// restType is the name that REST prints for a type.
func restType(kind string) string {
	switch kind {
	case "INT64":
		return "INTEGER"
	case "FLOAT64":
		return "FLOAT"
	case "BOOL":
		return "BOOLEAN"
	case "STRUCT":
		return "RECORD"
	}
	return kind
}

// columnsOfSchema checks a schema and gives its columns.
func columnsOfSchema(fields []*bq.TableFieldSchema, now time.Time) ([]column, error) {
	if len(fields) > maxColumns {
		return nil, invalid("Too many total leaf fields: %d, max allowed field count: %d", len(fields), maxColumns)
	}
	seen := map[string]bool{}
	var out []column
	for _, f := range fields {
		if err := checkColumnName(f.Name); err != nil {
			return nil, err
		}
		if key := strings.ToLower(f.Name); seen[key] {
			return nil, invalid("Duplicate field name: %s", f.Name)
		}
		seen[strings.ToLower(f.Name)] = true
		kind, ok := kindOfField(f.Type)
		if !ok {
			return nil, unknown("type %s of field %s", f.Type, f.Name)
		}
		if utf8.RuneCountInString(f.Description) > maxDescription {
			return nil, invalid("Description of field %s is longer than %d characters", f.Name, maxDescription)
		}
		if f.Fields != nil || f.DefaultValueExpression != "" || f.MaxLength != 0 || f.Precision != 0 || f.Scale != 0 || f.PolicyTags != nil || f.Collation != "" {
			return nil, unknown("fields, default, length, precision, policy tags or collation of field %s", f.Name)
		}
		switch strings.ToUpper(f.Mode) {
		case "", "NULLABLE", "REQUIRED":
		case "REPEATED":
			return nil, unknown("mode REPEATED of field %s", f.Name)
		default:
			return nil, invalid("Invalid value for mode: %s is not a valid value", f.Mode)
		}
		out = append(out, column{name: f.Name, kind: kind, required: strings.EqualFold(f.Mode, "REQUIRED"), description: f.Description, since: now})
	}
	return out, nil
}

func checkColumnName(name string) error {
	if utf8.RuneCountInString(name) > maxColumnName || !columnPattern.MatchString(name) {
		return invalid("Invalid field name \"%s\". Fields must contain only letters, numbers, and underscores, start with a letter or underscore, and be at most %d characters long.", name, maxColumnName)
	}
	upper := strings.ToUpper(name)
	for _, p := range reservedPrefixes {
		if strings.HasPrefix(upper, p) {
			return invalid("Invalid field name \"%s\". Field names are not allowed to start with the (case-insensitive) prefixes %s", name, strings.Join(reservedPrefixes, ", "))
		}
	}
	if slices.Contains(cdcNames, upper) {
		return invalid("Invalid field name \"%s\": it is reserved", name)
	}
	return nil
}

// checkTable checks a new or changed table's resource against its columns.
func checkTable(m *bq.Table, cols []column) error {
	if len(m.TableReference.TableId) > maxTableName || !tablePattern.MatchString(m.TableReference.TableId) {
		return invalid("Invalid table ID \"%s\".", m.TableReference.TableId)
	}
	find := func(name string) *column { return (&table{columns: cols}).column(name) }
	if err := checkPartitioning(m, find); err != nil {
		return err
	}
	if m.Clustering != nil {
		if n := len(m.Clustering.Fields); n == 0 || n > maxClustering {
			return invalid("Clustering must have 1 to %d fields, has %d", maxClustering, n)
		}
		for _, name := range m.Clustering.Fields {
			c := find(name)
			if c == nil {
				return invalid("The field specified for clustering cannot be found in the schema. Invalid field: %s.", name)
			}
			if !strings.Contains(" DATE BOOL INT64 NUMERIC STRING TIMESTAMP DATETIME ", " "+c.kind+" ") {
				return invalid("Clustering is not supported on field %s of type %s", name, c.kind)
			}
		}
	}
	if c := m.TableConstraints; c != nil {
		if c.ForeignKeys != nil {
			return unknown("foreign keys")
		}
		if c.PrimaryKey != nil {
			if err := checkPrimaryKey(c.PrimaryKey.Columns, find); err != nil {
				return err
			}
		}
	}
	if m.MaxStaleness != "" {
		if _, err := parseStaleness(m.MaxStaleness); err != nil {
			return err
		}
	}
	return checkLabels(m.Labels)
}

// checkPrimaryKey: top-level columns, at most 16, each once, of types that can be
// compared ("Use primary and foreign keys", "Limitations").
func checkPrimaryKey(names []string, find func(string) *column) error {
	if len(names) == 0 || len(names) > maxPrimaryKey {
		return invalid("Primary key must have 1 to %d columns, has %d", maxPrimaryKey, len(names))
	}
	seen := map[string]bool{}
	for _, name := range names {
		c := find(name)
		if c == nil {
			return invalid("Primary key column %s is not in the schema", name)
		}
		if seen[c.name] {
			return invalid("Primary key has column %s twice", name)
		}
		seen[c.name] = true
		if !strings.Contains(" INT64 STRING DATE TIMESTAMP DATETIME BOOL NUMERIC ", " "+c.kind+" ") {
			return invalid("Primary key column %s has type %s, which is not allowed", name, c.kind)
		}
	}
	return nil
}

// checkPartitioning: by a DATE, TIMESTAMP or DATETIME column; DATE has no hours
// ("Introduction to partitioned tables", "Time-unit column partitioning").
func checkPartitioning(m *bq.Table, find func(string) *column) error {
	p := m.TimePartitioning
	if p == nil {
		if m.RequirePartitionFilter {
			return invalid("require_partition_filter needs a partitioned table")
		}
		return nil
	}
	if !strings.Contains(" HOUR DAY MONTH YEAR ", " "+p.Type+" ") || p.Type == "" {
		return invalid("Invalid value for type: %q is not a valid value", p.Type)
	}
	if p.Field == "" {
		return unknown("partitioning by ingestion time")
	}
	c := find(p.Field)
	if c == nil {
		return invalid("The field specified for partitioning cannot be found in the schema. Invalid field: %s.", p.Field)
	}
	if !strings.Contains(" DATE TIMESTAMP DATETIME ", " "+c.kind+" ") || c.kind == "DATE" && p.Type == "HOUR" {
		return invalid("The field specified for partitioning can only be of type DATE, TIMESTAMP or DATETIME, and is %s for %s partitions. Field: %s.", c.kind, p.Type, p.Field)
	}
	if p.ExpirationMs < 0 {
		return invalid("Partition expiration must not be negative")
	}
	return nil
}

func checkLabels(labels map[string]string) error {
	if len(labels) > maxLabels {
		return invalid("Too many labels: %d, at most %d", len(labels), maxLabels)
	}
	for k, v := range labels {
		if !labelPattern.MatchString(k) || !labelValue.MatchString(v) {
			return invalid("Label %q: %q does not conform: lower-case letters, digits, underscores and dashes, at most 63", k, v)
		}
	}
	return nil
}

// stalenessPattern is an INTERVAL's canonical form, Y-M D H:M:S, as
// Table.maxStaleness has it.
var stalenessPattern = regexp.MustCompile(`^(\d+)-(\d+) (\d+) (\d+):(\d+):(\d+)$`)

func parseStaleness(s string) (time.Duration, error) {
	m := stalenessPattern.FindStringSubmatch(s)
	if m == nil {
		return 0, invalid("Invalid value for maxStaleness: %q", s)
	}
	var n [6]int64
	for i := range n {
		v, err := strconv.Atoi(m[i+1])
		if err != nil {
			return 0, invalid("Invalid value for maxStaleness: %q", s)
		}
		n[i] = int64(v)
	}
	days := (n[0]*12+n[1])*30 + n[2]
	if days > maxStalenessDays {
		return 0, invalid("Invalid value for maxStaleness: %q", s)
	}
	return time.Duration(((days*24+n[3])*60+n[4])*60+n[5]) * time.Second, nil
}

func printStaleness(d time.Duration) string {
	return fmt.Sprintf("0-0 0 %d:%d:%d", d/time.Hour, d/time.Minute%60, d/time.Second%60)
}

// evolve gives the columns of a changed schema: columns can be added if they are
// not REQUIRED, and REQUIRED relaxed, and nothing else ("Modifying table
// schemas").
func evolve(t *table, fields []*bq.TableFieldSchema, now time.Time) ([]column, error) {
	next, err := columnsOfSchema(fields, now)
	if err != nil {
		return nil, err
	}
	mismatch := "Provided Schema does not match Table " + t.ref.String() + ". "
	out := slices.Clone(t.columns)
	for i := range out {
		at := slices.IndexFunc(next, func(c column) bool { return strings.EqualFold(c.name, out[i].name) })
		if at < 0 {
			return nil, invalid("%sField %s is missing in new schema", mismatch, out[i].name)
		}
		n := next[at]
		switch {
		case n.kind != out[i].kind:
			return nil, invalid("%sField %s has changed type from %s to %s", mismatch, out[i].name, restType(out[i].kind), restType(n.kind))
		case n.required && !out[i].required:
			return nil, invalid("%sField %s has changed mode from NULLABLE to REQUIRED", mismatch, out[i].name)
		}
		out[i].required, out[i].description = n.required, n.description
		next = slices.Delete(next, at, at+1)
	}
	for _, n := range next {
		if n.required {
			return nil, invalid("%sCannot add required fields to an existing schema. (field: %s)", mismatch, n.name)
		}
		out = append(out, n)
	}
	return out, nil
}

// schemaFields prints columns as a schema.
func schemaFields(cols []column) []*bq.TableFieldSchema {
	out := make([]*bq.TableFieldSchema, len(cols))
	for i, c := range cols {
		mode := "NULLABLE"
		if c.required {
			mode = "REQUIRED"
		}
		out[i] = &bq.TableFieldSchema{Name: c.name, Type: restType(c.kind), Mode: mode, Description: c.description}
	}
	return out
}

// clone copies a resource.
func clone[T any](v *T) (*T, error) {
	b, err := json.Marshal(v)
	if err != nil {
		return nil, fmt.Errorf("copy resource: %w", err)
	}
	out := new(T)
	if err := json.Unmarshal(b, out); err != nil {
		return nil, fmt.Errorf("copy resource: %w", err)
	}
	return out, nil
}
