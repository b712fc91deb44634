package cli

import (
	"context"
	"log/slog"
	"sync/atomic"

	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/internal/schedule"
)

const attrRun = "run_id"

// runLog writes the lines of one run. Once the run has an id, each has it.
type runLog struct {
	*slog.Logger
	id *atomic.Pointer[string]
}

func newRunLog(log *slog.Logger) runLog {
	id := new(atomic.Pointer[string])
	return runLog{slog.New(runHandler{log.Handler(), id}), id}
}

// belong has the lines to come, that of the scheduler about its end among them,
// carry a run's id.
func (l runLog) belong(ctx context.Context, id string) {
	if id == "" || !l.id.CompareAndSwap(nil, &id) {
		return
	}
	schedule.Note(ctx, slog.String(attrRun, id))
}

// runHandler adds the id to lines that name no run.
type runHandler struct {
	slog.Handler
	id *atomic.Pointer[string]
}

var _ slog.Handler = runHandler{}

// Handle implements slog.Handler.
func (h runHandler) Handle(ctx context.Context, r slog.Record) error {
	if id := h.id.Load(); id != nil {
		named := false
		r.Attrs(func(a slog.Attr) bool {
			named = named || a.Key == attrRun
			return !named
		})
		if !named {
			r = r.Clone()
			r.AddAttrs(slog.String(attrRun, *id))
		}
	}
	return h.Handler.Handle(ctx, r)
}

// WithAttrs implements slog.Handler.
func (h runHandler) WithAttrs(attrs []slog.Attr) slog.Handler {
	return runHandler{h.Handler.WithAttrs(attrs), h.id}
}

// WithGroup implements slog.Handler.
func (h runHandler) WithGroup(name string) slog.Handler {
	return runHandler{h.Handler.WithGroup(name), h.id}
}

// logged tells in log lines what a run does.
func logged(ctx context.Context, log runLog) func(run.Event) {
	return func(e run.Event) {
		log.belong(ctx, e.RunID)
		switch e.Type {
		case eventStarted:
			log.InfoContext(ctx, "reading", slog.String("mode", e.Mode), slog.String("reason", e.Reason))
		case eventCommitted:
			if r := e.Result; r != nil {
				log.InfoContext(ctx, "committed", slog.String("destination", e.Destination), slog.Int64("package", e.Package),
					slog.Int64("new", r.New), slog.Int64("changed", r.Changed), slog.Int64("unchanged", r.Unchanged),
					slog.Int64("deleted", r.Deleted), slog.Int("files", len(r.Files)))
			}
		case eventKept:
			log.WarnContext(ctx, "an unfinished backfill is kept: give its command again, or remove its directory",
				slog.String("range", e.Reason), slog.String("dir", e.Dir))
		case eventNote:
			log.WarnContext(ctx, "went wrong, and does not make the run fail", slog.String("what", e.Reason))
		case eventFailed:
			log.ErrorContext(ctx, "commit failed", slog.String("destination", e.Destination), slog.String("error", e.Error))
		}
	}
}

// summarize tells in a log line what a run brought.
func summarize(ctx context.Context, log *slog.Logger, sum run.Summary, err error) error {
	if err != nil {
		return err
	}
	attrs := []slog.Attr{slog.String("status", sum.Status)}
	if r := sum.Reconciled; r != nil {
		attrs = append(attrs, slog.Int64("live", r.Live), slog.Int64("walked", r.Walked), slog.Int64("missing", r.Missing), slog.Int64("gone", r.Gone),
			slog.Int64("unlisted", r.Unlisted), slog.Int64("unasked", r.Unasked), slog.Int64("returned", r.Returned))
	} else {
		attrs = append(attrs, slog.Int64("new", sum.New), slog.Int64("changed", sum.Changed), slog.Int64("unchanged", sum.Unchanged), slog.Int64("deleted", sum.Deleted))
	}
	attrs = append(attrs, slog.Int64("requests", sum.Requests), slog.Int64("retries", sum.Retries), slog.String("cursor", sum.Cursor))
	log.LogAttrs(ctx, slog.LevelInfo, "summary", attrs...)
	return nil
}
