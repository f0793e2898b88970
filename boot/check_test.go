package boot

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-tpm/tpm2"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/internal/signtest"
	"github.com/ratchetos/ratchet/boot/internal/tpmtest"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/hw"
)

// TestFirstAndSecondBoot is the life of a development box, on every TPM, under UEFI and without.
func TestFirstAndSecondBoot(t *testing.T) {
	for _, kind := range tpmtest.Kinds {
		for _, uefi := range []bool{true, false} {
			t.Run(kind+"/"+map[bool]string{true: "uefi", false: "direct"}[uefi], func(t *testing.T) {
				w := newWorld(t, kind)
				w.uefi = uefi
				first := w.boot()
				w.want(first, verdict.Released, "provisioned")
				w.capped()
				if !first.Report.Provisioned || string(first.Config) != config1 {
					t.Errorf("first boot: provisioned %v, config %q", first.Report.Provisioned, first.Config)
				}
				r := w.boot()
				w.want(r, verdict.Released, "clean")
				w.capped()
				want := map[string]string{
					"mac:52:54:00:00:00:01": "released ok", "serial:data": "released ok", "pci:0000:00:09.0": "isolated unsupported",
				}
				if diff := cmp.Diff(want, devices(r)); diff != "" {
					t.Errorf("devices (-want +got):\n%s", diff)
				}
				if r.Report.Slot != map[bool]string{true: "A"}[uefi] || r.Report.BootDisk.Ledger != w.path {
					t.Errorf("slot %q, disk %+v", r.Report.Slot, r.Report.BootDisk)
				}
				if string(r.Config) != config1 {
					t.Errorf("config %q", r.Config)
				}
				t.Logf("clean boot: %d TPM commands, box %v, all %v", r.Report.TPM.Commands, r.Report.Timing.BoxVerdict, r.Report.Timing.AllVerdict)
				if r.Report.TPM.Commands > 25 {
					t.Errorf("%d TPM commands, want at most 25", r.Report.TPM.Commands)
				}
				if want := ledger.Chain(measured("1.0"), ledger.Sum([]byte(counter.CapReleased))); w.pcr11() != want {
					t.Error("PCR 11 is not capped with the word that verifiers expect")
				}
			})
		}
	}
}

// TestIsolated runs the attack table's rows that need no attempt.
func TestIsolated(t *testing.T) {
	write := func(w *world, at int64, b byte) {
		f, err := os.OpenFile(w.path, os.O_RDWR, 0)
		if err == nil {
			old := make([]byte, 1)
			_, err = f.ReadAt(old, at)
			if err == nil {
				_, err = f.WriteAt([]byte{old[0] ^ b}, at)
			}
			err = errors.Join(err, f.Close())
		}
		if err != nil {
			w.t.Fatal(err)
		}
	}
	for _, c := range []struct {
		name, code string
		attack     func(w *world)
	}{
		{"counter moved behind our back", "counter-moved", (*world).increment},
		{"bit flip in the ledger slot", "ledger-corrupt", func(w *world) { write(w, 0x050000+60, 1) }},
		{"bit flip in the configuration", "config-unreadable", func(w *world) { write(w, 0x200000+42, 1) }},
		{"factory disk", "ledger-factory", (*world).format},
		{"whole disk rolled back", "ledger-differs", func(w *world) {
			old, err := os.ReadFile(w.path)
			if err != nil {
				w.t.Fatal(err)
			}
			w.apply(config2)
			w.want(w.boot(), verdict.Released, "closing")
			if err := os.WriteFile(w.path, old, 0o600); err != nil {
				w.t.Fatal(err)
			}
		}},
		{"counter undefined and redefined by the owner", "counter-moved", (*world).redefine},
		{"no LEDGER", "ledger-missing", func(w *world) {
			if err := os.Remove(w.path); err != nil {
				w.t.Fatal(err)
			}
		}},
		{"TPM replaced", "tpm-cleared", func(w *world) { w.tpm = tpmtest.New(w.t, "swtpm") }},
		{"release image of another publisher", "image-differs", func(w *world) {
			w.policy = Policy{Version: "2.0", TPM: "required", PolicyKeys: []string{signtest.Public(w.t, signtest.Thief), signtest.Public(w.t, signtest.Spare)}}
			w.signers = []string{signtest.Thief}
		}},
		{"release image with Secure Boot off", "secure-boot-changed", func(w *world) {
			w.policy.Development, w.policy.RecoveryKey, w.off = false, "", true
		}},
		{"lockout", "tpm-lockout", func(w *world) { w.wire = &answering{w.tpm, tpm2.TPMCCNVRead, tpm2.TPMRCLockout} }},
		{"TPM in failure mode", "tpm-error", func(w *world) { w.wire = &answering{w.tpm, 0, tpm2.TPMRCFailure} }},
		{"cap refused", "cap-failed", func(w *world) { w.wire = &answering{w.tpm, tpm2.TPMCCPCREvent, tpm2.TPMRCLocality} }},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "simulator")
			w.want(w.boot(), verdict.Released, "provisioned")
			c.attack(w)
			r := w.boot()
			w.want(r, verdict.Isolated, c.code)
			if w.wire == nil {
				w.capped()
			}
			var said strings.Builder
			announce(r.Report, w.policy, func(f string, a ...any) { said.WriteString(f + "\n") })
			if !strings.Contains(said.String(), "verdict %s") {
				t.Error("no verdict line")
			}
		})
	}
}

// answering refuses one command (0: all) with a code, without asking the TPM.
type answering struct {
	tpmtest.Machine
	code tpm2.TPMCC
	rc   tpm2.TPMRC
}

func (a *answering) Send(b []byte) ([]byte, error) {
	code := tpm2.TPMCC(uint32(b[6])<<24 | uint32(b[7])<<16 | uint32(b[8])<<8 | uint32(b[9]))
	if a.code != 0 && code != a.code {
		return a.Machine.Send(b)
	}
	return []byte{0x80, 1, 0, 0, 0, 10, byte(a.rc >> 24), byte(a.rc >> 16), byte(a.rc >> 8), byte(a.rc)}, nil
}

// TestOtherSystemsTPM: Windows keeps a storage root key of its own where ours belongs. The box says what to do about it.
func TestOtherSystemsTPM(t *testing.T) {
	w := newWorld(t, "simulator")
	w.policy.Development, w.policy.RecoveryKey = false, ""
	owner := tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(nil)}
	key, err := tpm2.CreatePrimary{PrimaryHandle: owner, InPublic: tpm2.New2B(tpm2.RSASRKTemplate)}.Execute(w.tpm)
	if err == nil {
		_, err = tpm2.EvictControl{
			Auth: owner, ObjectHandle: tpm2.NamedHandle{Handle: key.ObjectHandle, Name: key.Name}, PersistentHandle: counter.HandleSRK,
		}.Execute(w.tpm)
	}
	if err != nil {
		t.Fatal(err)
	}
	r := w.boot()
	w.want(r, verdict.Isolated, "tpm-owned")
	if !strings.Contains(r.Report.Box.Reason, "another key") || !strings.Contains(r.Report.Box.Next, "clear the TPM") {
		t.Errorf("%+v", r.Report.Box)
	}
	w.capped()
	cleared(t, w)
	w.answer = func(string) bool { return true }
	w.want(w.boot(), verdict.Released, "provisioned")
}

func TestNoTPM(t *testing.T) {
	w := newWorld(t, "simulator")
	w.wire = &cutter{TPM: w.tpm}
	w.want(w.check(), verdict.Isolated, "tpm-error")
	w.policy.TPM = "optional"
	w.want(w.check(), verdict.Isolated, "tpm-error") // optional is about an absent TPM, not a broken one
}

// TestPowerCutInInit cuts the power before each TPM command of a boot, then switches on again: the
// box must come up by itself, with what it would have had without the cut.
func TestPowerCutInInit(t *testing.T) {
	for _, c := range []struct {
		name, config string
		prepare      func(t *testing.T, w *world)
	}{
		{"provisioning", config1, func(*testing.T, *world) {}},
		{"clean", config1, provisioned},
		{"closing", config2, func(t *testing.T, w *world) {
			provisioned(t, w)
			w.apply(config2)
		}},
		{"rebind", config1, func(t *testing.T, w *world) {
			provisioned(t, w)
			w.off = true
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			for n := 1; ; n++ {
				done := false
				t.Run("", func(t *testing.T) { // a TPM for each cut
					w := newWorld(t, "simulator")
					c.prepare(t, w)
					cut := &cutter{TPM: w.tpm, left: n}
					w.wire = cut
					w.boot()
					w.wire = nil
					done = cut.left >= 0
					r := w.boot()
					if r.Report.Box.Decision != verdict.Released || string(r.Config) != c.config {
						t.Errorf("power cut before command %d (%#x): %s %s, config %q", n, uint32(cut.last), r.Report.Box.Code, r.Report.Box.Reason, r.Config)
					}
				})
				if done {
					t.Logf("%d cuts", n)
					return
				}
				if n > 100 {
					t.Fatal("init does not come to an end")
				}
			}
		})
	}
}

func provisioned(t *testing.T, w *world) {
	t.Helper()
	w.want(w.boot(), verdict.Released, "provisioned")
}

// saveTPM copies the state of the TPM and returns what puts it back.
func saveTPM(t *testing.T, w *world) (restore func()) {
	t.Helper()
	swtpm := w.tpm.(*tpmtest.SWTPM)
	old, err := swtpm.Save()
	if err != nil {
		t.Fatal(err)
	}
	return func() {
		t.Helper()
		if err := swtpm.Restore(old); err != nil {
			t.Fatal(err)
		}
	}
}

// TestTPMRolledBack restores an older state of the TPM after LEDGER has moved on.
func TestTPMRolledBack(t *testing.T) {
	w := newWorld(t, "swtpm")
	provisioned(t, w)
	restore := saveTPM(t, w)
	w.apply(config2)
	w.want(w.boot(), verdict.Released, "closing")
	w.apply(config1)
	w.want(w.boot(), verdict.Released, "closing")
	restore()
	w.want(w.boot(), verdict.Isolated, "tpm-rolled-back")
}

// TestTPMRolledBackOnce: one close back, its ledger slot is still there, but the other saw more.
func TestTPMRolledBackOnce(t *testing.T) {
	w := newWorld(t, "swtpm")
	provisioned(t, w)
	restore := saveTPM(t, w)
	w.apply(config2)
	w.want(w.boot(), verdict.Released, "closing")
	restore()
	w.want(w.boot(), verdict.Isolated, "tpm-rolled-back")
}

func TestQuarantineNIC(t *testing.T) {
	w := newWorld(t, "simulator")
	w.policy.QuarantineNIC = nicPlace
	w.want(w.boot(), verdict.Released, "provisioned")
	w.increment()
	r := w.boot()
	if r.Report.Box.Decision != verdict.Isolated || !w.iron.bound[nicPlace] || w.iron.bound[diskPlace] || w.iron.bound[bootPlace] {
		t.Errorf("verdict %+v, bound %v", r.Report.Box, w.iron.bound)
	}
	if got := devices(r)["mac:52:54:00:00:00:01"]; got != "quarantined quarantine-nic" {
		t.Errorf("NIC: %s", got)
	}
}

// failing is a LEDGER whose writes fail, or are torn.
type failing struct {
	Medium
	tear int
}

func (f failing) WriteAt(b []byte, at int64) (int, error) {
	if f.tear > 0 {
		_, _ = f.Medium.WriteAt(b[:f.tear], at)
	}
	return 0, errPower
}

func TestLedgerWriteFails(t *testing.T) {
	for _, tear := range []int{0, 8, 100} {
		t.Run(fmt.Sprintf("torn after %d bytes", tear), func(t *testing.T) {
			w := newWorld(t, "simulator")
			w.medium = func(m Medium) Medium { return failing{m, tear} }
			w.want(w.boot(), verdict.Isolated, "close-failed")
			w.capped()
			w.medium = nil
			w.want(w.boot(), verdict.Released, "provisioned")
		})
	}
}

func TestRebind(t *testing.T) {
	w := newWorld(t, "simulator")
	w.want(w.boot(), verdict.Released, "provisioned")
	w.off = true
	r := w.boot()
	w.want(r, verdict.Released, "image-changed")
	if !r.Report.Provisioned {
		t.Error("not reported as provisioned")
	}
	w.want(w.boot(), verdict.Released, "clean")
	w.off = false
	w.increment()
	w.want(w.boot(), verdict.Isolated, "counter-moved")
}

func TestReleaseImageAsks(t *testing.T) {
	w := newWorld(t, "simulator")
	w.policy.Development, w.policy.RecoveryKey = false, ""
	w.want(w.boot(), verdict.Isolated, "unprovisioned")
	w.answer = func(string) bool { return false }
	w.want(w.boot(), verdict.Isolated, "unprovisioned")
	var word string
	w.answer = func(s string) bool { word = s; return true }
	w.want(w.boot(), verdict.Released, "provisioned")
	if word != "provision" || !strings.Contains(w.said.String(), "RECOVERY KEY") {
		t.Errorf("word %q, said:\n%s", word, w.said.String())
	}
	w.answer = nil
	w.want(w.boot(), verdict.Released, "clean")
}

func TestDevices(t *testing.T) {
	w := newWorld(t, "simulator")
	w.want(w.boot(), verdict.Released, "provisioned")
	w.iron.behind[nicPlace][0].Firmware = "6.6.6"
	w.iron.behind[diskPlace] = []hw.Device{{ID: "serial:other", Place: diskPlace, Kind: hw.Disk, Node: "/dev/vdb"}}
	r := w.boot()
	w.want(r, verdict.Released, "clean")
	want := map[string]string{
		"mac:52:54:00:00:00:01": "isolated firmware-changed", "serial:data": "isolated missing",
		"serial:other": "quarantined swapped", "pci:0000:00:09.0": "isolated unsupported",
	}
	if diff := cmp.Diff(want, devices(r)); diff != "" {
		t.Errorf("devices (-want +got):\n%s", diff)
	}
	if w.iron.bound[nicPlace] || w.iron.bound[diskPlace] {
		t.Errorf("bound: %v", w.iron.bound)
	}
	w.iron.fails = map[string]error{nicPlace: errors.New("firmware does not load")}
	if got := devices(w.boot())["mac:52:54:00:00:00:01"]; got != "isolated unreadable" {
		t.Errorf("a NIC that cannot be bound: %s", got)
	}
}

// TestPanic: nonsense from a driver isolates its device, nonsense in init isolates the box.
func TestPanic(t *testing.T) {
	w := newWorld(t, "simulator")
	w.want(w.boot(), verdict.Released, "provisioned")
	w.iron.panics = true
	r := w.boot()
	w.want(r, verdict.Released, "clean")
	if got := devices(r)["mac:52:54:00:00:00:01"]; got != "isolated unreadable" {
		t.Errorf("NIC: %s", got)
	}
	w.iron.panics = false
	w.medium = func(Medium) Medium { panic("a bug") }
	w.want(w.boot(), verdict.Isolated, "init-failed")
	w.capped()
	w.iron.nonsense = true // also where nothing can be isolated
	w.want(w.boot(), verdict.Isolated, "init-failed")
	w.capped()
}

// TestAnotherBootDisk: the right disk is found behind the second controller, the first is isolated.
func TestAnotherBootDisk(t *testing.T) {
	w := newWorld(t, "simulator")
	w.iron.order = []string{diskPlace, bootPlace, nicPlace}
	r := w.boot()
	w.want(r, verdict.Released, "provisioned")
	if r.Report.BootDisk.ID != "serial:boot" {
		t.Errorf("boot disk %+v", r.Report.BootDisk)
	}
}
