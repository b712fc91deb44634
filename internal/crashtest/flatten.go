package crashtest

import (
	"encoding/json"
	"fmt"
	"time"

	"github.com/sluice-etl/sluice/schemas"
)

// CompareContact says which cells of a row differ from the contact.
func CompareContact(table schemas.Table, contact, row map[string]any) (faults []string) {
	fault := func(format string, args ...any) {
		faults = append(faults, fmt.Sprintf("contact %v, ", contact["id"])+fmt.Sprintf(format, args...))
	}
	fields := flatten(contact)
	misfit := map[string]string{}
	for _, c := range table.Columns {
		if c.Origin != schemas.FromContract && c.Origin != schemas.Discovered {
			continue
		}
		want, fits := typed(c.Type, fields[c.Source])
		if !fits {
			misfit[c.Name+"__text"] = text(fields[c.Source])
		}
		delete(fields, c.Source)
		if got := plain(row[c.Name]); !same(c.Type, got, want) {
			fault("column %s: found %v, the source has %v", c.Name, got, want)
		}
	}
	for _, c := range table.Columns {
		if c.Origin != schemas.MisfitText {
			continue
		}
		want, has := misfit[c.Name]
		got, isText := row[c.Name].(string)
		if has != isText || got != want {
			fault("column %s: found %v, the source has %q", c.Name, row[c.Name], want)
		}
		delete(misfit, c.Name)
	}
	for _, column := range sorted(misfit) {
		fault("no column %s", column)
	}
	for _, source := range sorted(fields) {
		if v := fields[source]; v != nil {
			fault("no column for %s = %v", source, v)
		}
	}
	return faults
}

// flatten is the flattening of the design, written once more and plainly.
func flatten(contact map[string]any) map[string]any {
	out := map[string]any{}
	flattenObject(out, "contact", "cf_customer", contact)
	if ticket, ok := contact["active_ticket_v2"].(map[string]any); ok {
		delete(out, "contact:active_ticket_v2")
		flattenObject(out, "ticket", "cf_ticket", ticket)
	}
	return out
}

func flattenObject(out map[string]any, scope, entity string, object map[string]any) {
	for key, v := range object {
		out[scope+":"+key] = v
	}
	for _, place := range []string{"custom_fields", "custom_field_values", "metadata"} {
		custom := map[string]any{}
		switch v := object[place].(type) {
		case map[string]any:
			custom = v
		case []any:
			for _, pair := range v {
				custom[pair.(map[string]any)["key"].(string)] = pair.(map[string]any)["value"]
			}
		}
		delete(out, scope+":"+place)
		for key, v := range custom {
			if out[entity+":"+key] == nil {
				out[entity+":"+key] = v
			}
		}
	}
}

// text is a value as it stands in the source.
func text(v any) string {
	if s, ok := v.(string); ok {
		return s
	}
	b, err := json.Marshal(v)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// typed returns v as a column of type typ has it, and whether it fits.
func typed(typ schemas.Type, v any) (any, bool) {
	if v == nil {
		return nil, true
	}
	switch typ {
	case schemas.JSON:
		return text(v), true
	case schemas.Timestamp:
		s, _ := v.(string)
		at, err := time.Parse(time.RFC3339Nano, s)
		if err != nil {
			return nil, false
		}
		return at.UnixMicro(), true
	case schemas.Bool:
		if b, ok := v.(bool); ok {
			return b, true
		}
		return nil, false
	case schemas.Int64:
		n, ok := v.(json.Number)
		i, err := n.Int64()
		if !ok || err != nil {
			return nil, false
		}
		return i, true
	case schemas.Float64:
		n, ok := v.(json.Number)
		f, err := n.Float64()
		if !ok || err != nil {
			return nil, false
		}
		return f, true
	default:
		switch v.(type) {
		case map[string]any, []any:
			return nil, false
		}
		return text(v), true
	}
}

// plain gives a value from DuckDB the form that typed gives.
func plain(v any) any {
	if at, ok := v.(time.Time); ok {
		return at.UnixMicro()
	}
	return v
}

func same(typ schemas.Type, got, want any) bool {
	if typ != schemas.JSON || got == nil || want == nil {
		if b, ok := want.(bool); ok && typ != schemas.Bool {
			want = fmt.Sprint(b)
		}
		return got == want
	}
	a, okA := got.(string)
	b, okB := want.(string)
	if !okA || !okB {
		return false
	}
	if a == b {
		return true
	}
	// A string that became JSON text is quoted there.
	var x, y any
	if json.Unmarshal([]byte(a), &x) != nil {
		return false
	}
	if json.Unmarshal([]byte(b), &y) != nil {
		y = b
	}
	return fmt.Sprint(x) == fmt.Sprint(y)
}
