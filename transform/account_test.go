package transform_test

import (
	"math/rand/v2"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

// sealedFor seals contacts under a contract, in any order of months.
func sealedFor(t *testing.T, c *schemas.Contract, contacts []string, mem memory.Allocator) *transform.Sealed {
	t.Helper()
	chunk := transform.NewChunk(transform.Options{Contract: c})
	decodeAll(t, chunk, [][]byte{page(contacts)})
	return seal(t, chunk, newRegistryOf(t, c, nil), mem)
}

func TestEveryRowNamesItsAccountAndHasTheHashThatItHasWithoutOne(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	contacts := variedContacts(rand.New(rand.NewPCG(7, 7)), 300)
	plain := sealedFor(t, schemas.Default(), contacts, mem)
	defer plain.Record.Release()
	s := sealedFor(t, schemas.Default().WithAccount("acme"), contacts, mem)
	defer s.Record.Release()
	accounts := s.Record.Column(s.Table.Index(schemas.ColAccount)).(*array.String)
	for i := range accounts.Len() {
		if accounts.IsNull(i) || accounts.Value(i) != "acme" {
			t.Fatalf("row %d is of account %q", i, accounts.ValueStr(i))
		}
	}
	if s.Record.NumRows() == 0 || s.Record.NumRows() != plain.Record.NumRows() {
		t.Fatalf("%d rows, without account %d", s.Record.NumRows(), plain.Record.NumRows())
	}
	hashes := func(s *transform.Sealed) []int64 {
		return s.Record.Column(s.Table.Index(schemas.ColHash)).(*array.Int64).Int64Values()
	}
	if diff := cmp.Diff(hashes(plain), hashes(s)); diff != "" {
		t.Error(diff)
	}
	for i := range int(s.Record.NumRows()) {
		if again, err := transform.RowHash(s.Record, i); err != nil || again != hashes(s)[i] {
			t.Fatalf("row %d: made of the stored row the hash is %d, not %d: %v", i, again, hashes(s)[i], err)
		}
	}
}

func TestAChunkWithoutRowsHasTheColumnOfTheAccount(t *testing.T) {
	s := sealedFor(t, schemas.Default().WithAccount("acme"), nil, nil)
	defer s.Record.Release()
	if s.Record.NumRows() != 0 || s.Table.Index(schemas.ColAccount) < 0 {
		t.Errorf("%d rows of %v", s.Record.NumRows(), s.Table)
	}
}
