package pcrsig_test

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/internal/signtest"
	"github.com/ratchetos/ratchet/boot/pcrsig"
)

var update = flag.Bool("update", false, "rewrite the golden file")

func testKeys(t testing.TB) counter.Keys {
	t.Helper()
	k, err := pcrsig.ParseKeys(signtest.Keys(t))
	if err != nil {
		t.Fatal(err)
	}
	return k
}

func parse(t testing.TB, b []byte) pcrsig.File {
	t.Helper()
	f, err := pcrsig.Parse(b)
	if err != nil {
		t.Fatal(err)
	}
	return f
}

// goldenE is the authPolicy of E for the test's keys and PCR 7 = 7, 0, 0, …
const goldenE = "b0c6f656ce7efb803a3a924514c29aee3446c1190c47ea59cf6d9421840ffc9c"

// TestGolden pins the format, the digest that is signed and the policy of E: a change of any is one that
// no box in the field would follow.
func TestGolden(t *testing.T) {
	e, err := counter.Policy{Keys: testKeys(t), PCR7: counter.Digest{7}}.E()
	if err != nil || hex.EncodeToString(e[:]) != goldenE {
		t.Errorf("E's policy is %x, want %s (%v)", e, goldenE, err)
	}
	got := signtest.Sign(t, "golden", 5, signtest.Active, signtest.Spare)
	path := filepath.Join("testdata", "golden.json")
	if *update {
		if err := os.WriteFile(path, got, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("got %s, want %s", got, want)
	}
	// The section may be padded.
	a, err := parse(t, append(want, 0, 0, 0)).Approve(signtest.Measured("golden"), testKeys(t))
	if err != nil || a.Version != 5 || !a.Key.Equal(testKeys(t)[0]) {
		t.Errorf("approval %+v: %v", a, err)
	}
}

func TestApprove(t *testing.T) {
	keys := testKeys(t)
	good := signtest.Sign(t, "image", 1, signtest.Active)
	for _, c := range []struct {
		name  string
		file  []byte
		image string
		is    error
	}{
		{"active", good, "image", nil},
		{"spare", signtest.Sign(t, "image", 1, signtest.Spare), "image", nil},
		{"spare behind a stranger", signtest.Sign(t, "image", 1, signtest.Thief, signtest.Spare), "image", nil},
		{"stranger", signtest.Sign(t, "image", 1, signtest.Thief), "image", pcrsig.ErrNoKey},
		{"another image", good, "other", pcrsig.ErrOtherImage},
		{"another version under the signature", bytes.Replace(good, []byte(`version": 1`), []byte(`version": 2`), 1), "image", pcrsig.ErrSignature},
		{"another PCR 11 under the signature", func() []byte {
			f := parse(t, good)
			f.PCR11 = pcrsig.Digest(signtest.Measured("other"))
			b, err := f.Encode()
			if err != nil {
				t.Fatal(err)
			}
			return b
		}(), "other", pcrsig.ErrSignature},
	} {
		a, err := parse(t, c.file).Approve(signtest.Measured(c.image), keys)
		if !errors.Is(err, c.is) || (err == nil) != (c.is == nil) {
			t.Errorf("%s: %v, want %v", c.name, err, c.is)
		}
		if err == nil && a.PCR11 != signtest.Measured(c.image) {
			t.Errorf("%s: %+v", c.name, a)
		}
	}
	if _, err := parse(t, good).Approve(signtest.Measured("image"), counter.Keys{}); !errors.Is(err, pcrsig.ErrNoKey) {
		t.Errorf("without keys: %v", err)
	}
}

func TestParseRefuses(t *testing.T) {
	good := string(signtest.Sign(t, "image", 1, signtest.Active))
	for name, text := range map[string]string{
		"empty":             "",
		"zeros":             "\x00\x00",
		"unknown field":     strings.Replace(good, `"format"`, `"more": 1, "format"`, 1),
		"another format":    strings.Replace(good, `"format": 1`, `"format": 2`, 1),
		"version 64":        strings.Replace(good, `version": 1`, `version": 64`, 1),
		"negative version":  strings.Replace(good, `version": 1`, `version": -1`, 1),
		"short digest":      strings.Replace(good, `"pcr11": "`, `"pcr11": "00`, 1),
		"no signature":      `{"format": 1, "pcr11": "` + strings.Repeat("00", 32) + `", "security_version": 1, "signatures": []}`,
		"something behind":  good + "{}",
		"five signatures":   strings.Replace(good, `"signatures": [`, `"signatures": [`+strings.Repeat(`{"key":"`+strings.Repeat("00", 32)+`","signature":""},`, 4), 1),
		"larger than it is": good + strings.Repeat(" ", pcrsig.MaxSize),
	} {
		if _, err := pcrsig.Parse([]byte(text)); !errors.Is(err, pcrsig.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestKeys(t *testing.T) {
	active, spare := signtest.Public(t, signtest.Active), signtest.Public(t, signtest.Spare)
	p384, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	large, err := pcrsig.EncodeKey(&p384.PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	for name, text := range map[string][]string{
		"none": {}, "one": {active}, "three": {active, spare, active}, "the same twice": {active, active},
		"not PEM": {active, "key"}, "another curve": {active, large}, "two in one": {active + spare, spare},
	} {
		if _, err := pcrsig.ParseKeys(text); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := pcrsig.Sign(counter.Release{}, p384); err == nil {
		t.Error("a key of another curve signed")
	}
	if _, err := pcrsig.Sign(counter.Release{Version: 64}, signtest.Key(t, signtest.Active)); err == nil {
		t.Error("security version 64 was signed")
	}
}

// token is a key that signs digests and does nothing else.
type token struct{ crypto.Signer }

func TestSignedElsewhere(t *testing.T) {
	r := counter.Release{PCR11: signtest.Measured("image"), Version: 3}
	key := signtest.Key(t, signtest.Active)
	f, err := pcrsig.Sign(r, token{key})
	if err != nil {
		t.Fatal(err)
	}
	d, err := r.ToBeSigned()
	if err != nil {
		t.Fatal(err)
	}
	spare := signtest.Key(t, signtest.Spare)
	der, err := ecdsa.SignASN1(rand.Reader, spare, d[:])
	if err != nil {
		t.Fatal(err)
	}
	if f, err = f.With(&spare.PublicKey, der); err != nil || len(f.Signatures) != 2 {
		t.Fatalf("%d signatures: %v", len(f.Signatures), err)
	}
	if _, err := f.With(&key.PublicKey, der); !errors.Is(err, pcrsig.ErrSignature) {
		t.Errorf("one key's signature as another's: %v", err)
	}
}

// FuzzParse: whatever is in the section, init gets an error or a file that it can look at.
func FuzzParse(f *testing.F) {
	f.Add(signtest.Sign(f, "image", 1, signtest.Active))
	f.Add([]byte(`{"format":1,"pcr11":"` + strings.Repeat("00", 32) + `","security_version":0,"signatures":[{"key":"` + strings.Repeat("11", 32) + `","signature":"MAA="}]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		file, err := pcrsig.Parse(b)
		if err != nil {
			if !errors.Is(err, pcrsig.ErrFormat) {
				t.Errorf("untyped error %v", err)
			}
			return
		}
		keys := testKeys(t)
		if a, err := file.Approve(counter.Digest(file.PCR11), keys); err == nil && !a.Key.Equal(keys[0]) && !a.Key.Equal(keys[1]) {
			t.Error("approved by a key that is not one of the two")
		}
		again, err := file.Encode()
		if err != nil {
			t.Fatalf("a parsed file cannot be written: %v", err)
		}
		if second, err := pcrsig.Parse(again); err != nil || second.Release() != file.Release() {
			t.Errorf("written and read again: %v", err)
		}
	})
}
