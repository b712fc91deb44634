package run

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/quarantine"
)

// The reasons that a contact which is fetched again gives for staying set
// aside. None of them holds a value.
const (
	whyGone     = "the source has no contact of this id any more (it answers 404)"
	whyOther    = "the source answers with another contact"
	whyUndated  = "the source still gives it without a usable created_at"
	whyUnlisted = "the source gives it by its id, and does not list it among what the pipeline reads"
	whyRefused  = "the source does not give it by its id: status %d"
)

// stageRaw stages a page of one stored record, as of when it was served: what
// was read after it wins over it.
func (x *retrier) stageRaw(ctx context.Context, body []byte, rec quarantine.Record) error {
	x.st.began = time.Time{}
	if _, err := x.sink.Decode(body, extract.PageInfo{ReceivedAt: rec.At, Request: rec.Request}); err != nil {
		return err
	}
	return x.sink.Stage(ctx, nil)
}

// fetchOnce fetches a contact again unless that was done, and stages it. It
// returns why it stays set aside, "" where it does not.
func (x *retrier) fetchOnce(ctx context.Context, id string) (why string, err error) {
	why, done := x.fetched[id]
	if !done {
		if why, err = x.fetch(ctx, id); err != nil {
			return "", err
		}
		x.fetched[id] = why
	}
	return why, nil
}

// fetch asks the info endpoint when a contact was created, and stages it as the
// list has it there: the two need not print the same fields.
func (x *retrier) fetch(ctx context.Context, id string) (why string, err error) {
	body, found, err := x.run.client.Contact(ctx, id)
	var (
		other  *extract.WrongContactError
		status *extract.StatusError
	)
	switch {
	case errors.As(err, &other):
		return whyOther, nil
	case errors.As(err, &status) && status.Status == http.StatusBadRequest:
		return fmt.Sprintf(whyRefused, status.Status), nil
	case err != nil:
		return "", err
	case !found:
		return whyGone, nil
	}
	created, ok := createdAt(body)
	if !ok {
		return whyUndated, nil
	}
	return x.fromList(ctx, id, created)
}

// createdAt reads the created_at of an answer of the info endpoint, bare or
// wrapped.
func createdAt(body []byte) (time.Time, bool) {
	at := json.RawMessage(body)
	for range 3 { // {"data":{"contact":{...}}} is as deep as the client goes
		var object map[string]json.RawMessage
		if json.Unmarshal(at, &object) != nil {
			return time.Time{}, false
		}
		if raw, ok := object["created_at"]; ok {
			var t time.Time
			return t, json.Unmarshal(raw, &t) == nil && !t.IsZero()
		}
		for _, key := range []string{"data", "contact"} {
			if inner, ok := object[key]; ok {
				at = inner
				break
			}
		}
	}
	return time.Time{}, false
}

// listedPages bounds how far a contact is looked for in the list among those
// created in its millisecond, in pages.
const listedPages = 100

// fromList stages a contact from the page of the list on which contacts created
// when it was begin.
func (x *retrier) fromList(ctx context.Context, id string, created time.Time) (why string, err error) {
	days, filters := x.run.job.narrowing()
	if x.run.job.DaysAlone {
		days = 0 // it does not combine with created_after
	}
	ms := created.UnixMilli()
	after := (ms - 1) * 1000
	q := extract.Query{CreatedAfter: &after, Limit: x.run.job.PageSize, Days: days, Extra: filters}
	for range listedPages {
		page, err := x.page(ctx, q)
		if err != nil {
			return "", fmt.Errorf("look for the contact in the list: %w", err)
		}
		records, err := listed(page.body)
		if err != nil {
			return "", fmt.Errorf("look for the contact in the list: %w", err)
		}
		for _, record := range records {
			if hasID(record, id) {
				return x.stageListed(ctx, record, page.info)
			}
		}
		past := func(row extract.Row) bool { return !row.Invalid && row.Created >= (ms+1)*1000 }
		if len(records) == 0 || slices.ContainsFunc(page.rows, past) {
			break
		}
		q.Offset += len(records)
	}
	return whyUnlisted, nil
}

// listedPage is a page of the list.
type listedPage struct {
	body []byte
	rows []extract.Row
	info extract.PageInfo
}

func (x *retrier) page(ctx context.Context, q extract.Query) (listedPage, error) {
	var page listedPage
	_, err := x.run.client.Page(ctx, q, func(body []byte, info extract.PageInfo) error {
		rows, err := x.sink.Decode(body, info)
		page = listedPage{bytes.Clone(body), slices.Clone(rows), info}
		return err
	})
	return page, err
}

// listed takes a page apart that the decoder has accepted: an array, or an
// object with one as data or contacts.
func listed(page []byte) (records []json.RawMessage, err error) {
	if json.Unmarshal(page, &records) == nil {
		return records, nil
	}
	var wrapped struct {
		Data     json.RawMessage `json:"data"`
		Contacts json.RawMessage `json:"contacts"`
	}
	if err := json.Unmarshal(page, &wrapped); err != nil {
		return nil, err
	}
	if json.Unmarshal(wrapped.Data, &records) == nil {
		return records, nil
	}
	return records, json.Unmarshal(wrapped.Contacts, &records)
}

func hasID(record []byte, id string) bool {
	var r struct {
		ID any `json:"id"`
	}
	return json.Unmarshal(record, &r) == nil && r.ID == id
}

// stageListed stages a record of the list, and says why where it cannot be a
// row there either.
func (x *retrier) stageListed(ctx context.Context, record []byte, info extract.PageInfo) (why string, err error) {
	body := append(append([]byte{'['}, record...), ']')
	if why := x.fault(body); why != "" {
		return why, nil
	}
	x.st.began = x.now
	if _, err := x.sink.Decode(body, info); err != nil {
		return "", err
	}
	return "", x.sink.Stage(ctx, nil)
}
