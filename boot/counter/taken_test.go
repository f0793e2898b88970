package counter

import (
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/ratchetos/ratchet/boot/internal/tpmtest"
)

// TestTaken: a TPM that somebody else has taken, in part or whole, is left as it is. Above all nothing is guessed at
// lockout, which after one wrong guess refuses the right value too, for a day.
func TestTaken(t *testing.T) {
	for _, kind := range tpmtest.Kinds {
		for _, c := range []struct {
			name           string
			owner, lockout []byte // as found
			ours           bool   // with the recovery key it goes on
		}{
			{"cut off before lockout was set", OwnerAuth(key), nil, true},
			{"cut off before TPM2_Clear was disabled", OwnerAuth(key), LockoutAuth(key), true},
			{"another system has set lockout", nil, []byte("a value that nobody kept"), false},
		} {
			t.Run(kind+"/"+c.name, func(t *testing.T) {
				b := newBox(t, kind, false)
				if why, err := b.Taken(); why != "" || err != nil {
					t.Fatalf("an empty TPM is taken: %q %v", why, err)
				}
				b.must(b.persistRoot(nil)) // which comes first
				for h, auth := range map[tpm2.TPMHandle][]byte{tpm2.TPMRHOwner: c.owner, tpm2.TPMRHLockout: c.lockout} {
					_, err := tpm2.HierarchyChangeAuth{
						AuthHandle: tpm2.AuthHandle{Handle: h, Auth: tpm2.PasswordAuth(nil)}, NewAuth: tpm2.TPM2BAuth{Buffer: auth},
					}.Execute(b.m)
					b.must(err)
				}
				if why, err := b.Taken(); why == "" || err != nil {
					t.Errorf("nobody has taken it: %v", err)
				}
				before, err := b.permanent()
				b.must(err)
				b.because("provision with another key", b.Provision("EEEE-FFFF", b.is), ErrOwned)
				after, err := b.permanent()
				b.must(err)
				if before != after {
					t.Errorf("the TPM was changed from %+v to %+v", before, after)
				}
				if !c.ours {
					b.because("provision", b.Provision(key, b.is), ErrOwned)
					return
				}
				b.provision()
			})
		}
	}
}
