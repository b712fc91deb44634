package extract_test

import (
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/extract"
)

func TestOfAPrivateSourceNoErrorShowsWhatContactsHold(t *testing.T) {
	const planted = "PLANTED"
	for _, c := range []struct {
		name   string
		status int
		body   string
		shown  bool // also of a private source
	}{
		{"a list that broke off", 200, `[{"phone":"PLANTED"`, false},
		{"a short object", 200, `{"phone":"PLANTED"}`, false},
		{"a text", 200, `"PLANTED`, false},
		{"lines", 200, "phone\nPLANTED", false},
		{"a list with a failure's status", 500, `[{"phone":"PLANTED"`, false},
		{"a wrapped list with a failure's status", 502, `{"data":[{"phone":"PLANTED"}]}`, false},
		{"a message", 500, `{"message":"PLANTED is down"}`, true},
	} {
		for _, private := range []bool{true, false} {
			client := serve(t, func(w http.ResponseWriter, _ *http.Request) {
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			}, func(s *extract.Source) { s.Private = private })
			_, _, err := read(t, client)
			if err == nil {
				t.Fatal("no error")
			}
			if shown := strings.Contains(err.Error(), planted); private && shown != c.shown {
				t.Errorf("%s: shown %t, want %t: %v", c.name, shown, c.shown, err)
			}
		}
	}
}

func TestOfAPrivateSourceAFilterIsNamedWithoutItsValue(t *testing.T) {
	filters := map[string][]string{"custom_field_key": {"rut"}, "custom_field_value": {"PLANTED 1"}}
	for _, private := range []bool{true, false} {
		var asked, told string
		client := serve(t, func(w http.ResponseWriter, r *http.Request) {
			asked = r.URL.Query().Get("custom_field_value")
			if told == "" {
				_, _ = io.WriteString(w, "[]")
				return
			}
			w.WriteHeader(http.StatusBadRequest)
			_, _ = io.WriteString(w, `{"message":"PLANTED 1 is no value"}`)
		}, func(s *extract.Source) { s.Filters, s.Private = filters, private })
		if _, err := client.Page(t.Context(), extract.Query{Limit: 1}, func(_ []byte, info extract.PageInfo) error { told = info.Request; return nil }); err != nil || asked != "PLANTED 1" {
			t.Fatal(asked, err)
		}
		_, _, err := read(t, client)
		if err == nil {
			t.Fatal("no error")
		}
		if text := told + err.Error(); strings.Contains(text, "PLANTED") == private || !strings.Contains(told, "custom_field_key=rut") {
			t.Errorf("private %t: %s", private, text)
		}
	}
}
