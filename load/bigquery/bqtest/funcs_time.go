package bqtest

import (
	"slices"
	"strings"
)

func timeFunctions() map[string][]overload {
	return map[string][]overload{
		"UNIX_MICROS":         {{"TIMESTAMP", "INT64", "epoch_us($1)"}},
		"UNIX_MILLIS":         {{"TIMESTAMP", "INT64", "CAST(floor(epoch_us($1) / 1000.0) AS BIGINT)"}},
		"UNIX_SECONDS":        {{"TIMESTAMP", "INT64", "CAST(floor(epoch_us($1) / 1000000.0) AS BIGINT)"}},
		"UNIX_DATE":           {{"DATE", "INT64", "date_diff('day', DATE '1970-01-01', $1)"}},
		"TIMESTAMP_MICROS":    {{"INT64", "TIMESTAMP", "make_timestamp($1)"}},
		"TIMESTAMP_MILLIS":    {{"INT64", "TIMESTAMP", "make_timestamp($1 * 1000)"}},
		"TIMESTAMP_SECONDS":   {{"INT64", "TIMESTAMP", "make_timestamp($1 * 1000000)"}},
		"DATE_FROM_UNIX_DATE": {{"INT64", "DATE", "CAST(DATE '1970-01-01' + CAST($1 AS INTEGER) AS DATE)"}},
		"DATE": {
			{"TIMESTAMP", "DATE", "CAST($1 AS DATE)"},
			{"TIMESTAMP,STRING", "DATE", "CAST(bq_local($1, $2) AS DATE)"},
			{"DATETIME", "DATE", "CAST($1 AS DATE)"},
			{"INT64,INT64,INT64", "DATE", "make_date($1, $2, $3)"},
			{"DATE", "DATE", "$1"},
		},
		"DATETIME":         {{"TIMESTAMP", "DATETIME", "$1"}, {"TIMESTAMP,STRING", "DATETIME", "bq_local($1, $2)"}, {"DATE", "DATETIME", "CAST($1 AS TIMESTAMP)"}},
		"TIMESTAMP":        {{"STRING", "TIMESTAMP", "bq_parse_timestamp($1, false)"}, {"DATE", "TIMESTAMP", "CAST($1 AS TIMESTAMP)"}, {"DATE,STRING", "TIMESTAMP", "bq_instant(CAST($1 AS TIMESTAMP), $2)"}, {"DATETIME", "TIMESTAMP", "$1"}, {"DATETIME,STRING", "TIMESTAMP", "bq_instant($1, $2)"}, {"TIMESTAMP", "TIMESTAMP", "$1"}},
		"FORMAT_TIMESTAMP": {{"STRING,TIMESTAMP", "STRING", "bq_format_timestamp($1, $2, 'UTC')"}, {"STRING,TIMESTAMP,STRING", "STRING", "bq_format_timestamp($1, $2, $3)"}},
		"FORMAT_DATE":      {{"STRING,DATE", "STRING", "bq_format_timestamp($1, CAST($2 AS TIMESTAMP), 'UTC')"}},
		"CURRENT_DATETIME": {{"", "DATETIME", "bq_now()"}},
	}
}

// micros are the date parts of fixed length, which TIMESTAMP functions take.
var micros = map[string]string{
	"MICROSECOND": "1", "MILLISECOND": "1000", "SECOND": "1000000", "MINUTE": "60000000", "HOUR": "3600000000", "DAY": "86400000000",
}

// timeCall translates the functions that have a date part, or the time of the
// query; ok is false for others.
func (a *analyzer) timeCall(n *node, sc *scope) (v val, ok bool, err error) {
	switch n.text {
	case "CURRENT_TIMESTAMP", "CURRENT_DATE":
		v, err = a.current(n, sc)
	case "TIMESTAMP_ADD", "TIMESTAMP_SUB", "DATE_ADD", "DATE_SUB":
		v, err = a.shiftTime(n, sc)
	case "TIMESTAMP_TRUNC", "DATE_TRUNC":
		v, err = a.truncTime(n, sc)
	case "TIMESTAMP_DIFF", "DATE_DIFF":
		v, err = a.diffTime(n, sc)
	case "GENERATE_DATE_ARRAY", "GENERATE_TIMESTAMP_ARRAY":
		v, err = a.timeSeries(n, sc)
	default:
		return val{}, false, nil
	}
	return v, true, err
}

// current is the time of the statement, one for all its mentions.
func (a *analyzer) current(n *node, sc *scope) (val, error) {
	now := literalSQL(ty("TIMESTAMP"), a.run.now)
	if n.text == "CURRENT_TIMESTAMP" {
		if len(n.kids) > 0 {
			return val{}, wrongArguments(n)
		}
		return val{sql: now, typ: ty("TIMESTAMP"), constant: true}, nil
	}
	if len(n.kids) == 0 {
		return val{sql: "CAST(" + now + " AS DATE)", typ: ty("DATE"), constant: true}, nil
	}
	zone, err := a.expr(n.kids[0], sc)
	if err != nil {
		return zone, err
	}
	if len(n.kids) > 1 || zone.typ.kind != "STRING" {
		return val{}, wrongArguments(n)
	}
	return combine(ty("DATE"), "CAST(bq_local("+now+", "+zone.sql+") AS DATE)", zone), nil
}

func wrongArguments(n *node) error {
	return queryError(n.pos, "No matching signature for function %s", n.text)
}

// typed translates an argument that has to be of a kind.
func (a *analyzer) typed(n *node, i int, kind string, sc *scope) (val, error) {
	if i >= len(n.kids) {
		return val{}, wrongArguments(n)
	}
	v, err := a.expr(n.kids[i], sc)
	if err != nil {
		return v, err
	}
	out, err := coerce(n.kids[i].pos, v, ty(kind), "Argument "+itoa(i+1))
	if err != nil {
		return v, queryError(n.pos, "No matching signature for function %s: argument %d is %s, not %s", n.text, i+1, v.typ, kind)
	}
	return out, nil
}

func kindOf(function string) string {
	if strings.Contains(function, "TIMESTAMP") {
		return "TIMESTAMP"
	}
	return "DATE"
}

// span gives the INTERVAL argument of a function in DuckDB's SQL.
func (a *analyzer) span(n *node, i int, kind string, sc *scope) (val, error) {
	if i >= len(n.kids) || n.kids[i].kind != nInterval {
		return val{}, wrongArguments(n)
	}
	in := n.kids[i]
	v, err := a.typed(in, 0, "INT64", sc)
	if err != nil {
		return v, err
	}
	if us, ok := micros[in.text]; ok && kind == "TIMESTAMP" {
		return combine(ty("INTERVAL"), "to_microseconds("+v.sql+" * "+us+")", v), nil
	}
	by := map[string]string{"DAY": "to_days(%)", "WEEK": "to_days(7 * %)", "MONTH": "to_months(%)", "QUARTER": "to_months(3 * %)", "YEAR": "to_years(%)"}[in.text]
	if kind != "DATE" || by == "" {
		return v, queryError(in.pos, "A date part of %s is not supported by %s", in.text, n.text)
	}
	return combine(ty("INTERVAL"), strings.ReplaceAll(by, "%", "CAST("+v.sql+" AS INTEGER)"), v), nil
}

func (a *analyzer) shiftTime(n *node, sc *scope) (val, error) {
	kind := kindOf(n.text)
	v, err := a.typed(n, 0, kind, sc)
	if err != nil {
		return v, err
	}
	by, err := a.span(n, 1, kind, sc)
	if err != nil || len(n.kids) != 2 {
		return v, orWrong(n, err)
	}
	op := " + "
	if strings.HasSuffix(n.text, "SUB") {
		op = " - "
	}
	return combine(ty(kind), "CAST("+v.sql+op+by.sql+" AS "+dataType(kind)+")", v, by), nil
}

func orWrong(n *node, err error) error {
	if err != nil {
		return err
	}
	return wrongArguments(n)
}

// truncTime: a week begins on Sunday, an ISOWEEK and WEEK(MONDAY) on Monday.
func (a *analyzer) truncTime(n *node, sc *scope) (val, error) {
	kind := kindOf(n.text)
	if len(n.kids) < 2 || len(n.kids) > 3 {
		return val{}, wrongArguments(n)
	}
	v, err := a.expr(n.kids[0], sc)
	if err != nil {
		return v, err
	}
	if kind == "DATE" && v.typ.kind == "TIMESTAMP" { // DATE_TRUNC takes both
		kind = "TIMESTAMP"
	}
	if v, err = a.typed(n, 0, kind, sc); err != nil {
		return v, err
	}
	if len(n.kids) == 3 && kind == "DATE" {
		return v, wrongArguments(n)
	}
	part, sql := n.kids[1].text, v.sql
	deps := []val{v}
	zone := ""
	if len(n.kids) == 3 {
		z, err := a.typed(n, 2, "STRING", sc)
		if err != nil {
			return v, err
		}
		zone, deps = z.sql, append(deps, z)
		sql = "bq_local(" + sql + ", " + zone + ")"
	}
	if kind == "TIMESTAMP" && micros[part] == "" && !slices.Contains(dateParts, part) || kind == "DATE" && !slices.Contains(dateParts, part) {
		return v, queryError(n.kids[1].pos, "A valid date part name is required but found %s", part)
	}
	switch part {
	case "WEEK":
		sql = "(date_trunc('week', " + sql + " + INTERVAL 1 DAY) - INTERVAL 1 DAY)"
	case "ISOWEEK", "WEEK(MONDAY)":
		sql = "date_trunc('week', " + sql + ")"
	default:
		sql = "date_trunc('" + strings.ToLower(part) + "', " + sql + ")"
	}
	if zone != "" {
		sql = "bq_instant(" + sql + ", " + zone + ")"
	}
	return combine(ty(kind), "CAST("+sql+" AS "+dataType(kind)+")", deps...), nil
}

var dateParts = []string{"DAY", "WEEK", "ISOWEEK", "WEEK(MONDAY)", "MONTH", "QUARTER", "YEAR"}

// diffTime counts whole parts between timestamps, and boundaries between dates
// ("TIMESTAMP_DIFF", "DATE_DIFF").
func (a *analyzer) diffTime(n *node, sc *scope) (val, error) {
	kind := kindOf(n.text)
	l, err := a.typed(n, 0, kind, sc)
	if err != nil {
		return l, err
	}
	r, err := a.typed(n, 1, kind, sc)
	if err != nil || len(n.kids) != 3 {
		return r, orWrong(n, err)
	}
	part := n.kids[2].text
	if kind == "TIMESTAMP" {
		us, ok := micros[part]
		if !ok {
			return l, queryError(n.kids[2].pos, "TIMESTAMP_DIFF does not support the %s date part", part)
		}
		return combine(ty("INT64"), "((epoch_us("+l.sql+") - epoch_us("+r.sql+")) // "+us+")", l, r), nil
	}
	if !slices.Contains(dateParts, part) {
		return l, queryError(n.kids[2].pos, "DATE_DIFF does not support the %s date part", part)
	}
	shift := ""
	switch part {
	case "WEEK":
		part, shift = "week", " + INTERVAL 1 DAY"
	case "ISOWEEK", "WEEK(MONDAY)":
		part = "week"
	}
	if part == "week" { // the engine's weeks are not of the calendar
		return combine(ty("INT64"), "(date_diff('day', date_trunc('week', "+r.sql+shift+"), date_trunc('week', "+l.sql+shift+")) // 7)", l, r), nil
	}
	return combine(ty("INT64"), "date_diff('"+strings.ToLower(part)+"', "+r.sql+", "+l.sql+")", l, r), nil
}

func (a *analyzer) timeSeries(n *node, sc *scope) (val, error) {
	kind := kindOf(n.text)
	from, err := a.typed(n, 0, kind, sc)
	if err != nil {
		return from, err
	}
	to, err := a.typed(n, 1, kind, sc)
	if err != nil {
		return to, err
	}
	step := val{sql: "INTERVAL 1 DAY", constant: true}
	if len(n.kids) > 2 || kind == "TIMESTAMP" {
		if step, err = a.span(n, 2, kind, sc); err != nil {
			return step, err
		}
	}
	t := &typ{kind: "ARRAY", elem: ty(kind)}
	sql := "CAST(generate_series(CAST(" + from.sql + " AS TIMESTAMP), CAST(" + to.sql + " AS TIMESTAMP), " + step.sql + ") AS " + t.engine() + ")"
	return combine(t, sql, from, to, step), nil
}

// extract: DAYOFWEEK counts from Sunday as 1 ("EXTRACT", Timestamp functions).
func (a *analyzer) extract(n *node, sc *scope) (val, error) {
	v, err := a.expr(n.kids[0], sc)
	if err != nil {
		return v, err
	}
	deps, sql := []val{v}, v.sql
	switch v.typ.kind {
	case "TIMESTAMP", "DATE", "DATETIME":
	default:
		return v, queryError(n.pos, "No matching signature for EXTRACT from %s", v.typ)
	}
	if len(n.kids) == 2 {
		zone, err := a.typed(n, 1, "STRING", sc)
		if err != nil {
			return v, err
		}
		if v.typ.kind != "TIMESTAMP" {
			return v, queryError(n.pos, "EXTRACT from %s does not support AT TIME ZONE", v.typ)
		}
		deps, sql = append(deps, zone), "bq_local("+sql+", "+zone.sql+")"
	}
	timeOfDay := map[string]string{
		"HOUR": "hour(%)", "MINUTE": "minute(%)", "SECOND": "second(%)",
		"MILLISECOND": "(millisecond(%) % 1000)", "MICROSECOND": "(microsecond(%) % 1000000)",
	}
	parts := map[string]string{
		"DAYOFWEEK": "(dayofweek(%) + 1)", "DAY": "day(%)", "DAYOFYEAR": "dayofyear(%)", "ISOWEEK": "weekofyear(%)",
		"MONTH": "month(%)", "QUARTER": "quarter(%)", "YEAR": "year(%)", "ISOYEAR": "isoyear(%)",
	}
	f := parts[n.text]
	if f == "" && v.typ.kind != "DATE" {
		f = timeOfDay[n.text]
	}
	if n.text == "DATE" && v.typ.kind != "DATE" {
		return combine(ty("DATE"), "CAST("+sql+" AS DATE)", deps...), nil
	}
	if f == "" {
		return v, queryError(n.pos, "EXTRACT from %s does not support the %s date part", v.typ, n.text)
	}
	name, rest, _ := strings.Cut(f, "%")
	return combine(ty("INT64"), "CAST("+name+sql+rest+" AS BIGINT)", deps...), nil
}
