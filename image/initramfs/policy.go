package initramfs

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/u-root/u-root/pkg/cpio"

	"github.com/ratchetos/ratchet/boot"
)

// PolicyJSON is a policy as it is stored, at /etc/ratchet/policy.json.
func PolicyJSON(p boot.Policy) ([]byte, error) {
	b, err := json.MarshalIndent(p, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write policy: %w", err)
	}
	// What init would refuse must not get into an image.
	if _, err := boot.ParsePolicy(b); err != nil {
		return nil, err
	}
	return append(b, '\n'), nil
}

// ReadPolicy finds the policy in the compressed initramfs of an image and reads it as init does.
func ReadPolicy(initrd []byte) (boot.Policy, error) {
	data, err := ReadFile(initrd, PolicyPath)
	if err != nil {
		return boot.Policy{}, err
	}
	return boot.ParsePolicy(data)
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
