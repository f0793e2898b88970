package builder

import (
	"encoding/hex"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/pcrsig"
	"github.com/ratchetos/ratchet/image/initramfs"
	"github.com/ratchetos/ratchet/image/keys"
	"github.com/ratchetos/ratchet/image/uki"
)

// approve predicts PCR 11 of an image, signs the policy that names it, and adds that as a section.
func (o Options) approve(unsigned []byte) (image []byte, pcr11 counter.Digest, err error) {
	f, err := uki.Parse(unsigned)
	if err != nil {
		return nil, pcr11, err
	}
	if pcr11, err = uki.PCR11(f); err != nil {
		return nil, pcr11, err
	}
	signed, err := o.signPolicy(pcr11)
	if err != nil {
		return nil, pcr11, err
	}
	image, err = uki.WithSection(unsigned, pcrsig.Section, signed)
	return image, pcr11, err
}

// approveDirect signs the policy of a direct kernel boot, which has no stub and leaves PCR 11 at zero.
// Any program could be started that way, so only development images have it.
func (o Options) approveDirect() ([]byte, error) {
	if o.Release {
		return nil, nil
	}
	return o.signPolicy(counter.Digest{})
}

func (o Options) signPolicy(pcr11 counter.Digest) ([]byte, error) {
	key, err := o.Keys.Signer(keys.Policy)
	if err != nil {
		return nil, err
	}
	f, err := pcrsig.Sign(counter.Release{PCR11: pcr11, Version: o.SecurityVersion}, key)
	if err != nil {
		return nil, err
	}
	return f.Encode()
}

// ErrDirect means that an image approves of direct kernel boots.
var ErrDirect = errors.New("the image approves of direct kernel boots, with PCR 11 at zero")

// approved checks the signed policy of an image as init does.
func (r *ImageReport) approved() error {
	keys, err := pcrsig.ParseKeys(r.Policy.PolicyKeys)
	if err != nil {
		return err
	}
	section, ok := r.file.Section(pcrsig.Section)
	if !ok {
		return fmt.Errorf("no signed PCR policy (section %s): no box would let it write or unseal anything", pcrsig.Section)
	}
	f, err := pcrsig.Parse(section)
	if err != nil {
		return err
	}
	var pcr11 counter.Digest
	if _, err := hex.Decode(pcr11[:], []byte(r.PCR11)); err != nil {
		return fmt.Errorf("predicted PCR 11: %w", err)
	}
	a, err := f.Approve(pcr11, keys)
	if err != nil {
		return err
	}
	if a.Version != r.Policy.SecurityVersion {
		return fmt.Errorf("security version %d was signed, the policy inside says %d", a.Version, r.Policy.SecurityVersion)
	}
	return nil
}

// approvesDirect reports whether there is a signed policy for PCR 11 = 0, whoever signed it.
func (r *ImageReport) approvesDirect() (bool, error) {
	initrd, _ := r.file.Section(".initrd")
	_, err := initramfs.ReadFile(initrd, initramfs.DirectPath)
	if errors.Is(err, initramfs.ErrNotFound) {
		return false, nil
	}
	return err == nil, err
}
