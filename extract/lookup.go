package extract

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
)

const (
	contactPath  = "/api/public/contact/"
	infoPath     = "/info"
	pipelinePath = "/api/public/pipeline"
	// maxLookup bounds the answer to a lookup, in bytes: one contact with its
	// fields, or the pipelines of an account, is far below it.
	maxLookup = 4 << 20
	// maxWraps is how deep an answer may be wrapped, as in {"data":{"contact":{}}}.
	maxWraps = 2
)

// Pipeline is a pipeline of the source and its stages, in the source's order.
type Pipeline struct {
	ID     string
	Name   string // empty where the source gives none
	Stages []Stage
}

// Stage is a stage of a pipeline.
type Stage struct {
	ID   string
	Name string // empty where the source gives none
}

// Contact asks the info endpoint for one contact, and gives the body as it was
// served. found is false where the source answers 404, which is not retried. A
// source that does not have the path at all, or wants it elsewhere, answers 404
// too: the caller has to ask for a contact that is known to exist first, and to
// believe a 404 only where that one was found. An answer that is not about the
// contact asked for is an error, never a find. Limits, retries and errors are
// those of Page.
func (c *Client) Contact(ctx context.Context, id string) (body []byte, found bool, err error) {
	if id == "" || id == "." || id == ".." {
		return nil, false, fmt.Errorf("get contact: %q cannot stand in a path", id)
	}
	u := c.at(contactPath+id+infoPath, contactPath+url.PathEscape(id)+infoPath)
	request := u.RequestURI()
	_, err = c.retry(ctx, &call{url: u, request: request, limit: maxLookup, decode: func(served []byte, _ PageInfo) error {
		got, err := contactID(served)
		if err != nil {
			return err
		}
		if got != id {
			return &WrongContactError{Request: request, Got: got}
		}
		body = bytes.Clone(served) // valid only during the call
		return nil
	}})
	var status *StatusError
	switch {
	case err == nil:
		return body, true, nil
	case errors.As(err, &status) && status.Status == http.StatusNotFound:
		return nil, false, nil
	default:
		return nil, false, err
	}
}

// contactID returns the id of the contact that an answer is about, empty where
// it holds none.
func contactID(body []byte) (string, error) {
	at := json.RawMessage(body)
	for range maxWraps + 1 {
		object, err := asObject(at)
		if err != nil {
			return "", fmt.Errorf("decode contact: %w", err)
		}
		if id, ok := object["id"]; ok {
			return textOf(id), nil
		}
		inner, ok := unwrap(object, "data", "contact")
		if !ok {
			break
		}
		at = inner
	}
	return "", nil
}

// Pipelines lists the pipelines with their stages. Limits, retries and errors
// are those of Page.
func (c *Client) Pipelines(ctx context.Context) ([]Pipeline, error) {
	u := c.at(pipelinePath, pipelinePath)
	var out []Pipeline
	_, err := c.retry(ctx, &call{url: u, request: u.RequestURI(), limit: maxLookup, decode: func(body []byte, _ PageInfo) (err error) {
		out, err = pipelinesOf(body)
		return err
	}})
	if err != nil {
		return nil, err
	}
	return out, nil
}

// pipelinesOf reads an array of pipelines, bare or wrapped.
func pipelinesOf(body []byte) ([]Pipeline, error) {
	at := json.RawMessage(body)
	for range maxWraps {
		object, err := asObject(at)
		if err != nil {
			break // an array, or nothing that asArray takes
		}
		inner, ok := unwrap(object, "data", "pipelines")
		if !ok {
			return nil, badAnswer("decode pipelines: an object without pipelines")
		}
		at = inner
	}
	items, err := asArray(at)
	if err != nil {
		return nil, fmt.Errorf("decode pipelines: %w", err)
	}
	out := make([]Pipeline, 0, len(items))
	for i, item := range items {
		id, name, object, err := named(item)
		if err != nil {
			return nil, fmt.Errorf("decode pipeline %d: %w", i, err)
		}
		stages, err := stagesOf(object)
		if err != nil {
			return nil, fmt.Errorf("decode stages of pipeline %s: %w", id, err)
		}
		out = append(out, Pipeline{ID: id, Name: name, Stages: stages})
	}
	return out, nil
}

// stagesOf reads a pipeline's stages. A pipeline may have none, and then says
// so: one that is listed without them would let a filter by it match nobody.
func stagesOf(pipeline map[string]json.RawMessage) ([]Stage, error) {
	raw, ok := pipeline["stages"]
	if !ok {
		return nil, badAnswer("there are none, and no empty list either")
	}
	if isNull(raw) {
		return nil, nil
	}
	items, err := asArray(raw)
	if err != nil {
		return nil, err
	}
	out := make([]Stage, 0, len(items))
	for i, item := range items {
		id, name, _, err := named(item)
		if err != nil {
			return nil, fmt.Errorf("decode stage %d: %w", i, err)
		}
		out = append(out, Stage{ID: id, Name: name})
	}
	return out, nil
}

// named reads an object with an id and a name.
func named(raw json.RawMessage) (id, name string, object map[string]json.RawMessage, err error) {
	if object, err = asObject(raw); err != nil {
		return "", "", nil, err
	}
	if id = textOf(object["id"]); id == "" {
		return "", "", nil, badAnswer("it has no id")
	}
	return id, textOf(object["name"]), object, nil
}

// unwrap returns the value of the first of the keys that is there.
func unwrap(object map[string]json.RawMessage, keys ...string) (json.RawMessage, bool) {
	for _, key := range keys {
		if v, ok := object[key]; ok && !isNull(v) {
			return v, true
		}
	}
	return nil, false
}

// answerError is an answer that is not what was asked for. As a page that is
// cut off, another attempt may bring it right.
type answerError struct{ why string }

func badAnswer(why string) error { return &answerError{why} }

// Error says what it lacks.
func (e *answerError) Error() string { return e.why }

// Hint says what to do.
func (e *answerError) Hint() string {
	return "the endpoint answers something else at this path: check the source's url"
}

// Unwrap makes the client ask again.
func (e *answerError) Unwrap() error { return ErrBadPage }

func asObject(raw json.RawMessage) (map[string]json.RawMessage, error) {
	var object map[string]json.RawMessage
	if err := json.Unmarshal(raw, &object); err != nil || object == nil {
		return nil, badAnswer("no JSON object")
	}
	return object, nil
}

func asArray(raw json.RawMessage) ([]json.RawMessage, error) {
	var items []json.RawMessage
	if err := json.Unmarshal(raw, &items); err != nil || items == nil {
		return nil, badAnswer("no JSON array")
	}
	return items, nil
}

// textOf returns the text of a JSON string, empty for anything else.
func textOf(raw json.RawMessage) string {
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return ""
	}
	return s
}

func isNull(raw json.RawMessage) bool { return bytes.Equal(bytes.TrimSpace(raw), []byte("null")) }
