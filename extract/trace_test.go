package extract_test

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/sluice-etl/sluice/extract"
	"github.com/sluice-etl/sluice/extract/extracttest"
)

type tracer struct{ extract.Pager }

func (t tracer) Page(ctx context.Context, q extract.Query, decode func([]byte, extract.PageInfo) error) (extract.Response, error) {
	var list []string
	resp, err := t.Pager.Page(ctx, q, func(b []byte, i extract.PageInfo) error {
		rows, _ := extracttest.Decode(b)
		for _, r := range rows {
			id, n := extracttest.Identify(r)
			k := r.Updated
			if q.CreatedAfter != nil {
				k = r.Created
			}
			list = append(list, fmt.Sprintf("%d.%d@%s", id, n, extract.FormatTime(k)[17:]))
		}
		return decode(b, i)
	})
	m := q.UpdatedAfter
	if m == nil {
		m = q.CreatedAfter
	}
	if os.Getenv("TRACE") == "2" {
		fmt.Println("   ", extract.FormatTime(*m)[11:], q.Offset, "sent", resp.SentAt.Format("15:04:05.000"), "date", resp.Date.Format("15:04:05"), "recv", resp.ReceivedAt.Format("15:04:05.000"), resp.Cached, list)
	}
	return resp, err
}

func TestTrace(t *testing.T) {
	if os.Getenv("TRACE") == "" {
		t.Skip()
	}
	seed, _ := envNumber(t, "SLUICE_SIM_SEED", 0)
	sch := newSchedule(seed)
	fmt.Printf("%+v\n", sch)
	e, err := attack(t.Context(), sch, func(ctx context.Context, s schedule, p pass) (extract.Outcome, error) {
		fmt.Println("walk", p.key, extract.FormatTime(p.from), "stop", p.stopAt)
		p.src = tracer{p.src}
		o, err := walk(0)(ctx, s, p)
		fmt.Printf("  -> mark %s final %s req %d pages %d rows %d dup %d disc %d reason %s err %v\n", extract.FormatTime(o.Mark), extract.FormatTime(o.Final), o.Requests, o.Pages, o.Rows, o.Duplicates, o.Discarded, o.EndReason, err)
		for i, b := range o.Ties {
			if i > 40 {
				break
			}
			fmt.Printf("     %s %+v\n", extract.FormatTime(b.At), b)
		}
		return o, err
	})
	fmt.Println(len(e.out), err)
}
