package schemas

import (
	"errors"
	"fmt"
	"strings"
	"testing"
)

func TestFreezesOfSeveralWindowsAreOneErrorWhicheverCameFirst(t *testing.T) {
	shoe := &FreezeError{Contract: "c.yaml", Line: 3, Contact: "b", Field: "contact:shoe", Column: "shoe", Got: Int64, Kind: KindInt, New: true}
	again := &FreezeError{Contract: "c.yaml", Line: 3, Contact: "a", Field: "contact:shoe", Column: "shoe", Got: Int64, Kind: KindInt, New: true}
	hat := &FreezeError{Contract: "c.yaml", Line: 4, Contact: "c", Field: "contact:hat", Column: "hat", Have: Int64, Got: String, Kind: KindString}
	wrapped := fmt.Errorf("seal part: %w", shoe)
	down := errors.New("the disk is full")
	var texts []string
	for _, errs := range [][]error{{wrapped, wrapped, hat, nil, again, down}, {down, again, hat, wrapped}, {hat, down, nil, shoe, again}} {
		var list []error
		for _, err := range errs {
			if err != nil {
				list = append(list, err)
			}
		}
		err := JoinFreezes(list...)
		var one *FreezeError
		if !errors.As(err, &one) || one.Field != "contact:hat" || len(one.Others) != 1 || one.Others[0].Contact != "a" || !errors.Is(err, down) {
			t.Fatalf("got %v", err)
		}
		texts = append(texts, err.Error()+"\n"+one.Hint())
	}
	for _, text := range texts[1:] {
		if text != texts[0] {
			t.Errorf("one order gives\n%s\nanother\n%s", texts[0], text)
		}
	}
	for _, want := range []string{"contact c: field contact:hat is text", "; contact a: field contact:shoe is new", "In c.yaml:4, type_conflicts: evolve", ". For contact:shoe in line 3, new_columns: evolve"} {
		if !strings.Contains(texts[0], want) {
			t.Errorf("no %q in %s", want, texts[0])
		}
	}
	if hat.Others != nil || shoe.Others != nil {
		t.Error("an error that was given has changed")
	}
	if err := JoinFreezes(wrapped, shoe, nil); err == nil || err.Error() != "seal part: "+shoe.Error() {
		t.Errorf("one freeze that two errors wrap is %v", err)
	}
	if err := JoinFreezes(nil, nil); err != nil {
		t.Errorf("of nothing: %v", err)
	}
}

func TestAFreezeOfManyFieldsNamesAFew(t *testing.T) {
	var errs []error
	for i := range 9 {
		errs = append(errs, &FreezeError{Contract: "c.yaml", Line: 3, Contact: "a", Field: fmt.Sprintf("contact:f%d", i), New: true})
	}
	text := JoinFreezes(errs...).Error()
	if strings.Count(text, "is new") != 5 || !strings.HasSuffix(text, "and 4 more fields") {
		t.Errorf("got %s", text)
	}
}
