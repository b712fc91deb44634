package cli

import (
	"go/scanner"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/spf13/cobra"
)

// repository is the root of the repository, from the folder of these tests.
var repository = filepath.Join("..", "..")

// pages returns the pages for users by path from the repository's root: those in
// docs, and the README.
func pages(t *testing.T) map[string]string {
	t.Helper()
	paths, err := filepath.Glob(filepath.Join(repository, "docs", "*.md"))
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, path := range append(paths, filepath.Join(repository, "README.md")) {
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		name, err := filepath.Rel(repository, path)
		if err != nil {
			t.Fatal(err)
		}
		out[filepath.ToSlash(name)] = string(text)
	}
	if len(out) < 10 {
		t.Fatalf("only %d pages were found", len(out))
	}
	return out
}

// fence matches a block of code, whose lines are its group.
var fence = regexp.MustCompile("(?ms)^[ ]*```[^\n]*\n(.*?)^[ ]*```[ ]*$")

// quotedCommands returns the command lines that a page shows: lines of blocks
// that are typed, and spans of code. Each is without the program's name.
func quotedCommands(page string) (out []string) {
	// Before the name may stand a prompt, variables and what moves to a folder.
	typed := regexp.MustCompile(`^\s*(?:\$ )?(?:.*&& )?(?:[A-Z_]+=\S* )*sluice((?: .*)?)$`)
	for _, block := range fence.FindAllStringSubmatch(page, -1) {
		for line := range strings.SplitSeq(block[1], "\n") {
			if m := typed.FindStringSubmatch(line); m != nil {
				out = append(out, strings.TrimSpace(m[1]))
			}
		}
	}
	for _, span := range regexp.MustCompile("`([^`]+)`").FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
		if m := typed.FindStringSubmatch(strings.Join(strings.Fields(span[1]), " ")); m != nil {
			out = append(out, strings.TrimSpace(m[1]))
		}
	}
	return out
}

// shellWords splits a command line at blanks outside of quotes, up to what is for
// the shell. Brackets, which say that something may be left out, go.
func shellWords(line string) (words []string) {
	for _, w := range regexp.MustCompile(`"[^"]*"?|'[^']*'?|\S+`).FindAllString(line, -1) {
		if slices.Contains([]string{"|", "||", "&&", ";", "#", "<", ">"}, w) {
			break
		}
		if w = strings.Trim(w, `"'[]`); w != "" {
			words = append(words, w)
		}
	}
	return words
}

// unknownIn says what of a command line the program does not have; empty: all of
// it is there.
func unknownIn(root *cobra.Command, line string) string {
	found, rest, err := root.Find(shellWords(line))
	if err != nil {
		return err.Error()
	}
	switch err := found.ParseFlags(rest); {
	case err == nil:
	case strings.HasPrefix(err.Error(), "unknown"): // other faults are placeholders' values
		return err.Error()
	}
	args := found.Flags().Args()
	if len(args) == 0 || !found.HasSubCommands() || args[0] == "command" || args[0] == strings.ToUpper(args[0]) {
		return "" // a word in capitals stands for any
	}
	return "unknown command " + strconv.Quote(args[0]) + " of " + found.CommandPath()
}

func TestCommandsThatThePagesShowExist(t *testing.T) {
	t.Parallel()
	program := func() *cobra.Command {
		a := &app{Program: Program{Env: func(string) (string, bool) { return "", false }}}
		root := a.root()
		root.InitDefaultHelpCmd()
		root.InitDefaultCompletionCmd()
		return root
	}
	shown := 0
	for name, page := range pages(t) {
		for _, line := range quotedCommands(page) {
			shown++
			if fault := unknownIn(program(), line); fault != "" {
				t.Errorf("%s shows `sluice %s`: %s", name, line, fault)
			}
		}
	}
	if shown < 100 {
		t.Errorf("only %d commands were found on the pages", shown)
	}
	for _, wrong := range []string{"rnu", "run --fulll", "state shwo pipeline.nightly", "query -X", "apply --no-data --yess x"} {
		if unknownIn(program(), wrong) == "" {
			t.Errorf("`sluice %s` would pass", wrong)
		}
	}
}

// literals returns the texts of all string literals of the program, without those
// of its tests.
func literals(t *testing.T) (out []string) {
	t.Helper()
	err := filepath.WalkDir(repository, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || d.Name() == "bqtest" || strings.HasPrefix(d.Name(), ".") && path != repository):
			return filepath.SkipDir
		case d.IsDir() || filepath.Ext(path) != ".go" || strings.HasSuffix(path, "_test.go"):
			return nil
		}
		source, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		var s scanner.Scanner
		s.Init(token.NewFileSet().AddFile(path, -1, len(source)), source, nil, 0)
		for {
			_, tok, text := s.Scan()
			if tok == token.EOF {
				return nil
			}
			if tok != token.STRING {
				continue
			}
			text, err := strconv.Unquote(text)
			if err != nil {
				return err
			}
			out = append(out, text)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// inOne reports whether one of the texts has all parts, in their order.
func inOne(texts, parts []string) bool {
	return slices.ContainsFunc(texts, func(text string) bool {
		for _, part := range parts {
			_, rest, found := strings.Cut(text, part)
			if !found {
				return false
			}
			text = rest
		}
		return true
	})
}

func TestMessagesThatThePageOfOperationsQuotesAreThoseOfTheProgram(t *testing.T) {
	t.Parallel()
	page := pages(t)["docs/operations.md"]
	texts := literals(t)
	quoted := regexp.MustCompile("(?m)^> `([^`]+)`$").FindAllStringSubmatch(page, -1)
	if len(quoted) < 20 {
		t.Errorf("docs/operations.md quotes %d messages, each in a line of its own: > `message`", len(quoted))
	}
	check := func(message string) bool {
		var parts []string
		for part := range strings.SplitSeq(message, "...") {
			if part = strings.TrimSpace(part); part != "" {
				parts = append(parts, part)
			}
		}
		return len(strings.Join(parts, "")) >= 12 && inOne(texts, parts)
	}
	for _, m := range quoted {
		if !check(m[1]) {
			t.Errorf("no text of the program has what docs/operations.md quotes: %q (... stands for what differs)", m[1])
		}
	}
	if check("lock pipeline ... for ... : helt by ...") || check("held") {
		t.Error("a message that the program does not have would pass")
	}
}

// headingAnchor is the anchor of a heading, as the usual renderers make it.
func headingAnchor(heading string) string {
	heading = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`).ReplaceAllString(heading, "$1")
	heading = regexp.MustCompile("[^a-z0-9 _-]").ReplaceAllString(strings.ToLower(heading), "")
	return strings.ReplaceAll(strings.TrimSpace(heading), " ", "-")
}

func TestLinksBetweenPagesLeadSomewhereAndTheREADMELeadsToAll(t *testing.T) {
	t.Parallel()
	all := pages(t)
	for name := range all {
		if name != "README.md" && !strings.Contains(all["README.md"], "]("+name+"): ") {
			t.Errorf("the README does not list %s", name)
		}
	}
	link := regexp.MustCompile(`\]\(([^)\s]+)\)`)
	for name, page := range all {
		for _, m := range link.FindAllStringSubmatch(fence.ReplaceAllString(page, ""), -1) {
			if strings.Contains(m[1], "://") || strings.HasPrefix(m[1], "mailto:") {
				continue
			}
			path, fragment, _ := strings.Cut(m[1], "#")
			target := name
			if path != "" {
				target = filepath.ToSlash(filepath.Join(filepath.Dir(name), path))
			}
			if _, err := os.Stat(filepath.Join(repository, target)); err != nil {
				t.Errorf("%s links to %s, which is not there", name, m[1])
				continue
			}
			if fragment == "" || all[target] == "" {
				continue
			}
			headings := regexp.MustCompile(`(?m)^#+ (.*)$`).FindAllStringSubmatch(fence.ReplaceAllString(all[target], ""), -1)
			if !slices.ContainsFunc(headings, func(h []string) bool { return headingAnchor(h[1]) == fragment }) {
				t.Errorf("%s links to %s: %s has no such heading", name, m[1], target)
			}
		}
	}
}
