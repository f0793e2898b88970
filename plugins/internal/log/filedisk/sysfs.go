package filedisk

import (
	"bytes"
	"fmt"
	"os"
	"unsafe"

	"golang.org/x/sys/unix"
)

// writeThrough reports whether f is a block device of which the kernel says that it has no volatile
// cache. A file is none: its file system has a journal of its own to flush.
func writeThrough(f *os.File) bool {
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil || st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return false
	}
	dir := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(st.Rdev), unix.Minor(st.Rdev))
	// A partition has no queue of its own; its directory lies in its disk's.
	for _, queue := range []string{"queue", "../queue"} {
		if p, err := os.ReadFile(dir + "/" + queue + "/write_cache"); err == nil {
			return string(bytes.TrimSpace(p)) == "write through"
		}
	}
	return false
}

// rawMax is the longest read that is made without telling Go's scheduler, in bytes: it waits for nothing and
// takes a few microseconds.
const rawMax = 64 << 10

// preadNoWait is preadv2 with RWF_NOWAIT. x/sys has it, with a slice of slices that would be
// allocated for every hit.
func preadNoWait(fd int, p []byte, off int64) (int, error) {
	if len(p) == 0 {
		return 0, nil
	}
	v := unix.Iovec{Base: &p[0]}
	v.SetLen(len(p))
	var n uintptr
	var errno unix.Errno
	if len(p) <= rawMax {
		n, _, errno = unix.RawSyscall6(unix.SYS_PREADV2, uintptr(fd), uintptr(unsafe.Pointer(&v)), 1, uintptr(off), 0, unix.RWF_NOWAIT)
	} else {
		n, _, errno = unix.Syscall6(unix.SYS_PREADV2, uintptr(fd), uintptr(unsafe.Pointer(&v)), 1, uintptr(off), 0, unix.RWF_NOWAIT)
	}
	if errno != 0 {
		return 0, errno
	}
	return int(n), nil
}
