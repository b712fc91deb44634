package doctor

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/sandbox"
)

func TestAnEndpointAsDocumentedHasNoProblems(t *testing.T) {
	t.Parallel()
	r := ofEndpoint(t, Options{}, nil)
	for _, c := range r.Checks {
		switch c.Name {
		case "page cap", "tie order", "late rows": // too little happens there to tell
		case "custom fields", "custom_field_key": // it has none
		default:
			if c.Status != OK {
				t.Errorf("%+v", c)
			}
		}
	}
	if len(r.Suggestions) > 0 {
		t.Errorf("suggestions: %+v", r.Suggestions)
	}
	if r.Source != "https://crm.test" {
		t.Errorf("source %q", r.Source)
	}
}

func TestTheSandboxIsSeenAsItIs(t *testing.T) {
	t.Parallel()
	r := ofSandbox(t, sandboxed(1050, nil), Options{})
	r.says("reachable", OK, "1,000 contacts")
	r.says("key", OK, "without a key the endpoint answers 401")
	r.says("order: updated_after", OK, "ascending by updated_at")
	r.says("order: created_after", OK, "ascending by created_at")
	r.says("order: days", OK, "descending by last_message_at")
	r.says("page cap", OK, "limit=1000 brings 1,000 contacts")
	r.says("limit and offset", OK)
	r.says("default limit", OK, "100 contacts")
	r.says("strictness: updated_after", OK, "finer than the milliseconds")
	r.says("strictness: created_after", OK, "finer than the milliseconds")
	r.says("created_after with days", OK, "ascending by created_at", "sync: recent can rest on it")
	r.suggests(keyCombine, "")
	r.says("updated_after with days", OK, "ascending by updated_at")
	r.says("created_after with updated_after", OK)
	r.says("stage_id", OK, "sync: snapshot may leave it to the source")
	r.says("pipelines", OK, "every stage that", "can be applied on our side")
	r.says("pipeline_id", OK, "in a stage of the pipeline", "sync: snapshot")
	r.says("custom_field_key", OK, "that have one value of", "sync: snapshot")
	r.says("contact by id", OK, "answers 404", "can tell who is gone")
	r.says("activity moves updated_at", Note, "do not always move updated_at", "full_every")
	r.suggests(keyFullEvery, "full_every: 7d")
	r.says("timestamps in the future", OK)
	r.says("wrapping", OK, "a bare array")
	r.says("printed precision", OK, "3 (")
	r.says("required fields", OK)
	r.says("platforms", OK)
	r.says("custom fields", OK, "active_ticket_v2.custom_fields (object)", "custom_field_values (pairs)", "metadata (object)")
	r.says("clock", OK, "agree")
	r.says("rate limit", OK, "No answer names a limit. No 429")
	if r.Count(Problem) > 0 || r.sent > 36 {
		t.Errorf("%d problems, %d requests", r.Count(Problem), r.sent)
	}
}

func TestOptionsOfTheSandboxShow(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		size   int
		change func(*sandbox.Options)
		o      Options
		look   func(outcome)
	}{
		{"a cap", 220, func(o *sandbox.Options) { o.PageCap = 150 }, Options{}, func(r outcome) {
			r.says("page cap", Note, "at most 150 contacts", "page_size: 150")
			r.suggests(keyPageSize, "page_size: 150")
			r.says("created_after with days", OK)
		}},
		{"a cap that the configuration keeps to", 220, func(o *sandbox.Options) { o.PageCap = 150 }, Options{PageSize: 100}, func(r outcome) {
			r.says("page cap", Note, "at most 150 contacts")
			r.suggests(keyPageSize, "")
		}},
		{"longer pages", 1010, func(o *sandbox.Options) { o.PageExtra = 3 }, Options{}, func(r outcome) {
			r.says("page cap", Note, "limit=1000 brings 1,003 contacts: more")
			r.says("limit and offset", Note, "brings 13 contacts", "longer than asked")
			r.says("default limit", Note, "103")
		}},
		{"fewer contacts than a page", 150, nil, Options{PageSize: 120}, func(r outcome) {
			r.says("page cap", OK, "all there are", "page_size (120) come whole")
		}},
		{"ties in a new order", 80, func(o *sandbox.Options) { o.UpdatedTies, o.ShuffleTies = 40, true }, Options{}, func(r outcome) {
			r.says("tie order", Note, "40 contacts with updated_at 2026-06-15T15:00:00.654Z", "in another order", "statistically")
			r.says("order: updated_after", OK)
			r.says("limit and offset", OK)
		}},
		{"ties that keep their order", 80, func(o *sandbox.Options) { o.CreatedTies = 40 }, Options{}, func(r outcome) {
			r.says("tie order", OK, "40 contacts with created_at 2024-03-10T12:30:00.123Z", "the same in 2 repeats")
		}},
		{"contacts of one time alone", 200, func(o *sandbox.Options) { o.UpdatedTies, o.CreatedTies = 200, 200 }, Options{}, func(r outcome) {
			r.says("order: updated_after", Unknown, "no more than 1 distinct time of updated_at")
			r.says("strictness: updated_after", Unknown, "no two times more than a second apart")
			r.says("tie order", OK, "200 contacts")
		}},
		{"data wraps", 60, func(o *sandbox.Options) { o.Wrap = "data" }, Options{}, func(r outcome) {
			r.says("wrapping", Note, `{"data": ...}`, "reads all three")
		}},
		{"contacts wraps", 60, func(o *sandbox.Options) { o.Wrap = "contacts" }, Options{}, func(r outcome) {
			r.says("wrapping", Note, `{"contacts": ...}`)
		}},
		{"disorder", 80, func(o *sandbox.Options) { o.FaultDisorder = sandbox.Rate{Every: 1} }, Options{}, func(r outcome) {
			r.says("order: updated_after", Problem, "Not ascending by updated_at", "row 1 of ?limit=1000", "in no order", "cannot export")
			r.says("order: created_after", Problem)
			r.says("order: days", Note)
			r.says("strictness: updated_after", Unknown, "rests on the order")
			r.says("tie order", Unknown, "rests on the order")
		}},
		{"disorder now and then", 80, func(o *sandbox.Options) { o.FaultDisorder, o.FaultLimit = sandbox.Rate{Every: 1}, 1 }, Options{}, func(r outcome) {
			r.says("order: updated_after", Note, "Asked for again it was in order")
			r.says("strictness: updated_after", OK)
		}},
		{"no Date", 60, func(o *sandbox.Options) { o.Date = "off" }, Options{}, func(r outcome) {
			r.says("clock", Note, "no Date", "printed times")
			r.says("late rows", Unknown, "source's time")
		}},
		{"a cached Date", 60, func(o *sandbox.Options) { o.Date = "cached" }, Options{}, func(r outcome) {
			r.says("clock", Note, "from a cache", "yesterday's")
		}},
		{"a clock ahead", 60, func(o *sandbox.Options) { o.Skew = 5 * time.Minute }, Options{}, func(r outcome) {
			r.says("clock", Note, "5 min ahead of this machine's", "lookback covers it")
			r.suggests(keyLookback, "")
		}},
		{"a clock ahead of more than the lookback", 60, func(o *sandbox.Options) { o.Skew = 5 * time.Minute }, Options{Lookback: time.Minute}, func(r outcome) {
			r.says("clock", Problem, "more than the lookback of 1 min", "NTP")
			r.suggests(keyLookback, "lookback: 10m")
		}},
		{"a clock behind", 60, func(o *sandbox.Options) { o.Skew = -3 * time.Hour }, Options{}, func(r outcome) {
			r.says("clock", Problem, "3 h behind this machine's", "lookback of 1 h")
		}},
		{"latency does not pass for skew", 60, func(o *sandbox.Options) { o.Latency, o.Skew = 25*time.Second, 10*time.Second }, Options{}, func(r outcome) {
			r.says("clock", OK, "+10 s to +11 s by")
			r.says("response time", Note, "25 s on average", "response_timeout")
			r.suggests(keyResponseTimeout, "response_timeout: 3m")
		}},
		{"the future", 80, func(o *sandbox.Options) { o.Future = 7 }, Options{}, func(r outcome) {
			r.says("timestamps in the future", Note, "7 contacts with an updated_at in the future", "2099", "never become a cursor")
		}},
		{"late rows", 80, func(o *sandbox.Options) {
			o.UpdatesPerRequest, o.LateShare, o.LateRequests, o.ClockStep = 1, 1, 8, 10*time.Second
		}, Options{}, func(r outcome) {
			r.says("late rows", Note, "became visible at least", "lookback covers")
		}},
		{"rows later than the lookback", 80, func(o *sandbox.Options) {
			o.UpdatesPerRequest, o.LateShare, o.LateRequests, o.ClockStep = 1, 1, 8, 10*time.Second
		}, Options{Lookback: 5 * time.Second}, func(r outcome) {
			r.says("late rows", Problem, "missed with the lookback of 5 s", "Set lookback: ")
		}},
		{"rows that are not late", 80, func(o *sandbox.Options) { o.UpdatesPerRequest, o.ClockStep = 1, 10*time.Second }, Options{}, func(r outcome) {
			r.says("late rows", OK, "none of them became visible after", "No proof")
		}},
		{"one contact", 1, nil, Options{}, func(r outcome) {
			r.says("reachable", OK, "1 contact.")
			r.says("order: updated_after", Unknown, "too few")
			r.says("limit and offset", Unknown, "too few")
		}},
		{"no contact", 0, nil, Options{}, func(r outcome) {
			r.says("reachable", Note, "0 contacts", "another account")
			r.says("required fields", Unknown, "No contacts")
			r.says("page cap", Unknown, "no contacts")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.look(ofSandbox(t, sandboxed(c.size, c.change), c.o))
		})
	}
}

func TestFaultsAreRepeatedWithinTheBudget(t *testing.T) {
	t.Parallel()
	r := ofSandbox(t, sandboxed(130, func(o *sandbox.Options) {
		// Even numbers alone: never two in a row.
		o.Fault500, o.Fault502, o.FaultTruncate, o.FaultReset = sandbox.Rate{Every: 6}, sandbox.Rate{Every: 10}, sandbox.Rate{Every: 14}, sandbox.Rate{Every: 22}
		o.Fault429, o.RetryAfterDelay = sandbox.Rate{Every: 8}, 20*time.Second
	}), Options{Budget: 60})
	r.says("order: updated_after", OK)
	r.says("strictness: updated_after", OK)
	r.says("rate limit", Note, "429 came", "Retry-After up to 20 s", "status 500", "status 502", "broken page", "connection")
	r.suggests(keyRate, "")
	if r.took < 20*time.Second {
		t.Errorf("took %s: Retry-After was cut short", r.took)
	}
}

func TestARateLimitIsMetAndReported(t *testing.T) {
	t.Parallel()
	o := Options{Budget: 100}
	o.Source.RequestsPerSecond = 10
	r := ofSandbox(t, sandboxed(130, func(o *sandbox.Options) { o.RateLimit, o.RateBurst = 2, 4 }), o)
	r.says("rate limit", Note, "429 came", "with Retry-After up to 1 s", "requests_per_second: 5")
	r.suggests(keyRate, "requests_per_second: 5")
	r.says("updated_after with days", OK)
}

// Whatever the budget and the faults, no more requests are sent; examine
// compares what was sent with the report and the budget.
func TestTheBudgetIsNeverExceeded(t *testing.T) {
	t.Parallel()
	for _, budget := range []int{1, 2, 7, 33} {
		for name, change := range map[string]func(*sandbox.Options){
			"calm":     nil,
			"few":      func(o *sandbox.Options) { o.Contacts = 20 },
			"disorder": func(o *sandbox.Options) { o.FaultDisorder = sandbox.Rate{Every: 2} },
			"faults":   func(o *sandbox.Options) { o.Fault500, o.FaultTruncate = sandbox.Rate{Every: 2}, sandbox.Rate{Every: 3} },
			"down":     func(o *sandbox.Options) { o.Fault502 = sandbox.Rate{Every: 1} },
		} {
			t.Run(fmt.Sprintf("%s with %d", name, budget), func(t *testing.T) {
				t.Parallel()
				r := ofSandbox(t, sandboxed(70, change), Options{Budget: budget})
				if name == "calm" && budget < 20 {
					r.says("late rows", Unknown, "Not asked", fmt.Sprintf("of %d are left", budget), "--budget ")
				}
			})
		}
	}
}

func TestTheBudgetThatIsNamedReachesTheCheck(t *testing.T) {
	t.Parallel()
	r := ofSandbox(t, sandboxed(130, nil), Options{Budget: 12})
	var need int
	if _, err := fmt.Sscanf(r.check("stage_id").Means, "--budget %d", &need); err != nil {
		t.Fatalf("%v in %+v", err, r.check("stage_id"))
	}
	ofSandbox(t, sandboxed(130, nil), Options{Budget: need}).says("stage_id", OK)
}

func TestAWrongKeyIsToldFromAnUnreachableHost(t *testing.T) {
	t.Parallel()
	o := Options{}
	o.Source.APIKey = "wrong-key-0123456789"
	r := ofSandbox(t, sandboxed(10, nil), o)
	r.says("reachable", OK, "status 401")
	r.says("key", Problem, "missing or wrong", "check api_key")
	r.says("order: updated_after", Unknown, "refused the key")
	if r.sent != 1 {
		t.Errorf("%d requests after the key was refused", r.sent)
	}
	r = ofEndpoint(t, Options{}, func(e *endpoint) {
		e.before = func(_ *endpoint, _ *http.Request, w http.ResponseWriter) bool {
			fail(w, http.StatusForbidden, "not for "+secret)
			return true
		}
	})
	r.says("key", Problem, "may not read contacts", "[redacted]")
}

func TestWhatAnEndpointDoesWrongIsFound(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name   string
		change func(*endpoint)
		look   func(outcome)
	}{
		{"filters that include the time itself", func(e *endpoint) { e.inclusive = true }, func(r outcome) {
			r.says("strictness: updated_after", Note, "From 1 us later it does not", "includes the time itself", "nothing to set")
			r.says("strictness: created_after", Note)
		}},
		{"a finer clock", func(e *endpoint) { e.finer = true }, func(r outcome) {
			r.says("strictness: updated_after", OK, "finer than the milliseconds printed")
		}},
		{"parameters cut to milliseconds", func(e *endpoint) { e.finer, e.cut = true, true }, func(r outcome) {
			r.says("strictness: updated_after", Note, "cut to milliseconds")
		}},
		{"microseconds refused", func(e *endpoint) { e.finer, e.refuseMicros = true, true }, func(r outcome) {
			r.says("strictness: updated_after", Note, "Microseconds in the parameter are refused", "must be ISO 8601")
		}},
		{"a filter that rounds up loses rows", func(e *endpoint) { e.coarse = 24 * time.Hour }, func(r outcome) {
			r.says("strictness: updated_after", Problem, "does not bring the contacts printed", "lost between two pages")
		}},
		{"filters without effect", func(e *endpoint) { e.deaf = true }, func(r outcome) {
			r.says("strictness: updated_after", Problem, "ignored or rounded")
			r.says("strictness: created_after", Problem, "ignored or rounded")
			r.says("created_after with updated_after", Note, "created_after is not kept", "updated_after is not kept")
			r.says("timestamps in the future", OK)
		}},
		{"an order ignored", func(e *endpoint) { e.unordered = "updated_after" }, func(r outcome) {
			r.says("order: updated_after", Problem, "in no order that can be told")
			r.says("order: created_after", OK)
			r.says("updated_after with days", Note, "order is not ascending by updated_at")
		}},
		{"another order", func(e *endpoint) {
			for i := range e.contacts {
				e.contacts[i].id = fmt.Sprintf("%036d", e.contacts[i].created)
			}
			e.unordered = "updated_after"
		}, func(r outcome) {
			r.says("order: updated_after", Problem, "That page is ascending by created_at")
		}},
		{"offset ignored", func(e *endpoint) { e.noOffset = true }, func(r outcome) {
			r.says("limit and offset", Problem, "offset is ignored")
		}},
		{"days ignored beside others", func(e *endpoint) { e.days = "combined" }, func(r outcome) {
			r.says("order: days", OK)
			r.says("created_after with days", Note, "days is not kept", "Set combine_filters: false")
			r.says("updated_after with days", Note, "days is not kept")
		}},
		{"days ignored", func(e *endpoint) { e.days = "off" }, func(r outcome) {
			r.says("order: days", Note, "had no message within 1 day", "never")
		}},
		{"nothing that days could keep out", func(e *endpoint) {
			e.days = "combined"
			for i := range e.contacts {
				e.contacts[i].message = afterHistory.Add(-time.Duration(i) * time.Second).UnixMicro()
			}
		}, func(r outcome) {
			r.says("created_after with days", Unknown, "days alone keeps out: it may be ignored")
		}},
		{"no answer without a key", func(e *endpoint) {
			e.before = func(_ *endpoint, r *http.Request, w http.ResponseWriter) bool {
				if r.Header.Get("X-Api-Key") == "" {
					fail(w, http.StatusBadGateway, "off")
				}
				return r.Header.Get("X-Api-Key") == ""
			}
		}, func(r outcome) {
			r.says("key", OK, "answers 502, where 401 is documented")
		}},
		{"a combination that loses rows", func(e *endpoint) { e.loses = true }, func(r outcome) {
			r.says("created_after with days", Note, "known to match are missing")
		}},
		{"combinations refused", func(e *endpoint) { e.refuseBoth = true }, func(r outcome) {
			r.says("created_after with days", Note, "refused", "give one of days")
			r.says("updated_after with days", Note, "refused")
			r.says("created_after with updated_after", Note, "refused")
		}},
		{"a large limit refused", func(e *endpoint) { e.most = 250 }, func(r outcome) {
			r.says("page cap", Problem, "limit=1000 is refused", "greater than 250", "limit=100 brings 100")
			r.suggests(keyPageSize, "page_size: 100")
			r.says("strictness: updated_after", OK)
		}},
		{"no key needed", func(e *endpoint) { e.open = true }, func(r outcome) {
			r.says("key", Note, "without a key brings 1 contact too", "cache, a proxy")
		}},
		{"a stage filter that misses", func(e *endpoint) { e.stage = "misses" }, func(r outcome) {
			r.says("stage_id", Note, "misses", "on our side")
		}},
		{"a stage filter ignored", func(e *endpoint) { e.stage = "ignored" }, func(r outcome) {
			r.says("stage_id", Note, "in another stage or in none")
		}},
		{"messages that leave updated_at alone", func(e *endpoint) {
			for i := range e.contacts {
				if c := &e.contacts[i]; c.message > 0 && i%2 == 0 {
					c.message = afterHistory.Add(-time.Duration(i) * time.Minute).UnixMicro()
				}
			}
		}, func(r outcome) {
			r.says("activity moves updated_at", Note, "later than updated_at, by up to", "misses")
			r.suggests(keyFullEvery, "full_every: 7d")
		}},
		{"whole seconds", func(e *endpoint) {
			e.format = func(us int64) string { return time.UnixMicro(us).UTC().Format("2006-01-02T15:04:05Z") }
		}, func(r outcome) {
			r.says("printed precision", Note, "whole seconds")
		}},
		{"another zone", func(e *endpoint) {
			zone := time.FixedZone("", -3*3600)
			e.format = func(us int64) string { return time.UnixMicro(us).In(zone).Format("2006-01-02T15:04:05.000000-07:00") }
		}, func(r outcome) {
			r.says("printed precision", Note, "6 (", "Zone: -03:00", "Three digits and Z are documented")
			r.says("order: updated_after", OK)
		}},
		{"times without a zone", func(e *endpoint) {
			e.format = func(us int64) string { return time.UnixMicro(us).UTC().Format("2006-01-02 15:04:05.000") }
		}, func(r outcome) {
			r.says("required fields", Problem, "no usable created_at", "quarantine")
			r.says("printed precision", Unknown)
			r.says("order: updated_after", Unknown)
		}},
		{"nulls and news", func(e *endpoint) {
			e.contacts[3].more = map[string]any{"updated_at": nil}
			e.contacts[4].more = map[string]any{"id": nil, "name": nil}
			e.contacts[5].more = map[string]any{"platform": "carrier-pigeon", "tags": []string{"a"}, "metadata": "text"}
			e.contacts[6].more = map[string]any{"custom_field_values": []any{map[string]any{"key": "Plan", "value": 1}}}
		}, func(r outcome) {
			r.says("required fields", Note, "id (1 contact)", "updated_at (1 contact)", "name (1 contact)", "quarantine")
			r.says("platforms", Note, `"carrier-pigeon" (1 contact)`)
			r.says("custom fields", Note, "not documented: tags", "metadata (unknown form)", "custom_field_values (pairs): 1 key in 1 contact")
		}},
		{"a named limit", func(e *endpoint) {
			e.before = func(_ *endpoint, _ *http.Request, w http.ResponseWriter) bool {
				w.Header().Set("RateLimit-Policy", `"default";q=90;w=60`)
				return false
			}
		}, func(r outcome) {
			r.says("rate limit", Note, `ratelimit-policy: "default";q=90;w=60`, "requests_per_second: 1.5")
			r.suggests(keyRate, "requests_per_second: 1.5")
		}},
		{"a limit with a reset", func(e *endpoint) {
			e.before = func(e *endpoint, _ *http.Request, w http.ResponseWriter) bool {
				w.Header().Set("X-RateLimit-Limit", "120")
				w.Header().Set("X-RateLimit-Reset", fmt.Sprint(max(1, 61-e.requests)))
				return false
			}
		}, func(r outcome) {
			r.says("rate limit", Note, "x-ratelimit-limit: 120")
			r.suggests(keyRate, "requests_per_second: 2")
		}},
		{"a key that is echoed", func(e *endpoint) {
			e.contacts[9].more = map[string]any{"platform": secret, secret: true}
		}, func(r outcome) {
			r.says("platforms", Note, "[redacted]")
		}},
		{"clocks that disagree", func(e *endpoint) {
			e.before = func(e *endpoint, _ *http.Request, w http.ResponseWriter) bool {
				if e.requests%2 == 0 {
					w.Header().Set("Date", e.clk.Now().Add(time.Minute).Format(http.TimeFormat))
				}
				return false
			}
		}, func(r outcome) {
			r.says("clock", Note, "disagree with each other")
		}},
		{"an endpoint that goes down", func(e *endpoint) {
			e.before = func(e *endpoint, _ *http.Request, w http.ResponseWriter) bool {
				if e.requests > 6 {
					fail(w, http.StatusBadGateway, "gone")
				}
				return e.requests > 6
			}
		}, func(r outcome) {
			r.says("reachable", OK)
			r.says("order: created_after", Unknown, "Could not be seen: after 3 attempts", "status 502")
			r.says("stage_id", Unknown, "3 requests in a row had failed")
			r.says("rate limit", Note, "status 502")
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.look(ofEndpoint(t, Options{}, c.change))
		})
	}
}

func TestWhatIsNoEndpointIsNamed(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		name    string
		handler func(bubbleClock) http.Handler
		words   []string
		most    int // requests
	}{
		{"HTML", answers(200, "text/html", "<!doctype html><title>Log in</title>"), []string{"answers with HTML", "Log in", "proxy or login page"}, 3},
		{"other JSON", answers(200, "application/json", `{"status":"ok"}`), []string{"not with contacts", "source's url"}, 3},
		{"nothing there", answers(404, "application/json", `{"message":"Cannot GET"}`), []string{"status 404", "path /api/public/contacts"}, 1},
		{"down", answers(503, "text/html", "<html>maintenance</html>"), []string{"status 503", "later"}, 3},
		{"all refused", answers(400, "application/json", `{"message":"no"}`), []string{"status 400"}, 2},
		{"elsewhere", func(bubbleClock) http.Handler {
			return http.RedirectHandler("https://elsewhere.test/", http.StatusFound)
		}, []string{"redirects", "elsewhere.test", "set it as the source's url"}, 1},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := Options{}
			o.Source.APIKey = secret
			r := examine(t, o, c.handler)
			r.says("reachable", Problem, c.words...)
			r.says("key", Unknown, "first request brought no contacts")
			if r.sent > c.most {
				t.Errorf("%d requests, want at most %d", r.sent, c.most)
			}
		})
	}
}

func TestTroubleOfTheNetworkIsNamed(t *testing.T) {
	t.Parallel()
	tls := httptest.NewUnstartedServer(http.NotFoundHandler())
	tls.Config.ErrorLog = log.New(io.Discard, "", 0) // it would print the handshake that the test is about
	tls.StartTLS()
	plain := httptest.NewServer(http.NotFoundHandler())
	t.Cleanup(func() { tls.Close(); plain.Close() })
	closed, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	gone := closed.Addr().String()
	if err := closed.Close(); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct{ name, url, words string }{
		{"a certificate nobody knows", tls.URL, "unknown authority"},
		{"no TLS there", strings.Replace(plain.URL, "http:", "https:", 1), "does not speak TLS"},
		{"nobody listens", "http://" + gone, "refused"},
		{"no such host", "https://crm.invalid", "No such host"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			s := extract.Source{BaseURL: c.url, APIKey: secret, ConnectTimeout: 5 * time.Second}
			if c.name == "no such host" { // without asking a resolver
				s.Transport = refusing{&net.DNSError{Err: "no such host", Name: "crm.invalid", IsNotFound: true}}
			}
			report, err := Run(t.Context(), Options{Source: s})
			if err != nil {
				t.Fatal(err)
			}
			r := outcome{Report: report, t: t, sent: report.Requests}
			r.says("reachable", Problem, c.words)
			if r.sent != 1 {
				t.Errorf("%d requests: asking again changes nothing", r.sent)
			}
		})
	}
}

// refusing is a network that fails in one way.
type refusing struct{ err error }

func (r refusing) RoundTrip(*http.Request) (*http.Response, error) { return nil, r.err }

func TestATimeoutIsRepeatedAndNamed(t *testing.T) {
	t.Parallel()
	o := Options{}
	o.Source.APIKey, o.Source.ResponseHeaderTimeout = secret, time.Second
	r := examine(t, o, func(bubbleClock) http.Handler {
		return http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() })
	})
	r.says("reachable", Problem, "timeout", "raise the source's timeouts")
	if r.sent != attempts {
		t.Errorf("%d attempts", r.sent)
	}
}

func TestWithoutAKeyNothingIsSentInItsPlace(t *testing.T) {
	t.Parallel()
	r := examine(t, Options{}, func(clk bubbleClock) http.Handler {
		e := newEndpoint(clk, 50)
		e.open = true
		return e
	})
	r.says("key", Note, "No key is configured")
}

func TestAnExaminationStopsWhenItIsTold(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithCancelCause(t.Context())
		why := errors.New("enough of it")
		clk := bubbleClock{time.Now()}
		wire := &direct{handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			cancel(why)
			w.WriteHeader(http.StatusTooManyRequests)
		})}
		_, err := Run(ctx, Options{Source: extract.Source{BaseURL: "https://crm.test", Transport: wire}, Clock: clk})
		if !errors.Is(err, why) || wire.sent.Load() != 1 {
			t.Errorf("%v after %d requests", err, wire.sent.Load())
		}
	})
}

func TestOptionsThatCannotBeAreErrors(t *testing.T) {
	t.Parallel()
	var fault *extract.SourceError
	if _, err := Run(t.Context(), Options{Source: extract.Source{BaseURL: "crm"}}); !errors.As(err, &fault) {
		t.Errorf("got %v", err)
	}
	if _, err := Run(t.Context(), Options{Source: extract.Source{BaseURL: "https://crm.test"}, Budget: -1}); err == nil {
		t.Error("a negative budget was taken")
	}
}
