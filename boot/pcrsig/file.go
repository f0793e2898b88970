package pcrsig

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ratchetos/ratchet/boot/counter"
)

// Section is the name of the UKI's section; the TPM never measures it.
const Section = ".pcrsig"

// Limits of a file from outside.
const (
	MaxSize       = 16 << 10
	maxSignatures = 4
	format        = 1
)

// ErrFormat is wrapped by every error about a file that is not one of ours.
var ErrFormat = errors.New("not a signed PCR policy")

// File is a parsed file. Nothing in it has been verified.
type File struct {
	Format  int    `json:"format"` // 1
	PCR11   Digest `json:"pcr11"`
	Version uint   `json:"security_version"`
	// Signatures are by different keys: while a key is being replaced an image has two.
	Signatures []Signature `json:"signatures"`
}

// Signature is one policy key's.
type Signature struct {
	Key   Digest `json:"key"` // Fingerprint of the key
	Value []byte `json:"signature"`
}

// Digest is a SHA-256 value that is hexadecimal in JSON.
type Digest counter.Digest

// MarshalText implements encoding.TextMarshaler.
func (d Digest) MarshalText() ([]byte, error) { return hex.AppendEncode(nil, d[:]), nil }

// UnmarshalText implements encoding.TextUnmarshaler.
func (d *Digest) UnmarshalText(b []byte) error {
	if len(b) != hex.EncodedLen(len(d)) {
		return fmt.Errorf("digest of %d characters", len(b))
	}
	_, err := hex.Decode(d[:], b)
	return err
}

// Parse reads a file. Errors wrap ErrFormat.
func Parse(b []byte) (File, error) {
	fail := func(why error) (File, error) { return File{}, fmt.Errorf("%w: %w", ErrFormat, why) }
	if len(b) > MaxSize {
		return fail(fmt.Errorf("%d bytes, at most %d", len(b), MaxSize))
	}
	// The stub hands over whole sections; some builders pad them with zeros.
	d := json.NewDecoder(bytes.NewReader(bytes.TrimRight(b, "\x00")))
	d.DisallowUnknownFields()
	var f File
	if err := d.Decode(&f); err != nil {
		return fail(err)
	}
	switch {
	case d.More():
		return fail(errors.New("something stands behind it"))
	case f.Format != format:
		return fail(fmt.Errorf("format %d, this image reads %d", f.Format, format))
	case f.Version > counter.MaxVersion:
		return fail(fmt.Errorf("security version %d, at most %d", f.Version, counter.MaxVersion))
	case len(f.Signatures) == 0 || len(f.Signatures) > maxSignatures:
		return fail(fmt.Errorf("%d signatures, 1 to %d are possible", len(f.Signatures), maxSignatures))
	}
	return f, nil
}

// Release is what the file claims to approve of.
func (f File) Release() counter.Release {
	return counter.Release{PCR11: counter.Digest(f.PCR11), Version: f.Version}
}

// Encode writes the file as it stands in a section.
func (f File) Encode() ([]byte, error) {
	b, err := json.MarshalIndent(f, "", "  ")
	if err != nil {
		return nil, fmt.Errorf("write signed PCR policy: %w", err)
	}
	b = append(b, '\n')
	if _, err := Parse(b); err != nil { // what init would refuse must not get into an image
		return nil, fmt.Errorf("write signed PCR policy: %w", err)
	}
	return b, nil
}
