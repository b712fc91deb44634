package state

import "testing"

func TestANameOfAnAccountIsTypedAndStoredWithoutQuotes(t *testing.T) {
	for name, want := range map[string][2]string{
		"nightly":           {"nightly", "nightly"},
		`nightly["acme-1"]`: {"nightly.acme-1", "nightly%5b%22acme-1%22%5d"},
		`nightly["acme`:     {`nightly["acme`, "nightly%5b%22acme"},
	} {
		if got := [2]string{Typed(name), FileName(name)}; got != want {
			t.Errorf("%s is %v, want %v", name, got, want)
		}
	}
}
