package pcrsig

import (
	"crypto"
	"crypto/ecdsa"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"

	"github.com/ratchetos/ratchet/boot/counter"
)

// Errors of Approve, for the operator.
var (
	// ErrOtherImage says that the file is about another image than the one that runs.
	ErrOtherImage = errors.New("the signed policy is for another image")
	// ErrNoKey says that no signature is by a policy key of the image.
	ErrNoKey = errors.New("the policy is not signed by a policy key of this image")
	// ErrSignature says that a signature does not fit its key.
	ErrSignature = errors.New("the signature of the policy is wrong")
)

// Sign approves of a release with each key, which may be in a token: it only has to sign a digest.
func Sign(r counter.Release, keys ...crypto.Signer) (File, error) {
	f := File{Format: format, PCR11: Digest(r.PCR11), Version: r.Version}
	digest, err := r.ToBeSigned()
	if err != nil {
		return File{}, fmt.Errorf("sign PCR policy: %w", err)
	}
	for _, k := range keys {
		// Without a source of randomness a key of Go's own signs by RFC 6979.
		der, err := k.Sign(nil, digest[:], crypto.SHA256)
		if err != nil {
			return File{}, fmt.Errorf("sign PCR policy: %w", err)
		}
		public, ok := k.Public().(*ecdsa.PublicKey)
		if !ok {
			return File{}, errors.New("sign PCR policy: a policy key must be of curve P-256")
		}
		if f, err = f.With(public, der); err != nil {
			return File{}, err
		}
	}
	return f, nil
}

// With adds a signature that was made elsewhere over counter.Release.ToBeSigned, in ASN.1 DER.
func (f File) With(k *ecdsa.PublicKey, der []byte) (File, error) {
	if _, err := f.verify(k, der); err != nil {
		return File{}, fmt.Errorf("sign PCR policy: %w", err)
	}
	name, err := Fingerprint(k)
	if err != nil {
		return File{}, err
	}
	f.Signatures = append(f.Signatures[:len(f.Signatures):len(f.Signatures)], Signature{name, der})
	return f, nil
}

// Approve makes of a file what the TPM is shown for the image whose PCR 11 was measured. The first
// signature by one of the keys counts.
func (f File) Approve(pcr11 counter.Digest, keys counter.Keys) (counter.Approval, error) {
	if counter.Digest(f.PCR11) != pcr11 {
		return counter.Approval{}, fmt.Errorf("%w: it names PCR 11 as %x…, measured is %x…", ErrOtherImage, f.PCR11[:4], pcr11[:4])
	}
	for _, s := range f.Signatures {
		for _, k := range keys {
			if k == nil {
				continue
			}
			if name, err := Fingerprint(k); err == nil && name == s.Key {
				return f.verify(k, s.Value)
			}
		}
	}
	return counter.Approval{}, ErrNoKey
}

func (f File) verify(k *ecdsa.PublicKey, der []byte) (counter.Approval, error) {
	a := counter.Approval{Release: f.Release(), Key: k}
	digest, err := a.ToBeSigned()
	if err != nil {
		return counter.Approval{}, err
	}
	if !ecdsa.VerifyASN1(k, digest[:], der) {
		return counter.Approval{}, ErrSignature
	}
	var point struct{ R, S *big.Int }
	if rest, err := asn1.Unmarshal(der, &point); err != nil || len(rest) != 0 || point.R.BitLen() > 256 || point.S.BitLen() > 256 {
		return counter.Approval{}, ErrSignature
	}
	point.R.FillBytes(a.R[:])
	point.S.FillBytes(a.S[:])
	return a, nil
}
