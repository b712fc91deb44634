//go:build unix

package cli

import (
	"bytes"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"strings"
	"syscall"
	"testing"

	"github.com/chromedp/chromedp"

	"github.com/sluice-etl/sluice/internal/web"
	"github.com/sluice-etl/sluice/internal/web/browsertest"
)

// pageToken is one that a page may have.
const pageToken = "correct horse battery staple"

// pagedDaemon wires the daemon of a world, without starting it.
func pagedDaemon(t *testing.T, w *world) (*daemon, *bytes.Buffer) {
	t.Helper()
	a, cfg, _ := wiring(t, w)
	var log bytes.Buffer
	a.log = slog.New(slog.NewTextHandler(&log, nil))
	return madeDaemon(t, a, cfg), &log
}

func TestAPageThatOthersReachNeedsAToken(t *testing.T) {
	t.Parallel()
	for lines, hint := range map[string]string{
		`daemon: {listen: "0.0.0.0:0"}`:                                      "everybody who reaches 0.0.0.0:0",
		`daemon: {listen: "127.0.0.1:0", url: "https://sluice.example.com"}`: "everybody who reaches https://sluice.example.com",
	} {
		w := newWorld(t, lines+"\n"+small)
		d, _ := pagedDaemon(t, w)
		if _, err := d.openPage(t.Context(), scheduleOptions{}); err == nil || !strings.Contains(err.Error(), hint) || !strings.Contains(hints(err)[0], "daemon.token") {
			t.Errorf("%s: %v", lines, err)
		}
		w = newWorld(t, strings.Replace(lines, "{", `{token_file: token, `, 1)+"\n"+small)
		w.write(t, "token", pageToken)
		d, _ = pagedDaemon(t, w)
		page, err := d.openPage(t.Context(), scheduleOptions{})
		if err != nil {
			t.Fatalf("%s: %v", lines, err)
		}
		if err := page.close(); err != nil {
			t.Error(err)
		}
	}
}

func TestATakenPortIsNamedAndStopsRunsOnlyWhereItWasAskedFor(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	d, log := pagedDaemon(t, newWorld(t, small))
	_, err = d.openPage(t.Context(), scheduleOptions{listen: l.Addr().String()})
	if taken := new(web.ListenError); !errors.As(err, &taken) || !strings.HasSuffix(err.Error(), "the port is taken") || !strings.Contains(taken.Hint(), "--listen off") {
		t.Errorf("asked for by a flag: %v", err)
	}
	d.cfg.Daemon.ListenGiven = true // as the file has it
	if _, err = d.openPage(t.Context(), scheduleOptions{}); err == nil {
		t.Error("asked for by the file: no error")
	}
	d.cfg.Daemon.ListenGiven = false
	page, err := d.openPage(t.Context(), scheduleOptions{})
	if page != nil || err != nil || !strings.Contains(log.String(), "there is no page") || !strings.Contains(log.String(), "--listen off") {
		t.Errorf("the default: %v, %v\n%s", page, err, log)
	}
}

func TestWithoutAPageAPipelineNeedsASchedule(t *testing.T) {
	t.Parallel()
	w := newWorld(t, strings.Replace(small, `schedule: "0 3 * * *", `, "", 1))
	d, _ := pagedDaemon(t, w)
	page, err := d.openPage(t.Context(), scheduleOptions{listen: "off"})
	if page != nil || err != nil {
		t.Fatalf("%v, %v", page, err)
	}
	if _, err := d.entries(t.Context(), false); err == nil || !strings.Contains(err.Error(), "has a schedule") {
		t.Errorf("without: %v", err)
	}
	if entries, err := d.entries(t.Context(), true); err != nil || len(entries) != 1 {
		t.Errorf("with: %v, %d entries", err, len(entries))
	}
}

func TestABackfillOfThePageIsCheckedAsTheCommandDoes(t *testing.T) {
	t.Parallel()
	d, _ := pagedDaemon(t, newWorld(t, small))
	good := web.BackfillRequest{Pipeline: "nightly", From: "2024-03-01", To: "2024-06-01", By: "created_at", Window: "1d"}
	for name, c := range map[string]struct {
		spoil       func(*web.BackfillRequest)
		field, says string
	}{
		"from":     {func(r *web.BackfillRequest) { r.From = "soon" }, "from", `It is "soon", neither a date`},
		"no to":    {func(r *web.BackfillRequest) { r.To = "" }, "to", "It is missing"},
		"by":       {func(r *web.BackfillRequest) { r.By = "name" }, "by", "allowed are created_at"},
		"window":   {func(r *web.BackfillRequest) { r.Window = "wide" }, "window", "It "},
		"parallel": {func(r *web.BackfillRequest) { r.Parallel = "many" }, "parallel", "not a whole number"},
		"too many": {func(r *web.BackfillRequest) { r.Parallel = "65" }, "parallel", "allowed are 1 to 64"},
		"backward": {func(r *web.BackfillRequest) { r.To = "2023-01-01" }, "", "before it begins"},
		"future":   {func(r *web.BackfillRequest) { r.From, r.To = "2033-01-01", "2034-01-01" }, "", "in the future"},
	} {
		r := good
		c.spoil(&r)
		var f *web.FieldError
		if err := (actions{d}).Backfill(t.Context(), r); !errors.As(err, &f) || f.Field != c.field || !strings.Contains(f.Message, c.says) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := (actions{d}).Backfill(t.Context(), good); err == nil || !strings.Contains(err.Error(), "the scheduler is stopping, or has not begun") {
		t.Errorf("a good one: %v", err)
	}
}

func TestThePlanOfThePageIsThatOfTheFileAsItIsNow(t *testing.T) {
	t.Parallel()
	w := newWorld(t, small)
	d, _ := pagedDaemon(t, w)
	text, err := (actions{d}).Plan(t.Context(), false)
	if err != nil || !strings.Contains(text, "+ destination.lake.table.contacts") || strings.Contains(text, "\x1b") {
		t.Errorf("%v\n%s", err, text)
	}
	w.write(t, "pipelines.yaml", strings.Replace(small, "table: contacts", "tabel: contacts", 1))
	if _, err = (actions{d}).Plan(t.Context(), false); err == nil || !strings.Contains(err.Error(), "tabel") || !strings.Contains(err.Error(), "pipelines.yaml:8") {
		t.Errorf("a spoiled file: %v", err)
	}
}

// pageOf starts the daemon of a world as a process and returns where its page is.
func (w *world) pageOf(t *testing.T) (*startedProcess, string) {
	t.Helper()
	w.env["SLUICE_FILE"] = w.file()
	p := w.start(t, "schedule", "--listen", "127.0.0.1:0")
	line := p.wait(t, "the page is at ")
	_, address, _ := strings.Cut(line, "the page is at ")
	return p, strings.Trim(address, `"/`)
}

func TestABrowserRunsAPipelineAndABackfillAndWatchesThem(t *testing.T) {
	t.Parallel()
	tab := browsertest.Open(t)
	// Slow enough to be seen running.
	w := newWorld(t, strings.Replace(small, "seed=1", "seed=1&latency=150ms", 1))
	daemon, address := w.pageOf(t)
	tab.Go(address)
	tab.Sees("nightly has not run yet")
	tab.Do(chromedp.Click(chromedp.CSS(`.row a`)))
	tab.Sees("Columns found last")
	tab.Do(chromedp.Click(chromedp.CSS("#run-now")))
	tab.Sees("The run was asked for.")
	tab.Until("window.loaded = true") // gone once the page is loaded anew
	tab.Until(`document.querySelector(".live progress, .live") !== null || document.querySelector(".runs") !== null`)
	tab.Sees("40 new, 0 changed")
	tab.Until(`document.querySelector(".runs .word.good")?.textContent === "done"`)
	if !browsertest.Value[bool](tab, "window.loaded === true") {
		t.Error("the page was loaded anew while it should have followed")
	}

	set := func(field, value string) {
		tab.Until(`(document.querySelector("#` + field + `").value = "` + value + `") !== ""`)
	}
	tab.Do(chromedp.Click(chromedp.CSS(".backfill summary")))
	set("from", "2026-06-01")
	set("to", "2026-01-01")
	tab.Do(chromedp.Click(chromedp.CSS("#backfill button")))
	tab.Sees("before it begins at")
	if got := browsertest.Value[string](tab, `document.querySelector("#from").value + " " + document.querySelector("#window").value`); got != "2026-06-01 1d" {
		t.Errorf("what was typed has become %q", got)
	}
	set("from", "2024-01-01")
	set("window", "365d")
	tab.Do(chromedp.Click(chromedp.CSS("#backfill button")))
	tab.Sees("The backfill was asked for.")
	tab.Until(`[...document.querySelectorAll(".runs tbody tr")].some(r => r.innerText.includes("backfill") && r.innerText.includes("done"))`)
	tab.Do(chromedp.Click(chromedp.CSS(".runs tbody a")))
	tab.Sees("What it covered")
	tab.Sees("lake took package")
	tab.Allow("422") // the form that was refused
	tab.Clean(strings.TrimPrefix(address, "http://"))
	if code := daemon.signal(t, syscall.SIGTERM); code != 0 {
		t.Errorf("exit %d after a stop that was asked for, with a page open:\n%s", code, daemon.text())
	}
}

func TestABrowserLogsInWithTheToken(t *testing.T) {
	t.Parallel()
	tab := browsertest.Open(t)
	w := newWorld(t, "daemon: {token: \"${TOKEN}\"}\n"+small)
	w.env["TOKEN"] = pageToken
	daemon, address := w.pageOf(t)
	tab.Go(address + "/pipelines/nightly")
	tab.Sees("Log in")
	tab.Do(chromedp.SendKeys(chromedp.CSS("#token"), "wrong horse battery staple\n"))
	tab.Sees("That is not the token.")
	tab.Do(chromedp.SendKeys(chromedp.CSS("#token"), pageToken+"\n"))
	tab.Sees("Columns found last")
	tab.Sees("Live")
	if cookie := browsertest.Value[string](tab, "document.cookie"); cookie != "" {
		t.Errorf("scripts see the cookie %s", cookie)
	}
	tab.Do(chromedp.Click(chromedp.CSS("header button")))
	tab.Sees("Log in")
	tab.Allow("401") // the wrong token
	tab.Clean(strings.TrimPrefix(address, "http://"))
	res, err := http.Get(address + "/pipelines/nightly")
	if err != nil {
		t.Fatal(err)
	}
	if err := res.Body.Close(); err != nil || res.StatusCode != http.StatusUnauthorized {
		t.Errorf("without the token: %s, %v", res.Status, err)
	}
	if text := daemon.text(); strings.Contains(text, "horse") {
		t.Errorf("a token is in the log:\n%s", text)
	}
}
