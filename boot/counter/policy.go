package counter

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/google/go-tpm/tpm2"
)

// Digest is a SHA-256 value.
type Digest = [sha256.Size]byte

// Keys are the public policy keys (P-256) that a box believes: the one releases are signed with, and
// the spare that takes its place when that is lost.
type Keys [2]*ecdsa.PublicKey

// Policy is the part of the policy that provisioning fixes for a box. What each image adds is an
// Approval; the next release brings its own, and nothing has to be written again.
type Policy struct {
	Keys Keys
	PCR7 Digest // whether and with which keys Secure Boot runs
}

// E is the authPolicy of E: the full policy, or the branch that may lock and never write.
func (p Policy) E() (Digest, error) {
	or, err := p.orLock()
	if err != nil {
		return Digest{}, err
	}
	return policyDigest(or)
}

// full is the authPolicy of S. Its order is forced: PolicyAuthorize and PolicyOR replace
// the digest, so what a box adds comes after them.
func (p Policy) full() (Digest, error) {
	or, err := p.orKeys()
	if err != nil {
		return Digest{}, err
	}
	return policyDigest(or, p.pcr7())
}

func (p Policy) orKeys() (tpm2.PolicyOr, error) {
	var alternatives []Digest
	for _, k := range p.Keys {
		name, _, err := keyArea(k)
		if err != nil {
			return tpm2.PolicyOr{}, err
		}
		// The first command of a fresh session: PolicyAuthorize forgets what was before it.
		d, err := policyDigest(tpm2.PolicyAuthorize{PolicyRef: policyRef(), KeySign: name})
		if err != nil {
			return tpm2.PolicyOr{}, err
		}
		alternatives = append(alternatives, d)
	}
	return anyOf(alternatives...), nil
}

func (p Policy) orLock() (tpm2.PolicyOr, error) {
	full, err := p.full()
	if err != nil {
		return tpm2.PolicyOr{}, err
	}
	lock, err := policyDigest(lockOnly())
	return anyOf(full, lock), err
}

func (p Policy) pcr7() tpm2.PolicyPCR { return pcrPolicy([]uint{7}, p.PCR7) }

func lockOnly() tpm2.PolicyCommandCode {
	return tpm2.PolicyCommandCode{Code: tpm2.TPMCCNVWriteLock}
}

// MaxVersion is the highest security version: V has 64 bits.
const MaxVersion = 63

// Release is what a vendor approves of: an image by its PCR 11, started with no input from outside,
// on a box that has not moved on to a later security version. It names no box.
type Release struct {
	PCR11   Digest
	Version uint // security version, at most MaxVersion
}

// Digest is the approved policy.
func (r Release) Digest() (Digest, error) {
	v, err := r.overV(tpm2.PasswordAuth(nil))
	if err != nil {
		return Digest{}, err
	}
	return policyDigest(r.pcrs(), v)
}

// ToBeSigned is the digest that a policy key signs: the approved policy and what the signature is for.
func (r Release) ToBeSigned() (Digest, error) {
	d, err := r.Digest()
	return sha256.Sum256(append(d[:], policyRef().Buffer...)), err
}

// pcrs also asks for 12 and 13 to be untouched: the stub measures there what it takes from the ESP,
// a command line, credentials and extensions.
func (r Release) pcrs() tpm2.PolicyPCR {
	return pcrPolicy([]uint{11, 12, 13}, r.PCR11, Digest{}, Digest{})
}

// overV asks that all bits of V above the version are clear. A password does for reading: V's true
// Name goes into the policy's digest inside the TPM.
func (r Release) overV(s tpm2.Session) (tpm2.PolicyNV, error) {
	if r.Version > MaxVersion {
		return tpm2.PolicyNV{}, fmt.Errorf("security version %d, at most %d", r.Version, MaxVersion)
	}
	h, err := nameV()
	if err != nil {
		return tpm2.PolicyNV{}, err
	}
	above := ^uint64(0) << r.Version << 1
	return tpm2.PolicyNV{
		AuthHandle: with(h, s), NVIndex: h, Operation: tpm2.TPMEOBitClear,
		OperandB: tpm2.TPM2BOperand{Buffer: binary.BigEndian.AppendUint64(nil, above)},
	}, nil
}

// Approval is a Release with the signature of a policy key.
type Approval struct {
	Release
	Key *ecdsa.PublicKey
	// R and S are the ECDSA signature of ToBeSigned.
	R, S [32]byte
}

func (a Approval) signature() tpm2.TPMTSignature {
	return tpm2.TPMTSignature{SigAlg: tpm2.TPMAlgECDSA, Signature: tpm2.NewTPMUSignature(tpm2.TPMAlgECDSA, &tpm2.TPMSSignatureECC{
		Hash:       tpm2.TPMAlgSHA256,
		SignatureR: tpm2.TPM2BECCParameter{Buffer: a.R[:]}, SignatureS: tpm2.TPM2BECCParameter{Buffer: a.S[:]},
	})}
}

// policyRef tells signatures over policies from any other use of the key.
func policyRef() tpm2.TPM2BDigest { return tpm2.TPM2BDigest{Buffer: []byte("ratchet release 1")} }

// keyArea is a policy key as the TPM sees it, with its Name.
func keyArea(k *ecdsa.PublicKey) (tpm2.TPM2BName, tpm2.TPMTPublic, error) {
	if k == nil || k.Curve != elliptic.P256() {
		return tpm2.TPM2BName{}, tpm2.TPMTPublic{}, errors.New("a policy key must be of curve P-256")
	}
	point, err := k.Bytes() // 4, X, Y
	if err != nil {
		return tpm2.TPM2BName{}, tpm2.TPMTPublic{}, fmt.Errorf("policy key: %w", err)
	}
	area := tpm2.TPMTPublic{
		Type: tpm2.TPMAlgECC, NameAlg: tpm2.TPMAlgSHA256,
		ObjectAttributes: tpm2.TPMAObject{SignEncrypt: true, UserWithAuth: true},
		Parameters: tpm2.NewTPMUPublicParms(tpm2.TPMAlgECC, &tpm2.TPMSECCParms{
			CurveID: tpm2.TPMECCNistP256,
			Scheme: tpm2.TPMTECCScheme{
				Scheme: tpm2.TPMAlgECDSA, Details: tpm2.NewTPMUAsymScheme(tpm2.TPMAlgECDSA, &tpm2.TPMSSigSchemeECDSA{HashAlg: tpm2.TPMAlgSHA256}),
			},
		}),
		Unique: tpm2.NewTPMUPublicID(tpm2.TPMAlgECC, &tpm2.TPMSECCPoint{
			X: tpm2.TPM2BECCParameter{Buffer: point[1:33]}, Y: tpm2.TPM2BECCParameter{Buffer: point[33:]},
		}),
	}
	name, err := tpm2.ObjectName(&area)
	if err != nil {
		return tpm2.TPM2BName{}, tpm2.TPMTPublic{}, fmt.Errorf("policy key: %w", err)
	}
	return *name, area, nil
}

// pcrPolicy asks for values of the SHA-256 bank, in the order of their numbers.
func pcrPolicy(pcrs []uint, values ...Digest) tpm2.PolicyPCR {
	h := sha256.New()
	for _, v := range values {
		h.Write(v[:])
	}
	return tpm2.PolicyPCR{Pcrs: selectPCRs(pcrs...), PcrDigest: tpm2.TPM2BDigest{Buffer: h.Sum(nil)}}
}

func selectPCRs(pcrs ...uint) tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(pcrs...)},
	}}
}

func anyOf(alternatives ...Digest) tpm2.PolicyOr {
	var l tpm2.TPMLDigest
	for _, d := range alternatives {
		l.Digests = append(l.Digests, tpm2.TPM2BDigest{Buffer: d[:]})
	}
	return tpm2.PolicyOr{PHashList: l}
}

// policyDigest runs commands through go-tpm's calculator, which is a trial session without a TPM.
func policyDigest(commands ...tpm2.PolicyCommand) (d Digest, err error) {
	c, err := tpm2.NewPolicyCalculator(tpm2.TPMAlgSHA256)
	if err != nil {
		return d, fmt.Errorf("compute policy: %w", err)
	}
	for _, cmd := range commands {
		if err := cmd.Update(c); err != nil {
			return d, fmt.Errorf("compute policy: %w", err)
		}
	}
	copy(d[:], c.Hash().Digest)
	return d, nil
}
