package extracttest

import (
	"cmp"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/sluice-etl/sluice/extract"
)

const milli = 1_000_000 // nanoseconds

// choose filters, sorts and cuts as the endpoint does at a moment.
func (s *Source) choose(rows []snap, q extract.Query, now int64) []snap {
	updated := func(r snap) int64 { return r.updated }
	created := func(r snap) int64 { return r.created }
	key := func(r snap) int64 { return -r.message } // newest first
	edge := s.Edge(q.Days, now)
	rows = slices.DeleteFunc(rows, func(r snap) bool {
		return q.Days > 0 && r.message <= edge || before(q.CreatedAfter, created(r)) || before(q.UpdatedAfter, updated(r))
	})
	switch {
	case q.UpdatedAfter != nil:
		key = updated
	case q.CreatedAfter != nil:
		key = created
	}
	salt := uint64(0)
	switch s.TieOrder {
	case Shuffled:
		salt = s.rng.Uint64()
	case Alternating:
		salt = uint64(s.Requests%2) * 0x9e3779b97f4a7c15
	case Stable, Physical:
	}
	rows = sorted(rows, key, salt)
	start := min(len(rows), q.Offset)
	end := start + s.length(len(rows)-start, q.Limit)
	if s.Disorder > 0 && s.rng.Float64() < s.Disorder {
		return s.disorder(rows, key, start, end)
	}
	return rows[start:end]
}

// before says that a filter, in microseconds, keeps a time out.
func before(after *int64, t int64) bool { return after != nil && t <= *after*1000 }

// Edge is the time at which the window of so many days begins, by the clock
// behind the timestamps: nanoseconds since 1970.
func (s *Source) Edge(days int, now int64) int64 { return now + int64(s.DBSkew) - int64(days)*day }

// length is how many of the rows that are left a page holds.
func (s *Source) length(left, limit int) int {
	n := min(limit, left)
	if s.Long > 0 && s.rng.Float64() < s.Long {
		n = min(n+n/2+1, left)
	}
	if s.Cap > 0 {
		n = min(n, s.Cap)
	}
	if s.Short > 0 && n > 1 && s.rng.Float64() < s.Short {
		n = 1 + s.rng.IntN(n)
	}
	return n
}

// disorder returns a page of shuffled rows, as a forgotten ORDER BY would,
// unless that page could pass for a sorted one.
func (s *Source) disorder(rows []snap, key func(snap) int64, start, end int) []snap {
	mixed := slices.Clone(rows)
	s.rng.Shuffle(len(mixed), func(i, j int) { mixed[i], mixed[j] = mixed[j], mixed[i] })
	if slices.IsSortedFunc(mixed[start:end], func(a, b snap) int { return cmp.Compare(floor(key(a)), floor(key(b))) }) {
		return rows[start:end]
	}
	return mixed[start:end]
}

// sorted returns rows by key, and by the place each has among its ties.
func sorted(rows []snap, key func(snap) int64, salt uint64) []snap {
	type ranked struct {
		key int64
		tie uint64
		at  int32
	}
	ranks := make([]ranked, len(rows))
	for i, r := range rows {
		ranks[i] = ranked{key(r), mix(r.place ^ salt), int32(i)}
	}
	slices.SortFunc(ranks, func(a, b ranked) int {
		if a.key != b.key {
			return cmp.Compare(a.key, b.key)
		}
		return cmp.Compare(a.tie, b.tie)
	})
	out := make([]snap, len(rows))
	for i, r := range ranks {
		out[i] = rows[r.at]
	}
	return out
}

func mix(x uint64) uint64 {
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd
	return x ^ x>>33
}

const rowBytes = 48

// encode prints rows: the times in whole milliseconds, as the endpoint does.
func encode(rows []snap) []byte {
	body := make([]byte, 0, len(rows)*rowBytes)
	for _, r := range rows {
		body = binary.BigEndian.AppendUint64(body, uint64(r.id)+1)
		body = binary.BigEndian.AppendUint64(body, uint64(floor(r.created)/1000))
		body = binary.BigEndian.AppendUint64(body, uint64(floor(r.updated)/1000))
		body = binary.BigEndian.AppendUint64(body, uint64(r.n))
		body = binary.BigEndian.AppendUint64(body, uint64(r.content))
		body = binary.BigEndian.AppendUint64(body, uint64(floor(r.message)/1000))
	}
	return body
}

func floor(ns int64) int64 {
	m := ns % milli
	if m < 0 {
		m += milli
	}
	return ns - m
}

// Decode reads a body of the model, as a Sink does.
func Decode(body []byte) ([]extract.Row, error) {
	if len(body)%rowBytes != 0 {
		return nil, fmt.Errorf("decode %d bytes: %w", len(body), extract.ErrBadPage)
	}
	rows := make([]extract.Row, 0, len(body)/rowBytes)
	for ; len(body) > 0; body = body[rowBytes:] {
		field := func(i int) uint64 { return binary.BigEndian.Uint64(body[8*i:]) }
		r := extract.Row{
			Created: int64(field(1)),
			Updated: int64(field(2)),
			Version: field(0)<<40 | field(3)<<20 | field(4),

			LastMessage: int64(field(5)),
		}
		binary.BigEndian.PutUint64(r.ID[:], field(0)-1)
		rows = append(rows, r)
	}
	return rows, nil
}

// Identify says which contact a row is, and after how many writes of
// updated_at.
func Identify(r extract.Row) (id, n int) {
	return int(binary.BigEndian.Uint64(r.ID[:])), int(r.Version >> 20 & 0xfffff)
}

// Content is the number of the version of a row, counting all writes.
func Content(r extract.Row) int { return int(r.Version & 0xfffff) }
