package boot

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

type mount struct {
	source, target, fstype string
	flags                  uintptr
	data                   string
}

const safe = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC

// early are the kernel's own filesystems. /dev keeps exec: the plugin host maps memfds there.
func early() []mount {
	return []mount{
		{"proc", "/proc", "proc", safe, ""},
		{"sysfs", "/sys", "sysfs", safe, ""},
		{"devtmpfs", "/dev", "devtmpfs", unix.MS_NOSUID, "mode=0755"},
		{"devpts", "/dev/pts", "devpts", unix.MS_NOSUID | unix.MS_NOEXEC, "mode=0620,ptmxmode=0666"},
		{"tmpfs", "/dev/shm", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"tmpfs", "/run", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=0755"},
		{"tmpfs", "/tmp", "tmpfs", unix.MS_NOSUID | unix.MS_NODEV, "mode=1777"},
		{"cgroup2", "/sys/fs/cgroup", "cgroup2", safe, ""},
		{"securityfs", "/sys/kernel/security", "securityfs", safe, ""},
	}
}

// mountAll mounts what it can; a kernel without one of them still boots.
func mountAll(all []mount) error {
	var errs []error
	for _, m := range all {
		if err := m.do(); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func (m mount) do() error {
	if err := os.MkdirAll(m.target, 0o755); err != nil && !errors.Is(err, os.ErrExist) {
		return fmt.Errorf("mount %s: %w", m.target, err)
	}
	err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.data)
	if err != nil && !errors.Is(err, unix.EBUSY) { // busy: the kernel has mounted it already
		return fmt.Errorf("mount %s: %w", m.target, err)
	}
	return nil
}

const stateMount = "/state"

// state is the mount of the STATE partition of a released box.
func state(node string) mount {
	return mount{node, stateMount, "ext4", unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOATIME, ""}
}
