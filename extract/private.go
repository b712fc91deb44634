package extract

import "net/url"

// fieldValue is the parameter that holds what somebody's custom field says.
const fieldValue = "custom_field_value"

// shown is a request as errors and records name it.
func (c *Client) shown(u *url.URL) string {
	query := u.Query()
	if !c.source.Private || !query.Has(fieldValue) {
		return u.RequestURI()
	}
	query.Set(fieldValue, "***")
	hidden := *u
	hidden.RawQuery = query.Encode()
	return hidden.RequestURI()
}

// mayShow reports whether the start of an answer that is not 200 may stand in
// an error. A server that fails half-way may have begun with contacts, and one
// that refuses a parameter repeats it.
func (c *Client) mayShow(k *call, body []byte) bool {
	return !c.source.Private || !mayHoldContacts(body) && !k.url.Query().Has(fieldValue)
}
