package boot

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/google/go-tpm/tpm2/transport"
	"github.com/google/go-tpm/tpm2/transport/linuxtpm"
	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/boot/fetch"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/recovery"
	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/hw"
)

// tpmNode is the raw device: init is alone with the TPM, and the kernel's resource manager would
// load and save a context around every command, which on real chips costs more than the command.
const tpmNode = "/dev/tpm0"

// checkLimit bounds what init waits for up to the verdict, and again after it; what waits longer is isolated.
// In between there may be people at the recovery console, who have limits of their own.
const checkLimit = 3 * time.Minute

// Main is the init applet. As PID 1 it does not return; started by hand it refuses.
func Main(args []string) int {
	if os.Getpid() != 1 {
		fmt.Fprintln(os.Stderr, "init: not process 1; it is started by the kernel, see docs/explanation/secure-counter.md")
		return 2
	}
	start := bootClock()
	mountErr := mountAll(early())
	c := openConsole()
	if p := guarded(func() { c.boot(start, mountErr) }); p != nil {
		c.lastResort(p)
	}
	return 1
}

// boot is everything between the first line and core.
func (c *console) boot(start time.Duration, mountErr error) {
	if mountErr != nil {
		c.say("warning: %v", mountErr)
	}
	policy, err := readPolicy()
	if err != nil {
		c.lastResort(err)
	}
	hardware, err := hw.Open(hw.Options{Root: "/", Flavour: policy.Flavour, Simulated: policy.Development})
	if err != nil {
		c.lastResort(err)
	}
	fw := c.efi(hardware)
	boots := slot.OpenFirmware()
	why, restart := c.begin(boots, fw.bootPart)
	if restart {
		c.down(unix.LINUX_REBOOT_CMD_RESTART)
	}
	if asked, err := boots.TakeRecovery(); asked {
		why = "it was asked for before the restart"
		if err != nil {
			c.say("warning: %v", err)
		}
	}
	kind := "release"
	if policy.Development {
		kind = "DEVELOPMENT image, not for production"
	}
	c.say("image %s (%s kernel, %s), init at %.2f s", policy.Version, policy.Flavour, kind, start.Seconds())
	c.watchdog = openWatchdog("/", hardware.LoadModule, c.say)
	fault(policy, faultPanic, c.say)
	fault(policy, faultHang, c.say)
	go c.watchdog.run()
	r := Check(context.Background(), Machine{
		Policy: policy, Hardware: hardware, Disks: sysfs{"/"},
		TPM:   func() (transport.TPMCloser, error) { return linuxtpm.Open(tpmNode) },
		Open:  openLedger,
		Slots: sysfs{"/"}.slots, OpenSlot: openSlot, EditSlot: editSlot,
		Sticks:   sticks{hardware.LoadModule, "/run/stick"},
		Fetch:    fetch.Get,
		BootPart: fw.bootPart, Controller: fw.controller, SecureBoot: fw.secureBoot,
		SetupMode: fw.setupMode, Enrollment: firmwareEnrollment("/"),
		Clock: bootClock, Say: c.say, Confirm: c.confirm, Console: c.operate, RecoveryAsked: why, Signed: readSigned("/"),
		Volumes: deviceMapper{}, StateTemplate: func() (io.ReadCloser, error) { return os.Open(statePath) },
		Prepare: func() {
			if err := loadStorage(hardware.LoadModule); err != nil {
				c.say("warning: %v", err)
			}
		},
	})
	switch r.End {
	case recovery.Reboot:
		c.attended(boots)
		c.down(unix.LINUX_REBOOT_CMD_RESTART)
	case recovery.PowerOff:
		c.attended(boots)
		c.down(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	r.Report.Timing.Init = start
	announce(r.Report, policy, c.say)
	c.repairEntries(boots, r.Report)
	if r.Controller != "" && r.Controller != fw.controller && fw.bootPart != "" {
		if err := writeController(efivarsDir, r.Controller); err != nil {
			c.say("warning: the next boot looks for its disk one controller at a time: %v", err)
		}
	}
	if err := c.watchdog.handover(); err != nil {
		c.say("warning: %v", err)
	}
	r.Report.Timing.Handover = bootClock()
	c.lastResort(handover(r, c.say))
}

// efi mounts efivarfs, whose driver is a module, and reads what the firmware left.
func (c *console) efi(hardware *hw.System) firmware {
	if _, err := os.Stat(efiDir); err != nil {
		return firmware{} // a direct kernel boot
	}
	if err := hardware.LoadModule("efivarfs"); err != nil {
		c.say("warning: %v", err)
	}
	if err := (mount{"efivarfs", efivarsDir, "efivarfs", safe, ""}).do(); err != nil {
		c.say("warning: %v", err)
	}
	return readFirmware(efivarsDir)
}

func openLedger(node string, readOnly bool) (Medium, error) { return ledger.OpenFile(node, readOnly) }

// bootClock is CLOCK_BOOTTIME: time since the kernel started.
func bootClock() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return 0
	}
	return time.Duration(ts.Nano())
}
