package wire

import (
	"fmt"
	"os"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// LogPipe makes the pipe for a plugin's descriptors 1 and 2: the reading end for core, and
// a writing end that was opened for reading as well. That reader never reads, but because
// of it the pipe outlives core: without one, the first log line written after core is gone
// kills the plugin with SIGPIPE. Its end of file still comes when the plugin is gone.
func LogPipe() (r, w *os.File, err error) {
	r, pw, err := os.Pipe()
	if err != nil {
		return nil, nil, fmt.Errorf("make log pipe: %w", err)
	}
	defer pw.Close()
	fd, err := unix.Open(fmt.Sprintf("/proc/self/fd/%d", pw.Fd()), unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		r.Close()
		return nil, nil, fmt.Errorf("make log pipe: %w", err)
	}
	return r, os.NewFile(uintptr(fd), "log"), nil
}

// Stderr writes whole log lines to a descriptor and never blocks: when the pipe is full,
// because core reads slowly or is gone, the line is dropped and counted.
type Stderr struct {
	fd      int
	dropped atomic.Uint64
}

// NewStderr puts descriptor 2 into non-blocking mode and writes to it.
func NewStderr() *Stderr {
	_ = unix.SetNonblock(2, true)
	return &Stderr{fd: 2}
}

// Write drops p rather than block or fail. A line longer than the pipe's atomic size may
// come out cut; the reader treats it as text.
func (s *Stderr) Write(p []byte) (int, error) {
	for rest := p; len(rest) > 0; {
		n, err := unix.Write(s.fd, rest)
		if err == unix.EINTR {
			continue
		}
		if err != nil || n <= 0 {
			s.dropped.Add(1)
			break
		}
		rest = rest[n:]
	}
	return len(p), nil
}

// Dropped is the number of lines lost so far.
func (s *Stderr) Dropped() uint64 { return s.dropped.Load() }
