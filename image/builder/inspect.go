package builder

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	diskfs "github.com/diskfs/go-diskfs"
	"github.com/diskfs/go-diskfs/partition/gpt"

	"github.com/ratchetos/ratchet/boot"
	"github.com/ratchetos/ratchet/boot/esp"
	"github.com/ratchetos/ratchet/image/initramfs"
	"github.com/ratchetos/ratchet/image/sign"
	"github.com/ratchetos/ratchet/image/uki"
)

// Report describes a UKI, a disk image or an update.
type Report struct {
	Bundle     *BundleReport     `json:"bundle,omitempty"`     // of an update
	Partitions []PartitionReport `json:"partitions,omitempty"` // of a disk
	Images     []ImageReport     `json:"images"`               // the UKI, or that of each slot
}

// PartitionReport is one partition of a disk.
type PartitionReport struct {
	Name  string `json:"name"`
	Start int64  `json:"start"` // bytes
	Size  int64  `json:"size"`
	GUID  string `json:"guid"`
}

// ImageReport describes one UKI.
type ImageReport struct {
	Slot      string          `json:"slot,omitempty"` // "A" or "B" on a disk
	Size      int             `json:"size"`
	Stub      int             `json:"stub"` // systemd version
	Release   string          `json:"release"`
	Kernel    string          `json:"kernel"` // uname -r
	Cmdline   string          `json:"cmdline"`
	PCR11     string          `json:"pcr11"`
	Digest    string          `json:"digest"` // Authenticode, SHA-256
	Signed    bool            `json:"signed"`
	Policy    boot.Policy     `json:"policy"`
	Sections  []SectionReport `json:"sections"`
	file      *uki.File
	policyErr error
}

// SectionReport is one section of a UKI.
type SectionReport struct {
	Name string `json:"name"`
	Size int    `json:"size"`
}

// maxUKI bounds what is read as an image.
const maxUKI = 1 << 30

// Inspect reads a UKI, a disk image (plain or compressed) or an update and says what it is. The signature is not checked here.
func Inspect(path string) (*Report, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	defer f.Close()
	var head [512]byte // of everything that can be inspected
	if _, err := io.ReadFull(f, head[:]); err != nil {
		return nil, fmt.Errorf("inspect %s: neither a UKI nor a disk image: %w", path, err)
	}
	switch {
	case bytes.HasPrefix(head[:], zstdMagic):
		return inspectCompressed(path)
	case bytes.HasPrefix(head[tarMagicAt:], tarMagic):
		return inspectBundle(path)
	case string(head[:2]) != "MZ":
		return inspectDisk(path)
	}
	if _, err := f.Seek(0, io.SeekStart); err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	data, err := io.ReadAll(io.LimitReader(f, maxUKI))
	if err != nil {
		return nil, fmt.Errorf("inspect: %w", err)
	}
	image, err := inspectUKI(data)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", path, err)
	}
	return &Report{Images: []ImageReport{image}}, nil
}

func inspectUKI(data []byte) (ImageReport, error) {
	f, err := uki.Parse(data)
	if err != nil {
		return ImageReport{}, err
	}
	pcr, err := uki.PCR11(f)
	if err != nil {
		return ImageReport{}, err
	}
	r := ImageReport{
		Size: len(data), PCR11: fmt.Sprintf("%x", pcr), Digest: fmt.Sprintf("%x", sign.Digest(f)),
		Signed: len(f.Certificates()) > 0, file: f,
	}
	if r.Stub, err = uki.StubVersion(f); err != nil {
		return ImageReport{}, err
	}
	for _, s := range f.Sections {
		r.Sections = append(r.Sections, SectionReport{s.Name, int(s.VirtualSize)})
	}
	text := func(name string) string {
		b, _ := f.Section(name)
		return strings.TrimSpace(string(bytes.TrimRight(b, "\x00")))
	}
	r.Kernel, r.Cmdline = text(".uname"), text(".cmdline")
	for line := range strings.Lines(text(".osrel")) {
		if v, ok := strings.CutPrefix(strings.TrimSpace(line), "PRETTY_NAME="); ok {
			r.Release = strings.Trim(v, `"`)
		}
	}
	// An image that is not ours has no policy; that matters to Verify, not to Inspect.
	initrd, _ := f.Section(".initrd")
	r.Policy, r.policyErr = initramfs.ReadPolicy(initrd)
	if r.Policy.RecoveryKey != "" {
		r.Policy.RecoveryKey = "(hidden)" // reports end up in logs
	}
	return r, nil
}

// inspectDisk reads the partition table and the image of each slot.
func inspectDisk(path string) (*Report, error) {
	d, err := diskfs.Open(path, diskfs.WithOpenMode(diskfs.ReadOnly))
	if err != nil {
		return nil, fmt.Errorf("inspect %s: neither a UKI nor a disk image: %w", path, err)
	}
	defer d.Close()
	t, err := d.GetPartitionTable()
	if err != nil {
		return nil, fmt.Errorf("inspect %s: neither a UKI nor a disk image: %w", path, err)
	}
	table, ok := t.(*gpt.Table)
	if !ok {
		return nil, fmt.Errorf("inspect %s: the disk has no GPT", path)
	}
	r := &Report{}
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("inspect %s: %w", path, err)
	}
	defer f.Close()
	for _, p := range table.Partitions {
		if p.Name == "" {
			continue
		}
		r.Partitions = append(r.Partitions, PartitionReport{p.Name, p.GetStart(), p.GetSize(), p.GUID})
		slot, ok := strings.CutPrefix(p.Name, "ESP-")
		if !ok {
			continue
		}
		file, _, err := esp.Find(io.NewSectionReader(f, p.GetStart(), p.GetSize()), p.GetSize())
		if err != nil {
			return nil, fmt.Errorf("inspect %s: %s: %w", path, p.Name, err)
		}
		data, err := io.ReadAll(file)
		if err != nil {
			return nil, fmt.Errorf("inspect %s: %s: %w", path, p.Name, err)
		}
		image, err := inspectUKI(data)
		if err != nil {
			return nil, fmt.Errorf("inspect %s: %s: %w", path, p.Name, err)
		}
		image.Slot = slot
		r.Images = append(r.Images, image)
	}
	if len(r.Images) == 0 {
		return nil, errors.New("inspect " + path + ": no ESP on the disk: not an image of ours")
	}
	return r, nil
}
