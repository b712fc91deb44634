package bqtest

// engineMacros are the functions of translated queries that DuckDB's SQL can
// express.
func engineMacros() []string {
	finite := func(op string) string {
		sql := "a " + op + " b"
		return "CASE WHEN isinf(" + sql + ") AND NOT isinf(a) AND NOT isinf(b) THEN CAST(error('floating point error: overflow') AS DOUBLE) ELSE " + sql + " END"
	}
	return []string{
		"CREATE MACRO bq_add(a, b) AS " + finite("+"),
		"CREATE MACRO bq_sub(a, b) AS " + finite("-"),
		"CREATE MACRO bq_mul(a, b) AS " + finite("*"),
		"CREATE MACRO bq_div(a, b) AS CASE WHEN b = 0 THEN CAST(error('division by zero: ' || a || ' / ' || b) AS DOUBLE) ELSE a / b END",
		"CREATE MACRO bq_now() AS CAST(now() AS TIMESTAMP)",
		"CREATE MACRO bq_local(t, zone) AS timezone(zone, CAST(t AS TIMESTAMPTZ))",
		"CREATE MACRO bq_instant(t, zone) AS CAST(timezone(zone, t) AS TIMESTAMP)",
		"CREATE MACRO bq_substr(s, p) AS CASE WHEN p < -length(s) THEN s ELSE substr(s, CASE WHEN p = 0 THEN 1 ELSE p END) END",
		"CREATE MACRO bq_substr_len(s, p, n) AS CASE WHEN n < 0 THEN error('Third argument in SUBSTR() cannot be negative') ELSE substr(bq_substr(s, p), 1, n) END",
		"CREATE MACRO bq_regexp_extract(s, r) AS CASE WHEN regexp_matches(s, r) THEN CASE WHEN regexp_matches(r, '(^|[^\\\\])\\((\\?P|[^?])') THEN regexp_extract(s, r, 1) ELSE regexp_extract(s, r) END END",
		"CREATE MACRO bq_series(a, b, step) AS CAST(CASE WHEN step = 0 THEN error('Sequence step cannot be 0') ELSE generate_series(a, b, step) END AS BIGINT[])",
		"CREATE MACRO bq_no_nulls(l) AS CASE WHEN list_count(l) < len(l) THEN error('Array cannot have a null element; error in writing field') ELSE l END",
	}
}
