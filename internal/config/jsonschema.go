package config

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// node is a JSON Schema, or a part of one.
type node = map[string]any

// Patterns of values, for editors: the checks behind them are the loader's.
const (
	namePattern     = `^[a-z][a-z0-9_]{0,62}$`
	durationPattern = `^(?:0|(?:(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:ns|us|µs|μs|ms|s|m|h|d|w))+)$`
	sharePattern    = `^(?:[0-9]+\.?[0-9]*|\.[0-9]+)%$`
	sizePattern     = `^(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:B|[KMGT]i?B)$`
	uuidShape       = `^[0-9A-Fa-f]{8}(?:-[0-9A-Fa-f]{4}){3}-[0-9A-Fa-f]{12}$`
)

// JSONSchema returns a JSON Schema (draft 2020-12) of pipelines.yaml, made of
// Keys: an editor that has it completes keys and shows what they mean. What
// takes more than one key to judge, references among them, it does not know.
func JSONSchema() ([]byte, error) {
	s := schemaMaker{keys: Keys()}
	root := s.mapping("", nil)
	root["$schema"] = "https://json-schema.org/draft/2020-12/schema"
	root["title"] = "pipelines.yaml of Sluice"
	root["$defs"] = node{"variable": node{
		"type": "string", "pattern": `\$\{`, "description": "A value with a variable: ${NAME} or ${NAME:-default}, and with for_each ${each.key} or ${each.value.NAME}.",
	}}
	// Whether a key is missing depends on defaults, where there are any.
	root["if"] = node{"required": []string{"defaults"}}
	each := node{}
	for _, thing := range things() {
		each[thing] = node{"additionalProperties": s.required(thing + ".*")}
	}
	root["else"] = node{"properties": each}
	out, err := json.MarshalIndent(root, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("make JSON Schema: %w", err)
	}
	return append(out, '\n'), nil
}

type schemaMaker struct{ keys []Key }

// below returns the keys right below a path.
func (s schemaMaker) below(path string) []Key {
	r := reader{table: s.keys}
	return r.children(path)
}

// mapping describes a mapping of known keys, but for those left out.
func (s schemaMaker) mapping(path string, without []string) node {
	properties := node{}
	var required []string
	for _, k := range s.below(path) {
		if slices.Contains(without, k.name()) {
			continue
		}
		properties[k.name()] = s.key(k)
		if k.Required && !strings.HasSuffix(path, "*") {
			required = append(required, k.name())
		}
	}
	out := node{"type": []string{"object", "null"}, "additionalProperties": false, "properties": properties}
	if len(required) > 0 {
		out["required"] = required
	}
	if path == "" {
		out["type"] = "object"
	}
	if path == "destinations.*" {
		out["allOf"] = s.ofTypes(func(k Key, fits bool) any {
			if fits {
				return nil
			}
			return false
		})
	}
	return out
}

// ofTypes gives, for each type of destination, what holds for its keys. of
// returns the schema of a key, nil for none.
func (s schemaMaker) ofTypes(of func(k Key, fits bool) any) []node {
	var out []node
	for _, t := range []string{Parquet, Warehouse, DuckDB} {
		properties := node{}
		for _, k := range s.below("destinations.*") {
			if k.Of == "" {
				continue
			}
			if sub := of(k, slices.Contains(strings.Fields(k.Of), t)); sub != nil {
				properties[k.name()] = sub
			}
		}
		out = append(out, node{
			"if":   node{"required": []string{"type"}, "properties": node{"type": node{"const": t}}},
			"then": node{"properties": properties},
		})
	}
	return out
}

// required says which keys a thing has to have by itself.
func (s schemaMaker) required(path string) node {
	names := func(of string) []string {
		out := []string{}
		for _, k := range s.below(path) {
			if k.Required && (k.Of == "" || of != "" && slices.Contains(strings.Fields(k.Of), of)) {
				out = append(out, k.name())
			}
		}
		return out
	}
	out := node{"type": "object", "required": names("")}
	switch path {
	case "destinations.*":
		var types []node
		for _, t := range []string{Parquet, Warehouse, DuckDB} {
			types = append(types, node{
				"if":   node{"required": []string{"type"}, "properties": node{"type": node{"const": t}}},
				"then": node{"required": names(t)},
			})
		}
		out["allOf"] = types
	case "pipelines.*":
		out["if"] = node{"required": []string{"sync"}, "properties": node{"sync": node{"const": syncRecent}}}
		out["then"] = node{"required": []string{"days"}}
	}
	return out
}

// key describes the value of one key.
func (s schemaMaker) key(k Key) node {
	out := s.value(k)
	out["description"] = k.Description
	if k.Default != "" {
		out["default"] = written(k, k.Default)
	}
	return out
}

// value describes a value of the key's type. Where it is not text, a text with
// a variable may stand for it.
func (s schemaMaker) value(k Key) node {
	switch k.Type {
	case MappingType:
		return s.mappingKey(k)
	case AccountsType:
		return accountsNode()
	case LabelsType:
		return node{"type": []string{"object", "null"}, "additionalProperties": node{"type": []string{"string", "null"}}}
	case NamesType, ValuesType, UUIDsType, BooleansType:
		one := s.single(k)
		return orVariable(k, one, node{"type": "array", "minItems": 1, "items": orVariable(Key{Required: true}, one)})
	case TextType, URLType, PathType, SecretType, CronType, TimezoneType:
		out := node{"type": []string{"string", "null"}}
		if k.Type != SecretType {
			out["minLength"] = 1
		}
		if k.Required {
			out["type"] = "string"
		}
		return out
	default:
		return orVariable(k, s.single(k))
	}
}

func (s schemaMaker) mappingKey(k Key) node {
	if below := s.below(k.Path); len(below) == 1 && below[0].name() == "*" {
		return node{
			"type": "object", "minProperties": 1, "propertyNames": node{"pattern": namePattern},
			"additionalProperties": s.mapping(below[0].Path, nil),
		}
	}
	switch {
	case strings.HasPrefix(k.Path, "defaults."):
		return s.mapping(k.name()+".*", []string{forEach})
	case k.name() == "quarantine":
		store := s.single(s.below(k.Path)[0])
		return orVariable(k, store, s.mapping(k.Path, nil))
	default:
		return s.mapping(k.Path, nil)
	}
}

func accountsNode() node {
	return node{
		"type": []string{"object", "null"}, "minProperties": 1, "propertyNames": node{"pattern": accountKey.String()},
		"additionalProperties": node{
			"type": []string{"object", "null"}, "propertyNames": node{"pattern": "^[A-Za-z_][A-Za-z0-9_]*$"},
			"additionalProperties": node{"type": []string{"string", "number", "boolean", "null"}},
		},
	}
}

// single describes one value, as it is written without a variable.
func (s schemaMaker) single(k Key) node {
	bounded := func(out node) node {
		if k.Min != "" {
			out["minimum"] = written(k, k.Min)
		}
		if k.Max != "" {
			out["maximum"] = written(k, k.Max)
		}
		return out
	}
	text := func(pattern string) node { return node{"type": "string", "pattern": pattern} }
	switch k.Type {
	case ChoiceType:
		values := []any{}
		for _, v := range k.Allowed {
			values = append(values, v)
			if n, err := strconv.Atoi(v); err == nil { // version: 1
				values = append(values, n)
			}
		}
		return node{"enum": values}
	case NameType, NamesType:
		return text(namePattern)
	case SourceType:
		return text(strings.TrimSuffix(namePattern, "$") + `(?:\["` + strings.Trim(accountKey.String(), "^$") + `"\])?$`)
	case UUIDsType:
		return text(uuidShape)
	case IntegerType:
		return bounded(node{"type": "integer"})
	case NumberType:
		return bounded(node{"type": "number"})
	case BooleanType, BooleansType:
		return node{"type": "boolean"}
	case DurationType:
		return node{"anyOf": []any{text(durationPattern), node{"const": 0}}}
	case ShareType:
		return text(sharePattern)
	case SizeType:
		return text(sizePattern)
	default:
		return node{"type": "string"}
	}
}

// orVariable allows a variable, and nothing where the key may be left out.
func orVariable(k Key, values ...node) node {
	list := []any{}
	for _, v := range values {
		list = append(list, v)
	}
	list = append(list, node{"$ref": "#/$defs/variable"})
	if !k.Required {
		list = append(list, node{"type": "null"})
	}
	return node{"anyOf": list}
}

var wholeNumber = regexp.MustCompile(`^[0-9]+$`)

// written is a value of the table of keys as JSON has it.
func written(k Key, text string) any {
	switch k.Type {
	case BooleanType:
		return text == "true"
	case IntegerType, NumberType:
		if wholeNumber.MatchString(text) {
			return json.Number(text)
		}
		return parseFloat(text)
	default:
		return text
	}
}
