package bundle

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

const (
	// DeviceProduct tells the manifest of a device firmware from one of an image: both are signed by
	// the same key.
	DeviceProduct = "ratchet-device-firmware"
	// MaxDeviceImage bounds the firmware of a device, in bytes.
	MaxDeviceImage = 256 << 20

	maxModels     = 64
	maxComponents = 16
	imageName     = "firmware.bin"
)

// DeviceManifest says what a package of device firmware holds and for which devices. The package is a
// tar as a bundle is, of manifest.json, manifest.sig and firmware.bin.
type DeviceManifest struct {
	Format  int    `json:"format"`
	Product string `json:"product"` // DeviceProduct
	// Models are the devices it is for: a model's name, or "vendor:device" in lower-case hex.
	Models []string `json:"models"`
	// Versions is what the device reports afterwards, by component; "" is that of a device with one.
	Versions map[string]string `json:"versions"`
	Image    File              `json:"image"`
}

// Version is the version for people.
func (m DeviceManifest) Version() string {
	if v, ok := m.Versions[""]; ok && len(m.Versions) == 1 {
		return v
	}
	var parts []string
	for name, v := range m.Versions {
		parts = append(parts, strings.TrimSpace(name+" "+v))
	}
	slices.Sort(parts)
	return strings.Join(parts, ", ")
}

// Encode gives the exact bytes to sign.
func (m DeviceManifest) Encode() ([]byte, error) {
	m.Format, m.Product = Format, DeviceProduct
	b, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		err = m.check()
	}
	if err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	return append(b, '\n'), nil
}

// ParseDeviceManifest reads a manifest whose signature was verified.
func ParseDeviceManifest(b []byte) (DeviceManifest, error) {
	var m DeviceManifest
	d := json.NewDecoder(bytes.NewReader(b))
	d.DisallowUnknownFields()
	err := d.Decode(&m)
	if err == nil {
		if _, more := d.Token(); more != io.EOF {
			err = errors.New("something follows it")
		}
	}
	if err == nil {
		err = m.check()
	}
	if err != nil {
		return DeviceManifest{}, fmt.Errorf("%w: manifest of a device firmware: %w", ErrDamaged, err)
	}
	return m, nil
}

func (m DeviceManifest) check() error {
	switch {
	case m.Product != DeviceProduct:
		return fmt.Errorf("product %.40q, want %q", m.Product, DeviceProduct)
	case m.Format != Format:
		return fmt.Errorf("format %d, this image knows %d", m.Format, Format)
	case m.Image.Length <= 0 || m.Image.Length > MaxDeviceImage:
		return fmt.Errorf("firmware of %d bytes", m.Image.Length)
	case len(m.Models) == 0 || len(m.Models) > maxModels:
		return fmt.Errorf("%d models, want 1 to %d", len(m.Models), maxModels)
	case len(m.Versions) == 0 || len(m.Versions) > maxComponents:
		return fmt.Errorf("%d components, want 1 to %d", len(m.Versions), maxComponents)
	}
	texts := slices.Clone(m.Models)
	for component, v := range m.Versions {
		if component != "" {
			texts = append(texts, component)
		}
		texts = append(texts, v)
	}
	for _, s := range texts {
		if s == "" || len(s) > maxText || strings.ContainsFunc(s, unprintable) {
			return fmt.Errorf("text %q: empty, too long or not printable", s[:min(len(s), maxText)])
		}
	}
	return nil
}

// DeviceReader reads a package of device firmware in one pass: OpenDevice, then Image to its end.
type DeviceReader struct {
	Manifest DeviceManifest
	members
}

// OpenDevice reads and verifies manifest and signature. Errors: ErrSigner, ErrDamaged, or r's.
func OpenDevice(r io.Reader, keys Keys) (*DeviceReader, error) {
	b := &DeviceReader{members: read(r)}
	manifest, err := b.signed(keys)
	if err != nil {
		return nil, err
	}
	b.Manifest, err = ParseDeviceManifest(manifest)
	return b, err
}

// Image gives the firmware, and where in the package it starts. The reader returns io.EOF only when the
// whole package is as the manifest says.
func (b *DeviceReader) Image() (image io.Reader, offset int64, err error) {
	v, err := b.file(imageName, b.Manifest.Image)
	if err != nil {
		return nil, 0, err
	}
	v.end = b.end
	return v, b.in.n, nil
}

// WriteDevice packs a device firmware, as Write packs a bundle.
func WriteDevice(w io.Writer, manifest, signature []byte, image io.Reader) error {
	m, err := ParseDeviceManifest(manifest)
	if err != nil {
		return err
	}
	return pack(w, []member{
		{manifestName, int64(len(manifest)), bytes.NewReader(manifest)},
		{signatureName, int64(len(signature)), bytes.NewReader(signature)},
		{imageName, m.Image.Length, newVerifier(image, m.Image)},
	})
}
