package doctor

import (
	"cmp"
	"encoding/json"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
)

// contact is one row of a hand-made endpoint; times in microseconds.
type contact struct {
	id                        string
	created, updated, message int64
	stage                     string
	customer, ticket          map[string]string // custom fields
	more                      map[string]any    // further fields, or others in place of those above
}

// endpoint is a small contacts endpoint with the faults that the sandbox does
// not have. Its zero faults are the documented behaviour over a clock of whole
// milliseconds.
type endpoint struct {
	clk      bubbleClock
	contacts []contact
	requests int

	inclusive    bool          // updated_after and created_after include the time itself
	finer        bool          // the clock behind is finer than printed
	cut          bool          // parameters are cut to milliseconds
	coarse       time.Duration // filters round the parameter up to this
	deaf         bool          // updated_after and created_after are ignored
	unordered    string        // a parameter that brings rows in order of id
	noOffset     bool
	days         string // "combined": ignored beside others; "off": always
	loses        bool   // days beside others loses half
	refuseBoth   bool   // 400 for two time filters
	refuseMicros bool
	most         int // limits above it are 400; 0 for none
	open         bool
	stage        string // "misses" or "ignored"
	pipeline     string // likewise
	field        string // likewise, "refused", or "entity": entity_type is ignored
	pipelines    string // the list; empty: two pipelines with a stage each
	info         string // "gone": 404 always; "other": another contact; "anybody": whoever is asked for
	noInfo       int    // status for an unknown id; 0: 404
	before       func(e *endpoint, r *http.Request, w http.ResponseWriter) (done bool)
	format       func(us int64) string
}

func newEndpoint(clk bubbleClock, n int) *endpoint {
	e := &endpoint{clk: clk, format: func(us int64) string { return time.UnixMicro(us).UTC().Format("2006-01-02T15:04:05.000Z") }}
	start, end := afterHistory.Add(-2*365*24*time.Hour).UnixMicro(), afterHistory.Add(-time.Hour).UnixMicro()
	random := rand.New(rand.NewPCG(1, 2))
	for i := range int64(n) {
		c := contact{id: fmt.Sprintf("%08x-0000-4000-8000-%012d", random.Uint32(), i), created: start + (end-start)/int64(n)*i/1000*1000}
		c.updated = c.created + random.Int64N(end-c.created)/1000*1000 + i*1000 // no two alike
		if random.IntN(5) > 0 {
			c.message = c.updated - random.Int64N(3)*1_000_000
		}
		if i%2 == 0 {
			c.stage = []string{stageA, stageB}[i/2%2]
		}
		e.contacts = append(e.contacts, c)
	}
	return e
}

func (e *endpoint) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.requests++
	w.Header().Set("Date", e.clk.Now().Format(http.TimeFormat))
	if e.before != nil && e.before(e, r, w) {
		return
	}
	if !e.open && r.Header.Get("X-Api-Key") != secret {
		fail(w, http.StatusUnauthorized, "no such key: "+r.Header.Get("X-Api-Key"))
		return
	}
	if r.URL.Path != "/api/public/contacts" {
		e.lookUp(w, r.URL.Path)
		return
	}
	rows, message := e.page(r.URL.Query())
	if message != "" {
		fail(w, http.StatusBadRequest, message)
		return
	}
	_ = json.NewEncoder(w).Encode(rows)
}

const (
	stageA, stageB       = "11111111-1111-4111-8111-111111111111", "22222222-2222-4222-8222-222222222222"
	pipelineA, pipelineB = "aaaaaaaa-1111-4111-8111-111111111111", "bbbbbbbb-2222-4222-8222-222222222222"
)

// lookUp answers what is no page.
func (e *endpoint) lookUp(w http.ResponseWriter, path string) {
	if path == "/api/public/pipeline" {
		_, _ = io.WriteString(w, cmp.Or(e.pipelines, `[{"id":"`+pipelineA+`","stages":[{"id":"`+stageA+`"}]},{"id":"`+pipelineB+`","name":"B","stages":[{"id":"`+stageB+`"}]}]`))
		return
	}
	id := strings.TrimSuffix(strings.TrimPrefix(path, "/api/public/contact/"), "/info")
	at := slices.IndexFunc(e.contacts, func(c contact) bool { return c.id == id })
	switch {
	case e.info == "other":
		at = 0
	case e.info == "anybody" && at < 0:
		_ = json.NewEncoder(w).Encode(map[string]string{"id": id})
		return
	}
	if at < 0 || e.info == "gone" {
		fail(w, cmp.Or(e.noInfo, http.StatusNotFound), "no such contact")
		return
	}
	_ = json.NewEncoder(w).Encode(e.render(e.contacts[at]))
}

func fail(w http.ResponseWriter, status int, message string) {
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"statusCode": status, "message": message})
}

func (e *endpoint) page(q url.Values) (rows []map[string]any, refusal string) {
	limit, offset := 100, 0
	if q.Has("limit") {
		limit, _ = strconv.Atoi(q.Get("limit"))
	}
	if !e.noOffset {
		offset, _ = strconv.Atoi(q.Get("offset"))
	}
	filters := 0
	for _, name := range []string{"updated_after", "created_after", "days"} {
		if q.Has(name) {
			filters++
		}
		if e.refuseMicros && len(q.Get(name)) > len("2006-01-02T15:04:05.000Z") {
			return nil, name + " must be ISO 8601"
		}
	}
	switch {
	case e.most > 0 && limit > e.most:
		return nil, "limit must not be greater than " + strconv.Itoa(e.most)
	case e.field == "refused" && q.Has("custom_field_key"):
		return nil, "custom_field_key should not exist"
	case e.refuseBoth && filters > 1:
		return nil, "give one of days, created_after, updated_after"
	}
	var kept []contact
	for i, c := range e.contacts {
		if e.keeps(c, q, filters) && (!e.loses || filters < 2 || !q.Has("days") || i%2 != 0) {
			kept = append(kept, c)
		}
	}
	slices.SortStableFunc(kept, e.order(q))
	rows = []map[string]any{}
	for _, c := range kept[min(offset, len(kept)):min(offset+limit, len(kept))] {
		rows = append(rows, e.render(c))
	}
	return rows, ""
}

func (e *endpoint) order(q url.Values) func(a, b contact) int {
	for _, name := range []string{"updated_after", "created_after", "days"} {
		if !q.Has(name) {
			continue
		}
		switch {
		case e.unordered == name:
			return func(a, b contact) int { return cmp.Compare(a.id, b.id) }
		case name == "updated_after":
			return func(a, b contact) int { return cmp.Compare(a.updated, b.updated) }
		case name == "created_after":
			return func(a, b contact) int { return cmp.Compare(a.created, b.created) }
		}
	}
	return func(a, b contact) int { return cmp.Compare(b.message, a.message) }
}

func (e *endpoint) keeps(c contact, q url.Values, filters int) bool {
	after := func(name string, us int64) bool {
		if !q.Has(name) || e.deaf {
			return true
		}
		t, err := time.Parse(time.RFC3339Nano, q.Get(name))
		if err != nil {
			return false
		}
		given := t.UnixMicro()
		if e.cut {
			given -= given % 1000
		}
		if unit := e.coarse.Microseconds(); unit > 0 && given > 0 {
			given = (given + unit - 1) / unit * unit
		}
		if e.finer {
			us += 417
		}
		return us > given || e.inclusive && us == given
	}
	if !after("updated_after", c.updated) || !after("created_after", c.created) {
		return false
	}
	if q.Has("stage_id") && e.stage != "ignored" {
		if c.stage != q.Get("stage_id") || e.stage == "misses" && len(c.id)%2 == 0 && c.created%7 < 3 {
			return false
		}
	}
	if q.Has("pipeline_id") && e.pipeline != "ignored" {
		if c.stage == "" || (q.Get("pipeline_id") == pipelineA) != (c.stage == stageA) || e.pipeline == "misses" && c.created%7 < 3 {
			return false
		}
	}
	if !e.keepsField(c, q) {
		return false
	}
	if !q.Has("days") || e.days == "off" || e.days == "combined" && filters > 1 {
		return true
	}
	days, _ := strconv.Atoi(q.Get("days"))
	return c.message > e.clk.Now().Add(-time.Duration(days)*24*time.Hour).UnixMicro()
}

func (e *endpoint) keepsField(c contact, q url.Values) bool {
	if !q.Has("custom_field_key") || e.field == "ignored" {
		return true
	}
	if e.field == "misses" && c.created%7 < 3 {
		return false
	}
	key, value, entity := q.Get("custom_field_key"), q.Get("custom_field_value"), q.Get("entity_type")
	if e.field == "entity" {
		entity = ""
	}
	return c.customer[key] == value && entity != "ticket" || c.ticket[key] == value && entity != "customer"
}

func (e *endpoint) render(c contact) map[string]any {
	row := map[string]any{
		"id": c.id, "name": "N", "phone": nil, "email": nil, "platform": "whatsapp", "last_message_at": nil, "chat_status": "ATTENDED",
		"created_at": e.format(c.created), "updated_at": e.format(c.updated),
		"client_id": "c", "ai_customer_id": "a", "default_stage_id": nil, "blocked": false, "is_chat_read": true, "active_ticket_v2": nil,
	}
	if c.message > 0 {
		row["last_message_at"] = e.format(c.message)
	}
	if c.stage != "" {
		row["active_ticket_v2"] = map[string]any{"id": "t", "current_stage_id": c.stage}
	}
	if c.customer != nil {
		row["metadata"] = c.customer
	}
	if c.ticket != nil {
		row["active_ticket_v2"] = map[string]any{"id": "t", "current_stage_id": c.stage, "custom_fields": c.ticket}
	}
	for name, v := range c.more {
		row[name] = v
	}
	return row
}
