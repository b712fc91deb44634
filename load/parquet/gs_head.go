package parquet

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path"
	"path/filepath"
	"strings"

	"github.com/sluice-etl/sluice/internal/gcs"
)

// headName is the object that is replaced to commit.
const headName = "head.json"

// commitKey is the metadata of an object that names the commit it came with.
const commitKey = "sluice-commit"

// errOvertaken says that another commit came first: start again.
var errOvertaken = errors.New("another commit came first")

// errVacant says that there is no table yet, and room for one.
var errVacant = errors.New("no table yet")

// head is the manifest of a commit and what it takes to put it in place.
type head struct {
	Manifest
	Commit gsCommit `json:"commit"`
	// Going says that this is no commit: the table is being destroyed.
	Going bool `json:"destroying,omitempty"`
}

// gsCommit says where a commit's files are staged and what they replace.
type gsCommit struct {
	// ID names the commit: NNNNNNNN-<run id>-<random>. Its files stand below
	// _staging/<ID>/, under the names they will have.
	ID string `json:"id"`
	// Replaces are the generations that Published replaces and Removed takes
	// away, 0 where nothing stood. The numbered manifest is among them where it
	// is staged as well.
	Replaces map[string]int64 `json:"replaces"`
}

// numbered is where the commit's own manifest will stand.
func (h *head) numbered() string { return path.Join(manifestsDir, manifestName(h.Number)) }

// stagedAt is the place of a file of the commit that is not in place yet.
func (c gsCommit) stagedAt(rel string) string { return path.Join(stagingDir, c.ID, rel) }

// commitNumber is the number of the commit that something in _staging belongs
// to.
func commitNumber(rel string) (int64, bool) {
	dir, _, ok := strings.Cut(strings.TrimPrefix(rel, stagingDir+"/"), "/")
	digits, _, dashed := strings.Cut(dir, "-")
	if !ok || !dashed {
		return 0, false
	}
	return manifestNumber(digits + ".json")
}

// gsTable is what stands at a table's place.
type gsTable struct {
	head      *head // nil where there is none
	headGen   gcs.If
	latest    *Manifest // nil where there is none
	latestGen gcs.If
}

func (t gsTable) found() bool { return t.head != nil || t.latest != nil }

// pending reports whether the last commit may not be wholly in place.
func (t gsTable) pending() bool {
	return t.head != nil && (t.latest == nil || t.latest.Number < t.head.Number)
}

// ours returns the manifest that decides, having checked that lineage owns the
// table.
func (t gsTable) ours(url, lineage string) (*Manifest, error) {
	both := table{latest: t.latest}
	if t.head != nil {
		both.pending = &t.head.Manifest
	}
	return both.ours(url, lineage)
}

// look reads what stands at the table's place without changing anything.
func (l *GSLoader) look(ctx context.Context) (gsTable, error) {
	for range mostRestarts {
		t, err := l.glance(ctx)
		if err != nil {
			return gsTable{}, err
		}
		if t.head != nil && t.head.Going {
			return gsTable{}, goingError(l.URL())
		}
		if t.head != nil && (t.latest == nil || t.latest.Number <= t.head.Number) {
			return t, nil
		}
		if t.head != nil {
			continue // a commit came between the two
		}
		if t.latest != nil {
			// A table that was written to a disk and brought here.
			return t, l.mustBeWhole(ctx, t.latest.Number)
		}
		err = l.mustBeVacant(ctx)
		if errors.Is(err, errVacant) {
			return gsTable{}, nil
		}
		if again, lookErr := l.glance(ctx); lookErr != nil || !again.found() {
			return gsTable{}, errors.Join(err, lookErr)
		}
	}
	return gsTable{}, &Error{
		Message: "latest.json is newer than head.json", Path: l.url(manifestsDir),
		hint: "Someone put an older head.json there. Remove it: latest.json counts then.",
	}
}

// glance reads the two manifests, head.json first: latest.json is never newer
// than a head.json that is read after it.
func (l *GSLoader) glance(ctx context.Context) (t gsTable, err error) {
	data, o, err := l.get(ctx, path.Join(manifestsDir, headName))
	if err != nil {
		return t, err
	}
	if data != nil {
		t.headGen = gcs.If(o.Generation)
		if t.head, err = decodeHead(data, l.url(path.Join(manifestsDir, headName))); err != nil {
			return t, err
		}
	}
	t.latest, t.latestGen, err = l.readLatest(ctx)
	return t, err
}

func (l *GSLoader) readLatest(ctx context.Context) (*Manifest, gcs.If, error) {
	rel := path.Join(manifestsDir, latestName)
	data, o, err := l.get(ctx, rel)
	if err != nil || data == nil {
		return nil, gcs.Absent, err
	}
	m, err := decodeManifest(data, l.url(rel))
	return m, gcs.If(o.Generation), err
}

// get reads an object; nil where there is none.
func (l *GSLoader) get(ctx context.Context, rel string) ([]byte, gcs.Object, error) {
	data, o, err := l.o.Client.Get(ctx, l.bucket, l.name(rel))
	if errors.Is(err, gcs.ErrNotExist) {
		return nil, gcs.Object{}, nil
	}
	if err == nil && data == nil {
		data = []byte{}
	}
	return data, o, err
}

func decodeHead(data []byte, url string) (*head, error) {
	m, err := decodeManifest(data, url)
	if err != nil {
		return nil, err
	}
	h := head{}
	err = json.Unmarshal(data, &h)
	h.Manifest = *m
	if _, ok := commitNumber(h.Commit.stagedAt("x")); err == nil && (!ok || h.Commit.ID != filepath.Base(h.Commit.ID)) {
		err = fmt.Errorf("%q is no commit", h.Commit.ID)
	}
	if err != nil {
		return nil, &Error{Message: "manifest is damaged", Path: url, Err: err, hint: "Put an older version of this object back, or move the table's folder away and run with --full."}
	}
	return &h, nil
}

// mustBeWhole refuses a copy of a table that was made in the middle of a commit.
func (l *GSLoader) mustBeWhole(ctx context.Context, latest int64) error {
	dir := l.name(manifestsDir) + "/"
	return l.o.Client.Each(ctx, l.bucket, dir, func(o gcs.Object) error {
		if n, ok := manifestNumber(strings.TrimPrefix(o.Name, dir)); ok && n > latest {
			return &Error{
				Message: fmt.Sprintf("the table was copied while commit %d was under way", n), Path: l.URL(),
				hint: "Run once where it was copied from, and copy it again; or move it away and run with --full.",
			}
		}
		return nil
	})
}

// mustBeVacant returns errVacant, or the error that says what is in the way.
func (l *GSLoader) mustBeVacant(ctx context.Context) error {
	err := l.o.Client.Each(ctx, l.bucket, l.prefix, func(o gcs.Object) error {
		rel := strings.TrimPrefix(o.Name, l.prefix)
		// Consoles make folders as empty objects; and a first commit may have
		// been stopped.
		_, staged := commitNumber(rel)
		if staged && strings.HasPrefix(rel, stagingDir+"/") || strings.HasSuffix(rel, "/") || rel == "" {
			return nil
		}
		return foreign(l.URL(), fmt.Sprintf("the table's folder holds %q and no manifest of ours", rel),
			"Another program wrote it. Give the destination another path or the pipeline another table name, or move what is there away.")
	})
	if err != nil {
		return err
	}
	return errVacant
}
