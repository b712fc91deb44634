package cli

import (
	"encoding/json"
	"fmt"

	"github.com/sluice-etl/sluice/extract"
)

// namedTies is how many time stamps the summary names; --json has them all.
const namedTies = 3

// repeatedTies says, from a run's coverage record, for which contacts
// completeness rests on repetition rather than on anchors; "" for none. A
// record that cannot be read says nothing: it is told elsewhere that it cannot.
func repeatedTies(coverage json.RawMessage) string {
	var record struct {
		Phases []struct {
			Outcome struct {
				Ties []extract.TieBlock `json:"ties"`
			} `json:"outcome"`
		} `json:"phases"`
	}
	if len(coverage) == 0 || json.Unmarshal(coverage, &record) != nil {
		return ""
	}
	var contacts int64
	var stamps []string
	for _, p := range record.Phases {
		for _, tie := range p.Outcome.Ties {
			if tie.Statistical && tie.Size > 0 {
				contacts += tie.Size
				stamps = append(stamps, extract.FormatTime(tie.At))
			}
		}
	}
	if len(stamps) == 0 {
		return ""
	}
	if more := len(stamps) - namedTies; more > 0 {
		stamps = append(stamps[:namedTies], counted(more, "more time stamp", "more time stamps"))
	}
	rest := "rest"
	if contacts == 1 {
		rest = "rests"
	}
	return fmt.Sprintf("%s right after %s %s on repeated reading, not on anchors: their order did not hold still", counted(contacts, "contact", "contacts"), joinNames(stamps), rest)
}
