package run

import (
	"cmp"
	"context"
	"fmt"
	"sync"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/transform"
)

// mostSilent is how many contacts of one page may get no answer.
const mostSilent = 2

// EnrichPage returns a page of the list as a run with enrich: info would stage
// it, an array: each contact that passes o.Filter with what the info endpoint has
// more of it, asked for by at most so many workers at once (0: 4) under the
// client's limits. Nothing is written. A contact without an answer stays as the
// list has it, more than two of them are an *EnrichError, and so is a key that may
// not read the endpoint. It blocks until all have been asked for or ctx ends.
func EnrichPage(ctx context.Context, client *extract.Client, o transform.Options, workers int, page []byte) ([]byte, Enriched, error) {
	var (
		mu    sync.Mutex
		asked Enriched
	)
	count := func(n Enriched) Enriched {
		mu.Lock()
		defer mu.Unlock()
		asked = asked.plus(n)
		return asked
	}
	o.Filter, o.Bury = nil, o.Filter // as a run decodes
	e := newEnricher(client, o, cmp.Or(workers, defaultWorkers))
	e.answered = func(_ askedFor, n Enriched) error { count(n); return nil }
	e.failed = func(_ askedFor, cause error) error {
		if n := count(Enriched{Failed: 1}); n.Failed > mostSilent {
			return &EnrichError{Failed: n.Failed, Asked: n.total(), Err: cause}
		}
		return nil
	}
	records, err := recordsOf(page)
	if err != nil {
		return nil, asked, fmt.Errorf("take page apart: %w", err)
	}
	wanted, err := e.choose(records, nil)
	if err != nil {
		return nil, asked, err
	}
	out := make([][]byte, len(records))
	for from := 0; from < len(records); {
		until, err := e.fetch(ctx, records, wanted, from)
		if err != nil {
			return nil, asked, err
		}
		for ; from < until; from++ {
			out[from] = records[from]
		}
	}
	return pageOf(out), asked, nil
}
