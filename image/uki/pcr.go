package uki

import (
	"crypto/sha256"
	"errors"
)

// measured lists the sections the stub measures, in its order. It extends the name with its
// final NUL, then the content. .uname is not measured, nor is .pcrsig, which signs the result.
var measured = []string{".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrpkey"}

// PCR11 is the value of PCR 11, SHA-256 bank, when the image's init starts: sections only, since
// init is first to extend it further.
func PCR11(f *File) ([32]byte, error) {
	var pcr [32]byte
	if _, ok := f.Section(".linux"); !ok {
		return pcr, errors.New("predict PCR 11: no .linux section: not a unified kernel image")
	}
	for _, name := range measured {
		if data, ok := f.Section(name); ok {
			pcr = extend(pcr, append([]byte(name), 0))
			pcr = extend(pcr, data)
		}
	}
	return pcr, nil
}

func extend(pcr [32]byte, data []byte) [32]byte {
	d := sha256.Sum256(data)
	return sha256.Sum256(append(pcr[:], d[:]...))
}
