// Package browsertest drives a real browser, for tests of the page.
package browsertest

import (
	"context"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/cdproto/cdp"
	"github.com/chromedp/cdproto/emulation"
	"github.com/chromedp/cdproto/log"
	"github.com/chromedp/cdproto/network"
	"github.com/chromedp/cdproto/page"
	"github.com/chromedp/cdproto/runtime"
	"github.com/chromedp/chromedp"
)

const (
	// Required is the variable that makes a missing browser a failure, where it
	// is "required".
	Required = "SLUICE_BROWSER"
	// Shots is the variable that names a directory for screenshots; empty for none.
	Shots = "SLUICE_SHOTS"

	// patience is how long anything may take.
	patience = 60 * time.Second
)

// Tab is a tab of a browser. What it loads from other hosts, what it complains of
// and what the page throws are faults of the test.
type Tab struct {
	ctx context.Context //nolint:containedctx // chromedp keeps the browser in it
	t   *testing.T

	mu     sync.Mutex
	faults []string
	hosts  map[string]bool
}

// Open starts a browser for a test, and skips the test where there is none.
func Open(t *testing.T) *Tab {
	t.Helper()
	if testing.Short() {
		t.Skip("a browser takes its time; the tests without -short have one")
	}
	path := find()
	if path == "" {
		if os.Getenv(Required) == "required" {
			t.Fatal("there is no Chromium, and " + Required + " asks for one")
		}
		t.Skip("there is no Chromium here")
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.UserDataDir(t.TempDir()),
		chromedp.Flag("disable-quic", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("no-first-run", true), chromedp.WindowSize(1280, 900),
	)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	ctx, stop := chromedp.NewExecAllocator(ctx, options...)
	ctx, shut := chromedp.NewContext(ctx)
	tab := &Tab{ctx: ctx, t: t, hosts: map[string]bool{}}
	t.Cleanup(func() {
		if err := chromedp.Cancel(ctx); err != nil {
			t.Log(err)
		}
		shut()
		stop()
		cancel()
	})
	if err := tab.begin(); err != nil {
		t.Fatalf("start a browser: %v", err)
	}
	return tab
}

// begin opens the tab, and listens to what happens in it.
func (b *Tab) begin() error {
	if err := chromedp.Listen(b.ctx, b.listen); err != nil {
		return err
	}
	if _, err := chromedp.Call(b.ctx, network.Enable, network.EnableParams{}); err != nil {
		return err
	}
	if _, err := chromedp.Call(b.ctx, runtime.Enable, cdp.Empty{}); err != nil {
		return err
	}
	_, err := chromedp.Call(b.ctx, log.Enable, cdp.Empty{})
	return err
}

// find is the path of a Chromium; empty for none.
func find() string {
	for _, name := range []string{"chromium", "chromium-browser", "google-chrome", "chrome"} {
		if path, err := exec.LookPath(name); err == nil {
			return path
		}
	}
	return ""
}

func (b *Tab) listen(event any) {
	b.mu.Lock()
	defer b.mu.Unlock()
	fault := func(format string, args ...any) { b.faults = append(b.faults, fmt.Sprintf(format, args...)) }
	switch e := event.(type) {
	case *network.EventRequestWillBeSent:
		if u, err := url.Parse(e.Request.URL); err == nil && u.Scheme != "data" && u.Scheme != "about" {
			b.hosts[u.Host] = true
		}
	case *runtime.EventExceptionThrown:
		fault("exception: %s", e.ExceptionDetails.Text)
	case *runtime.EventConsoleAPICalled:
		if e.Type == runtime.ConsoleAPICalledTypeError || e.Type == runtime.ConsoleAPICalledTypeWarning {
			fault("console: %s", e.Type)
		}
	case *log.EventEntryAdded: // what the policy forbids is told here
		if e.Entry.Level == log.EntryLevelError || e.Entry.Level == log.EntryLevelWarning {
			fault("log: %s %s", e.Entry.Text, e.Entry.URL)
		}
	}
}

// Do does actions, and ends the test where one fails.
func (b *Tab) Do(actions ...chromedp.Action[chromedp.Void]) {
	b.t.Helper()
	b.must(chromedp.Do(b.ctx, actions...))
}

func (b *Tab) must(err error) {
	b.t.Helper()
	if err != nil {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(b.ctx), 5*time.Second)
		defer cancel()
		text, _ := chromedp.Run(ctx, chromedp.Evaluate[string]("document.body.innerText")) // for the message alone
		b.t.Fatalf("browser: %v\nfaults: %s\npage:\n%s", err, strings.Join(b.Faults(), "\n"), text)
	}
}

// Go opens an address.
func (b *Tab) Go(address string) {
	b.t.Helper()
	b.Do(chromedp.Navigate(address))
}

// Sees waits until the page shows a text.
func (b *Tab) Sees(text string) {
	b.t.Helper()
	b.Until(fmt.Sprintf("document.body.innerText.includes(%q)", text))
}

// Until waits until an expression is true. The page may change meanwhile.
func (b *Tab) Until(expression string) {
	b.t.Helper()
	ctx, cancel := context.WithTimeout(b.ctx, patience/2)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		// An error is that of a page that is being left.
		if ok, err := chromedp.Run(ctx, chromedp.Evaluate[bool]("!!document.body && !!("+expression+")")); err == nil && ok {
			return
		}
		select {
		case <-ctx.Done():
			b.must(fmt.Errorf("wait for %s: %w", expression, ctx.Err()))
			return
		case <-tick.C:
		}
	}
}

// Value evaluates an expression.
func Value[T any](b *Tab, expression string) T {
	b.t.Helper()
	v, err := chromedp.Run(b.ctx, chromedp.Evaluate[T](expression))
	b.must(err)
	return v
}

// Faults are what was complained of so far.
func (b *Tab) Faults() []string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return append([]string{}, b.faults...)
}

// Allow forgets complaints that have a text in them.
func (b *Tab) Allow(text string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.faults = slices.DeleteFunc(b.faults, func(f string) bool { return strings.Contains(f, text) })
}

// Clean fails the test where the browser has complained, or has asked another
// host than the given one.
func (b *Tab) Clean(host string) {
	b.t.Helper()
	for _, f := range b.Faults() {
		b.t.Error(f)
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	for h := range b.hosts {
		if h != host {
			b.t.Errorf("a request went to %s", h)
		}
	}
	if !b.hosts[host] {
		b.t.Errorf("nothing was asked of %s, but of %v", host, b.hosts)
	}
}

// Screen sets the window's size, and whether it is that of a phone; dark asks for
// dark colours.
func (b *Tab) Screen(width, height int64, phone, dark bool) {
	b.t.Helper()
	scheme := "light"
	if dark {
		scheme = "dark"
	}
	_, err := chromedp.Call(b.ctx, emulation.SetDeviceMetricsOverride, emulation.SetDeviceMetricsOverrideParams{Width: width, Height: height, DeviceScaleFactor: 1, Mobile: phone})
	b.must(err)
	_, err = chromedp.Call(b.ctx, emulation.SetEmulatedMedia, emulation.SetEmulatedMediaParams{Features: []*emulation.MediaFeature{
		{Name: "prefers-color-scheme", Value: scheme}, {Name: "prefers-reduced-motion", Value: "reduce"},
	}})
	b.must(err)
}

// Fits fails the test where the page is wider than its window.
func (b *Tab) Fits() {
	b.t.Helper()
	sizes := Value[[]int](b, `[document.documentElement.scrollWidth, document.documentElement.clientWidth]`)
	if sizes[0] > sizes[1] {
		wide := Value[[]string](b, `[...document.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > innerWidth + 1 && !e.closest(".scroll, .plan, .unseen")).slice(0, 5).map(e => e.outerHTML.slice(0, 120))`)
		b.t.Errorf("the page is %d wide in a window of %d: %s", sizes[0], sizes[1], strings.Join(wide, "\n"))
	}
}

// Shot keeps a picture of the page, where a directory for them is given; whole is
// of all of it, not only of what the window shows.
func (b *Tab) Shot(name string, whole bool) {
	b.t.Helper()
	dir := os.Getenv(Shots)
	if dir == "" {
		return
	}
	params := page.CaptureScreenshotParams{Format: page.CaptureScreenshotFormatPng, CaptureBeyondViewport: &whole}
	if whole {
		size := Value[[]float64](b, `[document.documentElement.clientWidth, document.documentElement.scrollHeight]`)
		params.Clip = &page.Viewport{Width: size[0], Height: size[1], Scale: 1}
	}
	shot, err := chromedp.Call(b.ctx, page.CaptureScreenshot, params)
	b.must(err)
	png := shot.Data
	if err := os.WriteFile(filepath.Join(dir, name+".png"), png, 0o644); err != nil { //nolint:gosec // a picture for people
		b.t.Fatal(err)
	}
}
