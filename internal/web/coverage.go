package web

import (
	"cmp"
	"encoding/json"
	"slices"
	"time"
)

// record is what a run covered, as `sluice runs --json` prints it. Only what the
// page shows is read; numbers that are missing are none.
type record struct {
	Reason        string           `json:"reason"`
	Resumed       bool             `json:"resumed"`
	Source        string           `json:"source"`
	CursorFrom    *time.Time       `json:"cursor_from"`
	CursorTo      *time.Time       `json:"cursor_to"`
	RetriesBy     map[string]int64 `json:"retries_by"`
	Duplicates    int64            `json:"duplicates"`
	QuarantinedBy map[string]int64 `json:"quarantined_by"`
	Misfits       map[string]int64 `json:"misfits"`
	Discarded     map[string]int64 `json:"discarded"`
	Marked        int64            `json:"marked"`
	Phases        []struct {
		Phase   string `json:"phase"`
		Outcome struct {
			Key   string     `json:"key"`
			From  time.Time  `json:"from"`
			Until *time.Time `json:"until"`
			Final []struct {
				After   time.Time  `json:"after"`
				Through *time.Time `json:"through"`
			} `json:"final"`
			EndReason   string   `json:"end_reason"`
			Windows     int64    `json:"windows"`
			Pages       int64    `json:"pages"`
			Requests    int64    `json:"requests"`
			Rows        int64    `json:"rows"`
			Duplicates  int64    `json:"duplicates"`
			Ties        []tie    `json:"ties"`
			Assumptions []string `json:"assumptions"`
		} `json:"outcome"`
	} `json:"phases"`
	Reconciled *struct {
		Live     int64 `json:"live"`
		Walked   int64 `json:"walked"`
		Missing  int64 `json:"missing"`
		Gone     int64 `json:"gone"`
		Unlisted int64 `json:"unlisted"`
		Unasked  int64 `json:"unasked"`
		Returned int64 `json:"returned"`
	} `json:"reconciled"`
}

// tie is contacts that share a timestamp and did not fit a page.
type tie struct {
	At          any    `json:"at"` // text; microseconds in a record of before
	Size        int64  `json:"size"`
	Passes      int64  `json:"passes"`
	Statistical bool   `json:"statistical"`
	Why         string `json:"why"`
}

// Coverage is what a run covered, for people.
type Coverage struct {
	Facts       []Fact
	Phases      []Phase
	Assumptions []string
	Tallies     []Tally
	Broken      string // why it cannot be shown; empty where it can
}

// Phase is one walk of a run.
type Phase struct {
	Title, Key, End                string
	Intervals                      []Span
	More                           int
	Rows, Pages, Requests, Windows string
	Duplicates                     string
	Ties                           []Tie
	TieText                        string
}

// Span is a stretch of a timestamp, of which everything was read for good.
type Span struct{ After, Through string }

// Tie is a block of contacts that share a timestamp, drained statistically.
type Tie struct{ At, Size, Passes, Why string }

// Tally counts something by what it was.
type Tally struct {
	Name  string
	Items []Item
}

// Item is a name with a number.
type Item struct {
	Name  string
	Count string
	n     int64
}

// shownSpans is how many stretches of a phase are listed.
const shownSpans = 12

// coverage reads a run's record; nil where there is none.
func coverage(data json.RawMessage) *Coverage {
	if len(data) == 0 {
		return nil
	}
	var r record
	if err := json.Unmarshal(data, &r); err != nil {
		return &Coverage{Broken: err.Error()}
	}
	c := &Coverage{}
	fact := func(name, value string) {
		if value != "" {
			c.Facts = append(c.Facts, Fact{Name: name, Value: value})
		}
	}
	fact("Why", r.Reason)
	fact("Source", r.Source)
	if r.Resumed {
		fact("Resumed", "yes: an unfinished run had read a part of it")
	}
	if r.CursorTo != nil {
		fact("Cursor", cmp.Or(stamp(r.CursorFrom), "none")+" → "+stamp(r.CursorTo))
	}
	if r.Duplicates > 0 {
		fact("Met again", counted(r.Duplicates, "contact", "contacts")+", as they had been")
	}
	if r.Marked > 0 {
		fact("Marked as deleted", counted(r.Marked, "contact", "contacts"))
	}
	if m := r.Reconciled; m != nil {
		fact("Table", counted(m.Live, "contact", "contacts"))
		fact("Source showed", counted(m.Walked, "contact", "contacts"))
		fact("Missing", count(m.Missing)+": "+count(m.Gone)+" gone, "+count(m.Unlisted)+" still there when asked for by id, "+count(m.Unasked)+" left to the next run")
		fact("There again", count(m.Returned))
	}
	for i := range r.Phases {
		c.Phases = append(c.Phases, phaseOf(&r, i))
		for _, a := range r.Phases[i].Outcome.Assumptions {
			if !slices.Contains(c.Assumptions, a) {
				c.Assumptions = append(c.Assumptions, a)
			}
		}
	}
	for _, t := range []struct {
		name string
		of   map[string]int64
	}{{"Retries by cause", r.RetriesBy}, {"Values that did not fit, by column", r.Misfits}, {"Values that the contract left out, by field", r.Discarded}} {
		if items := items(t.of); len(items) > 0 {
			c.Tallies = append(c.Tallies, Tally{t.name, items})
		}
	}
	return c
}

func phaseOf(r *record, i int) Phase {
	o := r.Phases[i].Outcome
	p := Phase{
		Title: phaseName(r.Phases[i].Phase), Key: o.Key, End: endText(o.EndReason),
		Rows: count(o.Rows), Pages: count(o.Pages), Requests: count(o.Requests), Windows: count(o.Windows), Duplicates: count(o.Duplicates),
	}
	for j, f := range o.Final {
		if j == shownSpans {
			p.More = len(o.Final) - shownSpans
			break
		}
		span := Span{After: stamp(&f.After), Through: cmp.Or(stamp(f.Through), "the end")}
		if f.After.Unix() <= 0 {
			span.After = "the beginning"
		}
		p.Intervals = append(p.Intervals, span)
	}
	contacts := int64(0)
	for _, t := range o.Ties {
		contacts += t.Size
		if t.Statistical {
			at, _ := t.At.(string)
			p.Ties = append(p.Ties, Tie{At: at, Size: count(t.Size), Passes: count(t.Passes), Why: t.Why})
		}
	}
	switch {
	case len(o.Ties) == 0:
	case len(p.Ties) == 0:
		p.TieText = counted(len(o.Ties), "block", "blocks") + " of contacts that share a timestamp (" + counted(contacts, "contact", "contacts") + "): all read by anchored pages."
	default:
		p.TieText = counted(len(o.Ties), "block", "blocks") + " of contacts that share a timestamp, " + count(len(p.Ties)) +
			" of them drained statistically: their order changed between requests, so that they are complete as far as repeated reading tells."
	}
	return p
}

func phaseName(phase string) string {
	switch phase {
	case "scan":
		return "All contacts"
	case "changes":
		return "Changes"
	case "recent":
		return "Recent contacts"
	case "backfill":
		return "The range"
	case "walk":
		return "All ids"
	case "confirm":
		return "Missing contacts, one by one"
	case "missing":
		return "Contacts that were not met"
	case "info":
		return "Details that were missing"
	case "retry":
		return "Records set aside"
	default:
		return phase
	}
}

func endText(reason string) string {
	switch reason {
	case "end_of_rows":
		return "the source had no more"
	case "start_of_run":
		return "it reached the time at which the run began"
	case "end_of_window":
		return "it reached the end of the range"
	case "end_of_slice":
		return "it had read as much as one run may"
	case "":
		return ""
	default:
		return reason
	}
}

// stamp prints a time to the precision that cursors have; empty for none.
func stamp(t *time.Time) string {
	if t == nil || t.Unix() <= 0 {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05.999999") + " UTC"
}

// items are counts, the greatest first.
func items(of map[string]int64) []Item {
	var list []Item
	for name, n := range of {
		if n != 0 {
			list = append(list, Item{Name: name, Count: count(n), n: n})
		}
	}
	slices.SortFunc(list, func(a, b Item) int { return cmp.Or(cmp.Compare(b.n, a.n), cmp.Compare(a.Name, b.Name)) })
	return list
}
