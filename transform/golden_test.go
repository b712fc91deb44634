package transform_test

import (
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/transform"
)

var update = flag.Bool("update", false, "write the golden files")

// cell prints one value of a record.
func cell(col arrow.Array, row int) string {
	if col.IsNull(row) {
		return "null"
	}
	return col.ValueStr(row)
}

// render prints a sealed chunk, one row after another, nulls left out.
func render(s *transform.Sealed, hashes bool) string {
	var b strings.Builder
	for _, c := range s.Table.Columns {
		fmt.Fprintf(&b, "column %s %s %s %q required=%t\n", c.Name, c.Type, c.Origin, c.Source, c.Required)
	}
	for row := range int(s.Record.NumRows()) {
		fmt.Fprintf(&b, "row %d\n", row)
		for i, c := range s.Table.Columns {
			v := cell(s.Record.Column(i), row)
			if v == "null" || c.Name == "_sluice_hash" && !hashes {
				continue
			}
			fmt.Fprintf(&b, "  %s = %s\n", c.Name, v)
		}
	}
	for _, r := range s.Rejects {
		fmt.Fprintf(&b, "reject %d %q id=%q request=%q %s\n", r.Position, r.Reason, r.ID, r.Request, r.Raw)
	}
	var names []string
	for name := range s.Misfits {
		names = append(names, name)
	}
	slices.Sort(names)
	for _, name := range names {
		fmt.Fprintf(&b, "misfits %s %d\n", name, s.Misfits[name])
	}
	return b.String()
}

// Every shape that a contact may take, against a file that was read by eye.
func TestFlatteningGivesTheGoldenColumns(t *testing.T) {
	inputs, err := filepath.Glob("testdata/flatten/*.json")
	if err != nil || len(inputs) == 0 {
		t.Fatal("no inputs", err)
	}
	for _, in := range inputs {
		t.Run(strings.TrimSuffix(filepath.Base(in), ".json"), func(t *testing.T) {
			mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
			defer mem.AssertSize(t, 0)
			body, err := os.ReadFile(in)
			if err != nil {
				t.Fatal(err)
			}
			c := transform.NewChunk(transform.Options{})
			if _, err := c.Decode(body); err != nil {
				t.Fatal(err)
			}
			c.Keep(nil, transform.Meta{ExtractedAt: time.Unix(1_700_000_000, 0), FirstRow: 100, Request: "/contacts?limit=9"})
			s := seal(t, c, newRegistry(t), mem)
			defer s.Record.Release()
			golden := strings.TrimSuffix(in, ".json") + ".golden"
			got := render(s, true)
			if *update {
				if err := os.WriteFile(golden, []byte(got), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("columns differ from %s (-want +got):\n%s", golden, diff)
			}
		})
	}
}
