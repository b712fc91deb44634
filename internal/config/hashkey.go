package config

import "github.com/sluice-etl/sluice/schemas"

const hashKeyPath = "pipelines.*.hash_key"

// variable is the environment's variable that a secret is usually taken from.
func (k Key) variable() string {
	switch k.Path {
	case hashKeyPath:
		return "SLUICE_HASH_KEY"
	case tokenPath:
		return "SLUICE_TOKEN"
	case heartbeatPath:
		return "HEARTBEAT_URL"
	case noticeURLPath:
		return "SLACK_URL"
	}
	return "CONTACTS_API_KEY"
}

// hashKey reads a pipeline's hash key, from the file, a variable or a file of
// its own. Whether one is needed the contract says, which is read later.
func (r *reader) hashKey(f fields, p *Pipeline) {
	f.preferOwn("hash_key", "hash_key_file")
	var text string
	name := "hash_key"
	switch {
	case f.has("hash_key") && f.has("hash_key_file"):
		r.errorf(f.keyPos["hash_key_file"], "keep one of them", "hash_key and hash_key_file are both given")
		return
	case f.has("hash_key_file"):
		var ok bool
		name = "hash_key_file"
		if text, ok = f.secretFile(name); !ok {
			return
		}
	case f.has("hash_key"):
		k, ok := f.scalar("hash_key")
		if !ok || r.unset[f.vals["hash_key"]] {
			return
		}
		if k.kind == numberKind || k.kind == boolKind {
			r.errorf(k.pos, "put quotes around it", "hash_key: expected text, got %s", f.vals["hash_key"].describe())
			return
		}
		if text = k.text; text == "" {
			r.errorf(k.pos, "set the variable that it is taken from; `openssl rand -hex 32` makes a key", "hash_key is empty")
			return
		}
	default:
		return
	}
	if len(text) < schemas.MinHashKey {
		// A shorter one can be found by trying, and every phone number with it.
		r.errorf(f.pos(name), "make one with `openssl rand -hex 32`", "%s has %d characters, at least %d are needed", name, len(text), schemas.MinHashKey)
		return
	}
	p.HashKey = NewSecret(text)
}
