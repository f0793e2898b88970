package kmod

import (
	"fmt"
	"os"
	"strings"
	"sync"

	"github.com/klauspost/compress/zstd"
	"golang.org/x/sys/unix"
)

// maxModule bounds what a compressed module may become; the largest of Debian's have 6 MiB.
const maxModule = 64 << 20

// expander decompresses each module at most once, whoever asks first. The zero value is ready.
type expander struct {
	mu      sync.Mutex
	files   map[string]func() ([]byte, error) // nil once taken
	decoder func() (*zstd.Decoder, error)
}

// file gives the function that decompresses a file or waits for who does it already, nil when the
// result was taken.
func (x *expander) file(path string) func() ([]byte, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	if x.files == nil {
		x.files = map[string]func() ([]byte, error){}
		x.decoder = sync.OnceValues(func() (*zstd.Decoder, error) {
			return zstd.NewReader(nil, zstd.WithDecoderConcurrency(2), zstd.WithDecoderMaxMemory(maxModule))
		})
	}
	f, known := x.files[path]
	if !known {
		f = sync.OnceValues(func() ([]byte, error) { return x.expand(path) })
		x.files[path] = f
	}
	return f
}

// taken says that the module went to the kernel, and with it what it depends on.
func (x *expander) taken(path string) bool {
	x.mu.Lock()
	defer x.mu.Unlock()
	f, known := x.files[path]
	return known && f == nil
}

// start decompresses a file and keeps the result until it is taken. An error is for who takes it.
func (x *expander) start(path string) {
	if f := x.file(path); f != nil {
		_, _ = f()
	}
}

// take returns the module and forgets it.
func (x *expander) take(path string) ([]byte, error) {
	f := x.file(path)
	if f == nil {
		return x.expand(path) // its insertion failed before
	}
	image, err := f()
	x.mu.Lock()
	defer x.mu.Unlock()
	x.files[path] = nil
	return image, err
}

// expand returns what is in a file, nil when the kernel can take the file itself.
func (x *expander) expand(path string) ([]byte, error) {
	if !strings.HasSuffix(path, ".zst") {
		return nil, nil
	}
	data, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	decoder, err := x.decoder()
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
