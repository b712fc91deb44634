package extract

import (
	"encoding/json"
	"testing"
)

func TestATieIsWrittenWithATimeAndReadFromMicrosecondsToo(t *testing.T) {
	want := TieBlock{At: 1_700_000_000_123_456, Size: 7, Passes: 11, Requests: 23, Statistical: true, Why: "order"}
	const text = `{"at":"2023-11-14T22:13:20.123456Z","size":7,"passes":11,"requests":23,"statistical":true,"why":"order"}`
	data, err := json.Marshal([]TieBlock{want})
	if err != nil || string(data) != "["+text+"]" {
		t.Errorf("written: %s, %v", data, err)
	}
	for _, old := range []string{text, `{"at":1700000000123456,"size":7,"passes":11,"requests":23,"statistical":true,"why":"order"}`} {
		var got TieBlock
		if err := json.Unmarshal([]byte(old), &got); err != nil || got != want {
			t.Errorf("%s is read as %+v, %v", old, got, err)
		}
	}
	for _, bad := range []string{`{"at":"yesterday"}`, `{"at":true}`, `7`} {
		if err := json.Unmarshal([]byte(bad), new(TieBlock)); err == nil {
			t.Errorf("%s is read", bad)
		}
	}
}
