package web

import (
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/sluice-etl/sluice/internal/state"
)

const (
	chartRuns   = 30
	chartHeight = 40.0
	barWidth    = 6.0
	barGap      = 2.0
	leastBar    = 2.0
	// farAbove is how many times the usual value a bar may be before it is cut
	// off: a first full read would make all others invisible.
	farAbove = 6.0
)

// Chart is a small chart of the last runs.
type Chart struct {
	Name, Last, Label string
	Width, Height     float64
	Bars              []Bar
}

// Bar is one run in a chart.
type Bar struct {
	X, Y, W, H float64
	Class      string
	Title      string
	Cut        float64 // where a bar that is too high is broken; 0: it is not
	Cross      bool    // of a run that failed
	CrossPath  string
}

// measure is something that runs are compared by.
type measure struct {
	name  string
	value func(state.RunRecord) float64
	text  func(float64) string
}

func whole(v float64) string { return count(int64(v)) }

func measures() []measure {
	return []measure{
		{"Duration", func(r state.RunRecord) float64 {
			if r.FinishedAt == nil {
				return 0
			}
			return r.FinishedAt.Sub(r.StartedAt).Seconds()
		}, func(v float64) string { return took(time.Duration(v * float64(time.Second))) }},
		{"Rows read", func(r state.RunRecord) float64 { return float64(r.Rows) }, whole},
		{"Requests", func(r state.RunRecord) float64 { return float64(r.Requests) }, whole},
		{"Retries", func(r state.RunRecord) float64 { return float64(r.Retries) }, whole},
	}
}

// charts shows the last syncs, oldest first; none where there is none.
func charts(all []state.RunRecord, zone *time.Location) []Chart {
	var runs []state.RunRecord
	for _, r := range slices.Backward(all) {
		if r.Kind == kindSync && len(runs) < chartRuns {
			runs = append(runs, r)
		}
	}
	if len(runs) == 0 {
		return nil
	}
	slices.Reverse(runs)
	var out []Chart
	for _, m := range measures() {
		out = append(out, chart(m, runs, zone))
	}
	return out
}

func chart(m measure, runs []state.RunRecord, zone *time.Location) Chart {
	values := make([]float64, len(runs))
	for i, r := range runs {
		values[i] = m.value(r)
	}
	most, failed := slices.Max(values), 0
	top := ceiling(values)
	c := Chart{Name: m.name, Last: m.text(values[len(values)-1]), Width: chartRuns * (barWidth + barGap), Height: chartHeight + 8}
	for i, r := range runs {
		h := 0.0
		if top > 0 {
			h = chartHeight * math.Min(1, values[i]/top)
		}
		if values[i] > 0 {
			h = math.Max(leastBar, h)
		}
		b := Bar{X: float64(chartRuns-len(runs)+i) * (barWidth + barGap), W: barWidth, Class: "bar"}
		b.Title = exact(r.StartedAt, zone) + ": " + m.text(values[i]) + ", " + r.Status
		if r.Status != statusDone {
			failed++
			h = math.Max(leastBar, h)
			b.Class, b.Cross = "bar failed", true
			b.CrossPath = fmt.Sprintf("M%g %g l4 4 m0 -4 l-4 4", b.X+1, chartHeight+3)
		}
		b.H, b.Y = round(h), round(chartHeight-h)
		if values[i] > top {
			b.Cut = 6
		}
		c.Bars = append(c.Bars, b)
	}
	c.Label = fmt.Sprintf("%s of the last %s: %s in the last, %s at most, %d failed", m.name, counted(len(runs), "run", "runs"), c.Last, m.text(most), failed)
	return c
}

func round(v float64) float64 { return math.Round(v*10) / 10 }

// ceiling is the value of a bar as high as the chart: the greatest, unless that is
// far above what is usual.
func ceiling(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	most := sorted[len(sorted)-1]
	usual := sorted[len(sorted)*3/4] // of four runs, three take no more
	if usual > 0 && most > farAbove*usual {
		return 2 * usual
	}
	return most
}
