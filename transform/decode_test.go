package transform_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"

	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

// contactWith is a page of one contact with the given members.
func contactWith(members string) string {
	return `[{"id":"a","created_at":"2024-01-02T03:04:05.678Z","updated_at":"2024-01-02T03:04:05.678Z"` + members + `}]`
}

// edges are pages that decoders of JSON get wrong. The oracle says which are
// pages and what is in them.
func edges() []string {
	out := []string{
		``, ` `, `[]`, ` [ ] `, `{}`, `[{}]`, `[{},{}]`, `{"data":[]}`, `{"contacts":[]}`, `{"contacts":[],"data":[]}`,
		`{"data":null,"contacts":[{}]}`, `{"data":{}}`, `{"\u0064ata":[{}]}`, `{"Data":[]}`, `{"data":[],"data":[]}`,
		`{"a":1,"data":[{"id":"x"}],"b":{"c":[]}}`, `null`, `1`, `"x"`, `[null]`, `[1]`, `[[]]`, `[{}],`, `[{}]]`, `[{}] x`,
		`[{}`, `[{},]`, `[,{}]`, `[{}{}]`, `[{"a"}]`, `[{"a":}]`, `[{"a":1,}]`, `[{,}]`, `[{a:1}]`, `[{'a':1}]`, "\ufeff[]",
		`<html>`, `[{"id":"a"}]`, "[\n\t\r {} ]", "[\v{}]", "[\u00a0{}]", `{"data":[],"x":}`, `{"data":[],}`, `{"data":[]}}`,
		`[{}]` + "\x00", `[{"a":1 "b":2}]`, `[{"a" : 1 , "b" : [ ] , "c" : { } }]`, `{"data":[{}],"x":"` + "\xff" + `"}`,
	}
	values := []string{
		`0`, `-0`, `1`, `01`, `-`, `+1`, `.5`, `1.`, `1.5`, `1.10`, `-1.5e+3`, `1e5`, `1E-5`, `1e`, `1e+`, `1e400`, `-1e400`, `1e-400`, `0e999999999999999999999`,
		`9007199254740993`, `9223372036854775807`, `9223372036854775808`, `-9223372036854775808`, `-9223372036854775809`, `123456789012345678901234567890`,
		`0.1`, `0.30000000000000004`, `0.1234567890123456789`, `100000000000000000000.5`, `1.0`, `0.0`, `-0.0`, `NaN`, `Infinity`, `-Infinity`, `0x10`, `1_000`, `1,5`,
		`true`, `false`, `null`, `tru`, `True`, `nul`, `nulls`, `truefalse`, `""`, `"a"`, `"\u00e9"`, `"é"`, `"\ud83d\ude00"`, `"😀"`, `"\ud83d"`, `"\ude00"`, `"\ud83d\ud83d"`,
		`"\ud83dx"`, `"\ud83d\n"`, `"\u12"`, `"\uZZZZ"`, `"\x41"`, `"\a"`, `"\/\b\f\n\r\t\"\\"`, `"\u0000"`, `"\u001f\u007f"`, "\"\x01\"", "\"\n\"", "\"\x7f\"", "\"\xff\"", "\"\xc3\"", "\"\xc3\xa9\"",
		"\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"\xc0\xaf\"", `"abcdefg` + "\xe9" + `"`, `"1234567\"9"`, `"12345678\\"`, `"\\\""`, `"a`, `a"`,
		`{}`, `[]`, `{"a":1}`, `[1,"x",null]`, `[1,]`, `[,1]`, `{"a":1,}`, `{"a":1,"a":2}`, `[[],{},[[{}]]]`, `[}`, `{]`, `{"a":1]`, `[1}`, `["` + "\xff" + `"]`, `[1.10, 1e400]`,
		`"2024-01-01T00:00:00Z"`, `"2024-02-30T00:00:00Z"`, `"2024-01-01 00:00:00"`,
	}
	for _, key := range []string{"name", "blocked", "last_message_at", "score", "active_ticket_v2", "metadata", "custom_fields", "custom_field_values"} {
		for _, v := range values {
			out = append(out, contactWith(`,"`+key+`":`+v), contactWith(` , "`+key+`" : `+v+` `))
		}
	}
	for _, v := range values {
		out = append(
			out,
			contactWith(`,"metadata":{"k":`+v+`}`), contactWith(`,"custom_fields":[{"key":"k","value":`+v+`}]`),
			contactWith(`,"custom_fields":[{"value":`+v+`,"key":"k"},{"key":"k","value":`+v+`}],"metadata":{"k":"other"}`),
			contactWith(`,"custom_fields":[{"key":`+v+`,"value":1}]`), contactWith(`,"active_ticket_v2":{"id":`+v+`,"x":`+v+`}`),
			contactWith(`,"x":`+v), strings.Replace(contactWith(`,"y":1},{"y":2`), `"a"`, v, 1),
		)
	}
	for _, m := range []string{
		`"name":"a","name":"b"`, `"name":null,"name":"b"`, `"name":"a","n\u0061me":"b"`, `"name":"a","Name":"b","NAME":"c"`, `"x":1,"x":1`,
		`"metadata":{"k":1,"k":2}`, `"metadata":{"k":null,"k":null}`, `"active_ticket_v2":{"id":"1","id":"2"}`, `"active_ticket_v2":{},"active_ticket_v2":{"id":"1"}`,
		`"metadata":{},"metadata":{"a":1}`, `"custom_fields":[{"key":"a","key":"a","value":1}]`, `"custom_fields":[{"key":"a"}]`, `"custom_fields":[{"value":1}]`,
		`"custom_fields":[{"key":"a","value":1,"x":2}]`, `"custom_fields":[{"key":"a","value":1},5]`, `"custom_fields":[{}]`, `"custom_fields":[{"key":"a","value":null}]`,
		`"custom_fields":[{"k\u0065y":"a","v\u0061lue":"\u0062"}]`, `"metadata":{"k":1},"custom_field_values":[{"key":"k","value":2}],"custom_fields":{"k":3}`,
		`"custom_fields":[{"key":"k","value":1},{"key":"k","value":2},{"key":"k","value":1},{"key":"k","value":3}]`,
		`"custom_fields":{"k":1},"custom_field_values":{"k":"1"},"metadata":{"k":1}`, `"metadata":{"k":true},"custom_fields":{"k":false}`,
		`"metadata":{"k":true,"j":[1]},"custom_fields":{"k":true,"j":[2]}`, `"metadata":{"":1},"":2`, `"\u0000":1,"a\"b":2,"a\\":3`, `"a\":1,\"b":5`, `"custom_fields":[{"key":"a","value":1},]`, `"custom_fields":[{"key":"a","value":1,}]`, `"custom_fields":[{,}]`,
		`"active_ticket_v2":{"metadata":{"a":{"b":1}},"custom_fields":[{"key":"a","value":[1]}],"deep":{"x":{}}}`, `"active_ticket_v2":{"active_ticket_v2":{"id":"x"}}`,
	} {
		out = append(out, contactWith(","+m))
	}
	for _, ts := range []string{
		"2024-01-01T00:00:00Z", "2024-01-01T00:00:00.1Z", "2024-01-01T00:00:00.123456Z", "2024-01-01T00:00:00.123456789Z", "2024-01-01T00:00:00.1234567891Z", "2024-01-01T00:00:00.Z",
		"2024-01-01T00:00:00+05:30", "2024-01-01T00:00:00.999-23:59", "2024-01-01T00:00:00+24:00", "2024-01-01T00:00:00+0530", "2024-01-01T00:00:00", "2024-01-01", "2024-1-1T00:00:00Z",
		"2024-02-29T00:00:00.000Z", "2023-02-29T00:00:00.000Z", "1900-02-29T00:00:00.000Z", "2000-02-29T00:00:00.000Z", "2024-04-31T00:00:00.000Z", "2024-13-01T00:00:00.000Z", "2024-00-01T00:00:00.000Z",
		"2024-01-00T00:00:00.000Z", "2024-01-01T24:00:00.000Z", "2024-01-01T23:60:00.000Z", "2024-01-01T23:59:60.000Z", "0000-01-01T00:00:00.000Z", "0001-01-01T00:00:00.000Z", "0001-01-01T00:00:00+00:01",
		"9999-12-31T23:59:59.999Z", "9999-12-31T23:59:59.999-00:01", "1969-12-31T23:59:59.9999999Z", "1970-01-01T00:00:00.000Z", "2024-01-01t00:00:00.000z", "2024-01-01T00:00:00,000Z", "2024-01-01T00:00:00.00aZ",
		"+024-01-01T00:00:00.000Z", "2024-01-01T00:00:00.000 ", "2024/01/01T00:00:00.000Z", "2024-01-01T00-00-00.000Z", "\u06f2024-01-01T00:00:0Z", "2024-01-01T00:00:00.000Zx", "2024\\u002d01-01T00:00:00.000Z",
	} {
		out = append(out, `[{"id":"t","created_at":"`+ts+`","updated_at":"`+ts+`","last_message_at":"`+ts+`"}]`)
	}
	return out
}

func TestEdgeCasesReadAsTheOracleReadsThem(t *testing.T) {
	taken := 0
	for _, page := range edges() {
		// Once in a fresh chunk, once in one that guesses from the page before.
		if checkPage(t, transform.NewChunk(transform.Options{}), newRegistry(t), []byte(page)) {
			taken++
		}
		c := transform.NewChunk(transform.Options{})
		checkPage(t, c, newRegistry(t), []byte(contactWith(`,"name":"x","score":1,"blocked":true,"metadata":{"k":"v"}`)))
		checkPage(t, c, newRegistry(t), []byte(page))
	}
	if taken < 500 {
		t.Fatalf("only %d of %d edge cases are pages", taken, len(edges()))
	}
}

// samplePage is a page with every shape in it.
func samplePage(tb testing.TB) []byte {
	tb.Helper()
	b, err := os.ReadFile("testdata/flatten/shapes.json")
	if err != nil {
		tb.Fatal(err)
	}
	return bytes.TrimSpace(b)
}

func TestNoTruncationOfAPageIsAPage(t *testing.T) {
	for _, page := range [][]byte{samplePage(t), newGenerator(7).page(3)} {
		c, reg := transform.NewChunk(transform.Options{}), newRegistry(t)
		for n := range page {
			if _, err := c.Decode(page[:n]); !errors.Is(err, transform.ErrBadPage) {
				t.Fatalf("the first %d of %d bytes: %v", n, len(page), err)
			}
			if got := c.Keep(nil, transform.Meta{}); got != 0 {
				t.Fatalf("kept %d rows of a bad page", got)
			}
		}
		if !checkPage(t, c, reg, page) {
			t.Fatal("the whole page was refused")
		}
	}
}

func TestTwentyThousandMutationsReadAsTheOracleReadsThem(t *testing.T) {
	const seed = 20_000
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, 1))
	bases := [][]byte{samplePage(t), newGenerator(seed).page(1)}
	for _, members := range []string{ // most of the time short, to hit what matters
		`,"metadata":{"a":"1","b":null,"c":[1,{"d":2}]},"score":1.25e3`, `,"custom_fields":[{"key":"k","value":-1.5},{"value":"v","key":"w"}],"metadata":{"k":"x"}`,
		`,"active_ticket_v2":{"id":"t","x":[true,false],"metadata":{"\u00e9":"\ud83d\ude00"}},"name":"é\n"`, `,"blocked":true,"last_message_at":"2024-01-02T03:04:05+01:00","x":1,"X":{}`,
	} {
		bases = append(bases, []byte(contactWith(members)), []byte(`{"data": `+contactWith(members)+` }`))
	}
	bases = append(bases, page(contacts(r, 1)), page(contacts(r, 1)), page(contacts(r, 1)))
	var c *transform.Chunk
	var reg *schemas.Registry
	taken := 0
	for i := range 20_000 {
		if i%40 == 0 {
			// New names are settled for ever: start over before they pile up.
			// Every other time under a contract that is not the built-in one.
			o := transform.Options{MaxColumns: 100_000, Contract: schemas.Default()}
			if i%80 == 40 {
				o.Contract = contractOf(t, typedContract+rulesets[r.IntN(len(rulesets))])
			}
			c, reg = transform.NewChunk(o), newRegistryOf(t, o.Contract, nil)
		}
		if checkPage(t, c, reg, mutate(r, bases[r.IntN(len(bases))])) {
			taken++
		}
	}
	t.Logf("%d mutations are still pages", taken)
	if taken < 1000 {
		t.Fatalf("only %d mutations are still pages", taken)
	}
}

// mutate changes a few bytes: overwritten, inserted, removed, moved.
func mutate(r *rand.Rand, base []byte) []byte {
	const likely = "\"\\{}[]:,0123456789.eE+-ntfu \n\x00\x1f\x7f\x80\xc3\xff"
	b := bytes.Clone(base)
	for range 1 + r.IntN(2) {
		at := r.IntN(len(b))
		c := byte(r.IntN(256))
		if r.IntN(3) > 0 {
			c = likely[r.IntN(len(likely))]
		}
		switch r.IntN(4) {
		case 0, 1:
			b[at] = c
		case 2:
			b = append(b[:at], append([]byte{c}, b[at:]...)...)
		default:
			n := min(1+r.IntN(3), len(b)-at)
			b = append(b[:at], b[at+n:]...)
		}
		if len(b) == 0 {
			return b
		}
	}
	return b
}

func TestNestingIsBoundedAsInTheOracleAndNeverEndsTheProcess(t *testing.T) {
	deep := func(open, inner, shut string, n int) string {
		return strings.Repeat(open, n) + inner + strings.Repeat(shut, n)
	}
	for _, n := range []int{1, 9995, 9996, 9997, 9998, 9999, 10_000} {
		for _, format := range []string{`,"x":%s`, `,"metadata":{"x":%s}`, `,"metadata":[{"key":"k","value":%s}]`, `,"active_ticket_v2":{"metadata":{"x":%s}}`} {
			for _, v := range []string{deep("[", "", "]", n), deep(`{"a":`, "1", "}", n)} {
				page := contactWith(fmt.Sprintf(format, v))
				checkPage(t, transform.NewChunk(transform.Options{}), newRegistry(t), []byte(page))
				checkPage(t, transform.NewChunk(transform.Options{}), newRegistry(t), []byte(`{"data":`+page+`}`))
			}
		}
	}
	c := transform.NewChunk(transform.Options{})
	for _, open := range []string{"[", `{"a":`, `[{"x":[`, `[{"metadata":`, `[{"metadata":[{"value":[`} {
		if _, err := c.Decode([]byte(strings.Repeat(open, 1_000_000))); !errors.Is(err, transform.ErrBadPage) {
			t.Fatal(err)
		}
	}
	shallow := transform.NewChunk(transform.Options{MaxDepth: 4})
	for body, ok := range map[string]bool{contactWith(`,"x":[[1]]`): true, contactWith(`,"x":[[[1]]]`): false} {
		if _, err := shallow.Decode([]byte(body)); (err == nil) != ok {
			t.Errorf("%s: %v", body, err)
		}
	}
}

func TestDepthIsThatOfTheValueNotOfWhatCameBefore(t *testing.T) {
	one := strings.Trim(contactWith(`,"active_ticket_v2":{},"metadata":{},"custom_fields":[],"custom_field_values":[{}],"x":{},"y":[],"z":[[]]`), "[]")
	two := strings.Trim(contactWith(`,"active_ticket_v2":{"metadata":{"a":1}},"metadata":{"a":1},"custom_fields":[{"key":"a","value":1}],"custom_field_values":[1]`), "[]")
	body := `{"data":[` + strings.Repeat(one+","+two+",", 50) + one + `]}`
	if _, err := transform.NewChunk(transform.Options{MaxDepth: 6}).Decode([]byte(body)); err != nil {
		t.Fatal(err)
	}
}

// Keys are guessed by comparing bytes that have not been scanned: a key seen
// before must never make bytes pass that are not that key.
func TestAKnownKeyDoesNotMakeBrokenJSONPass(t *testing.T) {
	c, reg := transform.NewChunk(transform.Options{}), newRegistry(t)
	for _, key := range []string{`a\"b`, `a\":1,\"b`, `a\\`, `a\nb`, `\u0001`, strings.Repeat("k", 300)} {
		if !checkPage(t, c, reg, []byte(contactWith(`,"`+key+`":1`))) {
			t.Fatalf("key %q was refused", key)
		}
		for _, broken := range []string{`a"b`, `a":1,"b`, `a\`, "a\nb", "\x01", `a\"b`} {
			checkPage(t, c, reg, []byte(contactWith(`,"`+broken+`":1`)))
		}
	}
}

func FuzzDecode(f *testing.F) {
	for i, page := range edges() {
		if i%7 == 0 {
			f.Add([]byte(page))
		}
	}
	f.Add(samplePage(f))
	f.Add(newGenerator(3).page(2))
	r := rand.New(rand.NewPCG(4, 4))
	for range rulesets {
		f.Add(page(contacts(r, 2)))
	}
	f.Fuzz(func(t *testing.T, body []byte) {
		checkPage(t, transform.NewChunk(transform.Options{MaxColumns: 1 << 20}), newRegistry(t), body)
		contract := contractOf(t, typedContract+rulesets[len(body)%len(rulesets)])
		checkPage(t, transform.NewChunk(transform.Options{MaxColumns: 1 << 20, Contract: contract}), newRegistryOf(t, contract, nil), body)
	})
}
