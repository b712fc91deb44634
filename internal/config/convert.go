package config

import (
	"errors"
	"fmt"
	"io/fs"
	"math"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"
	_ "time/tzdata" // a schedule means the same on a machine without a timezone database

	"github.com/robfig/cron/v3"

	"github.com/sluice-etl/sluice/internal/diag"
	"github.com/sluice-etl/sluice/internal/gcs"
)

// ParseDuration reads a duration: Go's units and d (24 hours) and w (7 days),
// as in 90s, 1h30m, 7d, 1w2d. It is not negative.
func ParseDuration(s string) (time.Duration, error) {
	bad := fmt.Errorf("%s is not a duration such as 90s, 1h30m or 7d", quote(s))
	if s == "0" {
		return 0, nil
	}
	var total float64
	for rest := s; rest != ""; {
		n := strings.IndexFunc(rest, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })
		if n <= 0 {
			return 0, bad
		}
		number, err := strconv.ParseFloat(rest[:n], 64)
		if err != nil {
			return 0, bad
		}
		rest = rest[n:]
		u := len(rest)
		if i := strings.IndexAny(rest, "0123456789."); i >= 0 {
			u = i
		}
		unit, ok := durationUnit(rest[:u])
		if !ok {
			return 0, bad
		}
		total += number * float64(unit)
		rest = rest[u:]
	}
	if s == "" || total >= math.MaxInt64 {
		return 0, bad
	}
	return time.Duration(math.Round(total)), nil
}

func durationUnit(u string) (time.Duration, bool) {
	switch u {
	case "ns":
		return time.Nanosecond, true
	case "us", "µs", "μs":
		return time.Microsecond, true
	case "ms":
		return time.Millisecond, true
	case "s":
		return time.Second, true
	case "m":
		return time.Minute, true
	case "h":
		return time.Hour, true
	case "d":
		return 24 * time.Hour, true
	case "w":
		return 7 * 24 * time.Hour, true
	default:
		return 0, false
	}
}

// duration returns a duration within the table's range.
func (f fields) duration(name string) time.Duration {
	s, ok := f.scalar(name)
	if !ok {
		return 0
	}
	k := f.key(name)
	if s.kind == numberKind && s.text != "0" {
		f.r.errorf(s.pos, "did you mean "+s.text+k.likelyUnit(s.text)+"? units: ms, s, m, h, d, w", "%s: %s has no unit", name, s.shown)
		return 0
	}
	d, err := ParseDuration(s.text)
	if err != nil {
		f.r.errorf(s.pos, k.hint()+"; units: ms, s, m, h, d, w", "%s: expected %s, got %s", name, k.Type.expects(), s.shown)
		return 0
	}
	if !within(float64(d), k.Min, k.Max, parseBound) {
		f.r.errorf(s.pos, k.hint(), "%s is out of range: %s", name, s.shown)
	}
	return d
}

// likelyUnit is the one that a bare number is meant in: seconds, or what makes
// it a value that is allowed.
func (k Key) likelyUnit(number string) string {
	for _, unit := range []string{"s", "d", "h", "m"} {
		if d, err := ParseDuration(number + unit); err == nil && within(float64(d), k.Min, k.Max, parseBound) {
			return unit
		}
	}
	return "s"
}

// leastShare and 100% bound a share.
const leastShare = "0.0001%"

// ParseShare reads a percentage from 0.0001% to 100%, as in 1% or 0.5%, as a
// share of 1.
func ParseShare(s string) (float64, error) {
	share, ok := parsePercent(s)
	if !ok {
		return 0, fmt.Errorf("%s is not a percentage such as 1%% or 0.5%%", quote(s))
	}
	if !within(share, leastShare, "100%", percentBound) {
		return 0, fmt.Errorf("%s is out of range, allowed are %s to 100%%", s, leastShare)
	}
	return share, nil
}

func parsePercent(s string) (share float64, ok bool) {
	number, percent := strings.CutSuffix(s, "%")
	n, err := strconv.ParseFloat(number, 64)
	return n / 100, percent && err == nil && strings.Trim(number, "0123456789.") == ""
}

// share returns a percentage within the table's range, as a share of 1.
func (f fields) share(name string) float64 {
	s, ok := f.scalar(name)
	if !ok {
		return 0
	}
	k := f.key(name)
	n, ok := parsePercent(s.text)
	if !ok {
		hint := k.hint()
		if s.kind == numberKind {
			hint = "write a percent sign: 1% is one in a hundred"
		}
		f.r.errorf(s.pos, hint, "%s: expected %s, got %s", name, k.Type.expects(), s.shown)
		return 0
	}
	if !within(n, k.Min, k.Max, percentBound) {
		f.r.errorf(s.pos, k.hint(), "%s is out of range: %s", name, s.shown)
	}
	return n
}

// percentBound reads a percentage of the key table.
func percentBound(s string) float64 {
	n, ok := parsePercent(s)
	if !ok {
		panic("config: bound " + s + " in the key table is no percentage")
	}
	return n
}

// ParseSize reads a size in bytes: a decimal number and B, KB, MB, GB or TB
// (1000, 1000², ...) or KiB, MiB, GiB or TiB (1024, 1024², ...), as in 512MB or
// 1.5GiB. It comes to whole bytes and is not negative.
func ParseSize(s string) (int64, error) {
	number := strings.TrimRight(s, "BKMGTi")
	unit, known := sizeUnit(s[len(number):])
	n, ok := new(big.Rat).SetString(number)
	if !known || !ok || strings.Trim(number, "0123456789.") != "" {
		return 0, fmt.Errorf("%s is not a size such as 512MB or 10GiB", quote(s))
	}
	n.Mul(n, new(big.Rat).SetInt64(unit))
	if !n.IsInt() || !n.Num().IsInt64() {
		return 0, fmt.Errorf("%s is not a whole number of bytes, or too many", quote(s))
	}
	return n.Num().Int64(), nil
}

func sizeUnit(u string) (int64, bool) {
	if u == "B" {
		return 1, true
	}
	prefix, base := strings.TrimSuffix(u, "B"), int64(1000)
	if p, binary := strings.CutSuffix(prefix, "i"); binary {
		prefix, base = p, 1024
	}
	power := strings.Index("KMGT", prefix)
	if !strings.HasSuffix(u, "B") || len(prefix) != 1 || power < 0 {
		return 0, false
	}
	unit := base
	for range power {
		unit *= base
	}
	return unit, true
}

const sizeUnits = " units: KB, MB, GB, TB (thousands), KiB, MiB, GiB, TiB (1024s)"

// size returns a size within the table's range, in bytes.
func (f fields) size(name string) int64 {
	s, ok := f.scalar(name)
	if !ok {
		return 0
	}
	k := f.key(name)
	n, err := ParseSize(s.text)
	if err != nil {
		hint := k.hint() + ";"
		if s.kind == numberKind && !s.env {
			hint = "did you mean " + s.text + "MB?"
		}
		f.r.errorf(s.pos, hint+sizeUnits, "%s: expected %s, got %s", name, k.Type.expects(), s.shown)
		return 0
	}
	if !within(float64(n), k.Min, k.Max, sizeBound) {
		f.r.errorf(s.pos, k.hint(), "%s is out of range: %s", name, s.shown)
	}
	return n
}

// sizeBound reads a size of the key table.
func sizeBound(s string) float64 {
	n, err := ParseSize(s)
	if err != nil {
		panic("config: bound in the key table: " + err.Error())
	}
	return float64(n)
}

// parseBound reads a duration of the key table.
func parseBound(s string) float64 {
	d, err := ParseDuration(s)
	if err != nil {
		panic("config: bound in the key table: " + err.Error())
	}
	return float64(d)
}

// name returns a key whose value is a name.
func (f fields) name(key string) (string, bool) {
	s, ok := f.text(key)
	if !ok {
		return "", false
	}
	if !validName(s) {
		f.r.errorf(f.pos(key), nameHint, "%s: %s is not a name", key, f.shown(key))
		return "", false
	}
	return s, true
}

// shown is how a message may call the value of a key.
func (f fields) shown(key string) string {
	if v := f.vals[key]; v != nil {
		return shown(v)
	}
	return quote(f.key(key).Default)
}

const nameHint = "a name begins with a-z and has a-z, 0-9 and _, at most 63"

func validName(s string) bool {
	if s == "" || len(s) > 63 || s[0] < 'a' || s[0] > 'z' {
		return false
	}
	return strings.Trim(s, "abcdefghijklmnopqrstuvwxyz0123456789_") == ""
}

// nameFor turns what was written into a name that would do, "" if nothing is left.
func nameFor(s string) string {
	s = strings.Trim(strings.Map(func(r rune) rune {
		if 'a' <= r && r <= 'z' || '0' <= r && r <= '9' {
			return r
		}
		return '_'
	}, strings.ToLower(s)), "_")
	if !validName(s) {
		return ""
	}
	return s
}

// each returns the items of a key that takes a list or one value. Every item
// is a scalar; faults are reported.
func (f fields) each(name string) []scalar {
	k, v := f.key(name), f.vals[name]
	if v == nil || v.kind == nullKind {
		if k.Required {
			f.missing(name, "[...]")
		}
		return nil
	}
	items := []*value{v}
	if v.kind == sequenceKind {
		items = v.items
	}
	if len(items) == 0 {
		f.r.errorf(v.pos, "name at least one", "%s is empty", name)
	}
	var out []scalar
	seen := map[string]bool{}
	for _, item := range items {
		s, ok := f.r.fill(item, k)
		if !ok {
			continue
		}
		switch {
		case s.text == "":
			f.r.errorf(s.pos, k.hint(), "%s: this is empty", name)
		case k.Type != BooleansType && k.Type != UUIDsType && (s.kind == numberKind || s.kind == boolKind):
			f.r.errorf(s.pos, "put quotes around it", "%s: expected text, got %s", name, item.describe())
		case seen[s.text]:
			f.r.errorf(s.pos, "", "%s: %s is given twice", name, s.shown)
		default:
			out = append(out, s)
		}
		seen[s.text] = true
	}
	return out
}

// path returns a path as given and absolute, from the file's directory on.
func (f fields) path(name string) (given, abs string) {
	s, ok := f.text(name)
	if !ok {
		return "", ""
	}
	if strings.Contains(s, "://") {
		hint := "write a path, absolute or relative to " + f.r.file
		if strings.HasPrefix(s, gcs.Scheme) {
			hint += "; type: parquet and state can be at gs://"
		}
		f.r.errorf(f.pos(name), hint, "%s: %s is not a path on this machine", name, f.shown(name))
		return "", ""
	}
	return s, f.r.resolve(s)
}

// bucket returns a gs:// URL as given, and without a slash at its end.
func (f fields) bucket(name string) (given, url string) {
	s, ok := f.text(name)
	if !ok {
		return "", ""
	}
	bucket, prefix, err := gcs.ParseURL(s)
	if err != nil {
		f.r.errorf(f.pos(name), "write gs://BUCKET/PREFIX; a bucket's name has 3 or more of a-z, 0-9, dash, underscore and dot, and a prefix none of # ? * [ ] \\", "%s: %s is not the URL of a place in a bucket", name, f.shown(name))
		return "", ""
	}
	return s, strings.TrimSuffix(gcs.URL(bucket, prefix), "/")
}

func (r *reader) resolve(path string) string {
	if filepath.IsAbs(path) {
		return filepath.Clean(path)
	}
	return filepath.Join(r.dir, path)
}

// maxKeyFile is the most that a key file may hold, in bytes.
const maxKeyFile = 64 << 10

// secretFile reads the key that a file holds.
func (f fields) secretFile(name string) (text string, ok bool) {
	given, path := f.path(name)
	if given == "" {
		return "", false
	}
	info, err := os.Stat(path)
	if err == nil && (!info.Mode().IsRegular() || info.Size() > maxKeyFile) {
		err = errors.New("it is not a file of one line")
	}
	var data []byte
	if err == nil {
		data, err = os.ReadFile(path)
	}
	if err != nil {
		f.r.errorf(f.pos(name), "relative paths start at the directory of "+f.r.file, "read %s: %s", name, cause(err))
		return "", false
	}
	text = strings.TrimRight(string(data), "\r\n")
	f.r.noteSecret(text)
	if text == "" {
		f.r.errorf(f.pos(name), "write the key into it, on one line", "%s names an empty file", name)
	}
	return text, text != ""
}

// cause is a file error without the path, which the reader sees in the file.
func cause(err error) string {
	var p *fs.PathError
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return "there is no such file" // the same words on every system
	case errors.As(err, &p):
		return p.Err.Error()
	default:
		return err.Error()
	}
}

// timezone returns a key's IANA timezone.
func (f fields) timezone(name string) *time.Location {
	s, ok := f.text(name)
	if !ok {
		return time.UTC
	}
	loc, err := time.LoadLocation(s)
	unstable := slices.Contains([]string{"Local", "localtime", "Factory", "posixrules"}, s) ||
		strings.HasPrefix(s, "right/") || strings.HasPrefix(s, "posix/") // right/ counts leap seconds
	if err == nil && !unstable {
		return loc
	}
	hint := "write an IANA name such as UTC or America/Santiago"
	if near := diag.Suggest(s, zones()); near != "" {
		hint = "did you mean " + quote(near) + "? " + hint
	}
	f.r.errorf(f.pos(name), hint, "%s: unknown timezone %s", name, f.shown(name))
	return time.UTC
}

// schedule returns a key's cron schedule in the timezone, nil where there is
// none.
func (f fields) schedule(name string, loc *time.Location) (string, cron.Schedule) {
	spec, ok := f.text(name)
	if !ok {
		return "", nil
	}
	hint := f.key(name).hint() + "; five fields: minute, hour, day of month, month, day of week"
	fail := func(why string) (string, cron.Schedule) {
		if f.vals[name] != nil && f.vals[name].text != spec {
			why = "it cannot be read" // the parser quotes what a variable held
		}
		f.r.errorf(f.pos(name), hint, "%s: %s: %s", name, f.shown(name), why)
		return "", nil
	}
	if strings.Contains(spec, "TZ=") {
		hint = "use the key timezone"
		return fail("a timezone does not belong into it")
	}
	if every, ok := strings.CutPrefix(spec, "@every "); ok {
		d, err := ParseDuration(strings.TrimSpace(every))
		if err != nil || d < time.Second {
			return fail("@every needs a duration of at least a second")
		}
		return spec, cron.Every(d)
	}
	s, err := parseCron(spec, loc)
	if err != nil {
		return fail(err.Error())
	}
	// Any start does: what comes round at all does so within a leap cycle.
	if s.Next(time.Date(2024, 1, 1, 0, 0, 0, 0, loc)).IsZero() {
		return fail("that moment never comes")
	}
	return spec, s
}

// parseCron keeps a panic of the library, which odd specs cause, from ending
// the program.
func parseCron(spec string, loc *time.Location) (s cron.Schedule, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = errors.New("it cannot be read")
		}
	}()
	return cron.ParseStandard("CRON_TZ=" + loc.String() + " " + spec)
}
