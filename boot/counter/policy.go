package counter

import (
	"crypto/sha256"
	"fmt"

	"github.com/google/go-tpm/tpm2"
	"github.com/google/go-tpm/tpm2/transport"
)

// Digest is a SHA-256 value.
type Digest = [sha256.Size]byte

// PCRs are the values of the SHA-256 bank that E's policy names: 7 tells whether and with which
// keys Secure Boot ran, 11 is the image that systemd's stub measured.
type PCRs struct {
	PCR7, PCR11 Digest
}

// Policy is the authPolicy of E for an image with these PCRs, computed without a TPM.
func (p PCRs) Policy() (Digest, error) {
	or, err := p.branches()
	if err != nil {
		return Digest{}, err
	}
	return policyDigest(or)
}

// branches are PolicyOR's two alternatives: write under these PCRs, or lock.
func (p PCRs) branches() (tpm2.PolicyOr, error) {
	write, err := policyDigest(p.command())
	if err != nil {
		return tpm2.PolicyOr{}, err
	}
	lock, err := policyDigest(lockCommand())
	if err != nil {
		return tpm2.PolicyOr{}, err
	}
	return tpm2.PolicyOr{PHashList: tpm2.TPMLDigest{Digests: []tpm2.TPM2BDigest{{Buffer: write[:]}, {Buffer: lock[:]}}}}, nil
}

func (p PCRs) command() tpm2.PolicyPCR {
	both := sha256.New()
	both.Write(p.PCR7[:])
	both.Write(p.PCR11[:])
	return tpm2.PolicyPCR{Pcrs: selectPCRs(), PcrDigest: tpm2.TPM2BDigest{Buffer: both.Sum(nil)}}
}

func lockCommand() tpm2.PolicyCommandCode {
	return tpm2.PolicyCommandCode{Code: tpm2.TPMCCNVWriteLock}
}

func selectPCRs() tpm2.TPMLPCRSelection {
	return tpm2.TPMLPCRSelection{PCRSelections: []tpm2.TPMSPCRSelection{
		{Hash: tpm2.TPMAlgSHA256, PCRSelect: tpm2.PCClientCompatible.PCRs(7, capPCR)},
	}}
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

// satisfyWrite takes the branch that may write.
func (p PCRs) satisfyWrite(t transport.TPM, h tpm2.TPMISHPolicy) error {
	cmd := p.command()
	cmd.PolicySession = h
	if _, err := cmd.Execute(t); err != nil {
		return fmt.Errorf("PolicyPCR: %w", err)
	}
	return p.satisfyOr(t, h)
}

// satisfyLock takes the branch that may only lock. It reads no PCR, so it works after the cap.
func (p PCRs) satisfyLock(t transport.TPM, h tpm2.TPMISHPolicy) error {
	cmd := lockCommand()
	cmd.PolicySession = h
	if _, err := cmd.Execute(t); err != nil {
		return fmt.Errorf("PolicyCommandCode: %w", err)
	}
	return p.satisfyOr(t, h)
}

func (p PCRs) satisfyOr(t transport.TPM, h tpm2.TPMISHPolicy) error {
	or, err := p.branches()
	if err != nil {
		return err
	}
	or.PolicySession = h
	if _, err := or.Execute(t); err != nil {
		return fmt.Errorf("PolicyOR: %w", err)
	}
	return nil
}
