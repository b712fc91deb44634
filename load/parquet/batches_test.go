package parquet

import "testing"

func TestPartsThatAreOpenAtATimeShareTheRowsInMemory(t *testing.T) {
	over := func(months ...month) *part {
		p := &part{keys: &cursor{}, rows: &cursor{}}
		for _, mo := range months {
			p.spans = append(p.spans, span{month: mo, rows: 1})
		}
		return p
	}
	all := func(n int) (parts []*part) {
		for range n {
			parts = append(parts, over(1, 5, 40))
		}
		return parts
	}
	for _, c := range []struct {
		what  string
		parts []*part
		want  int64
	}{
		{"one after the other", []*part{over(1), over(2), over(3), over(4), over(5), over(6)}, batchRows},
		{"few", all(4), batchRows},
		{"one that is open over months it has nothing of", append(all(4), over(20)), openRows / 5},
		{"many", all(16), openRows / 16},
		{"very many", all(1000), leastRows},
	} {
		m := &merge{parts: c.parts}
		m.shareBatches()
		for _, p := range c.parts {
			if p.rows.batchRows != c.want || p.keys.batchRows != c.want {
				t.Errorf("%s: batches of %d rows, want %d", c.what, p.rows.batchRows, c.want)
			}
		}
	}
}
