package cli

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/internal/diag"
	"github.com/sluice-etl/sluice/internal/duck"
)

// shown is what an error looks like to the user.
func shown(err error) string {
	var b strings.Builder
	a := &app{Program: Program{Env: func(string) (string, bool) { return "", false }}}
	a.err = &screen{w: &b, width: func() int { return 0 }}
	a.show(err)
	return b.String()
}

func TestAnErrorSaysWhatHappenedAndThenWhatToDo(t *testing.T) {
	t.Parallel()
	inner := &userError{message: "no space left on device", hint: "free some space"}
	for name, tc := range map[string]struct {
		err  error
		want string
	}{
		"without a hint": {errors.New("it broke"), "error: it broke\n"},
		"what wraps an error knows more than it": {
			&userError{message: "commit", err: fmt.Errorf("lake: %w", inner), hint: "run again"},
			"error: commit: lake: no space left on device\n  run again\n",
		},
		"joined errors each have their hint, once": {
			fmt.Errorf("commit: %w", errors.Join(fmt.Errorf("lake: %w", inner), inner)),
			"error: commit: lake: no space left on device\n  no space left on device\n  free some space\n",
		},
		"a long hint is wrapped": {
			&userError{message: "m", hint: strings.Repeat("word ", 20)},
			"error: m\n  word word word word word word word word word word word word word word word\n  word word word word word\n",
		},
		"control characters of a server": {errors.New("got \x1b[31m"), "error: got \ufffd[31m\n"},
		"usage":                          {&usageError{command: "sluice run", err: errors.New("unknown flag: --fll")}, "error: unknown flag: --fll\n  see `sluice run --help`\n"},
		"diagnostics": {
			fmt.Errorf("load: %w", diag.List{{Summary: "unknown key \"a\"", File: "pipelines.yaml", Line: 2, Col: 3, Snippet: "  a: 1", Hint: "allowed: b"}}.Err()),
			"pipelines.yaml:2:3: error: unknown key \"a\"\n    2 |   a: 1\n      |   ^\n  allowed: b\n",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tc.want, shown(tc.err)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestABinaryWithoutDuckDBSaysWhatIsMissing(t *testing.T) {
	t.Parallel()
	got := shown(duck.ErrUnavailable)
	for _, want := range []string{"error: this binary was built without DuckDB", "CGO_ENABLED=1", "views.sql", "Everything else but DuckDB"} {
		if !strings.Contains(got, want) {
			t.Errorf("%q is missing in\n%s", want, got)
		}
	}
}

func TestExitCodesFollowTheEnd(t *testing.T) {
	t.Parallel()
	stopped, cancel := context.WithCancelCause(t.Context())
	cancel(SignalError{Name: "SIGTERM", Code: 143})
	for name, tc := range map[string]struct {
		stopped bool
		err     error
		want    int
	}{
		"done":               {false, nil, 0},
		"done, then stopped": {true, nil, 0},
		"error":              {false, errors.New("x"), 1},
		"partly":             {false, &exitCodeError{code: exitPartial, err: errors.New("x")}, 4},
		"stopped":            {true, errors.New("x"), 143},
		"stopped, partly":    {true, &exitCodeError{code: exitPartial, err: errors.New("x")}, 143},
	} {
		var b strings.Builder
		a := &app{Program: Program{Env: func(string) (string, bool) { return "", false }}}
		a.err = &screen{w: &b, width: func() int { return 0 }}
		ctx := t.Context()
		if tc.stopped {
			ctx = stopped
		}
		if got := a.finish(ctx, tc.err); got != tc.want {
			t.Errorf("%s: exit %d, want %d", name, got, tc.want)
		}
	}
}
