package guest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/ratchetos/ratchet/plugins/migration/agent/wire"
)

const (
	// While the other end of the port is closed it reads as ended, and says nothing when somebody opens it, so it is looked
	// at again: often right after it was in use, since whoever has moved the VM is about to ask, and seldom later.
	pauseShort, pauseLong = 5 * time.Millisecond, 50 * time.Millisecond
	shortPauses           = 400
	// writeLimit is how long an answer may take; one that nobody takes is dropped, and asked for again.
	writeLimit = 2 * time.Second
)

// FindPort is the device file of the virtio-serial port with that name, "" if there is none (yet).
func FindPort(name string) string {
	link := "/dev/virtio-ports/" + name // made by udev
	if _, err := os.Stat(link); err == nil {
		return link
	}
	names, _ := filepath.Glob("/sys/class/virtio-ports/*/name")
	for _, n := range names {
		if b, _ := os.ReadFile(n); string(b) == name+"\n" {
			return filepath.Join("/dev", filepath.Base(filepath.Dir(n)))
		}
	}
	return ""
}

// Port is one end of a virtio-serial port; *os.File is one.
type Port interface {
	io.ReadWriteCloser
	SetWriteDeadline(t time.Time) error
}

// Serve answers what comes over the port until ctx ends or the port is unplugged. It closes the port.
func Serve(ctx context.Context, a *Agent, p Port) error {
	// Answers are written by whoever has one; the port takes one line at a time.
	writing := make(chan struct{}, 1)
	answer := func(line []byte) {
		writing <- struct{}{}
		defer func() { <-writing }()
		_ = p.SetWriteDeadline(time.Now().Add(writeLimit))
		_, _ = p.Write(line) // a manager that missed it asks again, under the same ID
	}
	stop := context.AfterFunc(ctx, func() { p.Close() })
	defer stop()
	defer p.Close()
	var lines wire.Lines
	buf := make([]byte, 4096)
	for ended := 0; ; {
		n, err := p.Read(buf)
		lines.Feed(buf[:n], func(line []byte) { a.Handle(ctx, line, answer) })
		switch {
		case ctx.Err() != nil:
			return nil
		case errors.Is(err, io.EOF):
			lines = wire.Lines{} // whoever comes next begins a new line
			pause := pauseShort
			if ended++; ended > shortPauses {
				pause = pauseLong
			}
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		case err != nil:
			return fmt.Errorf("read the port: %w", err)
		default:
			ended = 0
		}
	}
}
