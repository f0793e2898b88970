package attempt

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ratchetos/ratchet/boot"
	"github.com/ratchetos/ratchet/boot/counter"
	"github.com/ratchetos/ratchet/boot/internal/signtest"
	"github.com/ratchetos/ratchet/boot/internal/tpmtest"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/verdict"
	"github.com/ratchetos/ratchet/hw"
)

const config1, config2, config3 = "host: one\n", "host: two\n", "host: three\n"

// rig is a provisioned box: init checks it, the Manager opens attempts on it.
type rig struct {
	t    *testing.T
	tpm  tpmtest.Machine
	path string
	*Manager
}

type bare struct{}

func (b bare) Freeze() error                   { return nil }
func (b bare) MarkBoot(string)                 {}
func (b bare) Isolate(string) error            { return nil }
func (b bare) HideOthers(string, string) error { return nil }
func (b bare) Functions() ([]hw.Device, error) {
	return []hw.Device{{Place: "pci:1", Kind: hw.Disk, Supported: true}}, nil
}

func (b bare) BindStorage(_ context.Context, p string) ([]hw.Device, error) {
	return b.Bind(context.Background(), p)
}

func (b bare) Bind(context.Context, string) ([]hw.Device, error) {
	return []hw.Device{{ID: "serial:boot", Place: "pci:1", Kind: hw.Disk, Node: "/dev/vda"}}, nil
}

type disks struct{ path string }

func (d disks) Partitions(string) (map[string]string, error) {
	return map[string]string{"LEDGER": d.path}, nil
}
func (d disks) Holds(string, string) (string, bool, error)  { return "", false, nil }
func (r *rig) openTPM() (transport.TPMCloser, error)        { return noClose{r.tpm}, nil }
func (r *rig) openLedger(string, bool) (boot.Medium, error) { return ledger.OpenFile(r.path, false) }
func (r *rig) now() time.Duration                           { return 0 }

type noClose struct{ transport.TPM }

func (noClose) Close() error { return nil }

func newRig(t *testing.T) *rig {
	r := &rig{t: t, tpm: tpmtest.New(t, "simulator"), path: filepath.Join(t.TempDir(), "ledger")}
	f, err := os.Create(r.path)
	if err == nil {
		err = errors.Join(ledger.Format(f, []byte(config1)), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	r.want("provisioned", config1)
	return r
}

// boot resets the machine, runs init, and starts core's Manager anew.
func (r *rig) boot() boot.Result {
	r.t.Helper()
	tpmtest.Boot(r.t, r.tpm, false, "secure boot", "image")
	r.Manager = New(Opener{TPM: r.openTPM, Ledger: func() (Medium, error) { return ledger.OpenFile(r.path, false) }})
	return boot.Check(r.t.Context(), boot.Machine{
		Policy:   boot.Policy{Version: "1", TPM: "required", Development: true, RecoveryKey: "KEY", PolicyKeys: signtest.Keys(r.t)},
		Signed:   [][]byte{signtest.Sign(r.t, "image", 0, signtest.Active)},
		Hardware: bare{}, Disks: disks{r.path}, TPM: r.openTPM, Open: r.openLedger, Clock: r.now,
		Say: func(f string, a ...any) { r.t.Logf(f, a...) },
	})
}

// want boots and checks that the box is released, by which verdict and with which configuration.
func (r *rig) want(code, config string) boot.Result {
	r.t.Helper()
	b := r.boot()
	if b.Report.Box.Decision != verdict.Released || b.Report.Box.Code != code || string(b.Config) != config {
		r.t.Errorf("verdict %+v with config %q, want %s with %q", b.Report.Box, b.Config, code, config)
	}
	return b
}

func (r *rig) apply(config string) (Attempt, error) {
	r.last = time.Time{} // the pace has a test of its own
	return r.ApplyConfig(r.t.Context(), []byte(config), "test")
}

func (r *rig) status() Status {
	r.t.Helper()
	s, err := r.Status(r.t.Context())
	if err != nil {
		r.t.Fatal(err)
	}
	return s
}

func TestApplyConfig(t *testing.T) {
	r := newRig(t)
	a, err := r.apply(config2)
	if err != nil || a.Number != 2 || a.Open != 1 {
		t.Fatalf("apply: %+v %v", a, err)
	}
	if s := r.status(); s.Counter != 2 || s.Expected != 1 || len(s.Open) != 1 || s.Config != ledger.Sum([]byte(config2)) || s.Order != "" {
		t.Errorf("status %+v", s)
	}
	if again, err := r.apply(config2); err != nil || again.Number != 0 {
		t.Errorf("the same configuration again: %+v %v", again, err)
	}
	if _, err := r.apply(config3); err != nil {
		t.Fatal(err)
	}
	if yaml, err := r.Config(t.Context()); err != nil || string(yaml) != config3 {
		t.Errorf("config %q %v", yaml, err)
	}
	b := r.want("closing", config3)
	if b.Report.Open != 2 || b.Report.Counter != 3 || b.Report.Expected != 3 {
		t.Errorf("report %+v", b.Report)
	}
	r.want("clean", config3)
	if _, err := r.apply(config1); err != nil { // back again
		t.Fatal(err)
	}
	r.want("closing", config1)
}

func TestRefused(t *testing.T) {
	r := newRig(t)
	for _, yaml := range [][]byte{nil, make([]byte, ledger.MaxConfig+1)} {
		if _, err := r.ApplyConfig(t.Context(), yaml, "test"); err == nil {
			t.Errorf("%d bytes were applied", len(yaml))
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := r.ApplyConfig(ctx, []byte(config2), "test"); !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %v", err)
	}
	if s := r.status(); s.Counter != 1 {
		t.Errorf("a refused attempt was counted: %+v", s)
	}
	// A LEDGER that does not fit the TPM takes no attempt.
	f, err := os.OpenFile(r.path, os.O_RDWR, 0)
	if err == nil {
		err = errors.Join(ledger.Format(f, []byte(config1)), f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.apply(config2); !errors.Is(err, ErrNotInOrder) {
		t.Errorf("attempt on a factory LEDGER: %v", err)
	}
	if s := r.status(); s.Order == "" {
		t.Error("status does not say that the counter is not in order")
	}
}

// TestPowerCuts stops an attempt before each of its steps and boots: the table of B2 in docs/reference/boot-protocol.md.
func TestPowerCuts(t *testing.T) {
	for _, c := range []struct{ before, code, config string }{
		{"intent", "clean", config1},
		{"extend", "clean", config1},
		{"count", "closing", config1}, // J has to be recorded
		{"write", "closing", config1},
		{"", "closing", config2},
	} {
		t.Run("before "+c.before, func(t *testing.T) {
			r := newRig(t)
			r.cutBefore(c.before)
			if _, err := r.apply(config2); (err != nil) != (c.before != "") {
				t.Fatalf("apply: %v", err)
			}
			r.want(c.code, c.config)
			r.want("clean", c.config)
			if _, err := r.apply(config3); err != nil {
				t.Fatalf("the next attempt: %v", err)
			}
			r.want("closing", config3)
		})
	}
}

var errPower = errors.New("power failed")

func (r *rig) cutBefore(step string) {
	r.step = func(s string) error {
		if s == step {
			return errPower
		}
		return nil
	}
}

// TestGoesOnAfterFailure: no power cut, but one step fails and core tries again.
func TestGoesOnAfterFailure(t *testing.T) {
	for _, step := range []string{"intent", "extend", "count", "write"} {
		t.Run(step, func(t *testing.T) {
			r := newRig(t)
			r.cutBefore(step)
			if _, err := r.apply(config2); !errors.Is(err, errPower) {
				t.Fatalf("apply: %v", err)
			}
			r.step = nil
			if _, err := r.apply(config3); err != nil {
				t.Fatalf("second try: %v", err)
			}
			r.want("closing", config3)
		})
	}
}

// TestTornWrite cuts the power inside the write of the configuration slot.
func TestTornWrite(t *testing.T) {
	r := newRig(t)
	r.step = func(s string) error {
		if s != "write" {
			return nil
		}
		f, err := os.OpenFile(r.path, os.O_RDWR, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteAt([]byte("RATCHETC torn"), 0x300000)
		return errors.Join(err, f.Close(), errPower)
	}
	if _, err := r.apply(config2); !errors.Is(err, errPower) {
		t.Fatal(err)
	}
	r.want("closing", config1)
}

func TestTooMany(t *testing.T) {
	r := newRig(t)
	r.stack(ledger.MaxOpen)
	if s := r.status(); len(s.Open) != ledger.MaxOpen || s.Order != "" {
		t.Fatalf("%d open, %s", len(s.Open), s.Order)
	}
	if _, err := r.apply(config2); !errors.Is(err, ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
	if b := r.want("closing", config1); b.Report.Open != ledger.MaxOpen {
		t.Errorf("%d closed", b.Report.Open)
	}
}

// stack opens n attempts that change nothing, as the Manager does but without reading everything
// again before each.
func (r *rig) stack(n int) {
	r.t.Helper()
	m, err := ledger.OpenFile(r.path, false)
	if err != nil {
		r.t.Fatal(err)
	}
	defer m.Close()
	at := r.status().Counter
	chip, same := counter.Open(r.tpm), ledger.OfDigest(ledger.Sum([]byte(config1)))
	for range n {
		i := ledger.Intent{Number: at + 1, Target: ledger.TargetConfig, From: same, To: same}
		d, err := ledger.Open(unsynced{m}).WriteIntent(i)
		if err == nil {
			err = chip.Extend(d)
		}
		if err == nil {
			at, err = chip.Increment()
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	if err := chip.Close(); err != nil {
		r.t.Fatal(err)
	}
}

// unsynced is a LEDGER for a test that does not cut the power.
type unsynced struct{ ledger.File }

func (unsynced) Sync() error { return nil }

func TestPace(t *testing.T) {
	m := New(Opener{})
	m.last = time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), interval/20)
	defer cancel()
	if err := m.pace(ctx); !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("a second attempt at once: %v", err)
	}
	m.last = time.Now().Add(-interval)
	if err := m.pace(t.Context()); err != nil {
		t.Errorf("after a second: %v", err)
	}
}

// TestAdmit: a device is admitted by an attempt from absent.
func TestAdmit(t *testing.T) {
	r := newRig(t)
	i := ledger.Intent{Target: ledger.DeviceTarget("serial:new"), To: ledger.Content{Strength: ledger.StrengthNone}, Signer: "test"}
	if a, err := r.Open(t.Context(), i); err != nil || a.Number != 2 {
		t.Fatalf("open: %+v %v", a, err)
	}
	if s := r.status(); fmt.Sprint(s.Open[0].Target) != "device:serial:new" {
		t.Errorf("status %+v", s)
	}
	if j, err := r.Judge(t.Context()); err != nil || !j.Released() || len(j.Open) != 1 || j.Ledger == nil || j.Open[0].Signer != "test" {
		t.Errorf("judgement %+v, %v", j, err)
	}
	r.want("closing", config1)
}
