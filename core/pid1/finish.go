package pid1

import (
	"bufio"
	"bytes"
	"errors"
	"log/slog"
	"os"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

const (
	// termGrace is what the last processes have after SIGTERM.
	termGrace = 2 * time.Second
	poll      = 10 * time.Millisecond
	// diskGrace is what the disks have to take what is written; one that is dead never does.
	diskGrace = time.Minute
)

// Finish ends the box: whatever still runs is told to stop and then killed, file systems
// are synced and unmounted, the machine is turned off or restarted. It does not return.
// Only process 1 may call it; for any other it only logs.
func Finish(a Action, log *slog.Logger) {
	if os.Getpid() != 1 {
		log.Error("not process 1: the machine is left as it is", "action", a.String())
		return
	}
	within(diskGrace, log, "sync", unix.Sync) // before anything else that could hang
	killAll()
	within(diskGrace, log, "unmount", func() {
		unmountAll(log)
		unix.Sync()
	})
	cmd := unix.LINUX_REBOOT_CMD_POWER_OFF
	if a == Reboot {
		cmd = unix.LINUX_REBOOT_CMD_RESTART
	}
	log.Info("the end", "action", a.String())
	if err := unix.Reboot(cmd); err != nil {
		log.Error("the kernel refuses; turn the machine off by hand", "action", a.String(), "err", err)
	}
	select {} // exiting would panic the kernel
}

// within does something that may hang in the kernel, where nothing can end it, and leaves it behind after the limit.
func within(limit time.Duration, log *slog.Logger, what string, do func()) {
	done := make(chan struct{})
	go func() {
		do()
		close(done)
	}()
	select {
	case <-done:
	case <-time.After(limit):
		log.Error("it does not end; going on without it", "step", what)
	}
}

// killAll ends all processes but this one.
func killAll() {
	_ = unix.Kill(-1, unix.SIGTERM)
	if reapUntil(time.Now().Add(termGrace)) {
		return
	}
	_ = unix.Kill(-1, unix.SIGKILL)
	reapUntil(time.Now().Add(termGrace))
}

// reapUntil waits for all children; nobody else is interested in them any more. It says
// whether none is left.
func reapUntil(deadline time.Time) bool {
	for time.Now().Before(deadline) {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.ECHILD):
			return true
		case err == nil && pid == 0:
			time.Sleep(poll)
		}
	}
	return false
}

// unmountAll unmounts the file systems that live on devices, the last mounted first. One
// that is busy is made read-only.
func unmountAll(log *slog.Logger) {
	data, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		log.Error("read mounts", "err", err)
		return
	}
	for _, target := range slices.Backward(deviceMounts(data)) {
		if err := unix.Unmount(target, 0); err == nil {
			continue
		}
		if err := unix.Mount("", target, "", unix.MS_REMOUNT|unix.MS_RDONLY, ""); err != nil {
			log.Error("unmount", "target", target, "err", err)
		}
	}
}

// deviceMounts finds the mount points of block devices in /proc/self/mountinfo.
func deviceMounts(mountinfo []byte) []string {
	var out []string
	for s := bufio.NewScanner(bytes.NewReader(mountinfo)); s.Scan(); {
		before, after, ok := strings.Cut(s.Text(), " - ")
		f, source := strings.Fields(before), strings.Fields(after)
		if !ok || len(f) < 5 || len(source) < 2 || !strings.HasPrefix(source[1], "/dev/") {
			continue
		}
		out = append(out, unescape(f[4]))
	}
	return out
}

// unescape undoes the kernel's octal escapes of space, tab, newline and backslash.
func unescape(s string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(s)
}
