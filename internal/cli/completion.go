package cli

import (
	"github.com/spf13/cobra"

	"github.com/sluice-etl/sluice/internal/config"
)

// completePipelines offers the names in the pipelines file to the shell.
func (a *app) completePipelines(_ *cobra.Command, given []string, _ string) ([]string, cobra.ShellCompDirective) {
	cfg, list := config.Load(a.file, a.Env, config.Offline())
	if cfg == nil || list.HasErrors() {
		return nil, cobra.ShellCompDirectiveNoFileComp
	}
	taken := map[string]bool{}
	for _, name := range given {
		taken[name] = true
	}
	var names []string
	for _, p := range cfg.Pipelines {
		for _, name := range []string{p.Base, p.Address()} { // of all accounts, and of one
			if !taken[name] {
				names = append(names, name)
				taken[name] = true
			}
		}
	}
	return names, cobra.ShellCompDirectiveNoFileComp
}
