package gcs

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"io/fs"
	"os"
	"path"

	"cloud.google.com/go/storage"
	"google.golang.org/api/iterator"

	"github.com/sluice-etl/sluice/internal/atomicfile"
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// Get reads a small object into memory, its checksum checked.
func (c *Client) Get(ctx context.Context, bucket, name string) ([]byte, Object, error) {
	var buf bytes.Buffer
	o, err := c.Read(ctx, bucket, name, &limited{w: &buf, left: mostInMemory})
	if err != nil {
		return nil, Object{}, err
	}
	return buf.Bytes(), o, nil
}

// Read copies an object into w. Only after its return without an error is what
// w got the object, whole and with the right checksum.
func (c *Client) Read(ctx context.Context, bucket, name string, w io.Writer) (Object, error) {
	ctx, alive, cancel := c.watch(ctx, c.o.StallTimeout)
	defer cancel()
	url := URL(bucket, name)
	r, err := c.object(bucket, name).NewReader(ctx)
	if err != nil {
		return Object{}, explain(ctx, "read", url, err)
	}
	defer func() { _ = r.Close() }() // nothing is written, and the content was checked
	sum := crc32.New(castagnoli)
	to := &tracked{w: io.MultiWriter(w, sum), alive: alive}
	n, err := io.Copy(to, r)
	switch {
	case to.err != nil:
		return Object{}, fmt.Errorf("read %s: %w", url, to.err)
	case err != nil:
		return Object{}, explain(ctx, "read", url, err)
	case !r.Attrs.Decompressed && (n != r.Attrs.Size || sum.Sum32() != r.Attrs.CRC32C):
		return Object{}, &Error{
			Message: "read " + url, Err: fmt.Errorf("%d bytes with checksum %08x arrived, %d with %08x are stored", n, sum.Sum32(), r.Attrs.Size, r.Attrs.CRC32C),
			hint: "What arrived is not what is stored. Look for a proxy that rewrites answers, and run again.",
		}
	}
	return Object{
		Name: name, Generation: r.Attrs.Generation, Size: n, CRC32C: sum.Sum32(), Updated: r.Attrs.LastModified.UTC(),
	}, nil
}

// Download writes an object to a file on the disk, which appears whole or not
// at all, and gives its content to the others as well.
func (c *Client) Download(ctx context.Context, bucket, name string, disk atomicfile.FS, localPath string, perm fs.FileMode, others ...io.Writer) (Object, error) {
	f, err := atomicfile.CreateOn(disk, localPath, perm)
	if err != nil {
		return Object{}, err
	}
	defer f.Abort()
	o, err := c.Read(ctx, bucket, name, io.MultiWriter(append([]io.Writer{f}, others...)...))
	if err != nil {
		return Object{}, err
	}
	return o, f.Commit()
}

// Put writes data as an object. ErrChanged: the object is not as cond says.
// After any other error it may or may not have been written.
func (c *Client) Put(ctx context.Context, bucket, name string, data []byte, cond If, metadata map[string]string) (Object, error) {
	return c.write(ctx, bucket, name, bytes.NewReader(data), int64(len(data)), crc32.Checksum(data, castagnoli), cond, metadata)
}

// Upload writes a local file as an object, as Put does. The file must not
// change meanwhile.
func (c *Client) Upload(ctx context.Context, bucket, name, localPath string, cond If, metadata map[string]string) (Object, error) {
	f, err := os.Open(localPath)
	if err != nil {
		return Object{}, fmt.Errorf("upload file: %w", err)
	}
	defer func() { _ = f.Close() }() // only read
	sum := crc32.New(castagnoli)
	size, err := io.Copy(sum, f)
	if err == nil {
		_, err = f.Seek(0, io.SeekStart)
	}
	if err != nil {
		return Object{}, fmt.Errorf("upload file: %w", err)
	}
	return c.write(ctx, bucket, name, f, size, sum.Sum32(), cond, metadata)
}

func (c *Client) write(ctx context.Context, bucket, name string, from io.Reader, size int64, sum uint32, cond If, metadata map[string]string) (Object, error) {
	metadata, id, err := marked(metadata)
	if err != nil {
		return Object{}, err
	}
	o, err := c.writeOnce(ctx, bucket, name, from, size, sum, cond, metadata)
	if err != nil {
		return c.ownEffect(ctx, bucket, name, id, err)
	}
	if o.CRC32C != sum || o.Size != size {
		return Object{}, fmt.Errorf("write %s: %d bytes with checksum %08x are stored, %d with %08x were sent", URL(bucket, name), o.Size, o.CRC32C, size, sum)
	}
	return o, nil
}

func (c *Client) writeOnce(ctx context.Context, bucket, name string, from io.Reader, size int64, sum uint32, cond If, metadata map[string]string) (Object, error) {
	bounded, cancel := c.bound(ctx, c.uploadTime(size))
	defer cancel() // which also drops an upload that was not completed
	w := cond.on(c.object(bucket, name)).NewWriter(bounded)
	w.ContentType, w.Metadata = contentType(name), metadata
	w.CRC32C, w.SendCRC32C = sum, true
	w.ChunkSize = c.chunk(size)
	w.ChunkRetryDeadline = c.o.CallTimeout
	url := URL(bucket, name)
	n, err := io.Copy(w, from)
	if err == nil && n != size {
		// Closing would complete the object with what there is.
		return Object{}, fmt.Errorf("write %s: the file changed from %d to %d bytes meanwhile", url, size, n)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		return Object{}, explain(bounded, "write", url, err)
	}
	return objectOf(w.Attrs()), nil
}

// chunk is the size of the requests of an upload: one, with a buffer no larger
// than it needs, where that will do.
func (c *Client) chunk(size int64) int {
	if size < int64(c.o.ChunkBytes) {
		return (int(size)/chunkUnit + 1) * chunkUnit
	}
	return c.o.ChunkBytes
}

// Each gives the objects whose names begin with prefix to f, ordered by name,
// until it returns an error, which is then the result.
func (c *Client) Each(ctx context.Context, bucket, prefix string, f func(Object) error) error {
	return c.each(ctx, bucket, &storage.Query{Prefix: prefix}, f)
}

// EachIn gives the objects of one folder to f as Each does, and not those of the
// folders in it. folder ends with a slash, or is empty for the bucket's own.
func (c *Client) EachIn(ctx context.Context, bucket, folder string, f func(Object) error) error {
	return c.each(ctx, bucket, &storage.Query{Prefix: folder, Delimiter: "/"}, f)
}

func (c *Client) each(ctx context.Context, bucket string, q *storage.Query, f func(Object) error) error {
	ctx, alive, cancel := c.watch(ctx, c.o.StallTimeout)
	defer cancel()
	if err := q.SetAttrSelection([]string{"Name", "Generation", "Size", "CRC32C", "Metadata", "Updated"}); err != nil {
		return fmt.Errorf("list objects: %w", err)
	}
	for it := c.storage.Bucket(bucket).Objects(ctx, q); ; {
		attrs, err := it.Next()
		if errors.Is(err, iterator.Done) {
			return nil
		}
		if err != nil {
			return explain(ctx, "list", URL(bucket, q.Prefix), err)
		}
		alive()
		if attrs.Prefix != "" { // a folder
			continue
		}
		if err := f(objectOf(attrs)); err != nil {
			return err
		}
	}
}

// Missing returns which of the permissions (storage.objects.create, ...) the
// credentials do not give on the bucket. It changes nothing.
func (c *Client) Missing(ctx context.Context, bucket string, permissions ...string) ([]string, error) {
	bounded, cancel := c.bound(ctx, c.o.CallTimeout)
	defer cancel()
	granted, err := c.storage.Bucket(bucket).IAM().TestPermissions(bounded, permissions)
	if err != nil {
		return nil, explain(bounded, "ask for the permissions on", URL(bucket, ""), err)
	}
	has := map[string]bool{}
	for _, p := range granted {
		has[p] = true
	}
	var missing []string
	for _, p := range permissions {
		if !has[p] {
			missing = append(missing, p)
		}
	}
	return missing, nil
}

// contentType is for people who look at the bucket in a browser.
func contentType(name string) string {
	switch path.Ext(name) {
	case ".json":
		return "application/json"
	case ".parquet":
		return "application/vnd.apache.parquet"
	case ".sql":
		return "text/plain; charset=utf-8"
	default:
		return "application/octet-stream"
	}
}

// tracked tells that content arrives, and keeps the error of writing it apart
// from that of reading it.
type tracked struct {
	w     io.Writer
	alive func()
	err   error
}

func (t *tracked) Write(p []byte) (int, error) {
	t.alive()
	n, err := t.w.Write(p)
	if err != nil {
		t.err = err
	}
	return n, err
}

// limited refuses what does not belong in memory.
type limited struct {
	w    io.Writer
	left int64
}

func (l *limited) Write(p []byte) (int, error) {
	if l.left -= int64(len(p)); l.left < 0 {
		return 0, fmt.Errorf("it has more than %d bytes", int64(mostInMemory))
	}
	return l.w.Write(p)
}
