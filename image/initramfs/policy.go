package initramfs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/u-root/u-root/pkg/cpio"
)

// Policy is baked into the image at /etc/ratchet/policy.json: what init believes before it has
// read anything from a disk. It is measured with the rest of the initramfs.
type Policy struct {
	Version string `json:"version"` // of the image
	Flavour string `json:"flavour"`
	TPM     string `json:"tpm"` // "required"
	// Development lets the image provision a box by itself, loudly.
	Development bool `json:"development"`
	// RecoveryKey is set in development images only; a release asks for it at provisioning.
	RecoveryKey string `json:"recovery_key,omitempty"`
}

// JSON is the policy as it is stored.
func (p Policy) JSON() ([]byte, error) {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write policy: %w", err)
	}
	return append(b, '\n'), nil
}

// ReadPolicy finds the policy in the compressed initramfs of an image.
func ReadPolicy(initrd []byte) (Policy, error) {
	data, err := ReadFile(initrd, PolicyPath)
	if err != nil {
		return Policy{}, err
	}
	var p Policy
	if err := json.Unmarshal(data, &p); err != nil {
		return Policy{}, fmt.Errorf("parse %s: %w", PolicyPath, err)
	}
	return p, nil
}

// ErrNotFound means that an initramfs has no file of that name.
var ErrNotFound = errors.New("no such file in the initramfs")

// ReadFile returns one file of a compressed initramfs. The last archive that has it wins, as in
// the kernel.
func ReadFile(initrd []byte, name string) ([]byte, error) {
	archives, err := Archives(initrd)
	if err != nil {
		return nil, err
	}
	for _, a := range slices.Backward(archives) {
		recs, err := cpio.ReadAllRecords(cpio.Newc.Reader(bytes.NewReader(a)))
		if err != nil {
			return nil, fmt.Errorf("read initramfs: %w", err)
		}
		for _, r := range recs {
			if r.Name != name {
				continue
			}
			if r.FileSize > uint64(len(a)) {
				return nil, fmt.Errorf("read initramfs: %s ends beyond its archive", name)
			}
			data, err := io.ReadAll(io.NewSectionReader(r, 0, int64(r.FileSize)))
			if err != nil {
				return nil, fmt.Errorf("read initramfs: %s: %w", name, err)
			}
			return data, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", ErrNotFound, name)
}
