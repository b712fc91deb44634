package parquet

import (
	"cmp"
	"encoding/hex"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"testing"

	gocmp "github.com/google/go-cmp/cmp"
)

func TestListsOfHashesMeetAsSetsDo(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	rnd := rand.New(rand.NewPCG(seed, 0))
	list := func(n, of int) []uint64 {
		out := []uint64{}
		for range rnd.IntN(n + 1) {
			out = append(out, rnd.Uint64N(uint64(of)))
		}
		slices.Sort(out)
		return slices.Compact(out)
	}
	for range 2000 {
		of := 1 + rnd.IntN(300)
		lists := [][]uint64{list(5, of), list(200, of), list(80, of)}
		times := map[uint64]int{}
		var flat [][]uint64
		for _, l := range lists {
			if len(l) > 0 {
				flat = append(flat, l)
			}
			for _, h := range l {
				times[h]++
			}
		}
		a, b := lists[rnd.IntN(3)], lists[rnd.IntN(3)]
		var common, twice, rest []uint64
		for _, h := range a {
			if slices.Contains(b, h) {
				common = append(common, h)
			} else {
				rest = append(rest, h)
			}
		}
		for h, n := range times {
			if n > 1 {
				twice = append(twice, h)
			}
		}
		slices.Sort(twice)
		var gotCommon, gotTwice []uint64
		eachCommon(a, b, func(h uint64) { gotCommon = append(gotCommon, h) })
		eachTwice(flat, func(h uint64) { gotTwice = append(gotTwice, h) })
		gotTwice = slices.Compact(gotTwice)
		gotRest := without(slices.Clone(a), b)
		for _, d := range []string{gocmp.Diff(common, gotCommon), gocmp.Diff(twice, gotTwice), gocmp.Diff(append([]uint64{}, rest...), append([]uint64{}, gotRest...))} {
			if d != "" {
				t.Fatalf("a %v, b %v, lists %v (-want +got):\n%s", a, b, lists, d)
			}
		}
	}
}

// BenchmarkFindMoved looks for the contacts of a night in a table of 5,000,000:
// 50,000 changed in the last months, and so many new ones.
func BenchmarkFindMoved(b *testing.B) {
	const months, each = 44, 113_636
	for _, fresh := range []int{0, 5000} {
		b.Run(fmt.Sprintf("new=%d", fresh), func(b *testing.B) {
			rnd := rand.New(rand.NewPCG(1, 2))
			dir := b.TempDir()
			m := &merge{dir: dir, stored: map[month]File{}, out: &output{dir: dir, ids: map[month]bool{}}}
			if err := os.Mkdir(filepath.Join(dir, idsDir), 0o750); err != nil {
				b.Fatal(err)
			}
			var known []uint64
			for mo := range month(months) {
				hashes := make([]uint64, each)
				for i := range hashes {
					hashes[i] = rnd.Uint64()
				}
				f := File{Path: currentPath(24000 + mo), Rows: each, SHA256: hex.EncodeToString(slices.Repeat([]byte{byte(mo)}, 32))}
				data, err := encodeIDs(f.SHA256, hashes)
				if err := cmp.Or(err, os.WriteFile(at(dir, idsPath(24000+mo)), data, 0o600)); err != nil {
					b.Fatal(err)
				}
				m.stored[24000+mo] = f
				known = hashes
			}
			for b.Loop() {
				arrivals := slices.Clone(known[:50_000])
				for range fresh {
					arrivals = append(arrivals, rnd.Uint64())
				}
				m.arrivals = map[month][]uint64{24000 + months - 1: arrivals}
				if err := m.findMoved(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
