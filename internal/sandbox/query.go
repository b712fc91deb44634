package sandbox

import (
	"fmt"
	"math"
	"net/url"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// uuidPattern is the pattern of stage_id and pipeline_id on the vendor's page.
var uuidPattern = regexp.MustCompile(`^([0-9a-fA-F]{8}-[0-9a-fA-F]{4}-[1-8][0-9a-fA-F]{3}-[89abAB][0-9a-fA-F]{3}-[0-9a-fA-F]{12}|00000000-0000-0000-0000-000000000000|ffffffff-ffff-ffff-ffff-ffffffffffff)$`)

const (
	maxDays      = 365
	maxLimit     = 1000
	defaultLimit = 100
)

// query is a request for a page, checked. The zero of a pointer is "not given".
type query struct {
	days                        *float64
	createdAfter, updatedAfter  *int64 // microseconds, rounded down: the comparison stays strict
	limit, offset               int
	stage, pipeline             *uuid
	fieldKey, fieldValue        string // given where fieldKey is not empty
	fieldRaw                    string // fieldValue as a JSON string
	ticketFields, customerField bool   // entities the field filter looks at
}

// paramError is a 400: it names the parameter, what was given, what is allowed.
type paramError struct{ message string }

func (e *paramError) Error() string { return e.message }

func badParam(name, given, allowed string) error {
	return &paramError{fmt.Sprintf("%s must be %s, got %q", name, allowed, given)}
}

// parseQuery reads the parameters of the contacts endpoint. Unknown ones are
// ignored, as usual for such a server.
func parseQuery(values url.Values) (query, error) {
	q := query{limit: defaultLimit}
	known := []struct {
		name  string
		parse func(name, text string) error
	}{
		{"days", q.parseDays},
		{"created_after", func(name, text string) error { return parseInstant(&q.createdAfter, name, text) }},
		{"updated_after", func(name, text string) error { return parseInstant(&q.updatedAfter, name, text) }},
		{"limit", func(name, text string) error { return parseWhole(&q.limit, name, text, 1, maxLimit) }},
		{"offset", func(name, text string) error { return parseWhole(&q.offset, name, text, 0, math.MaxInt) }},
		{"stage_id", func(name, text string) error { return parseID(&q.stage, name, text) }},
		{"pipeline_id", func(name, text string) error { return parseID(&q.pipeline, name, text) }},
		{"custom_field_key", func(name, text string) error { return parseText(&q.fieldKey, name, text) }},
		{"custom_field_value", func(name, text string) error { return parseText(&q.fieldValue, name, text) }},
		{"entity_type", q.parseEntity},
	}
	for _, p := range known {
		given := values[p.name]
		if len(given) > 1 {
			return query{}, badParam(p.name, strings.Join(given, ", "), "given once")
		}
		if len(given) == 1 {
			if err := p.parse(p.name, given[0]); err != nil {
				return query{}, err
			}
		}
	}
	return q, q.check(values)
}

// check applies the rules between parameters.
func (q *query) check(values url.Values) error {
	if q.days == nil && q.createdAfter == nil && q.updatedAfter == nil {
		return &paramError{"at least one of days, created_after, updated_after is required, got none"}
	}
	switch {
	case q.fieldKey != "" && q.fieldValue == "":
		return &paramError{"custom_field_value must be given together with custom_field_key, got custom_field_key alone"}
	case q.fieldKey == "" && q.fieldValue != "":
		return &paramError{"custom_field_key must be given together with custom_field_value, got custom_field_value alone"}
	}
	if !values.Has("entity_type") {
		q.ticketFields, q.customerField = true, true
	}
	q.fieldRaw = string(appendString(nil, q.fieldValue))
	return nil
}

func (q *query) parseDays(name, text string) error {
	days, err := strconv.ParseFloat(text, 64)
	if err != nil || !inRange(days, 1, maxDays) {
		return badParam(name, text, "a number from 1 to 365")
	}
	q.days = &days
	return nil
}

func (q *query) parseEntity(name, text string) error {
	switch text {
	case "ticket":
		q.ticketFields = true
	case "customer":
		q.customerField = true
	default:
		return badParam(name, text, `"ticket" or "customer"`)
	}
	return nil
}

func parseWhole(dst *int, name, text string, low, high int) error {
	n, err := strconv.Atoi(text)
	if err != nil || n < low || n > high {
		allowed := fmt.Sprintf("a whole number from %d to %d", low, high)
		if high == math.MaxInt {
			allowed = fmt.Sprintf("a whole number of at least %d", low)
		}
		return badParam(name, text, allowed)
	}
	*dst = n
	return nil
}

func parseID(dst **uuid, name, text string) error {
	if !uuidPattern.MatchString(text) {
		return badParam(name, text, "a UUID")
	}
	u, _ := parseUUID(text)
	*dst = &u
	return nil
}

func parseText(dst *string, name, text string) error {
	if text == "" {
		return badParam(name, text, "at least 1 character long")
	}
	*dst = text
	return nil
}

// parseInstant reads ISO 8601 as a date or a date with a time, in UTC where no
// zone is given.
func parseInstant(dst **int64, name, text string) error {
	for _, layout := range [...]string{
		time.RFC3339Nano, "2006-01-02T15:04Z07:00", "2006-01-02T15:04:05.999999999Z0700", "2006-01-02T15:04Z0700",
		"2006-01-02T15:04:05.999999999", "2006-01-02T15:04", time.DateOnly,
	} {
		if t, err := time.Parse(layout, text); err == nil && t.Year() <= 9999 {
			micros := t.UnixMicro() // floor: what is below a microsecond changes nothing
			*dst = &micros
			return nil
		}
	}
	allowed := "an ISO 8601 timestamp such as 2024-01-15T10:00:00.000Z"
	if strings.Contains(text, " ") {
		allowed += " (a + in the offset must be sent as %2B)"
	}
	return badParam(name, text, allowed)
}
