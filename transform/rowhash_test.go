package transform_test

import (
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/array"

	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

func TestTheHashOfAStoredRowIsThatWhichItWasSealedWith(t *testing.T) {
	const seed = 11
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	s := sealed(t, newRegistryOf(t, contractOf(t, typedContract), nil), contacts(r, 200)...)
	kinds := map[string]bool{}
	for _, f := range s.Record.Schema().Fields() {
		if !strings.HasPrefix(f.Name, "_sluice_") {
			kinds[f.Type.Name()] = true
		}
	}
	if len(kinds) != 6 {
		t.Errorf("of the types of columns only %v are there", kinds)
	}
	hashes := s.Record.Column(s.Table.Index(schemas.ColHash)).(*array.Int64)
	for row := range int(s.Record.NumRows()) {
		got, err := transform.RowHash(s.Record, row)
		if err != nil || got != hashes.Value(row) {
			t.Fatalf("row %d: %d, sealed with %d (%v)", row, got, hashes.Value(row), err)
		}
	}
}
