package boot

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ratchetos/ratchet/boot/attempt"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// attempts opens an attempt on a slot at run time, as an update does.
func (w *world) attempts(name string, from, to []byte, version uint64) {
	w.t.Helper()
	m := attempt.New(attempt.Opener{
		TPM:    func() (transport.TPMCloser, error) { return closer{w.tpm}, nil },
		Ledger: func() (attempt.Medium, error) { return ledger.OpenFile(w.path, false) },
	})
	_, err := m.Open(context.Background(), ledger.Intent{
		Target: ledger.SlotTarget(name), Signer: "test",
		From: ledger.OfImage(ledger.Sum(from), 0), To: ledger.OfImage(ledger.Sum(to), version),
	})
	if err != nil {
		w.t.Fatal(err)
	}
}

func slotCode(r Result, name string) string {
	i := slices.IndexFunc(r.Report.Images, func(i verdict.Image) bool { return i.Slot == name })
	if i < 0 {
		return "no slot " + name
	}
	return r.Report.Images[i].Code
}

// TestSlotsAreReadBack: an attempt on a slot is closed by what its medium holds, whatever core said.
func TestSlotsAreReadBack(t *testing.T) {
	older, newer := bytes.Repeat([]byte("older"), 1000), bytes.Repeat([]byte("newer"), 1000)
	w, slots := slotted(t, older)
	r := w.boot()
	w.want(r, verdict.Released, "provisioned")
	if a, b := slotCode(r, "A"), slotCode(r, "B"); a != "baseline" || b != "baseline" {
		t.Fatalf("slots %s, %s", a, b)
	}
	for _, c := range []struct {
		name string
		act  func()
		want string
	}{
		{"nothing was written", func() {}, "closed"},
		{"written", func() { fillSlot(t, slots[1].Node, slotVolume(slots[1]), newer) }, "closed"},
		{"torn", func() {
			if err := os.Truncate(slots[1].Node, 1<<20); err != nil {
				t.Fatal(err)
			}
		}, "slot-unfinished"},
		{"written again", func() { fillSlot(t, slots[1].Node, slotVolume(slots[1]), newer) }, "closed"},
	} {
		w.attempts("B", older, newer, 4)
		c.act()
		r := w.boot()
		w.want(r, verdict.Released, "closing")
		if got := slotCode(r, "B"); got != c.want || slotCode(r, "A") != "ok" {
			t.Errorf("%s: slot B %s, A %s", c.name, got, slotCode(r, "A"))
		}
	}
	r = w.boot()
	w.want(r, verdict.Released, "clean")
	if i := r.Report.Images[1]; i.Code != "ok" || i.Digest != ledger.Sum(newer) || i.Version != 4 {
		t.Errorf("slot B at last: %+v", i)
	}
}

// TestIsolatedBoxReadsNoSlot: nothing is looked at that the verdict does not need.
func TestIsolatedBoxReadsNoSlot(t *testing.T) {
	w, _ := slotted(t, []byte("older"))
	w.want(w.boot(), verdict.Released, "provisioned")
	w.increment()
	r := w.boot()
	w.want(r, verdict.Isolated, "counter-moved")
	if len(r.Report.Images) > 0 {
		t.Errorf("%+v", r.Report.Images)
	}
}

// TestBegin says what the operator sees of the count, and that the box is restarted once.
func TestBegin(t *testing.T) {
	var out strings.Builder
	c := &console{out: &out}
	f := slot.Firmware{Variables: slot.EFIVars{Dir: t.TempDir()}}
	disk := verdict.Disk{Slots: []verdict.DiskSlot{
		{Name: "A", GUID: "11111111-2222-3333-4444-55555555aaaa", Number: 1, Sectors: 1},
		{Name: "B", GUID: "11111111-2222-3333-4444-55555555bbbb", Number: 2, Sectors: 1},
	}}
	report := verdict.Report{Box: verdict.Verdict{Decision: verdict.Released}, Slot: "A", BootDisk: disk}
	var steps []string
	for range 7 {
		why, restart := c.begin(f, disk.Slots[0].GUID)
		switch {
		case restart:
			steps = append(steps, "restart")
		case why != "":
			steps = append(steps, "console")
		default:
			steps = append(steps, "boot")
			c.repairEntries(f, report)
		}
	}
	if got, want := strings.Join(steps, " "), "boot boot restart boot boot console console"; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	for _, text := range []string{"boot entries of the image slots repaired", "boot 2 since the last healthy one", "starting the other image slot"} {
		if strings.Count(out.String(), text) != 1 {
			t.Errorf("%q is not said once in\n%s", text, &out)
		}
	}
}

// TestWatchdogDrivers finds the modules for the boards that have one.
func TestWatchdogDrivers(t *testing.T) {
	for name, c := range map[string]struct{ functions, want string }{
		"QEMU i6300esb": {"0x8086 0x25ab 0x088000", "i6300esb"},
		"AMD":           {"0x1022 0x790b 0x0c0500", "sp5100_tco"},
		"Intel LPC":     {"0x8086 0x1c54 0x060100", "lpc_ich iTCO_wdt"},
		"Intel SMBus":   {"0x8086 0xa323 0x0c0500", "i2c_i801 iTCO_wdt"},
		"none":          {"0x1af4 0x1000 0x020000", ""},
		"virtual Intel": {"0x8086 0x2918 0x060100", ""},
	} {
		root := t.TempDir()
		f := strings.Fields(c.functions)
		cpu := "flags\t\t: fpu vme\n"
		if strings.HasPrefix(name, "virtual") || strings.HasPrefix(name, "QEMU") {
			cpu = "flags\t\t: fpu vme hypervisor\n"
		}
		tree(t, root, map[string]string{
			"proc/cpuinfo": cpu,
			"sys/bus/pci/devices/0000:00:05.0/vendor": f[0] + "\n",
			"sys/bus/pci/devices/0000:00:05.0/device": f[1] + "\n",
			"sys/bus/pci/devices/0000:00:05.0/class":  f[2] + "\n",
		})
		if got := strings.Join(watchdogModules(root), " "); got != c.want {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}

// TestWatchdogEnds: a pinging init goes on for a bounded time, unless somebody is at the console.
func TestWatchdogEnds(t *testing.T) {
	path := filepath.Join(t.TempDir(), "watchdog")
	if err := os.WriteFile(path, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	w := &watchdog{fd: int(f.Fd())} // its time is up
	if w.ping() {
		t.Error("a hanging init is kept alive")
	}
	done := w.attended()
	if !w.ping() {
		t.Error("the box restarts under an operator's hands")
	}
	done()
	if !w.ping() {
		t.Error("no time is left after the console")
	}
	w.stop()
	if w.ping() {
		t.Error("pings after the end")
	}
	if b, err := os.ReadFile(path); err != nil || string(b) != "\x00\x00V" {
		t.Errorf("written %q, %v", b, err)
	}
	f.Close() // its descriptor is closed already
	var none *watchdog
	none.attended()()
	none.stop()
	none.run()
	if err := none.handover(); err != nil {
		t.Error(err)
	}
}

// TestFaults: only a development image has one.
func TestFaults(t *testing.T) {
	for _, c := range []struct {
		policy string
		ok     bool
	}{
		{`{"version":"1","flavour":"full","tpm":"required","development":true,"fault":"panic"}`, true},
		{`{"version":"1","flavour":"full","tpm":"required","development":true,"fault":"explode"}`, false},
		{`{"version":"1","flavour":"full","tpm":"required","development":false,"fault":"panic"}`, false},
	} {
		if _, err := ParsePolicy([]byte(c.policy)); (err == nil) != c.ok {
			t.Errorf("%s: %v", c.policy, err)
		}
	}
}
