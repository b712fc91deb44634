package cli

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"

	"github.com/apache/arrow/go/v17/arrow"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/schemas"
)

const (
	longestExample = 40 // of a value shown, in columns of a terminal
	longestKey     = 60 // of a field's key
	shownRejects   = 10 // records set aside that are named; --json has all
	shownLeftOut   = 20 // fields left out that are named, likewise
)

// previewText prints a sample for people, no wider than width columns (0 for
// any) where that can be.
func previewText(p *config.Pipeline, s *pageSample, rows, width int) string {
	var b strings.Builder
	n := s.sealed.Record.NumRows()
	fmt.Fprintf(&b, "%s of source %s, by %s; nothing was written\n\n",
		counted(n, "contact", "contacts"), p.Source.Name, counted(s.requests, "request", "requests"))
	if s.asked != nil {
		fmt.Fprintf(&b, "info: %s\n\n", enriched(s.asked))
	}
	if n > 0 && rows > 0 {
		writeSample(&b, s, rows, width)
		b.WriteString("\n")
	}
	columns := s.columns()
	writePreviewColumns(&b, columns, n, width)
	writePreviewNotes(&b, s, columns)
	writeLeftOut(&b, s, width)
	writePreviewRejects(&b, s)
	return visible(b.String())
}

// writeSample prints the first rows, without the columns that are null in all
// of them and without Sluice's own.
func writeSample(b *strings.Builder, s *pageSample, rows, width int) {
	rec := s.sealed.Record
	n := min(rows, int(rec.NumRows()))
	var g grid
	g.rows = make([][]string, n)
	for i, c := range s.sealed.Table.Columns {
		if c.Origin == schemas.SystemDefined || allNull(rec.Column(i), n) {
			continue
		}
		g.columns = append(g.columns, column{name: c.Name, right: c.Type == schemas.Int64 || c.Type == schemas.Float64})
		for r := range n {
			g.rows[r] = append(g.rows[r], arrowCell(rec.Column(i), r))
		}
	}
	left, cutValues := g.write(b, width)
	fmt.Fprintf(b, "(%s of %s)\n", counted(n, "contact", "contacts"), count(rec.NumRows()))
	if note := omissions(left, cutValues); note != "" {
		fmt.Fprintf(b, "(%s)\n", note)
	}
}

func allNull(col arrow.Array, n int) bool {
	for r := range n {
		if !col.IsNull(r) {
			return false
		}
	}
	return true
}

func arrowCell(col arrow.Array, r int) string {
	if col.IsNull(r) {
		return "NULL"
	}
	return shownText(col.ValueStr(r))
}

// mark is the sign in front of a column.
func (c previewColumn) mark() string {
	switch {
	case c.Origin == schemas.MisfitText:
		return "!"
	case c.New:
		return "+"
	default:
		return ""
	}
}

// writePreviewColumns prints the schema. Examples take the room that names and
// types leave, so that those are whole on 80 columns.
func writePreviewColumns(b *strings.Builder, columns []previewColumn, contacts int64, width int) {
	protected := false
	for _, c := range columns {
		protected = protected || c.Policy != schemas.Keep && c.Policy != ""
	}
	g := grid{columns: []column{{name: ""}, {name: "column"}, {name: "type"}, {name: "null", right: true}}}
	if protected {
		g.columns = append(g.columns, column{name: "policy"})
	}
	for _, c := range columns {
		row := []string{c.mark(), c.Name, string(c.Type), share(c.Nulls, contacts)}
		if protected {
			row = append(row, string(c.Policy))
		}
		g.rows = append(g.rows, row)
	}
	room := 0
	if width > 0 {
		room = width
		for _, w := range g.widths() {
			room -= w + len(gap)
		}
		room = max(room, cellFloor)
	}
	g.columns = append(g.columns, column{name: "examples"})
	for i, c := range columns {
		g.rows[i] = append(g.rows[i], joinExamples(c.Examples, room))
	}
	g.write(b, width)
}

// joinExamples writes as many values as go into room columns (0 for any). The
// first is there in any case, cut if need be.
func joinExamples(values []string, room int) string {
	const between = " | "
	out := ""
	for i, v := range values {
		text := cut(shownText(v), longestExample)
		if i == 0 {
			if room > 0 {
				text = cut(text, room)
			}
			out = text
			continue
		}
		if room > 0 && displayWidth(out)+len(between)+displayWidth(text) > room {
			break
		}
		out += between + text
	}
	return out
}

// writePreviewNotes says what the signs mean, and whether a run would fail.
func writePreviewNotes(b *strings.Builder, s *pageSample, columns []previewColumn) {
	var fresh, misfits []string
	for _, c := range columns {
		switch c.mark() {
		case "+":
			fresh = append(fresh, c.Name)
		case "!":
			if n := s.sealed.Record.NumRows() - c.Nulls; n > 0 {
				misfits = append(misfits, fmt.Sprintf("%s %s", count(n), c.Name))
			}
		}
	}
	if len(fresh) > 0 {
		fmt.Fprintf(b, "+ %s that the table does not have yet\n", counted(len(fresh), "new column", "new columns"))
	}
	if len(misfits) > 0 {
		shown := misfits[:min(len(misfits), namedColumns)]
		fmt.Fprintf(b, "! values that do not fit stand as text: %s%s\n", strings.Join(shown, ", "), andMore(len(misfits)-len(shown)))
	}
	if s.frozen != nil {
		fmt.Fprintf(b, "\na run would fail: %s\n", printable(oneLine(s.frozen.Error())))
		fmt.Fprintf(b, "  %s\n", printable(oneLine(s.frozen.Hint())))
	}
}

func andMore(n int) string {
	if n <= 0 {
		return ""
	}
	return " and " + count(n) + " more"
}

func writeLeftOut(b *strings.Builder, s *pageSample, width int) {
	left := s.leftOut()
	if len(left) == 0 {
		return
	}
	fmt.Fprintf(b, "\nleft out by the contract %s:\n", printable(oneLine(s.contract.Name)))
	g := grid{columns: []column{{name: "field"}, {name: "contacts", right: true}, {name: "why"}}}
	for _, l := range left[:min(len(left), shownLeftOut)] {
		g.rows = append(g.rows, []string{cut(shownText(l.Field), longestKey), count(l.Contacts), l.Reason})
	}
	g.write(b, width)
	if more := len(left) - shownLeftOut; more > 0 {
		fmt.Fprintf(b, "(%s more; --json prints all)\n", count(more))
	}
}

func writePreviewRejects(b *strings.Builder, s *pageSample) {
	rejects := s.sealed.Rejects
	if len(rejects) > 0 {
		b.WriteString("\n")
	}
	for _, r := range rejects[:min(len(rejects), shownRejects)] {
		name := fmt.Sprintf("record %d of the page", r.Position+1)
		if r.ID != "" {
			name = "contact " + cut(shownText(r.ID), longestKey)
		}
		fmt.Fprintf(b, "set aside: %s: %s\n", name, printable(oneLine(r.Reason)))
	}
	if more := len(rejects) - shownRejects; more > 0 {
		fmt.Fprintf(b, "set aside: %s more; --json prints all\n", count(more))
	}
}

// previewRecord is a record that would be set aside.
type previewRecord struct {
	Position int    `json:"position"` // on the page, from 1
	ID       string `json:"id,omitempty"`
	Reason   string `json:"reason"`
}

// previewJSON prints a sample for programs.
func previewJSON(p *config.Pipeline, s *pageSample, rows int) (string, error) {
	out := struct {
		Pipeline  string            `json:"pipeline"`
		Source    string            `json:"source"`
		Requests  int64             `json:"requests"`           // attempts, those to the info endpoint included
		Enriched  *run.Enriched     `json:"enriched,omitempty"` // of enrich: info
		Contacts  int64             `json:"contacts"`           // of the page, those that pass the filters
		WouldFail string            `json:"would_fail,omitempty"`
		Columns   []previewColumn   `json:"columns"`
		Rows      []json.RawMessage `json:"rows"`
		LeftOut   []leftOut         `json:"left_out"`
		SetAside  []previewRecord   `json:"set_aside"`
	}{
		Pipeline: p.Name, Source: p.Source.Name, Requests: s.requests, Enriched: s.asked, Contacts: s.sealed.Record.NumRows(),
		Columns: s.columns(), Rows: []json.RawMessage{}, LeftOut: s.leftOut(), SetAside: []previewRecord{},
	}
	if s.frozen != nil {
		out.WouldFail = s.frozen.Error()
	}
	for r := range min(rows, int(out.Contacts)) {
		row, err := rowJSON(s, r)
		if err != nil {
			return "", err
		}
		out.Rows = append(out.Rows, row)
	}
	for _, r := range s.sealed.Rejects {
		out.SetAside = append(out.SetAside, previewRecord{Position: r.Position + 1, ID: r.ID, Reason: r.Reason})
	}
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(out); err != nil {
		return "", fmt.Errorf("print preview: %w", err)
	}
	return printable(b.String()), nil
}

// rowJSON is one contact, its members in the order of the columns. Times are
// text in UTC, and so is what a json column holds.
func rowJSON(s *pageSample, r int) (json.RawMessage, error) {
	var b bytes.Buffer
	for i, c := range s.sealed.Table.Columns {
		if c.Origin == schemas.SystemDefined {
			continue
		}
		values := s.sealed.Record.Column(i)
		var v any
		switch {
		case values.IsNull(r):
		case c.Type == schemas.Bool, c.Type == schemas.Float64, c.Type == schemas.Int64:
			v = values.GetOneForMarshal(r)
		default:
			v = values.ValueStr(r)
		}
		name, err := json.Marshal(c.Name)
		if err != nil {
			return nil, fmt.Errorf("print column %s: %w", c.Name, err)
		}
		value, err := json.Marshal(v)
		if err != nil {
			return nil, fmt.Errorf("print column %s: %w", c.Name, err)
		}
		if b.Len() > 0 {
			b.WriteByte(',')
		}
		b.Write(name)
		b.WriteByte(':')
		b.Write(value)
	}
	return json.RawMessage("{" + b.String() + "}"), nil
}
