package extract_test

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/extract"
)

func TestAContactIsFoundOnlyInAnAnswerAboutIt(t *testing.T) {
	const id = "8d6e1a52-0000-4000-8000-000000000001"
	for name, c := range map[string]struct {
		status   int
		body     string
		found    bool
		as       func(error) bool // nil: no error
		requests int64
	}{
		"bare":                       {200, `{"id":"` + id + `","name":"x"}`, true, nil, 1},
		"in data":                    {200, `{"data":{"id":"` + id + `"}}`, true, nil, 1},
		"in contact":                 {200, `{"ok":true,"contact":{"id":"` + id + `"}}`, true, nil, 1},
		"in both":                    {200, `{"data":{"contact":{"id":"` + id + `"}}}`, true, nil, 1},
		"404":                        {404, `{"message":"no such contact"}`, false, nil, 1},
		"another contact":            {200, `{"id":"8d6e1a52-0000-4000-8000-000000000002"}`, false, isA[*extract.WrongContactError], 1},
		"another contact in data":    {200, `{"data":{"id":"b"}}`, false, isA[*extract.WrongContactError], 1},
		"the id in a field":          {200, `{"active_ticket_v2":{"id":"` + id + `"}}`, false, isA[*extract.WrongContactError], 1},
		"the id under another case":  {200, `{"ID":"` + id + `"}`, false, isA[*extract.WrongContactError], 1},
		"the id of the wrap":         {200, `{"id":"x","data":{"id":"` + id + `"}}`, false, isA[*extract.WrongContactError], 1},
		"an id that is no text":      {200, `{"id":17}`, false, isA[*extract.WrongContactError], 1},
		"no contact":                 {200, `{"message":"not found"}`, false, isA[*extract.WrongContactError], 1},
		"data that is null":          {200, `{"data":null}`, false, isA[*extract.WrongContactError], 1},
		"null":                       {200, `null`, false, isA[*extract.PageError], 4},
		"a list":                     {200, `[{"id":"` + id + `"}]`, false, isA[*extract.PageError], 4},
		"a web page":                 {200, `<html>sign in</html>`, false, isA[*extract.PageError], 4},
		"cut off":                    {200, `{"id":"` + id + `","na`, false, isA[*extract.PageError], 4},
		"400":                        {400, `{"message":"id must be a UUID"}`, false, isA[*extract.BadRequestError], 1},
		"401":                        {401, ``, false, isA[*extract.UnauthorizedError], 1},
		"410":                        {410, ``, false, isA[*extract.StatusError], 1},
		"204":                        {204, ``, false, isA[*extract.StatusError], 1},
		"500":                        {500, ``, false, isA[*extract.StatusError], 4},
		"more than a contact can be": {200, `{"id":"` + id + `","x":"` + strings.Repeat("x", 5<<20) + `"}`, false, isA[*extract.TooLargeError], 1},
	} {
		t.Run(name, func(t *testing.T) {
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if got, want := r.URL.RequestURI(), "/api/public/contact/"+id+"/info"; got != want || r.Header.Get("x-api-key") != testKey {
					t.Errorf("asked %s with key %q", got, r.Header.Get("x-api-key"))
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			body, found, err := client.Contact(t.Context(), id)
			if found != c.found || (err == nil) != (c.as == nil) || c.as != nil && !c.as(err) {
				t.Fatalf("found %v, %T: %v", found, err, err)
			}
			if found && string(body) != c.body || !found && body != nil {
				t.Errorf("body is %q", body)
			}
			if n := client.Stats().Requests; n != c.requests {
				t.Errorf("%d requests, want %d", n, c.requests)
			}
			var hinter extract.Hinter
			if err != nil && (!errors.As(err, &hinter) || hinter.Hint() == "" || strings.Contains(fmt.Sprintf("%+v", err), "very")) {
				t.Errorf("error is %v", err)
			}
		})
	}
}

// What the second answer overwrites is not what the first was told.
func TestTheBodyOfAContactOutlivesTheRequest(t *testing.T) {
	client := serve(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = fmt.Fprintf(w, `{"id":%q}`, strings.Split(r.URL.Path, "/")[4])
	})
	first, _, err := client.Contact(t.Context(), "aaaa")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := client.Contact(t.Context(), "bbbb"); err != nil || string(first) != `{"id":"aaaa"}` {
		t.Errorf("%s, %v", first, err)
	}
}

func TestAnIDStaysWithinItsPlaceInThePath(t *testing.T) {
	for id, want := range map[string]string{
		"a/../../x": "/crm%20x/api/public/contact/a%2F..%2F..%2Fx/info",
		"a?b=c#d":   "/crm%20x/api/public/contact/a%3Fb=c%23d/info",
		"ñ %2F":     "/crm%20x/api/public/contact/%C3%B1%20%252F/info",
	} {
		var asked string
		client := serve(t, func(_ http.ResponseWriter, r *http.Request) { asked = r.RequestURI }, func(s *extract.Source) {
			s.BaseURL, s.MaxRetries = s.BaseURL+"/crm%20x/", -1
		})
		if _, found, err := client.Contact(t.Context(), id); found || err == nil || asked != want {
			t.Errorf("%q asked %s, want %s; %v", id, asked, want, err)
		}
	}
	client := serve(t, func(_ http.ResponseWriter, r *http.Request) { t.Errorf("asked %s", r.RequestURI) })
	for _, id := range []string{"", ".", ".."} {
		if _, found, err := client.Contact(t.Context(), id); found || err == nil {
			t.Errorf("%q passes", id)
		}
	}
}

func TestPipelinesComeWithTheirStages(t *testing.T) {
	const list = `[{"id":"p1","name":"Ventas","stages":[{"id":"s1","name":"Nuevo"},{"id":"s2"}]},{"id":"p2","name":null,"stages":[]},{"id":"p3","stages":null}]`
	want := []extract.Pipeline{
		{ID: "p1", Name: "Ventas", Stages: []extract.Stage{{ID: "s1", Name: "Nuevo"}, {ID: "s2"}}},
		{ID: "p2", Stages: []extract.Stage{}},
		{ID: "p3"},
	}
	for name, c := range map[string]struct {
		status int
		body   string
		want   []extract.Pipeline
		as     func(error) bool
	}{
		"bare":                   {200, list, want, nil},
		"in data":                {200, `{"data":` + list + `}`, want, nil},
		"in pipelines":           {200, `{"data":null,"pipelines":` + list + `}`, want, nil},
		"in both":                {200, `{"data":{"pipelines":` + list + `}}`, want, nil},
		"none":                   {200, `[]`, []extract.Pipeline{}, nil},
		"null":                   {200, `null`, nil, isA[*extract.PageError]},
		"an object without them": {200, `{"message":"x"}`, nil, isA[*extract.PageError]},
		"no stages":              {200, `[{"id":"p1","name":"x"}]`, nil, isA[*extract.PageError]},
		"no id":                  {200, `[{"name":"x","stages":[]}]`, nil, isA[*extract.PageError]},
		"a stage without id":     {200, `[{"id":"p1","stages":[{"name":"x"}]}]`, nil, isA[*extract.PageError]},
		"a stage that is text":   {200, `[{"id":"p1","stages":["s1"]}]`, nil, isA[*extract.PageError]},
		"a pipeline that is not": {200, `[7]`, nil, isA[*extract.PageError]},
		"a web page":             {200, `<html>`, nil, isA[*extract.PageError]},
		"404":                    {404, ``, nil, isA[*extract.StatusError]},
		"too large":              {200, `["` + strings.Repeat("x", 5<<20) + `"]`, nil, isA[*extract.TooLargeError]},
	} {
		t.Run(name, func(t *testing.T) {
			client := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if got := r.URL.RequestURI(); got != "/api/public/pipeline" {
					t.Errorf("asked %s", got)
				}
				w.WriteHeader(c.status)
				_, _ = io.WriteString(w, c.body)
			})
			got, err := client.Pipelines(t.Context())
			if !reflect.DeepEqual(got, c.want) || (err == nil) != (c.as == nil) || c.as != nil && !c.as(err) {
				t.Fatalf("%+v, %T: %v", got, err, err)
			}
			var hinter extract.Hinter
			if err != nil && (!errors.As(err, &hinter) || strings.Contains(hinter.Hint(), "list of contacts") || strings.Contains(hinter.Hint(), "page_size")) {
				t.Errorf("%v\n%s", err, hinter.Hint())
			}
		})
	}
}
