package update

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/ratchetos/ratchet/boot/bundle"
	"github.com/ratchetos/ratchet/boot/esp"
	"github.com/ratchetos/ratchet/boot/ledger"
	"github.com/ratchetos/ratchet/boot/slot"
)

// Request is what to install.
type Request struct {
	URL string // "" for the bundle that was staged
	// Signer is the authenticated user who asks.
	Signer  string
	Restart bool // when it is written
}

// Apply installs a bundle into the slot that is not running and has the firmware try it at the next boot. Until the
// attempt is open it obeys ctx; then it goes on to its end. Errors: ErrBusy, ErrBlocked, ErrNothing, ErrStorage,
// ErrSource, those of package bundle, those of attempt.Manager.Open; others say that an attempt is open.
func (m *Manager) Apply(ctx context.Context, req Request, progress Progress) (r Result, err error) {
	done, err := m.begin()
	if err != nil {
		return r, err
	}
	defer done()
	defer func() {
		if err != nil {
			r.Problem = err.Error()
		}
		m.remember(&r)
	}()
	if err := m.proven(); err != nil {
		return r, err
	}
	m.staging.Lock()
	defer m.staging.Unlock()
	if req.URL != "" {
		if err := m.download(ctx, req.URL, progress); err != nil {
			return r, err
		}
	}
	f, err := os.Open(m.stagedPath())
	if errors.Is(err, os.ErrNotExist) {
		return r, fmt.Errorf("%w: no bundle is staged", ErrNothing)
	}
	if err != nil {
		return r, storage(err)
	}
	defer f.Close()
	v, err := m.verify(ctx, f, progress)
	if err != nil {
		if ctx.Err() == nil { // else nothing speaks against the bundle
			m.forgetStaged()
		}
		return r, err
	}
	target := slot.Other(m.o.Report.Slot)
	to := ledger.OfImage(ledger.Digest(v.UKI.SHA256), uint64(v.SecurityVersion))
	r = Result{Version: v.Version, SecurityVersion: v.SecurityVersion, Slot: target, Digest: to.Digest, Bytes: v.UKI.Length}
	image := io.NewSectionReader(f, v.offset, v.UKI.Length)
	if err := m.fill(ctx, target, to, image, req.Signer, progress, &r); err != nil {
		return r, err
	}
	trial := &trial{Slot: target, Digest: to.Digest, Version: v.Version, Revokes: v.Revokes}
	if err := m.try(context.WithoutCancel(ctx), target, trial); err != nil {
		return r, fmt.Errorf("slot %s is written, but the firmware was not told to start it: %w", target, err)
	}
	m.forgetStaged()
	if req.Restart {
		r.Restart = true
		m.o.Restart("update to " + v.Version + " in slot " + target)
	}
	return r, nil
}

// proven refuses while the slot that runs is on trial: the other one then holds the image that was healthy last.
func (m *Manager) proven() error {
	m.mu.Lock()
	healthy := m.healthy
	m.mu.Unlock()
	if healthy {
		return nil
	}
	running := m.o.Report.Slot
	front, err := m.o.Firmware.Front(m.places())
	if err == nil && front != "" && front != running {
		err = fmt.Errorf("%w now: slot %s is on trial and slot %s is the way back; try again when one of them runs healthy, see: ratchetctl update status",
			ErrBlocked, running, front)
	}
	return err
}

// verified is a bundle whose every byte was looked at.
type verified struct {
	bundle.Manifest
	offset int64 // of the image in the file
}

// verify reads a whole bundle. Nothing is changed by it.
func (m *Manager) verify(ctx context.Context, f *os.File, progress Progress) (verified, error) {
	b, err := bundle.Open(bufio.NewReaderSize(f, 64<<10), m.keys)
	if err != nil {
		return verified{}, err
	}
	size, err := m.slotSize()
	if err != nil {
		return verified{}, err
	}
	if err := b.Manifest.Check(m.box(size)); err != nil {
		return verified{}, err
	}
	uki, err := b.UKI()
	if err != nil {
		return verified{}, err
	}
	if _, err := io.CopyBuffer(io.Discard, watched(ctx, uki, "verify", b.Manifest.UKI.Length, progress), make([]byte, 256<<10)); err != nil {
		return verified{}, err
	}
	return verified{b.Manifest, b.Offset()}, nil
}

// fill makes a slot hold an image: attempt, write, sync, read back. r gets what it cost.
func (m *Manager) fill(ctx context.Context, target string, to ledger.Content, image io.ReadSeeker, signer string, progress Progress, r *Result) error {
	from, err := m.holds(ctx, target)
	if err != nil {
		return err
	}
	if from.Matches(to) && to.Strength != ledger.StrengthAbsent {
		if _, again := m.same(target, to); again {
			return nil
		}
	}
	progress("attempt", 0, 0)
	// A slot that is being written must not be tried if the power fails.
	if err := m.forget(); err != nil {
		return err
	}
	a, err := m.o.Attempts.Open(ctx, ledger.Intent{Target: ledger.SlotTarget(target), From: from, To: to, Signer: signer})
	if err != nil {
		return err
	}
	r.Attempt = a.Number
	ctx = context.WithoutCancel(ctx)
	m.mu.Lock()
	delete(m.written, target)
	m.mu.Unlock()
	if err := m.write(ctx, target, image, progress, r); err != nil {
		return fmt.Errorf("attempt %d is open, slot %s is not usable until it is written again: %w", a.Number, target, err)
	}
	m.mu.Lock()
	m.written[target] = to
	m.mu.Unlock()
	return nil
}

// same reads a slot that should hold an image already; reading is cheaper than another attempt.
func (m *Manager) same(target string, to ledger.Content) (esp.Image, bool) {
	d, err := m.o.Open(m.disk(target).Node, false)
	if err != nil {
		return esp.Image{}, false
	}
	defer d.Close()
	i, err := esp.Read(d, d.Size())
	return i, err == nil && ledger.Digest(i.SHA256) == to.Digest
}

func (m *Manager) write(ctx context.Context, target string, image io.ReadSeeker, progress Progress, r *Result) (err error) {
	d, err := m.o.Open(m.disk(target).Node, true)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, d.Close()) }()
	begin := m.o.Clock()
	if err := esp.Write(d, m.volume(target, d.Size()), watched(ctx, image, "write", r.Bytes, progress), r.Bytes); err != nil {
		return err
	}
	r.Write = m.o.Clock() - begin
	begin = m.o.Clock()
	file, _, err := esp.Find(d, d.Size())
	if err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	// The image was verified before the attempt; init hashes the slot at the next boot, before anything depends on it.
	if _, err := image.Seek(0, io.SeekStart); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	if err := esp.Same(watched(ctx, file, "read back", r.Bytes, progress), image); err != nil {
		return fmt.Errorf("read back: %w", err)
	}
	r.Read = m.o.Clock() - begin
	return nil
}

// watched passes bytes on, tells about them and ends with ctx.
func watched(ctx context.Context, r io.Reader, phase string, total int64, progress Progress) io.Reader {
	return &watcher{ctx, r, phase, 0, total, 0, progress}
}

type watcher struct {
	ctx         context.Context
	r           io.Reader
	phase       string
	done, total int64
	told        int64
	progress    Progress
}

// Read implements io.Reader; it tells of each MiB, and of the end.
func (w *watcher) Read(b []byte) (int, error) {
	if err := w.ctx.Err(); err != nil {
		return 0, err
	}
	n, err := w.r.Read(b)
	w.done += int64(n)
	if w.done-w.told >= 1<<20 || w.done == w.total && w.told != w.total {
		w.told = w.done
		w.progress(w.phase, w.done, w.total)
	}
	return n, err
}

// try has the firmware start a slot once. What is known of it is durable before that.
func (m *Manager) try(ctx context.Context, target string, t *trial) error {
	m.choice.Lock()
	defer m.choice.Unlock()
	if err := m.put(ctx, keyTrial, t); err != nil {
		return err
	}
	// The entries may be gone since init repaired them.
	if _, err := m.o.Firmware.Repair(m.places(), m.o.Report.Slot, m.bad()); err != nil {
		return err
	}
	if err := m.o.Firmware.Try(m.places(), target); err != nil {
		return err
	}
	m.plan(true)
	return nil
}

// forget has the firmware start what is first in the order.
func (m *Manager) forget() error {
	m.choice.Lock()
	defer m.choice.Unlock()
	if err := m.o.Firmware.Forget(); err != nil {
		return err
	}
	m.plan(false)
	return nil
}

func (m *Manager) plan(other bool) {
	m.mu.Lock()
	m.planned = other
	m.mu.Unlock()
}

// speed is for logs.
func speed(n int64, d time.Duration) string {
	if d <= 0 {
		return "-"
	}
	return fmt.Sprintf("%.1f MiB/s", float64(n)/(1<<20)/d.Seconds())
}
