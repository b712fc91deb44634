package extract_test

import (
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/sluice-etl/sluice/extract"
)

func TestNoMoreRequestsAreSentThanTheBudgetHasRepeatsIncluded(t *testing.T) {
	var sent atomic.Int64
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		if sent.Add(1)%2 == 1 {
			w.WriteHeader(http.StatusBadGateway)
			return
		}
		_, _ = w.Write([]byte("[]"))
	}, func(s *extract.Source) { s.MaxRequests = 5 })
	var failed error
	answered := 0
	for range 4 {
		if _, _, err := read(t, c); err != nil {
			failed = err
			break
		}
		answered++
	}
	var spent *extract.BudgetError
	if !errors.As(failed, &spent) || spent.MaxRequests != 5 || answered != 2 || sent.Load() != 5 {
		t.Errorf("%d answered, %d sent, then %v", answered, sent.Load(), failed)
	}
	if got := c.Stats(); got.Requests != 5 || !strings.Contains(spent.Hint(), "the next run goes on") {
		t.Errorf("%+v, %s", got, spent.Hint())
	}
}

func TestWorkersShareABudget(t *testing.T) {
	var sent atomic.Int64
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		sent.Add(1)
		_, _ = w.Write([]byte("[]"))
	}, func(s *extract.Source) { s.MaxRequests, s.Concurrency = 20, 8 })
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for {
				if _, _, err := read(t, c); err != nil {
					if !errors.As(err, new(*extract.BudgetError)) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	wg.Wait()
	if sent.Load() != 20 {
		t.Errorf("%d sent", sent.Load())
	}
}

func TestARequestWhoseAnswerCouldExceedTheBudgetIsNotSent(t *testing.T) {
	var sent atomic.Int64
	body := "[" + strings.Repeat(" ", 998) + "]"
	c := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		sent.Add(1)
		_, _ = w.Write([]byte(body))
	}, func(s *extract.Source) { s.MaxBytes = 3500 })
	for range 3 {
		if _, _, err := read(t, c); err != nil {
			t.Fatal(err)
		}
	}
	_, _, err := read(t, c)
	var spent *extract.BudgetError
	if !errors.As(err, &spent) || spent.Bytes != 3000 || sent.Load() != 3 || !strings.Contains(err.Error(), "3500 bytes, 3000 are read") {
		t.Errorf("%d sent, then %v", sent.Load(), err)
	}
}
