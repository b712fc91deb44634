package config

import "strings"

// refused is a value that the format knows and this version does not take. To
// lift a refusal, delete its line.
type refused struct {
	path  string
	value string // one that ends in "://" refuses what begins so
	use   string // what is available instead
}

// notYet lists everything that later versions bring.
func notYet() []refused {
	return nil
}

// refusal says whether the value of the key at path is refused, and what to
// say of it.
func refusal(path, value string) (message, hint string, later bool) {
	name := path[strings.LastIndexByte(path, '.')+1:]
	for _, r := range notYet() {
		switch {
		case r.path != path:
		case strings.HasSuffix(r.value, "://") && strings.HasPrefix(value, r.value):
			return name + ": " + r.value + " is not available in this version", r.use, true
		case r.value == value:
			return name + ": " + r.value + " is not available in this version", r.use, true
		}
	}
	return "", "", false
}
