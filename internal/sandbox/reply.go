package sandbox

import (
	"bytes"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
)

// reply is an answer before it is sent.
type reply struct {
	status      int
	body        []byte
	contentType string // "": JSON
	// stream writes the body where body is nil.
	stream func(w io.Writer) error
	// release takes body back; may be nil.
	release func()
}

// failure is an error in the shape of the endpoint's framework.
func failure(status int, message string) reply {
	b := strconv.AppendInt([]byte(`{"statusCode":`), int64(status), 10)
	b = appendString(append(b, `,"message":`...), message)
	if text := http.StatusText(status); text != message && status < http.StatusInternalServerError {
		b = appendString(append(b, `,"error":`...), text)
	}
	return reply{status: status, body: append(b, '}')}
}

// smallest is the size in bytes below which compression is not worth its header.
const smallest = 512

// gzipPool keeps gzip writers: one costs more to make than a page to write.
type gzipPool struct{ pool sync.Pool }

func (p *gzipPool) compress(body []byte) []byte {
	w, ok := p.pool.Get().(*gzip.Writer)
	if !ok {
		var err error
		if w, err = gzip.NewWriterLevel(nil, gzip.BestSpeed); err != nil {
			panic("sandbox: gzip level: " + err.Error()) // the level is a constant of the package
		}
	}
	defer p.pool.Put(w)
	out := bytes.NewBuffer(make([]byte, 0, len(body)/4))
	w.Reset(out)
	_, _ = w.Write(body) // a bytes.Buffer takes everything
	_ = w.Close()
	return out.Bytes()
}

// acceptsGzip reads Accept-Encoding (RFC 9110, 12.5.3).
func acceptsGzip(r *http.Request) bool {
	for _, part := range strings.Split(r.Header.Get("Accept-Encoding"), ",") {
		name, weight, _ := strings.Cut(strings.TrimSpace(part), ";")
		if strings.TrimSpace(name) != "gzip" {
			continue
		}
		q, found := strings.CutPrefix(strings.TrimSpace(weight), "q=")
		value, err := strconv.ParseFloat(q, 64)
		return !found || err != nil || value > 0
	}
	return false
}

// setDate sets or suppresses the Date header, which net/http would else take
// from the machine's clock.
func (s *Server) setDate(h http.Header) {
	now := s.Now()
	switch s.opts.Date {
	case "off":
		h["Date"] = nil
	case "cached":
		age := s.opts.DateAge.Truncate(time.Second)
		h.Set("Age", strconv.FormatInt(int64(age/time.Second), 10))
		h.Set("Date", now.Add(-age).Format(http.TimeFormat))
	default:
		h.Set("Date", now.Format(http.TimeFormat))
	}
}

// send answers with a, spoilt by f.
func (s *Server) send(w http.ResponseWriter, r *http.Request, a reply, f fault) {
	if a.release != nil {
		defer a.release()
	}
	h := w.Header()
	s.setDate(h)
	h.Set("Content-Type", "application/json; charset=utf-8")
	if a.contentType != "" {
		h.Set("Content-Type", a.contentType)
	}
	if a.stream != nil {
		w.WriteHeader(a.status)
		if a.stream(w) != nil {
			panic(http.ErrAbortHandler) // the client left; a short body must not look whole
		}
		return
	}
	body := a.body
	if f.kind == faultTruncate {
		body = body[:len(body)/2]
	}
	if !s.opts.NoGzip {
		h.Set("Vary", "Accept-Encoding")
		if acceptsGzip(r) && len(body) >= smallest {
			body = s.gzip.compress(body)
			h.Set("Content-Encoding", "gzip")
		}
	}
	if f.kind == faultCut && f.turn%2 == 1 {
		s.half(w, a.status, body) // chunked: no Content-Length
		panic(http.ErrAbortHandler)
	}
	h.Set("Content-Length", strconv.Itoa(len(body)))
	switch f.kind {
	case faultCut:
		s.half(w, a.status, body)
		panic(http.ErrAbortHandler)
	case faultStall:
		s.half(w, a.status, body)
		s.stall(r)
		panic(http.ErrAbortHandler)
	default:
	}
	w.WriteHeader(a.status)
	_, _ = w.Write(body) // a client that left is its own business
}

// half writes the first half of body and makes sure that it goes out.
func (s *Server) half(w http.ResponseWriter, status int, body []byte) {
	w.WriteHeader(status)
	_, _ = w.Write(body[:len(body)/2])
	_ = http.NewResponseController(w).Flush()
}
