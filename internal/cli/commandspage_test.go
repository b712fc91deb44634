package cli

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/spf13/cobra"
)

const commandsPage = `# Commands

This page is what ` + "`sluice COMMAND --help`" + ` prints, made from the program itself
(` + "`make golden`" + ` renews it; a test compares the two). ` + "`sluice completion SHELL`" + ` prints
the completions of bash, zsh, fish and powershell.

`

// everyCommand lists a command and those below it, as they are typed, in the
// order of their names.
func everyCommand(c *cobra.Command) []string {
	names := []string{c.CommandPath()}
	for _, sub := range c.Commands() {
		if sub.Name() != "help" && sub.Name() != "completion" {
			names = append(names, everyCommand(sub)...)
		}
	}
	return names
}

func TestThePageOfCommandsIsWhatTheirHelpSays(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "")
	a := &app{Program: Program{Env: func(string) (string, bool) { return "", false }}}
	var b strings.Builder
	b.WriteString(commandsPage)
	for _, name := range everyCommand(a.root()) {
		help := w.sluice(t, append(strings.Fields(name)[1:], "--help")...).mustBe(t, 0).out
		help, _, _ = strings.Cut(help, "\nGlobal Flags:\n")
		b.WriteString("## " + name + "\n\n```text\n" + strings.TrimSpace(help) + "\n```\n\n")
	}
	want := strings.TrimSpace(b.String()) + "\n"
	path := filepath.Join("..", "..", "docs", "commands.md")
	if os.Getenv("UPDATE_GOLDEN") != "" {
		if err := os.WriteFile(path, []byte(want), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(got), want); diff != "" {
		t.Errorf("%s differs from the commands: run `make golden` (-page +commands):\n%s", path, diff)
	}
}
