package recorded

import (
	"bytes"
	"errors"
	"io"
	"sync"
	"testing"

	"github.com/ratchetos/ratchet/plugins/internal/log"
)

// recorder is a disk that makes a recording itself, as the kernel's target does: what was written reaches it at the
// next flush.
type recorder struct {
	*overlay
	mu        sync.Mutex
	unflushed []Entry
	entries   []Entry
	forget    bool // the mutant: flushes are answered and do nothing
}

var _ log.Disk = (*recorder)(nil)

func (d *recorder) WriteAt(p []byte, off int64) (int, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.unflushed = append(d.unflushed, Entry{Offset: off, Len: int64(len(p)), Data: bytes.Clone(p)})
	return d.overlay.WriteAt(p, off)
}

func (d *recorder) Sync() error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if !d.forget {
		d.entries = append(append(d.entries, d.unflushed...), Entry{Flush: true})
		d.unflushed = nil
	}
	return nil
}

func (d *recorder) mark(text string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.forget && text == markAcked+"0" {
		// Formatted in truth, so that what is missing later is the client's.
		d.entries, d.unflushed = append(d.entries, d.unflushed...), nil
	}
	d.entries = append(d.entries, Entry{Mark: text})
	return nil
}

func check(t *testing.T, d *recorder) Result {
	t.Helper()
	const seed = 3
	var journal bytes.Buffer
	if err := drive(t.Context(), d, seed, 150, &journal, d.mark); err != nil {
		t.Fatal(err)
	}
	r, err := Check(t.Context(), seed, bytes.NewReader(written(d.entries...)), &journal, 4, func(entry int, err error) {
		t.Logf("at entry %d: %v", entry, err)
	})
	if err != nil && !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
	return r
}

func TestCheck(t *testing.T) {
	if r := check(t, &recorder{overlay: newOverlay(make([]byte, DiskSize))}); r.Lost != 0 || r.Tried < 5 {
		t.Errorf("%+v", r)
	}
}

func TestCheckNoticesForgottenFlush(t *testing.T) {
	if r := check(t, &recorder{overlay: newOverlay(make([]byte, DiskSize)), forget: true}); r.Lost == 0 {
		t.Errorf("a disk that forgets every flush was not noticed: %+v", r)
	}
}
