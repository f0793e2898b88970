package uki

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
	"strconv"
	"strings"
)

// What the stub measures, in its order: the name with its final NUL, then the content. .pcrsig
// signs the result and is never part of it.
var (
	// measured252 is the order of systemd 252, whose stub ignores .uname and .sbat.
	measured252 = []string{".linux", ".osrel", ".cmdline", ".initrd", ".splash", ".dtb", ".pcrpkey"}
	// measured255 is the order since systemd 255.
	measured255 = []string{".linux", ".osrel", ".cmdline", ".initrd", ".ucode", ".splash", ".dtb", ".uname", ".sbat", ".pcrpkey"}
)

// PCR11 is the value of PCR 11, SHA-256 bank, when the image's init starts: sections only, since
// init is first to extend it further.
func PCR11(f *File) ([32]byte, error) {
	var pcr [32]byte
	if _, ok := f.Section(".linux"); !ok {
		return pcr, errors.New("predict PCR 11: no .linux section: not a unified kernel image")
	}
	version, err := StubVersion(f)
	if err != nil {
		return pcr, fmt.Errorf("predict PCR 11: %w", err)
	}
	measured := measured252
	switch {
	case version >= 255:
		measured = measured255
	case version != 252:
		// A wrong prediction is worse than none: policies would name a value no boot reaches.
		return pcr, fmt.Errorf("predict PCR 11: it is not known what the stub of systemd %d measures; use 252 or 255 and later", version)
	}
	for _, name := range measured {
		if data, ok := f.Section(name); ok {
			pcr = extend(pcr, append([]byte(name), 0))
			pcr = extend(pcr, data)
		}
	}
	return pcr, nil
}

// stubMagic stands before the version in the stub's .sdmagic section.
const stubMagic = "#### LoaderInfo: systemd-stub "

// StubRelease is the version of the systemd stub inside an image, with the distribution's suffix:
// "252.39-1~deb12u2".
func StubRelease(f *File) (string, error) {
	b, _ := f.Section(".sdmagic")
	text, ok := bytes.CutPrefix(b, []byte(stubMagic))
	release, _, end := bytes.Cut(text, []byte(" ####"))
	if !ok || !end || len(release) == 0 || len(release) > 64 {
		return "", errors.New("no systemd stub inside (.sdmagic)")
	}
	return string(release), nil
}

// StubVersion is the major version of the stub.
func StubVersion(f *File) (int, error) {
	release, err := StubRelease(f)
	if err != nil {
		return 0, err
	}
	digits := strings.IndexFunc(release+".", func(r rune) bool { return r < '0' || r > '9' })
	n, err := strconv.Atoi(release[:digits])
	if err != nil {
		return 0, fmt.Errorf("stub version %q: %w", release, err)
	}
	return n, nil
}

func extend(pcr [32]byte, data []byte) [32]byte {
	d := sha256.Sum256(data)
	return sha256.Sum256(append(pcr[:], d[:]...))
}
