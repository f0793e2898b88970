package bundle

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
)

const (
	// Format is the version of the form.
	Format = 1
	// Product is the only one there is.
	Product = "ratchet"
	// MaxVersion is the highest security version: V has 64 bits.
	MaxVersion = 63

	maxManifest  = 64 << 10
	maxSignature = 128
	// MaxSBOM bounds the SBOM, in bytes.
	MaxSBOM = 4 << 20
	// MaxUKI bounds the image, in bytes; what fits a slot is less.
	MaxUKI = 1 << 30

	maxFirmware = 256
	maxText     = 128
)

var (
	// ErrSigner says that no key of this box signed the bundle.
	ErrSigner = errors.New("the bundle is not signed by a key that this box knows")
	// ErrDamaged says that a bundle is no bundle, was cut off or was altered.
	ErrDamaged = errors.New("the bundle is damaged")
	// ErrOther says that a bundle is good, but not for this box.
	ErrOther = errors.New("the bundle is not for this box")
	// ErrOld says that the box has left this security version behind.
	ErrOld = errors.New("the bundle is older than this box allows")
)

// Digest is a SHA-256 that JSON writes in hex.
type Digest [sha256.Size]byte

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(b []byte) error {
	if hex.DecodedLen(len(b)) != len(d) {
		return fmt.Errorf("digest of %d letters, want %d", len(b), hex.EncodedLen(len(d)))
	}
	_, err := hex.Decode(d[:], b)
	return err
}

func (d Digest) String() string { return hex.EncodeToString(d[:]) }

// File is one of the two files that a manifest vouches for.
type File struct {
	Length int64  `json:"length"` // bytes
	SHA256 Digest `json:"sha256"`
}

// Firmware is a firmware of a device that the vendor has tested with this release.
type Firmware struct {
	Kind    string `json:"kind"`  // nic or disk
	Model   string `json:"model"` // as the catalogue names it
	Version string `json:"version"`
	Digest  Digest `json:"digest,omitzero"` // of the firmware file; zero when only the version is known
}

// Manifest says what a bundle holds and for whom.
type Manifest struct {
	Format  int    `json:"format"`
	Product string `json:"product"`
	Flavour string `json:"flavour"` // of the kernel: cloud or full
	Arch    string `json:"arch"`    // x86_64
	Version string `json:"version"` // for people
	// SecurityVersion decides what may follow what: V never goes back.
	SecurityVersion uint `json:"security_version"`
	// Revokes asks for the older release to be replaced at once, not after a time of proof.
	Revokes bool `json:"revokes,omitempty"`
	// Development images are for boxes that run one.
	Development bool `json:"development,omitempty"`
	// MinMemory is the least memory of a box in bytes, 0 for any.
	MinMemory uint64     `json:"min_memory,omitempty"`
	UKI       File       `json:"uki"`
	SBOM      File       `json:"sbom"`
	Firmware  []Firmware `json:"firmware,omitempty"`
}

// Encode gives the exact bytes to sign.
func (m Manifest) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(m, "", "  ")
	if err == nil {
		err = m.check()
	}
	if err != nil {
		return nil, fmt.Errorf("write manifest: %w", err)
	}
	return append(b, '\n'), nil
}

// ParseManifest reads a manifest whose signature was verified; what it does not know is an error, since leaving a
// condition out could install what must not be.
func ParseManifest(b []byte) (Manifest, error) {
	var m Manifest
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
		return Manifest{}, fmt.Errorf("%w: manifest: %w", ErrDamaged, err)
	}
	return m, nil
}

func (m Manifest) check() error {
	switch {
	case m.Format != Format:
		return fmt.Errorf("format %d, this image knows %d", m.Format, Format)
	case m.UKI.Length <= 0 || m.UKI.Length > MaxUKI:
		return fmt.Errorf("image of %d bytes", m.UKI.Length)
	case m.SBOM.Length < 0 || m.SBOM.Length > MaxSBOM:
		return fmt.Errorf("SBOM of %d bytes", m.SBOM.Length)
	case m.SecurityVersion > MaxVersion:
		return fmt.Errorf("security version %d, at most %d", m.SecurityVersion, MaxVersion)
	case len(m.Firmware) > maxFirmware:
		return fmt.Errorf("%d device firmwares, at most %d", len(m.Firmware), maxFirmware)
	}
	texts := []string{m.Product, m.Flavour, m.Arch, m.Version}
	for _, f := range m.Firmware {
		texts = append(texts, f.Kind, f.Model, f.Version)
	}
	for _, s := range texts {
		if s == "" || len(s) > maxText || strings.ContainsFunc(s, unprintable) {
			return fmt.Errorf("text %q: empty, too long or not printable", s[:min(len(s), maxText)])
		}
	}
	return nil
}

// unprintable keeps what a bundle calls itself from steering a terminal.
func unprintable(r rune) bool { return r < ' ' || r >= 0x7f }

// Box is what a bundle must fit.
type Box struct {
	Flavour, Arch string
	Memory        uint64 // bytes; 0 when not known
	Development   bool
	// Floor is the lowest security version that may still run.
	Floor uint
	// Slot is how large an image may be, in bytes.
	Slot int64
}

// Check says why a bundle cannot be installed on a box: ErrOther or ErrOld.
func (m Manifest) Check(b Box) error {
	switch {
	case m.Product != Product:
		return fmt.Errorf("%w: it is for the product %s", ErrOther, m.Product)
	case m.Arch != b.Arch:
		return fmt.Errorf("%w: it is for %s, this box is %s", ErrOther, m.Arch, b.Arch)
	case m.Flavour != b.Flavour:
		return fmt.Errorf("%w: it has the %s kernel, this box runs %s", ErrOther, m.Flavour, b.Flavour)
	case m.Development && !b.Development:
		return fmt.Errorf("%w: it is a development image", ErrOther)
	case b.Memory > 0 && b.Memory < m.MinMemory:
		return fmt.Errorf("%w: it needs %d MiB of memory, this box has %d", ErrOther, m.MinMemory>>20, b.Memory>>20)
	case m.UKI.Length > b.Slot:
		return fmt.Errorf("%w: its image has %d bytes, a slot of this box holds %d", ErrOther, m.UKI.Length, b.Slot)
	case m.SecurityVersion < b.Floor:
		return fmt.Errorf("%w: security version %d, the box requires %d since a newer one was proven", ErrOld, m.SecurityVersion, b.Floor)
	}
	return nil
}
