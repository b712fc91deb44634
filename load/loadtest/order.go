package loadtest

import (
	"slices"
	"time"

	"github.com/sluice-etl/sluice/load"
	"github.com/sluice-etl/sluice/schemas"
)

// read is a time some hours past Epoch, at which a page arrived.
func read(hour int) time.Time { return Epoch.Add(time.Duration(hour) * time.Hour) }

// farFuture is an updated_at that nothing real ever overtakes.
var farFuture = time.Date(2099, 12, 31, 0, 0, 0, 0, time.UTC)

func futureCorrected(b *bench) {
	b.commit(b.build(Spec{Serial: 1, Extracted: read(1), Rows: []Row{
		Contact("later package", inMonth(1), farFuture, "name", "wrong"),
		Contact("still wrong", inMonth(1), farFuture, "name", "wrong"),
		Contact("past", inMonth(1), at(0), "name", "right"),
		Contact("one package", inMonth(1), farFuture, "name", "wrong"),
		Contact("one package", inMonth(1), at(0), "name", "right", schemas.ColExtractedAt, read(2)),
		Contact("older", inMonth(1), farFuture, "name", "wrong"),
	}}))
	r := b.commit(b.build(Spec{Serial: 2, Extracted: read(3), Rows: []Row{
		Contact("later package", inMonth(1), read(2), "name", "right"),
		Contact("still wrong", inMonth(1), farFuture.AddDate(1, 0, 0), "name", "wrong again"),
		Contact("past", inMonth(1), farFuture, "name", "wrong"),
		// Changed before the wrong time was read: which of the two came first,
		// nothing says, and the moment of reading stands for the wrong one.
		Contact("older", inMonth(1), at(0), "name", "older"),
	}}))
	b.wantCounts(r, load.Result{Changed: 3, Unchanged: 1, Versions: 4})
	b.wantNames("later package=right", "still wrong=wrong again", "past=wrong", "one package=wrong", "older=wrong")
	r = b.commit(b.build(Spec{Serial: 3, Extracted: read(6), Rows: []Row{
		Contact("still wrong", inMonth(1), read(4), "name", "right"),
		Contact("past", inMonth(1), read(5), "name", "right"),
		Contact("one package", inMonth(1), read(5), "name", "right"),
	}}))
	b.wantCounts(r, load.Result{Changed: 3, Versions: 3})
	b.wantNames("later package=right", "still wrong=right", "past=right", "one package=right", "older=wrong")
}

func readEarlier(b *bench) {
	b.commit(b.build(Spec{Serial: 1, Extracted: read(5), Rows: []Row{
		Contact("equal", inMonth(1), at(1), "name", "read at 5"),
		Contact("newer", inMonth(1), at(1), "name", "read at 5"),
		Contact("mixed", inMonth(1), at(1), "name", "read at 5"),
	}}))
	r := b.commit(b.build(Spec{Serial: 2, Extracted: read(4), Rows: []Row{
		Contact("equal", inMonth(1), at(1), "name", "read at 4"),
		Contact("newer", inMonth(1), at(2), "name", "updated later"),
		Contact("mixed", inMonth(1), at(1), "name", "read at 6", schemas.ColExtractedAt, read(6)),
		Contact("mixed", inMonth(1), at(1), "name", "read at 4"),
		Contact("new", inMonth(1), at(1), "name", "read at 4"),
	}}))
	b.wantCounts(r, load.Result{New: 1, Changed: 2, Unchanged: 1, Versions: 5})
	b.wantNames("equal=read at 5", "newer=updated later", "mixed=read at 6", "new=read at 4")
	b.wantHistory("equal=read at 5@1", "newer=read at 5@1", "mixed=read at 5@1",
		"equal=read at 4@2", "newer=updated later@2", "mixed=read at 6@2", "mixed=read at 4@2", "new=read at 4@2")
}

func buriedEarlier(b *bench) {
	ana := Contact("ana", inMonth(1), at(1), "name", "Ana")
	bo := Contact("bo", inMonth(1), at(1), "name", "Bo")
	gone := func(r Row, hour int) Row {
		return r.With(schemas.ColDeletedAt, read(hour), schemas.ColExtractedAt, read(hour), schemas.ColHash, Hash(r))
	}
	b.commit(b.build(Spec{Serial: 1, Extracted: read(1), Rows: []Row{ana, bo}}))
	b.commit(b.build(Spec{Serial: 2, Extracted: read(3), Rows: []Row{ana.With("name", "Anna")}}))
	r := b.commit(b.build(Spec{Serial: 3, Rows: []Row{gone(ana, 2), gone(bo, 2)}})) // seen gone before ana was seen again
	b.wantCounts(r, load.Result{Deleted: 1, Unchanged: 1, Versions: 2})
	b.wantNames("ana=Anna", "bo=Bo!")
	r = b.commit(b.build(Spec{Serial: 4, Rows: []Row{bo.With(schemas.ColExtractedAt, read(1)), ana.With("name", "Anna", schemas.ColExtractedAt, read(1))}}))
	b.wantCounts(r, load.Result{Unchanged: 2, Versions: 1}) // read before it was found gone
	b.wantNames("ana=Anna", "bo=Bo!")
	b.commit(b.build(Spec{Serial: 5, Rows: []Row{gone(ana.With("name", "Anna"), 4), bo.With(schemas.ColExtractedAt, read(4))}}))
	b.wantNames("ana=Anna!", "bo=Bo")
}

func equalTimes(b *bench) {
	row := func(name string) Row {
		return Contact("a", inMonth(1), at(1), "name", name, schemas.ColExtractedAt, read(1))
	}
	p := b.build(Spec{Serial: 1, Rows: []Row{row("1.0"), row("1.1")}, PartRows: 1})
	slices.Reverse(p.Parts) // of two windows read side by side: rows are numbered across them
	b.commit(p)
	b.wantNames("a=1.1")
	b.wantCounts(b.commit(b.build(Spec{Serial: 2, Rows: []Row{row("2.0")}})), load.Result{Changed: 1, Versions: 1})
	b.wantNames("a=2.0")
	// One that also counts as of the moment at which it was read is their equal.
	future := Contact("b", inMonth(1), farFuture, "name", "1", schemas.ColExtractedAt, read(1))
	b.commit(b.build(Spec{Serial: 3, Rows: []Row{future, future.With(schemas.ColUpdatedAt, read(1), "name", "2")}}))
	b.wantNames("a=2.0", "b=2")
}
