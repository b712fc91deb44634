package doctor

import (
	"fmt"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/sandbox"
)

// withFields gives the contacts custom fields: one of the customer that most
// share, one of the same name in half of the tickets.
func withFields(e *endpoint) {
	for i := range e.contacts {
		c := &e.contacts[i]
		c.customer = map[string]string{"Plan": []string{"gold", "base", "base"}[i%3], "rut": fmt.Sprint("rut-", i)}
		if c.stage != "" {
			c.ticket = map[string]string{"Plan": []string{"base", "gold"}[i/2%2]}
		}
	}
}

func TestWhatFiltersMeanForTheConfiguration(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*endpoint)
		look   func(outcome)
	}{
		{"filters that hold", withFields, func(r outcome) {
			r.says("custom_field_key", OK, `one value of "Plan"`, "and no others", "sync: snapshot may leave it to the source")
			r.says("custom fields", OK, "nothing to set.")
			if c := r.check("custom fields"); strings.Contains(c.Means, "sync:") {
				t.Errorf("fields of both entities show: %s", c.Means)
			}
			if n := r.check("custom_field_key").Requests; n != 2 {
				t.Errorf("%d requests for both entities", n)
			}
		}},
		{"a custom field filter ignored", func(e *endpoint) { withFields(e); e.field = "ignored" }, func(r outcome) {
			r.says("custom_field_key", Note, "without that value", "sync: snapshot leaves this filter to the source, and would be wrong here", "on our side")
		}},
		{"a custom field filter that misses", func(e *endpoint) { withFields(e); e.field = "misses" }, func(r outcome) {
			r.says("custom_field_key", Note, "misses", "that have one value of", "on our side")
		}},
		{"a custom field filter refused", func(e *endpoint) { withFields(e); e.field = "refused" }, func(r outcome) {
			r.says("custom_field_key", Note, "custom_field_key is refused", "should not exist", "on our side")
		}},
		{"entity_type ignored", func(e *endpoint) {
			withFields(e)
			e.field = "entity"
			for i := range e.contacts {
				e.contacts[i].ticket = nil // the fields of customers alone show
			}
		}, func(r outcome) {
			r.says("custom_field_key", Note, "entity_type is not kept: with ticket", "has no effect")
			r.says("custom fields", OK, "None stands in a ticket", "entity_type: ticket would mark every contact as deleted", "sync: snapshot")
		}},
		{"fields of tickets alone", func(e *endpoint) {
			withFields(e)
			for i := range e.contacts {
				e.contacts[i].customer = nil
			}
		}, func(r outcome) {
			r.says("custom_field_key", OK, "entity_type ticket")
			r.says("custom fields", OK, "entity_type: customer would mark every contact as deleted")
		}},
		{"no custom fields in the list", nil, func(r outcome) {
			r.says("custom_field_key", Unknown, "No two contacts")
			r.says("custom fields", Note, "a filter by custom field would mark every contact as deleted", "sync: snapshot, where the source does")
		}},
		{"values that nobody shares", func(e *endpoint) {
			for i := range e.contacts {
				e.contacts[i].customer = map[string]string{"rut": fmt.Sprint("rut-", i)}
			}
		}, func(r outcome) {
			r.says("custom_field_key", Unknown, "No two contacts")
		}},
		{"a pipeline filter ignored", func(e *endpoint) { e.pipeline = "ignored" }, func(r outcome) {
			r.says("pipeline_id", Note, "in a stage of another pipeline or in none", "sync: snapshot", "filters.pipeline_id on our side")
		}},
		{"a pipeline filter that misses", func(e *endpoint) { e.pipeline = "misses" }, func(r outcome) {
			r.says("pipeline_id", Note, "misses", "on our side")
		}},
		{"a stage that no pipeline lists", func(e *endpoint) {
			e.pipelines = `{"data":[{"id":"` + pipelineA + `","stages":[{"id":"` + stageA + `"}]}]}`
		}, func(r outcome) {
			r.says("pipelines", Note, "30 of 60 contacts", "no pipeline lists", "filters.stage_id")
			r.says("pipeline_id", OK)
		}},
		{"no pipelines", func(e *endpoint) { e.pipelines, e.stage = `[]`, "ignored" }, func(r outcome) {
			r.says("pipelines", Note, "0 pipelines", "no pipeline lists")
			r.says("pipeline_id", Unknown, "a pipeline that is listed")
			r.says("stage_id", Note, "sync: snapshot", "sync: incremental and recent apply filters.stage_id on our side")
		}},
		{"a list of something else", func(e *endpoint) { e.pipelines = `{"status":"ok"}` }, func(r outcome) {
			r.says("pipelines", Note, "answers with something else", "filters.pipeline_id works with sync: snapshot alone")
			r.says("pipeline_id", Unknown)
			r.says("contact by id", OK) // it goes on
		}},
		{"no right to the list", func(e *endpoint) {
			e.before = func(_ *endpoint, r *http.Request, w http.ResponseWriter) bool {
				if denied := strings.HasSuffix(r.URL.Path, "/pipeline"); denied {
					fail(w, http.StatusForbidden, "not for this key")
					return true
				}
				return false
			}
		}, func(r outcome) {
			r.says("pipelines", Note, "status 403", "not for this key", "filters.stage_id in its place")
		}},
		{"an info endpoint that is not there", func(e *endpoint) { e.info = "gone" }, func(r outcome) {
			r.says("contact by id", Note, "answers 404 for 2 contacts of the list", "reconcile", "marks nobody", "sync: snapshot")
			if n := r.check("contact by id").Requests; n != 2 {
				t.Errorf("%d requests", n)
			}
		}},
		{"an info endpoint about others", func(e *endpoint) { e.info = "other" }, func(r outcome) {
			r.says("contact by id", Note, "answers with something else", "about contact", "marks nobody")
		}},
		{"an info endpoint that knows everybody", func(e *endpoint) { e.info = "anybody" }, func(r outcome) {
			r.says("contact by id", Note, "an id that is nobody's", "cannot tell from it who is gone")
		}},
		{"an unknown id refused", func(e *endpoint) { e.noInfo = http.StatusBadRequest }, func(r outcome) {
			r.says("contact by id", Note, "answers 400", "where 404 is expected", "takes a 404 alone")
		}},
		{"an unknown id that is a fault", func(e *endpoint) { e.noInfo = http.StatusInternalServerError }, func(r outcome) {
			r.says("contact by id", Note, "answers 500", "where 404 is expected")
		}},
		{"a contact deleted meanwhile", func(e *endpoint) {
			e.before = func(e *endpoint, r *http.Request, w http.ResponseWriter) bool {
				last := e.contacts[len(e.contacts)-1].updated
				for _, c := range e.contacts {
					last = max(last, c.updated)
				}
				for _, c := range e.contacts {
					if c.updated == last && strings.Contains(r.URL.Path, c.id) {
						fail(w, http.StatusNotFound, "gone")
						return true
					}
				}
				return false
			}
		}, func(r outcome) {
			r.says("contact by id", OK, "can tell who is gone")
			if n := r.check("contact by id").Requests; n != 3 {
				t.Errorf("%d requests", n)
			}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.look(ofEndpoint(t, Options{}, c.change))
		})
	}
}

func TestAValueOfACustomFieldIsNotInTheReport(t *testing.T) {
	t.Parallel()
	for _, mode := range []string{"", "ignored", "refused", "echoed", "down"} {
		r := ofEndpoint(t, Options{}, func(e *endpoint) {
			withFields(e)
			for i := range e.contacts {
				e.contacts[i].customer["Plan"] = strings.ReplaceAll(e.contacts[i].customer["Plan"], "base", "private matter")
				e.contacts[i].ticket = nil
			}
			e.field = mode
			e.before = func(_ *endpoint, r *http.Request, w http.ResponseWriter) bool {
				if !r.URL.Query().Has("custom_field_value") {
					return false
				}
				time.Sleep(50 * time.Second) // of the bubble: the slowest request is named
				switch mode {
				case "echoed":
					fail(w, http.StatusBadRequest, "no such value: "+r.URL.Query().Get("custom_field_value"))
				case "down":
					fail(w, http.StatusBadGateway, "no answer")
				}
				return mode == "echoed" || mode == "down"
			}
		})
		for _, c := range r.Checks {
			if strings.Contains(c.Found+c.Means, "private") {
				t.Errorf("%+v", c)
			}
		}
		switch mode {
		case "":
			r.says("response time", Note, "custom_field_value=...")
		case "down":
			r.says("custom_field_key", Unknown, "Could not be seen", "custom_field_value=...", "status 502")
		}
	}
}

func TestRecentRestsOnDaysAloneWhereDaysDoesNotCombine(t *testing.T) {
	t.Parallel()
	const combined, updated = "created_after with days", "updated_after with days"
	for _, c := range []struct {
		name   string
		o      Options
		change func(*endpoint)
		look   func(outcome)
	}{
		{"it combines", Options{}, nil, func(r outcome) {
			r.says(combined, OK, "sync: recent can rest on it")
			r.suggests(keyCombine, "")
		}},
		{"it combines, and the file says otherwise", Options{DaysAlone: true}, nil, func(r outcome) {
			r.says(updated, OK, "combine_filters: false is not needed")
			r.suggests(keyCombine, "combine_filters: true")
		}},
		{"ignored beside others", Options{}, func(e *endpoint) { e.days = "combined" }, func(r outcome) {
			r.says(combined, Note, "Set combine_filters: false", "newest message first")
			r.says(updated, Note, "Set combine_filters: false")
			r.suggests(keyCombine, "combine_filters: false")
		}},
		{"refused beside others", Options{}, func(e *endpoint) { e.refuseBoth = true }, func(r outcome) {
			r.says(combined, Note, "refused", "Set combine_filters: false")
			r.suggests(keyCombine, "combine_filters: false")
		}},
		{"ignored beside others, and the file says so", Options{DaysAlone: true}, func(e *endpoint) { e.days = "combined" }, func(r outcome) {
			r.says(combined, Note, "combine_filters: false is right")
			r.suggests(keyCombine, "")
		}},
		{"combined with one of the two alone", Options{DaysAlone: true}, func(e *endpoint) {
			e.before = func(_ *endpoint, r *http.Request, w http.ResponseWriter) bool {
				refuse := r.URL.Query().Has("days") && r.URL.Query().Has("created_after")
				if refuse {
					fail(w, http.StatusBadRequest, "not both")
				}
				return refuse
			}
		}, func(r outcome) {
			r.says(combined, Note, "refused")
			r.says(updated, OK)
			r.suggests(keyCombine, "")
		}},
		{"in no order either", Options{}, func(e *endpoint) { e.days, e.unordered = "combined", "days" }, func(r outcome) {
			r.says("order: days", Note, "sync: recent with combine_filters: false depends on it")
			r.says(combined, Note, "sync: recent cannot be used here", "not in order of last_message_at")
			r.suggests(keyCombine, "")
		}},
		{"a longer window refused", Options{}, func(e *endpoint) {
			e.days = "combined"
			for i := range 20 {
				e.contacts[i].message = afterHistory.Add(-time.Duration(i+1) * time.Minute).UnixMicro()
			}
			e.before = func(_ *endpoint, r *http.Request, w http.ResponseWriter) bool {
				q := r.URL.Query()
				refuse := q.Has("days") && q.Get("days") != "1" && !q.Has("created_after") && !q.Has("updated_after")
				if refuse {
					fail(w, http.StatusBadRequest, "days must not be greater than 1")
				}
				return refuse
			}
		}, func(r outcome) {
			r.says("order: days", Note, "is refused", "greater than 1")
			r.says(combined, Note, "sync: recent cannot be used here", "is refused")
			r.suggests(keyCombine, "")
		}},
		{"its window never kept", Options{}, func(e *endpoint) { e.days = "off" }, func(r outcome) {
			r.says("order: days", Note, "sync: recent would export more than it says")
			r.says(combined, Note, "sync: recent cannot be used here", "does not keep its window")
			r.suggests(keyCombine, "")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.look(ofEndpoint(t, c.o, c.change))
		})
	}
	r := ofSandbox(t, sandboxed(300, func(o *sandbox.Options) { o.DaysAlone = true }), Options{})
	r.says("order: days", OK)
	r.says(combined, Note, "Set combine_filters: false")
	r.suggests(keyCombine, "combine_filters: false")
}
