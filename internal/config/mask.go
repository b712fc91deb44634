package config

import (
	"cmp"
	"regexp"
	"slices"
	"strings"
)

const (
	mask       = "******"
	sandboxKey = "sandbox"
	// minSecret is the shortest text that is masked wherever it occurs, in
	// bytes. A shorter one would blank out unrelated words; where it is the
	// value of a key, maskLines hides it all the same.
	minSecret = 4
	// maxMasked is the longest line that is looked through for secrets, in
	// bytes. A longer one is not shown.
	maxMasked = 4096
)

// noteSecret remembers a text that no output may hold.
func (r *reader) noteSecret(s string) {
	for _, part := range append(strings.Fields(s), strings.TrimSpace(s)) {
		if len(part) >= minSecret && part != sandboxKey {
			r.secrets = append(r.secrets, part)
		}
	}
}

// longestFirst orders secrets so that one that holds another is hidden whole.
func longestFirst(secrets []string) {
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
}

// maskText hides every secret in a text.
func maskText(s string, secrets []string) string {
	for _, secret := range secrets {
		s = strings.ReplaceAll(s, secret, mask)
	}
	return s
}

var (
	// secretKey is a key whose name says that its value is secret, misspelt
	// ones included: a snippet may show a line whose key nobody knows.
	secretKey = regexp.MustCompile(`(?i)[\w-]*(?:key|token|secret|passw|credential|auth|bearer)[\w-]*["']?\s*[:=]`)
	// harmless is a value that holds no secret: a variable without a default,
	// or with the sandbox's.
	harmless = regexp.MustCompile(`^\s*["']?(?:\$\{\w+(?::-(?:sandbox)?)?\}|sandbox)["']?\s*(?:[,}#].*)?$`)
	// notSecret are keys that look so and are not.
	notSecret = regexp.MustCompile(`(?i)(?:_file|custom_field_key)["']?\s*[:=]$`)
	userInfo  = regexp.MustCompile(`://[^/\s"']*@`)
	// hookURL is a key whose value is a URL that is a secret: of a notice, all.
	hookURL = regexp.MustCompile(`(?:heartbeat|\burl)["']?\s*:`)
)

// Masked is a file's text with everything hidden that is, or may be, a secret.
func Masked(text string) string {
	return strings.Join(maskLines(strings.Split(text, "\n"), nil), "\n")
}

// maskLines returns the lines of a file with everything hidden that is, or may
// be, a secret: the known ones, what follows a key that sounds like one, and
// users and passwords in URLs. It works on text, because it also serves files
// that are not YAML.
func maskLines(lines, secrets []string) []string {
	out := make([]string, len(lines))
	deeper := -1 // indentation of a secret key whose value may go on below
	notices := false
	for i, line := range lines {
		indent := len(line) - len(strings.TrimLeft(line, " \t"))
		switch {
		case strings.TrimSpace(line) == "":
			out[i] = line
			continue
		case deeper >= 0 && indent > deeper:
			out[i] = line[:indent] + mask
			continue
		case len(line) > maxMasked:
			deeper = indent // nothing of it is shown, nor of what may belong to it
			continue
		}
		deeper = -1
		out[i] = line
		if indent == 0 {
			notices = strings.HasPrefix(strings.Trim(line, `"'`), "notify")
		}
		if m := hookURL.FindStringIndex(line); m != nil && (notices || strings.HasPrefix(line[m[0]:], "heartbeat")) && !harmless.MatchString(line[m[1]:]) {
			out[i], deeper = line[:m[1]]+" "+mask, indent
			continue
		}
		from := 0
		for {
			m := secretKey.FindStringIndex(line[from:])
			if m == nil {
				break
			}
			end := from + m[1]
			if notSecret.MatchString(line[from:end]) {
				from = end
				continue
			}
			deeper = indent
			if harmless.MatchString(line[end:]) {
				from = end
				continue
			}
			out[i] = line[:end] + " " + mask
			break
		}
		out[i] = userInfo.ReplaceAllString(maskText(out[i], secrets), "://"+mask+"@")
	}
	return out
}
