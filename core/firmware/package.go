package firmware

import (
	"fmt"
	"io"

	"github.com/ratchetos/ratchet/boot/bundle"
)

// Package is a verified package of device firmware.
type Package struct {
	Manifest bundle.DeviceManifest
	Image    *io.SectionReader
}

// OpenPackage verifies a whole package: its signature by one of the keys, its form and the digest of
// the firmware in it. Errors: those of package bundle, or of reading it.
func OpenPackage(r io.ReaderAt, size int64, keys bundle.Keys) (*Package, error) {
	p, err := bundle.OpenDevice(io.NewSectionReader(r, 0, size), keys)
	if err != nil {
		return nil, fmt.Errorf("open firmware package: %w", err)
	}
	image, offset, err := p.Image()
	if err == nil {
		_, err = io.Copy(io.Discard, image)
	}
	if err != nil {
		return nil, fmt.Errorf("open firmware package: %w", err)
	}
	return &Package{Manifest: p.Manifest, Image: io.NewSectionReader(r, offset, p.Manifest.Image.Length)}, nil
}
