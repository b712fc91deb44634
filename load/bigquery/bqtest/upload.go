package bqtest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"mime/multipart"
	"net/http"
	"strconv"
	"strings"

	bq "google.golang.org/api/bigquery/v2"
)

// upload is a resumable upload that is under way.
type upload struct {
	job  *bq.Job
	raw  json.RawMessage
	data []byte
}

func base64Bytes(s string) (any, error) {
	b, err := base64.StdEncoding.DecodeString(s)
	if err != nil {
		return nil, invalid("Invalid BYTES value: %v", err)
	}
	return b, nil
}

// startUpload takes a multipart upload whole, or opens a resumable one ("Upload
// data": uploadType multipart and resumable).
func (s *Server) startUpload(w http.ResponseWriter, r *http.Request) {
	if r.URL.Query().Get("upload_id") != "" { // the Go client sends chunks by POST
		s.continueUpload(w, r)
		return
	}
	if r.URL.Query().Get("uploadType") == "multipart" {
		s.serve("jobs.insert", s.multipartUpload)(w, r)
		return
	}
	s.serve("jobs.insert.upload", func(_ context.Context, r *http.Request) (any, error) {
		if r.URL.Query().Get("uploadType") != "resumable" {
			return nil, unknown("uploadType %q", r.URL.Query().Get("uploadType"))
		}
		u := &upload{job: &bq.Job{}}
		fields, err := readJSON(r.Body, u.job, jobFields...)
		if err != nil {
			return nil, err
		}
		u.raw = fields["configuration"]
		s.mu.Lock()
		id := strconv.FormatInt(s.nextSerial(), 10)
		s.uploads[id] = u
		s.mu.Unlock()
		w.Header().Set("Location", s.URL()+"/upload/bigquery/v2/projects/"+s.opts.Project+"/jobs?uploadType=resumable&upload_id="+id)
		return map[string]any{}, nil
	})(w, r)
}

// multipartUpload reads a job and its media from one body.
func (s *Server) multipartUpload(ctx context.Context, r *http.Request) (any, error) {
	kind, params, err := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if err != nil || kind != "multipart/related" {
		return nil, invalid("Content-Type of a multipart upload is %q", r.Header.Get("Content-Type"))
	}
	parts := multipart.NewReader(r.Body, params["boundary"])
	first, err := parts.NextPart()
	if err != nil {
		return nil, invalid("read upload: %v", err)
	}
	body := &bq.Job{}
	fields, err := readJSON(first, body, jobFields...)
	if err != nil {
		return nil, err
	}
	second, err := parts.NextPart()
	if err != nil {
		return nil, invalid("read upload: %v", err)
	}
	media, err := io.ReadAll(second)
	if err != nil {
		return nil, invalid("read upload: %v", err)
	}
	return s.submit(ctx, body, fields["configuration"], nonNil(media))
}

func nonNil(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}

// continueUpload takes a chunk of a resumable upload. All but the last have 308
// as answer, with what has arrived in Range; the last starts the job.
func (s *Server) continueUpload(w http.ResponseWriter, r *http.Request) {
	id := r.URL.Query().Get("upload_id")
	s.mu.Lock()
	u := s.uploads[id]
	s.mu.Unlock()
	if u == nil {
		writeError(w, notFound("Upload", id))
		return
	}
	chunk, err := io.ReadAll(r.Body)
	if err != nil {
		writeError(w, invalid("read upload: %v", err))
		return
	}
	last, err := u.add(r.Header.Get("Content-Range"), chunk)
	if err != nil {
		writeError(w, err)
		return
	}
	if !last {
		if len(u.data) > 0 {
			w.Header().Set("Range", fmt.Sprintf("bytes=0-%d", len(u.data)-1))
		}
		// The client asks for 200 with this header in the place of 308.
		if r.Header.Get("X-GUploader-No-308") == "yes" {
			w.Header().Set("X-Http-Status-Code-Override", "308")
			w.WriteHeader(http.StatusOK)
			return
		}
		w.WriteHeader(http.StatusPermanentRedirect)
		return
	}
	s.serve("jobs.insert", func(ctx context.Context, _ *http.Request) (any, error) {
		s.mu.Lock()
		delete(s.uploads, id)
		s.mu.Unlock()
		return s.submit(ctx, u.job, u.raw, nonNil(u.data))
	})(w, r)
}

// add appends a chunk: Content-Range is bytes first-last/total, * for what is
// not known.
func (u *upload) add(header string, chunk []byte) (last bool, err error) {
	bad := invalid("Content-Range %q does not fit: %d bytes are there", header, len(u.data))
	if header == "" {
		u.data = bytes.Clone(chunk)
		return true, nil
	}
	span, total, ok := strings.Cut(strings.TrimPrefix(header, "bytes "), "/")
	if !ok {
		return false, bad
	}
	if span != "*" {
		var from, to int
		if _, err := fmt.Sscanf(span, "%d-%d", &from, &to); err != nil || from != len(u.data) || to-from+1 != len(chunk) {
			return false, bad
		}
		u.data = append(u.data, chunk...)
	}
	if total == "*" {
		return false, nil
	}
	n, err := strconv.Atoi(total)
	if err != nil || n < len(u.data) {
		return false, bad
	}
	return n == len(u.data), nil
}
