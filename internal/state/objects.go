package state

import (
	"context"
	"encoding/json"
	"errors"
	"io/fs"
	"slices"
	"strings"
	"time"

	"github.com/sluice-etl/sluice/internal/atomicfile"
)

// stateTimeout bounds one exchange about a document or a claim, retries of the
// client included.
const stateTimeout = time.Minute

// object is what a bucket tells of one of its objects.
type object struct {
	name       string // below the prefix
	generation int64  // differs between any two contents that the name ever had
	size       int64  // bytes
	updated    time.Time
}

// What stands for a generation where there is none.
const (
	absent        = 0  // the object must not exist
	anyGeneration = -1 // whatever stands there, which is tried once; not for put
)

// objects is what this package asks of an object store below one prefix. Every
// object appears whole, replaced, or not at all, and a reader sees the last
// put that was acknowledged. The methods block until done or ctx ends, and may
// be called from any goroutine.
type objects interface {
	// get returns a small object, described but for the time; fs.ErrNotExist
	// where there is none.
	get(ctx context.Context, name string) ([]byte, object, error)
	// put writes an object in the place of the given generation of it, or
	// fails with errMoved where another stands there. After any other error it
	// may be written, or be written yet.
	put(ctx context.Context, name string, data []byte, generation int64) (object, error)
	// list returns the objects whose names begin with prefix, in no order.
	list(ctx context.Context, prefix string) ([]object, error)
	// remove deletes the given generation of an object, or fails with errMoved
	// where another stands there; one that is not there counts as deleted.
	remove(ctx context.Context, name string, generation int64) error
}

// transfers moves files of any size between a bucket and the disk.
type transfers interface {
	// upload is put of a local file.
	upload(ctx context.Context, path, name string, generation int64) (object, error)
	// copy is put of what another object holds; fs.ErrNotExist where there is no
	// such object.
	copy(ctx context.Context, from, to string, generation int64) (object, error)
	// download writes an object to a new file on the disk, durably;
	// fs.ErrNotExist where there is no such object.
	download(ctx context.Context, name string, disk atomicfile.FS, path string) error
}

// shared is a bucket that machines share, below one prefix.
type shared struct {
	objects
	transfers
	url string // gs://BUCKET/PREFIX, for people
}

func (b *shared) path(name string) string { return strings.TrimSuffix(b.url, "/") + "/" + name }

// share makes the store keep documents and sealed packages in a bucket.
func (s *Store) share(b *shared) {
	docs := &sharedDocs{bucket: b}
	s.shared, s.docs, s.where = b, docs, docs.path
}

// inBucket reports whether a document's path is that of an object.
func inBucket(path string) bool { return strings.HasPrefix(path, "gs://") }

// sharedDocs is the backend in a bucket.
type sharedDocs struct{ bucket *shared }

var _ backend = (*sharedDocs)(nil)

func (d *sharedDocs) path(name string) string { return d.bucket.path(stateDir + "/" + name) }

func (d *sharedDocs) load(ctx context.Context, name string) ([]byte, version, error) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	data, obj, err := d.bucket.get(ctx, stateDir+"/"+name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		// A bucket that is not there answers the same, and is not to be taken
		// for one without state; a listing tells.
		if _, listErr := d.list(ctx, name); listErr != nil {
			return nil, 0, listErr
		}
		return nil, absent, err
	case err != nil:
		return nil, 0, &AccessError{Op: "read state", Path: d.path(name), Err: err}
	case len(data) > maxDocument:
		return nil, 0, tooLarge(d.path(name), int64(len(data)))
	}
	return data, version(obj.generation), nil
}

// save tells a save that lost from one whose answer was lost by looking: a
// document names the last saves that led to it, so that ours is known also
// where another machine has gone on from it since.
func (d *sharedDocs) save(ctx context.Context, name string, data []byte, v version) error {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	_, err := d.bucket.put(ctx, stateDir+"/"+name, data, int64(v))
	if err == nil {
		return nil
	}
	look, cancel := context.WithTimeout(context.WithoutCancel(ctx), stateTimeout)
	defer cancel()
	stands, obj, lookErr := d.bucket.get(look, stateDir+"/"+name)
	if errors.Is(lookErr, fs.ErrNotExist) {
		stands, obj, lookErr = nil, object{generation: absent}, nil
	}
	ours := savesOf(data)
	switch {
	case lookErr != nil: // it may be ours that stands there
		return &AccessError{Op: "write state", Path: d.path(name), Err: errors.Join(err, lookErr)}
	case len(ours) > 0 && slices.Contains(savesOf(stands), ours[len(ours)-1]):
		return nil
	case obj.generation != int64(v): // and never will be ours
		return errMoved
	}
	return &AccessError{Op: "write state", Path: d.path(name), Err: err}
}

// savesOf returns the ids of the saves that led to a document, ours last.
func savesOf(data []byte) []string {
	var doc struct {
		Saves []string `json:"saves"`
	}
	if json.Unmarshal(data, &doc) != nil {
		return nil // damaged, which the next load says
	}
	return doc.Saves
}

func (d *sharedDocs) remove(ctx context.Context, name string, v version) error {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	err := d.bucket.remove(ctx, stateDir+"/"+name, int64(v))
	if err != nil && !errors.Is(err, errMoved) {
		return &AccessError{Op: "remove state", Path: d.path(name), Err: err}
	}
	return err
}

func (d *sharedDocs) list(ctx context.Context, prefix string) ([]string, error) {
	ctx, cancel := context.WithTimeout(ctx, stateTimeout)
	defer cancel()
	found, err := d.bucket.list(ctx, stateDir+"/"+prefix)
	if err != nil {
		return nil, &AccessError{Op: "list state", Path: d.path(""), Err: err}
	}
	names := make([]string, len(found))
	for i, obj := range found {
		names[i] = strings.TrimPrefix(obj.name, stateDir+"/")
	}
	return names, nil
}
