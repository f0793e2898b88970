package boot

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/boot/verdict"
)

const (
	watchdogTimeout = 60 * time.Second
	watchdogPing    = 15 * time.Second
	// watchdogPatience is how long init is kept alive: what it does is bounded by checkLimit, before and after the
	// verdict, and then something hangs.
	watchdogPatience = 2*checkLimit + time.Minute
	watchdogNode     = "/dev/watchdog"
)

// watchdog is the hardware's, which resets the machine when nobody writes to it. The nil watchdog is usable.
type watchdog struct {
	fd   int
	mu   sync.Mutex // over what follows
	last time.Time  // when pinging ends, unless somebody is at the console
	held int
	end  bool
}

// watchdogDrivers says which modules a board's watchdog needs. They are loaded before the verdict, and only for
// hardware that is there: PCI vendor and device, or vendor and class.
var watchdogDrivers = []struct {
	vendor, device, class string
	modules               []string
}{
	{vendor: "0x8086", device: "0x25ab", modules: []string{"i6300esb"}},
	{vendor: "0x1022", class: "0x0c05", modules: []string{"sp5100_tco"}},
	{vendor: "0x1002", class: "0x0c05", modules: []string{"sp5100_tco"}},
	// Up to Broadwell the TCO timer belongs to the LPC bridge, later to the SMBus controller.
	{vendor: "0x8086", class: "0x0601", modules: []string{"lpc_ich", "iTCO_wdt"}},
	{vendor: "0x8086", class: "0x0c05", modules: []string{"i2c_i801", "iTCO_wdt"}},
}

// watchdogModules names the modules for the functions under root, best first.
func watchdogModules(root string) []string {
	devices, err := filepath.Glob(filepath.Join(root, "sys/bus/pci/devices/*"))
	if err != nil {
		return nil
	}
	// An emulated chipset's timer is strapped off in QEMU; looking for it costs five modules. Virtual machines have the
	// card.
	cpu, _ := os.ReadFile(filepath.Join(root, "proc/cpuinfo")) // none: not virtual
	virtual := strings.Contains(string(cpu), " hypervisor")
	var out []string
	for _, w := range watchdogDrivers {
		if virtual && w.device == "" {
			continue
		}
		for _, d := range devices {
			attribute := func(name string) string {
				b, _ := os.ReadFile(filepath.Join(d, name)) // none: no match
				return strings.TrimSpace(string(b))
			}
			if attribute("vendor") == w.vendor && strings.HasPrefix(attribute("class"), w.class) &&
				(w.device == "" || attribute("device") == w.device) {
				out = append(out, w.modules...)
				break
			}
		}
	}
	return out
}

// openWatchdog starts the first watchdog that the machine has, nil when it has none. From then on a machine whose
// init, kernel or core hangs is reset within a minute of the last ping.
func openWatchdog(root string, load func(module string) error, say func(string, ...any)) *watchdog {
	for _, m := range watchdogModules(root) {
		if err := load(m); err != nil {
			say("warning: watchdog: %v", err)
		}
		if _, err := os.Stat(filepath.Join(root, watchdogNode)); err == nil {
			break
		}
	}
	// Not close-on-exec: core gets it. Not an os.File: that would close it in the garbage collector.
	fd, err := unix.Open(filepath.Join(root, watchdogNode), unix.O_WRONLY, 0)
	if err != nil {
		if !errors.Is(err, unix.ENOENT) {
			say("warning: open watchdog: %v", err)
		}
		return nil
	}
	if err := unix.IoctlSetPointerInt(fd, unix.WDIOC_SETTIMEOUT, int(watchdogTimeout.Seconds())); err != nil {
		say("warning: the watchdog keeps its own timeout: %v", err)
	}
	return &watchdog{fd: fd, last: time.Now().Add(watchdogPatience)}
}

// run pings until core does, or until init has taken too long.
func (w *watchdog) run() {
	if w == nil {
		return
	}
	for w.ping() {
		time.Sleep(watchdogPing)
	}
}

func (w *watchdog) ping() bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.end || w.held == 0 && time.Now().After(w.last) {
		return false
	}
	_, err := unix.Write(w.fd, []byte{0})
	return err == nil
}

// attended keeps the machine alive while somebody may be at the console, and says what ends that.
func (w *watchdog) attended() (done func()) {
	if w == nil {
		return func() {}
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.held++
	return func() {
		w.mu.Lock()
		defer w.mu.Unlock()
		w.held--
		w.last = time.Now().Add(watchdogPatience)
	}
}

// stop disarms it: for a console that waits for people, and for the end of the machine.
func (w *watchdog) stop() {
	if w == nil {
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	if !w.end {
		w.end = true
		_, _ = unix.Write(w.fd, []byte{'V'}) // the magic close of Documentation/watchdog/watchdog-api.rst
		_ = unix.Close(w.fd)
	}
}

// handover leaves it to core, armed.
func (w *watchdog) handover() error {
	if w == nil {
		return nil
	}
	w.ping()
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.end {
		return nil
	}
	w.end = true
	if err := os.Setenv(verdict.EnvWatchdog, strconv.Itoa(w.fd)); err != nil {
		return fmt.Errorf("hand over watchdog: %w", err)
	}
	return nil
}
