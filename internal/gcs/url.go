package gcs

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
	"unicode/utf8"
)

// Scheme begins the URL of a bucket.
const Scheme = "gs://"

// bucketName is what the service allows: https://cloud.google.com/storage/docs/buckets#naming
var bucketName = regexp.MustCompile(`^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$`)

// ParseURL splits gs://bucket/prefix. The prefix has no slash at either end
// and may be empty. Characters that readers take for a pattern or a query are
// refused: what is written there could not be read back by a glob.
func ParseURL(url string) (bucket, prefix string, err error) {
	rest, ok := strings.CutPrefix(url, Scheme)
	if !ok {
		return "", "", fmt.Errorf("read URL %q: it does not begin with %s", url, Scheme)
	}
	bucket, prefix, _ = strings.Cut(rest, "/")
	if !bucketName.MatchString(bucket) {
		return "", "", fmt.Errorf("read URL %q: %q is no bucket's name (3 or more of a-z, 0-9, dash, underscore, dot)", url, bucket)
	}
	prefix = strings.TrimSuffix(prefix, "/")
	if prefix == "" {
		return bucket, "", nil
	}
	for _, part := range strings.Split(prefix, "/") {
		if part == "" || part == "." || part == ".." {
			return "", "", fmt.Errorf("read URL %q: %q is no name of a folder", url, part)
		}
	}
	if at := strings.IndexFunc(prefix, notInNames); at >= 0 || !utf8.ValidString(prefix) || len(prefix) > 512 {
		return "", "", fmt.Errorf("read URL %q: a prefix is text of up to 512 bytes without any of # ? * [ ] \\ and control characters", url)
	}
	return bucket, prefix, nil
}

func notInNames(r rune) bool { return strings.ContainsRune(`#?*[]\`, r) || unicode.IsControl(r) }

// URL names an object, or what begins with a prefix.
func URL(bucket, name string) string { return Scheme + bucket + "/" + name }
