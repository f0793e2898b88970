package table

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"sync/atomic"
	"time"
	"unsafe"

	"github.com/cilium/ebpf/ringbuf"

	"github.com/ratchetos/ratchet/plugins/dataplane/bpf"
	"github.com/ratchetos/ratchet/plugins/dataplane/bpf/lb"
)

// Filter chooses packets for a capture. Zero fields match all. Forwarded packets are seen as they leave, inside
// their encapsulation.
type Filter struct {
	VIP    VIPID
	Reason Reason
}

// ErrCapturing says that a capture is going on already; there is one at a time.
var ErrCapturing = errors.New("another capture is going on")

// maxCapture bounds what one request may take.
const maxCapture = 1 << 20

// Capture writes up to limit packets, 256 bytes of each, to w in pcap format, until ctx ends. It costs the other
// packets nothing while nobody captures.
func (t *Table) Capture(ctx context.Context, f Filter, limit int, w io.Writer) (n int, err error) {
	return t.capture(ctx, func() {}, f, limit, w)
}

// capture calls ready when no packet is missed any more.
func (t *Table) capture(ctx context.Context, ready func(), f Filter, limit int, w io.Writer) (n int, err error) {
	if limit < 1 || limit > maxCapture {
		return 0, fmt.Errorf("capture of %d packets: ask for 1 to %d", limit, maxCapture)
	}
	c := t.control()
	if !t.capturing.CompareAndSwap(false, true) {
		return 0, ErrCapturing
	}
	defer t.capturing.Store(false)
	defer atomic.StoreUint32(&c.Capture, 0)
	r, err := ringbuf.NewReader(t.loaded.Maps["captures"])
	if err != nil {
		return 0, fmt.Errorf("open ring of captures: %w", err)
	}
	defer r.Close()
	defer context.AfterFunc(ctx, func() { _ = r.Close() })()
	if _, err := w.Write(pcapHeader()); err != nil {
		return 0, err
	}
	atomic.StoreUint32(&c.CaptureVip, uint32(f.VIP))
	atomic.StoreUint32(&c.CaptureReason, uint32(f.Reason))
	atomic.StoreInt64(&c.CaptureLeft, int64(limit))
	atomic.StoreUint32(&c.Capture, 1)
	ready()
	started := uint64(time.Now().UnixNano()) - bpf.Now()
	var record ringbuf.Record
	for n < limit {
		if err := r.ReadInto(&record); err != nil {
			return n, ended(ctx, err)
		}
		packet := pcapPacket(record.RawSample, started)
		if packet == nil {
			continue
		}
		if _, err := w.Write(packet); err != nil {
			return n, err
		}
		n++
	}
	return n, nil
}

const (
	pcapMagic    = 0xa1b23c4d // nanoseconds
	pcapEthernet = 1
)

// pcapHeader is a file's, as https://ietf-opsawg-wg.github.io/draft-ietf-opsawg-pcap/ has it.
func pcapHeader() []byte {
	b := binary.LittleEndian.AppendUint32(nil, pcapMagic)
	b = binary.LittleEndian.AppendUint16(b, 2)
	b = binary.LittleEndian.AppendUint16(b, 4)
	b = binary.LittleEndian.AppendUint64(b, 0)
	b = binary.LittleEndian.AppendUint32(b, uint32(len(lb.Captured{}.Bytes)))
	return binary.LittleEndian.AppendUint32(b, pcapEthernet)
}

// pcapPacket is a packet's, with the wall clock's time when the monotonic clock was 0; nil if raw is none.
func pcapPacket(raw []byte, epoch uint64) []byte {
	if len(raw) < int(unsafe.Sizeof(lb.Captured{})) {
		return nil
	}
	p := (*lb.Captured)(unsafe.Pointer(unsafe.SliceData(raw)))
	at := time.Unix(0, int64(epoch+p.Time))
	kept := min(int(p.Kept), len(p.Bytes))
	b := binary.LittleEndian.AppendUint32(nil, uint32(at.Unix()))
	b = binary.LittleEndian.AppendUint32(b, uint32(at.Nanosecond()))
	b = binary.LittleEndian.AppendUint32(b, uint32(kept))
	b = binary.LittleEndian.AppendUint32(b, p.Length)
	return append(b, p.Bytes[:kept]...)
}
