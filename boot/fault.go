package boot

import (
	"errors"
	"slices"
	"time"

	"golang.org/x/sys/unix"
)

// Faults that a development image can be built with, to see what the box does about an image that has one.
const (
	faultPanic     = "panic"        // the kernel panics as soon as init runs
	faultHang      = "hang"         // init stops, as soon as it runs
	faultUnhealthy = "unhealthy"    // core never calls itself healthy
	faultBeforeE   = "die-before-e" // restarts between ledger and E
	faultAfterE    = "die-after-e"  // restarts right after E
)

func checkFault(p Policy) error {
	if p.Fault == "" {
		return nil
	}
	if !p.Development {
		return errors.New("only a development image can have a fault")
	}
	if !slices.Contains([]string{faultPanic, faultHang, faultUnhealthy, faultBeforeE, faultAfterE}, p.Fault) {
		return errors.New("there is no fault " + p.Fault)
	}
	return nil
}

// fault plays the image's fault when this is its place.
func fault(p Policy, place string, say func(string, ...any)) {
	if p.Fault == "" || p.Fault != place {
		return
	}
	say("FAULT %s, as this development image was built to have", place)
	switch place {
	case faultPanic:
		unix.Exit(1) // the kernel panics when process 1 ends
	case faultHang:
		time.Sleep(forever)
	case faultBeforeE, faultAfterE:
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_RESTART) // without sync, as a power cut
	}
}
