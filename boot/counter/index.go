package counter

import (
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Handles in the range that the TCG leaves to the owner.
const (
	HandleSRK = tpm2.TPMHandle(0x81000001)
	HandleC   = tpm2.TPMHandle(0x01800A01)
	HandleE   = tpm2.TPMHandle(0x01800A02)
	HandleJ   = tpm2.TPMHandle(0x01800A03)
	HandleV   = tpm2.TPMHandle(0x01800A04)
	HandleK   = tpm2.TPMHandle(0x01800A05)
	HandleS   = tpm2.TPMHandle(0x01800A06)

	handleRoom = tpm2.TPMHandle(0x01800A07) // there while provisioning looks for room
)

const (
	sizeE = 8 + 32
	// sizeRoom is what six indices take, each with some 150 bytes of its own.
	sizeRoom = 1024
)

// index is an NV index as it must be. Its Name is computed from public; the TPM is not asked.
type index struct {
	name   string
	public tpm2.TPMSNVPublic
}

// newIndex adds what all have in common. NoDA: a wrong Name must not feed the
// dictionary-attack counter, or a broken disk could lock the whole chip.
func newIndex(name string, h tpm2.TPMHandle, size uint16, policy []byte, a tpm2.TPMANV) index {
	a.NoDA, a.AuthRead = true, true
	return index{name, tpm2.TPMSNVPublic{
		NVIndex: h, NameAlg: tpm2.TPMAlgSHA256, Attributes: a,
		AuthPolicy: tpm2.TPM2BDigest{Buffer: policy}, DataSize: size,
	}}
}

func indexC() index {
	return newIndex("C", HandleC, 8, nil, tpm2.TPMANV{NT: tpm2.TPMNTCounter, AuthWrite: true})
}

// indexJ is never orderly: the TPM would keep extends in RAM and lose them in a power cut.
func indexJ() index {
	return newIndex("J", HandleJ, 32, nil, tpm2.TPMANV{NT: tpm2.TPMNTExtend, AuthWrite: true})
}

func indexE(policy Digest) index {
	return newIndex("E", HandleE, sizeE, policy[:],
		tpm2.TPMANV{NT: tpm2.TPMNTOrdinary, PolicyWrite: true, WriteSTClear: true, WriteAll: true})
}

// indexV names no box, so that its Name is the same everywhere and a release's policy can name it.
// Everyone reads it; who proves K's value may set bits, and nobody can clear one.
func indexV() (index, error) {
	policy, err := policyDigest(secretK(nil))
	if err != nil {
		return index{}, err
	}
	return newIndex("V", HandleV, 8, policy[:], tpm2.TPMANV{NT: tpm2.TPMNTBits, PolicyWrite: true}), nil
}

// indexK is of use for its authorisation value only. Nothing satisfies an empty policy: it is never
// written, so its Name never changes.
func indexK() index {
	return newIndex("K", HandleK, 1, nil, tpm2.TPMANV{NT: tpm2.TPMNTOrdinary, PolicyWrite: true})
}

// at returns the index with the attributes that change over its life.
func (x index) at(written, locked bool) index {
	x.public.Attributes.Written, x.public.Attributes.WriteLocked = written, locked
	return x
}

// named is the handle with the Name computed here.
func (x index) named() (tpm2.NamedHandle, error) {
	n, err := tpm2.NVName(&x.public)
	if err != nil {
		return tpm2.NamedHandle{}, fmt.Errorf("compute the Name of %s: %w", x.name, err)
	}
	return tpm2.NamedHandle{Handle: x.public.NVIndex, Name: *n}, nil
}

// with authorises the use of a handle by a session.
func with(h tpm2.NamedHandle, s tpm2.Session) tpm2.AuthHandle {
	return tpm2.AuthHandle{Handle: h.Handle, Name: h.Name, Auth: s}
}
