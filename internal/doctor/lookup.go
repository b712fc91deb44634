package doctor

import (
	"context"
	"errors"
	"fmt"

	"github.com/sluice-etl/sluice/extract"
)

// nobody is a UUID that is no contact's.
const nobody = "00000000-0000-4000-8000-000000000000"

// lookUp makes a request that is not one for a page. A failure that may pass is
// repeated.
func (e *exam) lookUp(ctx context.Context, once func(*extract.Client) error) error {
	if e.left() <= 0 {
		return errBudget
	}
	return e.repeat(ctx, attempts, func() error {
		before := e.client.Stats().Requests
		err := once(e.client)
		e.sent += int(e.client.Stats().Requests - before)
		e.note(extract.Response{}, err)
		return err
	})
}

// denied says that an endpoint does not answer what it is asked for, and will
// not the next time. what names it, means says what that means.
func denied(err error, what, means string) (finding, bool) {
	var (
		status *extract.StatusError
		wrong  *extract.WrongContactError
		bad    *extract.PageError
	)
	switch {
	case errors.As(err, &status) && status.Status < 500 && status.Status != 429:
		return finding{Note, fmt.Sprintf("%s answers with status %d%s.", what, status.Status, quote(status.Body)), means}, true
	case errors.As(err, &wrong):
		return finding{Note, sentence(what + " answers with something else: " + wrong.Error()), means}, true
	case errors.As(err, &bad):
		return finding{Note, what + " answers with something else" + quote(bad.Body) + ".", means}, true
	default:
		return finding{}, false
	}
}

const (
	infoEndpoint = "The info endpoint (/api/public/contact/{id}/info)"
	noReconcile  = "`sluice reconcile` needs it to confirm that a contact is gone, and marks nobody without it. sync: snapshot marks whom the list no longer shows."
)

// checkContact asks for a contact of the list by its id, and for nobody's: only
// where the first is found does a 404 mean that a contact is gone.
func (e *exam) checkContact(ctx context.Context) (finding, error) {
	ids := e.listed()
	if len(ids) == 0 {
		return unknown("No contact of the list has an id to ask for."), nil
	}
	asked, found := 0, false
	for _, id := range ids { // the second, for a contact may be deleted meanwhile
		var err error
		asked++
		if found, err = e.exists(ctx, id); err != nil {
			if f, is := denied(err, infoEndpoint, noReconcile); is {
				return f, nil
			}
			return finding{}, err
		}
		if found {
			break
		}
	}
	if !found {
		return finding{Note, fmt.Sprintf("%s answers 404 for %s of the list.", infoEndpoint, contacts(asked)), noReconcile}, nil
	}
	there, err := e.exists(ctx, nobody)
	var status *extract.StatusError
	switch {
	case there:
		return finding{Note, infoEndpoint + " finds a contact under an id that is nobody's.", "`sluice reconcile` cannot tell from it who is gone, and marks nobody. sync: snapshot marks whom the list no longer shows."}, nil
	case err == nil:
		return finding{OK, infoEndpoint + " finds a contact of the list, and answers 404 for an id that is nobody's.", "`sluice reconcile` can tell who is gone."}, nil
	case errors.As(err, &status) && status.Status != 429:
		return finding{
			Note, fmt.Sprintf("%s finds a contact of the list, and answers %d%s for an id that is nobody's, where 404 is expected.", infoEndpoint, status.Status, quote(status.Body)),
			"`sluice reconcile` takes a 404 alone for a contact that is gone, and stops at anything else. sync: snapshot marks whom the list no longer shows.",
		}, nil
	}
	if f, is := denied(err, infoEndpoint, noReconcile); is {
		return f, nil
	}
	return finding{}, err
}

func (e *exam) exists(ctx context.Context, id string) (found bool, err error) {
	err = e.lookUp(ctx, func(c *extract.Client) (err error) {
		_, found, err = c.Contact(ctx, id)
		return err
	})
	return found, err
}

// listed are two contacts of the first page, one where there are no more.
func (e *exam) listed() []string {
	var ids []string
	for _, r := range e.first.rows {
		if r.id != "" {
			ids = append(ids, r.id)
		}
	}
	if len(ids) > 2 {
		ids = []string{ids[len(ids)-1], ids[0]}
	}
	return ids
}
