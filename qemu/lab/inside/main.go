// Inside is PID 1 of a lab's guest: it starts the agent as it is shipped, and puts load on memory, disk and network as the
// lab orders (package load).
package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/migration/agent/guest"
	"github.com/ratchetos/ratchet/qemu/lab/load"
)

// Agent is where the initramfs has the agent's binary; Modules names those to load at the start.
const (
	agent   = "/agent"
	modules = "/modules"
)

func main() {
	err := setUp()
	if err == nil {
		err = run()
	}
	say("failed: %v", err)
	_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
}

// say writes to the console.
func say(format string, args ...any) {
	if c, err := os.OpenFile("/dev/console", os.O_WRONLY, 0); err == nil {
		fmt.Fprintf(c, "lab: "+format+"\n", args...)
		_ = c.Close()
	}
}

func setUp() error {
	for _, m := range []struct{ kind, at string }{{"devtmpfs", "/dev"}, {"proc", "/proc"}, {"sysfs", "/sys"}, {"tmpfs", "/run"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.kind, m.at, m.kind, 0, ""); err != nil {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	list, err := os.ReadFile(modules)
	if err != nil {
		return err
	}
	for path := range strings.FieldsSeq(string(list)) {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(f.Fd()), "", 0)
		f.Close()
		if err != nil {
			return fmt.Errorf("load %s: %w", path, err)
		}
	}
	return nil
}

func run() error {
	if err := network(); err != nil {
		return err
	}
	console, err := os.OpenFile("/dev/console", os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	cmd := exec.Command(agent)
	cmd.Stdout, cmd.Stderr = console, console
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	say("ready")
	c, err := control()
	if err != nil {
		return err
	}
	if err := rename(c.Name); err != nil {
		return err
	}
	p, err := newPulse(c)
	if err != nil {
		return err
	}
	go p.beats()
	go p.orders()
	return fmt.Errorf("the agent ended: %w", <-ended)
}

// control waits until the lab says who this is: a guest whose state is being saved waits here, and so do all that are
// restored from it.
func control() (load.Control, error) {
	var c load.Control
	port, err := os.Open(guest.FindPort(load.Port))
	if err != nil {
		return c, err
	}
	defer port.Close()
	var line []byte
	buf := make([]byte, 512)
	for !bytes.HasSuffix(line, []byte("\n")) {
		n, err := port.Read(buf)
		if line = append(line, buf[:n]...); errors.Is(err, io.EOF) { // nobody is there yet
			time.Sleep(10 * time.Millisecond)
		} else if err != nil {
			return c, err
		}
	}
	return c, json.Unmarshal(line, &c)
}

// rename puts a name of this guest's own in the place of the boot ID that all restored guests share.
func rename(name string) error {
	const at, own = "/proc/sys/kernel/random/boot_id", "/run/boot_id"
	if err := os.WriteFile(own, []byte(name+"\n"), 0o444); err != nil {
		return err
	}
	if err := unix.Mount(own, at, "", unix.MS_BIND, ""); err != nil {
		return fmt.Errorf("mount over the boot ID: %w", err)
	}
	return nil
}
