package uki

import (
	"fmt"
	"slices"
)

// Content is what goes into an image.
type Content struct {
	OSRelease []byte // os-release(5) text
	Uname     []byte // kernel release
	Cmdline   []byte // the kernel's command line; the only one it will get under Secure Boot
	Initrd    []byte
	Linux     []byte // bzImage with an EFI stub
}

// sectionFlags are "initialised data, readable": the stub copies what it starts.
const sectionFlags = 0x40000040

// Build appends the content to the stub.
func Build(stub []byte, c Content) ([]byte, error) {
	f, err := Parse(stub)
	if err != nil {
		return nil, fmt.Errorf("parse stub: %w", err)
	}
	if f.certSize > 0 {
		return nil, fmt.Errorf("parse stub: it is signed; use the unsigned one of package systemd-boot-efi")
	}
	if _, ok := f.Section(".linux"); ok {
		return nil, fmt.Errorf("parse stub: it has a .linux section: that is an image, not a stub")
	}
	return f.append([]section{
		{".osrel", c.OSRelease},
		{".uname", c.Uname},
		{".cmdline", c.Cmdline},
		{".initrd", c.Initrd},
		{".linux", c.Linux},
	})
}

// WithSection adds a section behind those of an unsigned image. It is for what is made from the image,
// as the signature over its PCR 11, and must be of a name that the stub does not measure.
func WithSection(image []byte, name string, data []byte) ([]byte, error) {
	f, err := Parse(image)
	if err != nil {
		return nil, fmt.Errorf("add section %s: %w", name, err)
	}
	if f.certSize > 0 {
		return nil, fmt.Errorf("add section %s: the image is signed already", name)
	}
	if _, ok := f.Section(name); ok {
		return nil, fmt.Errorf("add section %s: there is one already", name)
	}
	if slices.Contains(measured252, name) || slices.Contains(measured255, name) {
		return nil, fmt.Errorf("add section %s: it is measured, and would change what was predicted", name)
	}
	return f.append([]section{{name, data}})
}

type section struct {
	name string
	data []byte
}

// append returns a copy of the file that ends with more sections.
func (f *File) append(add []section) ([]byte, error) {
	total := uint64(f.rawEnd)
	for _, s := range add {
		if len(s.data) == 0 {
			return nil, fmt.Errorf("build image: section %s is empty", s.name)
		}
		total += uint64(len(s.data)) + uint64(f.fileAlign)
	}
	if total > 1<<30 {
		return nil, fmt.Errorf("build image: %d bytes do not fit a PE file the firmware would load", total)
	}
	header := f.table + len(f.Sections)*sectionSize
	if room := (int(f.sizeOfHeaders) - header) / sectionSize; room < len(add) {
		return nil, fmt.Errorf("build image: the stub's header has room for %d more sections, %d are needed", room, len(add))
	}

	// What stands behind the last section is the symbol table; it goes, and so must the
	// header's pointer to it, or PE readers look for a string table at the end of the kernel.
	out := make([]byte, 0, total)
	out = append(out, f.Data[:f.rawEnd]...)
	out = pad(out, f.fileAlign)
	// Page-aligned whatever the stub asks for, so that firmware can protect section by section.
	pages := max(f.sectAlign, 4096)
	address := align(f.sizeOfImage, pages)
	for i, s := range add {
		h := out[header+i*sectionSize:][:sectionSize]
		clear(h)
		copy(h, s.name)
		le.PutUint32(h[8:], uint32(len(s.data)))
		le.PutUint32(h[12:], address)
		le.PutUint32(h[16:], align(uint32(len(s.data)), f.fileAlign))
		le.PutUint32(h[20:], uint32(len(out)))
		le.PutUint32(h[36:], sectionFlags)
		out = pad(append(out, s.data...), f.fileAlign)
		address = align(address+uint32(len(s.data)), pages)
	}
	le.PutUint16(out[f.coff+6:], uint16(len(f.Sections)+len(add)))
	le.PutUint64(out[f.coff+12:], 0) // symbol table: pointer and count
	le.PutUint32(out[f.opt+56:], address)
	le.PutUint32(out[f.checksum():], 0)
	return out, nil
}

func align(n, a uint32) uint32 { return (n + a - 1) &^ (a - 1) }

func pad(b []byte, a uint32) []byte {
	return append(b, make([]byte, align(uint32(len(b)), a)-uint32(len(b)))...)
}
