package bqtest

import (
	"net/http"
	"strconv"
	"time"

	bq "google.golang.org/api/bigquery/v2"
)

// tableClauses puts PARTITION BY, CLUSTER BY, PRIMARY KEY and OPTIONS into a
// resource.
func (r *session) tableClauses(st *createStmt, m *bq.Table, cols []column) error {
	if st.cluster != nil {
		m.Clustering = &bq.Clustering{Fields: st.cluster}
	}
	if st.primaryKey != nil {
		m.TableConstraints = &bq.TableConstraints{PrimaryKey: &bq.TableConstraintsPrimaryKey{Columns: st.primaryKey}}
	}
	if st.partition == nil {
		return nil
	}
	p := m.TimePartitioning
	if p == nil {
		p = &bq.TimePartitioning{}
	}
	n, truncation := st.partition, ""
	p.Type = "DAY"
	if n.kind == nCall && len(n.kids) > 0 {
		truncation = n.text
		if len(n.kids) == 2 {
			p.Type = n.kids[1].text
		}
		n = n.kids[0]
	}
	if n.kind != nName || len(n.path) != 1 || !partitionsBy(truncation, p.Type, n.path[0], cols) {
		return queryError(st.partition.pos, "PARTITION BY expression must be DATE(<timestamp_column>), a DATE column, or a truncation of a column by a function of its type")
	}
	p.Field = n.path[0]
	m.TimePartitioning = p
	return nil
}

// partitionsBy says whether PARTITION BY takes a column by a function, "" for
// none ("CREATE TABLE statement", partition_expression).
func partitionsBy(function, unit, name string, cols []column) bool {
	c := (&table{columns: cols}).column(name)
	if c == nil {
		return true // and told as no column
	}
	switch function {
	case "":
		return c.kind == "DATE"
	case "DATE":
		return unit == "DAY" && (c.kind == "TIMESTAMP" || c.kind == "DATETIME")
	case "DATE_TRUNC":
		return c.kind == "DATE" && (unit == "MONTH" || unit == "YEAR")
	default:
		return function == c.kind+"_TRUNC"
	}
}

func (r *session) columnOptions(opts []optionNode, description *string) error {
	for _, o := range opts {
		if o.name != "description" || o.value.kind != nString {
			return queryError(o.value.pos, "Unknown option: %s", o.name)
		}
		*description = o.value.text
	}
	return nil
}

// tableOptions reads OPTIONS ("CREATE TABLE statement", table_option_list).
func (r *session) tableOptions(opts []optionNode, m *bq.Table, isView bool) error {
	for _, o := range opts {
		if err := r.tableOption(o, m, isView); err != nil {
			return err
		}
	}
	return nil
}

func (r *session) tableOption(o optionNode, m *bq.Table, isView bool) error {
	switch o.name {
	case "description", "friendly_name":
		if o.value.kind != nString {
			return wrongOption(o)
		}
		if o.name == "description" {
			m.Description = o.value.text
		} else {
			m.FriendlyName = o.value.text
		}
		return nil
	case "labels":
		return labelOption(o, m)
	case "max_staleness":
		return stalenessOption(o, m)
	}
	if isView && o.name != "expiration_timestamp" {
		return queryError(o.value.pos, "Unknown option: %s", o.name)
	}
	a := &analyzer{s: r.s, run: r}
	v, err := a.expr(o.value, nil)
	if err != nil {
		return err
	}
	x, err := a.constant(v)
	if err != nil {
		return err
	}
	switch t := x.(type) {
	case bool:
		if o.name == "require_partition_filter" {
			m.RequirePartitionFilter = t
			return nil
		}
	case nil: // takes a value away, that of the dataset included
		if o.name == "expiration_timestamp" {
			m.ExpirationTime = 0
			return nil
		}
	case time.Time:
		if o.name == "expiration_timestamp" {
			m.ExpirationTime = t.UnixMilli()
			return nil
		}
	}
	if o.name != "partition_expiration_days" {
		return queryError(o.value.pos, "Unknown option: %s", o.name)
	}
	return expirationOption(o, x, m)
}

func wrongOption(o optionNode) error {
	return queryError(o.value.pos, "Invalid value for option %s", o.name)
}

func stalenessOption(o optionNode, m *bq.Table) error {
	n := o.value
	if n.kind != nInterval || n.kids[0].kind != nInt || micros[n.text] == "" {
		return wrongOption(o)
	}
	count, err := strconv.ParseInt(n.kids[0].text, 10, 64)
	by, err2 := strconv.ParseInt(micros[n.text], 10, 64)
	if err != nil || err2 != nil || count < 0 || count > int64(maxStalenessDays*24*time.Hour/time.Microsecond)/by {
		return wrongOption(o)
	}
	m.MaxStaleness = printStaleness(time.Duration(count * by * int64(time.Microsecond)))
	return nil
}

// expirationOption sets how long partitions stay; NULL is for good.
func expirationOption(o optionNode, value any, m *bq.Table) error {
	if m.TimePartitioning == nil {
		m.TimePartitioning = &bq.TimePartitioning{}
	}
	p, day := m.TimePartitioning, float64(24*time.Hour/time.Millisecond)
	switch days := value.(type) {
	case nil:
		p.ExpirationMs = 0
	case int64:
		p.ExpirationMs = int64(float64(days) * day)
	case float64:
		p.ExpirationMs = int64(days * day)
	default:
		return wrongOption(o)
	}
	return nil
}

func labelOption(o optionNode, m *bq.Table) error {
	if o.value.kind != nArray {
		return queryError(o.value.pos, "Invalid value for option labels")
	}
	m.Labels = map[string]string{}
	for _, k := range o.value.kids {
		if (k.kind != nTuple && k.kind != nStruct) || len(k.kids) != 2 || k.kids[0].kind != nString || k.kids[1].kind != nString {
			return &apiError{status: http.StatusBadRequest, reason: "invalidQuery", location: "query", message: "Invalid value for option labels"}
		}
		m.Labels[k.kids[0].text] = k.kids[1].text
	}
	return nil
}
