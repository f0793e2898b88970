package counter

import (
	"crypto/sha256"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/ratchetos/ratchet/boot/internal/tpmtest"
)

// TestOwner is what the recovery key can do on a provisioned box, and nobody without it.
func TestOwner(t *testing.T) {
	for _, kind := range tpmtest.Kinds {
		t.Run(kind, func(t *testing.T) {
			b := newBox(t, kind, true)
			b.on()
			for range 40 { // more than any dictionary-attack counter takes
				b.because("check another key", b.CheckOwner("EEEE-FFFF"), ErrOwned)
			}
			b.must(b.CheckOwner(key))
			b.must(b.CheckOwner("aaaa bbbb cccc dddd"))
			before := b.read()
			b.because("forget with another key", b.Forget("EEEE-FFFF", HandleE), ErrOwned)
			b.because("disown with another key", b.Disown("EEEE-FFFF"), ErrOwned)
			if got := b.read(); got.E != Written || got.Counter != before.Counter {
				t.Errorf("a wrong key changed the box: %+v", got)
			}
			// Accepting a box: E goes, C and J stay, E is made again and written.
			b.must(b.Forget(key, HandleE))
			b.must(b.Provision(key, b.is))
			b.must(b.WriteE(b.is, b.image, Expected{before.Counter, sha256.Sum256(nil)}, true))
			if got := b.read(); got.E != Written || got.Counter != before.Counter || got.Journal != before.Journal {
				t.Errorf("after E was made again: %+v, before: %+v", got, before)
			}
			b.must(b.Forget(key, HandleE, HandleE)) // absent is fine
			b.must(b.Close())
		})
	}
}

// TestDisown gives a box back: it is unprovisioned, takes another recovery key, counts on and keeps V.
func TestDisown(t *testing.T) {
	for _, kind := range tpmtest.Kinds {
		t.Run(kind, func(t *testing.T) {
			b := newBox(t, kind, true)
			b.on()
			if _, err := b.Increment(); err != nil {
				t.Fatal(err)
			}
			b.must(b.RaiseV(AuthK([]byte(coreKey)), 1))
			counted := b.read().Counter
			b.must(b.Disown(key))
			b.because("check a key that is forgotten", b.CheckOwner(key), ErrNoOwner)
			if got := b.read(); got.C != Absent || got.E != Absent || got.J != Absent {
				t.Errorf("after Disown: %+v", got)
			}
			b.must(b.Close())

			b.boot(true, secureBoot, image)
			const another = "EEEE-FFFF"
			b.must(b.Provision(another, b.is))
			b.must(b.CheckOwner(another))
			b.because("check the old key", b.CheckOwner(key), ErrOwned)
			got := b.read()
			if got.Counter <= counted {
				t.Errorf("C is %d, it was %d before", got.Counter, counted)
			}
			if Floor(got.Bits) != 1 {
				t.Errorf("V refuses below %d after another provisioning, below 1 before", Floor(got.Bits))
			}
			b.must(b.Close())
		})
	}
}

// TestDisownCleared: a TPM that has no owner, because it was cleared, is given back with any key; what a token was to be
// made for goes, too.
func TestDisownCleared(t *testing.T) {
	for _, kind := range tpmtest.Kinds {
		t.Run(kind, func(t *testing.T) {
			b := newBox(t, kind, false)
			b.must(b.Disown(key)) // there is not even a storage root key
			_, err := b.Begin()
			b.must(err)
			b.must(b.Disown(key))
			if got := b.read(); got.C != Absent {
				t.Errorf("after Disown: %+v", got)
			}
			b.must(b.Close())
		})
	}
}

// TestBegin makes the value that a provisioning token names.
func TestBegin(t *testing.T) {
	for _, kind := range tpmtest.Kinds {
		t.Run(kind, func(t *testing.T) {
			b := newBox(t, kind, false)
			first, err := b.Begin()
			b.must(err)
			again, err := b.Begin()
			b.must(err)
			if first == 0 || again != first {
				t.Errorf("C is %d, then %d", first, again)
			}
			name, err := b.Endorsement()
			b.must(err)
			if got := b.read(); got.C != Written || got.E != Absent || got.J != Absent {
				t.Errorf("after Begin: %+v", got)
			}
			b.must(b.Provision(key, b.is))
			if got := b.read(); got.Counter != first {
				t.Errorf("provisioning moved C from %d to %d", first, got.Counter)
			}
			_, err = b.Begin()
			b.because("begin on a box that has an owner", err, ErrOwned)
			b.must(b.Close())

			// A cleared TPM is the same chip, and never counts the same value again.
			platform := tpm2.NamedHandle{Handle: tpm2.TPMRHPlatform, Name: tpm2.HandleName(tpm2.TPMRHPlatform)}
			b.must(command{tpm2.TPMCCClearControl, []tpm2.NamedHandle{platform}, []byte{0}}.run(b.m, tpm2.PasswordAuth(nil)))
			_, err = tpm2.Clear{AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}}.Execute(b.m)
			b.must(err)
			b.on()
			later, err := b.Begin()
			b.must(err)
			same, err := b.Endorsement()
			b.must(err)
			if later <= first || string(same) != string(name) {
				t.Errorf("after TPM2_Clear C is %d (before: %d), endorsement key %x (before: %x)", later, first, same, name)
			}
			b.must(b.Close())
		})
	}
}
