package run

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/atomicfile"
)

func threeRecords(t *testing.T) (records []record, data []byte, ends []int) {
	t.Helper()
	records = []record{
		{Start: &startRecord{Format: journalFormat, RunID: "r", Pipeline: "nightly", Mode: modeFull, StartedAt: time.Unix(1, 0).UTC()}},
		{Part: &partRecord{File: "part-0001.parquet", Rows: 10, Phase: phaseScan}},
		{Part: &partRecord{File: "part-0002.parquet", Rows: 20, Phase: phaseScan}},
	}
	for _, r := range records {
		b, err := frame(r)
		if err != nil {
			t.Fatal(err)
		}
		data = append(data, b...)
		ends = append(ends, len(data))
	}
	return records, data, ends
}

func TestJournalCutAnywhereGivesTheWholeRecordsBeforeTheCut(t *testing.T) {
	_, data, ends := threeRecords(t)
	for cut := range len(data) + 1 {
		whole := 0
		for whole < len(ends) && ends[whole] <= cut {
			whole++
		}
		got, length, err := parseJournal("j", data[:cut])
		if err != nil {
			t.Fatalf("cut at %d of %d: %v", cut, len(data), err)
		}
		want := 0
		if whole > 0 {
			want = ends[whole-1]
		}
		if len(got) != whole || int(length) != want {
			t.Fatalf("cut at %d: %d records and %d bytes, want %d and %d", cut, len(got), length, whole, want)
		}
	}
}

func TestJournalTailOfZerosCountsAsTorn(t *testing.T) {
	_, data, ends := threeRecords(t)
	got, length, err := parseJournal("j", append(data, make([]byte, 4096)...))
	if err != nil || len(got) != 3 || int(length) != ends[2] {
		t.Fatalf("%d records, %d bytes, %v", len(got), length, err)
	}
}

func TestJournalReportsAnyChangedByte(t *testing.T) {
	_, data, ends := threeRecords(t)
	for i := range ends[1] {
		for _, flip := range []byte{0x01, 0x20, 0x80} {
			damaged := append([]byte(nil), data...)
			damaged[i] ^= flip
			_, _, err := parseJournal("j", damaged)
			var corrupt *CorruptJournalError
			if !errors.As(err, &corrupt) {
				t.Fatalf("byte %d of %d, before the last record, changed by %#x: got %v", i, len(data), flip, err)
			}
		}
	}
}

func TestJournalGoesOnAfterATornTail(t *testing.T) {
	dir := t.TempDir()
	j, err := createJournal(atomicfile.OS{}, dir, startRecord{Format: journalFormat, RunID: "r", Pipeline: "p"})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.append(record{Part: &partRecord{File: "part-0001.parquet"}}); err != nil {
		t.Fatal(err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, journalName)
	torn, err := frame(record{Part: &partRecord{File: strings.Repeat("x", 100)}})
	if err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.Write(torn[:50]); err != nil {
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	_, whole, err := readJournal(dir)
	if err != nil {
		t.Fatal(err)
	}
	if j, err = openJournal(atomicfile.OS{}, dir, whole); err != nil {
		t.Fatal(err)
	}
	if err := j.append(record{Part: &partRecord{File: "part-0002.parquet"}}); err != nil {
		t.Fatal(err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	records, _, err := readJournal(dir)
	if err != nil || len(records) != 3 || records[2].Part.File != "part-0002.parquet" {
		t.Fatalf("%d records, %v", len(records), err)
	}
}

func TestJournalFromTheFutureIsRefused(t *testing.T) {
	dir := t.TempDir()
	j, err := createJournal(atomicfile.OS{}, dir, startRecord{Format: journalFormat + 1})
	if err != nil {
		t.Fatal(err)
	}
	if err := j.close(); err != nil {
		t.Fatal(err)
	}
	_, _, err = readJournal(dir)
	var future *FutureFormatError
	if !errors.As(err, &future) || !strings.Contains(err.Error(), fmt.Sprint(journalFormat+1)) {
		t.Fatalf("got %v", err)
	}
}

func FuzzJournal(f *testing.F) {
	for _, seed := range []string{"", "00000002 00000000 00000000 {}\n", strings.Repeat("0", 40)} {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		records, whole, err := parseJournal("j", data)
		if err != nil {
			return
		}
		if whole > int64(len(data)) {
			t.Fatalf("%d whole bytes of %d", whole, len(data))
		}
		again, length, err := parseJournal("j", data[:whole])
		if err != nil || length != whole || len(again) != len(records) {
			t.Fatalf("the whole part reads as %d records and %d bytes, was %d and %d: %v", len(again), length, len(records), whole, err)
		}
	})
}
