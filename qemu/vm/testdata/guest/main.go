// Command guest is PID 1 of the machines that test the harness. It loads the modules listed in /modules, then obeys
// lines from the console: "tpm", "net", "power", "off", "reset", "panic"; anything else it repeats.
package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"
)

func main() {
	mount("devtmpfs", "/dev")
	mount("sysfs", "/sys")
	console, err := os.OpenFile("/dev/console", os.O_RDWR, 0)
	if err != nil {
		panic(err)
	}
	say := func(format string, args ...any) { fmt.Fprintf(console, "guest: "+format+"\n", args...) }
	modules, _ := os.ReadFile("/modules")
	for path := range strings.Lines(string(modules)) {
		if err := load(strings.TrimSpace(path)); err != nil {
			say("load %s: %v", path, err)
		}
	}
	say("ready")
	in := bufio.NewScanner(console)
	for in.Scan() {
		switch word := strings.TrimSpace(in.Text()); word {
		case "tpm":
			found, _ := filepath.Glob("/dev/tpm*")
			say("tpm %v", found)
		case "disks":
			found, _ := filepath.Glob("/sys/block/*")
			for _, d := range found {
				serial, err := os.ReadFile(d + "/serial")
				if err != nil {
					serial, _ = os.ReadFile(d + "/device/serial")
				}
				say("disk %s %s", filepath.Base(d), serial)
			}
		case "net":
			say("net %v", echo())
		case "power":
			say("power %v", powerButton())
			fallthrough
		case "off":
			reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
		case "reset":
			reboot(unix.LINUX_REBOOT_CMD_RESTART)
		case "prompt":
			fmt.Fprint(console, "guest login: ")
		default:
			say("you said %q", word)
		}
	}
}

func reboot(how int) {
	unix.Sync()
	_ = unix.Reboot(how)
}

func mount(kind, at string) {
	_ = os.MkdirAll(at, 0o755)
	_ = unix.Mount(kind, at, kind, 0, "")
}

func load(path string) error {
	f, err := os.Open(path)
	if err != nil {
		return err
	}
	defer f.Close()
	return unix.FinitModule(int(f.Fd()), "", 0)
}

// echo gives eth0 the address that QEMU forwards to and repeats whatever comes on port 7.
func echo() error {
	s, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer unix.Close(s)
	set := func(request uintptr, addr [4]byte) error {
		ifr, err := unix.NewIfreq("eth0")
		if err != nil {
			return err
		}
		if request == unix.SIOCSIFFLAGS {
			ifr.SetUint16(unix.IFF_UP)
		} else if err := ifr.SetInet4Addr(addr[:]); err != nil {
			return err
		}
		if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(s), request, uintptr(unsafe.Pointer(ifr))); errno != 0 {
			return errno
		}
		return nil
	}
	if err := set(unix.SIOCSIFADDR, [4]byte{10, 0, 2, 15}); err != nil {
		return err
	}
	if err := set(unix.SIOCSIFNETMASK, [4]byte{255, 255, 255, 0}); err != nil {
		return err
	}
	if err := set(unix.SIOCSIFFLAGS, [4]byte{}); err != nil {
		return err
	}
	l, err := net.Listen("tcp4", ":7")
	if err != nil {
		return err
	}
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go io.Copy(c, c)
		}
	}()
	return nil
}

// powerButton returns when an input device reports a key: the only keys of this machine are its buttons.
func powerButton() error {
	found, err := filepath.Glob("/dev/input/event*")
	if err != nil || len(found) == 0 {
		return fmt.Errorf("no input device (%v)", err)
	}
	pressed := make(chan struct{}, len(found))
	for _, path := range found {
		f, err := os.Open(path)
		if err != nil {
			return err
		}
		go func() {
			var event [24]byte
			if _, err := io.ReadFull(f, event[:]); err == nil {
				pressed <- struct{}{}
			}
		}()
	}
	mustPrint("guest: waiting for the power button\n")
	<-pressed
	return nil
}

func mustPrint(s string) {
	if f, err := os.OpenFile("/dev/console", os.O_WRONLY, 0); err == nil {
		defer f.Close()
		_, _ = f.WriteString(s)
	}
}
