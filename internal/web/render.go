package web

import (
	"bytes"
	"crypto/sha256"
	"embed"
	"encoding/hex"
	"html/template"
	"net/http"
	"strings"
)

//go:embed templates/*.html
var templateFiles embed.FS

//go:embed static/page.css static/page.js static/icon.svg
var staticFiles embed.FS

// Frame is what every page has around it.
type Frame struct {
	Title     string
	Here      string // overview, plan or empty: which link of the head is this page
	FormToken string // of the page's forms
	LoggedIn  bool
	Live      string // where the page's parts come from as they change; empty: they do not
	Command   string
}

func parseTemplates() (*template.Template, error) {
	return template.New("page").Funcs(template.FuncMap{"asset": asset, "line": func(s string) string { return firstLine(s, 240) }}).ParseFS(templateFiles, "templates/*.html")
}

// asset is the address of a static file, another one once it changes.
func asset(name string) (string, error) {
	data, err := staticFiles.ReadFile("static/" + name)
	if err != nil {
		return "", err
	}
	sum := sha256.Sum256(data)
	return "/static/" + name + "?v=" + hex.EncodeToString(sum[:6]), nil
}

// static serves style, script and icon, which anybody may have.
func static(w http.ResponseWriter, r *http.Request) {
	data, err := staticFiles.ReadFile("static/" + r.PathValue("file"))
	if err != nil {
		http.NotFound(w, r)
		return
	}
	kind := "image/svg+xml"
	switch name := r.PathValue("file"); {
	case strings.HasSuffix(name, ".css"):
		kind = "text/css; charset=utf-8"
	case strings.HasSuffix(name, ".js"):
		kind = "text/javascript; charset=utf-8"
	}
	w.Header().Set("Content-Type", kind)
	w.Header().Set("Cache-Control", "public, max-age=86400")
	_, _ = w.Write(data) // the reader went away: nobody is left to tell
}

func (p *Page) frame(w http.ResponseWriter, r *http.Request, title string) Frame {
	f := Frame{Title: title, FormToken: p.formToken(w, r), Command: p.o.Command}
	f.LoggedIn = p.o.Token != "" && p.sessions.has(p.cookie(r), p.o.Clock.Now())
	return f
}

// rendered is a template with the keys taken out.
func (p *Page) rendered(name string, data any) ([]byte, error) {
	var b bytes.Buffer
	if err := p.templates.ExecuteTemplate(&b, name, data); err != nil {
		return nil, err
	}
	if p.o.Clean == nil {
		return b.Bytes(), nil
	}
	return p.o.Clean(b.Bytes()), nil
}

// render sends a page.
func (p *Page) render(w http.ResponseWriter, code int, name string, data any) {
	page, err := p.rendered(name, data)
	if err != nil {
		p.o.Log.Error("a page could not be rendered", "page", name, "error", err)
		http.Error(w, "The page could not be rendered; the log tells why.", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(code)
	_, _ = w.Write(page) // the reader went away: nobody is left to tell
}

// refusal is a page that says why there is none.
type refusal struct {
	Frame
	Message, Hint string
}

// refuse says why a request is not answered.
func (p *Page) refuse(w http.ResponseWriter, r *http.Request, code int, message, hint string) {
	p.render(w, code, "refusal", refusal{Frame: p.frame(w, r, http.StatusText(code)), Message: message, Hint: hint})
}
