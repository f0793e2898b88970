package interrupt

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/google/go-tpm/tpm2/transport"

	"github.com/ratchetos/ratchet/boot"
	"github.com/ratchetos/ratchet/boot/attempt"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/slot"
	"github.com/ratchetos/ratchet/core/state"
	"github.com/ratchetos/ratchet/core/update"
)

// times are short: nothing else in a bubble of synctest takes any.
var times = update.Times{Healthy: 3 * time.Second, Deadline: 30 * time.Second, Settle: 100 * time.Second}

// core is process 1 after init.
type core struct {
	b        *box
	attempts *attempt.Manager
	update   *update.Manager
	restart  atomic.Bool
	end      context.CancelFunc
	done     chan struct{}
}

func config(n int) string { return fmt.Sprintf("host: box-%d\n", n) }

func (b *box) startCore(r boot.Result) {
	report := r.Report
	if b.mutant == writesRunning {
		s := slices.Clone(report.BootDisk.Slots)
		s[0].Node, s[1].Node, report.BootDisk.Slots = s[1].Node, s[0].Node, s
	}
	if b.mutant == raisesTooEarly {
		report.Images = slices.Clone(report.Images) // the checker looks at init's
		for i := range report.Images {
			report.Images[i].Version = uint64(report.SecurityVersion)
		}
	}
	ctx, end := context.WithCancel(context.Background())
	c := &core{b: b, end: end, done: make(chan struct{})}
	c.attempts = attempt.New(attempt.Opener{
		TPM: func() (transport.TPMCloser, error) { return wire{b.tpm, b}, b.power.read() },
		Ledger: func() (attempt.Medium, error) {
			p := b.parts["LEDGER"]
			p.lazy = b.mutant == intentNotSynced
			return p, b.power.read()
		},
	})
	a := &attempts{Manager: c.attempts, b: b}
	c.update = update.New(update.Options{
		Report: &report, Attempts: a, CoreKey: r.Secret, Firmware: slot.Firmware{Variables: b.vars},
		Open: func(node string, write bool) (update.Slot, error) {
			return &openSlot{b.parts[node], a, write}, b.power.read()
		},
		Dir: filepath.Join(b.dir, "update"), Store: b.store, Times: times,
		Ready:   func() bool { return b.running.fault != unhealthy },
		Restart: func(why string) { b.say("core: restart: %s", why); c.restart.Store(true) },
		Clock:   func() time.Duration { return time.Since(b.began) },
		Say:     func(format string, args ...any) { b.say("core: "+format, args...) },
	})
	b.core = c
	go func() { defer close(c.done); c.update.Run(ctx) }()
}

// stop ends core, in whatever state.
func (b *box) stop() {
	if b.core != nil {
		b.core.end()
		<-b.core.done
		b.core = nil
	}
}

// live lets time pass until the box is healthy and quiet, restarts or fails. The time is that of testing/synctest: it
// passes at once when everything waits.
func (c *core) live(long time.Duration) (healthy bool) {
	for end := time.Now().Add(long); time.Now().Before(end); time.Sleep(time.Second) {
		if off, _ := c.b.power.cut(); off || c.restart.Load() {
			return false
		}
	}
	s, err := c.update.Status(context.Background())
	return err == nil && s.Healthy && !c.restart.Load()
}

// install stages and applies an update.
func (c *core) install(data []byte, target string) error {
	if _, err := c.update.Stage(0, data); err != nil {
		return err
	}
	_, err := c.update.Apply(context.Background(), update.Request{Signer: "test", Restart: true}, func(string, int64, int64) {})
	if err == nil && c.b.mutant == orderBeforeHealth {
		f := slot.Firmware{Variables: c.b.vars}
		e, _ := f.Entries()
		err = f.Apply(e.Prefer(c.b.places(), target, target, nil))
	}
	return err
}

// flash writes the NIC's firmware, as an attempt.
func (c *core) flash(to []byte) error {
	p := c.b.parts["flash"]
	was := make([]byte, flashSize)
	if _, err := p.ReadAt(was, 0); err != nil {
		return err
	}
	_, err := c.attempts.Open(context.Background(), ledger.Intent{
		Target: ledger.DeviceTarget(nicID), From: firmwareOf(was), To: firmwareOf(to), Signer: "test",
	})
	if err != nil {
		return err
	}
	c.b.flashed = true
	_, err = p.WriteAt(to, 0)
	return errors.Join(err, p.Sync())
}

func firmwareOf(b []byte) ledger.Content {
	sum := sha256.Sum256(b)
	return ledger.OfFirmware("", hex.EncodeToString(sum[:]))
}

// firmware is an image for the NIC.
func firmware(n int) []byte { return bytes.Repeat([]byte{byte(n)}, flashSize) }

// store keeps what core remembers; Put and Delete are durable when they return.
type store struct {
	*state.Memory
	p *power
}

func newStore(p *power) *store { return &store{state.NewMemory(), p} }

func (s *store) Put(ctx context.Context, space, key string, value []byte) error {
	if err := s.p.effect("put " + key); err != nil {
		return err
	}
	return s.Memory.Put(ctx, space, key, value)
}

func (s *store) Delete(ctx context.Context, space, key string) error {
	if err := s.p.effect("delete " + key); err != nil {
		return err
	}
	return s.Memory.Delete(ctx, space, key)
}

// spoil is what a cut does to a bundle that was being staged.
func (b *box) spoil() {
	path := filepath.Join(b.dir, "update", "bundle")
	if st, err := os.Stat(path); err == nil && b.rng.IntN(2) == 0 {
		_ = os.Truncate(path, b.rng.Int64N(st.Size()+1))
	}
}
