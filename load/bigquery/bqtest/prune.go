package bqtest

import (
	"strings"
	"time"

	"cloud.google.com/go/civil"
)

// partition is one partition of a table: [from, until), the one of NULLs, or
// (of a table without partitions) everything.
type partition struct {
	from, until time.Time
	null        bool
	all         bool
}

// pred says whether a partition may have rows that meet a condition.
type pred func(partition) bool

// prune notes for the scans among rels which partitions a condition leaves.
// Only conditions that compare the partitioning column itself with constant
// expressions exclude any; what depends on another table or on a subquery does
// not ("Query partitioned tables", "Use a constant filter expression" and
// "Isolate the partition column in your filter").
func (a *analyzer) prune(cond *node, sc *scope, rels []*relation) {
	seen := map[*scan]bool{}
	for _, r := range rels {
		for _, c := range r.cols {
			if c.val.base == nil || seen[c.val.base.scan] {
				continue
			}
			s := c.val.base.scan
			if p := s.t.partitioning(); p == nil || !strings.EqualFold(p.column, c.val.base.name) {
				continue
			}
			seen[s] = true
			if p := a.predicate(cond, sc, s); p != nil {
				s.preds = append(s.preds, p)
			}
		}
	}
}

// predicate gives what a condition says of the partitions of s; nil is nothing.
func (a *analyzer) predicate(n *node, sc *scope, s *scan) pred {
	switch n.kind {
	case nUnary:
		if n.text == "()" {
			return a.predicate(n.kids[0], sc, s)
		}
	case nBinary:
		return a.binaryPredicate(n, sc, s)
	case nBetween:
		if n.not || !a.isPartitionColumn(n.kids[0], sc, s) {
			return nil
		}
		lo, hi := a.bound(n.kids[1], s), a.bound(n.kids[2], s)
		if lo == nil || hi == nil {
			return nil
		}
		return func(p partition) bool { return p.meets(">=", *lo) && p.meets("<=", *hi) }
	case nIn:
		if n.not || n.query != nil || n.text == "UNNEST" || !a.isPartitionColumn(n.kids[0], sc, s) {
			return nil
		}
		var bounds []time.Time
		for _, k := range n.kids[1:] {
			b := a.bound(k, s)
			if b == nil {
				return nil
			}
			bounds = append(bounds, *b)
		}
		return func(p partition) bool {
			for _, b := range bounds {
				if p.meets("=", b) {
					return true
				}
			}
			return false
		}
	case nIs:
		if n.text == "NULL" && a.isPartitionColumn(n.kids[0], sc, s) {
			return func(p partition) bool { return p.null != n.not }
		}
	default:
	}
	return nil
}

func (a *analyzer) binaryPredicate(n *node, sc *scope, s *scan) pred {
	switch n.text {
	case "AND":
		l, r := a.predicate(n.kids[0], sc, s), a.predicate(n.kids[1], sc, s)
		if l == nil {
			return r
		}
		if r == nil {
			return l
		}
		return func(p partition) bool { return l(p) && r(p) }
	case "OR":
		l, r := a.predicate(n.kids[0], sc, s), a.predicate(n.kids[1], sc, s)
		if l == nil || r == nil {
			return nil
		}
		return func(p partition) bool { return l(p) || r(p) }
	}
	op := n.text
	column, other := n.kids[0], n.kids[1]
	if !a.isPartitionColumn(column, sc, s) {
		column, other = other, column
		op = map[string]string{"<": ">", ">": "<", "<=": ">=", ">=": "<=", "=": "="}[op]
	}
	if !a.isPartitionColumn(column, sc, s) || !strings.Contains(" = < > <= >= ", " "+op+" ") || op == "" {
		return nil
	}
	b := a.bound(other, s)
	if b == nil {
		return nil
	}
	return func(p partition) bool { return p.meets(op, *b) }
}

// meets says whether a partition may have a value v with v op b.
func (p partition) meets(op string, b time.Time) bool {
	if p.all {
		return true
	}
	if p.null {
		return false
	}
	switch op {
	case "=":
		return !b.Before(p.from) && b.Before(p.until)
	case "<":
		return p.from.Before(b)
	case "<=":
		return !b.Before(p.from)
	case ">":
		return p.until.After(b.Add(time.Microsecond))
	default: // >=
		return p.until.After(b)
	}
}

func (a *analyzer) isPartitionColumn(n *node, sc *scope, s *scan) bool {
	for n.kind == nUnary && n.text == "()" {
		n = n.kids[0]
	}
	if n.kind != nName {
		return false
	}
	v, err := a.resolve(n, sc)
	return err == nil && v.base != nil && v.base.scan == s && strings.EqualFold(v.base.name, s.t.partitioning().column)
}

// bound evaluates a constant expression as a value of the partitioning column,
// nil where it is none.
func (a *analyzer) bound(n *node, s *scan) *time.Time {
	v, err := a.expr(n, nil)
	if err != nil || !v.constant || v.nonDet {
		return nil
	}
	if v, err = coerce(n.pos, v, ty(s.t.column(s.t.partitioning().column).kind), ""); err != nil {
		return nil
	}
	x, err := a.constant(v)
	if err != nil {
		return nil
	}
	switch x := x.(type) {
	case time.Time:
		x = x.UTC()
		return &x
	case civil.Date:
		t := x.In(time.UTC)
		return &t
	}
	return nil
}
