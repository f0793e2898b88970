package builder

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"os"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/image/keys"
)

// BundleOptions say how boxes take an update.
type BundleOptions struct {
	// Revokes has both slots replaced at once: the release before it must not run any more.
	Revokes bool
	// MinMemory is the least memory of a box in bytes; 0 for any.
	MinMemory uint64
	// KnownGood are firmwares of devices that were tested with this release: a box that was offered the update on a
	// stick lets its operator validate a device that reads back as one of them.
	KnownGood []bundle.Firmware
}

// Bundle packs a signed UKI and its SBOM (nil for none) into an update, signed by the ring's bundle key.
// What the image is, its own policy says.
func Bundle(ring keys.Ring, signed, sbom []byte, o BundleOptions) ([]byte, error) {
	image, err := bootable(signed)
	if err != nil {
		return nil, fmt.Errorf("make bundle: %w", err)
	}
	p := image.Policy
	m := bundle.Manifest{
		Format: bundle.Format, Product: bundle.Product, Flavour: p.Flavour, Arch: "x86_64",
		Version: p.Version, SecurityVersion: p.SecurityVersion, Development: p.Development,
		Revokes: o.Revokes, MinMemory: o.MinMemory, Firmware: o.KnownGood, UKI: fileOf(signed), SBOM: fileOf(sbom),
	}
	manifest, err := m.Encode()
	if err != nil {
		return nil, fmt.Errorf("make bundle: %w", err)
	}
	key, err := ring.Signer(keys.Bundle)
	if err != nil {
		return nil, fmt.Errorf("make bundle: %w", err)
	}
	signature, err := bundle.Sign(manifest, key)
	if err != nil {
		return nil, fmt.Errorf("make bundle: %w", err)
	}
	var b bytes.Buffer
	if err := bundle.Write(&b, manifest, signature, sbom, bytes.NewReader(signed)); err != nil {
		return nil, fmt.Errorf("make bundle: %w", err)
	}
	return b.Bytes(), nil
}

// ReadSigned reads a UKI that a disk or a stick is to be made around.
func ReadSigned(path string) ([]byte, error) {
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	if _, err := bootable(data); err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return data, nil
}

// bootable refuses what is no image of ours, or not signed: firmware would not start it, and no box release it.
func bootable(data []byte) (ImageReport, error) {
	image, err := inspectUKI(data)
	switch {
	case err != nil:
		return image, err
	case image.policyErr != nil:
		return image, image.policyErr
	case !image.Signed:
		return image, errors.New("the image is not signed; sign it first: image sign")
	}
	return image, nil
}

func fileOf(data []byte) bundle.File {
	return bundle.File{Length: int64(len(data)), SHA256: sha256.Sum256(data)}
}
