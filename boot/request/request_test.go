package request

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"strings"
	"testing"
)

const box = "000b0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

func key(t testing.TB) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func public(t testing.TB, k *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func sign(t testing.TB, k *ecdsa.PrivateKey, r Request) Signed {
	t.Helper()
	s, err := Sign(k, r)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestRoundTrip(t *testing.T) {
	owner, other := key(t), key(t)
	keys, err := Keys([]string{public(t, other), public(t, owner)})
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []Request{
		{Kind: Validate, Box: box, Counter: 7},
		{Kind: Validate, Device: "mac:52:54:00:00:00:01", Box: box, Counter: 7},
		{Kind: Recover, Device: "serial:x", Box: box},
		{Kind: Accept, Box: box, Counter: 1 << 60},
		{Kind: Reset, Box: box, Counter: 7},
		{Kind: Provision, Box: box, Counter: 1},
	} {
		text := sign(t, owner, want).Text()
		if len(text) > 512 || strings.ContainsAny(text, " \n") {
			t.Errorf("%s is no line to paste: %q", want, text)
		}
		got, err := Parse(" " + text + "\n") // as it comes out of a file
		if err != nil || got.Request != want {
			t.Fatalf("%s: %+v, %v", want, got.Request, err)
		}
		if who, err := got.Verify(keys); err != nil || who != Fingerprint(keys[1]) {
			t.Errorf("%s: signed by %q, %v", want, who, err)
		}
		if _, err := got.Verify(keys[:1]); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: verified with another key: %v", want, err)
		}
		if _, err := got.Verify(nil); !errors.Is(err, ErrSignature) {
			t.Errorf("%s: verified without a key: %v", want, err)
		}
	}
}

// TestTampered changes what was signed in every way that keeps the form.
func TestTampered(t *testing.T) {
	owner := key(t)
	keys := []*ecdsa.PublicKey{&owner.PublicKey}
	s := sign(t, owner, Request{Kind: Validate, Box: box, Counter: 7})
	for i := range s.payload {
		c := s
		c.payload = append([]byte(nil), s.payload...)
		c.payload[i] ^= 1
		got, err := Parse(c.Text())
		if err == nil {
			_, err = got.Verify(keys)
		}
		if err == nil {
			t.Errorf("byte %d of the payload may be changed", i)
		}
	}
	other := sign(t, owner, Request{Kind: Accept, Box: box, Counter: 7})
	other.signature = s.signature
	if _, err := other.Verify(keys); !errors.Is(err, ErrSignature) {
		t.Errorf("a signature fits another request: %v", err)
	}
}

func TestFits(t *testing.T) {
	r := Request{Kind: Validate, Box: box, Counter: 7}
	for _, c := range []struct {
		box     string
		counter uint64
		want    error
	}{
		{box, 7, nil},
		{strings.ToUpper(box), 7, nil},
		{box, 8, ErrUsed},
		{box, 6, ErrUsed},
		{"000b" + strings.Repeat("00", 32), 7, ErrOtherBox},
		{"", 7, ErrOtherBox},
	} {
		if err := r.Fits(c.box, c.counter); !errors.Is(err, c.want) {
			t.Errorf("box %.8s counter %d: %v, want %v", c.box, c.counter, err, c.want)
		}
	}
}

func TestMalformed(t *testing.T) {
	b64 := base64.RawURLEncoding.EncodeToString
	wrap := func(payload string) string { return prefix + "." + b64([]byte(payload)) + "." + b64([]byte("x")) }
	for name, text := range map[string]string{
		"empty":           "",
		"other prefix":    "ratchet-request-2.e30.e30",
		"two parts":       prefix + ".e30",
		"four parts":      prefix + ".e30.e30.e30",
		"not base64":      prefix + ".é.e30",
		"not json":        wrap("kind"),
		"unknown field":   wrap(`{"kind":"validate","box":"` + box + `","counter":1,"unless":"x"}`),
		"unknown kind":    wrap(`{"kind":"release","box":"` + box + `","counter":1}`),
		"no box":          wrap(`{"kind":"validate","counter":1}`),
		"negative":        wrap(`{"kind":"validate","box":"` + box + `","counter":-1}`),
		"two payloads":    wrap(`{"kind":"validate","box":"` + box + `","counter":1}{}`),
		"no device":       wrap(`{"kind":"recover","box":"` + box + `","counter":1}`),
		"device too many": wrap(`{"kind":"accept","device":"serial:x","box":"` + box + `","counter":1}`),
		"control bytes":   wrap(`{"kind":"recover","device":"\u001b[2J","box":"` + box + `","counter":1}`),
		"too long":        prefix + "." + strings.Repeat("A", MaxText) + ".e30",
	} {
		if _, err := Parse(text); !errors.Is(err, ErrMalformed) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeys(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string]string{
		"not PEM": "owner", "not a key": "-----BEGIN PUBLIC KEY-----\nAAAA\n-----END PUBLIC KEY-----\n", "another curve": public(t, k),
	} {
		if _, err := Keys([]string{text}); err == nil {
			t.Errorf("%s is a key", name)
		}
	}
	if _, err := Sign(k, Request{Kind: Validate, Box: box}); err == nil {
		t.Error("signed with a key that nobody could verify")
	}
}

// FuzzParse: what parses is whole, and is the same after another way through its text.
func FuzzParse(f *testing.F) {
	k := key(f)
	for _, r := range []Request{{Kind: Validate, Box: box, Counter: 7}, {Kind: Recover, Device: "mac:1", Box: box}} {
		f.Add(sign(f, k, r).Text())
	}
	f.Fuzz(func(t *testing.T, text string) {
		s, err := Parse(text)
		if err != nil {
			if !errors.Is(err, ErrMalformed) {
				t.Fatalf("an error that nobody expects: %v", err)
			}
			return
		}
		again, err := Parse(s.Text())
		if err != nil || again.Request != s.Request {
			t.Fatalf("%+v became %+v: %v", s.Request, again.Request, err)
		}
	})
}
