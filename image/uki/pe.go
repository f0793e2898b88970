package uki

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"strings"
)

// ErrFormat is wrapped by every error about a file that is not an x86-64 PE image we can use.
var ErrFormat = errors.New("not a usable x86-64 EFI program")

// Offsets in the PE headers that are read or written here.
const (
	peOffset     = 0x3c // in the DOS header: where the PE signature is
	machineAMD64 = 0x8664
	magicPE32P   = 0x20b
	coffSize     = 24  // signature and COFF header
	optFixed     = 112 // optional header before the data directories
	sectionSize  = 40

	// certEntry is the number of the certificate table among the data directories.
	certEntry = 4
	// maxSections bounds the section table, as the Windows loader does.
	maxSections = 96
)

var le = binary.LittleEndian

// File is a parsed PE image; its fields are offsets into, or values of, Data.
type File struct {
	Data     []byte
	Sections []Section

	coff, opt, table  int // of the COFF signature, optional header, section table
	sectAlign         uint32
	fileAlign         uint32
	sizeOfImage       uint32
	sizeOfHeaders     uint32
	rawEnd            int // end of the last section's bytes
	certOff, certSize int // attribute certificate table, 0 when unsigned
}

// Section is one entry of the section table.
type Section struct {
	Name            string
	VirtualAddress  uint32
	VirtualSize     uint32
	Offset, RawSize uint32
}

// Parse checks the headers of a PE32+ image and its section table.
func Parse(b []byte) (*File, error) {
	f := &File{Data: b}
	if len(b) < peOffset+4 || b[0] != 'M' || b[1] != 'Z' {
		return nil, fmt.Errorf("%w: no DOS header", ErrFormat)
	}
	if uint64(len(b)) > 1<<31 {
		return nil, fmt.Errorf("%w: %d bytes is too long", ErrFormat, len(b))
	}
	f.coff = int(le.Uint32(b[peOffset:]))
	if f.coff > len(b)-coffSize-optFixed || string(b[f.coff:f.coff+4]) != "PE\x00\x00" {
		return nil, fmt.Errorf("%w: no PE signature", ErrFormat)
	}
	if m := le.Uint16(b[f.coff+4:]); m != machineAMD64 {
		return nil, fmt.Errorf("%w: machine %#x", ErrFormat, m)
	}
	f.opt = f.coff + coffSize
	optSize := int(le.Uint16(b[f.coff+20:]))
	f.table = f.opt + optSize
	if le.Uint16(b[f.opt:]) != magicPE32P || optSize < optFixed+8*(certEntry+1) || le.Uint32(b[f.opt+108:]) <= certEntry {
		return nil, fmt.Errorf("%w: optional header of %d bytes has no certificate table entry", ErrFormat, optSize)
	}
	f.sectAlign, f.fileAlign = le.Uint32(b[f.opt+32:]), le.Uint32(b[f.opt+36:])
	f.sizeOfImage, f.sizeOfHeaders = le.Uint32(b[f.opt+56:]), le.Uint32(b[f.opt+60:])
	if f.sizeOfImage > 1<<30 {
		return nil, fmt.Errorf("%w: image of %d bytes in memory", ErrFormat, f.sizeOfImage)
	}
	if bits.OnesCount32(f.fileAlign) != 1 || f.fileAlign > 1<<16 || bits.OnesCount32(f.sectAlign) != 1 || f.sectAlign < f.fileAlign || f.sectAlign > 1<<24 {
		return nil, fmt.Errorf("%w: file alignment %#x, section alignment %#x", ErrFormat, f.fileAlign, f.sectAlign)
	}
	if err := f.readSections(); err != nil {
		return nil, err
	}
	return f, f.readCertificates()
}

func (f *File) readSections() error {
	b := f.Data
	n := int(le.Uint16(b[f.coff+6:]))
	end := f.table + n*sectionSize
	if n == 0 || n > maxSections || uint64(f.sizeOfHeaders) > uint64(len(b)) || end > int(f.sizeOfHeaders) {
		return fmt.Errorf("%w: %d sections do not fit into headers of %d bytes", ErrFormat, n, f.sizeOfHeaders)
	}
	f.rawEnd = int(f.sizeOfHeaders)
	for i := range n {
		h := b[f.table+i*sectionSize:][:sectionSize]
		s := Section{
			Name:           strings.TrimRight(string(h[:8]), "\x00"),
			VirtualSize:    le.Uint32(h[8:]),
			VirtualAddress: le.Uint32(h[12:]),
			RawSize:        le.Uint32(h[16:]),
			Offset:         le.Uint32(h[20:]),
		}
		if s.RawSize == 0 {
			s.Offset = 0 // what stands there means nothing
		}
		if uint64(s.Offset)+uint64(s.RawSize) > uint64(len(b)) {
			return fmt.Errorf("%w: section %s lies beyond the end of the file", ErrFormat, s.Name)
		}
		if uint64(s.VirtualAddress)+uint64(s.VirtualSize) > uint64(f.sizeOfImage) {
			return fmt.Errorf("%w: section %s lies beyond the end of the image", ErrFormat, s.Name)
		}
		if s.RawSize > 0 {
			f.rawEnd = max(f.rawEnd, int(s.Offset+s.RawSize))
		}
		f.Sections = append(f.Sections, s)
	}
	return nil
}

func (f *File) readCertificates() error {
	off, size := le.Uint32(f.Data[f.certDir():]), le.Uint32(f.Data[f.certDir()+4:])
	if off == 0 && size == 0 {
		return nil
	}
	// Signatures must be the last thing in the file: bytes behind them are covered by nothing.
	if int(off) < f.rawEnd || off%8 != 0 || uint64(off)+uint64(size) != uint64(len(f.Data)) {
		return fmt.Errorf("%w: certificate table at %#x of %d bytes is not the end of the file", ErrFormat, off, size)
	}
	f.certOff, f.certSize = int(off), int(size)
	return nil
}

// checksum is the offset of the header checksum, certDir that of the certificate table's entry:
// the two places, with the table itself, that a signature does not cover.
func (f *File) checksum() int { return f.opt + 64 }
func (f *File) certDir() int  { return f.opt + optFixed + 8*certEntry }

// Certificates is the attribute certificate table, empty when the image is not signed.
func (f *File) Certificates() []byte { return f.Data[f.certOff : f.certOff+f.certSize] }

// Section returns the bytes of a section without padding.
func (f *File) Section(name string) ([]byte, bool) {
	for _, s := range f.Sections {
		if s.Name == name {
			return f.Data[s.Offset:][:min(s.VirtualSize, s.RawSize)], true
		}
	}
	return nil, false
}

// Signed returns the parts of the file that an Authenticode digest covers, in order.
func (f *File) Signed() [][]byte {
	end := len(f.Data)
	if f.certSize > 0 {
		end = f.certOff
	}
	return [][]byte{
		f.Data[:f.checksum()],
		f.Data[f.checksum()+4 : f.certDir()],
		f.Data[f.certDir()+8 : end],
	}
}

// WithCertificates returns a copy of the image with another certificate table; nil removes it.
// The table must be a multiple of eight bytes long.
func (f *File) WithCertificates(table []byte) ([]byte, error) {
	if len(table)%8 != 0 {
		return nil, fmt.Errorf("append signature: table of %d bytes is not a multiple of 8", len(table))
	}
	end := len(f.Data)
	if f.certSize > 0 {
		end = f.certOff
	}
	if len(table) > 0 && end%8 != 0 {
		return nil, fmt.Errorf("append signature: image of %d bytes is not a multiple of 8", end)
	}
	out := make([]byte, 0, end+len(table))
	out = append(append(out, f.Data[:end]...), table...)
	off := uint32(0)
	if len(table) > 0 {
		off = uint32(end)
	}
	le.PutUint32(out[f.certDir():], off)
	le.PutUint32(out[f.certDir()+4:], uint32(len(table)))
	le.PutUint32(out[f.checksum():], 0) // firmware does not read it
	return out, nil
}

// Headers is the offset of the section table, for diagnostics.
func (f *File) Headers() int { return f.table }
