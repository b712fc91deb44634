package cli

import (
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/plan"
	"github.com/sluice-etl/sluice/internal/run"
	"github.com/sluice-etl/sluice/load"
)

// planned makes a plan of the tables that a run found it cannot go on with.
func planned(cfg *config.Config, list []run.Replacement) (plan.Plan, error) {
	var in plan.Input
	for _, r := range list {
		in.Resources = append(in.Resources, plan.Resource{
			Address: addressOf(cfg, r), Kind: plan.KindTable, Pipeline: r.Pipeline, Destination: r.Destination,
			Have:    []plan.Setting{{Name: r.Needs.Attribute, Value: r.Needs.From}},
			Want:    []plan.Setting{{Name: r.Needs.Attribute, Value: r.Needs.To, Forces: true}},
			Effects: strings.Split(r.Needs.Detail, "\n"),
		})
	}
	return plan.New(in)
}

func addressOf(cfg *config.Config, r run.Replacement) string {
	table := ""
	for _, p := range cfg.Pipelines {
		if p.Name == r.Pipeline {
			table = p.Table
		}
	}
	return plan.TableAddress(r.Destination, table)
}

// The widths of a plan: of its sentences, and how many columns of a table it
// lists before it counts the rest.
const (
	effectWidth  = 72
	shownColumns = 20
)

// paint gives a mark its colour.
type paint func(mark, text string) string

// plainly leaves everything as it is.
func plainly(_, text string) string { return text }

// coloured is for terminals.
func coloured(mark, text string) string {
	switch strings.TrimSpace(mark) {
	case "+":
		return "\x1b[32m" + text + "\x1b[0m"
	case "~":
		return "\x1b[33m" + text + "\x1b[0m"
	case "-", "-/+", "!":
		return "\x1b[31m" + text + "\x1b[0m"
	default:
		return text
	}
}

// outPaint is how results on stdout are coloured.
func (a *app) outPaint() paint {
	if a.Streams.OutTerminal && a.colours() {
		return coloured
	}
	return plainly
}

// errPaint is how results on stderr are.
func (a *app) errPaint() paint {
	if a.color() {
		return coloured
	}
	return plainly
}

// markOf is what stands before a resource, and after its address.
func markOf(c plan.Change) (mark, note string) {
	switch c.Action {
	case plan.Create:
		return "  +", ""
	case plan.Update:
		return "  ~", ""
	case plan.Replace:
		return "-/+", " must be replaced"
	case plan.Destroy:
		return "  -", ""
	case plan.Forget:
		return "  .", " will be forgotten"
	case plan.Blocked:
		return "  !", " cannot be made as it is asked for"
	default:
		return "   ", ""
	}
}

// marked is how a line of a plan begins that says what becomes of something.
var marked = regexp.MustCompile(`(?m)^(?:-/\+|(?:  |      )[-+~!]) `)

// planText is a plan as people read it. What came from a server or a file is in
// it by then, and is made visible before the lines get their colours.
func planText(p plan.Plan, colour paint) string {
	return marked.ReplaceAllStringFunc(visible(plainPlan(p)), func(begin string) string {
		mark := strings.TrimSuffix(begin, " ")
		return colour(mark, mark) + " "
	})
}

func plainPlan(p plan.Plan) string {
	var b strings.Builder
	writeDrift(&b, p.Drift)
	changes := withoutForgottenViews(p.Changes)
	for i, c := range changes {
		block := changeText(c)
		b.WriteString(block)
		// What takes one line stands beside its like.
		next := ""
		if i+1 < len(changes) {
			next = changeText(changes[i+1])
		}
		if strings.Count(block, "\n") > 1 || next == "" || strings.Count(next, "\n") > 1 {
			b.WriteString("\n")
		}
	}
	writeSyncs(&b, p.Syncs)
	return b.String() + planSummary(p) + "\n"
}

// withoutForgottenViews leaves out the views that are forgotten with the tables
// of their destination.
func withoutForgottenViews(list []plan.Change) []plan.Change {
	return slices.DeleteFunc(slices.Clone(list), func(c plan.Change) bool {
		return c.Action == plan.Forget && c.Kind == plan.KindView && slices.ContainsFunc(list, func(o plan.Change) bool {
			return o.Action == plan.Forget && o.Kind == plan.KindTable && o.Destination == c.Destination
		})
	})
}

// changeText is what becomes of one resource.
func changeText(c plan.Change) string {
	var b strings.Builder
	mark, note := markOf(c)
	b.WriteString(mark + " " + c.Address + note + "\n")
	attributes := c.Attributes
	if c.Kind == plan.KindView && c.Action != plan.Update { // its name says it
		attributes = nil
	}
	writeAttributes(&b, attributes, c.Action)
	if c.Holds != "" && c.Action == plan.Destroy {
		b.WriteString("        holds " + c.Holds + "\n")
	}
	if len(c.Effects) > 0 && len(attributes) > 0 {
		b.WriteString("\n")
	}
	for _, text := range c.Effects {
		for i, line := range wrapText(text, effectWidth) {
			b.WriteString(map[bool]string{true: "    - ", false: "      "}[i == 0] + line + "\n")
		}
	}
	return b.String()
}

// isColumn reports whether an attribute is a column of a table.
func isColumn(a plan.Attribute) bool { return strings.HasPrefix(a.Name, load.ColumnAttribute("")) }

// writeAttributes lists what changes of a resource.
func writeAttributes(b *strings.Builder, list []plan.Attribute, action plan.Action) {
	columns := 0
	whole := action == plan.Create || action == plan.Destroy
	shown := slices.DeleteFunc(slices.Clone(list), func(a plan.Attribute) bool {
		if !isColumn(a) {
			return false
		}
		columns++
		return whole || columns > shownColumns
	})
	width := 0
	for _, a := range shown {
		width = max(width, displayWidth(a.Name)+1)
	}
	if whole && columns > 0 {
		width = max(width, len("columns:"))
	}
	for _, a := range shown {
		mark := "~"
		switch {
		case a.From == nil:
			mark = "+"
		case a.To == nil:
			mark = "-"
		}
		forces := ""
		if a.Forces {
			forces = "  # forces replacement"
		}
		b.WriteString("      " + mark + " " + pad(a.Name+":", width, false) + " " + attributeValue(a) + forces + "\n")
	}
	switch {
	case columns == 0:
	case whole:
		mark := map[plan.Action]string{plan.Create: "+", plan.Destroy: "-"}[action]
		b.WriteString("      " + mark + " " + pad("columns:", width, false) + " " + count(columns) + "\n")
	case columns > shownColumns:
		b.WriteString("        (" + counted(columns-shownColumns, "more column", "more columns") + ")\n")
	}
}

// attributeValue is what an attribute was, and is to be.
func attributeValue(a plan.Attribute) string {
	text := func(v string) string {
		switch {
		case v == plan.Sensitive:
			return v
		case isColumn(a):
			return v
		default:
			return strconv.Quote(v)
		}
	}
	switch {
	case a.From == nil && a.To == nil:
		return ""
	case a.From == nil:
		return text(*a.To)
	case a.To == nil:
		return text(*a.From)
	default:
		return text(*a.From) + " -> " + text(*a.To)
	}
}

// writeDrift says what something else has changed.
func writeDrift(b *strings.Builder, list []plan.Drift) {
	if len(list) == 0 {
		return
	}
	b.WriteString("Changed outside of Sluice since it was last applied:\n\n")
	for i, d := range list {
		if d.Gone {
			b.WriteString("  - " + d.Address + " is gone\n")
			if i+1 == len(list) || !list[i+1].Gone {
				b.WriteString("\n")
			}
			continue
		}
		b.WriteString("  ~ " + d.Address + "\n")
		writeAttributes(b, d.Attributes, plan.Update)
		if slices.ContainsFunc(d.Attributes, func(a plan.Attribute) bool { return a.From == nil }) {
			b.WriteString("        what was added there is left as it is\n")
		}
		b.WriteString("\n")
	}
	b.WriteString(strings.Repeat("-", effectWidth) + "\n\n")
}

// writeSyncs says what the next runs would read and write.
func writeSyncs(b *strings.Builder, list []plan.Sync) {
	for _, s := range list {
		b.WriteString("sync " + plan.PipelineAddress(s.Pipeline) + "\n")
		for _, line := range syncLines(s) {
			b.WriteString("      " + line + "\n")
		}
		b.WriteString("\n")
	}
}

// syncLines are what is known of one pipeline's next run.
func syncLines(s plan.Sync) []string {
	reads := "everything (" + s.Reason + ")"
	if s.Since != nil {
		reads = s.Reason + ", from " + s.Since.UTC().Format("2006-01-02 15:04:05") + " UTC on"
	}
	lines := []string{"reads " + reads}
	if s.Counted {
		lines = append(lines, amount(s)+" as of "+s.At.UTC().Format("15:04")+" UTC, counted in "+counted(s.Asked, "request", "requests"))
		if s.Reread > 0 || s.Since != nil {
			lines = append(lines, "of these "+count(max(0, s.Contacts-s.Reread))+" new or changed, "+count(s.Reread)+" read again in case a change became visible late")
		}
		lines = append(lines, counted(s.Pages, "page", "pages")+", "+counted(s.Requests, "request", "requests")+", about "+duration(s.Duration))
	} else if s.CountError != "" {
		lines = append(lines, "how much that is could not be counted: "+shortened(s.CountError))
	}
	if s.Kept > 0 {
		lines = append(lines, counted(s.Kept, "row", "rows")+" of it an unfinished run has read already")
	}
	if s.Limit != "" {
		lines = append(lines, s.Limit)
	}
	if len(s.PlainText) > 0 {
		lines = append(lines, "the contract protects "+fewColumns(s.PlainText)+" from now on; what was stored before stays as plain text, and the run's summary says where")
	}
	lines = append(lines, s.Stops...)
	for _, d := range s.Destinations {
		if text := destinationLine(d); text != "" {
			lines = append(lines, text)
		}
	}
	var out []string
	for _, l := range lines {
		out = append(out, wrapText(l, effectWidth)...)
	}
	return out
}

// amount is how many contacts a sync reads.
func amount(s plan.Sync) string {
	about := "about "
	if s.Exact {
		about = ""
	}
	return about + counted(s.Contacts, "contact", "contacts")
}

// destinationLine is what a sync writes to one destination; empty where nothing
// is known of it.
func destinationLine(d plan.SyncDestination) string {
	var parts []string
	if d.Seeded {
		parts = append(parts, "is filled by this full read")
	}
	if d.Waiting > 0 {
		parts = append(parts, "takes "+counted(d.Waiting, "package that waits", "packages that wait")+" first")
	}
	if d.Bytes > 0 {
		parts = append(parts, "about "+megabytes(d.Bytes)+" to write")
	}
	if d.Scanned > 0 {
		text := "about " + megabytes(d.Scanned) + " scanned"
		if d.Price > 0 {
			text += " (" + strconv.FormatFloat(d.Price, 'f', 4, 64) + " at the rate of price_per_tib)"
		}
		parts = append(parts, text)
	}
	if len(parts) == 0 {
		return ""
	}
	return "destination." + d.Name + ": " + strings.Join(parts, ", ")
}

// planSummary is the last line of a plan.
func planSummary(p plan.Plan) string {
	parts := []string{count(p.Count(plan.Create)) + " to add", count(p.Count(plan.Update)) + " to change"}
	if n := p.Count(plan.Replace); n > 0 {
		parts = append(parts, count(n)+" to replace")
	}
	if n := p.Count(plan.Forget); n > 0 {
		parts = append(parts, count(n)+" to forget")
	}
	parts = append(parts, count(p.Count(plan.Destroy))+" to destroy")
	if n := p.Count(plan.Blocked); n > 0 {
		parts = append(parts, count(n)+" blocked")
	}
	text := "Plan: " + strings.Join(parts, ", ") + "."
	if p.Empty() {
		text = "No changes: the destinations are as the configuration asks for them."
	}
	if len(p.Syncs) == 0 {
		return text
	}
	all := plan.Sync{Exact: true}
	counting := true
	for _, s := range p.Syncs {
		all.Contacts += s.Contacts
		all.Pages += s.Pages
		all.Duration += s.Duration
		all.Exact = all.Exact && s.Exact
		counting = counting && s.Counted
	}
	text += " " + counted(len(p.Syncs), "sync", "syncs")
	if counting {
		text += ": " + amount(all) + " (" + counted(all.Pages, "page", "pages") + ", " + duration(all.Duration) + ")"
	}
	return text + "."
}
