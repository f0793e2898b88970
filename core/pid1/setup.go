package pid1

import (
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/jsimonetti/rtnetlink/v2"
	"golang.org/x/sys/unix"
)

// openFiles is the limit of open files that plugins inherit; connections are files.
const openFiles = 1 << 20

// mount is one file system that must be there.
type mount struct {
	source, target, fstype, options string
	flags                           uintptr
	magic                           int64 // of statfs, when it is mounted already
	optional                        bool  // not every kernel has it
}

func mounts() []mount {
	const quiet = unix.MS_NOSUID | unix.MS_NODEV | unix.MS_NOEXEC
	return []mount{
		{source: "proc", target: "/proc", fstype: "proc", flags: quiet, magic: unix.PROC_SUPER_MAGIC},
		{source: "sysfs", target: "/sys", fstype: "sysfs", flags: quiet, magic: unix.SYSFS_MAGIC},
		{source: "devtmpfs", target: "/dev", fstype: "devtmpfs", flags: unix.MS_NOSUID, magic: unix.TMPFS_MAGIC},
		{source: "tmpfs", target: "/run", fstype: "tmpfs", options: "mode=0755", flags: unix.MS_NOSUID | unix.MS_NODEV, magic: unix.TMPFS_MAGIC},
		{source: "tmpfs", target: "/tmp", fstype: "tmpfs", options: "mode=1777", flags: unix.MS_NOSUID | unix.MS_NODEV, magic: unix.TMPFS_MAGIC},
		{source: "cgroup2", target: "/sys/fs/cgroup", fstype: "cgroup2", flags: quiet, magic: unix.CGROUP2_SUPER_MAGIC, optional: true},
		{source: "securityfs", target: "/sys/kernel/security", fstype: "securityfs", flags: quiet, magic: unix.SECURITYFS_MAGIC, optional: true},
	}
}

// Setup does what init may have left out: mounts, loopback, limits; and it has the kernel
// turn ctrl-alt-del into a signal. Every step is tried; the errors are joined, and none of
// them is a reason not to go on.
func Setup() error {
	var errs []error
	for _, m := range mounts() {
		if err := m.do(); err != nil && !m.optional {
			errs = append(errs, err)
		}
	}
	if err := unix.Reboot(unix.LINUX_REBOOT_CMD_CAD_OFF); err != nil {
		errs = append(errs, fmt.Errorf("turn ctrl-alt-del into a signal: %w", err))
	}
	if err := raiseOpenFiles(); err != nil {
		errs = append(errs, err)
	}
	errs = append(errs, loopbackUp())
	return errors.Join(errs...)
}

// raiseOpenFiles raises the limit as far as this kernel, or a container around it, allows.
func raiseOpenFiles() error {
	n := openFilesLimit()
	if unix.Setrlimit(unix.RLIMIT_NOFILE, &unix.Rlimit{Cur: n, Max: n}) == nil {
		return nil
	}
	var have unix.Rlimit
	err := unix.Getrlimit(unix.RLIMIT_NOFILE, &have)
	if err == nil {
		have.Cur = have.Max
		err = unix.Setrlimit(unix.RLIMIT_NOFILE, &have)
	}
	if err != nil {
		return fmt.Errorf("raise limit of open files: %w", err)
	}
	return nil
}

// openFilesLimit is openFiles, or what this kernel allows at most.
func openFilesLimit() uint64 {
	data, err := os.ReadFile("/proc/sys/fs/nr_open")
	if err != nil {
		return openFiles
	}
	most, err := strconv.ParseUint(strings.TrimSpace(string(data)), 10, 64)
	if err != nil {
		return openFiles
	}
	return min(openFiles, most)
}

func (m mount) do() error {
	var st unix.Statfs_t
	if err := unix.Statfs(m.target, &st); err == nil && st.Type == m.magic {
		return nil
	}
	if err := os.MkdirAll(m.target, 0o755); err != nil {
		return fmt.Errorf("mount %s: %w", m.target, err)
	}
	if err := unix.Mount(m.source, m.target, m.fstype, m.flags, m.options); err != nil {
		return fmt.Errorf("mount %s: %w", m.target, err)
	}
	return nil
}

func loopbackUp() error {
	lo, err := net.InterfaceByName("lo")
	if err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	conn, err := rtnetlink.Dial(nil)
	if err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	defer func() { _ = conn.Close() }()
	err = conn.Link.Set(&rtnetlink.LinkMessage{Index: uint32(lo.Index), Flags: unix.IFF_UP, Change: unix.IFF_UP})
	if err != nil {
		return fmt.Errorf("bring up lo: %w", err)
	}
	return nil
}
