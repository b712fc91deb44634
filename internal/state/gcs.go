package state

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/sluice-etl/sluice/internal/atomicfile"
	"github.com/sluice-etl/sluice/internal/clock"
	"github.com/sluice-etl/sluice/internal/gcs"
)

// OpenGCS returns the store whose documents and sealed packages are below url,
// gs://BUCKET or gs://BUCKET/PREFIX, and which has locks, staged parts and
// quarantine in dir, a local directory. dir may be lost between runs, with what
// was not sealed yet and the quarantine. Every machine that works on the same
// url takes part in the same history; several processes of one machine should
// share dir as well, as they then know of each other at once.
//
// The bucket is not asked for anything yet. The client is the caller's to
// close, after the store's last use.
func OpenGCS(client *gcs.Client, url, dir string, clk clock.Clock, opts ...Option) (*Store, error) {
	bucket, prefix, err := gcs.ParseURL(url)
	if err != nil {
		return nil, fmt.Errorf("open state: %w", err)
	}
	s, err := newStore(dir, clk, opts)
	if err != nil {
		return nil, err
	}
	b := &gcsBucket{client: client, bucket: bucket}
	if prefix != "" {
		b.prefix = prefix + "/"
	}
	s.share(&shared{objects: b, transfers: b, url: gcs.URL(bucket, prefix)})
	return s, nil
}

// gcsBucket is a bucket of Google Cloud Storage.
type gcsBucket struct {
	client *gcs.Client
	bucket string
	prefix string // empty, or with a slash at its end
}

var (
	_ objects   = (*gcsBucket)(nil)
	_ transfers = (*gcsBucket)(nil)
)

func (b *gcsBucket) get(ctx context.Context, name string) ([]byte, object, error) {
	data, obj, err := b.client.Get(ctx, b.bucket, b.prefix+name)
	return data, b.object(obj), translate(err)
}

func (b *gcsBucket) put(ctx context.Context, name string, data []byte, generation int64) (object, error) {
	obj, err := b.client.Put(ctx, b.bucket, b.prefix+name, data, gcs.If(generation), nil)
	return b.object(obj), translate(err)
}

func (b *gcsBucket) list(ctx context.Context, prefix string) ([]object, error) {
	var found []object
	err := b.client.Each(ctx, b.bucket, b.prefix+prefix, func(o gcs.Object) error {
		found = append(found, b.object(o))
		return nil
	})
	return found, err // what does not exist here is the bucket
}

func (b *gcsBucket) remove(ctx context.Context, name string, generation int64) error {
	return translate(b.client.Delete(ctx, b.bucket, b.prefix+name, gcs.If(generation)))
}

func (b *gcsBucket) upload(ctx context.Context, path, name string, generation int64) (object, error) {
	obj, err := b.client.Upload(ctx, b.bucket, b.prefix+name, path, gcs.If(generation), nil)
	return b.object(obj), translate(err)
}

func (b *gcsBucket) copy(ctx context.Context, from, to string, generation int64) (object, error) {
	obj, err := b.client.Copy(ctx, b.bucket, b.prefix+from, b.prefix+to, gcs.If(generation), nil)
	return b.object(obj), translate(err)
}

func (b *gcsBucket) download(ctx context.Context, name string, disk atomicfile.FS, path string) error {
	_, err := b.client.Download(ctx, b.bucket, b.prefix+name, disk, path, filePerm)
	return translate(err)
}

func (b *gcsBucket) object(o gcs.Object) object {
	return object{
		name: strings.TrimPrefix(o.Name, b.prefix), generation: o.Generation, size: o.Size, updated: o.Updated,
	}
}

// translate gives the client's sentinels the identities that this package
// knows.
func translate(err error) error {
	switch {
	case errors.Is(err, gcs.ErrChanged):
		return fmt.Errorf("%w: %w", errMoved, err)
	case errors.Is(err, gcs.ErrNotExist):
		return &absentError{err}
	}
	return err
}

// absentError is an object that is not there.
type absentError struct{ err error }

func (e *absentError) Error() string        { return e.err.Error() }
func (e *absentError) Unwrap() error        { return e.err }
func (e *absentError) Is(target error) bool { return target == fs.ErrNotExist }
