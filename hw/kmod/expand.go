package kmod

import (
	"fmt"
	"os"
	"strings"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// maxModule bounds what a compressed module may become; the largest of Debian's have 6 MiB.
const maxModule = 64 << 20

func newDecoder() (*zstd.Decoder, error) {
	return zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(maxModule))
}

// expand returns what is in a file, nil when the kernel can take the file itself.
func (l *Loader) expand(path string) ([]byte, error) {
	if !strings.HasSuffix(path, ".zst") {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	decoder, err := l.decoder()
	if err != nil {
		return nil, err
	}
	// The frame says how long it will be: one piece of memory, and no window beside it.
	image, err := decoder.DecodeAll(data, nil)
	if err != nil {
		return nil, fmt.Errorf("decompress %s: %w", path, err)
	}
	return image, nil
}

// insert gives a module to the kernel. Debian's cannot decompress one itself.
func insert(path string, image []byte, parameters string) error {
	if image != nil {
		return unix.InitModule(image, parameters)
	}
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), parameters, 0)
}
