package cli

import (
	"bytes"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/sluice-etl/sluice/internal/duck"
	"github.com/sluice-etl/sluice/internal/gcs/gcstest"
	"github.com/sluice-etl/sluice/internal/sandbox"
)

// objects are those of both buckets, by URL.
func (c cloud) objects(t *testing.T) map[string][]byte {
	t.Helper()
	out := map[string][]byte{}
	for _, bucket := range []string{"lake", "sluice"} {
		for name, data := range c.gcs.Objects(t, bucket, "") {
			out["gs://"+bucket+"/"+name] = data
		}
	}
	return out
}

// holding lists what holds a contact, of the objects and of the files in the
// world's folder: by its id in Parquet files, by any of its texts in the bytes.
func (c cloud) holding(t *testing.T, k sandbox.Contact) []string {
	t.Helper()
	all := c.objects(t)
	err := filepath.WalkDir(c.dir, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.Type().IsRegular() {
			all[path], err = os.ReadFile(path)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	db, err := duck.Open(t.Context(), "")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := db.Close(); err != nil {
			t.Error(err)
		}
	}()
	file := filepath.Join(t.TempDir(), "one.parquet")
	texts := []string{k.ID, k.Name}
	for _, text := range []*string{k.Phone, k.Email} {
		if text != nil {
			texts = append(texts, *text)
		}
	}
	var out []string
	for name, data := range all {
		holds := strings.Contains(name, k.ID)
		for _, text := range texts {
			holds = holds || len(text) > 8 && bytes.Contains(data, []byte(text))
		}
		if !holds && strings.HasSuffix(name, ".parquet") && !strings.Contains(name, "crm_stages") {
			if err := os.WriteFile(file, data, 0o600); err != nil {
				t.Fatal(err)
			}
			res, err := db.Query(t.Context(), fmt.Sprintf("SELECT count(*) FROM read_parquet('%s') WHERE id = '%s'", file, k.ID), 0)
			if err != nil {
				t.Fatalf("%s: %v", name, err)
			}
			holds = res.Rows[0][0].Text != "0"
		}
		if holds {
			out = append(out, name)
		}
	}
	return out
}

// Tables and waiting packages in buckets are checked, and erased from, as local
// ones are.
func TestTablesInBucketsAreVerifiedAndErasedFrom(t *testing.T) {
	t.Parallel()
	c := everywhere(t, 40, "lake, bucket")
	c.sluice(t, "run").mustBe(t, 0)
	var k sandbox.Contact
	n := 0
	c.Each(func(some sandbox.Contact) bool { k = some; n++; return n < 20 })
	if err := c.Touch(k.ID); err != nil {
		t.Fatal(err)
	}
	c.move(2 * time.Hour)
	// A package waits beside state.
	c.gcs.SetFault(forbidLake)
	c.sluice(t, "run").mustBe(t, 1)
	c.gcs.SetFault(nil)
	if held := strings.Join(c.holding(t, k), "\n"); !strings.Contains(held, "gs://lake/") || !strings.Contains(held, "gs://sluice/") || !strings.Contains(held, "out/") {
		t.Fatalf("contact %s is held by\n%s", k.ID, held)
	}
	if r := c.sluice(t, "verify").mustBe(t, 0); strings.Count(r.out, ": sound: ") != 2 || !strings.Contains(r.out, "gs://lake/crm") {
		t.Errorf("got\n%s", r.out)
	}
	before := c.objects(t)
	r := c.sluice(t, "erase", "--id", k.ID, "--dry-run").mustBe(t, 0)
	for _, want := range []string{"lake, current", "bucket, current", "bucket, history", "waiting or unfinished"} {
		if !strings.Contains(r.out, want) {
			t.Errorf("a dry run does not find %q:\n%s", want, r.out)
		}
	}
	for name, data := range c.objects(t) {
		if !strings.HasPrefix(name, "gs://sluice/state/state/") && !bytes.Equal(data, before[name]) {
			t.Errorf("a dry run changes %s", name)
		}
	}
	c.sluice(t, "erase", "--id", k.ID, "--yes").mustBe(t, 0)
	if held := c.holding(t, k); len(held) > 0 {
		t.Errorf("it is still held by\n%s", strings.Join(held, "\n"))
	}
	if r := c.sluice(t, "erase", "--id", k.ID, "--yes").mustBe(t, 0); !strings.Contains(r.out, "Nothing is stored") {
		t.Errorf("got\n%s", r.out)
	}
	if err := c.Delete(k.ID); err != nil {
		t.Fatal(err)
	}
	c.move(2 * time.Hour)
	c.sluice(t, "run").mustBe(t, 0)
	c.same(t, false, "lake", "bucket")
	if held := c.holding(t, k); len(held) > 0 {
		t.Errorf("after the next run it is held by\n%s", strings.Join(held, "\n"))
	}
	c.sluice(t, "verify").mustBe(t, 0)
	for name := range c.gcs.Objects(t, "lake", "crm/contacts/history/") {
		c.gcs.Put("lake", "crm/contacts/history/"+name, []byte("PAR1"))
		break
	}
	if r := c.sluice(t, "verify").mustBe(t, 1); !strings.Contains(r.out, "nightly: bucket: ") || !strings.Contains(r.out, "changed file") {
		t.Errorf("got\n%s", r.out)
	}
}

// forbidLake refuses what is asked of the bucket of the tables.
func forbidLake(_ int, r *http.Request) gcstest.Fault {
	if strings.Contains(r.URL.Path, "/b/lake/") {
		return gcstest.Forbid
	}
	return gcstest.None
}
