package boot

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"os"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/internal/tpmtest"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/luks"
	"github.com/ratchetos/ratchet/boot/recovery"
	"github.com/ratchetos/ratchet/boot/request"
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

// TestAcceptClearedTPM provisions a TPM that was cleared again; the recovery key proves itself on the disk,
// whose data stay.
func TestAcceptClearedTPM(t *testing.T) {
	w := vaulted(t, "swtpm")
	first := w.boot()
	w.want(first, verdict.Released, "provisioned")
	cleared(t, w)
	w.types("accept", "WRONG")
	w.want(w.boot(), verdict.Isolated, "tpm-cleared")
	w.shows("that is not the recovery key")
	w.types("accept", "DEV-KEY")
	r := w.boot()
	w.want(r, verdict.Released, "accepted")
	w.holds(r)
	w.console = nil
	again := w.boot()
	w.want(again, verdict.Released, "clean")
	w.holds(again)
	if !bytes.Equal(again.Secret, first.Secret) {
		t.Error("core's key is another one")
	}
}

// owner is a key that signs requests; its public half goes into the image.
func (w *world) owner() *ecdsa.PrivateKey {
	w.t.Helper()
	k := newWorldKey(w.t)
	w.policy.OwnerKeys = []string{publicPEM(w.t, k)}
	return k
}

// leave signs a request and leaves it in LEDGER, as core does.
func (w *world) leave(k *ecdsa.PrivateKey, r request.Request) string {
	w.t.Helper()
	s, err := request.Sign(k, r)
	if err != nil {
		w.t.Fatal(err)
	}
	w.leaveText(s.Text())
	return s.Text()
}

func (w *world) leaveText(text string) {
	w.t.Helper()
	m, err := ledger.OpenFile(w.path, false)
	if err == nil {
		err = errors.Join(ledger.Open(m).WriteRequest(text), m.Close())
	}
	if err != nil {
		w.t.Fatal(err)
	}
}

// outcome is what init left of the last request; it must have been taken away.
func (w *world) outcome() string {
	w.t.Helper()
	m, err := ledger.OpenFile(w.path, true)
	if err != nil {
		w.t.Fatal(err)
	}
	defer m.Close()
	if _, err := ledger.Open(m).ReadRequest(); !errors.Is(err, ledger.ErrEmpty) {
		w.t.Errorf("the request is still there: %v", err)
	}
	out, err := ledger.Open(m).ReadOutcome()
	if err != nil {
		w.t.Errorf("no outcome: %v", err)
	}
	return out
}

// TestRequests leaves signed requests for the next boot.
func TestRequests(t *testing.T) {
	const nic = "mac:52:54:00:00:00:01"
	for _, c := range []struct {
		name    string
		attack  func(w *world)
		r       request.Request
		code    string
		outcome string
	}{
		{"validate the box", (*world).increment, request.Request{Kind: request.Validate}, "validated", "validate by owner key"},
		{"accept a rolled back disk", (*world).rollback, request.Request{Kind: request.Accept}, "accepted", "accept by owner key"},
		{"validate a rolled back disk", (*world).rollback, request.Request{Kind: request.Validate}, "ledger-differs", "refused"},
		{"accept without E", func(w *world) { w.increment(); w.forgetIndex(counter.HandleE) }, request.Request{Kind: request.Accept}, "expected-missing", "it takes the recovery key"},
		{"accept a box in order", func(*world) {}, request.Request{Kind: request.Accept}, "clean", "refused"},
		{"recover a device", func(w *world) { w.iron.behind[nicPlace][0].Firmware = "6.6" }, request.Request{Kind: request.Recover, Device: nic}, "closing", "carried out"},
		{"an unknown device", func(*world) {}, request.Request{Kind: request.Recover, Device: "mac:x"}, "closing", "no device mac:x"},
		{"erase", func(*world) {}, request.Request{Kind: request.Reset}, "ledger-factory", "destroyed"},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := newWorld(t, "simulator")
			k := w.owner()
			first := w.boot()
			w.want(first, verdict.Released, "provisioned")
			c.attack(w)
			c.r.Box, c.r.Counter = first.Report.TPM.SRKName, w.counter()
			text := w.leave(k, c.r)
			r := w.boot()
			if r.Report.Box.Code != c.code {
				t.Errorf("verdict %s (%s), want %s", r.Report.Box.Code, r.Report.Box.Reason, c.code)
			}
			out := w.outcome()
			if !strings.Contains(out, c.outcome) {
				t.Errorf("outcome %q, want %q", out, c.outcome)
			}
			if !strings.Contains(out, "carried out") {
				return
			}
			// Whatever it was for, it is spent.
			w.leaveText(text)
			before := w.counter()
			w.boot()
			if out := w.outcome(); !strings.Contains(out, "refused") || !strings.Contains(out, request.ErrUsed.Error()[:20]) {
				t.Errorf("carried out twice: %q", out)
			}
			if n := w.counter(); n != before {
				t.Errorf("a request that was refused moved the counter from %d to %d", before, n)
			}
		})
	}
}

// counter reads C as anybody can.
func (w *world) counter() uint64 {
	w.t.Helper()
	p := publicC(true)
	n, err := tpm2.NVName(&p)
	if err != nil {
		w.t.Fatal(err)
	}
	h := tpm2.NamedHandle{Handle: p.NVIndex, Name: *n}
	r, err := tpm2.NVRead{AuthHandle: tpm2.AuthHandle{Handle: h.Handle, Name: h.Name, Auth: tpm2.PasswordAuth(nil)}, NVIndex: h, Size: 8}.Execute(w.tpm)
	if err != nil {
		w.t.Fatal(err)
	}
	return binary.BigEndian.Uint64(r.Data.Buffer)
}

func TestRequestsRefused(t *testing.T) {
	w := newWorld(t, "simulator")
	k := w.owner()
	first := w.boot()
	w.want(first, verdict.Released, "provisioned")
	w.increment()
	good := request.Request{Kind: request.Validate, Box: first.Report.TPM.SRKName, Counter: w.counter()}
	stranger := newWorldKey(t)
	for _, c := range []struct {
		name, outcome string
		leave         func()
	}{
		{"a stranger's", "not signed by an owner key", func() { w.leave(stranger, good) }},
		{"another box's", "made for another box", func() {
			r := good
			r.Box = hex.EncodeToString(make([]byte, 34))
			w.leave(k, r)
		}},
		{"an older one", "made for another value of the counter", func() {
			r := good
			r.Counter--
			w.leave(k, r)
		}},
		{"nonsense", "not a request", func() { w.leaveText("rm -rf /") }},
	} {
		t.Run(c.name, func(t *testing.T) {
			c.leave()
			w.want(w.boot(), verdict.Isolated, "counter-moved")
			if out := w.outcome(); !strings.Contains(out, "refused") || !strings.Contains(out, c.outcome) {
				t.Errorf("outcome %q, want %q", out, c.outcome)
			}
		})
	}
	w.leave(k, good)
	w.want(w.boot(), verdict.Released, "validated")
}

func publicPEM(t *testing.T, k *ecdsa.PrivateKey) string {
	t.Helper()
	der, err := x509.MarshalPKIXPublicKey(k.Public())
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "PUBLIC KEY", Bytes: der}))
}

func newWorldKey(t *testing.T) *ecdsa.PrivateKey {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return k
}

// TestProvisioningToken provisions a release box without anybody at its console: the token names the
// chip and a counter value that never comes back.
func TestProvisioningToken(t *testing.T) {
	w := newWorld(t, "swtpm")
	w.policy.Development, w.policy.RecoveryKey = false, ""
	k := w.owner()
	w.types("status")
	r := w.boot()
	w.want(r, verdict.Isolated, "unprovisioned")
	_, name, _ := strings.Cut(w.screen.String(), "box       ")
	name, _, _ = strings.Cut(name, "\n")
	token := w.leave(k, request.Request{Kind: request.Provision, Box: name, Counter: w.counter()})

	w.console = nil
	r = w.boot()
	w.want(r, verdict.Released, "provisioned")
	if out := w.outcome(); !strings.Contains(out, "provision by owner key") || !strings.Contains(w.said.String(), "RECOVERY KEY") {
		t.Errorf("outcome %q", out)
	}
	w.want(w.boot(), verdict.Released, "clean")

	// A cleared TPM and a factory disk do not release themselves, and the token is spent.
	cleared(t, w)
	w.format()
	w.leaveText(token)
	w.want(w.boot(), verdict.Isolated, "unprovisioned")
	if out := w.outcome(); !strings.Contains(out, "refused") {
		t.Errorf("the token was used twice: %q", out)
	}
}

// cleared is TPM2_Clear with platform authorisation, as the firmware setup does it.
func cleared(t *testing.T, w *world) {
	t.Helper()
	if err := w.tpm.Cycle(true); err != nil {
		t.Fatal(err)
	}
	platform := tpm2.AuthHandle{Handle: tpm2.TPMRHPlatform, Auth: tpm2.PasswordAuth(nil)}
	if _, err := (tpm2.HierarchyChangeAuth{AuthHandle: platform}).Execute(w.tpm); err != nil {
		t.Fatal(err)
	}
	// TPM2_ClearControl(NO), which go-tpm does not have: handle, password session, one byte.
	clearControl := []byte{
		0x80, 0x02, 0, 0, 0, 28, 0, 0, 0x01, 0x27, 0x40, 0x00, 0x00, 0x0C,
		0, 0, 0, 9, 0x40, 0x00, 0x00, 0x09, 0, 0, 0, 0, 0, 0,
	}
	if r, err := w.tpm.Send(clearControl); err != nil || len(r) < 10 || r[9] != 0 {
		t.Fatalf("allow TPM2_Clear: %v %x", err, r)
	}
	if _, err := (tpm2.Clear{AuthHandle: platform}).Execute(w.tpm); err != nil {
		t.Fatal(err)
	}
}

// TestAcceptChanges takes a release box whose Secure Boot was changed on purpose, or whose publisher was: E and the
// secret of STATE are bound to the new state, and the data stay.
func TestAcceptChanges(t *testing.T) {
	for _, c := range []struct {
		name, code string
		change     func(w *world)
	}{
		{"Secure Boot switched off", "secure-boot-changed", func(w *world) { w.off = true }},
		{"nothing", "clean", func(*world) {}},
	} {
		t.Run(c.name, func(t *testing.T) {
			w := vaulted(t, "simulator")
			w.policy.Development, w.policy.RecoveryKey = false, ""
			w.answer = func(word string) bool { return word == "provision" }
			first := w.boot()
			w.want(first, verdict.Released, "provisioned")
			_, key, _ := strings.Cut(w.said.String(), "write it down: ")
			key, _, _ = strings.Cut(key, "\n")
			c.change(w)
			r := w.boot()
			if r.Report.Box.Code != c.code {
				t.Fatalf("verdict %+v", r.Report.Box)
			}
			w.types("accept", key)
			r = w.boot()
			if c.code == "clean" {
				w.want(r, verdict.Released, "clean")
				return
			}
			w.want(r, verdict.Released, "accepted")
			w.holds(r)
			if !bytes.Equal(r.Secret, first.Secret) {
				t.Error("core's key is another one")
			}
			w.console = nil
			again := w.boot()
			w.want(again, verdict.Released, "clean")
			w.holds(again)
		})
	}
}
