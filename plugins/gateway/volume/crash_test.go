package volume

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/log/simdisk"
)

// The soak widens these: go test ./plugins/gateway/volume -run PowerCuts -timeout 1h -args -cuts 2000 -seed 1.
var (
	cuts = flag.Int("cuts", 60, "power cuts that TestPowerCuts makes, and kills that TestKills makes")
	seed = flag.Uint64("seed", 0, "first seed of the crash tests")
)

const (
	crashSize    = 1 << 20
	crashDisk    = 2 << 20
	crashSegment = 32 << 10
	crashWindow  = blockSize + 8*crashSegment
)

// memory is a window outside the Go heap, as the real one is.
func memory(n int) []byte {
	p, err := unix.Mmap(-1, 0, n, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE)
	if err != nil {
		panic(err)
	}
	return p
}

// crash is a volume's history over several lives on one disk.
type crash struct {
	r         *rand.Rand
	store     *memStore
	disk      *simdisk.Disk
	window    []byte
	trackers  []*tracker
	mutant    mutant
	kill      bool // processes are killed, else the power goes
	forgetful bool // the window is lost with the process
	unsynced  bool // the disk's Sync does nothing: fdatasync removed
	wired     bool // clients come through the NBD server
	v         *Volume
}

func newCrash(seed uint64, kill bool, clients int) *crash {
	c := &crash{
		r: rand.New(rand.NewPCG(seed, 9)), store: newStore(), disk: simdisk.New(crashDisk), kill: kill,
		window: memory(crashWindow),
	}
	n := int64(crashSize / clients)
	for i := range int64(clients) {
		c.trackers = append(c.trackers, newTracker(i*n, n))
	}
	return c
}

// unsynced is a disk that forgets to sync.
type unsynced struct{ log.Disk }

func (unsynced) Sync() error { return nil }

func (c *crash) options(d log.Disk, s *memStore) Options {
	if c.unsynced {
		d = unsynced{d}
	}
	return Options{
		Name: "v", Size: crashSize, Disk: d, Store: s, segment: crashSegment, Window: c.window, mutant: c.mutant,
		MaxAge: time.Millisecond, MaxBatch: 96 << 10, ReadTimeout: 5 * time.Second, firstPause: time.Millisecond,
	}
}

// run lives through n crashes and then looks at the store once more.
func (c *crash) run(n int) (err error) {
	defer func() { _ = unix.Munmap(c.window) }()
	ctx, cancel := context.WithTimeout(context.Background(), 4*time.Minute) // a starved machine is no fault of ours
	defer cancel()
	for life := range n {
		if err := c.live(ctx); err != nil {
			return fmt.Errorf("life %d: %w", life, err)
		}
	}
	c.store.set(nil)
	if c.v, err = Open(ctx, c.options(c.disk, c.store)); err != nil {
		return fmt.Errorf("after the last crash: %w", err)
	}
	defer c.v.Close()
	if err := c.check(ctx, c.v, c.least()); err != nil {
		return fmt.Errorf("after the last crash: %w", err)
	}
	if err := c.v.WaitUploaded(ctx); err != nil {
		return err
	}
	for _, t := range c.trackers {
		t.stored = t.seq
	}
	return c.checkStore(ctx)
}

func (c *crash) least() bound {
	if c.kill {
		return anyAcked
	}
	return anyDurable
}

// live opens the volume, lets the clients work until the crash comes, and looks at what the store has.
func (c *crash) live(ctx context.Context) (err error) {
	if c.r.IntN(4) == 0 { // it goes while the volume is being opened, or formatted
		c.disk.CutAfter(1 + c.r.IntN(8))
		if v, err := Open(ctx, c.options(c.disk, c.store)); err == nil {
			_ = v.Close()
		}
		c.crash()
	}
	down := c.r.IntN(3) == 0
	c.store.set(nil)
	if c.v, err = Open(ctx, c.options(c.disk, c.store)); err != nil {
		return err
	}
	if err := c.check(ctx, c.v, c.least()); err != nil {
		_ = c.v.Close()
		return err
	}
	if down {
		c.store.set(outage)
	}
	c.disk.CutAfter(20 + c.r.IntN(300))
	stop := make(chan struct{})
	var meddling sync.WaitGroup
	meddler := rand.New(rand.NewPCG(c.r.Uint64(), 4))
	meddling.Go(func() { c.meddle(ctx, meddler, stop) })
	errs := make([]error, len(c.trackers))
	var clients sync.WaitGroup
	ports, end, err := c.ports(ctx)
	if err != nil {
		return err
	}
	for i, t := range c.trackers {
		r := rand.New(rand.NewPCG(c.r.Uint64(), 3))
		clients.Go(func() { errs[i] = c.client(ctx, ports[i], t, r) })
	}
	clients.Wait()
	end()
	close(stop)
	meddling.Wait()
	c.crash()
	_ = c.v.Close()
	if err := errors.Join(errs...); err != nil {
		return err
	}
	c.store.set(nil)
	return c.checkStore(ctx)
}

// crash ends the disk; the window is there again only after a kill.
func (c *crash) crash() {
	if c.kill && !c.forgetful {
		c.disk = c.disk.Kill()
		return
	}
	if c.v != nil {
		_ = c.v.Close() // nothing may scribble into the window of the next
	}
	if c.kill {
		c.disk = c.disk.Kill()
	} else {
		c.disk = c.disk.Crash(c.r)
	}
	clear(c.window)
}

// meddle does what operators and outages do.
func (c *crash) meddle(ctx context.Context, r *rand.Rand, stop <-chan struct{}) {
	tick := time.NewTicker(200 * time.Microsecond)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			c.store.set(nil)
			return
		case <-tick.C:
		}
		switch r.IntN(12) {
		case 0:
			c.store.set(outage)
		case 1, 2, 3:
			c.store.set(nil)
		case 4, 5:
			_, _ = c.v.Evict(ctx, 1+r.Int64N(crashDisk/2))
		}
		if c.v.log.Used() > c.v.log.Size()/2 {
			c.store.set(nil)
		}
	}
}

// ports are the clients' ways to the volume.
func (c *crash) ports(ctx context.Context) ([]port, func(), error) {
	if c.wired {
		return serve(ctx, c.v, len(c.trackers))
	}
	list := make([]port, len(c.trackers))
	for i := range list {
		list[i] = direct{c.v}
	}
	return list, func() {}, nil
}

// client works on its range until the volume fails. Everything it reads must be what it wrote.
func (c *crash) client(ctx context.Context, p port, t *tracker, r *rand.Rand) error {
	for i := 0; ; i++ {
		off, n := t.next(r)
		durable := r.IntN(8) == 0
		var err error
		switch k := r.IntN(20); {
		case k < 9:
			data := pattern(byte(r.Uint32()), int(n))
			t.change(off, data, false)
			if err = p.write(ctx, data, off, durable); err == nil {
				t.ack()
			}
		case k < 11:
			first, end := min((off+blockSize-1)&^(blockSize-1), off+n), max((off+n)&^(blockSize-1), off)
			if first >= end {
				continue
			}
			t.change(first, make([]byte, end-first), true)
			if err = p.zero(ctx, first, end-first, durable); err == nil {
				t.ack()
			}
		case k < 18:
			got, want := make([]byte, n), t.data[off-t.off:off-t.off+n]
			if err = p.read(ctx, got, off); err == nil && !bytes.Equal(got, want) {
				return c.wrong(ctx, p, got, want, off)
			}
		default:
			err = c.flush(ctx, p)
		}
		if err != nil && c.dead() {
			return nil
		}
		if err != nil {
			return fmt.Errorf("operation %d: %w", i, err)
		}
	}
}

// wrong tells of a read that was not what had been written, and whether it still is wrong.
func (c *crash) wrong(ctx context.Context, p port, got, want []byte, off int64) error {
	at := differs(got, want)
	e, again := c.v.index.Get(uint64(off+int64(at))/blockSize), make([]byte, len(got))
	err := p.read(ctx, again, off)
	return fmt.Errorf("read %d+%d differs at %d (zero: %t); the block is %#x at %d of the log, young from %d, tail %d, store loaded %t; read again: right %t, %s",
		off, len(got), at, !slices.ContainsFunc(got[at:min(at+64, len(got))], func(b byte) bool { return b != 0 }),
		uint64(e), c.v.pos(e), c.v.log.YoungFrom(), c.v.log.Tail().Pos, c.v.remote.Loaded(), bytes.Equal(again, want), fmt.Sprint(err))
}

// dead reports whether the disk has no power any more.
func (c *crash) dead() bool {
	_, err := c.disk.ReadAt(make([]byte, simdisk.Sector), 0)
	return errors.Is(err, simdisk.ErrPower)
}

// flush covers what every client had acknowledged before.
func (c *crash) flush(ctx context.Context, p port) error {
	acked := make([]int, len(c.trackers))
	for i, t := range c.trackers {
		t.mu.Lock()
		acked[i] = t.acked
		t.mu.Unlock()
	}
	if err := p.flush(ctx); err != nil {
		return err
	}
	for i, t := range c.trackers {
		t.mu.Lock()
		t.durable = max(t.durable, acked[i])
		t.mu.Unlock()
	}
	return nil
}

// check holds a volume to the bound and goes on from what it finds.
func (c *crash) check(ctx context.Context, v *Volume, b bound) error {
	found := make([]byte, crashSize)
	if err := v.ReadAt(ctx, found, 0); err != nil {
		return err
	}
	for _, t := range c.trackers {
		seq, err := t.find(found[t.off:t.off+t.n], b)
		if err != nil {
			return err
		}
		t.resume(found[t.off:t.off+t.n], seq)
	}
	return nil
}

// checkStore looks at the volume as somebody would who has lost the disk.
func (c *crash) checkStore(ctx context.Context) error {
	c.store.mu.Lock()
	copied := newStore()
	copied.objects = maps.Clone(c.store.objects)
	c.store.mu.Unlock()
	if len(copied.objects) == 0 {
		return nil
	}
	o := c.options(simdisk.New(crashDisk), copied)
	o.Window = nil
	v, err := Open(ctx, o)
	if err != nil {
		return fmt.Errorf("from the store: %w", err)
	}
	defer v.Close()
	found := make([]byte, crashSize)
	if err := v.ReadAt(ctx, found, 0); err != nil {
		return fmt.Errorf("from the store: %w", err)
	}
	for _, t := range c.trackers {
		seq, err := t.find(found[t.off:t.off+t.n], anyStored)
		if err != nil {
			return fmt.Errorf("from the store: %w", err)
		}
		t.stored = seq
	}
	return nil
}

const lives = 6

// historyOf alternates between callers of the package and clients of the NBD server, of which there may be several.
func historyOf(seed uint64, kill bool) *crash {
	c := newCrash(seed, kill, 1<<(seed%3))
	c.wired = seed%2 == 1
	return c
}

// crashes runs histories until n crashes have been lived through, and returns how many histories ended in a loss.
func crashes(t *testing.T, n int, kill bool) (lost int) {
	t.Helper()
	if testing.Short() {
		n /= 4
	}
	for i := 0; i*lives < n; i++ {
		s := *seed + uint64(i)
		if err := historyOf(s, kill).run(lives); err != nil {
			lost++
			t.Errorf("seed %d: %v", s, err)
		}
	}
	return lost
}

func TestPowerCuts(t *testing.T) {
	lost := crashes(t, *cuts, false)
	t.Logf("soak cached-volume.power-cut %d tried, %d lost", *cuts, lost)
}

// TestKills kills the process while the window lives on: nothing acknowledged may be lost (S5).
func TestKills(t *testing.T) {
	lost := crashes(t, *cuts, true)
	t.Logf("soak cached-volume.kill-in-memory %d tried, %d lost", *cuts, lost)
}

// TestMutants breaks what the guarantees rest on and sees the same tests notice.
func TestMutants(t *testing.T) {
	for _, m := range []struct {
		name string
		set  func(*crash)
		kill bool
	}{
		{name: "fdatasync removed", set: func(c *crash) { c.unsynced = true }},
		{name: "evict what is not confirmed", set: func(c *crash) { c.mutant = mutantEvictEarly }},
		{name: "upload what is not durable", set: func(c *crash) { c.mutant = mutantUploadEarly }},
		{name: "publish after the acknowledgement", set: func(c *crash) { c.mutant = mutantPublishLate }},
		{name: "keep a stale copy", set: func(c *crash) { c.mutant = mutantStaleFill }},
		{name: "forget a patch", set: func(c *crash) { c.mutant = mutantPatchLost }},
		{name: "lose the window", set: func(c *crash) { c.forgetful = true }, kill: true},
	} {
		t.Run(m.name, func(t *testing.T) {
			for s := range uint64(60) {
				c := newCrash(s, m.kill, 1<<(s%3))
				m.set(c)
				if err := c.run(lives); err != nil {
					t.Logf("noticed with seed %d: %v", s, err)
					return
				}
			}
			t.Error("not noticed")
		})
	}
}
