package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"
)

// pipelineFile is what the runs are configured by. Nothing is late in the
// sandbox, so a second of lookback keeps a night from reading the one before
// again.
const pipelineFile = `version: 1
state: {backend: file, path: .sluice}
sources:
  crm: {type: contacts_api, url: %s, api_key: sandbox, page_size: 1000, concurrency: 4, requests_per_second: 1000}
destinations:
  lake: {type: parquet, path: out}
pipelines:
  nightly: {source: crm, table: contacts, sync: incremental, lookback: 1s, verify: full, destinations: [lake]}
`

// night is one run of the program.
type night struct {
	sample
	commit  time.Duration // of the wall time: from the sealed package to the committed one
	changed int64
	files   int
}

// runEvent is what the benchmark reads of a line of `run --json`.
type runEvent struct {
	Type    string    `json:"type"`
	Time    time.Time `json:"time"`
	New     int64     `json:"new"`
	Changed int64     `json:"changed"`
	Files   int       `json:"files"`
}

// nights measures whole runs of the program, each in a process of its own,
// against the sandbox in another: the first full one, and then, in turn, nights
// after which 1% of the contacts have changed, in the newest months or in all
// of them. What these are compared with is the same night again with one new
// custom field among its contacts: a new column is the case in which every file
// of current is rewritten, by the code that rewrites the few, with as much read
// from the source.
type nights struct {
	options
	program string
	dir     string
	source  string // the sandbox's address
	samples map[string][]night
}

// The nights, in the order in which they run.
const (
	nightFirst   = "first run"
	nightFew     = "night, newest months"
	nightSpread  = "night, all months"
	nightRewrite = "night, newest months, new column"
)

func nightly(ctx context.Context, o options, w io.Writer) (err error) {
	dir, err := filepath.Abs(filepath.Join(o.dir, "nightly"))
	if err != nil {
		return err
	}
	if err := errors.Join(os.RemoveAll(dir), os.MkdirAll(dir, 0o755)); err != nil {
		return err
	}
	n := &nights{options: o, dir: dir, program: filepath.Join(dir, "sluice"), samples: map[string][]night{}}
	if o.program != "" {
		n.program = o.program
	} else if out, err := exec.CommandContext(ctx, "go", "build", "-o", n.program, "./cmd/sluice").CombinedOutput(); err != nil {
		return fmt.Errorf("build the program: %w: %s", err, out)
	}
	stop, err := n.serve(ctx)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := os.WriteFile(filepath.Join(dir, "pipelines.yaml"), fmt.Appendf(nil, pipelineFile, n.source), 0o600); err != nil {
		return err
	}
	if err := n.measure(ctx, nightFirst, int64(o.contacts)); err != nil {
		return err
	}
	for round := range o.rounds {
		if err := n.round(ctx, round); err != nil {
			return fmt.Errorf("round %d: %w", round+1, err)
		}
	}
	return n.report(w)
}

// serve starts the sandbox in a process of its own.
func (n *nights) serve(ctx context.Context) (stop func() error, err error) {
	cmd := exec.CommandContext(ctx, n.program, "sandbox", "--listen", "127.0.0.1:0", "--contacts", fmt.Sprint(n.contacts))
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(out).ReadString('\n')
	_, address, found := strings.Cut(strings.TrimSpace(line), "http://")
	if !found {
		err = errors.Join(err, fmt.Errorf("start sandbox: it says %q", line))
	}
	n.source = "http://" + address
	go func() { _, _ = io.Copy(io.Discard, out) }()
	stop = func() error {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
		return nil
	}
	if err != nil {
		return nil, errors.Join(err, stop())
	}
	return stop, nil
}

// round makes changes and runs, night by night.
func (n *nights) round(ctx context.Context, round int) error {
	for _, name := range []string{nightFew, nightRewrite, nightSpread} {
		ids, err := n.pick(ctx, name == nightSpread, round)
		if err != nil {
			return err
		}
		field := ""
		if name == nightRewrite {
			field = fmt.Sprintf("bench_%d", round)
		}
		if err := n.change(ctx, ids, fmt.Sprintf("%s %d", name, round), field); err != nil {
			return err
		}
		if err := n.measure(ctx, name, int64(len(ids))); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}

// measure runs the program once and notes what it cost. want is how many
// contacts it has to bring: the cost of something else is not it.
func (n *nights) measure(ctx context.Context, name string, want int64) error {
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(ctx, n.program, "run", "nightly", "--json")
	cmd.Dir, cmd.Stdout, cmd.Stderr = n.dir, &out, &errs
	cmd.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", n.threads))
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("%w: %s", err, errs.String())
	}
	x := night{sample: sample{
		wall: time.Since(began), cpu: cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(), rss: peakRSS(cmd.ProcessState),
	}}
	var sealed time.Time
	for line := range bytes.Lines(out.Bytes()) {
		var ev runEvent
		if err := json.Unmarshal(line, &ev); err != nil {
			return fmt.Errorf("read its events: %w", err)
		}
		switch ev.Type {
		case "package_sealed":
			sealed = ev.Time
		case "committed":
			x.commit = ev.Time.Sub(sealed)
		case "run_finished":
			x.changed, x.files = ev.New+ev.Changed, ev.Files
		}
	}
	if x.changed != want {
		return fmt.Errorf("it brought %d contacts, want %d", x.changed, want)
	}
	n.samples[name] = append(n.samples[name], x)
	fmt.Fprintf(os.Stderr, "%s: %.1f s, %.1f s of CPU, %d MiB\n", name, x.wall.Seconds(), x.cpu.Seconds(), x.rss>>20)
	return nil
}

func (n *nights) report(w io.Writer) error {
	fmt.Fprintf(w, "%d contacts, %d of them changed each night, verify: full, %d threads, %d rounds\n\n", n.contacts, changing(n.contacts), n.threads, n.rounds)
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "\twall s\tcommit s\tCPU s\tpeak RSS MiB\tfiles\twall\tCPU")
	var base night
	if n.rounds > 0 {
		base = medianNight(n.samples[nightRewrite])
	}
	for _, name := range []string{nightFirst, nightRewrite, nightFew, nightSpread} {
		if len(n.samples[name]) == 0 {
			continue
		}
		m := medianNight(n.samples[name])
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.2f\t%d\t%d", name, m.wall.Seconds(), m.commit.Seconds(), m.cpu.Seconds(), m.rss>>20, m.files)
		if name != nightFirst {
			fmt.Fprintf(t, "\t%.2f\t%.2f", m.wall.Seconds()/base.wall.Seconds(), m.cpu.Seconds()/base.cpu.Seconds())
		}
		fmt.Fprintln(t)
	}
	fmt.Fprintf(t, "\nlast columns: share of %q, which rewrites all of current; medians of %d\n", nightRewrite, n.rounds)
	return t.Flush()
}

// medianNight takes the median of each figure on its own.
func medianNight(all []night) night {
	samples, commits := make([]sample, len(all)), make([]time.Duration, len(all))
	for i, x := range all {
		samples[i], commits[i] = x.sample, x.commit
	}
	slices.Sort(commits)
	return night{sample: median(samples), commit: commits[len(commits)/2], changed: all[0].changed, files: all[0].files}
}
