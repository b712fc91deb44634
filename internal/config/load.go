package config

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/sluice-etl/sluice/internal/diag"
)

// Option changes what Load and Parse ask of a file.
type Option func(*reader)

// Offline is for commands that read what was exported and ask no source: a
// variable below sources that is not set is no fault then, and what it would
// have given is left empty in the Config and not judged. Everything else is
// judged as ever.
func Offline() Option { return func(r *reader) { r.offline = true } }

// Load reads and checks the file at path. env looks up variables, as
// os.LookupEnv does. The Config is nil where the list has errors; the list may
// hold warnings beside a Config.
func Load(path string, env func(string) (string, bool), options ...Option) (*Config, diag.List) {
	fail := func(summary, hint string) (*Config, diag.List) {
		return nil, diag.List{{Summary: summary, Hint: hint, File: path}}
	}
	abs, err := filepath.Abs(path)
	if err != nil {
		return fail(err.Error(), "")
	}
	data, err := readFile(abs)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return fail("there is no such file", "`sluice init` writes one to start from; -f FILE or SLUICE_FILE names another")
	case err != nil:
		return fail("it cannot be read: "+cause(err), "")
	}
	return Parse(path, data, filepath.Dir(abs), env, options...)
}

// readFile reads a file no further than Parse accepts.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	data, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	return data, errors.Join(err, f.Close())
}

// Parse is Load for a file's content: name is how diagnostics call it, dir is
// where relative paths start, absolute.
func Parse(name string, data []byte, dir string, env func(string) (string, bool), options ...Option) (*Config, diag.List) {
	if env == nil {
		env = func(string) (string, bool) { return "", false }
	}
	text, badLine := normalize(data)
	r := &reader{file: name, dir: dir, env: env, table: Keys(), lines: strings.Split(text, "\n"), accounts: map[string][]string{}, sharing: map[string]bool{}}
	for _, set := range options {
		set(r)
	}
	c := r.parse(text, badLine, len(data))
	masked := r.finish()
	if r.list.HasErrors() {
		return nil, r.list
	}
	c.lines = masked
	return c, r.list
}

func (r *reader) parse(text string, badLine, size int) *Config {
	root := r.yaml(text, badLine, size)
	if root == nil {
		return nil
	}
	return r.build(root)
}

// yaml reads the file as far as YAML goes, nil where it is no mapping.
func (r *reader) yaml(text string, badLine, size int) *value {
	switch {
	case size > maxFile:
		r.errorf(Pos{1, 1}, "", "the file has more than %d KiB", maxFile>>10)
		return nil
	case badLine > 0:
		r.errorf(Pos{badLine, 1}, "save it as UTF-8", "the file is not UTF-8 text")
		return nil
	}
	docs, ok := r.parseYAML(text)
	if !ok {
		return nil
	}
	if len(docs) == 0 {
		r.errorf(Pos{1, 1}, "`sluice init` writes a file to start from", "the file is empty")
		return nil
	}
	if len(docs) > 1 {
		at := r.place(docs[1].Body.GetToken())
		if docs[1].Start != nil {
			at = r.place(docs[1].Start)
		}
		r.errorf(at, "put it into one, or into a file of its own", "a second YAML document begins here")
	}
	c := &converter{r: r, anchors: map[string]*value{}}
	root := c.convert(docs[0].Body, 0)
	if root.kind != mappingKind {
		r.errorf(root.pos, "begin with version: 1", "expected a mapping of keys, got %s", root.describe())
		return nil
	}
	return root
}

// String names the place as diagnostics do.
func (p Pos) String() string { return fmt.Sprintf("%d:%d", p.Line, p.Col) }
