package run

import (
	"math"
	"testing"

	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
)

func TestJSONThatMeansTheSameIsSpelledAlike(t *testing.T) {
	t.Parallel()
	canonical := func(s string) string { return string(appendCanonical(nil, s)) }
	for _, alike := range [][]string{
		{`{"a":1,"b":[true,null,"x"]}`, "{ \"b\" : [ true , null, \"x\" ],\n\"a\": 1.0 }", `{"a":1e0,"b":[true,null,"\u0078"]}`, `{"a":1,"a":2,"b":[true,null,"x"]}`},
		{`1.10`, `1.1`, `110e-2`},
		{`-0`, `0`, `0.0`, `-0.0`},
		{`9223372036854775807`, ` 9223372036854775807`},
		{`1e400`, ` 1e400 `},
		{`"é"`, `"\u00e9"`},
		{`{}`, `{ }`},
		{`[]`, ` []`},
	} {
		for _, s := range alike[1:] {
			if canonical(s) != canonical(alike[0]) {
				t.Errorf("%s and %s: %s, %s", alike[0], s, canonical(alike[0]), canonical(s))
			}
		}
	}
	seen := map[string]string{}
	for _, s := range []string{
		`{}`, `[]`, `null`, `true`, `false`, `0`, `"0"`, `""`, `[[]]`, `[0]`, `[0,0]`, `{"a":null}`, `{"a":{}}`, `{"a,":0}`, `["a","b"]`, `["a,b"]`, `["b","a"]`,
		`9223372036854775807`, `9223372036854775806`, `18446744073709551615`, `1.5`, `1e300`, `{"b":1,"a":1}`, `{"a":1}`, "no JSON", "[1", `[1] 2`, "",
	} {
		c := canonical(s)
		if other, taken := seen[c]; taken {
			t.Errorf("%s and %s are both %s", s, other, c)
		}
		seen[c] = s
	}
}

func TestCellsThatAreTheSameHashAlike(t *testing.T) {
	t.Parallel()
	b := array.NewFloat64Builder(memory.DefaultAllocator)
	defer b.Release()
	b.AppendValues([]float64{0, math.Copysign(0, -1), math.NaN(), math.Float64frombits(0x7ff8000000000099), 1, math.Inf(1)}, nil)
	b.AppendNull()
	values := b.NewArray()
	defer values.Release()
	keys := make([]idKey, values.Len())
	out := make([]uint64, values.Len())
	h := &cellHasher{}
	if err := h.hash(keys, "score", values, out); err != nil {
		t.Fatal(err)
	}
	if out[0] != out[1] || out[2] != out[3] || out[0] == out[2] || out[4] == out[5] || out[6] != 0 || out[0] == 0 {
		t.Errorf("got %x", out)
	}
	keys[1] = idKey{1}
	if err := h.hash(keys, "score", values, out); err != nil || out[0] == out[1] {
		t.Errorf("a value of another contact hashes alike: %x, %v", out[:2], err)
	}
}
