package bigquery

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strconv"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	bq "google.golang.org/api/bigquery/v2"
	"google.golang.org/api/googleapi"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

const (
	// loadBytes is the size of the parts that go into one load job. As JSON they
	// are some ten times that, far below what a job takes, and a table may only
	// have so many jobs a day ("Quotas and limits", "Load jobs").
	loadBytes = 64 << 20
	// uploadChunk is what is sent at a time, and held in memory to send again.
	uploadChunk = 8 << 20
	// chunkTimeout is how long one chunk may take.
	chunkTimeout = 2 * time.Minute
	// mostJobs bounds how many jobs of one file may have failed, earlier commits'
	// included.
	mostJobs = 100
	// slowestPoll is the exponent of the longest pause between two questions.
	slowestPoll = 4
	// stagedAtLabel is the time in the rows of a load job, in microseconds: by it
	// a job is known that has the id and other rows.
	stagedAtLabel = "sluice_staged_at"
)

// errSpentID says that a job of another attempt has the id.
var errSpentID = errors.New("the job's id was used for other rows")

// loadGroup are parts that one load job takes.
type loadGroup struct {
	number int
	parts  []load.Part
	rows   int64
}

func (g loadGroup) String() string {
	if len(g.parts) == 1 {
		return "part " + g.parts[0].Path
	}
	return fmt.Sprintf("parts %s to %s", g.parts[0].Path, g.parts[len(g.parts)-1].Path)
}

// grouped divides parts in their order: every commit of a package does it in
// the same way.
func grouped(parts []load.Part) []loadGroup {
	var out []loadGroup
	size := int64(0)
	for _, p := range parts {
		if p.Rows == 0 {
			continue
		}
		if len(out) == 0 || size+p.Bytes > loadBytes {
			out = append(out, loadGroup{number: len(out)})
			size = 0
		}
		g := &out[len(out)-1]
		g.parts, g.rows = append(g.parts, p), g.rows+p.Rows
		size += p.Bytes
	}
	return out
}

// stageByLoad brings the package's rows into the staging table by load jobs.
// Their ids follow from the package and the attempt, which is noted before the
// first: a job that an earlier commit has started is found and not repeated.
func (r *remote) stageByLoad(ctx context.Context, p load.Package, table schemas.Table, m memo, usable bool) (memo, error) {
	groups := grouped(p.Parts)
	rows := int64(0)
	for _, g := range groups {
		rows += g.rows
	}
	for attempt := 1; ; attempt++ {
		if !usable {
			var err error
			if m, err = r.begin(ctx, p, Load, rows, m); err != nil {
				return m, err
			}
			if err := remember(ctx, p, m); err != nil {
				return m, err
			}
		}
		err := parallel(ctx, len(groups), r.o.InFlight, func(ctx context.Context, i int) error {
			return r.loadGroup(ctx, p, table, groups[i], m)
		})
		if err == nil || attempt == mostAttempts || !errors.Is(err, errSpentID) {
			return m, err
		}
		usable = false
	}
}

// jobID is the id of a job, which follows from what it loads.
func (r *remote) jobID(p load.Package, g loadGroup, m memo, try int) string {
	sum := sha256.Sum256([]byte(p.Lineage + "\x00" + r.o.place(r.o.Table)))
	return fmt.Sprintf("sluice_load_%s_%d_%d_%d_%d", hex.EncodeToString(sum[:])[:24], p.Serial, m.Attempt, g.number, try)
}

// loadGroup loads one group, by the first job of it that goes well. A job that
// fails loads nothing, and its id is spent.
func (r *remote) loadGroup(ctx context.Context, p load.Package, table schemas.Table, g loadGroup, m memo) error {
	location, err := r.where(ctx)
	if err != nil {
		return err
	}
	ran := 0
	for try := 1; try <= mostJobs; try++ {
		ref := &bq.JobReference{ProjectId: r.o.Project, Location: location, JobId: r.jobID(p, g, m, try)}
		ours, err := r.runLoad(ctx, ref, p, table, g, m)
		var failed *jobError
		switch {
		case err == nil:
			return nil
		case !errors.As(err, &failed):
			return fmt.Errorf("load %s: %w", g, err)
		case !ours: // an earlier commit's: what it failed of may be mended by now
			continue
		case !again(err):
			return refused(g, failed)
		}
		if ran++; ran == mostRuns {
			return fmt.Errorf("load %s: %w", g, err)
		}
		if err := r.wait(ctx, ran); err != nil {
			return err
		}
	}
	return &Error{Message: fmt.Sprintf("%d load jobs of %s have failed", mostJobs, g), hint: "Run with --full to read the contacts again."}
}

// refused reports rows that the service does not take.
func refused(g loadGroup, e *jobError) error {
	if e.reason != "invalid" {
		return fmt.Errorf("load %s: %w", g, e)
	}
	return &Error{
		Message: "BigQuery refuses rows of " + g.String(), Err: e,
		hint: "Declare the field that it names with another type, under another column name, or correct it at the source.",
	}
}

// runLoad starts a job unless it is there, and waits for it; ours reports that
// this call has started it.
func (r *remote) runLoad(ctx context.Context, ref *bq.JobReference, p load.Package, table schemas.Table, g loadGroup, m memo) (ours bool, err error) {
	var failed error // why the last upload did not go well
	for try, polls := 0, 1; ; {
		job, err := r.fate(ctx, ref)
		switch {
		case isFailed(err):
			return ours, err
		case err == nil && job.Configuration != nil && job.Configuration.Labels[stagedAtLabel] != stagedLabel(m):
			return ours, errSpentID
		case err == nil && job.Status != nil && job.Status.State == "DONE":
			return ours, checkLoaded(job, g)
		case err == nil:
			if err := r.wait(ctx, min(polls, slowestPoll)); err != nil {
				return ours, err
			}
			polls++
			continue
		case !notFound(err):
			return ours, err
		}
		// There is no such job, so the upload that failed, if any, had no effect.
		// One that the service does not know any more begins anew ("Upload data",
		// "Resumable uploads").
		if failed != nil {
			if !again(failed) && !notFound(failed) || try == mostTries {
				return ours, failed
			}
			if err := r.wait(ctx, try); err != nil {
				return ours, err
			}
		}
		ours, try = true, try+1
		if failed = r.upload(ctx, ref, p, table, g, m); failed != nil && ctx.Err() != nil {
			return ours, context.Cause(ctx)
		}
	}
}

func stagedLabel(m memo) string { return strconv.FormatInt(m.StagedAt.UnixMicro(), 10) }

func checkLoaded(job *bq.Job, g loadGroup) error {
	if s := job.Statistics; s != nil && s.Load != nil && s.Load.OutputRows != g.rows {
		return fmt.Errorf("job %s loaded %d rows of %d", job.JobReference.JobId, s.Load.OutputRows, g.rows)
	}
	return nil
}

// upload sends a group's rows, as they are encoded, with the request for the
// job.
func (r *remote) upload(ctx context.Context, ref *bq.JobReference, p load.Package, table schemas.Table, g loadGroup, m memo) error {
	job := &bq.Job{JobReference: ref, Configuration: &bq.JobConfiguration{
		Labels: r.o.labels(stagedAtLabel, stagedLabel(m)),
		Load: &bq.JobConfigurationLoad{
			DestinationTable: r.o.reference(r.o.staging()), SourceFormat: "NEWLINE_DELIMITED_JSON", Encoding: "UTF-8",
			CreateDisposition: "CREATE_NEVER", WriteDisposition: "WRITE_APPEND",
		},
	}}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	out, in := io.Pipe()
	encoded := make(chan error, 1)
	go func() {
		err := encodeGroup(ctx, in, p.Serial, table, g, m)
		encoded <- err
		_ = in.CloseWithError(err) // a pipe's never fails
	}()
	_, err := r.rest.Jobs.Insert(ref.ProjectId, job).Context(ctx).
		Media(out, googleapi.ContentType("application/octet-stream"), googleapi.ChunkSize(uploadChunk), googleapi.ChunkTransferTimeout(chunkTimeout)).Do()
	_ = out.CloseWithError(errUploaded) // ends the encoder where the service did not read to the end
	if failed := <-encoded; failed != nil && !errors.Is(failed, errUploaded) {
		return failed
	}
	return err
}

// errUploaded says that nobody reads what is encoded any more.
var errUploaded = errors.New("the upload is over")

func encodeGroup(ctx context.Context, to io.Writer, serial int64, table schemas.Table, g loadGroup, m memo) error {
	w := newJSONWriter(serial, m)
	for _, part := range g.parts {
		err := eachRecord(ctx, part, table, nil, func(rec arrow.Record) error {
			return w.lines(to, rec, table)
		})
		if err != nil {
			return err
		}
	}
	return nil
}
