package schemas

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"unicode"
)

// Of the secret, by openssl.
const (
	pinnedPhone = "89b4e96c3d4293431f26b0f1a3e3c6d95d4268339011c389ed0e585396ef002e"
	pinnedID    = "a918b51e1f1f8187"
)

const testSecret = "4e7a2f0c9b8d1e6a5f3c7b2d0e9a8c6b4f1d3e5a7c9b0d2f4e6a8c1b3d5f7e90"

func testKey(t *testing.T) *HashKey {
	t.Helper()
	k, err := NewHashKey([]byte(testSecret))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestTheHashIsHMACSHA256 has the vectors of RFC 4231, section 4.
func TestTheHashIsHMACSHA256(t *testing.T) {
	for name, v := range map[string]struct{ key, data, want string }{
		"case 1": {strings.Repeat("\x0b", 20), "Hi There", "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7"},
		"case 2": {"Jefe", "what do ya want for nothing?", "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843"},
		"case 3": {strings.Repeat("\xaa", 20), strings.Repeat("\xdd", 50), "773ea91e36800e46854db8ebd09181a72959098b3ef8c122d9635514ced565fe"},
		"case 6": {strings.Repeat("\xaa", 131), "Test Using Larger Than Block-Size Key - Hash Key First", "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54"},
		"case 7": {strings.Repeat("\xaa", 131), "This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.", "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2"},
	} {
		k := newHashKey([]byte(v.key))
		for range 2 { // the second comes from a used hash
			if got := string(Hash.Protect(nil, []byte(v.data), AsIs, k)); got != v.want {
				t.Errorf("%s: %s, want %s", name, got, v.want)
			}
		}
	}
}

// TestTheHashOfOneSecretIsKept pins what is stored in tables:
// printf %s 56912345678 | openssl dgst -sha256 -hmac "$SECRET"
func TestTheHashOfOneSecretIsKept(t *testing.T) {
	k := testKey(t)
	if got := string(Hash.Protect(nil, []byte("+56 9 1234 5678"), Phone, k)); got != pinnedPhone {
		t.Errorf("the hash of a phone number is %s, want %s", got, pinnedPhone)
	}
	if got := k.ID(); got != pinnedID {
		t.Errorf("the id of the key is %s, want %s", got, pinnedID)
	}
	var none *HashKey
	if none.ID() != "" {
		t.Errorf("no key has id %s", none.ID())
	}
}

func TestSpellingsOfOneValueHaveOneHash(t *testing.T) {
	k := testKey(t)
	for _, group := range []struct {
		normal    Normal
		spellings []string
	}{
		{Phone, []string{"56912345678", "+56 9 1234 5678", "+56912345678", "0056 9 1234-5678", "(+56) 9.1234.5678", " 56912345678@c.us ", "+56 9 1234 5678", "５６９１２３４５６７８", "+٥٦ ٩ ١٢٣٤ ٥٦٧٨", "tel:+56-9-1234-5678"}},
		{Email, []string{"ana.maria@example.com", "Ana.Maria@Example.COM", "  ANA.MARIA@EXAMPLE.COM\n"}},
		{Email, []string{"jos\u00e9@example.com", "JOSE\u0301@example.com", "Jos\u00c9@EXAMPLE.com"}},
		{Text, []string{"Jos\u00e9 Pe\u00f1a", " Jose\u0301 Pen\u0303a\t"}},
	} {
		want := Hash.Protect(nil, []byte(group.spellings[0]), group.normal, k)
		for _, s := range group.spellings {
			if got := Hash.Protect(nil, []byte(s), group.normal, k); !bytes.Equal(got, want) {
				t.Errorf("%s %q has another hash than %q", group.normal, s, group.spellings[0])
			}
		}
	}
}

func TestDifferentValuesHaveDifferentHashes(t *testing.T) {
	k := testKey(t)
	other, err := NewHashKey([]byte(testSecret + "x"))
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]string{}
	for _, v := range []struct {
		normal Normal
		text   string
		key    *HashKey
	}{
		{Phone, "56912345678", k},
		{Phone, "56912345679", k},
		{Phone, "unknown", k},
		{Phone, "n/a", k},
		{Phone, "0", k},
		{Phone, "00", k},
		{Text, "Ana", k},
		{Text, "ana", k},
		{Email, "a@example.com", k},
		{Email, "b@example.com", k},
		{Phone, "56912345678", other},
		{AsIs, " Ana ", k},
	} {
		h := string(Hash.Protect(nil, []byte(v.text), v.normal, v.key))
		if before, ok := seen[h]; ok || len(h) != 64 {
			t.Errorf("%s %q: hash %q, which %q has", v.normal, v.text, h, before)
		}
		seen[h] = v.text
	}
	if k.ID() == other.ID() || len(k.ID()) != 16 {
		t.Errorf("keys have ids %q and %q", k.ID(), other.ID())
	}
}

func TestMaskLeavesATraceThatIdentifiesNobody(t *testing.T) {
	for _, c := range []struct {
		normal     Normal
		text, want string
	}{
		{Email, "Ana.Maria@Example.com", "***@example.com"},
		{Email, "ana@mail.163.com", "***@mail.163.com"},
		{Email, "ana@example", "***"},
		{Email, "ana@b@example.com", "***"},
		{Email, "@example.com", "***"},
		{Email, "ana@example.com\nluis@example.com", "***"},
		{Email, "call ana@example.com now", "***"},
		{Email, "ana@56912345678.com", "***"},
		{Email, "ana@exämple.com", "***"},
		{Email, "not an address", "***"},
		{Phone, "+56 9 1234 5678", "***78"},
		{Phone, "1234567", "***67"},
		{Phone, "123456", "***"},
		{Phone, "none of 1 digit", "***"},
		{Phone, "unknown number", "***"},
		{Text, "Ana María", "***"},
		{AsIs, "x", "***"},
	} {
		if got := string(Mask.Protect(nil, []byte(c.text), c.normal, nil)); got != c.want {
			t.Errorf("%s %q is shown as %q, want %q", c.normal, c.text, got, c.want)
		}
	}
}

func TestEmptyTextStaysEmptyUnderAnyPolicy(t *testing.T) {
	k := testKey(t)
	for _, p := range []Policy{Keep, Hash, Mask, Drop} {
		for _, n := range []Normal{AsIs, Text, Email, Phone} {
			if got := p.Protect([]byte("before:"), nil, n, k); string(got) != "before:" {
				t.Errorf("%s of %q text makes %q of nothing", p, n, got)
			}
		}
	}
	if got := Hash.Protect(nil, []byte(" \t\u00a0"), Text, k); len(got) != 0 {
		t.Errorf("space alone has hash %q", got)
	}
	if got := Keep.Protect(nil, []byte(" a "), Text, k); string(got) != " a " {
		t.Errorf("what is kept became %q", got)
	}
	if got := Drop.Protect(nil, []byte("a"), Text, k); len(got) != 0 {
		t.Errorf("what is dropped left %q", got)
	}
}

func TestAHashKeyIsLongEnough(t *testing.T) {
	for _, n := range []int{0, 1, 31} {
		_, err := NewHashKey(bytes.Repeat([]byte("k"), n))
		var short *HashKeyError
		if !errors.As(err, &short) || short.Bytes != n || !strings.Contains(short.Hint(), "openssl rand -hex 32") {
			t.Errorf("%d bytes: %v", n, err)
		}
	}
	if _, err := NewHashKey(bytes.Repeat([]byte("k"), 32)); err != nil {
		t.Error(err)
	}
}

func TestAHashKeyDoesNotFollowItsSecret(t *testing.T) {
	secret := []byte(testSecret)
	k, err := NewHashKey(secret)
	if err != nil {
		t.Fatal(err)
	}
	want := string(Hash.Protect(nil, []byte("a"), AsIs, k))
	clear(secret)
	if got := string(Hash.Protect(nil, []byte("a"), AsIs, newHashKey([]byte(testSecret)))); got != want {
		t.Error("the hash changed with the caller's memory")
	}
	k.pool = newHashKey([]byte(testSecret)).pool
	if got := string(Hash.Protect(nil, []byte("a"), AsIs, k)); got != want {
		t.Error("the hash differs between two keys of one secret")
	}
}

func TestNothingPrintsAHashKey(t *testing.T) {
	k := testKey(t)
	type holder struct {
		Key   *HashKey
		inner *HashKey
	}
	h := holder{k, k}
	var out bytes.Buffer
	for _, verb := range []string{"%v", "%+v", "%#v", "%s", "%q", "%x", "%d", "%p"} {
		fmt.Fprintf(&out, verb+"\n", k)
		fmt.Fprintf(&out, verb+"\n", h)
		fmt.Fprintf(&out, verb+"\n", &h)
	}
	fmt.Fprintf(&out, "%+v %#v\n", k.pool, k.pool)
	for _, v := range []any{k, h, map[string]any{"k": k}} {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		out.Write(b)
	}
	slog.New(slog.NewJSONHandler(&out, nil)).Info("m", "k", k, "h", h)
	slog.New(slog.NewTextHandler(&out, nil)).Info("m", "k", k, "h", h)
	for _, text := range []string{testSecret, fmt.Sprintf("%x", testSecret), testSecret[:16], "52 101 55 97 50 102"} {
		if strings.Contains(out.String(), text) {
			t.Errorf("%q was printed:\n%s", text, out.String())
		}
	}
	if !strings.Contains(out.String(), hiddenKey) {
		t.Errorf("nothing stands for the key:\n%s", out.String())
	}
}

func TestEveryRangeOfUnicodeDigitsBeginsWithAZero(t *testing.T) {
	for _, at := range unicode.Nd.R16 {
		if n := int(at.Hi-at.Lo) + 1; n%10 != 0 || at.Stride != 1 {
			t.Errorf("%U to %U", at.Lo, at.Hi)
		}
	}
	for _, at := range unicode.Nd.R32 {
		if n := int(at.Hi-at.Lo) + 1; n%10 != 0 || at.Stride != 1 {
			t.Errorf("%U to %U", at.Lo, at.Hi)
		}
	}
}

func FuzzAFormGivesItselfAgain(f *testing.F) {
	for _, s := range []string{"+56 9 1234 5678", "İ@EXAMPLE.com", "0000", " a ", "\xff", "ﬁ ½ ²", "٠٠٥٦"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for _, n := range []Normal{AsIs, Text, Email, Phone} {
			once := n.apply([]byte(s))
			if twice := n.apply(once); !bytes.Equal(once, twice) {
				t.Errorf("%q: %q, then %q", s, once, twice)
			}
		}
	})
}
