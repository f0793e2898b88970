package builder

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/image/keys"
)

// DeviceFirmware packs the firmware of a device, signed by the ring's bundle key. m says for which
// models it is and what they report afterwards; length and digest are filled in.
func DeviceFirmware(w io.Writer, ring keys.Ring, m bundle.DeviceManifest, firmware []byte) error {
	m.Image = bundle.File{Length: int64(len(firmware)), SHA256: sha256.Sum256(firmware)}
	manifest, err := m.Encode()
	if err != nil {
		return fmt.Errorf("pack device firmware: %w", err)
	}
	key, err := ring.Signer(keys.Bundle)
	if err != nil {
		return fmt.Errorf("pack device firmware: %w", err)
	}
	signature, err := bundle.Sign(manifest, key)
	if err != nil {
		return fmt.Errorf("pack device firmware: %w", err)
	}
	return bundle.WriteDevice(w, manifest, signature, bytes.NewReader(firmware))
}
