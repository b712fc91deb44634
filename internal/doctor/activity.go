package doctor

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/sluice-etl/sluice/extract"
)

const (
	keyFullEvery = "pipelines.*.full_every"
	keyLookback  = "pipelines.*.lookback"
)

// lookAtRecent asks what changed shortly ago, for checkLate to compare with
// what the same question brings at the end. Where that is more than a page,
// the last minutes have to do.
func (e *exam) lookAtRecent(ctx context.Context) (finding, error) {
	for _, back := range []time.Duration{max(2*e.o.Lookback, 10*time.Minute), 5 * time.Minute} {
		us := now(e.first) - back.Microseconds()
		p, err := e.ask(ctx, extract.Query{UpdatedAfter: at(us - us%milli), Limit: e.limit})
		if err != nil {
			return finding{}, err
		}
		e.recent = p
		if len(p.rows) < e.limit {
			break
		}
	}
	return finding{}, nil
}

// checkLate asks again what was asked at the start: a contact that was not
// there, with an updated_at from before that moment, became visible late.
func (e *exam) checkLate(ctx context.Context) (finding, error) {
	early := e.recent
	if early == nil {
		return unknown("The page to compare with is missing."), nil
	}
	if early.resp.Date.IsZero() || early.resp.Cached {
		return unknown("Answers do not tell the source's time: a late row cannot be told from a new one."), nil
	}
	p, err := e.ask(ctx, early.query)
	if err != nil {
		return finding{}, err
	}
	seen, read := early.ids(), early.resp.Date.UnixMicro()
	changed, late, longest := 0, 0, int64(0)
	last := int64(0)
	if e.full(early) && len(early.rows) > 0 {
		last = early.rows[len(early.rows)-1].updated.us // what lay behind it was not seen
	}
	for _, r := range p.rows {
		if old, there := seen[r.id]; !r.updated.ok || there && old.updated.us == r.updated.us || last > 0 && r.updated.us >= last {
			continue
		}
		changed++
		if r.updated.us < read-2*border {
			late++
			longest = max(longest, read-r.updated.us)
		}
	}
	apart := span(p.resp.SentAt.Sub(early.resp.SentAt))
	switch {
	case late == 0 && changed == 0:
		return unknown(fmt.Sprintf("Nothing changed in the %s between the first look and the last.", apart)), nil
	case late == 0:
		return finding{OK, fmt.Sprintf("%s changed in %s, and none of them became visible after its updated_at had passed.", contacts(changed), apart), "No proof: lookback stands for what a slow write may do."}, nil
	}
	f := finding{Note, fmt.Sprintf("%s became visible at least %s after the updated_at they carry.", contacts(late), span(micros(longest))), "The lookback covers that."}
	if want := 4 * micros(longest); want > e.o.Lookback {
		f.means = fmt.Sprintf("Set lookback: %s or more.", setting(want))
		e.suggest(keyLookback, "lookback: "+setting(want), "rows became visible "+span(micros(longest))+" after their updated_at")
		if micros(longest) > e.o.Lookback {
			f.status = Problem
			f.means = "They are missed with the lookback of " + span(e.o.Lookback) + ". " + f.means
		}
	}
	return f, nil
}

// checkActivity compares last messages with updated_at: a message after it
// proves that messages do not move it.
func (e *exam) checkActivity(ctx context.Context) (finding, error) {
	if e.active == nil || len(e.active.rows) == 0 {
		return unknown(noActive), nil
	}
	var lags []int64
	rows, near := 0, 0
	for _, r := range e.active.rows {
		if !r.message.ok || !r.updated.ok {
			continue
		}
		rows++
		switch lag := r.message.us - r.updated.us; {
		case lag > slack.Microseconds():
			lags = append(lags, lag)
		case lag >= -slack.Microseconds():
			near++
		}
	}
	if rows == 0 {
		return unknown("No contact with a recent message has usable times."), nil
	}
	missed, newer, from, err := e.missedByUpdated(ctx)
	if err != nil {
		return finding{}, err
	}
	const silent = " Whether a stage move or a custom field moves it cannot be seen by reading alone."
	if len(lags) == 0 && missed == 0 {
		return finding{
			OK, fmt.Sprintf("No counter-example in %s with a message within %s; in %d of them updated_at is within %s of the message.", contacts(rows), plural(e.active.query.Days, "day", "days"), near, span(slack)),
			silent[1:],
		}, nil
	}
	var found string
	if len(lags) > 0 {
		found = fmt.Sprintf("New messages do not always move updated_at: in %d of %s with a message within %s it is later than updated_at, by up to %s.",
			len(lags), contacts(rows), plural(e.active.query.Days, "day", "days"), span(micros(slices.Max(lags))))
	}
	if missed > 0 {
		found += fmt.Sprintf(" Of %s with a message after %s, updated_after that time misses %d.", contacts(newer), stampText(from), missed)
	}
	e.suggest(keyFullEvery, "full_every: 7d", "messages do not always move updated_at, so incremental runs do not see them all")
	const advice = "Incremental runs do not see these changes, and last_message_at goes stale. Set full_every: 7d, or shorter."
	return finding{Note, trimmed(found), advice + silent}, nil
}

func trimmed(s string) string {
	if s != "" && s[0] == ' ' {
		return s[1:]
	}
	return s
}

// newest is how many of the latest messages are looked for by updated_after.
const newest = 200

// missedByUpdated asks by updated_after from the time of a recent message and
// counts the contacts with a later one that do not come.
func (e *exam) missedByUpdated(ctx context.Context) (missed, newer int, from int64, err error) {
	messages := e.active.times(byMessage())
	slices.Sort(messages)
	from = messages[max(0, len(messages)-newest)]
	from -= from % milli
	p, err := e.ask(ctx, extract.Query{UpdatedAfter: at(from), Limit: e.limit})
	if err != nil {
		return 0, 0, 0, err
	}
	ids := p.ids()
	for _, r := range e.active.rows {
		if !r.message.ok || r.message.us <= from+slack.Microseconds() {
			continue
		}
		newer++
		// On a full page, what is updated later than its last row is yet to come.
		if _, there := ids[r.id]; !there && (r.updated.ok && r.updated.us < from || !e.full(p)) {
			missed++
		}
	}
	return missed, newer, from, nil
}

// ahead is how far past the source's own time a timestamp counts as one of the
// future.
const ahead = 2 * time.Minute

func (e *exam) checkFuture(ctx context.Context) (finding, error) {
	from := now(e.first) + ahead.Microseconds()
	p, err := e.ask(ctx, extract.Query{UpdatedAfter: at(from - from%milli), Limit: min(strictLimit, e.limit)})
	if err != nil {
		return finding{}, err
	}
	backwards := 0
	for _, r := range e.known {
		if r.created.ok && r.updated.ok && r.updated.us < r.created.us {
			backwards++
		}
	}
	note := ""
	if backwards > 0 {
		note = fmt.Sprintf(" %s of %s have an updated_at before their created_at.", count(backwards), contacts(len(e.known)))
	}
	times := slices.DeleteFunc(p.times(byUpdated()), func(us int64) bool { return us < from-border })
	if len(times) == 0 {
		f := finding{OK, "No contact has an updated_at later than the source's clock." + note, ""}
		if backwards > 0 {
			f.status, f.means = Note, "They are exported like the others; nothing to set."
		}
		return f, nil
	}
	atLeast := ""
	if e.full(p) {
		atLeast = "At least "
	}
	return finding{
		Note, fmt.Sprintf("%s%s with an updated_at in the future, the last %s.%s", atLeast, contacts(len(times)), stampText(slices.Max(times)), note),
		"They never become a cursor; every run reads them again until their time has come.",
	}, nil
}
