package plan

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func settings(pairs ...string) []Setting {
	out := []Setting{}
	for i := 0; i < len(pairs); i += 2 {
		out = append(out, Setting{Name: pairs[i], Value: pairs[i+1]})
	}
	return out
}

func table(want, have, applied []Setting) Resource {
	return Resource{Address: "destination.lake.table.contacts", Kind: KindTable, Pipeline: "nightly", Destination: "lake", Want: want, Have: have, Applied: applied}
}

// said is a change in one line.
func said(p Plan) []string {
	out := []string{}
	for _, c := range p.Changes {
		line := string(c.Action) + " " + c.Address
		for _, a := range c.Attributes {
			line += " " + attributeText(a)
		}
		out = append(out, line)
	}
	for _, d := range p.Drift {
		line := "drift " + d.Address
		if d.Gone {
			line += " gone"
		}
		for _, a := range d.Attributes {
			line += " " + attributeText(a)
		}
		out = append(out, line)
	}
	return out
}

func attributeText(a Attribute) string {
	text := func(s *string) string {
		if s == nil {
			return "-"
		}
		return *s
	}
	out := a.Name + ":" + text(a.From) + ">" + text(a.To)
	if a.Forces {
		out += "!"
	}
	return out
}

func TestWhatBecomesOfAResource(t *testing.T) {
	t.Parallel()
	asked, forced := settings("place", "out", "column.a", "string"), settings("method", "cdc")
	forced[0].Forces = true
	view := func(r Resource) Resource {
		r.Kind, r.Address = KindView, "destination.lake.view.contacts_active"
		return r
	}
	dataset := func(r Resource) Resource {
		r.Kind, r.Address = KindDataset, "destination.lake.dataset"
		return r
	}
	cases := []struct {
		name    string
		r       Resource
		destroy bool
		want    []string
	}{
		{"nothing is there", table(asked, nil, nil), false, []string{"create destination.lake.table.contacts place:->out column.a:->string"}},
		{"it is as asked for", table(asked, asked, asked), false, []string{}},
		{"it is as asked for, and nobody remembers applying it", table(asked, asked, nil), false, []string{}},
		{"a column is to be added", table(asked, settings("place", "out"), nil), false, []string{"update destination.lake.table.contacts column.a:->string"}},
		{"a setting cannot change in place", table(forced, settings("method", "load"), nil), false, []string{"replace destination.lake.table.contacts method:load>cdc!"}},
		{"a setting that cannot change is not there yet", table(forced, settings(), nil), false, []string{"update destination.lake.table.contacts method:->cdc"}},
		{
			"somebody has changed it", table(asked, settings("place", "out", "column.a", "int64"), asked), false,
			[]string{"update destination.lake.table.contacts column.a:int64>string", "drift destination.lake.table.contacts column.a:string>int64"},
		},
		{
			"the settings were changed, and nobody has touched it", table(asked, settings("place", "out", "column.a", "old"), settings("place", "out", "column.a", "old")), false,
			[]string{"update destination.lake.table.contacts column.a:old>string"},
		},
		{"somebody has removed it", table(asked, nil, asked), false, []string{"create destination.lake.table.contacts place:->out column.a:->string", "drift destination.lake.table.contacts gone"}},
		{"somebody's column stands beside ours", table(asked, append(settings("column.x", "date"), asked...), asked), false, []string{"drift destination.lake.table.contacts column.x:->date"}},
		{"nothing asks for it any more, and it holds data", table(nil, asked, asked), false, []string{"forget destination.lake.table.contacts"}},
		{"nothing asks for it any more, and nobody looked", table(nil, nil, asked), false, []string{"forget destination.lake.table.contacts"}},
		{"nothing ever was", table(nil, nil, nil), false, []string{}},
		{"nothing asks for a view any more", view(table(nil, settings("definition", "ab"), nil)), false, []string{"destroy destination.lake.view.contacts_active definition:ab>-"}},
		{"all is to go", table(asked, asked, asked), true, []string{"destroy destination.lake.table.contacts place:out>- column.a:string>-"}},
		{"all is to go, and it is gone", table(asked, nil, asked), true, []string{"forget destination.lake.table.contacts", "drift destination.lake.table.contacts gone"}},
		{"a dataset stays when all is to go", dataset(table(asked, asked, asked)), true, []string{"forget destination.lake.dataset"}},
	}
	for _, c := range cases {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := New(Input{Resources: []Resource{c.r}, Destroy: c.destroy})
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(c.want, said(p)); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestWhatNobodyLookedAtIsTakenToBeAsItWasApplied(t *testing.T) {
	t.Parallel()
	r := table(settings("a", "new"), nil, settings("a", "old"))
	r.Unseen = true
	p, err := New(Input{Resources: []Resource{r}})
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"update destination.lake.table.contacts a:old>new"}, said(p)); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
}

// estate is a pipeline with two destinations, and another pipeline.
func estate() []Resource {
	one := settings("a", "1")
	at := func(kind, address, pipeline, destination string) Resource {
		return Resource{Address: address, Kind: kind, Pipeline: pipeline, Destination: destination, Want: one}
	}
	return []Resource{
		at(KindPipeline, "pipeline.nightly", "nightly", ""),
		at(KindView, ViewAddress("bq", "contacts_active"), "nightly", "bq"),
		at(KindTable, TableAddress("bq", "contacts"), "nightly", "bq"),
		at(KindDataset, "destination.bq.dataset", "", "bq"),
		at(KindTable, TableAddress("lake", "contacts"), "nightly", "lake"),
		at(KindTable, TableAddress("lake2", "leads"), `leads["acme"]`, "lake2"),
		at(KindPipeline, `pipeline.leads["acme"]`, `leads["acme"]`, ""),
	}
}

func addresses(list []Change) []string {
	out := []string{}
	for _, c := range list {
		out = append(out, c.Address)
	}
	return out
}

func TestChangesStandInTheOrderOfTheirAddressesAndAreDoneInThatOfWhatTheyNeed(t *testing.T) {
	t.Parallel()
	given := estate()
	given = append(given, Resource{Address: ViewAddress("bq", "a_old_view"), Kind: KindView, Destination: "bq", Have: settings("a", "1")})
	given = append(given, Resource{Address: TableAddress("bq", "a_old_table"), Kind: KindTable, Destination: "bq", Have: settings("a", "1")})
	p, err := New(Input{Resources: given})
	if err != nil {
		t.Fatal(err)
	}
	want := []string{
		"destination.bq.dataset", "destination.bq.table.a_old_table", "destination.bq.table.contacts", "destination.bq.view.a_old_view", "destination.bq.view.contacts_active",
		"destination.lake.table.contacts", "destination.lake2.table.leads", `pipeline.leads["acme"]`, "pipeline.nightly",
	}
	if diff := cmp.Diff(want, addresses(p.Changes)); diff != "" {
		t.Errorf("shown: -want +got:\n%s", diff)
	}
	want = []string{
		"destination.bq.dataset", "destination.bq.table.contacts", "destination.lake.table.contacts", "destination.lake2.table.leads", "destination.bq.view.contacts_active",
		`pipeline.leads["acme"]`, "pipeline.nightly", "destination.bq.view.a_old_view", "destination.bq.table.a_old_table",
	}
	if diff := cmp.Diff(want, addresses(p.Ordered())); diff != "" {
		t.Errorf("done: -want +got:\n%s", diff)
	}
	if given[0].Address != "pipeline.nightly" {
		t.Error("the list that was given has changed")
	}
	if p.Empty() || p.Additive() || p.Count(Create) != 7 || p.Count(Destroy) != 1 || p.Count(Forget) != 1 {
		t.Errorf("%+v", p)
	}
}

func TestAPlanIsLimitedToItsTargets(t *testing.T) {
	t.Parallel()
	cases := []struct {
		target  string
		destroy bool
		want    []string
	}{
		{"destination.lake", false, []string{"destination.lake.table.contacts"}},
		{"destination.bq.table.contacts", false, []string{"destination.bq.dataset", "destination.bq.table.contacts"}},
		{"destination.bq.table.contacts", true, []string{"destination.bq.table.contacts"}},
		{"pipeline.leads", false, []string{"destination.lake2.table.leads", `pipeline.leads["acme"]`}},
		{`pipeline.leads["acme"]`, false, []string{"destination.lake2.table.leads", `pipeline.leads["acme"]`}},
		{"pipeline.nightly", false, []string{"destination.bq.dataset", "destination.bq.table.contacts", "destination.bq.view.contacts_active", "destination.lake.table.contacts", "pipeline.nightly"}},
	}
	for _, c := range cases {
		all := estate()
		if c.destroy {
			for i := range all {
				all[i].Have = all[i].Want
			}
		}
		p, err := New(Input{
			Resources: all, Targets: []string{c.target}, Destroy: c.destroy,
			Syncs: []Sync{{Pipeline: "nightly"}, {Pipeline: `leads["acme"]`}},
		})
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(c.want, addresses(p.Changes)); diff != "" {
			t.Errorf("%s: -want +got:\n%s", c.target, diff)
		}
		if wants := strings.HasPrefix(c.target, "pipeline.") && !c.destroy; wants != (len(p.Syncs) == 1) {
			t.Errorf("%s: %d syncs", c.target, len(p.Syncs))
		}
	}
	_, err := New(Input{Resources: estate(), Targets: []string{"destination.lak"}})
	var unknown *TargetError
	if !errors.As(err, &unknown) || !strings.Contains(unknown.Hint(), "destination.lake.table.contacts") {
		t.Errorf("got %v", err)
	}
}

func TestProtectedDataIsNotDestroyed(t *testing.T) {
	t.Parallel()
	all := estate()
	for i := range all {
		all[i].Have = all[i].Want
		all[i].Keeps = all[i].Address == "destination.lake.table.contacts"
		all[i].Holds = "10,000 contacts"
	}
	_, err := New(Input{Resources: all, Destroy: true})
	var kept *ProtectedError
	if !errors.As(err, &kept) || len(kept.Resources) != 1 || !strings.Contains(err.Error(), "destination.lake.table.contacts (10,000 contacts)") {
		t.Errorf("got %v", err)
	}
	if _, err := New(Input{Resources: all, Destroy: true, Targets: []string{"destination.bq"}}); err != nil {
		t.Errorf("of another destination: %v", err)
	}
	if _, err := New(Input{Resources: all}); err != nil {
		t.Errorf("without destroying: %v", err)
	}
}

func TestAResourceChangesOnce(t *testing.T) {
	t.Parallel()
	all := append(estate(), estate()[0])
	if _, err := New(Input{Resources: all}); err == nil || !strings.Contains(err.Error(), "pipeline.nightly would change twice") {
		t.Errorf("got %v", err)
	}
}

func TestASyncIsNoChange(t *testing.T) {
	t.Parallel()
	p, err := New(Input{Syncs: []Sync{{Pipeline: "nightly", Mode: "incremental", Duration: time.Second}}})
	if err != nil || !p.Empty() || !p.Additive() || len(p.Syncs) != 1 {
		t.Errorf("%+v, %v", p, err)
	}
	if p, err = New(Input{Syncs: []Sync{{Pipeline: "nightly"}}, Destroy: true}); err != nil || len(p.Syncs) != 0 {
		t.Errorf("what is to be destroyed is read: %+v, %v", p, err)
	}
}
