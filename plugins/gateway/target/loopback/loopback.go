// Package loopback makes a process safe to serve a block device of its own kernel.
//
// # The danger
//
// /dev/nbdX leads back into user space: the kernel sends a request, and a process of the same machine answers it. If
// memory is short, an allocation of that process may make the kernel look for pages to free; if it then writes to – or
// waits for – the very device that the process serves, nobody ever moves again.
//
// # What is done
//
//   - PR_SET_IO_FLUSHER on every thread: allocations made on behalf of the process never start I/O to make room, and the
//     process is not held back with those that dirty pages (prctl(2), since Linux 5.6).
//   - mlockall(2), on fault: neither the program text nor the heap can be taken away, so that answering a request never
//     waits for a page. What is not touched costs nothing.
//   - No page of such a device is ever dirty in this kernel's page cache: the only users of the devices are LIO and
//     nvmet, which submit requests directly; nothing mounts them (see package target).
//   - The requests' data goes through buffers that exist before (package nbd), and the cgroup has no swap.
//
// The first two need CAP_SYS_RESOURCE and CAP_IPC_LOCK, which [Harden] gives up afterwards.
package loopback

import (
	"errors"
	"fmt"
	"runtime"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"
)

// setIOFlusher is PR_SET_IO_FLUSHER of linux/prctl.h.
const setIOFlusher = 57

// Harden protects the calling process for the rest of its life. What the kernel refuses is in the error; a caller
// without the capabilities – on a workstation – has nothing to protect and may ignore it.
func Harden() error {
	var errs []error
	// Threads that come later inherit it.
	if _, _, e := syscall.AllThreadsSyscall(unix.SYS_PRCTL, setIOFlusher, 1, 0); e != 0 {
		errs = append(errs, fmt.Errorf("keep allocations from starting I/O: %w", e))
	}
	// Without the capability the limit holds for every mapping to come.
	if err := unix.Setrlimit(unix.RLIMIT_MEMLOCK, &unix.Rlimit{Cur: unix.RLIM_INFINITY, Max: unix.RLIM_INFINITY}); err != nil {
		errs = append(errs, fmt.Errorf("lift the limit of locked memory: %w", err))
	} else if err := unix.Mlockall(unix.MCL_CURRENT | unix.MCL_FUTURE | unix.MCL_ONFAULT); err != nil {
		errs = append(errs, fmt.Errorf("lock memory: %w", err))
	}
	return errors.Join(append(errs, GiveUp())...)
}

// GiveUp drops the capabilities that Harden needs, for a process that serves no block device.
func GiveUp() error { return drop(unix.CAP_SYS_RESOURCE, unix.CAP_IPC_LOCK) }

// drop gives capabilities up on every thread.
func drop(caps ...int) error {
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var data [2]unix.CapUserData
	if err := unix.Capget(&header, &data[0]); err != nil {
		return fmt.Errorf("read capabilities: %w", err)
	}
	for _, c := range caps {
		d, bit := &data[c/32], uint32(1)<<(c%32)
		d.Effective, d.Permitted, d.Inheritable = d.Effective&^bit, d.Permitted&^bit, d.Inheritable&^bit
	}
	_, _, e := syscall.AllThreadsSyscall(unix.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data[0])), 0)
	runtime.KeepAlive(&data)
	if e != 0 {
		return fmt.Errorf("give up capabilities: %w", e)
	}
	return nil
}
