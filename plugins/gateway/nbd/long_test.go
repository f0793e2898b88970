package nbd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"math/rand/v2"
	"sync/atomic"
	"testing"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

// reluctant takes so many writes at once, and has the others wait.
type reluctant struct {
	*nbdtest.Memory
	left   atomic.Int64
	waited atomic.Int64 // bytes
	err    error
}

func (r *reluctant) TryWriteAt(p []byte, off uint64) bool {
	return r.left.Add(-1) >= 0 && r.Memory.TryWriteAt(p, off)
}

func (r *reluctant) WriteAt(ctx context.Context, p []byte, off uint64, fua bool) error {
	r.waited.Add(int64(len(p)))
	if r.err != nil {
		return r.err
	}
	return r.Memory.WriteAt(ctx, p, off, fua)
}

// TestLongWrites sends writes that are taken in pieces, all, some or none of which are taken at once. Each has one answer
// and counts as one.
func TestLongWrites(t *testing.T) {
	const off, piece = 3 << 12, 64 << 10
	data := make([]byte, mib+512)
	for i := 0; i < len(data)/8; i++ {
		binary.LittleEndian.PutUint64(data[8*i:], rand.Uint64())
	}
	for name, tc := range map[string]struct {
		size, atOnce int
		waits        int64
		err          error
	}{
		"all at once":       {size: mib, atOnce: 16},
		"one piece":         {size: piece, atOnce: 1},
		"a little more":     {size: piece + 512, atOnce: 2},
		"none":              {size: mib, atOnce: 0, waits: mib},
		"all but the first": {size: mib, atOnce: 1, waits: mib - piece},
		"the last one":      {size: mib + 512, atOnce: 16, waits: 512},
		"the rest fails":    {size: mib, atOnce: 3, waits: mib - 3*piece, err: nbd.ErrNoSpace},
	} {
		t.Run(name, func(t *testing.T) {
			b := &reluctant{Memory: nbdtest.NewMemory(2 * mib), err: tc.err}
			b.left.Store(int64(tc.atOnce))
			srv := serve(t, b)
			c := srv.dial(t, nbdtest.Options{Structured: true})
			err := c.Write(off, data[:tc.size], false)
			if tc.err == nil {
				check(t, err)
			} else if !errors.Is(err, nbdtest.Errno(28)) {
				t.Errorf("write: %v", err)
			}
			got := must[[]byte](t)(c.Read(off, uint32(tc.size)))
			if n := tc.size - int(tc.waits); tc.err == nil && !bytes.Equal(got, data[:tc.size]) || !bytes.Equal(got[:n], data[:n]) {
				t.Error("something else was written")
			}
			if n := b.waited.Load(); n != tc.waits {
				t.Errorf("%d bytes had to wait, want %d", n, tc.waits)
			}
			check(t, c.Close())
			check(t, srv.stop())
			if s := srv.export.Stats().Snapshot().Write; s.Ops != 1 || s.Bytes != uint64(tc.size) && tc.err == nil {
				t.Errorf("counted %+v", s)
			}
		})
	}
}
