package bpf

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// Now is CLOCK_MONOTONIC in ns, the clock of bpf_ktime_get_ns and bpf_ktime_get_coarse_ns.
func Now() uint64 { return clock(unix.CLOCK_MONOTONIC) }

// BootNow is CLOCK_BOOTTIME in ns, the clock of bpf_ktime_get_boot_ns: it goes on while the machine sleeps.
func BootNow() uint64 { return clock(unix.CLOCK_BOOTTIME) }

func clock(id int32) uint64 {
	var t unix.Timespec
	_ = unix.ClockGettime(id, &t) // cannot fail for these clocks
	return uint64(t.Nano())
}

// graceWithout is waited where the kernel has no membarrier for us: programs run for microseconds, a stolen
// CPU for some milliseconds.
const graceWithout = 200 * time.Millisecond

// Grace returns after every program that was running when it was called has ended: programs run inside an RCU
// read section, and MEMBARRIER_CMD_GLOBAL waits for all of those. It takes up to some 30 ms.
func Grace() error {
	const global = 1 // MEMBARRIER_CMD_GLOBAL
	_, _, errno := unix.Syscall(unix.SYS_MEMBARRIER, global, 0, 0)
	switch errno {
	case 0:
		return nil
	case unix.EINVAL, unix.ENOSYS: // nohz_full, or not built in
		time.Sleep(graceWithout)
		return nil
	}
	return fmt.Errorf("membarrier: %w", errno)
}
