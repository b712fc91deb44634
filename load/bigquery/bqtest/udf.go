//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package bqtest

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"math"
	"math/big"
	"strings"
	"time"

	"cloud.google.com/go/civil"
	"github.com/duckdb/duckdb-go/v2"
)

// function is a scalar function of DuckDB written in Go. It is NULL where an
// argument is.
type function struct {
	config duckdb.ScalarFuncConfig
	call   func(args []driver.Value) (any, error)
}

func (f *function) Config() duckdb.ScalarFuncConfig { return f.config }

func (f *function) Executor() duckdb.ScalarFuncExecutor {
	return duckdb.ScalarFuncExecutor{RowExecutor: func(args []driver.Value) (any, error) { return f.call(args) }}
}

// registerFunctions adds to DuckDB what its SQL cannot express.
func registerFunctions(ctx context.Context, db *sql.DB) error {
	conn, err := db.Conn(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close() }() // returns it to the pool
	kinds := map[string]duckdb.Type{
		"STRING": duckdb.TYPE_VARCHAR, "INT64": duckdb.TYPE_BIGINT, "FLOAT64": duckdb.TYPE_DOUBLE, "BOOL": duckdb.TYPE_BOOLEAN,
		"DATE": duckdb.TYPE_DATE, "TIMESTAMP": duckdb.TYPE_TIMESTAMP, "TIME": duckdb.TYPE_TIME,
	}
	add := func(name string, call func([]driver.Value) (any, error), result string, args ...string) error {
		f := &function{call: call}
		infoOf := func(kind string) (duckdb.TypeInfo, error) {
			if kind == "NUMERIC" {
				return duckdb.NewDecimalInfo(38, 9)
			}
			return duckdb.NewTypeInfo(kinds[kind])
		}
		for _, arg := range args {
			info, err := infoOf(arg)
			if err != nil {
				return err
			}
			f.config.InputTypeInfos = append(f.config.InputTypeInfos, info)
		}
		var err error
		if f.config.ResultTypeInfo, err = infoOf(result); err != nil {
			return err
		}
		if err := duckdb.RegisterScalarUDF(conn, name, f); err != nil {
			return fmt.Errorf("register %s: %w", name, err)
		}
		return nil
	}
	for _, kind := range []string{"INT64", "FLOAT64", "BOOL", "DATE", "TIMESTAMP", "DATETIME", "TIME", "NUMERIC"} {
		result := kind
		if kind == "DATETIME" {
			result = "TIMESTAMP"
		}
		if err := add("bq_parse_"+strings.ToLower(kind), parser1(kind), result, "STRING", "BOOL"); err != nil {
			return err
		}
	}
	if err := add("bq_parse_json", parser1("JSON"), "STRING", "STRING", "BOOL"); err != nil {
		return err
	}
	for _, f := range textFunctions() {
		if err := add(f.name, f.call, "STRING", f.args...); err != nil {
			return err
		}
	}
	return nil
}

// parser1 is CAST from STRING: the second argument says whether a text that
// cannot be read gives NULL.
func parser1(kind string) func([]driver.Value) (any, error) {
	return func(args []driver.Value) (any, error) {
		v, err := parseText(kind, args[0].(string))
		if err != nil {
			if args[1].(bool) {
				return nil, nil //nolint:nilnil // NULL
			}
			return nil, err
		}
		switch x := v.(type) {
		case civil.Date, civil.Time, *big.Rat:
			return engineValue(x), nil
		}
		return v, nil
	}
}

type textFunction struct {
	name string
	call func([]driver.Value) (any, error)
	args []string
}

func textFunctions() []textFunction {
	one := func(f func(string) (any, error)) func([]driver.Value) (any, error) {
		return func(a []driver.Value) (any, error) { return f(a[0].(string)) }
	}
	return []textFunction{
		{"bq_json_value", func(a []driver.Value) (any, error) { return jsonPath(a[0].(string), a[1].(string), true) }, []string{"STRING", "STRING"}},
		{"bq_json_query", func(a []driver.Value) (any, error) { return jsonPath(a[0].(string), a[1].(string), false) }, []string{"STRING", "STRING"}},
		{"bq_json_value_array", func(a []driver.Value) (any, error) { return jsonValueArray(a[0].(string), a[1].(string)) }, []string{"STRING", "STRING"}},
		{"bq_json_type", one(jsonType), []string{"STRING"}},
		{"bq_json_string", one(jsonString), []string{"STRING"}},
		{"bq_json_quote", one(func(s string) (any, error) { return jsonQuote(s), nil }), []string{"STRING"}},
		{"bq_json_float", func(a []driver.Value) (any, error) {
			f := a[0].(float64)
			if math.IsNaN(f) || math.IsInf(f, 0) {
				return `"` + map[bool]string{true: "NaN", false: map[bool]string{true: "Infinity", false: "-Infinity"}[f > 0]}[math.IsNaN(f)] + `"`, nil
			}
			return printFloat(f), nil
		}, []string{"FLOAT64"}},
		{"bq_json_timestamp", func(a []driver.Value) (any, error) {
			s := printTimestamp(a[0].(time.Time))
			return `"` + strings.Replace(strings.TrimSuffix(s, "+00"), " ", "T", 1) + `Z"`, nil
		}, []string{"TIMESTAMP"}},
		{"bq_print_float64", func(a []driver.Value) (any, error) { return printFloat(a[0].(float64)), nil }, []string{"FLOAT64"}},
		{"bq_print_timestamp", func(a []driver.Value) (any, error) { return printTimestamp(a[0].(time.Time)), nil }, []string{"TIMESTAMP"}},
		{"bq_print_numeric", func(a []driver.Value) (any, error) { return printNumeric(plainValue(a[0]).(*big.Rat)), nil }, []string{"NUMERIC"}},
		{"bq_format_timestamp", func(a []driver.Value) (any, error) {
			return formatTime(a[0].(string), a[1].(time.Time), a[2].(string))
		}, []string{"STRING", "TIMESTAMP", "STRING"}},
	}
}
