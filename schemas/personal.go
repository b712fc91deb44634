package schemas

import (
	"bytes"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"hash"
	"log/slog"
	"sync"
	"unicode"
	"unicode/utf8"

	"golang.org/x/text/unicode/norm"
)

// MinHashKey is the shortest secret of a HashKey, in bytes: as long as the
// hash itself, which RFC 2104 section 3 asks for. A shorter one can be found
// by trying, and with it every phone number that was hashed.
const MinHashKey = 32

// hashKeyLabel is what ID is the hash of. It may never change: ids are stored.
const hashKeyLabel = "sluice hash key id"

// HashedAccount is what a client_id that the contract hashes begins with where
// accounts are told apart; the key's id, a colon and the hash follow it.
const HashedAccount = "hmac-sha256:"

const hiddenKey = "(redacted)"

// HashKey is the key of policy hash. No way of printing or encoding it shows
// the secret; it is safe for concurrent use.
type HashKey struct {
	id   string
	pool *sync.Pool // of hash.Hash, each keyed
}

var (
	_ fmt.Formatter  = (*HashKey)(nil)
	_ fmt.Stringer   = (*HashKey)(nil)
	_ fmt.GoStringer = (*HashKey)(nil)
	_ slog.LogValuer = (*HashKey)(nil)
)

// NewHashKey makes a key of a secret, whose bytes are taken as they are: the
// text of a variable is not decoded. Fewer than MinHashKey bytes are a
// *HashKeyError.
func NewHashKey(secret []byte) (*HashKey, error) {
	if len(secret) < MinHashKey {
		return nil, &HashKeyError{Bytes: len(secret)}
	}
	return newHashKey(secret), nil
}

func newHashKey(secret []byte) *HashKey {
	own := bytes.Clone(secret)
	k := &HashKey{pool: &sync.Pool{New: func() any { return hmac.New(sha256.New, own) }}}
	k.id = string(k.sum(nil, []byte(hashKeyLabel))[:16])
	return k
}

// ID tells keys apart and gives nothing of them away: 16 hexadecimal digits of
// a hash under the key. It is stored beside the hashes; that of nil is empty.
func (k *HashKey) ID() string {
	if k == nil {
		return ""
	}
	return k.id
}

// sum appends the keyed hash of text to dst: HMAC-SHA256 (RFC 2104) as 64
// hexadecimal digits. This is a stored format, which may never change.
func (k *HashKey) sum(dst, text []byte) []byte {
	h := k.pool.Get().(hash.Hash) //nolint:forcetypeassert // the pool's own
	defer k.pool.Put(h)
	h.Reset()
	h.Write(text)
	var out [sha256.Size]byte
	return hex.AppendEncode(dst, h.Sum(out[:0]))
}

// String returns "(redacted)".
func (*HashKey) String() string { return hiddenKey }

// GoString returns "(redacted)".
func (*HashKey) GoString() string { return hiddenKey }

// Format writes "(redacted)" for every verb.
func (*HashKey) Format(f fmt.State, _ rune) { _, _ = f.Write([]byte(hiddenKey)) }

// LogValue returns "(redacted)".
func (*HashKey) LogValue() slog.Value { return slog.StringValue(hiddenKey) }

// MarshalText returns "(redacted)"; JSON and YAML use it.
func (*HashKey) MarshalText() ([]byte, error) { return []byte(hiddenKey), nil }

// HashKeyError is a secret that is too short to be a HashKey.
type HashKeyError struct{ Bytes int }

func (e *HashKeyError) Error() string {
	return fmt.Sprintf("the hash key has %d bytes, at least %d are needed", e.Bytes, MinHashKey)
}

// Hint says where a good one comes from.
func (e *HashKeyError) Hint() string {
	return "make one with `openssl rand -hex 32`, and keep it: another key gives other hashes"
}

// Protect appends what policy p stores of a value's text, brought to form n
// first: the text as it is (Keep), its hash under key (Hash), a trace of it
// (Mask), or nothing (Drop). Text that is empty, or of which the form leaves
// nothing, becomes the empty text under any policy: it says nothing of
// anybody, and that a value is missing has to stay visible. key is needed for
// Hash alone.
func (p Policy) Protect(dst, text []byte, n Normal, key *HashKey) []byte {
	switch p {
	case Keep:
		return append(dst, text...)
	case Hash:
		if text = n.apply(text); len(text) > 0 {
			dst = key.sum(dst, text)
		}
		return dst
	case Mask:
		if text = n.apply(text); len(text) > 0 {
			dst = n.mask(dst, text)
		}
		return dst
	default:
		return dst
	}
}

// apply returns text in the form. Each form gives itself again for what it
// gave.
func (n Normal) apply(text []byte) []byte {
	switch n {
	case Text:
		return plainText(text)
	case Email:
		// Lower case can take a composed letter apart (U+0130), hence twice.
		return plainText(bytes.ToLower(plainText(text)))
	case Phone:
		return phoneDigits(text)
	default:
		return text
	}
}

func plainText(text []byte) []byte { return bytes.TrimSpace(norm.NFC.Bytes(text)) }

// phoneDigits returns the digits of a phone number, those of other scripts as
// 0 to 9, and without the prefix 00 that some write for +. Text without any
// digit is no number, and stays as text, so that two such are not taken for
// one number.
func phoneDigits(text []byte) []byte {
	var digits []byte
	for _, r := range string(norm.NFKC.Bytes(text)) {
		if d, ok := digit(r); ok {
			digits = append(digits, d)
		}
	}
	if len(digits) == 0 {
		return plainText(text)
	}
	for len(digits) > 2 && digits[0] == '0' && digits[1] == '0' {
		digits = digits[2:]
	}
	return digits
}

// digit returns a decimal digit of any script as one of 0 to 9. Unicode keeps
// the ten digits of a script together and in order (section 4.6), so that each
// range of them begins with a zero.
func digit(r rune) (byte, bool) {
	if r < utf8.RuneSelf {
		return byte(r), '0' <= r && r <= '9'
	}
	for _, at := range unicode.Nd.R16 {
		if lo, hi := rune(at.Lo), rune(at.Hi); lo <= r && r <= hi {
			return '0' + byte((r-lo)%10), true
		}
	}
	for _, at := range unicode.Nd.R32 {
		if lo, hi := rune(at.Lo), rune(at.Hi); lo <= r && r <= hi {
			return '0' + byte((r-lo)%10), true
		}
	}
	return 0, false
}

const (
	masked = "***"
	// shortPhone is how many digits a number needs to show its last two: of a
	// shorter one, an extension, they would say too much.
	shortPhone = 7
)

// mask appends a trace of text, which is in the form n and not empty.
func (n Normal) mask(dst, text []byte) []byte {
	dst = append(dst, masked...)
	switch n {
	case Email:
		if local, domain, ok := bytes.Cut(text, []byte("@")); ok && len(local) > 0 && isDomain(domain) {
			dst = append(append(dst, '@'), domain...)
		}
	case Phone:
		if len(text) >= shortPhone && onlyDigits(text) {
			dst = append(dst, text[len(text)-2:]...)
		}
	case AsIs, Text:
	}
	return dst
}

// isDomain reports whether text is a domain in lower case, and so nothing else
// that somebody wrote into a field of addresses.
func isDomain(text []byte) bool {
	const longest = 253 // RFC 1035
	if len(text) == 0 || len(text) > longest || !bytes.Contains(text, []byte(".")) {
		return false
	}
	for _, label := range bytes.Split(text, []byte(".")) {
		if len(label) == 0 || len(label) > 63 || label[0] == '-' || label[len(label)-1] == '-' || len(label) >= shortPhone && onlyDigits(label) {
			return false
		}
		for _, b := range label {
			if (b < 'a' || b > 'z') && (b < '0' || b > '9') && b != '-' {
				return false
			}
		}
	}
	return true
}

func onlyDigits(text []byte) bool {
	for _, b := range text {
		if b < '0' || b > '9' {
			return false
		}
	}
	return true
}
