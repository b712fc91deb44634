package sandbox

import (
	"math"
	"math/bits"
	"time"
)

// The history every sandbox starts with lies between these two instants, so
// that two processes with one seed serve the same bytes on any day.
var (
	historyStart = time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
	historyEnd   = time.Date(2026, 9, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

	tieCreated   = time.Date(2024, 3, 10, 12, 30, 0, 123_456_000, time.UTC).UnixMicro()
	tieCreatedMs = time.Date(2024, 5, 20, 8, 15, 30, 500_000_000, time.UTC).UnixMicro()
	tieUpdated   = time.Date(2026, 6, 15, 15, 0, 0, 654_321_000, time.UTC).UnixMicro()
	tieUpdatedMs = time.Date(2026, 7, 2, 10, 20, 30, 250_000_000, time.UTC).UnixMicro()
	futureStart  = time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()
)

// noMessage stands for a null last_message_at.
const noMessage = math.MinInt64

// rec is what is kept of a contact; the rest follows from its number and rev.
// Times are microseconds since 1970 UTC: finer than what is printed, as in a
// database.
type rec struct {
	created, updated, message int64
	rev                       uint32 // grows with every change of content
	gone                      bool
	edited                    bool // has an entry in store.edits
}

// generator derives contacts from numbers. It is immutable.
type generator struct {
	seed      uint64
	feistel   [4]uint64
	client    uuid
	pipelines []pipeline
	stages    []stage
}

type pipeline struct {
	id          uuid
	name, about string
	stages      []int // positions in generator.stages
}

type stage struct {
	id          uuid
	name, about string
	pipeline    int
}

func newGenerator(seed uint64) *generator {
	g := &generator{seed: mix(seed ^ 0x5157_1ce5_a4db_0c01)}
	for k := range g.feistel {
		g.feistel[k] = mix(g.seed + uint64(k) + 101)
	}
	g.client = newUUID(g.seed+1, g.seed+2)
	for p, text := range pipelineTexts() {
		line := pipeline{id: newUUID(g.seed+10, uint64(p)), name: text.name, about: text.about}
		for _, s := range text.stages {
			line.stages = append(line.stages, len(g.stages))
			id := newUUID(g.seed+11, uint64(len(g.stages)))
			g.stages = append(g.stages, stage{id: id, name: s.name, about: s.about, pipeline: p})
		}
		g.pipelines = append(g.pipelines, line)
	}
	return g
}

// mix is the finalizer of splitmix64 (Steele, Lea, Flood 2014): every bit of x
// reaches every bit of the result.
func mix(x uint64) uint64 {
	x += 0x9e3779b97f4a7c15
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9
	x = (x ^ (x >> 27)) * 0x94d049bb133111eb
	return x ^ (x >> 31)
}

// below maps the hash h uniformly to [0, n).
func below(h, n uint64) uint64 {
	high, _ := bits.Mul64(h, n)
	return high
}

// hash is the hash of contact i, the root of all it shows.
func (g *generator) hash(i uint32) uint64 { return mix(g.seed ^ mix(uint64(i))) }

// uuid is a UUID in binary.
type uuid [16]byte

func newUUID(a, b uint64) uuid {
	a, b = mix(a^mix(b)), mix(b^mix(a+1))
	return shapeUUID(a, b)
}

// shapeUUID sets the version (4) and variant bits that the endpoint's pattern asks for.
func shapeUUID(high, low uint64) uuid {
	var u uuid
	for k := range 8 {
		u[k] = byte(high >> (56 - 8*k))
		u[8+k] = byte(low >> (56 - 8*k))
	}
	u[6] = u[6]&0x0f | 0x40
	u[8] = u[8]&0x3f | 0x80
	return u
}

// contactID holds i, enciphered, in its first 48 bits: finding a contact by id
// needs no map.
func (g *generator) contactID(i uint32) uuid {
	h := g.hash(i)
	return shapeUUID(g.encipher(uint64(i))<<16|h>>48, mix(h+12))
}

// number inverts contactID. The caller checks that the number exists and that
// its id is u.
func (g *generator) number(u uuid) uint64 {
	var x uint64
	for _, b := range u[:6] {
		x = x<<8 | uint64(b)
	}
	return g.decipher(x)
}

// encipher is a Feistel network over 48 bits.
func (g *generator) encipher(x uint64) uint64 {
	left, right := x>>24&0xffffff, x&0xffffff
	for _, key := range g.feistel {
		left, right = right, left^(mix(key^right)&0xffffff)
	}
	return left<<24 | right
}

func (g *generator) decipher(x uint64) uint64 {
	left, right := x>>24&0xffffff, x&0xffffff
	for k := len(g.feistel) - 1; k >= 0; k-- {
		left, right = right^(mix(g.feistel[k]^left)&0xffffff), left
	}
	return left<<24 | right
}

// history returns contact i as it stands at the start.
func (g *generator) history(i uint32) rec {
	h := g.hash(i)
	const lastHour = int64(time.Hour / time.Microsecond)
	r := rec{created: historyStart + int64(below(mix(h+1), uint64(historyEnd-historyStart-lastHour)))}
	r.updated = r.created
	if mix(h+2)%10 >= 3 { // the others were never touched again
		r.updated += int64(below(mix(h+3), uint64(historyEnd-r.created)))
	}
	r.message = g.lastMessage(h, r.created, r.updated)
	return r
}

// lastMessage returns null, a time before updated_at, or, since nothing says
// that a message moves updated_at, one after it.
func (g *generator) lastMessage(h uint64, created, updated int64) int64 {
	until := historyEnd
	switch p := mix(h+4) % 100; {
	case p < 3:
		return noMessage
	case p < 80:
		until = min(updated, historyEnd)
	}
	return created + int64(below(mix(h+5), uint64(until-created)+1))
}

// historyWithTies is history with the ties and future times that o asks for:
// for updated_at among the lowest numbers, for created_at among the highest.
func (g *generator) historyWithTies(i uint32, o *Options) rec {
	r := g.history(i)
	h := g.hash(i)
	n := int(i)
	fromEnd := o.Contacts - 1 - n
	switch created := o.CreatedTies; {
	case fromEnd < created:
		r.created = tieCreated
	case fromEnd < created+o.CreatedMsTies:
		r.created = tieCreatedMs + int64(h%1000)
	default:
	}
	exact, alike := o.UpdatedTies, o.UpdatedTies+o.UpdatedMsTies
	switch {
	case n < exact:
		r.updated = tieUpdated
	case n < alike:
		r.updated = tieUpdatedMs + int64(h%1000)
	case n < alike+o.Future:
		r.updated = futureStart + int64(n)*1_000_003
	default:
		r.updated = max(r.updated, r.created)
		if r.message != noMessage {
			r.message = max(r.message, r.created)
		}
		return r
	}
	if r.created > r.updated { // fold it back to before the tie
		r.created = historyStart + (r.created-historyStart)*9/10
		r.created = min(r.created, r.updated)
	}
	r.message = g.lastMessage(h, r.created, r.updated)
	return r
}
