package builder

import (
	"archive/tar"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/zstd"

	"github.com/ratchetos/ratchet/boot/bundle"
)

var (
	zstdMagic = []byte{0x28, 0xb5, 0x2f, 0xfd}
	tarMagic  = []byte("ustar")
)

const (
	tarMagicAt = 257
	// maxDisk bounds what a compressed disk may unpack to.
	maxDisk = 64 << 30
)

// BundleReport is the update around an image. Nothing in it was verified.
type BundleReport struct {
	Manifest bundle.Manifest `json:"manifest"`
	path     string
}

// inspectBundle reads manifest and image of an update, whoever signed it.
func inspectBundle(path string) (*Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	defer f.Close()
	r := &Report{}
	for t := tar.NewReader(f); ; {
		h, err := t.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return nil, fmt.Errorf("inspect %s: %w", path, err)
		}
		if h.Size > maxUKI {
			return nil, fmt.Errorf("inspect %s: %s has %d bytes", path, h.Name, h.Size)
		}
		switch h.Name {
		case "manifest.json":
			b, err := io.ReadAll(t)
			if err != nil {
				return nil, fmt.Errorf("inspect %s: %w", path, err)
			}
			r.Bundle = &BundleReport{path: path}
			if r.Bundle.Manifest, err = bundle.ParseManifest(b); err != nil {
				return nil, fmt.Errorf("inspect %s: %w", path, err)
			}
		case "uki.efi":
			b, err := io.ReadAll(t)
			if err != nil {
				return nil, fmt.Errorf("inspect %s: %w", path, err)
			}
			image, err := inspectUKI(b)
			if err != nil {
				return nil, fmt.Errorf("inspect %s: %w", path, err)
			}
			r.Images = append(r.Images, image)
		}
	}
	if r.Bundle == nil || len(r.Images) != 1 {
		return nil, fmt.Errorf("inspect %s: a tar, but not one of our updates", path)
	}
	return r, nil
}

// verify reads the update as a box does, to its end, and holds manifest and image against each other.
func (b *BundleReport) verify(keys bundle.Keys, image ImageReport) error {
	if len(keys) == 0 {
		return errors.New("name the bundle's key with --bundle-key FILE or --keys DIR")
	}
	f, err := os.Open(b.path)
	if err != nil {
		return err
	}
	defer f.Close()
	r, err := bundle.Open(f, keys)
	if err != nil {
		return err
	}
	data, err := r.UKI()
	if err != nil {
		return err
	}
	if _, err := io.Copy(io.Discard, data); err != nil {
		return err
	}
	m, p := b.Manifest, image.Policy
	if m.Version != p.Version || m.Flavour != p.Flavour || m.SecurityVersion != p.SecurityVersion || m.Development != p.Development {
		return fmt.Errorf("the manifest says %s %s (security version %d, development %v), the image is %s %s (%d, %v)",
			m.Version, m.Flavour, m.SecurityVersion, m.Development, p.Version, p.Flavour, p.SecurityVersion, p.Development)
	}
	return nil
}

// inspectCompressed unpacks a disk image into a temporary file, holes and all.
func inspectCompressed(path string) (*Report, error) {
	dir, err := os.MkdirTemp("", "ratchet-inspect-")
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	defer os.RemoveAll(dir)
	from, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	defer from.Close()
	to, err := os.Create(dir + "/disk.img")
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	err = Decompress(to, from)
	if err = errors.Join(err, to.Close()); err != nil {
		return nil, fmt.Errorf("inspect %s: %w", path, err)
	}
	r, err := inspectDisk(to.Name())
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", path, err)
	}
	return r, nil
}

// block is how much of a disk is looked at at once, to leave holes where it is zero.
const block = 1 << 20

// window is the largest that every decoder takes without being asked to. It reaches from one image slot
// to the other, which holds the same: the file is half as long.
const window = 128 << 20

// Compress writes a disk image as one zstd frame; the same disk gives the same bytes.
func Compress(to io.Writer, from io.Reader) error {
	// One goroutine: more of them cut the frame where they happen to meet.
	z, err := zstd.NewWriter(to, zstd.WithEncoderConcurrency(1), zstd.WithEncoderLevel(zstd.SpeedBetterCompression), zstd.WithWindowSize(window))
	if err != nil {
		return fmt.Errorf("compress disk: %w", err)
	}
	if _, err := io.Copy(z, from); err != nil {
		return fmt.Errorf("compress disk: %w", err)
	}
	if err := z.Close(); err != nil {
		return fmt.Errorf("compress disk: %w", err)
	}
	return nil
}

// Decompress undoes Compress into an empty file.
func Decompress(to *os.File, from io.Reader) error {
	z, err := zstd.NewReader(from, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(window))
	if err != nil {
		return fmt.Errorf("unpack disk: %w", err)
	}
	defer z.Close()
	buf, zero := make([]byte, block), make([]byte, block)
	for at := int64(0); ; {
		n, err := io.ReadFull(z, buf)
		if n > 0 && !bytes.Equal(buf[:n], zero[:n]) {
			if _, err := to.WriteAt(buf[:n], at); err != nil {
				return fmt.Errorf("unpack disk: %w", err)
			}
		}
		if at += int64(n); at > maxDisk {
			return fmt.Errorf("unpack disk: it is larger than %d GiB", int64(maxDisk)>>30)
		}
		if err == io.EOF { // of ReadFull itself
			return to.Truncate(at)
		}
		if err != nil { // a disk is a multiple of the block, so one that is not was cut off
			return fmt.Errorf("unpack disk: %w", err)
		}
	}
}
