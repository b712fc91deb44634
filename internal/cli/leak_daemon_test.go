//go:build unix && cgo && ((linux && (amd64 || arm64)) || (darwin && (amd64 || arm64)))

package cli

import (
	"bufio"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/grpc/codes"

	"github.com/sluice-etl/sluice/load/bigquery/bqtest"
)

// leakToken is the page's; it holds what leaks looks for.
const leakToken = "token-Planted-6b1f0c9d"

var linkOfPage = regexp.MustCompile(`(?:href|src)="(/[^"]*)"`)

// watched is a daemon of which everything that it shows and tells is kept.
type watched struct {
	*leakWorld
	*startedProcess
	hooks   *hooks
	address string
	shown   map[string]bool // paths
}

// sends keeps what the page answers, its headers too.
func (d *watched) sends(t *testing.T, method, path, token, form string) (code int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, d.address+path, strings.NewReader(form))
	if err != nil {
		t.Fatal(err)
	}
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	if form != "" {
		req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	}
	res, err := http.DefaultTransport.RoundTrip(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = res.Body.Close() }()
	if res.Header.Get("Content-Type") == "text/event-stream" { // which never ends
		lines := bufio.NewScanner(res.Body)
		lines.Buffer(nil, 1<<20)
		for lines.Scan() && (lines.Text() != "" || body == "") {
			body += lines.Text() + "\n"
		}
	} else if all, err := io.ReadAll(res.Body); err != nil {
		t.Fatal(err)
	} else {
		body = string(all)
	}
	d.printed.WriteString(method + " " + path + "\n")
	if err := res.Header.Write(&d.printed); err != nil {
		t.Fatal(err)
	}
	d.printed.WriteString(body + "\n")
	return res.StatusCode, body
}

// showsAll asks for every page that a link leads to, and what no link does.
func (d *watched) showsAll(t *testing.T) {
	t.Helper()
	next := []string{"/", "/metrics", "/healthz", "/readyz", "/login", "/nowhere", "/pipelines/none", "/live?of=overview", "/live?of=pipeline&name=nightly"}
	seen := map[string]bool{}
	for len(next) > 0 {
		path := next[0]
		next = next[1:]
		if seen[path] || strings.HasPrefix(path, "/static/") {
			continue
		}
		seen[path], d.shown[path] = true, true
		_, body := d.sends(t, http.MethodGet, path, leakToken, "")
		if name, run, ok := strings.Cut(strings.TrimPrefix(path, "/pipelines/"), "/runs/"); ok {
			next = append(next, "/live?of=run&name="+name+"&run="+run)
		}
		for _, link := range linkOfPage.FindAllStringSubmatch(body, -1) {
			next = append(next, strings.ReplaceAll(link[1], "&amp;", "&"))
		}
	}
	d.sends(t, http.MethodGet, "/", "", "") // to whom shows no token
	d.sends(t, http.MethodGet, "/metrics", "wrong", "")
}

// runs has the pipeline run, and waits until that is told.
func (d *watched) runs(t *testing.T, told string) {
	t.Helper()
	if code, body := d.sends(t, http.MethodPost, "/pipelines/nightly/run", leakToken, ""); code != http.StatusOK && code != http.StatusSeeOther {
		t.Fatalf("%d: %s", code, body)
	}
	d.hooks.wait(t, told)
	d.showsAll(t)
}

func TestNoPersonalValueAndNoKeyLeavesTheDaemon(t *testing.T) {
	t.Parallel()
	l, h := newLeakWorld(t), newHooks(t)
	l.write(t, "pipelines.yaml", strings.Replace(l.read(t, "pipelines.yaml"), `nightly: {`, `nightly: {sync: snapshot, heartbeat: "${BEAT}", `, 1)+`daemon: {token: "${TOKEN}", url: "https://sluice.example.com"}
notify:
  ops: {type: webhook, url: "${HOOK}"}
  chat: {type: slack, url: "${CHAT}"}
`)
	for name, value := range map[string]string{"TOKEN": leakToken, "BEAT": h.URL + "/beat-Planted", "HOOK": h.URL + "/hook-Planted", "CHAT": h.URL + "/chat-Planted"} {
		l.env[name] = value
	}
	l.source.put(rejectedContact(900))
	l.env["SLUICE_FILE"] = l.file()
	p := l.start(t, "schedule", "--listen", "127.0.0.1:0", "-v", "--log-format", "json")
	_, address, _ := strings.Cut(p.wait(t, "the page is at "), "the page is at ")
	d := &watched{leakWorld: l, startedProcess: p, hooks: h, address: address[:strings.Index(address, `/"`)], shown: map[string]bool{}}

	d.runs(t, "/beat-Planted")
	for n := range 7 {
		l.source.put(plantedContact(n, 1))
	}
	l.source.fail(func(w http.ResponseWriter, page []byte) { w.WriteHeader(http.StatusBadGateway); _, _ = w.Write(page) },
		func(w http.ResponseWriter, page []byte) { w.WriteHeader(http.StatusBadRequest); _, _ = w.Write(page) })
	d.runs(t, "/hook-Planted failure")
	l.service.Inject(bqtest.Fault{Call: "AppendRows", Code: codes.InvalidArgument, Message: "the rows are refused"})
	l.source.put(rejectedContact(901))
	if code, body := d.sends(t, http.MethodPost, "/pipelines/nightly/run", leakToken, ""); code >= http.StatusBadRequest {
		t.Fatalf("%d: %s", code, body)
	}
	p.wait(t, "commit failed") // a failure in a row, of which nobody is told
	p.wait(t, `"run failed"`)
	d.showsAll(t)
	d.runs(t, "/hook-Planted recovery")
	d.sends(t, http.MethodPost, "/plan", leakToken, "")
	d.sends(t, http.MethodPost, "/pipelines/nightly/backfill", leakToken, url.Values{"from": {"soon"}}.Encode())
	d.showsAll(t)
	if code := p.signal(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d", code)
	}
	runs := 0
	for path := range d.shown {
		if strings.Contains(path, "/runs/") {
			runs++
		}
	}
	if runs != 4 || !d.shown["/plan"] || !strings.Contains(p.text(), "notice sent") {
		t.Errorf("pages of %d runs were looked at, of all: %v\n%s", runs, d.shown, p.text())
	}
	l.printed.WriteString(p.text())
	h.mu.Lock()
	l.printed.WriteString(h.all.String())
	h.mu.Unlock()
	l.search(t, "a daemon")
}
