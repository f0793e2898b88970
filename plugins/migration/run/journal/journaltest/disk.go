// Package journaltest is a disk in memory that forgets at a crash what was not synced, and fails when it is told to.
package journaltest

import (
	"errors"
	"sync"

	"github.com/ratchetos/ratchet/plugins/migration/run/journal"
)

var (
	// ErrFault is what a call that was told to fail returns.
	ErrFault = errors.New("injected fault of the disk")
	// ErrCrash as a fault is a crash before the call.
	ErrCrash = errors.New("crash before a call of the disk")
	// ErrCrashAfter is one after it.
	ErrCrashAfter = errors.New("crash after a call of the disk")
)

// Disk is one. The zero value is empty.
type Disk struct {
	// Fault is asked before each call, by its name: "write", "sync", "truncate", "replace". After an error nothing
	// is done, but for a write, which leaves half of it behind.
	Fault func(call string) error
	// Lazy makes Sync do nothing: a journal without it, which tests must notice.
	Lazy bool

	mu    sync.Mutex
	files map[string]*content
	gone  int // generation: files of before a crash are dead
}

// content is a file as the process sees it and as the platters have it.
type content struct{ now, durable []byte }

var _ journal.Disk = (*Disk)(nil)

// Crash ends all open files. torn is how many bytes beyond what was synced reached the platters all the same.
func (d *Disk) Crash(torn int) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.crash(torn)
}

func (d *Disk) crash(torn int) {
	d.gone++
	for _, c := range d.files {
		if n := len(c.durable); len(c.now) > n {
			c.durable = append(c.durable, c.now[n:min(len(c.now), n+torn)]...)
		}
		c.now = append([]byte(nil), c.durable...)
	}
}

func (d *Disk) fails(call string) error {
	if d.Fault == nil {
		return nil
	}
	return d.Fault(call)
}

// Read implements journal.Disk.
func (d *Disk) Read(name string) ([]byte, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if c := d.files[name]; c != nil {
		return append([]byte(nil), c.now...), nil
	}
	return nil, nil
}

// Append implements journal.Disk.
func (d *Disk) Append(name string, size int64) (journal.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.files == nil {
		d.files = map[string]*content{}
	}
	c := d.files[name]
	if c == nil {
		c = &content{}
		d.files[name] = c
	}
	c.now = append([]byte(nil), c.now[:size]...)
	c.durable = append([]byte(nil), c.now...)
	return &file{disk: d, content: c, life: d.gone}, nil
}

// Replace implements journal.Disk.
func (d *Disk) Replace(with, name string) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if err := d.fails("replace"); err != nil {
		return err
	}
	d.files[name] = d.files[with]
	delete(d.files, with)
	return nil
}

type file struct {
	disk    *Disk
	content *content
	life    int
}

// call runs fn unless the file is of before a crash or the call is told to fail.
func (f *file) call(name string, fn func(failed error) error) error {
	f.disk.mu.Lock()
	defer f.disk.mu.Unlock()
	if f.life != f.disk.gone {
		return errors.New("this file was open before the crash")
	}
	switch failed := f.disk.fails(name); {
	case errors.Is(failed, ErrCrash):
		f.disk.crash(0)
		return failed
	case errors.Is(failed, ErrCrashAfter):
		err := fn(nil)
		f.disk.crash(0)
		return errors.Join(failed, err)
	default:
		return fn(failed)
	}
}

func (f *file) Write(p []byte) (n int, err error) {
	err = f.call("write", func(failed error) error {
		n = len(p)
		if failed != nil {
			n /= 2
		}
		f.content.now = append(f.content.now, p[:n]...)
		return failed
	})
	return n, err
}

func (f *file) Sync() error {
	return f.call("sync", func(failed error) error {
		if failed == nil && !f.disk.Lazy {
			f.content.durable = append([]byte(nil), f.content.now...)
		}
		return failed
	})
}

func (f *file) Truncate(size int64) error {
	return f.call("truncate", func(failed error) error {
		if failed == nil {
			f.content.now = f.content.now[:size]
		}
		return failed
	})
}

func (f *file) Close() error { return nil }
