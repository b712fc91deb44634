package transform_test

import (
	"errors"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/transform"
)

func TestWhatStandsInPlaceOfAContactIsNamedByKind(t *testing.T) {
	t.Parallel()
	for body, want := range map[string]string{
		`[{"id":"1"}, "secret"]`: "element 2 of the list is a string, not an object (byte 13 of 22)",
		`{"data":[12]}`:          "element 1 of the list is a number",
		`[-1.5]`:                 "element 1 of the list is a number",
		`[null]`:                 "element 1 of the list is null",
		`[true]`:                 "element 1 of the list is a boolean",
		`[[{}]]`:                 "element 1 of the list is an array",
	} {
		_, err := transform.NewChunk(transform.Options{}).Decode([]byte(body))
		var hinter interface{ Hint() string }
		if !errors.Is(err, transform.ErrBadPage) || !errors.As(err, &hinter) {
			t.Errorf("%s: %v", body, err)
			continue
		}
		if !strings.HasPrefix(err.Error(), want) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: got %q, want %q", body, err, want)
		}
		if !strings.Contains(hinter.Hint(), "the endpoint answers") {
			t.Errorf("%s: the hint is %q", body, hinter.Hint())
		}
	}
}

// A chunk lives on after a bad page: the next one's fault has its own advice.
func TestAPageThatIsNoListHasNoHintOfElements(t *testing.T) {
	t.Parallel()
	c := transform.NewChunk(transform.Options{})
	for _, body := range []string{`["x"]`, `{}`, `[nul]`, `[`, `[{},]`, `hello`} {
		_, err := c.Decode([]byte(body))
		var hinter interface{ Hint() string }
		if !errors.Is(err, transform.ErrBadPage) || !errors.As(err, &hinter) || (hinter.Hint() != "") != (body == `["x"]`) {
			t.Errorf("%s: %v", body, err)
		}
		if strings.Contains(err.Error(), transform.ErrBadPage.Error()) {
			t.Errorf("%s: whoever asked for the page says that it is none: %v", body, err)
		}
	}
}
