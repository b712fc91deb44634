// Command bench turns the same JSON pages into Parquet with Sluice and with
// DuckDB and prints the ratios: wall time, CPU time, peak memory, file size.
//
//	go run ./bench                 200,000 contacts, 5 rounds
//	go run ./bench -contacts 1000000 -rounds 3
//
// With "nightly" it measures whole runs of the program instead, a first one and
// nights on which 1% of the contacts have changed: see nights.
//
//	go run ./bench -contacts 5000000 -rounds 3 nightly
//
// Every contender runs in a process of its own, in turn, so that drift of the
// machine hits all alike; figures are medians over the rounds. DuckDB runs
// three times: told every key, as nobody who exports custom fields is; letting
// read_json infer them, which works for data as regular as the benchmark's; and
// discovering them whatever they are, as Sluice has to.
package main

import (
	"context"
	"database/sql"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime/pprof"
	"slices"
	"text/tabwriter"
	"time"
)

// options are the command's flags.
type options struct {
	contacts int
	rounds   int
	threads  int
	dir      string
	child    string // contender to run in this process; set by the parent
	out      string // where that contender writes
	profile  string // CPU profile of a child, written by hand-run children
	program  string // sluice to measure; empty: built from the source
}

// contenders in the order they run and are printed; the first is the peer that
// the ratios refer to.
func contenders() []string {
	return []string{"duckdb-told", "duckdb-infer", "duckdb-discover", "sluice", "sluice-verify"}
}

func main() {
	var o options
	flag.IntVar(&o.contacts, "contacts", 200_000, "contacts in the pages")
	flag.IntVar(&o.rounds, "rounds", 5, "rounds; the medians are printed")
	flag.IntVar(&o.threads, "threads", 2, "threads of each contender")
	flag.StringVar(&o.dir, "dir", filepath.Join("bench", "data"), "directory for pages and output")
	flag.StringVar(&o.child, "child", "", "internal: contender to run")
	flag.StringVar(&o.out, "out", "", "internal: directory it writes to")
	flag.StringVar(&o.profile, "cpuprofile", "", "with -child and -out: write a CPU profile")
	flag.StringVar(&o.program, "sluice", "", "nightly: path of the program to measure (default: built from the source)")
	flag.Parse()
	ctx := context.Background()
	var err error
	switch {
	case o.child != "":
		err = profiled(o.profile, func() error { return runChild(ctx, o) })
	case flag.Arg(0) == "nightly":
		err = nightly(ctx, o, os.Stdout)
	case flag.NArg() > 0:
		err = fmt.Errorf("unknown benchmark %q", flag.Arg(0))
	default:
		err = compare(ctx, o, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

// profiled runs f, under a CPU profile where path names one.
func profiled(path string, f func() error) error {
	if path == "" {
		return f()
	}
	out, err := os.Create(path)
	if err != nil {
		return err
	}
	if err := pprof.StartCPUProfile(out); err != nil {
		return errors.Join(err, out.Close())
	}
	err = f()
	pprof.StopCPUProfile()
	return errors.Join(err, out.Close())
}

// sample is what one process cost.
type sample struct {
	wall, cpu time.Duration
	rss       int64 // peak, bytes
	size      int64 // Parquet written, bytes, without columns of Sluice's own
}

func compare(ctx context.Context, o options, w io.Writer) error {
	pages := filepath.Join(o.dir, fmt.Sprintf("pages-%d", o.contacts))
	bytes, err := generate(pages, o.contacts)
	if err != nil {
		return fmt.Errorf("generate pages: %w", err)
	}
	fmt.Fprintf(w, "%d contacts, %.1f MB of JSON, %d threads, %d rounds\n\n", o.contacts, float64(bytes)/1e6, o.threads, o.rounds)
	samples := map[string][]sample{}
	for round := range o.rounds {
		for _, name := range contenders() {
			s, err := measure(ctx, o, name)
			if err != nil {
				return fmt.Errorf("%s, round %d: %w", name, round+1, err)
			}
			samples[name] = append(samples[name], s)
		}
	}
	return report(w, o, bytes, samples)
}

// measure runs one contender in its own process.
func measure(ctx context.Context, o options, name string) (sample, error) {
	out := filepath.Join(o.dir, "out-"+name)
	if err := os.RemoveAll(out); err != nil {
		return sample{}, err
	}
	if err := os.MkdirAll(out, 0o755); err != nil {
		return sample{}, err
	}
	self, err := os.Executable()
	if err != nil {
		return sample{}, err
	}
	cmd := exec.CommandContext(ctx, self, "-child", name, "-out", out, "-dir", o.dir,
		"-contacts", fmt.Sprint(o.contacts), "-threads", fmt.Sprint(o.threads))
	cmd.Env = append(os.Environ(), fmt.Sprintf("GOMAXPROCS=%d", o.threads))
	cmd.Stderr = os.Stderr
	began := time.Now()
	if err := cmd.Run(); err != nil {
		return sample{}, err
	}
	s := sample{
		wall: time.Since(began),
		cpu:  cmd.ProcessState.UserTime() + cmd.ProcessState.SystemTime(),
		rss:  peakRSS(cmd.ProcessState),
	}
	s.size, err = dataSize(ctx, out)
	return s, err
}

// dataSize returns the compressed bytes of the contacts' own columns.
func dataSize(ctx context.Context, dir string) (size int64, err error) {
	db, err := sql.Open("duckdb", "")
	if err != nil {
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	row := db.QueryRowContext(ctx, "SELECT sum(total_compressed_size)::BIGINT FROM parquet_metadata('"+dir+"/*.parquet') WHERE NOT starts_with(path_in_schema, '_sluice')")
	return size, row.Scan(&size)
}

// report prints medians and the ratios to the first contender: above 1 is
// faster than it for wall and CPU, and smaller than it for the rest.
func report(w io.Writer, o options, bytes int64, samples map[string][]sample) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "contender\twall s\tCPU s\tMB/s of CPU\tpeak RSS MiB\tdata MB\twall x\tCPU x\tdata x")
	var base sample
	for i, name := range contenders() {
		m := median(samples[name])
		if i == 0 {
			base = m
		}
		fmt.Fprintf(t, "%s\t%.2f\t%.2f\t%.0f\t%.0f\t%.1f\t%.2f\t%.2f\t%.2f\n", name,
			m.wall.Seconds(), m.cpu.Seconds(), float64(bytes)/1e6/m.cpu.Seconds(),
			float64(m.rss)/(1<<20), float64(m.size)/1e6,
			base.wall.Seconds()/m.wall.Seconds(), base.cpu.Seconds()/m.cpu.Seconds(), float64(base.size)/float64(m.size))
	}
	fmt.Fprintf(t, "\nx: how many times better than %s; medians of %d\n", contenders()[0], o.rounds)
	return t.Flush()
}

// median takes the median of each figure on its own.
func median(s []sample) sample {
	pick := func(get func(sample) int64) int64 {
		v := make([]int64, len(s))
		for i := range s {
			v[i] = get(s[i])
		}
		slices.Sort(v)
		return v[len(v)/2]
	}
	return sample{
		wall: time.Duration(pick(func(x sample) int64 { return int64(x.wall) })),
		cpu:  time.Duration(pick(func(x sample) int64 { return int64(x.cpu) })),
		rss:  pick(func(x sample) int64 { return x.rss }),
		size: pick(func(x sample) int64 { return x.size }),
	}
}
