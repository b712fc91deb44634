package state

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func fixture(tb testing.TB) []byte {
	tb.Helper()
	data, err := os.ReadFile("testdata/pipeline.v1.json")
	if err != nil {
		tb.Fatal(err)
	}
	return data
}

const nightlyDoc = "pipeline.nightly.json"

func TestADocumentOfFormat1LoadsWhole(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		s := w.open(t)
		w.put(t, nightlyDoc, fixture(t))
		p := load(t, s, "nightly")
		again, err := json.MarshalIndent(p, "", "  ")
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(string(fixture(t)), string(again)+"\n"); diff != "" {
			t.Errorf("fields were lost or changed:\n%s", diff)
		}
		whole := *p
		whole.MovedTo = "daily" // has a test of its own: such a document is read by nobody
		if path := unset(reflect.ValueOf(whole), "Pipeline"); path != "" {
			t.Errorf("the fixture does not show %s", path)
		}
		save(t, s, p)
		if got := load(t, s, "nightly"); got.Serial != 8 || got.Lineage != p.Lineage {
			t.Errorf("saved again as serial %d of %s", got.Serial, got.Lineage)
		}
	})
}

// unset returns the path of a field that holds its zero value, "" if none: a
// field added to the format must be added to a fixture.
func unset(v reflect.Value, path string) string {
	switch v.Kind() {
	case reflect.Struct:
		if v.Type().PkgPath() == "time" {
			break
		}
		for i := range v.NumField() {
			if p := unset(v.Field(i), path+"."+v.Type().Field(i).Name); p != "" {
				return p
			}
		}
		return ""
	case reflect.Pointer:
		if !v.IsNil() {
			return unset(v.Elem(), path)
		}
	case reflect.Slice:
		if v.Len() > 0 && v.Type().Elem().Kind() == reflect.Struct {
			return unset(v.Index(0), path+"[0]")
		}
	case reflect.Map:
		// One destination shows what another leaves out.
		for _, k := range v.MapKeys() {
			if unset(v.MapIndex(k), path) == "" {
				return ""
			}
		}
	default:
	}
	if v.IsZero() {
		return path
	}
	return ""
}

func TestADamagedDocumentIsReportedAndLeftAlone(t *testing.T) {
	good := string(fixture(t))
	for name, data := range map[string]string{
		"empty":                   "",
		"blank":                   " \n",
		"cut off":                 good[:len(good)/2],
		"null":                    "null",
		"another type":            "[1]",
		"not JSON":                "version: 1\n",
		"something after it":      good + "{}",
		"no version":              "{}",
		"version 0":               strings.Replace(good, `"format_version": 1`, `"format_version": 0`, 1),
		"an unknown field":        strings.Replace(good, `"cursor"`, `"curser"`, 1),
		"an unknown nested field": strings.Replace(good, `"position": 3`, `"positron": 3`, 1),
		"a wrong type":            strings.Replace(good, `"serial": 7`, `"serial": "7"`, 1),
		"a time that is none":     strings.Replace(good, "2026-08-31T03:02:00Z", "yesterday", 1),
		"another pipeline's":      strings.Replace(good, `"nightly"`, `"weekly"`, 1),
		"no lineage":              strings.Replace(good, "5f0c8f5e-6c1b-4f0e-9d6a-0d8f2b1c7a11", "", 1),
		"a lineage that is none":  strings.Replace(good, "5f0c8f5e-", "5f0c8f5e_", 1),
		"serial 0":                strings.Replace(good, `"serial": 7`, `"serial": 0`, 1),
		"next package too low":    strings.Replace(good, `"next_package": 4`, `"next_package": 3`, 1),
		"a null destination": strings.Replace(good, `{
      "position": 3
    }`, "null", 1),
		"bytes that are no text": strings.Replace(good, "disk full", "disk \xff", 1),
		"NULs":                   strings.Repeat("\x00", 4096),
	} {
		everywhere(t, func(w *world) {
			t := w.t
			s := w.open(t, WithRescueDir(t.TempDir()))
			w.put(t, nightlyDoc, []byte(data))
			_, loadErr := s.Load(t.Context(), "nightly")
			saveErr := s.Save(t.Context(), New("nightly"))
			_, updateErr := s.Update(t.Context(), "nightly", func(*Pipeline) error { return nil })
			_, rescueErr := s.UpdateOrRescue(t.Context(), "nightly", func(*Pipeline) error { return nil })
			_, claimErr := s.Claim(t.Context(), "nightly", "sync")
			if !w.shared {
				claimErr = loadErr // it asks the lock alone
			}
			for _, err := range []error{loadErr, saveErr, updateErr, rescueErr, claimErr} {
				if !errors.Is(err, ErrCorrupt) || !strings.Contains(err.Error(), s.Path("nightly")) || hint(t, err) == "" {
					t.Errorf("%s: got %v", name, err)
				}
			}
			if now := w.documents(t)[nightlyDoc]; now != data {
				t.Errorf("%s: the document was changed", name)
			}
		})
	}
}

func TestEveryTruncationOfADocumentIsReported(t *testing.T) {
	data := bytes.TrimSpace(fixture(t))
	for n := range data {
		if _, err := decode("f", "nightly", data[:n]); !errors.Is(err, ErrCorrupt) {
			t.Fatalf("%d of %d bytes: got %v", n, len(data), err)
		}
	}
}

func TestADocumentFromTheFutureIsRefused(t *testing.T) {
	everywhere(t, func(w *world) {
		t := w.t
		s := w.open(t)
		w.put(t, nightlyDoc, []byte(`{"format_version": 9, "sluice_version": "4.0.0", "cursor": {"by": "magic"}}`))
		_, err := s.Load(t.Context(), "nightly")
		var future *FutureError
		if !errors.As(err, &future) || !errors.Is(err, ErrFuture) || future.Version != 9 || future.Supported != FormatVersion {
			t.Fatalf("got %v", err)
		}
		if !strings.Contains(err.Error(), "4.0.0") || !strings.Contains(hint(t, err), "version of sluice") {
			t.Errorf("got %v; %s", err, hint(t, err))
		}
		if err := s.Save(t.Context(), New("nightly")); !errors.Is(err, ErrFuture) {
			t.Errorf("save: got %v", err)
		}
	})
}

func TestADirectoryInTheDocumentsPlaceIsReported(t *testing.T) {
	s := open(t, t.TempDir())
	if err := os.MkdirAll(s.Path("nightly"), 0o700); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Load(t.Context(), "nightly"); !errors.Is(err, ErrCorrupt) {
		t.Errorf("got %v", err)
	}
}

func FuzzDecode(f *testing.F) {
	f.Add(fixture(f))
	f.Add([]byte(`{"format_version":1}`))
	f.Add([]byte(`{"format_version":2}`))
	f.Add([]byte("null"))
	f.Add([]byte(`{"format_version":1,"pipeline":"nightly","destinations":{"x":null}}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := decode("f", "nightly", data)
		if err != nil {
			if !errors.Is(err, ErrCorrupt) && !errors.Is(err, ErrFuture) {
				t.Fatalf("an error of no known kind: %v", err)
			}
			return
		}
		// What is accepted survives being written and read again.
		out, err := json.Marshal(p)
		if err != nil {
			t.Fatal(err)
		}
		q, err := decode("f", "nightly", out)
		if err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		again, err := json.Marshal(q)
		if err != nil || !bytes.Equal(out, again) {
			t.Fatalf("%v\n%s\n%s", err, out, again)
		}
	})
}

func FuzzNames(f *testing.F) {
	f.Add("nightly")
	f.Add(`nightly["acme"]`)
	f.Add("../%2f\x00")
	f.Fuzz(func(t *testing.T, name string) {
		e := escape(name)
		if strings.ContainsAny(e, `/\:. `) {
			t.Fatalf("%q is kept as %q", name, e)
		}
		if got, ok := unescape(e); ok != (name != "") || ok && got != name {
			t.Fatalf("%q comes back as %q, %v", name, got, ok)
		}
	})
}
