//go:build cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)) || (windows && amd64))

package duck

import "strings"

// isoTimes is a REPLACE clause under which columns of points in time print as
// ISO 8601, as JSON's readers expect them: 2023-11-18T19:07:07.128Z, with six
// digits where the last three are not zero. A TIMESTAMP, which has no timezone,
// has no Z. It is "" where there are no such columns; one whose name the result
// has twice stays as DuckDB prints it, since REPLACE goes by name.
func isoTimes(columns []Column) string {
	named := map[string]int{}
	for _, c := range columns {
		named[strings.ToLower(c.Name)]++
	}
	var parts []string
	for _, c := range columns {
		name := `"` + strings.ReplaceAll(c.Name, `"`, `""`) + `"`
		value, zone := name+"::TIMESTAMP", ""
		switch c.times {
		case instants:
			value, zone = "("+name+" AT TIME ZONE 'UTC')", "Z"
		case localTimes:
		case noTimes:
			continue
		}
		if named[strings.ToLower(c.Name)] == 1 {
			parts = append(parts, "regexp_replace(strftime("+value+", '%Y-%m-%dT%H:%M:%S.%f"+zone+"'), '000"+zone+"$', '"+zone+"') AS "+name)
		}
	}
	if len(parts) == 0 {
		return ""
	}
	return " REPLACE (" + strings.Join(parts, ", ") + ")"
}
