package counter

import (
	"bytes"
	"crypto/sha256"
	"testing"

	"github.com/google/go-tpm/tpm2"
)

// secretOf is a box's secret in tests.
func secretOf(word string) []byte { d := sha256.Sum256([]byte(word)); return d[:] }

// boxSecret is the life of the box's secret.
func boxSecret(t *testing.T, b *box) {
	secret := bytes.Repeat([]byte{0, 7}, SecretSize/2) // zeros are part of it, not its end
	recalls := func(what string, want []byte) {
		t.Helper()
		if got, err := b.Recall(b.is, b.image); err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s: %x %v", what, got, err)
		}
	}
	refuses := func(what string, reason error) {
		t.Helper()
		_, err := b.Recall(b.is, b.image)
		b.because(what, err, reason)
	}
	refuses("nothing was kept", ErrNoSecret)
	b.because("another recovery key", b.Keep("wrong", b.is, secret), ErrOwned)
	b.refused("a secret of another length", b.Keep(key, b.is, secret[1:]))
	b.must(b.Keep(key, b.is, secret))
	recalls("after it was kept", secret)
	b.boot(false, secureBoot, image)
	recalls("after a power cut", secret)
	b.boot(true, secureBoot, "image 2")
	recalls("the next image", secret)
	b.must(b.Cap(CapReleased))
	refuses("after the cap", ErrUnapproved)

	b.boot(true, "off", image)
	refuses("Secure Boot off", ErrSecretPolicy)
	b.must(b.Keep(key, b.is, secret))
	recalls("kept again with the recovery key", secret)
	b.boot(true, secureBoot, image)
	refuses("the old state of Secure Boot", ErrSecretPolicy)

	// What anybody can do with the TPM of a box: read without the policy, write, remove.
	full, err := b.is.full()
	b.must(err)
	b.must(b.Keep(key, b.is, secret))
	h, err := indexS(full).at(true, false).named()
	b.must(err)
	empty := tpm2.AuthHandle{Handle: h.Handle, Name: h.Name, Auth: tpm2.PasswordAuth(nil)}
	_, err = tpm2.NVRead{AuthHandle: empty, NVIndex: h, Size: SecretSize}.Execute(b.m)
	b.refused("a read without the policy", err)
	_, err = tpm2.NVWrite{AuthHandle: empty, NVIndex: h, Data: tpm2.TPM2BMaxNVBuffer{Buffer: secret}}.Execute(b.m)
	b.refused("a write", err)
	_, err = tpm2.NVUndefineSpace{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}, NVIndex: h}.Execute(b.m)
	b.refused("removing it", err)
	recalls("after all that", secret)
}
