package boot

import (
	"bytes"
	"context"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/internal/tpmtest"
	"github.com/ratchetos/ratchet/boot/luks"
	"github.com/ratchetos/ratchet/boot/recovery"
	"github.com/ratchetos/ratchet/boot/verdict"
)

// types puts somebody at the recovery console who types lines, and walks away after the last.
func (w *world) types(lines ...string) {
	w.console = func(ctx context.Context, session *recovery.Console, e Entry) recovery.End {
		w.screen.Reset()
		r := session.Open(ctx, e.Why)
		for {
			w.screen.WriteString(r.Text + r.Prompt)
			if r.End != recovery.Stay || len(lines) == 0 {
				return r.End
			}
			if !r.Secret {
				w.screen.WriteString(lines[0])
			}
			w.screen.WriteByte('\n')
			r = session.Line(ctx, lines[0])
			lines = lines[1:]
		}
	}
}

// shows checks what was on the screen.
func (w *world) shows(texts ...string) {
	w.t.Helper()
	for _, text := range texts {
		if !strings.Contains(w.screen.String(), text) {
			w.t.Errorf("the console does not say %q:\n%s", text, w.screen.String())
		}
	}
}

// damage flips a bit of LEDGER.
func (w *world) damage(at int64) {
	w.t.Helper()
	b, err := os.ReadFile(w.path)
	if err == nil {
		b[at] ^= 1
		err = os.WriteFile(w.path, b, 0o600)
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// forgetIndex removes an index as the TPM's owner would, behind the box's back.
func (w *world) forgetIndex(h tpm2.TPMHandle) {
	w.t.Helper()
	c := counter.Open(w.tpm)
	if err := errors.Join(c.Forget(w.policy.RecoveryKey, h), c.Close()); err != nil {
		w.t.Fatal(err)
	}
}

// rollback puts the disk back to what it was before a configuration was applied.
func (w *world) rollback() {
	w.t.Helper()
	old, err := os.ReadFile(w.path)
	if err != nil {
		w.t.Fatal(err)
	}
	w.apply(config2)
	w.want(w.boot(), verdict.Released, "closing")
	if err := os.WriteFile(w.path, old, 0o600); err != nil {
		w.t.Fatal(err)
	}
}

// TestRecoveryConsole takes isolated boxes out of isolation, with what each of them needs and no less.
func TestRecoveryConsole(t *testing.T) {
	for _, c := range []struct {
		name   string
		attack func(w *world)
		types  string // lines, separated by |
		code   string // of the boot at which they are typed
	}{
		{"counter moved, validated", (*world).increment, "validate", "validated"},
		{"counter moved, by number", (*world).increment, "1", "validated"},
		{"counter redefined, validated", (*world).redefine, "validate", "validated"},
		{"rolled back disk is not validated", (*world).rollback, "validate", "ledger-differs"},
		{"rolled back disk, wrong key", (*world).rollback, "accept|WRONG-KEY", "ledger-differs"},
		{"rolled back disk, accepted", (*world).rollback, "accept|dev key", "accepted"},
		{"factory disk, accepted", (*world).format, "accept|DEV-KEY", "accepted"},
		{"both slots damaged, accepted", func(w *world) { w.damage(0x010000 + 60); w.damage(0x050000 + 60) }, "accept|DEV-KEY", "accepted"},
		{"LEDGER is no LEDGER, accepted", func(w *world) { w.damage(0); w.damage(0x3FF000) }, "accept|DEV-KEY", "accepted"},
		{"configuration damaged, accepted", func(w *world) { w.damage(0x200000 + 42) }, "accept|DEV-KEY", "accepted"},
		{"E removed", func(w *world) { w.increment(); w.forgetIndex(counter.HandleE) }, "accept|DEV-KEY", "accepted"},
		{"C removed", func(w *world) { w.forgetIndex(counter.HandleC) }, "accept|DEV-KEY", "accepted"},
		{"J removed", func(w *world) { w.forgetIndex(counter.HandleJ) }, "accept|DEV-KEY", "accepted"},
		{"J replaced", func(w *world) { w.forgetIndex(counter.HandleJ); w.define(counter.HandleJ) }, "accept|DEV-KEY", "accepted"},
		{"V removed", func(w *world) { w.forgetIndex(counter.HandleV) }, "accept|DEV-KEY", "accepted"},
		{"V replaced", func(w *world) { w.forgetIndex(counter.HandleV); w.define(counter.HandleV) }, "accept|DEV-KEY", "accepted"},
		{"nobody decides", (*world).increment, "status|help|log|continue", "counter-moved"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "simulator")
			w.want(w.boot(), verdict.Released, "provisioned")
			c.attack(w)
			w.types(strings.Split(c.types, "|")...)
			r := w.boot()
			d := verdict.Isolated
			if c.code == "validated" || c.code == "accepted" {
				d = verdict.Released
			}
			w.want(r, d, c.code)
			w.capped()
			if strings.Contains(w.screen.String(), w.policy.RecoveryKey) {
				t.Errorf("the recovery key is on the screen:\n%s", w.screen.String())
			}
			if d == verdict.Isolated {
				return
			}
			// It is over: the next boot is an ordinary one, with every device.
			w.console = nil
			again := w.boot()
			w.want(again, verdict.Released, "clean")
			if got := devices(again)["mac:52:54:00:00:00:01"]; got != "released ok" {
				t.Errorf("the NIC is %s", got)
			}
			w.apply(config2)
			w.want(w.boot(), verdict.Released, "closing")
		})
	}
}

// define makes an index of our handle that is not ours.
func (w *world) define(h tpm2.TPMHandle) {
	w.t.Helper()
	_, err := tpm2.NVDefineSpace{
		AuthHandle: tpm2.AuthHandle{Handle: tpm2.TPMRHOwner, Auth: tpm2.PasswordAuth(counter.OwnerAuth(w.policy.RecoveryKey))},
		PublicInfo: tpm2.New2B(tpm2.TPMSNVPublic{
			NVIndex: h, NameAlg: tpm2.TPMAlgSHA256, DataSize: 32,
			Attributes: tpm2.TPMANV{NT: tpm2.TPMNTOrdinary, OwnerWrite: true, OwnerRead: true, AuthRead: true},
		}),
	}.Execute(w.tpm)
	if err != nil {
		w.t.Fatal(err)
	}
}

// TestRecoverDevice takes single devices on a box that is in order, asked for beforehand.
func TestRecoverDevice(t *testing.T) {
	const nic, disk = "mac:52:54:00:00:00:01", "serial:data"
	for _, c := range []struct {
		name   string
		change func(w *world)
		types  string
		want   map[string]string // after that boot
	}{
		{
			"changed firmware is not validated", func(w *world) { w.iron.behind[nicPlace][0].Firmware = "6.6" },
			"validate " + nic,
			map[string]string{nic: "isolated firmware-changed"},
		},
		{
			"changed firmware, taken", func(w *world) { w.iron.behind[nicPlace][0].Firmware = "6.6" },
			"recover " + nic + "|DEV-KEY",
			map[string]string{nic: "released ok"},
		},
		{
			"changed firmware, wrong key", func(w *world) { w.iron.behind[nicPlace][0].Firmware = "6.6" },
			"recover " + nic + "|WRONG",
			map[string]string{nic: "isolated firmware-changed"},
		},
		{
			"new device, admitted", func(w *world) {
				w.iron.behind[nicPlace][0].ID = "mac:new"
			}, "recover mac:new|DEV-KEY|recover " + nic + "|DEV-KEY", map[string]string{"mac:new": "released ok", nic: ""},
		},
		{
			"missing, forgotten", func(w *world) { w.iron.behind[diskPlace] = nil },
			"recover " + disk + "|DEV-KEY",
			map[string]string{disk: ""},
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "simulator")
			w.policy.Development, w.policy.RecoveryKey = true, "DEV-KEY"
			w.want(w.boot(), verdict.Released, "provisioned")
			c.change(w)
			w.types(strings.Split(c.types, "|")...)
			w.asked = "it was asked for"
			r := w.boot()
			if r.Report.Box.Decision != verdict.Released {
				t.Fatalf("verdict %+v\n%s", r.Report.Box, w.screen.String())
			}
			w.console, w.asked = nil, ""
			r = w.boot()
			w.want(r, verdict.Released, "clean")
			for id, want := range c.want {
				if got := devices(r)[id]; got != want {
					t.Errorf("%s is %q, want %q\n%s", id, got, want, w.screen.String())
				}
			}
		})
	}
}

// TestFactoryReset destroys what opens the data and leaves a box that is new, and counts on.
func TestFactoryReset(t *testing.T) {
	for _, kind := range tpmtest.Kinds {
		t.Run(kind, func(t *testing.T) {
			w := vaulted(t, kind)
			first := w.boot()
			w.want(first, verdict.Released, "provisioned")
			w.types("factory-reset", "erase", "DEV-KEY")
			w.asked = "it was asked for"
			r := w.boot()
			w.want(r, verdict.Isolated, "ended")
			if r.End != recovery.Reboot {
				t.Errorf("the machine is not restarted: %v\n%s", r.End, w.screen.String())
			}
			for _, path := range []string{w.state, w.data} {
				f, err := os.Open(path)
				if err != nil {
					t.Fatal(err)
				}
				if _, err := luks.Read(f); !errors.Is(err, luks.ErrNoHeader) {
					t.Errorf("%s has a header: %v", path, err)
				}
				_ = f.Close()
			}
			w.console, w.asked = nil, ""
			w.policy.RecoveryKey = "ANOTHER-KEY"
			r = w.boot()
			w.want(r, verdict.Released, "provisioned")
			w.holds(r)
			if r.Report.Counter <= first.Report.Counter || bytes.Equal(r.Secret, first.Secret) {
				t.Errorf("the counter went from %d to %d", first.Report.Counter, r.Report.Counter)
			}
			if r.Config != nil {
				t.Errorf("the configuration outlived the reset: %q", r.Config)
			}
			w.want(w.boot(), verdict.Released, "clean")
		})
	}
}

// TestFactoryResetClearedTPM makes a box new whose TPM was cleared: the disk tells the recovery key, and where nothing
// does any more there is nothing left that it would open.
func TestFactoryResetClearedTPM(t *testing.T) {
	for _, c := range []struct {
		name, key, says string
		harm            func(w *world)
		resets          bool
	}{
		{"the disk knows the key", "DEV-KEY", "the next boot finds a new box", func(*world) {}, true},
		{"another key", "WRONG", "that is not the recovery key", func(*world) {}, false},
		{"nothing knows the key", "DEV-KEY", "the next boot finds a new box", func(w *world) {
			w.spoil(w.state, 0, 32<<10)
			w.spoil(w.data, 0, 32<<10)
		}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := vaulted(t, "simulator")
			w.want(w.boot(), verdict.Released, "provisioned")
			cleared(t, w)
			c.harm(w)
			w.types("factory-reset", "erase", c.key)
			r := w.boot()
			w.shows(c.says)
			if (r.End == recovery.Reboot) != c.resets {
				t.Fatalf("the machine ends with %v\n%s", r.End, w.screen.String())
			}
			w.console = nil
			if !c.resets {
				w.want(w.boot(), verdict.Isolated, "tpm-cleared")
				return
			}
			w.policy.RecoveryKey = "ANOTHER-KEY"
			r = w.boot()
			w.want(r, verdict.Released, "provisioned")
			w.holds(r)
		})
	}
}

// TestFactoryResetFails: a reset that the TPM does not bring to its end says what is gone already, and the box does not
// start with what it still has in memory.
func TestFactoryResetFails(t *testing.T) {
	w := vaulted(t, "simulator")
	w.want(w.boot(), verdict.Released, "provisioned")
	w.wire = &answering{w.tpm, tpm2.TPMCCNVUndefineSpace, tpm2.TPMRCFailure}
	w.asked = "it was asked for"
	w.types("factory-reset", "erase", "DEV-KEY", "continue")
	r := w.boot()
	w.shows("keys, data and configuration are destroyed, but the TPM still knows this box", "factory-reset again")
	w.want(r, verdict.Isolated, "reset")
	w.shut(r)
	w.wire = nil
	w.types("factory-reset", "erase", "DEV-KEY")
	w.boot()
	w.console, w.asked = nil, ""
	w.want(w.boot(), verdict.Released, "provisioned")
}

// TestFactoryResetHalfDone: what validate releases after a reset that got as far as the volumes is not the box that was.
func TestFactoryResetHalfDone(t *testing.T) {
	w := vaulted(t, "simulator")
	w.want(w.boot(), verdict.Released, "provisioned")
	w.policy.Development, w.policy.RecoveryKey = false, ""
	w.medium = func(m Medium) Medium { return failing{m, 0} }
	w.asked = "it was asked for"
	w.types("factory-reset", "erase", "DEV-KEY", "validate", "continue")
	r := w.boot()
	w.shows("not done", "validated")
	w.want(r, verdict.Isolated, "vault-shut")
	w.shut(r)
}
