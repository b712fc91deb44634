package sandbox

import (
	"math"
	"net"
	"net/http"
	"strconv"
	"sync"
	"time"

	"golang.org/x/time/rate"
)

// faultKind is a way to fail.
type faultKind uint8

const (
	noFault faultKind = iota
	fault500
	fault502
	faultReset
	faultTruncate
	faultCut
	faultStall
	fault429
	faultDisorder
	faultKinds
)

func (k faultKind) String() string {
	return [faultKinds]string{"none", "500", "502", "reset", "truncate", "cut", "stall", "429", "disorder"}[k]
}

// injector decides which requests fail, the same for the same seed and order
// of requests.
type injector struct {
	rates   [faultKinds]Rate
	limit   int
	seed    uint64
	limiter *rate.Limiter // nil for no limit

	mu       sync.Mutex
	requests uint64
	injected int
	turns    [faultKinds]int // how often each has struck
	refused  int             // by the rate limit
	waits    int             // 429s sent, for RetryAfter "mix"
}

func newInjector(o *Options) *injector {
	in := &injector{rates: o.faultRates(), limit: o.FaultLimit, seed: mix(o.Seed + 0xfa17)}
	if o.RateLimit > 0 {
		in.limiter = rate.NewLimiter(rate.Limit(o.RateLimit), o.RateBurst)
	}
	return in
}

// fault is one decision. Turn counts the faults of this kind from 0, so that
// variants of it can alternate.
type fault struct {
	kind faultKind
	turn int
}

// decide numbers a request and says how it fails. Of several kinds that are
// due by count, the one that struck least goes first.
func (in *injector) decide() fault {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.requests++
	if in.limit > 0 && in.injected >= in.limit {
		return fault{}
	}
	chosen := noFault
	for k := noFault + 1; k < faultKinds; k++ {
		r := in.rates[k]
		switch {
		case r.Every > 0 && in.requests%uint64(r.Every) == 0:
			if chosen == noFault || in.turns[k] < in.turns[chosen] {
				chosen = k
			}
		case r.Share > 0 && chosen == noFault:
			h := mix(in.seed ^ mix(in.requests*uint64(faultKinds)+uint64(k)))
			if float64(h>>11)/(1<<53) < r.Share {
				chosen = k
			}
		}
	}
	if chosen == noFault {
		return fault{}
	}
	f := fault{kind: chosen, turn: in.turns[chosen]}
	in.turns[chosen]++
	in.injected++
	return f
}

// admit takes a request against the rate limit. If there is no room it returns
// how long the client should wait.
func (in *injector) admit(now time.Time) (wait time.Duration, ok bool) {
	if in.limiter == nil {
		return 0, true
	}
	r := in.limiter.ReserveN(now, 1)
	if !r.OK() {
		return time.Second, false
	}
	wait = r.DelayFrom(now)
	if wait == 0 {
		return 0, true
	}
	r.CancelAt(now)
	in.mu.Lock()
	in.refused++
	in.mu.Unlock()
	return wait, false
}

// tooMany answers 429.
func (s *Server) tooMany(w http.ResponseWriter, r *http.Request, wait time.Duration) {
	s.faults.mu.Lock()
	turn := s.faults.waits
	s.faults.waits++
	s.faults.mu.Unlock()
	mode := s.opts.RetryAfter
	if mode == "mix" {
		mode = [...]string{"seconds", "date", "none"}[turn%3]
	}
	seconds := int64(math.Ceil(wait.Seconds()))
	switch mode {
	case "seconds":
		w.Header().Set("Retry-After", strconv.FormatInt(seconds, 10))
	case "date":
		// A date has whole seconds: the next one, so as not to ask for less.
		at := s.Now().Add(time.Duration(seconds)*time.Second + time.Second - 1)
		w.Header().Set("Retry-After", at.Truncate(time.Second).Format(http.TimeFormat))
	default:
	}
	s.send(w, r, failure(http.StatusTooManyRequests, "ThrottlerException: Too Many Requests"), fault{})
}

const badGateway = "<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n<body>\r\n<center><h1>502 Bad Gateway</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"

// fail answers a request that fails before anything happens; false if f is no
// such fault.
func (s *Server) fail(w http.ResponseWriter, r *http.Request, f fault) bool {
	switch f.kind {
	case fault500:
		s.send(w, r, failure(http.StatusInternalServerError, "Internal server error"), fault{})
	case fault502:
		s.send(w, r, reply{status: http.StatusBadGateway, body: []byte(badGateway), contentType: "text/html"}, fault{})
	case fault429:
		s.tooMany(w, r, s.opts.RetryAfterDelay)
	case faultReset:
		reset(w)
	case faultStall:
		if f.turn%2 == 1 {
			return false // after half of the body: see send
		}
		s.stall(r)
		reset(w)
	default:
		return false
	}
	return true
}

// stall waits until the client gives up, or for the longest stall.
func (s *Server) stall(r *http.Request) {
	timer := time.NewTimer(s.opts.StallFor)
	defer timer.Stop()
	select {
	case <-r.Context().Done():
	case <-timer.C:
	}
}

// reset closes the connection so that the client sees a reset.
func reset(w http.ResponseWriter) {
	if hijacker, ok := w.(http.Hijacker); ok {
		if conn, _, err := hijacker.Hijack(); err == nil {
			if tcp, ok := conn.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0) // RST in place of FIN; without it the close below is still abrupt
			}
			_ = conn.Close()
			return
		}
	}
	panic(http.ErrAbortHandler)
}
