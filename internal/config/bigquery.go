package config

import (
	"net"
	"net/url"
	"os"
	"regexp"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"
)

// bigQuery reads what a destination of type bigquery has of its own.
func (r *reader) bigQuery(f fields, d *Destination) {
	r.endpoints(f, d)
	d.Project = r.project(f, f.has("endpoint") || f.has("grpc_endpoint"))
	d.Dataset = f.matching("dataset", datasetPattern, "the id of a dataset", "a dataset has letters, digits and underscores, at most 1024; the project has a key of its own")
	if f.has("location") {
		d.Location = f.matching("location", locationPattern, "a location", "write a region or multi-region such as US, EU or southamerica-west1")
	}
	d.Method, _ = f.text("method")
	d.CreateDataset = f.boolean("create_dataset")
	d.Labels = f.labels("labels")
	d.PricePerTiB = f.number("price_per_tib")
	if f.has("maximum_bytes_billed") {
		d.MaximumBytesBilled = f.size("maximum_bytes_billed")
	}
	if d.Method != "" && d.Method != MethodCDC {
		f.dropInherited("max_staleness")
	}
	if f.has("max_staleness") {
		d.MaxStaleness = f.duration("max_staleness")
		if d.Method != "" && d.Method != MethodCDC {
			r.errorf(f.keyPos["max_staleness"], "leave it out, or write method: cdc", "max_staleness does not go with method: %s", d.Method)
		}
	}
	r.identity(f, d)
}

// What identifiers look like. Projects: 6 to 30 lower-case letters, digits and
// dashes, beginning with a letter, not ending in a dash; old ones have a domain
// in front (Resource Manager, "Creating and managing projects"). Datasets:
// BigQuery, "Creating datasets", "Name datasets".
var (
	projectPattern  = regexp.MustCompile(`^(?:[a-z0-9][a-z0-9.-]*:)?[a-z][a-z0-9-]{4,28}[a-z0-9]$`)
	emulatedPattern = regexp.MustCompile(`^[A-Za-z0-9_.:-]+$`)
	datasetPattern  = regexp.MustCompile(`^[A-Za-z0-9_]+$`)
	locationPattern = regexp.MustCompile(`^[A-Za-z]+(?:-[A-Za-z0-9]+)*$`)
	accountPattern  = regexp.MustCompile(`^[A-Za-z0-9._-]+@[a-z0-9.-]+\.gserviceaccount\.com$`)
	hostPattern     = regexp.MustCompile(`^(?:[A-Za-z0-9_.-]+|\[[0-9A-Fa-f:.]+\]):[0-9]+$`)
)

// maxIdentifier is the length of a dataset's id, the longest of them.
const maxIdentifier = 1024

// matching returns a text of a pattern.
func (f fields) matching(name string, pattern *regexp.Regexp, what, hint string) string {
	s, ok := f.text(name)
	if !ok {
		return ""
	}
	if !pattern.MatchString(s) || len(s) > maxIdentifier {
		f.r.errorf(f.pos(name), hint, "%s: %s is not %s", name, f.shown(name), what)
		return ""
	}
	return s
}

// project reads the id of a project; an emulator has projects of any name.
func (r *reader) project(f fields, emulated bool) string {
	if emulated {
		return f.matching("project", emulatedPattern, "the id of a project", "write letters, digits, dashes and underscores")
	}
	return f.matching("project", projectPattern, "the id of a project", "write the id, not the name or the number: 6 to 30 of a-z, 0-9 and dash, beginning with a letter; `gcloud projects list` has it")
}

// endpoints reads where an emulator is.
func (r *reader) endpoints(f fields, d *Destination) {
	const rest, grpc = "endpoint", "grpc_endpoint"
	for _, pair := range [][2]string{{rest, grpc}, {grpc, rest}} {
		if f.has(pair[0]) && !f.has(pair[1]) && !f.partial {
			r.errorf(f.keyPos[pair[0]], "add "+pair[1]+", or leave out both: rows and statements have to meet in one place", "%s needs %s", pair[0], pair[1])
		}
	}
	if text, ok := f.text(rest); ok {
		u, err := url.Parse(text)
		if err != nil || u.Scheme != schemeHTTP || u.Hostname() == "" || u.User != nil || strings.Trim(u.Path, "/") != "" || u.RawQuery != "" || u.ForceQuery || u.Fragment != "" {
			r.errorf(f.pos(rest), "write http://HOST:PORT", "endpoint is not the address of an emulator")
		} else {
			d.Endpoint = schemeHTTP + "://" + u.Host
			r.remoteEmulator(f, rest, u.Hostname())
		}
	}
	if text := f.matching(grpc, hostPattern, "the address of an emulator", "write HOST:PORT, without a scheme"); text != "" {
		host, port, err := net.SplitHostPort(text)
		if n, bad := strconv.Atoi(port); err != nil || bad != nil || n < 1 || n > 65535 {
			r.errorf(f.pos(grpc), "write HOST:PORT, without a scheme", "grpc_endpoint has no port")
			return
		}
		d.GRPCEndpoint = text
		r.remoteEmulator(f, grpc, host)
	}
}

func (r *reader) remoteEmulator(f fields, name, host string) {
	if !loopback(host) {
		r.warnf(f.pos(name), "for Google's service leave endpoint and grpc_endpoint out", "%s sends contacts to another host, unencrypted and without a login", name)
	}
}

// identity reads as whom the destination is written.
func (r *reader) identity(f fields, d *Destination) {
	emulated := f.has("endpoint") || f.has("grpc_endpoint")
	for _, name := range []string{"key_file", "impersonate"} {
		if emulated && f.has(name) {
			r.errorf(f.keyPos[name], "leave it out: an emulator has no login", "%s does not go with endpoint", name)
			return
		}
	}
	if f.has("key_file") {
		_, d.KeyFile = f.path("key_file")
		if info, err := os.Stat(d.KeyFile); d.KeyFile != "" && !r.offline && (err != nil || !info.Mode().IsRegular()) {
			why := "it is not a file"
			if err != nil {
				why = cause(err)
			}
			r.errorf(f.pos("key_file"), "relative paths start at the directory of "+r.file+"; leave key_file out for Google's default chain", "read key_file: %s", why)
		}
	}
	d.Impersonate = f.matching("impersonate", accountPattern, "a service account", "write its address, NAME@PROJECT.iam.gserviceaccount.com")
}

// Bounds of labels (BigQuery, "Introduction to labels", "Requirements for
// labels"), less those that Sluice sets itself.
const (
	maxLabels   = 64 - 8
	maxLabel    = 63 // characters
	ownLabels   = "sluice"
	labelsAllow = "lower-case letters, digits, underscores and dashes, at most 63"
)

// labels reads a mapping from labels to their values.
func (f fields) labels(name string) map[string]string {
	v := f.vals[name]
	if v == nil || v.kind == nullKind || v.kind == badKind {
		return nil
	}
	k := f.key(name)
	if v.kind != mappingKind {
		f.r.errorf(v.pos, "write KEY: VALUE", "%s: expected %s, got %s", name, k.Type.expects(), v.describe())
		return nil
	}
	if len(v.entries) > maxLabels {
		f.r.errorf(v.pos, "a table has at most 64, and some are taken", "%s: there are more than %d", name, maxLabels)
	}
	out := map[string]string{}
	for _, e := range v.entries {
		first, _ := utf8.DecodeRuneInString(e.key)
		switch {
		case !labelText(e.key) || !unicode.IsLetter(first):
			f.r.errorf(e.keyPos, "a label begins with a letter and has "+labelsAllow, "%s: %s cannot be a label", name, quote(e.key))
		case strings.HasPrefix(e.key, ownLabels):
			f.r.errorf(e.keyPos, "choose another name", "%s: %s begins as the labels that sluice sets itself", name, quote(e.key))
		}
		s, ok := f.r.fill(e.val, Key{Path: k.Path, Type: TextType})
		switch {
		case !ok:
		case s.kind == numberKind || s.kind == boolKind:
			f.r.errorf(s.pos, "put quotes around it", "%s: expected text, got %s", name, e.val.describe())
		case !labelText(s.text) && s.text != "":
			f.r.errorf(s.pos, "a label's value has "+labelsAllow, "%s: %s cannot be the value of a label", name, s.shown)
		default:
			out[e.key] = s.text
		}
	}
	return out
}

// labelText reports whether s may be a label or its value: letters of any
// script, those that have a case in lower case.
func labelText(s string) bool {
	if s == "" || utf8.RuneCountInString(s) > maxLabel {
		return false
	}
	for _, c := range s {
		letter := unicode.IsLetter(c) && !unicode.IsUpper(c) && !unicode.IsTitle(c) || unicode.IsMark(c)
		if !letter && !unicode.IsDigit(c) && c != '_' && c != '-' {
			return false
		}
	}
	return true
}
