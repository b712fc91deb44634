package cli

import (
	"regexp"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/internal/sandbox"
)

func TestVerifySourceTellsWhatChangedFromWhatIsWrong(t *testing.T) {
	t.Parallel()
	s := changing(t, 60, "")
	var b strings.Builder
	var ids []string
	add := func(code int, args ...string) {
		t.Helper()
		r := s.sluice(t, args...).mustBe(t, code)
		text := r.out + r.err
		for i, id := range ids {
			text = strings.ReplaceAll(text, id, []string{"ID-1", "ID-2", "ID-3"}[i])
		}
		text = regexp.MustCompile(`seed \d{6,}`).ReplaceAllString(text, "seed N")
		text = regexp.MustCompile(`"[^"]*", at the source "[^"]*"`).ReplaceAllString(text, `"...", at the source "..."`)
		b.WriteString("$ sluice " + strings.Join(args, " ") + "\n" + text + "\n")
	}
	add(1, "verify", "--source", "nightly")
	s.sluice(t, "run").mustBe(t, 0)
	add(0, "verify", "--source", "nightly")
	s.Each(func(c sandbox.Contact) bool { ids = append(ids, c.ID); return len(ids) < 3 })
	name := "Someone else"
	for _, err := range []error{s.Update(ids[0], sandbox.Change{Name: &name, Silent: true}), s.Touch(ids[1]), s.Delete(ids[2])} {
		if err != nil {
			t.Fatal(err)
		}
	}
	add(1, "verify", "--source", "--sample", "all", "nightly")
	add(1, "verify", "--source", "--sample", "all", "--show-values", "nightly")
	add(1, "verify", "--source", "--sample", "all", "--json", "nightly")
	add(1, "verify", "--source", "--sample", "0", "nightly")
	add(1, "verify", "--source")
	add(1, "verify", "--sample", "5", "nightly")
	golden(t, "verify/source.txt", b.String())
}
