package loadtest

import (
	"context"
	"errors"
	"slices"

	"github.com/google/go-cmp/cmp"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// verifier opens the loader and calls f, or skips the case if the loader cannot
// check its table.
func (b *bench) verifier(f func(load.Verifier)) {
	b.t.Helper()
	b.opened(func(l load.Loader) {
		v, ok := l.(load.Verifier)
		if !ok {
			b.t.Skip("the loader does not verify")
		}
		f(v)
	})
}

// eraser opens the loader and calls f, or skips the case if the loader cannot
// erase.
func (b *bench) eraser(f func(load.Eraser)) {
	b.t.Helper()
	b.opened(func(l load.Loader) {
		e, ok := l.(load.Eraser)
		if !ok {
			b.t.Skip("the loader does not erase")
		}
		f(e)
	})
}

func (b *bench) opened(f func(load.Loader)) {
	b.t.Helper()
	l := b.New(b.t)
	defer func() {
		if err := l.Close(); err != nil {
			b.t.Errorf("close: %v", err)
		}
	}()
	f(l)
}

// wantSound checks that a table has no faults and as many rows as it says, if
// the loader verifies at all.
func (b *bench) wantSound() {
	b.t.Helper()
	b.opened(func(l load.Loader) {
		v, ok := l.(load.Verifier)
		if !ok {
			return
		}
		before := b.fingerprint()
		got, err := v.Verify(b.t.Context(), b.lineage, func(f load.Fault) { b.t.Errorf("fault: %+v", f) })
		if err != nil {
			b.t.Fatalf("verify: %v", err)
		}
		if b.fingerprint() != before {
			b.t.Error("verification changed the destination")
		}
		want := load.Verified{Contacts: int64(len(b.read())), Versions: int64(len(b.history())), Files: got.Files, Tables: got.Tables, Bytes: got.Bytes}
		if d := cmp.Diff(want, got); d != "" {
			b.t.Errorf("verified (-want +got):\n%s", d)
		}
		if got.Contacts > 0 && got.Bytes == 0 {
			b.t.Error("a table with contacts has no bytes")
		}
	})
}

func verifySound(b *bench) {
	b.verifier(func(load.Verifier) {}) // skips
	listed(b)
	b.wantSound()
	// Versions that come back, that lose, and a contact that returns.
	b.commit(b.build(Spec{Serial: 3, Rows: []Row{
		Contact("ana", inMonth(1), at(60), "name", "Ana", schemas.ColExtractedAt, at(60)),
		Contact("bo", inMonth(2), at(1), "name", "Bo"),
		Contact("cy", inMonth(3), at(3), "name", "x"), Contact("cy", inMonth(3), at(4)), Contact("cy", inMonth(3), at(5), "name", "x"),
	}}))
	b.wantSound()
	b.commit(b.build(Spec{Serial: 4}))
	b.wantSound()
}

func verifyNothing(b *bench) {
	b.verifier(func(load.Verifier) {})
	before := b.fingerprint()
	b.wantSound()
	if b.fingerprint() != before {
		b.t.Error("the verification left a trace")
	}
	b.commit(b.build(Spec{Serial: 1}))
	b.wantSound()
}

func verifyRefused(b *bench) {
	b.verifier(func(load.Verifier) {})
	listed(b)
	before := b.fingerprint()
	b.verifier(func(v load.Verifier) {
		none := func(f load.Fault) { b.t.Errorf("fault: %+v", f) }
		if _, err := v.Verify(b.t.Context(), "lineage-b", none); !errors.Is(err, load.ErrForeign) {
			b.t.Errorf("another state's table gives %v", err)
		}
		ctx, cancel := context.WithCancel(b.t.Context())
		cancel()
		if _, err := v.Verify(ctx, b.lineage, none); !errors.Is(err, context.Canceled) {
			b.t.Errorf("a cancelled verification gives %v", err)
		}
	})
	if b.fingerprint() != before {
		b.t.Error("it changed")
	}
}

// erase removes a contact, having checked that a dry run counts the same and
// changes nothing.
func (b *bench) erase(id string) load.Erased {
	b.t.Helper()
	var dry, got load.Erased
	before := b.fingerprint()
	for _, step := range []struct {
		out *load.Erased
		dry bool
	}{{&dry, true}, {&got, false}} {
		b.eraser(func(l load.Eraser) {
			var err error
			if *step.out, err = l.Erase(b.t.Context(), load.Erasure{Lineage: b.lineage, ID: id, DryRun: step.dry}); err != nil {
				b.t.Fatalf("erase: %v", err)
			}
		})
		if (step.dry || !got.Any()) && b.fingerprint() != before {
			b.t.Error("a dry run, or the erasure of nobody, changed the destination")
		}
	}
	if d := cmp.Diff(dry, got); d != "" {
		b.t.Errorf("erased (-announced +done):\n%s", d)
	}
	return got
}

// wantErased checks what erasing has removed of current and history.
func (b *bench) wantErased(got load.Erased, current, history int64) {
	b.t.Helper()
	if got.Current != current || got.History != history {
		b.t.Errorf("erased %+v, want %d rows and %d versions", got, current, history)
	}
}

// without leaves out the rows of a contact.
func without(rows []Row, id string) []Row {
	return slices.DeleteFunc(slices.Clone(rows), func(r Row) bool { return r.ID() == id })
}

func eraseOne(b *bench) {
	b.eraser(func(load.Eraser) {})
	listed(b)
	current, history := b.read(), b.history()
	for _, step := range []struct {
		id                string
		current, versions int64
	}{{"nobody", 0, 0}, {"bo", 1, 2}, {"ana", 1, 2}, {"bo", 0, 0}, {"eve", 1, 1}} { // ana is a tombstone
		b.wantErased(b.erase(step.id), step.current, step.versions)
		current, history = without(current, step.id), without(history, step.id)
		b.wantRows("current", b.read(), current...)
		b.wantRows("history", b.history(), history...)
		b.wantSound()
	}
	b.wantPosition(2)
}

func eraseAndGoOn(b *bench) {
	b.eraser(func(load.Eraser) {})
	one := b.build(Spec{Serial: 1, Coverage: []byte(`{"run_id": "run-001"}`), Rows: []Row{Contact("a", inMonth(1), at(1), "name", "Ana"), Contact("b", inMonth(2), at(1), "name", "Bo")}})
	first := b.commit(one)
	b.wantErased(b.erase("a"), 1, 1)
	if d := cmp.Diff(counts(first), counts(b.commit(one))); d != "" {
		b.t.Errorf("the package committed again gives another result (-first +again):\n%s", d)
	}
	b.wantNames("b=Bo") // and does not bring the contact back
	b.wantPosition(1)
	// Another package does: the source still has the contact.
	r := b.commit(b.build(Spec{Serial: 2, Extra: []schemas.Column{Extra("cf_customer_n", schemas.Int64)}, Rows: []Row{
		Contact("a", inMonth(1), at(1), "name", "Ana", "cf_customer_n", 7), Contact("b", inMonth(2), at(2), "name", "Bob"),
	}}))
	b.wantCounts(r, load.Result{New: 1, Changed: 1, Versions: 2})
	b.wantNames("a=Ana", "b=Bob")
	b.wantHistory("b=Bo@1", "a=Ana@2", "b=Bob@2")
	b.wantSound()
	b.wantErased(b.erase("b"), 1, 2)
	b.wantErased(b.erase("a"), 1, 1)
	b.wantNames()
	b.wantHistory()
	b.wantSound()
	b.commit(b.build(Spec{Serial: 3, Rows: []Row{Contact("c", inMonth(1), at(1), "name", "Cy")}}))
	b.wantNames("c=Cy")
	b.wantSound()
}

// eraseNames takes ids that a query, a pattern or a path might misread.
func eraseNames(b *bench) {
	b.eraser(func(load.Eraser) {})
	ids := []string{"a", "a'", `a"`, "a%", "A", "ü/../%", "a\\", "<&>", "", "a "}
	var rows []Row
	for _, id := range ids {
		rows = append(rows, Contact(id, inMonth(1), at(1), "name", "a"))
	}
	b.commit(b.build(Spec{Serial: 1, Rows: rows}))
	left := b.read()
	for _, id := range ids {
		if id == "" {
			continue // that is the refusal of an erasure without an id
		}
		b.wantErased(b.erase(id), 1, 1) // each of the others is still there to be erased
		left = without(left, id)
	}
	b.wantRows("current", b.read(), left...)
	b.wantRows("history", b.history(), left...)
	b.wantSound()
}

func eraseRefused(b *bench) {
	b.eraser(func(load.Eraser) {})
	before := b.fingerprint()
	if got := b.erase("a"); got.Any() { // there is no table
		b.t.Errorf("erased %+v", got)
	}
	if b.fingerprint() != before {
		b.t.Error("the erasure left a trace")
	}
	listed(b)
	before = b.fingerprint()
	b.eraser(func(l load.Eraser) {
		if _, err := l.Erase(b.t.Context(), load.Erasure{Lineage: "lineage-b", ID: "bo"}); !errors.Is(err, load.ErrForeign) {
			b.t.Errorf("another state's table gives %v", err)
		}
		if _, err := l.Erase(b.t.Context(), load.Erasure{Lineage: b.lineage}); err == nil {
			b.t.Error("an erasure without an id succeeds")
		}
		ctx, cancel := context.WithCancel(b.t.Context())
		cancel()
		if _, err := l.Erase(ctx, load.Erasure{Lineage: b.lineage, ID: "bo"}); !errors.Is(err, context.Canceled) {
			b.t.Errorf("a cancelled erasure gives %v", err)
		}
	})
	if b.fingerprint() != before {
		b.t.Error("it changed")
	}
}
