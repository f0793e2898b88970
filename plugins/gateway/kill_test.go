package gateway

import (
	"context"
	"encoding/binary"
	"errors"
	"flag"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/ratchetos/ratchet/plugins/gateway/api"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

const stampSize = 4096

// stamp is a block's content: what it is and which write of it.
func stamp(block, version uint64) []byte {
	p := make([]byte, stampSize)
	for i := 0; i < len(p)-8; i += 16 {
		binary.LittleEndian.PutUint64(p[i:], block)
		binary.LittleEndian.PutUint64(p[i+8:], version)
	}
	binary.LittleEndian.PutUint64(p[stampSize-8:], uint64(crc32.ChecksumIEEE(p[:stampSize-8])))
	return p
}

// version reads a stamp; 0 is a block never written.
func version(p []byte, block uint64) (uint64, error) {
	v := binary.LittleEndian.Uint64(p[8:])
	if v == 0 && slices.Max(p) == 0 {
		return 0, nil
	}
	if !slices.Equal(p, stamp(block, v)) {
		return 0, fmt.Errorf("block %d is torn or foreign", block)
	}
	return v, nil
}

// writer keeps writing its own blocks over one connection after another, and checks after each
// reconnection that nothing acknowledged is gone.
type writer struct {
	box         *box
	first, n    uint64
	commits     bool     // each write, by a FLUSH
	acked, sent []uint64 // by block, the version acknowledged and the latest sent
	writes      int
}

func (w *writer) run(ctx context.Context, r *rand.Rand) error {
	for next := uint64(1); ctx.Err() == nil; {
		c, err := w.box.dial(ctx)
		if err != nil {
			break
		}
		// The client that wrote before the kill asks for a flush first (S5).
		if err = c.Flush(); err == nil {
			err = w.check(c, r.Uint64N(w.n))
		}
		for err == nil && ctx.Err() == nil {
			i := r.Uint64N(w.n)
			w.sent[i] = next
			if err = c.Write((w.first+i)*stampSize, stamp(w.first+i, next), false); err == nil {
				w.acked[i] = next
				w.writes++
			}
			if err == nil && w.commits {
				err = c.Flush()
			}
			next++
		}
		c.Abandon()
		if lost := new(lostError); errors.As(err, &lost) {
			return err
		}
	}
	return nil
}

type lostError struct{ msg string }

func (e *lostError) Error() string { return e.msg }

func (w *writer) check(c *nbdtest.Client, i uint64) error {
	p, err := c.Read((w.first+i)*stampSize, stampSize)
	if err != nil {
		return err
	}
	v, err := version(p, w.first+i)
	if err != nil {
		return &lostError{err.Error()}
	}
	if v < w.acked[i] || v > w.sent[i] {
		return &lostError{fmt.Sprintf("block %d is version %d, acknowledged was %d, sent %d", w.first+i, v, w.acked[i], w.sent[i])}
	}
	return nil
}

// make soak SYSTEM=cached-volume makes these large.
var (
	kills    = flag.Int("kills", 25, "times that TestKill kills a gateway")
	killSeed = flag.Uint64("seed", 1, "of what TestKill writes and when it kills")
)

// TestKill kills a real gateway process under writers again and again, then loses its disk.
func TestKill(t *testing.T) {
	const writers, each = 4, 300
	lost := new(atomic.Int64)
	defer func() { t.Logf("soak cached-volume.kill %d tried, %d lost", *kills, lost.Load()) }()
	b := newBox(t, t.TempDir())
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var group sync.WaitGroup
	var all []*writer
	for i := range uint64(writers) {
		w := &writer{box: b, first: i * each, n: each, commits: i%2 == 1, acked: make([]uint64, each), sent: make([]uint64, each)}
		all = append(all, w)
		group.Go(func() {
			if err := w.run(ctx, rand.New(rand.NewPCG(*killSeed, i))); err != nil {
				lost.Add(1)
				t.Error(err)
			}
		})
	}
	r := rand.New(rand.NewPCG(*killSeed, writers))
	var slowest time.Duration
	for range *kills {
		start := time.Now()
		cmd := b.spawn()
		b.mustDial().Abandon()
		slowest = max(slowest, time.Since(start))
		// Killing at a random moment is the test; there is nothing to wait for.
		time.Sleep(time.Duration(r.IntN(60)) * time.Millisecond)
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	// The last gateway runs here, so that it can be asked. Writers that wait for an answer get one.
	f := b.start()
	c := b.mustDial()
	cancel()
	group.Wait()
	writes := 0
	for _, w := range all {
		writes += w.writes
		for i := range w.n {
			if err := w.check(c, i); err != nil {
				lost.Add(1)
				t.Error(err)
			}
		}
	}
	if writes < *kills {
		t.Fatalf("only %d writes were acknowledged", writes)
	}
	v, err := invoke[api.Volume](t, f, api.MethodFlush, api.FlushRequest{Name: "demo"})
	if err != nil || v.DirtyBytes != 0 || v.UploadedSeq != v.DurableSeq {
		t.Fatalf("flush: %v, %+v", err, v)
	}
	c.Abandon()
	if err := f.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
	// A new box with a blank disk finds everything in the store.
	b = newBox(t, b.store)
	b.start()
	c = b.mustDial()
	for _, w := range all {
		for i := range w.n {
			if err := w.check(c, i); err != nil {
				t.Fatalf("restored: %v", err)
			}
		}
	}
	t.Logf("%d kills, %d acknowledged writes, slowest start to first connection %v", *kills, writes, slowest)
}

// TestStop ends a process the polite way with a client connected.
func TestStop(t *testing.T) {
	b := newBox(t, t.TempDir())
	cmd := b.spawn()
	c := b.mustDial()
	if err := c.Write(0, stamp(0, 1), false); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}
