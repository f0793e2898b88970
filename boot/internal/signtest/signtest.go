// Package signtest signs images of tests as the builder signs real ones, with keys that are the same
// in every run. Only tests import it.
package signtest

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"testing"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/pcrsig"
)

// Active, Spare and Thief are the private keys. Boxes know the first two.
const (
	Active = "active"
	Spare  = "spare"
	Thief  = "thief"
)

// Key is the private key of a name.
func Key(t testing.TB, name string) *ecdsa.PrivateKey {
	t.Helper()
	d := sha256.Sum256([]byte(name))
	k, err := ecdsa.ParseRawPrivateKey(elliptic.P256(), d[:])
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// Keys are the policy keys of an image: Active and Spare, for boot.Policy.
func Keys(t testing.TB) []string { return []string{Public(t, Active), Public(t, Spare)} }

// Public is the public key of a name.
func Public(t testing.TB, name string) string {
	t.Helper()
	text, err := pcrsig.EncodeKey(&Key(t, name).PublicKey)
	if err != nil {
		t.Fatal(err)
	}
	return text
}

// Measured is PCR 11 after tpmtest.Boot with an image of this name.
func Measured(image string) counter.Digest {
	word := sha256.Sum256([]byte(image))
	return sha256.Sum256(append(make([]byte, sha256.Size), word[:]...))
}

// Sign is the signed policy of an image of this name, by the keys named.
func Sign(t testing.TB, image string, version uint, keys ...string) []byte {
	t.Helper()
	var signers []crypto.Signer
	for _, k := range keys {
		signers = append(signers, Key(t, k))
	}
	f, err := pcrsig.Sign(counter.Release{PCR11: Measured(image), Version: version}, signers...)
	if err == nil {
		var b []byte
		if b, err = f.Encode(); err == nil {
			return b
		}
	}
	t.Fatal(err)
	return nil
}
