package bqtest

import (
	"strconv"
	"strings"
)

// typ is a type of GoogleSQL. kind is as the reference spells it.
type typ struct {
	kind   string
	elem   *typ
	fields []field
}

type field struct {
	name string
	typ  *typ
}

func ty(kind string) *typ { return &typ{kind: kind} }

// untyped is the type of a NULL literal, which coerces to any.
const untyped = "NULL"

func isScalarKind(s string) bool {
	switch s {
	case "STRING", "BYTES", "INT64", "FLOAT64", "NUMERIC", "BOOL", "DATE", "DATETIME", "TIME", "TIMESTAMP", "JSON", "INTERVAL":
		return true
	}
	return false
}

// String prints a type as the service does in messages.
func (t *typ) String() string {
	switch t.kind {
	case "ARRAY":
		return "ARRAY<" + t.elem.String() + ">"
	case "STRUCT":
		parts := make([]string, len(t.fields))
		for i, f := range t.fields {
			parts[i] = strings.TrimSpace(f.name + " " + f.typ.String())
		}
		return "STRUCT<" + strings.Join(parts, ", ") + ">"
	}
	return t.kind
}

// engine is DuckDB's type for values of t.
func (t *typ) engine() string {
	switch t.kind {
	case "ARRAY":
		return t.elem.engine() + "[]"
	case "STRUCT":
		parts := make([]string, len(t.fields))
		for i := range t.fields {
			parts[i] = fieldName(i) + " " + t.fields[i].typ.engine()
		}
		return "STRUCT(" + strings.Join(parts, ", ") + ")"
	case "INTERVAL":
		return "INTERVAL"
	case untyped:
		return "BIGINT"
	}
	return dataType(t.kind)
}

func (t *typ) same(o *typ) bool {
	if t.kind != o.kind || len(t.fields) != len(o.fields) {
		return false
	}
	if t.kind == "ARRAY" {
		return t.elem.same(o.elem)
	}
	for i := range t.fields {
		if !t.fields[i].typ.same(o.fields[i].typ) {
			return false
		}
	}
	return true
}

func (t *typ) numeric() bool {
	return t.kind == "INT64" || t.kind == "FLOAT64" || t.kind == "NUMERIC"
}

// groupable says whether values can be grouped and joined ("Groupable data
// types", Data types): JSON and ARRAY can not be.
func (t *typ) groupable() bool { return t.kind != "JSON" && t.kind != "ARRAY" }

// orderable says whether values have an order ("Orderable data types").
func (t *typ) orderable() bool {
	return t.kind != "JSON" && t.kind != "ARRAY" && t.kind != "STRUCT"
}

// coerces says whether a value of t turns into to by itself ("Conversion rules",
// table "Supported types"): INT64 to NUMERIC and FLOAT64, NUMERIC to FLOAT64, DATE
// to DATETIME, and further for literals and parameters.
func (t *typ) coerces(to *typ, literal bool) bool {
	if t.same(to) || t.kind == untyped {
		return true
	}
	switch t.kind {
	case "INT64":
		return to.kind == "FLOAT64" || to.kind == "NUMERIC"
	case "NUMERIC":
		return to.kind == "FLOAT64"
	case "FLOAT64":
		return literal && to.kind == "NUMERIC"
	case "STRING":
		return literal && (to.kind == "DATE" || to.kind == "DATETIME" || to.kind == "TIMESTAMP" || to.kind == "TIME")
	case "DATE":
		return to.kind == "DATETIME"
	case "ARRAY":
		return to.kind == "ARRAY" && (t.elem.kind == untyped || literal && t.elem.coerces(to.elem, true))
	case "STRUCT":
		if to.kind != "STRUCT" || len(t.fields) != len(to.fields) {
			return false
		}
		for i := range t.fields {
			if !t.fields[i].typ.coerces(to.fields[i].typ, literal) {
				return false
			}
		}
		return true
	}
	return false
}

// fieldName is the name that DuckDB has for field i of a STRUCT: the fields of
// GoogleSQL may be nameless and need not have distinct names.
func fieldName(i int) string { return "f" + strconv.Itoa(i) }

// concrete is t with INT64 for the NULL literals in it, which is what they are
// where nothing says otherwise.
func (t *typ) concrete() *typ {
	switch t.kind {
	case untyped:
		return ty("INT64")
	case "ARRAY":
		return &typ{kind: "ARRAY", elem: t.elem.concrete()}
	case "STRUCT":
		out := &typ{kind: "STRUCT"}
		for _, f := range t.fields {
			out.fields = append(out.fields, field{f.name, f.typ.concrete()})
		}
		return out
	}
	return t
}
