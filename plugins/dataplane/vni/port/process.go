package port

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Process calls f with true when the process named in a file runs, and with false the moment it ends, again and
// again until ctx ends. The file is looked at twice a second while nothing runs.
func Process(ctx context.Context, pidFile string, f func(alive bool)) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	for first := true; ; first = false {
		process, err := openProcess(pidFile)
		if err == nil {
			f(true)
			err := awaitEnd(ctx, process)
			process.Close()
			if err != nil {
				return
			}
		}
		if err == nil || first {
			f(false)
		}
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
	}
}

func openProcess(pidFile string) (*os.File, error) {
	text, err := os.ReadFile(pidFile)
	if err != nil {
		return nil, err
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 0 {
		return nil, fmt.Errorf("%s does not hold the number of a process", pidFile)
	}
	fd, err := unix.PidfdOpen(pid, unix.PIDFD_NONBLOCK)
	if err != nil {
		return nil, fmt.Errorf("open process %d: %w", pid, err)
	}
	if ended(fd) { // its parent has not asked how
		unix.Close(fd)
		return nil, fmt.Errorf("open process %d: %w", pid, unix.ESRCH)
	}
	return os.NewFile(uintptr(fd), "pidfd"), nil
}

// awaitEnd waits for the end of a process, which makes its descriptor readable.
func awaitEnd(ctx context.Context, process *os.File) error {
	stop := context.AfterFunc(ctx, func() { _ = process.SetReadDeadline(time.Unix(1, 0)) })
	defer stop()
	c, err := process.SyscallConn()
	if err != nil {
		return err
	}
	return c.Read(func(fd uintptr) bool { return ended(int(fd)) })
}

func ended(fd int) bool {
	fds := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
	n, _ := unix.Poll(fds, 0)
	return n > 0
}
