package counter

import (
	"bytes"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/ratchetos/ratchet/boot/internal/tpmtest"
)

// onlyApprovedImages tries to write E with everything but the right signature.
func onlyApprovedImages(t *testing.T, b *box) {
	good := b.image
	b.must(b.write(good))
	if got := b.read().Expected.Counter; got != 9 {
		t.Errorf("E = %d", got)
	}
	thief := newKey(t)
	b.because("a third key", b.write(b.sign(thief, good.Release)), ErrUnapproved)
	forged := good
	stolen := b.sign(thief, good.Release)
	forged.R, forged.S = stolen.R, stolen.S
	b.because("a third key's signature as the active key's", b.write(forged), ErrUnapproved)
	other := good
	other.Version++
	b.because("the signature of another policy", b.write(other), ErrUnapproved)
	// A ticket is bound to what it was given for.
	b.must(b.write(good))
	b.ticketFor = other
	b.because("the ticket of another policy", b.write(other), ErrUnapproved)
	b.refused("no key", b.write(Approval{Release: good.Release}))
	// An image that was not approved, with the approval of one that was.
	b.boot(true, secureBoot, "image 2")
	b.because("another image", b.write(good), ErrUnapproved)
	b.boot(true, secureBoot, image)
	b.must(b.write(good))
}

func onlyUntouchedPCRs(t *testing.T, b *box) {
	good, was := b.image, b.is
	for _, c := range []struct {
		what, secureBoot string
		pcr              uint32
	}{
		{"a command line from the ESP", secureBoot, 12},
		{"an extension from the ESP", secureBoot, 13},
		{"more in PCR 11", secureBoot, 11},
		{"Secure Boot off", "off", 0},
	} {
		b.boot(true, c.secureBoot, image)
		if c.pcr != 0 {
			tpmtest.Extend(t, b.m, c.pcr, c.what)
		}
		b.is = was
		b.because(c.what, b.write(good), ErrUnapproved)
	}
}

// nextReleaseAndRollback is the life of V: release 2 follows release 1 with what release 1 kept,
// and once V has risen there is no way back.
func nextReleaseAndRollback(t *testing.T, b *box) {
	one := b.image
	b.must(b.Keep(key, b.is, secretOf("one")))
	b.boot(true, secureBoot, "image 2")
	two := b.sign(b.signers[0], Release{b.pcrs.PCR11, 2})
	if got, err := b.Recall(b.is, two); err != nil || !bytes.Equal(got, secretOf("one")) {
		t.Fatalf("the secret for the next release: %q %v", got, err)
	}
	b.must(b.write(two))
	if s := b.read(); s.E != Written {
		t.Errorf("E for the next release is %v", s.E)
	}
	b.must(b.Cap(CapReleased))
	b.must(b.RaiseV(AuthK([]byte(coreKey)), 2)) // core does, after the cap
	if s := b.read(); s.V != Written || Floor(s.Bits) != 2 {
		t.Errorf("V = %b", s.Bits)
	}
	b.boot(true, secureBoot, image)
	_, err := b.Recall(b.is, one)
	b.because("the secret for a revoked release", err, ErrRevoked)
	b.because("write E by a revoked release", b.write(one), ErrRevoked)
	claimed := one
	claimed.Version = MaxVersion
	b.because("claim a higher version with the old signature", b.write(claimed), ErrUnapproved)
	b.boot(true, secureBoot, "image 2")
	b.must(b.write(two))
	if _, err := b.Recall(b.is, two); err != nil {
		t.Errorf("the secret for release 2 with V = 2: %v", err)
	}
}

func spareKey(_ *testing.T, b *box) {
	b.must(b.Keep(key, b.is, secretOf("one")))
	a := b.sign(b.signers[1], b.image.Release)
	b.must(b.write(a))
	_, err := b.Recall(b.is, a)
	b.must(err)
	// The other way round they are another pair: the box was provisioned with an order.
	b.is.Keys[0], b.is.Keys[1] = b.is.Keys[1], b.is.Keys[0]
	_, err = b.Recall(b.is, a)
	b.because("the secret under swapped keys", err, ErrSecretPolicy)
}

func vOnlyRises(t *testing.T, b *box) {
	auth := AuthK([]byte(coreKey))
	for _, c := range []struct{ raise, floor uint }{{0, 0}, {3, 3}, {1, 3}, {3, 3}, {MaxVersion, MaxVersion}} {
		b.must(b.RaiseV(auth, c.raise))
		if got := Floor(b.read().Bits); got != c.floor {
			t.Errorf("raised to %d: V leaves %d and later, want %d", c.raise, got, c.floor)
		}
	}
	b.refused("raise beyond the bits", b.RaiseV(auth, MaxVersion+1))
	b.refused("raise with a wrong value", b.RaiseV([]byte("wrong"), 1))
	v, err := indexV()
	b.must(err)
	h, err := v.at(true, false).named()
	b.must(err)
	b.refused("raise with an empty value", nvSetBits(h, 1).run(b.m, tpm2.PasswordAuth(nil)))
	_, err = tpm2.NVWrite{AuthHandle: with(h, tpm2.PasswordAuth(nil)), NVIndex: h, Data: tpm2.TPM2BMaxNVBuffer{Buffer: make([]byte, 8)}}.Execute(b.m)
	b.refused("clear V", err)
	b.boot(false, secureBoot, image)
	if got := Floor(b.read().Bits); got != MaxVersion {
		t.Errorf("after a power cut V leaves %d and later", got)
	}
	// Provisioning that repeats leaves V alone, and a renewed K takes the place of the old.
	b.must(b.makeV(Written, OwnerAuth(key)))
	b.must(b.RenewK(key, AuthK([]byte("new"))))
	b.refused("raise with the value of before", b.RaiseV(auth, 1))
	b.must(b.RaiseV(AuthK([]byte("new")), 1))
}
