// Package gcs is the little of Google Cloud Storage that Sluice needs: whole
// objects, written on condition of the generation they replace.
//
// A conditional write is retried after an answer that was lost, and then finds
// its own effect in its way. Each write therefore carries an id of its own in
// the object's metadata, by which it knows itself again.
package gcs

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"net/http"
	"time"

	"cloud.google.com/go/storage"
	"github.com/googleapis/gax-go/v2"
	"google.golang.org/api/option"
)

// Options say how to reach the service. The zero value is the real one, with
// the vendor's default chain of credentials: GOOGLE_APPLICATION_CREDENTIALS,
// gcloud's login, the machine's service account.
type Options struct {
	// Endpoint is the base of a server that stands in for the real one, as in
	// http://127.0.0.1:4443; it is used without credentials. Empty: the real
	// one, or the one that the vendor's STORAGE_EMULATOR_HOST names.
	Endpoint string
	// HTTPClient makes the requests to Endpoint. It has no meaning without one.
	// Default: http.DefaultClient.
	HTTPClient *http.Client
	// CallTimeout bounds one call without content, its retries included, and
	// is what a transfer has before its first byte. Default: 1 minute.
	CallTimeout time.Duration
	// StallTimeout ends a download or a listing that brings nothing new for so
	// long. Default: 2 minutes.
	StallTimeout time.Duration
	// RetryPause is the longest first pause between two attempts; it doubles
	// up to 30 seconds. Default: 1 second.
	RetryPause time.Duration
	// ChunkBytes is how much an upload sends in one request, and holds in
	// memory to repeat it. Default: 16 MiB.
	ChunkBytes int
}

const (
	defaultCallTimeout  = time.Minute
	defaultStallTimeout = 2 * time.Minute
	defaultRetryPause   = time.Second
	longestRetryPause   = 30 * time.Second
	// chunkUnit is what the service wants chunks to be a multiple of.
	chunkUnit         = 256 << 10
	defaultChunkBytes = 16 << 20
	// uploadFloor is the slowest upload that is waited for, in bytes a second.
	uploadFloor = 64 << 10
	// mostInMemory bounds the objects that Get reads.
	mostInMemory = 256 << 20
)

// uploadKey is the metadata that holds the id of the write that made an object.
const uploadKey = "sluice-upload"

// Client reads and writes objects. Its methods may be called from any
// goroutine; each blocks until the service has answered, the time for it is
// over, or ctx ends. Errors wrap the sentinels of this package, and those that
// a user can do something about have a Hint.
type Client struct {
	o       Options
	storage *storage.Client
}

// Object is what the service says about an object.
type Object struct {
	Name       string
	Generation int64 // changes with each write, and never comes back
	Size       int64 // bytes
	CRC32C     uint32
	// Metadata is what the writer gave along. Get and Download leave it out.
	Metadata map[string]string
	Updated  time.Time // UTC
}

// If is the condition of a write: the generation that it replaces. Absent and
// Any are special.
type If int64

const (
	// Absent lets a write create an object and replace none.
	Absent If = 0
	// Any lets a write replace whatever is there. Such a write is not retried,
	// since a retry could replace what came after it.
	Any If = -1
)

// New connects to the service: it looks for credentials, and asks nothing of
// the service yet. They stay in use until Close, whatever becomes of ctx.
func New(ctx context.Context, o Options) (*Client, error) {
	o.CallTimeout = cmp.Or(o.CallTimeout, defaultCallTimeout)
	o.StallTimeout = cmp.Or(o.StallTimeout, defaultStallTimeout)
	o.RetryPause = cmp.Or(o.RetryPause, defaultRetryPause)
	o.ChunkBytes = cmp.Or(o.ChunkBytes, defaultChunkBytes)
	opts := []option.ClientOption{storage.WithJSONReads(), option.WithUserAgent("sluice")}
	if o.Endpoint != "" {
		opts = append(opts, option.WithEndpoint(o.Endpoint+"/storage/v1/"), option.WithHTTPClient(cmp.Or(o.HTTPClient, http.DefaultClient)))
	}
	// The credentials keep the context for as long as they are renewed.
	c, err := storage.NewClient(context.WithoutCancel(ctx), opts...)
	if err != nil {
		return nil, &Error{Message: "connect to Google Cloud Storage", Err: err, hint: hintCredentials}
	}
	c.SetRetry(storage.WithErrorFunc(again), storage.WithBackoff(gax.Backoff{Initial: o.RetryPause, Max: longestRetryPause, Multiplier: 2}))
	return &Client{o: o, storage: c}, nil
}

// Close ends the client's life.
func (c *Client) Close() error {
	if err := c.storage.Close(); err != nil {
		return fmt.Errorf("close client of Google Cloud Storage: %w", err)
	}
	return nil
}

// Stat describes an object; ErrNotExist where there is none.
func (c *Client) Stat(ctx context.Context, bucket, name string) (Object, error) {
	bounded, cancel := c.bound(ctx, c.o.CallTimeout)
	defer cancel()
	attrs, err := c.object(bucket, name).Attrs(bounded)
	if err != nil {
		return Object{}, explain(bounded, "look at", URL(bucket, name), err)
	}
	return objectOf(attrs), nil
}

// Delete removes an object. One that is gone already is no error; one that
// was replaced is ErrChanged, unless cond is Any. Absent has no meaning here.
func (c *Client) Delete(ctx context.Context, bucket, name string, cond If) error {
	bounded, cancel := c.bound(ctx, c.o.CallTimeout)
	defer cancel()
	err := explain(bounded, "delete", URL(bucket, name), cond.on(c.object(bucket, name)).Delete(bounded))
	if isChanged(err) { // said of an object that is not there, too
		if _, statErr := c.Stat(ctx, bucket, name); isNotExist(statErr) {
			return nil
		}
	}
	if isNotExist(err) {
		return nil
	}
	return err
}

// Copy makes a copy of an object in the same bucket, with metadata of its own.
// It appears whole or not at all. ErrNotExist says that from is not there.
func (c *Client) Copy(ctx context.Context, bucket, from, to string, cond If, metadata map[string]string) (Object, error) {
	bounded, cancel := c.bound(ctx, c.o.CallTimeout)
	defer cancel()
	metadata, id, err := marked(metadata)
	if err != nil {
		return Object{}, err
	}
	copier := cond.on(c.object(bucket, to)).CopierFrom(c.object(bucket, from))
	copier.Metadata, copier.ContentType = metadata, contentType(to)
	attrs, err := copier.Run(bounded)
	if err == nil {
		return objectOf(attrs), nil
	}
	err = explain(bounded, "copy "+URL(bucket, from)+" to", URL(bucket, to), err)
	return c.ownEffect(ctx, bucket, to, id, err)
}

// List returns the objects whose names begin with prefix, ordered by name.
func (c *Client) List(ctx context.Context, bucket, prefix string) ([]Object, error) {
	var all []Object
	err := c.Each(ctx, bucket, prefix, func(o Object) error {
		all = append(all, o)
		return nil
	})
	if err != nil {
		return nil, err
	}
	return all, nil
}

// ownEffect turns the failure of a conditional write into success where the
// object in its way is the one it wrote, by an attempt whose answer was lost.
func (c *Client) ownEffect(ctx context.Context, bucket, name, id string, err error) (Object, error) {
	if !isChanged(err) {
		return Object{}, err
	}
	there, statErr := c.Stat(ctx, bucket, name)
	switch {
	case statErr == nil && there.Metadata[uploadKey] == id:
		return there, nil
	case statErr != nil && !isNotExist(statErr):
		return Object{}, statErr // whether it was written is not known
	default:
		return Object{}, err
	}
}

func (c *Client) object(bucket, name string) *storage.ObjectHandle {
	return c.storage.Bucket(bucket).Object(name)
}

// on puts the condition on an object's handle.
func (i If) on(h *storage.ObjectHandle) *storage.ObjectHandle {
	switch i {
	case Any:
		return h
	case Absent:
		return h.If(storage.Conditions{DoesNotExist: true})
	default:
		return h.If(storage.Conditions{GenerationMatch: int64(i)})
	}
}

// marked adds a new id to a copy of metadata.
func marked(metadata map[string]string) (map[string]string, string, error) {
	var random [16]byte
	if _, err := rand.Read(random[:]); err != nil {
		return nil, "", fmt.Errorf("make id of upload: %w", err)
	}
	id := hex.EncodeToString(random[:])
	out := map[string]string{uploadKey: id}
	for k, v := range metadata {
		out[k] = v
	}
	return out, id, nil
}

func objectOf(a *storage.ObjectAttrs) Object {
	return Object{
		Name: a.Name, Generation: a.Generation, Size: a.Size, CRC32C: a.CRC32C,
		Metadata: a.Metadata, Updated: a.Updated.UTC(),
	}
}
