package cli

import (
	_ "embed" // for the page
	"fmt"
	"html/template"
	"strings"
)

//go:embed dictionary.html
var dictionaryPage string

// dictionaryHTML is the page by itself: no script, nothing from elsewhere.
func dictionaryHTML(pages []dictPipeline) (string, error) {
	t, err := template.New("dictionary").Funcs(template.FuncMap{"shown": pageText}).Parse(dictionaryPage)
	if err != nil {
		return "", fmt.Errorf("write dictionary: %w", err)
	}
	var b strings.Builder
	if err := t.Execute(&b, pages); err != nil {
		return "", fmt.Errorf("write dictionary: %w", err)
	}
	return b.String(), nil
}

// pageText is text of the source's as a page shows it: on one line, and with
// everything that hides or turns the order of text around spelt out.
func pageText(s string) string { return printable(oneLine(s)) }

// dictionaryMarkdown is the page for repositories and wikis.
func dictionaryMarkdown(pages []dictPipeline) string {
	var b strings.Builder
	b.WriteString("# Data dictionary\n\nWritten by `sluice schema --dictionary` from the contract and from what runs have met.\n\n")
	b.WriteString("Policies: keep stores a value as it came, hash a keyed hash of it, mask a trace that identifies nobody. Times are UTC.\n")
	for _, p := range pages {
		fmt.Fprintf(&b, "\n- [%s](#%s)\n", mdText(p.Name), p.ID)
		for _, t := range p.Tables {
			fmt.Fprintf(&b, "  - [%s](#%s)\n", mdText(t.Name), t.ID)
		}
		fmt.Fprintf(&b, "  - [Views](#%s.views)\n  - [Not exported](#%s.left)\n", p.ID, p.ID)
	}
	for _, p := range pages {
		fmt.Fprintf(&b, "\n## <a id=\"%s\"></a>Pipeline %s\n\n", p.ID, mdText(p.Name))
		fmt.Fprintf(&b, "Source %s; destinations %s; contract %s; days of views in %s.\n", mdText(p.Source), mdText(p.Destinations), mdText(p.Contract), mdText(p.Timezone))
		for _, t := range p.Tables {
			mdTable(&b, t)
		}
		mdViews(&b, p)
		mdLeft(&b, p)
	}
	return b.String()
}

func mdTable(b *strings.Builder, t dictTable) {
	fmt.Fprintf(b, "\n### <a id=\"%s\"></a>%s\n\n%s\n", t.ID, mdText(t.Name), mdText(t.About))
	for _, g := range t.Groups {
		if g.Title != "" {
			fmt.Fprintf(b, "\n#### %s\n", g.Title)
		}
		head := []string{"column", "type", "null", "description"}
		if g.HasFields() {
			head = append(head, "field", "policy")
		}
		if g.HasSeen() {
			head = append(head, "first seen", "last seen", "values read")
		}
		fmt.Fprintf(b, "\n| %s |\n|%s\n", strings.Join(head, " | "), strings.Repeat("---|", len(head)))
		for _, c := range g.Columns {
			fmt.Fprintf(b, "| <a id=\"%s\"></a>`%s` | %s | %s | %s |", c.ID, c.Name, c.Type, c.Null, mdText(c.Description))
			if g.HasFields() {
				fmt.Fprintf(b, " %s | %s |", mdText(c.Source), c.Policy)
			}
			if g.HasSeen() {
				fmt.Fprintf(b, " %s | %s | %s |", c.First, c.Last, mdText(c.Observed))
			}
			b.WriteString("\n")
		}
	}
}

func mdViews(b *strings.Builder, p dictPipeline) {
	fmt.Fprintf(b, "\n### <a id=\"%s.views\"></a>Views\n\n%s\n\n| view | rows | columns |\n|---|---|---|\n", p.ID, mdText(p.ViewsAbout))
	for _, v := range p.Views {
		var columns []string
		if v.Extends {
			columns = append(columns, "all of "+mdText(p.Tables[0].Name))
		}
		for _, c := range v.Columns {
			columns = append(columns, fmt.Sprintf("`%s` %s", c.Name, mdText(c.Type)))
		}
		fmt.Fprintf(b, "| <a id=\"%s\"></a>`%s` | %s | %s |\n", v.ID, v.Name, mdText(v.About), strings.Join(columns, ", "))
	}
}

func mdLeft(b *strings.Builder, p dictPipeline) {
	fmt.Fprintf(b, "\n### <a id=\"%s.left\"></a>Not exported\n\n", p.ID)
	if len(p.Left) == 0 {
		b.WriteString("The contract leaves nothing out.\n")
		return
	}
	b.WriteString("| field | why |\n|---|---|\n")
	for _, l := range p.Left {
		fmt.Fprintf(b, "| %s | %s |\n", mdText(l.Field), mdText(l.Why))
	}
}

// mdText is text within a cell of a Markdown table, which shows it as it is.
func mdText(s string) string {
	var b strings.Builder
	for _, r := range pageText(s) {
		switch {
		case r == '<':
			b.WriteString("&lt;")
			continue
		case r == '&':
			b.WriteString("&amp;")
			continue
		case strings.ContainsRune("\\`*[]|~", r), r == '_':
			b.WriteByte('\\')
		}
		b.WriteRune(r)
	}
	return b.String()
}
