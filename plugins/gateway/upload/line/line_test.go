package line

import (
	"bytes"
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/ratchetos/ratchet/core/pipeline"
	"github.com/ratchetos/ratchet/plugins/gateway/remote"
	"github.com/ratchetos/ratchet/plugins/gateway/upload"
	"github.com/ratchetos/ratchet/plugins/internal/log"
	"github.com/ratchetos/ratchet/plugins/internal/manifest"
	"github.com/ratchetos/ratchet/plugins/internal/objstore/dir"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	size   = 4 << 20
	blocks = size / manifest.BlockSize
)

// history makes cuts of random writes, byte ranges and zeroes, and knows what the volume holds after them.
type history struct {
	t      testing.TB
	r      *rand.Rand
	remote *remote.Remote
	left   int
	seq    uint64
	model  []byte
	then   atomic.Uint64 // the last sequence number that was confirmed
	odd    int           // cuts without a batch that were done
}

func (h *history) Cut(context.Context) (*Cut, error) {
	if h.left == 0 {
		return nil, io.EOF
	}
	h.left--
	if h.r.IntN(5) == 0 {
		at := h.seq
		return &Cut{Then: func(context.Context) error {
			if h.then.Load() != at {
				h.t.Errorf("what comes after batch %d was done after %d", at, h.then.Load())
			}
			h.odd++
			return nil
		}}, nil
	}
	b := upload.New()
	for range 1 + h.r.IntN(20) {
		b.Add(&log.Group{Seq: h.seq, Len: 8192, Records: []log.Record{h.record()}})
	}
	h.seq++
	b.Add(&log.Group{Seq: h.seq, Len: 4096})
	seq := h.seq
	return &Cut{Batch: b, Then: func(context.Context) error {
		if head := h.remote.Head().Seq; head != seq {
			h.t.Errorf("batch %d is confirmed while the head is at %d", seq, head)
		}
		if !h.then.CompareAndSwap(seq-1, seq) {
			h.t.Errorf("batch %d is confirmed after %d", seq, h.then.Load())
		}
		return nil
	}}, nil
}

// record is done to the model as well.
func (h *history) record() log.Record {
	block := h.r.Int64N(blocks)
	r := log.Record{Off: block * manifest.BlockSize}
	switch h.r.IntN(4) {
	case 0:
		r.Kind, r.Off, r.Len = log.Patch, r.Off+h.r.Int64N(4000), 96
	case 1:
		r.Kind, r.Len = log.Zero, min(h.r.Int64N(40)+1, blocks-block)*manifest.BlockSize
		clear(h.model[r.Off : r.Off+r.Len])
		return r
	default:
		r.Kind, r.Len = log.Write, min(h.r.Int64N(4)+1, blocks-block)*manifest.BlockSize
	}
	r.Data = bytes.Repeat([]byte{byte(h.r.IntN(256))}, int(r.Len))
	copy(h.model[r.Off:], r.Data)
	return r
}

func (h *history) Base(ctx context.Context, block uint64) ([]byte, error) {
	if h.then.Load() != h.remote.Head().Seq && h.then.Load()+1 != h.remote.Head().Seq {
		h.t.Errorf("head %d, confirmed %d", h.remote.Head().Seq, h.then.Load())
	}
	data, _, _, err := h.remote.Cell(ctx, block/manifest.BlocksPerCell)
	at := block % manifest.BlocksPerCell * manifest.BlockSize
	return data[at : at+manifest.BlockSize], err
}

func open(t *testing.T, dirname string, l remote.Local) *remote.Remote {
	t.Helper()
	s, err := dir.Open(dirname)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	r := remote.New(remote.Options{Store: s, Volume: "v", Size: size, Owner: "us", FirstPause: time.Millisecond})
	if _, err := r.Takeover(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	if err := r.Load(t.Context()); err != nil {
		t.Fatal(err)
	}
	return r
}

// late lets the objects arrive in any order.
type late struct {
	*remote.Remote
	most  atomic.Int32 // puts at once
	now   atomic.Int32
	after uint64 // commits that succeed; then they fail with err
	err   error
}

func (l *late) Put(ctx context.Context, b *remote.Batch) error {
	n := l.now.Add(1)
	defer l.now.Add(-1)
	for old := l.most.Load(); n > old && !l.most.CompareAndSwap(old, n); old = l.most.Load() {
	}
	time.Sleep(time.Duration(b.Seq*7919%5) * time.Millisecond)
	return l.Remote.Put(ctx, b)
}

func (l *late) Commit(ctx context.Context, b *remote.Batch) error {
	if l.err != nil && b.Seq > l.after {
		return l.err
	}
	return l.Remote.Commit(ctx, b)
}

func TestRemoteCopyIsWhatWasCut(t *testing.T) {
	for seed := range uint64(2) {
		at := t.TempDir()
		r := open(t, at, remote.Local{})
		h := &history{t: t, r: rand.New(rand.NewPCG(seed, 1)), remote: r, left: 60, model: make([]byte, size)}
		store := &late{Remote: r}
		s := pipeline.NewScheduler(pipeline.Limits{Workers: 3, Memory: 1 << 20})
		if err := Run(t.Context(), s, "v", pipeline.Options{}, h, store); err != nil {
			t.Fatal(err)
		}
		if h.then.Load() != h.seq || h.odd == 0 {
			t.Errorf("confirmed %d of %d, %d other things done", h.then.Load(), h.seq, h.odd)
		}
		if store.most.Load() < 2 {
			t.Errorf("%d objects were sent at once", store.most.Load())
		}
		again := open(t, at, remote.Local{Attached: true, Epoch: r.Head().Epoch, Confirmed: h.seq, Durable: h.seq})
		for cell := range uint64(size / manifest.CellSize) {
			data, _, _, err := again.Cell(t.Context(), cell)
			if err != nil {
				t.Fatal(err)
			}
			if want := h.model[cell*manifest.CellSize : (cell+1)*manifest.CellSize]; !bytes.Equal(data, want) {
				t.Fatalf("seed %d: cell %d is not what was cut", seed, cell)
			}
		}
	}
}

// What the store refuses for good ends the line; nothing behind it is confirmed, and all before it is.
func TestFencedLineEnds(t *testing.T) {
	r := open(t, t.TempDir(), remote.Local{})
	h := &history{t: t, r: rand.New(rand.NewPCG(9, 9)), remote: r, left: 1000, model: make([]byte, size)}
	s := pipeline.NewScheduler(pipeline.Limits{})
	err := Run(t.Context(), s, "v", pipeline.Options{}, h, &late{Remote: r, after: 7, err: remote.ErrFenced})
	if !errors.Is(err, remote.ErrFenced) || h.then.Load() != 7 || r.Head().Seq != 7 {
		t.Errorf("error %v, confirmed %d, head %d, want 7 and 7", err, h.then.Load(), r.Head().Seq)
	}
}
