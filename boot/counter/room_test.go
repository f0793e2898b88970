package counter

import (
	"errors"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/ratchetos/ratchet/boot/internal/tpmtest"
)

// TestNoRoom: a TPM whose memory others have filled is left as it is, with an error that says what to do; with room it
// is provisioned.
func TestNoRoom(t *testing.T) {
	for _, kind := range tpmtest.Kinds {
		t.Run(kind, func(t *testing.T) {
			b := newBox(t, kind, false)
			owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
			var others []index
			for size := uint16(2048); size >= 8 && len(others) < 1000; {
				x := newIndex("other", tpm2.TPMHandle(0x01C10000+len(others)), size, nil, tpm2.TPMANV{NT: tpm2.TPMNTOrdinary, OwnerWrite: true})
				_, err := tpm2.NVDefineSpace{AuthHandle: owner, PublicInfo: tpm2.New2B(x.public)}.Execute(b.m)
				switch {
				case errors.Is(err, tpm2.TPMRCNVSpace):
					size /= 2
				case err != nil:
					t.Fatal(err)
				default:
					others = append(others, x)
				}
			}

			// The small ones go first: in turn there is no room for the key, for some of the indices, for the last of them.
			refused := 0
			for ; len(others) > 0; refused++ {
				err := b.Provision(key, b.is)
				if err == nil {
					break
				}
				b.because("provision", err, ErrNoRoom)
				has, err := b.permanent()
				b.must(err)
				if has != (permanent{}) {
					t.Fatalf("the TPM was changed: %+v", has)
				}
				h, err := others[len(others)-1].named()
				b.must(err)
				_, err = tpm2.NVUndefineSpace{AuthHandle: owner, NVIndex: h}.Execute(b.m)
				b.must(err)
				others = others[:len(others)-1]
			}
			if refused == 0 {
				t.Error("there was room")
			}
			b.provision()
		})
	}
}
