package cli

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"strconv"
	"strings"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/diag"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/schedule"
	"github.com/sluice-etl/sluice/internal/web"
)

// pageServer is the daemon's page, where it has one.
type pageServer struct {
	listener net.Listener
	handler  http.Handler
}

// close gives the address up, where nothing is served yet.
func (p *pageServer) close() error {
	if p == nil {
		return nil
	}
	return p.listener.Close()
}

// openPage takes the page's address; nil where there is to be no page. A default
// address that something else has stops no run: the page is left out.
func (d *daemon) openPage(ctx context.Context, o scheduleOptions) (*pageServer, error) {
	conf := &d.cfg.Daemon
	if o.listen != "" {
		if !config.GoodListen(o.listen) {
			return nil, &usageError{command: "sluice schedule", err: fmt.Errorf("--listen is %q, allowed are HOST:PORT, as in 127.0.0.1:8420, and off", o.listen)}
		}
		conf.Listen = o.listen
	}
	if conf.Listen == config.ListenOff {
		return nil, nil //nolint:nilnil // there is to be none
	}
	if conf.OpenToOthers() && conf.Token.IsZero() {
		return nil, &userError{
			message: "the page would be open to everybody who reaches " + openAddress(conf),
			hint: "give it a token: `openssl rand -hex 32` makes one, daemon.token (" + "${SLUICE_TOKEN}" + ") or daemon.token_file takes it, at least " + strconv.Itoa(config.MinToken) +
				" characters; or have it listen on 127.0.0.1, or not at all with --listen off",
		}
	}
	l, err := web.Listen(ctx, conf.Listen)
	if err != nil {
		if o.listen == "" && !conf.ListenGiven {
			d.app.log.ErrorContext(ctx, "there is no page: its address cannot be had", slog.Any("error", err), slog.String("hint", strings.Join(hints(err), "; ")))
			return nil, nil //nolint:nilnil // runs matter more than a page that nobody has asked for
		}
		return nil, err
	}
	_, port, _ := net.SplitHostPort(l.Addr().String()) // a listener's address has one
	page, err := web.New(web.Options{
		Clock: d.app.Clock, Log: d.app.log, Monitor: d.monitor, Actions: actions{d}, Token: conf.Token.Reveal(), Hosts: conf.Hosts(), Origin: conf.URL, Port: port,
		Clean: d.app.secrets.clean, Hints: hints, Command: "sluice" + d.app.fileFlag(), Metrics: d.metrics, Healthz: d.healthz, Readyz: d.readyz,
	})
	if err != nil {
		return nil, errors.Join(err, l.Close())
	}
	d.app.log.InfoContext(ctx, "the page is at http://"+shownAddress(l.Addr().String())+"/") //nolint:sloglint // an address that can be clicked
	return &pageServer{listener: l, handler: page}, nil
}

// openAddress is where others reach the page.
func openAddress(d *config.Daemon) string {
	if host, _, err := net.SplitHostPort(d.Listen); err == nil && config.Loopback(host) {
		return d.URL
	}
	return d.Listen
}

// shownAddress is an address that a browser on this machine can be given.
func shownAddress(address string) string {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return address
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	return net.JoinHostPort(host, port)
}

// runServing runs the scheduler, with the page beside it until it has stopped.
func (d *daemon) runServing(ctx context.Context, page *pageServer, entries []schedule.Entry) error {
	if page == nil {
		return d.scheduler.Run(ctx, entries)
	}
	serving, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() {
		err := web.Serve(serving, page.listener, page.handler, d.app.log)
		if err != nil && serving.Err() == nil {
			d.app.log.ErrorContext(ctx, "the page has stopped; runs go on", slog.Any("error", err))
		}
		ended <- err
	}()
	err := d.scheduler.Run(ctx, entries)
	stop()
	return errors.Join(err, <-ended)
}

// actions are what the page can have done.
type actions struct{ *daemon }

var _ web.Actions = actions{}

// RunNow has a pipeline run as if its time had come.
func (a actions) RunNow(_ context.Context, pipeline string) error {
	return withBusyHint(a.scheduler.Trigger(pipeline, ""))
}

// Backfill reads a range again, as the command does.
func (a actions) Backfill(_ context.Context, r web.BackfillRequest) error {
	p := a.cfg.Pipeline(r.Pipeline)
	if p == nil {
		return fmt.Errorf("backfill %s: %w", r.Pipeline, schedule.ErrUnknown)
	}
	o := backfillOptions{from: r.From, to: r.To, by: r.By, window: r.Window}
	if r.Parallel != "" {
		var err error
		if o.parallel, err = strconv.Atoi(r.Parallel); err != nil {
			return &web.FieldError{Field: "parallel", Message: "It is not a whole number."}
		}
	}
	b, err := o.resolve(p.Timezone)
	var flag *flagError
	if errors.As(err, &flag) {
		return &web.FieldError{Field: flag.flag, Message: "It " + strings.TrimPrefix(flag.what, ": ") + "."}
	} else if err != nil {
		return err
	}
	job := run.Job{
		Pipeline: p.Name, Sync: run.SyncMode(p.Sync), DaysAlone: !p.Source.CombineFilters, Source: extract.Source{Concurrency: p.Source.Concurrency},
	}
	if err := run.CheckBackfill(job, b, a.app.Clock.Now()); errors.Is(err, run.ErrRange) {
		return &web.FieldError{Message: "Nothing was started: " + err.Error() + "."}
	} else if err != nil {
		return err
	}
	return withBusyHint(a.scheduler.Submit(schedule.Once{Name: p.Name, Kind: modeBackfill, Run: func(ctx context.Context) error {
		return a.once(ctx, p, modeBackfill, func(ctx context.Context, e *run.Engine, j run.Job) (run.Summary, error) { return e.Backfill(ctx, j, b) })
	}}))
}

// withBusyHint adds what to do where a job is running already.
func withBusyHint(err error) error {
	if errors.Is(err, schedule.ErrBusy) {
		return &userError{err: err, hint: "wait until it has ended; this page shows it"}
	}
	return err
}

// Plan is what `sluice plan` prints of the file as it is now.
func (a actions) Plan(ctx context.Context, count bool) (string, error) {
	e, err := a.app.look(ctx, planOptions{noData: !count})
	var faults *diag.ListError
	if errors.As(err, &faults) {
		var b strings.Builder
		faults.List.Sort()
		return "", errors.Join(faults.List.Render(&b, false), &userError{message: strings.TrimSpace(b.String())})
	} else if err != nil {
		return "", err
	}
	return planText(e.plan, plainly), nil
}
