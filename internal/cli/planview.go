package cli

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/sluice-etl/sluice/internal/config"
	"github.com/sluice-etl/sluice/internal/plan"
	"github.com/sluice-etl/sluice/internal/run"
)

// planned makes a plan of what the engine has found.
func planned(cfg *config.Config, list []run.Replacement) (plan.Plan, error) {
	var changes []plan.Change
	for _, r := range list {
		changes = append(changes, plan.Change{
			Address: addressOf(cfg, r), Action: plan.Replace,
			Attributes: []plan.Attribute{{Name: r.Needs.Attribute, From: r.Needs.From, To: r.Needs.To, Forces: true}},
			Effects:    strings.Split(r.Needs.Detail, "\n"),
		})
	}
	return plan.New(changes)
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

// effectWidth is how wide the sentences of a plan are.
const effectWidth = 72

// planText is a plan as people read it.
func planText(p plan.Plan) string {
	var b strings.Builder
	for _, c := range p.Changes {
		fmt.Fprintf(&b, "%s %s must be replaced\n", c.Action.Mark(), c.Address)
		width := 0
		for _, a := range c.Attributes {
			width = max(width, displayWidth(a.Name)+1)
		}
		for _, a := range c.Attributes {
			forces := ""
			if a.Forces {
				forces = " # forces replacement"
			}
			fmt.Fprintf(&b, "      %s %s -> %s%s\n", pad(a.Name+":", width, false), strconv.Quote(a.From), strconv.Quote(a.To), forces)
		}
		b.WriteString("\n")
		for _, text := range c.Effects {
			for i, line := range wrapText(text, effectWidth) {
				b.WriteString(map[bool]string{true: "    - ", false: "      "}[i == 0] + line + "\n")
			}
		}
		b.WriteString("\n")
	}
	return b.String() + planSummary(p) + "\n"
}

// planSummary is the last line of a plan.
func planSummary(p plan.Plan) string {
	return fmt.Sprintf("Plan: 0 to add, 0 to change, %s to replace, 0 to destroy.", count(int64(p.Count(plan.Replace))))
}
