package core

import (
	"os"
	"strconv"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/boot/verdict"
)

// watchdogPing leaves room for three that come late: init has set 60 s.
const watchdogPing = 15 * time.Second

// watchdog is the hardware's, armed by init. The zero value is for a machine without one.
type watchdog struct {
	mu   sync.Mutex
	file *os.File
}

// takeWatchdog takes the descriptor over and hides it from children.
func takeWatchdog() *watchdog {
	w := &watchdog{}
	value, ok := os.LookupEnv(verdict.EnvWatchdog)
	if !ok {
		return w
	}
	_ = os.Unsetenv(verdict.EnvWatchdog) // the name is right
	if fd, err := strconv.Atoi(value); err == nil && fd > 2 {
		w.file = os.NewFile(uintptr(fd), "watchdog")
		unix.CloseOnExec(fd)
	}
	return w
}

// ping keeps the machine running for another minute. It is called by core's main loop and by nothing else, so that a
// core which hangs is restarted.
func (w *watchdog) ping() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file != nil {
		_, _ = w.file.Write([]byte{0}) // a watchdog that cannot be fed resets the box
	}
}

// stop disarms it: the end of the machine may take its time, and so may the firmware's start.
func (w *watchdog) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.file != nil {
		_, _ = w.file.Write([]byte{'V'})
		w.file.Close()
		w.file = nil
	}
}
