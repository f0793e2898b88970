// Package inside is for programs that are PID 1 of a guest made by package guest.
package inside

import (
	"fmt"
	"os"
	"strings"

	"golang.org/x/sys/unix"
)

// ModuleList names the modules in the order in which they load.
const ModuleList = "/modules"

// Main mounts the kernel's file systems, loads the modules, calls run, says on the console how it ended ("guest: done" or
// "guest: failed: …") and switches the machine off. It does not return.
func Main(run func() error) {
	err := setUp()
	if err == nil {
		err = run()
	}
	if err != nil {
		Say("failed: %v", err)
	} else {
		Say("done")
	}
	unix.Sync()
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	select {}
}

// Say writes a line to the console.
func Say(format string, args ...any) {
	c, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
	if err != nil {
		return
	}
	defer c.Close()
	fmt.Fprintf(c, "guest: "+format+"\n", args...)
}

func setUp() error {
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/tmp"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	list, err := os.ReadFile(ModuleList)
	if err != nil {
		return err
	}
	for path := range strings.Lines(string(list)) {
		if err := load(strings.TrimSpace(path)); err != nil {
			return fmt.Errorf("load %s: %w", path, err)
		}
	}
	return nil
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}
