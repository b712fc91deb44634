package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"unicode/utf8"

	"github.com/google/uuid"
)

// decode reads a pipeline's document.
func decode(path, pipeline string, data []byte) (*Pipeline, error) {
	return decodeInto(path, New(pipeline), data)
}

// decodeInto reads a document of the sort and name of the blank one. A fault is
// a *CorruptError or a *FutureError that names path; nothing is guessed.
func decodeInto[D document[D]](path string, blank D, data []byte) (D, error) {
	var none D
	corrupt := func(format string, args ...any) (D, error) {
		return none, &CorruptError{Path: path, Reason: fmt.Sprintf(format, args...)}
	}
	if len(bytes.TrimSpace(data)) == 0 {
		return corrupt("it is empty")
	}
	if !utf8.Valid(data) {
		return corrupt("it is not UTF-8 text")
	}
	// The version first, leniently: a newer document may hold anything else.
	var top struct {
		FormatVersion *int   `json:"format_version"`
		SluiceVersion string `json:"sluice_version"`
	}
	if err := json.Unmarshal(data, &top); err != nil {
		return corrupt("%s", reason(data, err))
	}
	switch newest := blank.meta().newest; {
	case top.FormatVersion == nil:
		return corrupt("it has no format_version, so it is no state of Sluice's")
	case *top.FormatVersion > newest:
		return none, &FutureError{Path: path, Version: *top.FormatVersion, Supported: newest, Writer: top.SluiceVersion}
	case *top.FormatVersion < 1:
		return corrupt("format_version is %d, the first is 1", *top.FormatVersion)
	}
	// Unknown fields are refused, not dropped: the next save would lose them.
	dec := json.NewDecoder(bytes.NewReader(data))
	dec.DisallowUnknownFields()
	d := blank.fresh()
	if err := dec.Decode(d); err != nil {
		return corrupt("%s", reason(data, err))
	}
	if _, err := dec.Token(); !errors.Is(err, io.EOF) {
		return corrupt("something follows the document")
	}
	if d.stored() != blank.stored() {
		return corrupt("it is the state of %s, not of %s", d.title(), blank.title())
	}
	if fault := d.fault(); fault != "" {
		return corrupt("%s", fault)
	}
	return d, nil
}

// reason describes a JSON error with its line.
func reason(data []byte, err error) string {
	var syntax *json.SyntaxError
	var typ *json.UnmarshalTypeError
	switch {
	case errors.As(err, &syntax):
		return fmt.Sprintf("it is not whole JSON (line %d): %v", lineAt(data, syntax.Offset), err)
	case errors.Is(err, io.ErrUnexpectedEOF):
		return "it is not whole JSON: it ends too early"
	case errors.As(err, &typ):
		return fmt.Sprintf("line %d: %v", lineAt(data, typ.Offset), err)
	default:
		return err.Error()
	}
}

func lineAt(data []byte, offset int64) int {
	offset = min(max(offset, 0), int64(len(data)))
	return 1 + bytes.Count(data[:offset], []byte("\n"))
}

// fault says what in p contradicts itself, "" if nothing. Save asks it too, so
// that what is written can be read.
func (p *Pipeline) fault() string {
	switch {
	case p.Pipeline == "":
		return "pipeline is empty"
	case len(escape(p.Pipeline)) > 200:
		return "the pipeline's name is too long for a file name"
	case p.Serial < 1:
		return fmt.Sprintf("serial is %d, the first is 1", p.Serial)
	case p.NextPackage < 1:
		return fmt.Sprintf("next_package is %d, the first is 1", p.NextPackage)
	case len(p.Runs) > MaxRuns:
		return fmt.Sprintf("it has %d runs, at most %d are kept", len(p.Runs), MaxRuns)
	}
	if err := uuid.Validate(p.Lineage); err != nil || len(p.Lineage) != 36 {
		return fmt.Sprintf("lineage %q is not a UUID", p.Lineage)
	}
	for _, name := range sortedKeys(p.Destinations) {
		d := p.Destinations[name]
		if d == nil {
			return fmt.Sprintf("destination %q is null", name)
		}
		if d.Position < 0 || d.Position >= p.NextPackage {
			return fmt.Sprintf("destination %q is at package %d, the last is %d", name, d.Position, p.NextPackage-1)
		}
		last := d.Position
		for _, r := range d.Queue {
			if r.Serial <= last || r.Serial >= p.NextPackage {
				return fmt.Sprintf("destination %q queues package %d after %d, of %d", name, r.Serial, last, p.NextPackage-1)
			}
			last = r.Serial
		}
	}
	return ""
}

func sortedKeys[V any](m map[string]V) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}
