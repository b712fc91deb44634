package extract

import (
	"context"
	"errors"
)

type runner struct{ out Outcome }

func (w *Walk) newRunner(Sink) (*runner, error) { return nil, errors.New("not built yet") }

func (r *runner) run(context.Context) error { return nil }
