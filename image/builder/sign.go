package builder

import (
	"fmt"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/image/initramfs"
	"github.com/ratchetos/ratchet/image/keys"
	"github.com/ratchetos/ratchet/image/sign"
	"github.com/ratchetos/ratchet/image/uki"
)

// Sign puts both signatures on an unsigned UKI: the policy key's over its PCR 11, in a section of its
// own, then the Secure Boot key's over the whole. It is what Build does last, for an image that was
// built on one machine and is signed on another.
func Sign(ring keys.Ring, unsigned []byte) ([]byte, error) {
	f, err := uki.Parse(unsigned)
	if err != nil {
		return nil, fmt.Errorf("sign image: %w", err)
	}
	initrd, _ := f.Section(".initrd")
	p, err := initramfs.ReadPolicy(initrd)
	if err != nil {
		return nil, fmt.Errorf("sign image: %w", err)
	}
	signed, _, err := Options{Keys: ring, SecurityVersion: p.SecurityVersion}.sign(unsigned)
	if err != nil {
		return nil, err
	}
	// An image that believes other keys would be refused by every box, with both signatures in place.
	image, err := inspectUKI(signed)
	if err == nil {
		err = image.approved()
	}
	if err != nil {
		return nil, fmt.Errorf("sign image: %w", err)
	}
	return signed, nil
}

func (o Options) sign(unsigned []byte) (signed []byte, pcr11 counter.Digest, err error) {
	id, err := o.Keys.Identity(keys.SecureBoot)
	if err != nil {
		return nil, pcr11, err
	}
	approved, pcr11, err := o.approve(unsigned)
	if err != nil {
		return nil, pcr11, err
	}
	signed, err = sign.Image(approved, id)
	return signed, pcr11, err
}
