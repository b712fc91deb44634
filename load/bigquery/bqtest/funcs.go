package bqtest

import (
	"slices"
	"strconv"
	"strings"
)

// overload is one signature of a function ("Function reference"). args are types
// in order, "?" marks optional ones and "*" the last as repeated; "T" is any one
// type for all its places, "any" any type, "ARRAY<T>" an array of them. result
// is a type, "T" or "ARRAY<T>". sql has the arguments as $1, $2, ... and all of
// them as $*.
type overload struct {
	args   string
	result string
	sql    string
}

// functions are the functions that need no more than their types.
func functions(name string) []overload {
	for _, table := range []map[string][]overload{stringFunctions(), numberFunctions(), timeFunctions(), otherFunctions()} {
		if o, ok := table[name]; ok {
			return o
		}
	}
	return nil
}

func stringFunctions() map[string][]overload {
	return map[string][]overload{
		"LOWER":                        {{"STRING", "STRING", "lower($1)"}},
		"UPPER":                        {{"STRING", "STRING", "upper($1)"}},
		"LENGTH":                       {{"STRING", "INT64", "length($1)"}, {"BYTES", "INT64", "octet_length($1)"}},
		"CHAR_LENGTH":                  {{"STRING", "INT64", "length($1)"}},
		"BYTE_LENGTH":                  {{"STRING", "INT64", "strlen($1)"}, {"BYTES", "INT64", "octet_length($1)"}},
		"OCTET_LENGTH":                 {{"STRING", "INT64", "strlen($1)"}, {"BYTES", "INT64", "octet_length($1)"}},
		"TRIM":                         {{"STRING", "STRING", "trim($1)"}, {"STRING,STRING", "STRING", "trim($1, $2)"}},
		"LTRIM":                        {{"STRING", "STRING", "ltrim($1)"}, {"STRING,STRING", "STRING", "ltrim($1, $2)"}},
		"RTRIM":                        {{"STRING", "STRING", "rtrim($1)"}, {"STRING,STRING", "STRING", "rtrim($1, $2)"}},
		"REPLACE":                      {{"STRING,STRING,STRING", "STRING", "CASE WHEN $2 = '' THEN $1 ELSE replace($1, $2, $3) END"}},
		"REVERSE":                      {{"STRING", "STRING", "reverse($1)"}},
		"REPEAT":                       {{"STRING,INT64", "STRING", "CASE WHEN $2 < 0 THEN error('repetitions must not be negative') ELSE repeat($1, $2) END"}},
		"STARTS_WITH":                  {{"STRING,STRING", "BOOL", "starts_with($1, $2)"}},
		"ENDS_WITH":                    {{"STRING,STRING", "BOOL", "ends_with($1, $2)"}},
		"STRPOS":                       {{"STRING,STRING", "INT64", "strpos($1, $2)"}},
		"INSTR":                        {{"STRING,STRING", "INT64", "strpos($1, $2)"}},
		"CONTAINS_SUBSTR":              {{"STRING,STRING", "BOOL", "contains(lower($1), lower($2))"}},
		"SUBSTR":                       {{"STRING,INT64", "STRING", "bq_substr($1, $2)"}, {"STRING,INT64,INT64", "STRING", "bq_substr_len($1, $2, $3)"}},
		"SUBSTRING":                    {{"STRING,INT64", "STRING", "bq_substr($1, $2)"}, {"STRING,INT64,INT64", "STRING", "bq_substr_len($1, $2, $3)"}},
		"LEFT":                         {{"STRING,INT64", "STRING", "CASE WHEN $2 < 0 THEN error('length must not be negative') ELSE left($1, $2) END"}},
		"RIGHT":                        {{"STRING,INT64", "STRING", "CASE WHEN $2 < 0 THEN error('length must not be negative') ELSE right($1, $2) END"}},
		"LPAD":                         {{"STRING,INT64", "STRING", "lpad($1, CAST($2 AS INTEGER), ' ')"}, {"STRING,INT64,STRING", "STRING", "lpad($1, CAST($2 AS INTEGER), $3)"}},
		"RPAD":                         {{"STRING,INT64", "STRING", "rpad($1, CAST($2 AS INTEGER), ' ')"}, {"STRING,INT64,STRING", "STRING", "rpad($1, CAST($2 AS INTEGER), $3)"}},
		"CONCAT":                       {{"STRING,STRING*", "STRING", "($||)"}, {"BYTES,BYTES*", "BYTES", "($||)"}},
		"SPLIT":                        {{"STRING", "ARRAY<STRING>", "string_split($1, ',')"}, {"STRING,STRING", "ARRAY<STRING>", "string_split($1, $2)"}},
		"REGEXP_CONTAINS":              {{"STRING,STRING", "BOOL", "regexp_matches($1, $2)"}},
		"REGEXP_EXTRACT":               {{"STRING,STRING", "STRING", "bq_regexp_extract($1, $2)"}},
		"REGEXP_REPLACE":               {{"STRING,STRING,STRING", "STRING", "regexp_replace($1, $2, $3, 'g')"}},
		"TO_HEX":                       {{"BYTES", "STRING", "lower(hex($1))"}},
		"FROM_HEX":                     {{"STRING", "BYTES", "unhex($1)"}},
		"TO_BASE64":                    {{"BYTES", "STRING", "to_base64($1)"}},
		"FROM_BASE64":                  {{"STRING", "BYTES", "from_base64($1)"}},
		"MD5":                          {{"STRING", "BYTES", "unhex(md5($1))"}, {"BYTES", "BYTES", "unhex(md5($1))"}},
		"SHA1":                         {{"STRING", "BYTES", "unhex(sha1($1))"}, {"BYTES", "BYTES", "unhex(sha1($1))"}},
		"SHA256":                       {{"STRING", "BYTES", "unhex(sha256($1))"}, {"BYTES", "BYTES", "unhex(sha256($1))"}},
		"ASCII":                        {{"STRING", "INT64", "ascii($1)"}},
		"CHR":                          {{"INT64", "STRING", "chr(CAST($1 AS INTEGER))"}},
		"SAFE_CONVERT_BYTES_TO_STRING": {{"BYTES", "STRING", "decode($1)"}},
	}
}

func numberFunctions() map[string][]overload {
	same := func(sql string) []overload {
		return []overload{{"INT64", "INT64", sql}, {"NUMERIC", "NUMERIC", "CAST(" + sql + " AS DECIMAL(38,9))"}, {"FLOAT64", "FLOAT64", sql}}
	}
	float := func(sql string) []overload { return []overload{{"FLOAT64", "FLOAT64", sql}} }
	round := func(f string) []overload {
		return []overload{
			{"NUMERIC", "NUMERIC", "CAST(" + f + "($1) AS DECIMAL(38,9))"}, {"FLOAT64", "FLOAT64", f + "($1)"},
		}
	}
	return map[string][]overload{
		"ABS": same("abs($1)"), "SIGN": same("sign($1)"),
		"CEIL": round("ceil"), "CEILING": round("ceil"), "FLOOR": round("floor"), "TRUNC": round("trunc"),
		"ROUND": {
			{"NUMERIC", "NUMERIC", "CAST(round($1) AS DECIMAL(38,9))"},
			{"FLOAT64", "FLOAT64", "round($1)"},
			{"NUMERIC,INT64", "NUMERIC", "CAST(round($1, CAST($2 AS INTEGER)) AS DECIMAL(38,9))"},
			{"FLOAT64,INT64", "FLOAT64", "round($1, CAST($2 AS INTEGER))"},
		},
		"MOD":           {{"INT64,INT64", "INT64", "CASE WHEN $2 = 0 THEN error('division by zero: MOD') ELSE $1 % $2 END"}},
		"DIV":           {{"INT64,INT64", "INT64", "CASE WHEN $2 = 0 THEN error('division by zero: DIV') ELSE $1 // $2 END"}},
		"SQRT":          float("CASE WHEN $1 < 0 THEN error('Argument to SQRT must not be negative') ELSE sqrt($1) END"),
		"EXP":           float("exp($1)"),
		"LN":            float("ln($1)"),
		"LOG":           {{"FLOAT64", "FLOAT64", "ln($1)"}, {"FLOAT64,FLOAT64", "FLOAT64", "ln($1) / ln($2)"}},
		"LOG10":         float("log10($1)"),
		"POW":           {{"FLOAT64,FLOAT64", "FLOAT64", "pow($1, $2)"}},
		"POWER":         {{"FLOAT64,FLOAT64", "FLOAT64", "pow($1, $2)"}},
		"SAFE_DIVIDE":   {{"FLOAT64,FLOAT64", "FLOAT64", "CASE WHEN $2 = 0 THEN NULL ELSE $1 / $2 END"}},
		"IS_NAN":        {{"FLOAT64", "BOOL", "isnan($1)"}},
		"IS_INF":        {{"FLOAT64", "BOOL", "isinf($1)"}},
		"SAFE_ADD":      {{"INT64,INT64", "INT64", "TRY($1 + $2)"}},
		"SAFE_SUBTRACT": {{"INT64,INT64", "INT64", "TRY($1 - $2)"}},
		"SAFE_MULTIPLY": {{"INT64,INT64", "INT64", "TRY($1 * $2)"}},
	}
}

func otherFunctions() map[string][]overload {
	const values = `CAST(from_json(bq_json_value_array($1, PATH), '["VARCHAR"]') AS VARCHAR[])`
	at, root := strings.Replace(values, "PATH", "$2", 1), strings.Replace(values, "PATH", "'$$'", 1)
	return map[string][]overload{
		"JSON_VALUE":       {{"JSON,STRING", "STRING", "bq_json_value($1, $2)"}, {"STRING,STRING", "STRING", "bq_json_value($1, $2)"}, {"JSON", "STRING", "bq_json_value($1, '$$')"}, {"STRING", "STRING", "bq_json_value($1, '$$')"}},
		"JSON_QUERY":       {{"JSON,STRING", "JSON", "bq_json_query($1, $2)"}, {"STRING,STRING", "STRING", "bq_json_query($1, $2)"}},
		"JSON_VALUE_ARRAY": {{"JSON,STRING", "ARRAY<STRING>", at}, {"STRING,STRING", "ARRAY<STRING>", at}, {"JSON", "ARRAY<STRING>", root}, {"STRING", "ARRAY<STRING>", root}},
		"PARSE_JSON":       {{"STRING", "JSON", "bq_parse_json($1, false)"}},
		"JSON_TYPE":        {{"JSON", "STRING", "bq_json_type($1)"}},
		"ARRAY_LENGTH":     {{"ARRAY<T>", "INT64", "len($1)"}},
		"ARRAY_REVERSE":    {{"ARRAY<T>", "ARRAY<T>", "list_reverse($1)"}},
		"ARRAY_CONCAT":     {{"ARRAY<T>,ARRAY<T>", "ARRAY<T>", "CASE WHEN $1 IS NULL OR $2 IS NULL THEN NULL ELSE list_concat($1, $2) END"}},
		"ARRAY_TO_STRING":  {{"ARRAY<STRING>,STRING", "STRING", "array_to_string($1, $2)"}},
		"GENERATE_ARRAY":   {{"INT64,INT64", "ARRAY<INT64>", "bq_series($1, $2, 1)"}, {"INT64,INT64,INT64", "ARRAY<INT64>", "bq_series($1, $2, $3)"}},
		"GENERATE_UUID":    {{"", "STRING", "CAST(uuid() AS VARCHAR)"}},
		"SESSION_USER":     {{"", "STRING", "'stand-in@example.com'"}},
		"RAND":             {{"", "FLOAT64", "random()"}},
		"ERROR":            {{"STRING", "INT64", "CAST(error($1) AS BIGINT)"}},
	}
}

// volatileFunctions give another value each time, so that a query with them
// has no constant.
func volatileFunction(name string) bool {
	return name == "GENERATE_UUID" || name == "RAND"
}

// match finds how values fit a signature: the values cast, and what T is.
func (o overload) match(p pos, vals []val) ([]val, *typ, bool) {
	var want []string
	if o.args != "" {
		want = strings.Split(o.args, ",")
	}
	if n := len(want); n > 0 && strings.HasSuffix(want[n-1], "*") {
		want[n-1] = strings.TrimSuffix(want[n-1], "*")
		if len(vals) < n-1 {
			return nil, nil, false
		}
		for len(want) < len(vals) {
			want = append(want, want[n-1])
		}
		want = want[:len(vals)]
	}
	if len(want) != len(vals) {
		return nil, nil, false
	}
	var generic *typ
	out := make([]val, len(vals))
	for i, w := range want {
		t := vals[i].typ
		switch w {
		case "ARRAY<T>":
			if t.kind != "ARRAY" || generic != nil && !t.elem.same(generic) {
				return nil, nil, false
			}
			generic, out[i] = t.elem, vals[i]
			continue
		case "any":
			out[i] = vals[i]
			continue
		}
		c, err := coerce(p, vals[i], namedType(w), "Argument")
		if err != nil {
			return nil, nil, false
		}
		out[i] = c
	}
	return out, generic, true
}

// namedType reads a type of a signature.
func namedType(s string) *typ {
	if elem, ok := strings.CutPrefix(s, "ARRAY<"); ok {
		return &typ{kind: "ARRAY", elem: namedType(strings.TrimSuffix(elem, ">"))}
	}
	return ty(s)
}

// apply writes a call.
func (o overload) apply(cast []val, generic *typ) val {
	sqls := make([]string, len(cast))
	for i, v := range cast {
		sqls[i] = v.sql
	}
	result := namedType(o.result)
	if o.result == "ARRAY<T>" {
		result = &typ{kind: "ARRAY", elem: generic}
	}
	if o.sql == "($||)" {
		return combine(result, "("+strings.Join(sqls, " || ")+")", cast...)
	}
	var b strings.Builder
	for i := 0; i < len(o.sql); i++ {
		if o.sql[i] != '$' {
			b.WriteByte(o.sql[i])
			continue
		}
		i++
		if o.sql[i] == '$' {
			b.WriteByte('$')
			continue
		}
		b.WriteString(sqls[o.sql[i]-'1'])
	}
	return combine(result, "("+b.String()+")", cast...)
}

// simpleCall translates a call of a function of the tables.
func simpleCall(n *node, vals []val) (val, error) {
	overloads := functions(n.text)
	if overloads == nil {
		return val{}, queryError(n.pos, "Function not found: %s", n.text)
	}
	exact := func(o overload, cast []val) bool {
		return !slices.ContainsFunc(seq(len(cast)), func(i int) bool { return !vals[i].typ.same(cast[i].typ) })
	}
	best := -1
	var bestCast []val
	var bestType *typ
	for i, o := range overloads {
		cast, generic, ok := o.match(n.pos, vals)
		if ok && (best < 0 || exact(o, cast)) {
			best, bestCast, bestType = i, cast, generic
			if exact(o, cast) {
				break
			}
		}
	}
	if best < 0 {
		supported := make([]string, len(overloads))
		for i, o := range overloads {
			supported[i] = n.text + "(" + strings.ReplaceAll(o.args, ",", ", ") + ")"
		}
		return val{}, queryError(n.pos, "No matching signature for function %s for argument types: %s. Supported signatures: %s", n.text, typeList(vals), strings.Join(supported, "; "))
	}
	v := overloads[best].apply(bestCast, bestType)
	if volatileFunction(n.text) {
		v.constant, v.nonDet = false, true
	}
	return v, nil
}

func seq(n int) []int {
	out := make([]int, n)
	for i := range out {
		out[i] = i
	}
	return out
}

func itoa(n int) string { return strconv.Itoa(n) }
