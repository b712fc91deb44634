package transform_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/apache/arrow/go/v17/arrow"
	"github.com/apache/arrow/go/v17/arrow/array"
	"github.com/apache/arrow/go/v17/arrow/memory"
	"github.com/google/go-cmp/cmp"
	"github.com/zeebo/xxh3"

	"github.com/sluice-etl/sluice/schemas"
	"github.com/sluice-etl/sluice/transform"
)

// variedContacts are n contacts of all shapes, months mixed, some of them to
// be rejected.
func variedContacts(r *rand.Rand, n int) []string {
	out := make([]string, n)
	for i := range out {
		b := fmt.Appendf(nil, `{"id":"id%d","updated_at":"2024-05-06T07:08:09.%03dZ"`, i, r.IntN(1000))
		if r.IntN(40) > 0 {
			b = fmt.Appendf(b, `,"created_at":"20%02d-%02d-03T00:00:00.000Z"`, 10+r.IntN(15), 1+r.IntN(12))
		}
		if r.IntN(2) == 0 {
			b = fmt.Appendf(b, `,"name":"Ñandú %d","platform":"%s","blocked":%t`, i, []string{"whatsapp", "sms"}[r.IntN(2)], r.IntN(2) == 0)
		}
		if r.IntN(5) == 0 {
			b = fmt.Appendf(b, `,"phone":%d,"email":"","last_message_at":"%d"`, i, i)
		}
		for k := range 6 {
			if r.IntN(3) == 0 {
				b = fmt.Appendf(b, `,"extra_%d":%s`, k, []string{`"text"`, `12`, `1.5`, `true`, `null`, `{"a":[1]}`}[(k+r.IntN(2))%6])
			}
		}
		if r.IntN(2) == 0 {
			b = fmt.Appendf(b, `,"metadata":{"k%d":"v%d","same":"m"},"custom_fields":[{"key":"same","value":"c%d"}]`, r.IntN(30), i, r.IntN(2))
		}
		out[i] = string(append(b, '}'))
	}
	return out
}

func page(contacts []string) []byte { return []byte("[" + strings.Join(contacts, ",") + "]") }

// settled returns a registry that knows every field of the contacts, as in the
// second run of a pipeline.
func settled(t *testing.T, contacts []string) *schemas.Registry {
	t.Helper()
	reg := newRegistry(t)
	c := transform.NewChunk(transform.Options{})
	decodeAll(t, c, [][]byte{page(contacts)})
	seal(t, c, reg, nil).Record.Release()
	return reg
}

// byID returns the rows of a sealed chunk as text, by id, hash included.
func byID(s *transform.Sealed, into map[string]string) {
	for row := range int(s.Record.NumRows()) {
		var b strings.Builder
		for i, c := range s.Table.Columns {
			if v := cell(s.Record.Column(i), row); v != "null" && c.Name != schemas.ColRow {
				fmt.Fprintf(&b, "%s=%s\n", c.Name, v)
			}
		}
		into[cell(s.Record.Column(s.Table.Index("id")), row)] += b.String()
	}
}

// What a row holds, its hash included, does not depend on how rows share pages
// and chunks, nor on pages that were decoded and dropped, nor on rows skipped.
func TestRowsAndHashesAreTheSameHoweverPagesAreCut(t *testing.T) {
	const seed = 42
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	contacts := variedContacts(r, 400)
	reg := settled(t, contacts)
	var want map[string]string
	for cut := range 12 {
		got := map[string]string{}
		rejects := 0
		c := transform.NewChunk(transform.Options{})
		flush := func() {
			s := seal(t, c, reg, nil)
			byID(s, got)
			rejects += len(s.Rejects)
			s.Record.Release()
		}
		for at := 0; at < len(contacts); {
			n := len(contacts)
			if cut > 0 {
				n = min(1+r.IntN(60), len(contacts)-at)
			}
			// A page that overlaps the last one, whose rows are skipped.
			over := min(at, r.IntN(10))
			if cut == 0 {
				over = 0
			}
			skip := make([]bool, over+n)
			for i := range over {
				skip[i] = true
			}
			if r.IntN(3) == 0 { // decoded, never kept
				if _, err := c.Decode(page(contacts[r.IntN(len(contacts)):])); err != nil {
					t.Fatal(err)
				}
			}
			if r.IntN(4) == 0 {
				if _, err := c.Decode([]byte(`[{"id":"broken","metadata":{"k1":"x`)); !errors.Is(err, transform.ErrBadPage) {
					t.Fatal(err)
				}
			}
			if _, err := c.Decode(page(contacts[at-over : at+n])); err != nil {
				t.Fatal(err)
			}
			c.Keep(skip, transform.Meta{ExtractedAt: time.Unix(5, 0)})
			at += n
			if cut%2 == 1 && r.IntN(3) == 0 {
				flush()
			}
		}
		flush()
		if cut == 0 {
			want = got
			if rejects == 0 || len(want)+rejects != len(contacts) {
				t.Fatalf("%d rows and %d rejects of %d", len(want), rejects, len(contacts))
			}
			continue
		}
		if len(want)+rejects != len(contacts) {
			t.Fatalf("cut %d: %d rejects", cut, rejects)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatalf("cut %d: rows differ (-want +got):\n%s", cut, diff)
		}
	}
}

// Random skips, in columns dense, sparse and mixed, against a chunk that saw
// only the rows not skipped.
func TestSkippedRowsLeaveNoTrace(t *testing.T) {
	const seed = 7
	t.Logf("seed %d", seed)
	r := rand.New(rand.NewPCG(seed, seed))
	contacts := variedContacts(r, 300)
	reg := settled(t, contacts)
	for range 12 {
		with, without := transform.NewChunk(transform.Options{}), transform.NewChunk(transform.Options{})
		share := r.IntN(10)
		for at := 0; at < len(contacts); at += 50 {
			all := contacts[at : at+50]
			skip := make([]bool, 50)
			var rest []string
			for i := range skip {
				if skip[i] = r.IntN(10) < share; !skip[i] {
					rest = append(rest, all[i])
				}
			}
			for c, body := range map[*transform.Chunk][]byte{with: page(all), without: page(rest)} {
				if _, err := c.Decode(body); err != nil {
					t.Fatal(err)
				}
			}
			m := transform.Meta{FirstRow: int64(with.Rows()), ExtractedAt: time.Unix(int64(at), 0)}
			if a, b := with.Keep(skip, m), without.Keep(nil, m); a != b {
				t.Fatalf("kept %d and %d", a, b)
			}
		}
		a, b := seal(t, with, reg, nil), seal(t, without, reg, nil)
		for i := range a.Rejects {
			a.Rejects[i].Position, b.Rejects[i].Position = 0, 0 // they count skipped rows
		}
		if diff := cmp.Diff(render(b, true), render(a, true)); diff != "" {
			t.Fatalf("rows differ (-without +with):\n%s", diff)
		}
		a.Record.Release()
		b.Record.Release()
	}
}

// dirty is an allocator whose memory has been used before.
type dirty struct{ memory.Allocator }

func (d dirty) Allocate(size int) []byte {
	b := d.Allocator.Allocate(size)
	for i := range b {
		b[i] = 0xaa
	}
	return b
}

func TestMemoryUsedBeforeDoesNotShowInARecord(t *testing.T) {
	contacts := variedContacts(rand.New(rand.NewPCG(5, 5)), 300)
	reg := settled(t, contacts)
	for _, order := range []func(){func() {}, func() { slices.Sort(contacts) }} {
		order()
		var got []string
		for _, mem := range []memory.Allocator{memory.NewGoAllocator(), dirty{memory.NewGoAllocator()}} {
			c := transform.NewChunk(transform.Options{})
			decodeAll(t, c, [][]byte{page(contacts)})
			s := seal(t, c, reg, mem)
			got = append(got, render(s, true))
			s.Record.Release()
		}
		if diff := cmp.Diff(got[0], got[1]); diff != "" {
			t.Errorf("records differ (-clean +dirty):\n%s", diff)
		}
	}
}

func TestRowsAreGroupedByMonthOfCreationInOrderOfArrival(t *testing.T) {
	contacts := variedContacts(rand.New(rand.NewPCG(1, 1)), 500)
	contacts = append(contacts, `{"id":"epoch","created_at":"1970-01-01T00:00:00Z","updated_at":"2024-01-01T00:00:00Z"}`, `{"id":"old","created_at":"1969-12-31T23:59:59.999Z","updated_at":"2024-01-01T00:00:00Z"}`,
		`{"id":"ancient","created_at":"0001-01-01T00:00:00Z","updated_at":"2024-01-01T00:00:00Z"}`,
		`{"id":"last","created_at":"9999-12-31T23:59:59.999999Z","updated_at":"2024-01-01T00:00:00Z"}`)
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	c := transform.NewChunk(transform.Options{})
	decodeAll(t, c, [][]byte{page(contacts)})
	s := seal(t, c, newRegistry(t), mem)
	defer s.Record.Release()
	created := s.Record.Column(s.Table.Index(schemas.ColCreatedAt)).(*array.Timestamp)
	rows := s.Record.Column(s.Table.Index(schemas.ColRow)).(*array.Int64)
	month := func(i int) int {
		at := time.UnixMicro(int64(created.Value(i))).UTC()
		return at.Year()*12 + int(at.Month())
	}
	for i := 1; i < created.Len(); i++ {
		if month(i-1) > month(i) || month(i-1) == month(i) && rows.Value(i-1) >= rows.Value(i) {
			t.Fatalf("row %d of month %d follows row %d of month %d", rows.Value(i), month(i), rows.Value(i-1), month(i-1))
		}
	}
}

// hashOf computes _sluice_hash from the record alone, by the stored format.
func hashOf(s *transform.Sealed, row int) int64 {
	var sum uint64
	for i, c := range s.Table.Columns {
		col := s.Record.Column(i)
		if c.Origin == schemas.SystemDefined || col.IsNull(row) {
			continue
		}
		var value []byte
		switch a := col.(type) {
		case *array.String:
			value = []byte(a.Value(row))
		case *array.Boolean:
			value = []byte{0}
			if a.Value(row) {
				value[0] = 1
			}
		case *array.Int64:
			value = binary.LittleEndian.AppendUint64(nil, uint64(a.Value(row)))
		case *array.Float64:
			value = binary.LittleEndian.AppendUint64(nil, math.Float64bits(a.Value(row)))
		case *array.Timestamp:
			value = binary.LittleEndian.AppendUint64(nil, uint64(a.Value(row)))
		}
		sum += xxh3.HashSeed(value, xxh3.HashString("sluice/row/1\x00"+c.Name))
	}
	return int64(sum)
}

func TestTheRowHashFollowsTheStoredFormat(t *testing.T) {
	c := transform.NewChunk(transform.Options{})
	decodeAll(t, c, [][]byte{page(variedContacts(rand.New(rand.NewPCG(3, 3)), 200))})
	s := seal(t, c, newRegistry(t), nil)
	defer s.Record.Release()
	hashes := s.Record.Column(s.Table.Index(schemas.ColHash)).(*array.Int64)
	distinct := map[int64]bool{}
	for i := range hashes.Len() {
		if want := hashOf(s, i); hashes.Value(i) != want {
			t.Fatalf("row %d: hash %d, want %d", i, hashes.Value(i), want)
		}
		distinct[hashes.Value(i)] = true
	}
	if len(distinct) != hashes.Len() {
		t.Fatalf("%d hashes for %d rows", len(distinct), hashes.Len())
	}
}

func TestColumnsThatARowLacksDoNotChangeItsHash(t *testing.T) {
	plain := `{"id":"a","created_at":"2024-01-01T00:00:00Z","updated_at":"2024-01-01T00:00:00Z","name":"x"}`
	hash := func(contacts ...string) int64 {
		c := transform.NewChunk(transform.Options{})
		decodeAll(t, c, [][]byte{page(contacts)})
		s := seal(t, c, newRegistry(t), nil)
		defer s.Record.Release()
		return s.Record.Column(s.Table.Index(schemas.ColHash)).(*array.Int64).Value(0)
	}
	alone := hash(plain)
	if got := hash(plain, strings.Replace(plain, `"x"`, `5,"new":"column","metadata":{"k":"v"}`, 1)); got != alone {
		t.Errorf("with other columns about, the hash is %d, want %d", got, alone)
	}
	for name, other := range map[string]string{
		"empty text": `"x","phone":""`, "another value": `"y"`, "another column": `null,"phone":"x"`, "a new field": `"x","new":false`,
	} {
		if hash(strings.Replace(plain, `"x"`, other, 1)) == alone {
			t.Errorf("%s: the hash is the same", name)
		}
	}
}

func TestAColumnKeepsItsTypeAndWhatDoesNotFitStandsBesideIt(t *testing.T) {
	reg := newRegistry(t)
	c := transform.NewChunk(transform.Options{})
	run := func(values ...string) map[string][]string {
		var contacts []string
		for i, v := range values {
			contacts = append(contacts, fmt.Sprintf(`{"id":"%d","created_at":"2024-01-01T00:00:00Z","updated_at":"2024-01-01T00:00:00Z",%s}`, i, v))
		}
		decodeAll(t, c, [][]byte{page(contacts)})
		s := seal(t, c, reg, nil)
		defer s.Record.Release()
		out := map[string][]string{}
		for i, tc := range s.Table.Columns {
			if tc.Origin != schemas.Discovered && tc.Origin != schemas.MisfitText {
				continue
			}
			for row := range values {
				out[string(tc.Type)+" "+tc.Name] = append(out[string(tc.Type)+" "+tc.Name], cell(s.Record.Column(i), row))
			}
		}
		return out
	}
	got := run(`"i":1,"f":1.5,"s":"x","b":true,"j":{},"n":null`, `"i":9223372036854775807,"f":2,"s":"y","b":false,"j":[]`)
	want := map[string][]string{
		"int64 i": {"1", "9223372036854775807"}, "float64 f": {"1.5", "2"}, "string s": {"x", "y"}, "bool b": {"true", "false"}, "json j": {"{}", "[]"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("first run (-want +got):\n%s", diff)
	}
	got = run(`"i":1.5,"f":9007199254740993,"s":5,"b":"true","j":"text","n":5`, `"i":"1","f":1e400,"s":[1],"b":null,"j":1`)
	want = map[string][]string{
		"int64 i": {"null", "null"}, "string i__text": {"1.5", "1"},
		"float64 f": {"null", "null"}, "string f__text": {"9007199254740993", "1e400"},
		"string s": {"5", "null"}, "string s__text": {"null", "[1]"},
		"bool b": {"null", "null"}, "string b__text": {"true", "null"},
		"json j": {`"text"`, "1"}, "int64 n": {"5", "null"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Fatalf("second run (-want +got):\n%s", diff)
	}
}

func TestFiltersDropRowsButTheWalkSeesThem(t *testing.T) {
	c := transform.NewChunk(transform.Options{Filter: map[string][]string{"platform": {"whatsapp", "sms"}, "blocked": {"false"}}})
	var contacts []string
	for i, v := range []string{`"whatsapp","blocked":false`, `"sms","blocked":true`, `"web","blocked":false`, `null,"blocked":false`, `"sms"`, `5,"blocked":false`, `"sms","blocked":false`} {
		contacts = append(contacts, fmt.Sprintf(`{"id":"%d","created_at":"2024-01-01T00:00:00Z","updated_at":"2024-01-01T00:00:00Z","platform":%s}`, i, v))
	}
	rows, err := c.Decode(page(contacts))
	if err != nil || len(rows) != len(contacts) || slices.ContainsFunc(rows, func(r transform.Row) bool { return r.Invalid }) {
		t.Fatal(err, rows)
	}
	if n := c.Keep(nil, transform.Meta{}); n != 2 || c.Rows() != 2 {
		t.Fatalf("kept %d, %d rows", n, c.Rows())
	}
	s := seal(t, c, newRegistry(t), nil)
	defer s.Record.Release()
	if got := s.Record.Column(0).String(); got != `["0" "6"]` || len(s.Rejects) != 0 {
		t.Fatalf("ids %s, rejects %v", got, s.Rejects)
	}
	for _, name := range []string{"phones", "created_at"} {
		if _, err := transform.NewChunk(transform.Options{Filter: map[string][]string{name: nil}}).Decode([]byte("[]")); err == nil || errors.Is(err, transform.ErrBadPage) {
			t.Errorf("filter by %s: %v", name, err)
		}
	}
}

func TestTheWalkGetsKeysOfEveryElement(t *testing.T) {
	c := transform.NewChunk(transform.Options{})
	one := `{"id":"a","created_at":"2024-01-01T00:00:00.000001Z","updated_at":"2024-01-01T01:00:00+01:00","last_message_at":"2024-01-01T00:00:00.002Z","client_id":"c1"}`
	rows, err := c.Decode([]byte(`[` + one + `, {"id":"a"}, ` + strings.Replace(one, "c1", "c2", 1) + `,` + one + `]`))
	if err != nil {
		t.Fatal(err)
	}
	base := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	want := transform.Row{ID: xxh3.HashString128("a").Bytes(), Version: xxh3.HashString(one), Created: base + 1, Updated: base, LastMessage: base + 2000}
	if rows[0] != want || rows[3] != want || rows[2].Version == want.Version || rows[2].ID != want.ID {
		t.Errorf("rows %+v, want %+v", rows, want)
	}
	if r := rows[1]; !r.Invalid || r.ID != ([16]byte{}) || r.Version == 0 {
		t.Errorf("invalid row %+v", r)
	}
	if got := c.ClientIDs(); len(got) != 2 || !slices.Contains(got, "c1") || !slices.Contains(got, "c2") {
		t.Errorf("client ids %v", got)
	}
}

func TestFieldsBeyondTheLimitShareOneColumn(t *testing.T) {
	c := transform.NewChunk(transform.Options{MaxColumns: 3})
	reg := newRegistry(t)
	contact := func(id string, fields ...string) string {
		return `{"id":"` + id + `","created_at":"2024-01-01T00:00:00Z","updated_at":"2024-01-01T00:00:00Z","metadata":{` + strings.Join(fields, ",") + `}}`
	}
	var many []string
	for i := range 40 { // more than a chunk holds: the last ones never get a column of their own
		many = append(many, fmt.Sprintf(`"f%02d":"v\"%d"`, i, i))
	}
	body := page([]string{contact("a", many...), contact("b"), contact("c", `"f39":1.10`, `"f00":"x"`, `"f38":true`, `"f37":{"a":[]}`)})
	decodeAll(t, c, [][]byte{body})
	s := seal(t, c, reg, nil)
	defer s.Record.Release()
	over := s.Record.Column(s.Table.Index(schemas.ColOverflow)).(*array.String)
	if got, want := over.Value(2), `{"cf_customer:f39":1.10,"cf_customer:f38":true,"cf_customer:f37":{"a":[]}}`; got != want {
		t.Errorf("overflow of c is %s, want %s", got, want)
	}
	if !over.IsNull(1) {
		t.Errorf("overflow of b is %s", over.Value(1))
	}
	a := over.Value(0)
	for i := 3; i < 40; i++ {
		if want := fmt.Sprintf(`"cf_customer:f%02d":"v\"%d"`, i, i); strings.Count(a, want) != 1 {
			t.Errorf("overflow of a lacks %s: %s", want, a)
		}
	}
	if i := s.Table.Index("cf_customer_f00"); i < 0 || cell(s.Record.Column(i), 2) != "x" {
		t.Error("f00 has no column of its own")
	}
	if n := len(reg.Entries()); n != 4 {
		t.Errorf("%d fields in the registry, want 3 and the overflow", n)
	}
	// The chunk was full of names; the next rows still find their columns.
	decodeAll(t, c, [][]byte{page([]string{contact("d", `"once":1`, `"f02":"settled"`)})})
	next := seal(t, c, reg, nil)
	defer next.Record.Release()
	if i := next.Table.Index("cf_customer_f02"); cell(next.Record.Column(i), 0) != "settled" {
		t.Error("a settled field lost its column")
	}
}

// The customer and the ticket may have fields of one name, known or not.
func TestFieldsBeyondTheLimitDoNotMixUpEntities(t *testing.T) {
	c := transform.NewChunk(transform.Options{MaxColumns: 1})
	reg := newRegistry(t)
	head := `{"created_at":"2024-01-01T00:00:00Z","updated_at":"2024-01-01T00:00:00Z","id":`
	decodeAll(t, c, [][]byte{page([]string{
		head + `"1","metadata":{"k":"customer 1","a":"x"}}`,
		head + `"2","metadata":{"new 1":"x","k":"customer 2"},"active_ticket_v2":{"metadata":{"new 2":"y","k":"ticket 2"}}}`,
	})})
	s := seal(t, c, reg, nil)
	defer s.Record.Release()
	got := render(s, false)
	for _, want := range []string{
		`  other_fields__json = {"cf_customer:k":"customer 1"}`,
		`  other_fields__json = {"cf_customer:k":"customer 2","cf_customer:new 1":"x","cf_ticket:new 2":"y","cf_ticket:k":"ticket 2"}`, `  cf_customer_a = x`,
	} {
		if !strings.Contains(got, want+"\n") {
			t.Errorf("no %s in\n%s", want, got)
		}
	}
}

func TestThreeHundredSparseColumnsCostWhatTheyHold(t *testing.T) {
	var contacts []string
	for i := range 3000 {
		contacts = append(contacts, fmt.Sprintf(`{"id":"%d","created_at":"2024-01-01T00:00:00Z","updated_at":"2024-01-01T00:00:00Z","metadata":{"k%d":"v%d"}}`, i, i%300, i))
	}
	c := transform.NewChunk(transform.Options{})
	decodeAll(t, c, [][]byte{page(contacts)})
	if got := c.Bytes(); got > 100*3000 {
		t.Errorf("%d bytes for 3000 rows of one custom field each", got)
	}
	s := seal(t, c, newRegistry(t), nil)
	defer s.Record.Release()
	for k := range 300 {
		col := s.Record.Column(s.Table.Index(fmt.Sprintf("cf_customer_k%d", k))).(*array.String)
		if col.NullN() != 2990 || col.Value(k+300) != fmt.Sprintf("v%d", k+300) {
			t.Fatalf("column %d: %d nulls, %q", k, col.NullN(), col.Value(k+300))
		}
	}
}

// A sealed record stays as it was while the chunk goes on and reuses memory,
// and gives its memory back from any goroutine.
func TestSealedRecordsStayWholeUntilReleased(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	c := transform.NewChunk(transform.Options{})
	reg := newRegistry(t)
	type held struct {
		s    *transform.Sealed
		want string
	}
	var waiting []held
	var wg sync.WaitGroup
	r := rand.New(rand.NewPCG(9, 9))
	check := func(h held) {
		defer wg.Done()
		if got := render(h.s, true); got != h.want {
			t.Errorf("a record changed before its release:\n%s", cmp.Diff(h.want, got))
		}
		h.s.Record.Release()
	}
	for range 30 {
		body := page(variedContacts(r, 60))
		if r.IntN(2) == 0 {
			body = newGenerator(r.Uint64()).page(40)
		}
		decodeAll(t, c, [][]byte{body})
		clear(body) // the caller's again
		s := seal(t, c, reg, mem)
		waiting = append(waiting, held{s, render(s, true)})
		for len(waiting) > r.IntN(4) {
			wg.Add(1)
			go check(waiting[0])
			waiting = waiting[1:]
		}
	}
	for _, h := range waiting {
		wg.Add(1)
		go check(h)
	}
	wg.Wait()
}

func TestAnEmptyChunkSealsToAnEmptyRecord(t *testing.T) {
	mem := memory.NewCheckedAllocator(memory.NewGoAllocator())
	defer mem.AssertSize(t, 0)
	c := transform.NewChunk(transform.Options{})
	for _, body := range []string{"", "[]", `[{"id":"never kept","x":1}]`} {
		_, _ = c.Decode([]byte(body))
		s := seal(t, c, newRegistry(t), mem)
		if s.Record.NumRows() != 0 || int(s.Record.NumCols()) != len(s.Table.Columns) || s.Table.Index("x") >= 0 {
			t.Errorf("after %q: %v", body, s.Record)
		}
		s.Record.Release()
	}
	if n := c.Keep(nil, transform.Meta{}); n != 0 {
		t.Errorf("kept %d rows of no page", n)
	}
}

func TestTheRecordHasTheSchemaOfItsTable(t *testing.T) {
	c := transform.NewChunk(transform.Options{})
	decodeAll(t, c, [][]byte{samplePage(t)})
	s := seal(t, c, newRegistry(t), nil)
	defer s.Record.Release()
	if !s.Record.Schema().Equal(s.Table.Arrow()) {
		t.Errorf("schema %v, table %v", s.Record.Schema(), s.Table.Arrow())
	}
	for i, col := range s.Record.Columns() {
		if err := validate(col, s.Table.Columns[i]); err != nil {
			t.Error(err)
		}
	}
}

func validate(col arrow.Array, tc schemas.Column) error {
	nulls := 0
	for i := range col.Len() {
		if col.IsNull(i) {
			nulls++
		}
	}
	if nulls != col.NullN() || tc.Required && nulls > 0 {
		return fmt.Errorf("column %s: %d nulls, NullN %d, required %t", tc.Name, nulls, col.NullN(), tc.Required)
	}
	if s, ok := col.(*array.String); ok && bytes.ContainsRune(s.ValueBytes(), 0xfffd) {
		return fmt.Errorf("column %s holds a replacement character", tc.Name)
	}
	return nil
}

func TestARegistryOfAnotherContractIsRefused(t *testing.T) {
	other, err := schemas.ParseContract("x", []byte("version: 1\ncolumns:\n- {name: id, type: string, required: true}\n- {name: created_at, type: timestamp, required: true}\n- {name: updated_at, type: timestamp, required: true}\n"))
	if err != nil {
		t.Fatal(err)
	}
	reg, err := schemas.NewRegistry(other, nil)
	if err != nil {
		t.Fatal(err)
	}
	c := transform.NewChunk(transform.Options{})
	decodeAll(t, c, [][]byte{samplePage(t)})
	if _, err := c.Seal(reg, "run", nil); err == nil || c.Rows() == 0 {
		t.Fatal("sealed with another contract", err, c.Rows())
	}
}
