package sim

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"io"
	"strings"

	"github.com/ratchetos/ratchet/hw/firmware"
)

// Image makes a firmware image of size bytes for a model. The same arguments give the same bytes.
func Image(model, version string, size int) []byte {
	line := fmt.Sprintf("%s model=%s version=%s\n", firstLine, model, version)
	b := make([]byte, max(size, len(line)))
	copy(b, line)
	// Content that differs with the version everywhere, as another build does.
	seed := sha256.Sum256([]byte(line))
	for i := len(line); i < len(b); i++ {
		b[i] = seed[i%len(seed)] ^ byte(i>>8)
	}
	return b
}

// describe reads the first line of an image.
func describe(image io.ReaderAt, size int64) (model, version string, err error) {
	b := make([]byte, min(size, 256))
	if n, err := image.ReadAt(b, 0); err != nil && n < len(b) {
		return "", "", fmt.Errorf("read firmware image: %w", err)
	}
	line, _, ended := bytes.Cut(b, []byte{'\n'})
	words := strings.Fields(string(line))
	if !ended || len(words) != 3 || words[0] != firstLine {
		return "", "", fmt.Errorf("%w: it is no firmware of a simulated device", firmware.ErrImage)
	}
	model, okModel := strings.CutPrefix(words[1], "model=")
	version, okVersion := strings.CutPrefix(words[2], "version=")
	if !okModel || !okVersion {
		return "", "", fmt.Errorf("%w: its first line names no model or no version", firmware.ErrImage)
	}
	return firmware.Clean(model), firmware.Clean(version), nil
}
