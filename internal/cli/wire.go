package cli

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/diag"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/sandbox"
	"github.com/sluice-etl/sluice/internal/state"
	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

const (
	sandboxKey    = sandbox.DefaultKey
	schemeSandbox = "sandbox"
	loopback      = "127.0.0.1:0"
	enrichInfo    = "info" // the pipeline's enrich
	// fullSlack is how much earlier than full_every a run may read everything, jitter
	// apart: clocks that are put forward take an hour from a week of nights.
	fullSlack = 2 * time.Hour
)

// load reads the pipelines file. Warnings go to stderr, and the keys it holds
// are hidden from then on. Commands that ask no source pass config.Offline.
func (a *app) load(options ...config.Option) (*config.Config, error) {
	cfg, list := config.Load(a.file, a.Env, options...)
	if err := list.Err(); err != nil {
		return nil, err
	}
	for _, src := range cfg.Sources {
		a.secrets.hide(src.APIKey.Reveal())
	}
	a.secrets.hide(cfg.Daemon.Token.Reveal())
	for _, p := range cfg.Pipelines {
		a.secrets.hide(p.HashKey.Reveal())
		a.hideURL(p.Heartbeat)
	}
	for _, n := range cfg.Notify {
		a.hideURL(n.URL)
	}
	if len(list) > 0 {
		list.Sort()
		if err := list.Render(a.err, a.color()); err != nil {
			return nil, err
		}
	}
	return cfg, nil
}

// hideURL hides a URL that is a key, and what of it is one.
func (a *app) hideURL(secret config.Secret) {
	text := secret.Reveal()
	a.secrets.hide(text)
	if u, err := url.Parse(text); err == nil {
		a.secrets.hide(u.RequestURI())
	}
}

// pipeline finds one by the name given on the command line.
func pipeline(cfg *config.Config, name string) (*config.Pipeline, error) {
	return cfg.SelectOne(name)
}

// store opens the state that cfg names.
func (a *app) store(cfg *config.Config) (*state.Store, error) {
	options := []state.Option{state.WithVersion(version()), state.WithPushCommand("sluice" + a.fileFlag() + " state push")}
	if cfg.State.URL == "" {
		return state.Open(cfg.State.Path, a.Clock, options...)
	}
	client, err := a.buckets.get()
	if err != nil {
		return nil, err
	}
	return state.OpenGCS(client, cfg.State.URL, cfg.State.Path, a.Clock, options...)
}

// sources keeps the sandboxes that run in this process, by source: a scheduled
// pipeline meets the same changing contacts on every run.
type sources struct {
	app     *app
	hosts   *extract.Hosts
	mu      sync.Mutex // guards running
	running map[string]*sandbox.Running
}

func (a *app) newSources() *sources {
	return &sources{app: a, hosts: extract.NewHosts(), running: map[string]*sandbox.Running{}}
}

// close stops the sandboxes.
func (s *sources) close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var errs []error
	for _, r := range s.running {
		errs = append(errs, r.Close())
	}
	return errors.Join(errs...)
}

// open gives the client's options for a source, and the identity that state
// knows it by. The sandbox of a sandbox:// source starts here, on loopback,
// and lives until ctx ends or close.
func (s *sources) open(ctx context.Context, cfg *config.Config, src *config.Source) (extract.Source, state.SourceIdentity, error) {
	options := extract.Source{
		BaseURL:               src.URL,
		APIKey:                extract.Secret(src.APIKey.Reveal()),
		AllowInsecure:         src.AllowInsecure,
		UserAgent:             "sluice/" + version(),
		RequestsPerSecond:     src.RequestsPerSecond,
		Concurrency:           src.Concurrency,
		ConnectTimeout:        src.ConnectTimeout,
		ResponseHeaderTimeout: src.ResponseTimeout,
		RequestTimeout:        src.RequestTimeout,
		RetryBudget:           src.RetryFor,
		Hosts:                 s.hosts,
	}
	if !src.Sandbox() {
		return options, state.SourceIdentity{Scheme: src.Scheme, Host: src.Host}, nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	r, ok := s.running[src.Name]
	if !ok {
		o, err := sandboxOptions(cfg, src)
		if err != nil {
			return extract.Source{}, state.SourceIdentity{}, err
		}
		server, err := sandbox.New(o, s.app.Clock)
		if err != nil {
			return extract.Source{}, state.SourceIdentity{}, fmt.Errorf("start sandbox of source %s: %w", src.Name, err)
		}
		if r, err = server.Start(ctx, loopback); err != nil {
			return extract.Source{}, state.SourceIdentity{}, fmt.Errorf("start sandbox of source %s: %w", src.Name, err)
		}
		s.running[src.Name] = r
	}
	options.BaseURL = r.URL
	// A sandbox in this process takes what it is asked; the limit is for
	// real accounts, unless the file sets one.
	if _, set := src.Keys["requests_per_second"]; !set {
		options.RequestsPerSecond = -1
	}
	return options, state.SourceIdentity{Scheme: schemeSandbox}, nil
}

// sandboxOptions reads the parameters of a sandbox:// URL; a fault in them is
// one of the file.
func sandboxOptions(cfg *config.Config, src *config.Source) (sandbox.Options, error) {
	o, err := sandbox.ParseURL(src.URL)
	if err != nil {
		d := cfg.Diagnostic(src.Pos("url"), diag.Error, err.Error(), "`sluice sandbox --help` lists the options; in the URL their names take _ in place of -")
		return sandbox.Options{}, diag.List{d}.Err()
	}
	return o, nil
}

// contract gives the contract of a pipeline's table, of which each row tells the
// account where there are several.
func contract(cfg *config.Config, p *config.Pipeline) (*schemas.Contract, error) {
	c, err := readContract(cfg, p)
	if err != nil || p.Account == "" {
		return c, err
	}
	return c.WithAccount(p.Account), nil
}

// readContract reads the pipeline's contract file, or takes the built-in one.
func readContract(cfg *config.Config, p *config.Pipeline) (*schemas.Contract, error) {
	if p.Schema == "" {
		return schemas.Default(), nil
	}
	at := p.Pos("schema")
	data, err := os.ReadFile(p.Schema)
	if err != nil {
		d := cfg.Diagnostic(at, diag.Error, fmt.Sprintf("read contract: %v", err), "give the path of a contract file, relative to this file, or leave `schema` out for the built-in contract")
		return nil, diag.List{d}.Err()
	}
	name := p.Schema
	if rel, err := filepath.Rel(cfg.Dir, p.Schema); err == nil {
		name = filepath.Join(filepath.Dir(cfg.File), rel)
	}
	c, err := schemas.ParseContract(name, data)
	var faults *schemas.ContractError
	if errors.As(err, &faults) {
		var list diag.List
		for _, f := range faults.Faults {
			list = append(list, diag.Diagnostic{Summary: f.Message, Hint: f.Hint, File: name, Line: f.Line, Col: f.Col, Snippet: lineOf(data, f.Line)})
		}
		return nil, list.Err()
	}
	return c, err
}

// job resolves one pipeline into what the engine takes. The caller closes the
// loaders with the returned function.
func (a *app) job(ctx context.Context, cfg *config.Config, p *config.Pipeline, s *sources) (run.Job, func() error, error) {
	j, err := a.bareJob(ctx, cfg, p, s, true)
	if err != nil {
		return run.Job{}, nil, err
	}
	closeAll := func() error { return closeDestinations(j) }
	if err := a.openDestinations(ctx, cfg, p, &j); err != nil {
		return run.Job{}, nil, errors.Join(err, closeAll())
	}
	return j, closeAll, nil
}

// bareJob is a pipeline's job without its destinations, and where it is not to
// be asked without its source.
func (a *app) bareJob(ctx context.Context, cfg *config.Config, p *config.Pipeline, s *sources, asks bool) (run.Job, error) {
	c, err := contract(cfg, p)
	if err != nil {
		return run.Job{}, err
	}
	key, err := hashKey(cfg, p, c)
	if err != nil {
		return run.Job{}, err
	}
	var source extract.Source
	var identity state.SourceIdentity
	if asks {
		if source, identity, err = s.open(ctx, cfg, p.Source); err != nil {
			return run.Job{}, err
		}
	} else {
		identity = state.SourceIdentity{Scheme: p.Source.Scheme, Host: p.Source.Host}
	}
	source.Private = !c.KeepsAll()
	source.MaxRequests, source.MaxBytes = p.MaxRequests, p.MaxBytes
	j := run.Job{
		HashKey: key,

		Pipeline: p.Name, Source: source, Identity: identity, Contract: c,
		Lookback: p.Lookback, FullEvery: p.FullEvery, FullSlack: fullSlack + p.Jitter, PageSize: p.Source.PageSize, Verify: load.Verify(p.Verify),
		Sync: run.SyncMode(p.Sync), Days: p.Days, DaysAlone: !p.Source.CombineFilters,
		Filters: p.Filters, Stages: p.Stages, Pipelines: p.Pipelines,
		Enrich: p.Enrich == enrichInfo, KeepStages: p.StagesTable != "",
		Quarantine: run.Quarantine{Store: run.QuarantineStore(p.Quarantine.Store), MaxShare: p.Quarantine.MaxShare, MaxRecords: p.Quarantine.MaxRecords},
	}
	if f := p.Field; f != nil {
		j.Field = &transform.FieldFilter{Key: f.Key, Value: f.Value, Entity: f.Entity}
	}
	return j, nil
}

// openDestinations adds a pipeline's destinations to its job, up to one that
// cannot be opened. closeDestinations closes those that the job has.
func (a *app) openDestinations(ctx context.Context, cfg *config.Config, p *config.Pipeline, j *run.Job) error {
	for _, d := range p.Destinations {
		l, err := a.loader(ctx, cfg, p, d)
		if err != nil {
			return fmt.Errorf("open destination %s: %w", d.Name, err)
		}
		j.Destinations = append(j.Destinations, run.Destination{Name: d.Name, Loader: l, QueueBytes: d.QueueLimit, QueueAge: d.QueueAge})
	}
	return nil
}

func closeDestinations(j run.Job) error {
	var errs []error
	for _, d := range j.Destinations {
		errs = append(errs, d.Loader.Close())
	}
	return errors.Join(errs...)
}
