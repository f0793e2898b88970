package recorded

import (
	"sync"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// pageSize of an overlay, the log's own.
const pageSize = log.BlockSize

// overlay is a disk over an image that stays as it is.
type overlay struct {
	image []byte
	mu    sync.Mutex
	pages map[int64][]byte
}

var _ log.Disk = (*overlay)(nil)

func newOverlay(image []byte) *overlay { return &overlay{image: image, pages: map[int64][]byte{}} }

func (o *overlay) Size() int64 { return int64(len(o.image)) }
func (o *overlay) Sync() error { return nil }

// ReadAt implements log.Disk, in whole blocks as the log does all its I/O.
func (o *overlay) ReadAt(p []byte, off int64) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for at := int64(0); at < int64(len(p)); at += pageSize {
		from := o.image[off+at : off+at+pageSize]
		if page := o.pages[off+at]; page != nil {
			from = page
		}
		copy(p[at:at+pageSize], from)
	}
	return len(p), nil
}

// WriteAt implements log.Disk.
func (o *overlay) WriteAt(p []byte, off int64) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for at := int64(0); at < int64(len(p)); at += pageSize {
		o.pages[off+at] = append([]byte(nil), p[at:at+pageSize]...)
	}
	return len(p), nil
}
