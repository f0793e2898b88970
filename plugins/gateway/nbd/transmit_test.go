package nbd

import (
	"bytes"
	"context"
	"io"
	"sync/atomic"
	"testing"
)

// instant is a backend that answers everything inline.
type instant struct{ fixed }

func (instant) TryReadAt(p []byte, _ uint64) bool { p[0] = 1; return true }
func (instant) TryWriteAt([]byte, uint64) bool    { return true }

// repeat is a connection whose client sends one burst n times and swallows what comes back.
type repeat struct {
	script
	burst []byte
	at, n int
	out   int64
}

func (r *repeat) Read(p []byte) (int, error) {
	if r.n == 0 {
		return 0, io.EOF
	}
	k := copy(p, r.burst[r.at:])
	if r.at += k; r.at == len(r.burst) {
		r.at = 0
		r.n--
	}
	return k, nil
}

func (r *repeat) Write(p []byte) (int, error) {
	r.out += int64(len(p))
	return len(p), nil
}

func burst(cmd Command, count, n int) []byte {
	var b []byte
	for i := range count {
		b = be.AppendUint32(b, magicRequest)
		b = be.AppendUint16(b, 0)
		b = be.AppendUint16(b, uint16(cmd))
		b = be.AppendUint64(b, uint64(i))
		b = be.AppendUint64(b, uint64(i*n))
		b = be.AppendUint32(b, uint32(n))
		if cmd == CmdWrite {
			b = append(b, bytes.Repeat([]byte{1}, n)...)
		}
	}
	return b
}

func runBursts(b []byte, n int) int64 {
	conn := &repeat{burst: b, n: n}
	h := &handshake{structured: true, chosen: &Export{Name: "v", Backend: instant{fixed{size: 1 << 30, min: 1}}}}
	newSession(newLink(conn), conn, &reader{src: conn}, h, new(atomic.Bool), newMemory(allParkedBytes, func(bool) {})).run(context.Background())
	return conn.out
}

// TestHotPathDoesNotAllocate compares a long session with a short one: setting up costs the
// same, so what the requests themselves allocate is the difference.
func TestHotPathDoesNotAllocate(t *testing.T) {
	for name, cmd := range map[string]Command{"read": CmdRead, "write": CmdWrite} {
		b := burst(cmd, 32, 4096)
		short := testing.AllocsPerRun(5, func() { runBursts(b, 1) })
		long := testing.AllocsPerRun(5, func() { runBursts(b, 200) })
		// The garbage collector, and the race detector on purpose, empty the pools now and then.
		if per := (long - short) / (199 * 32); per > 0.1 {
			t.Errorf("%s: %.3f allocations a request", name, per)
		}
	}
	if out, want := runBursts(burst(CmdRead, 32, 4096), 10), int64(320*(4096+offsetDataLen)); out != want {
		t.Errorf("%d bytes sent, want %d", out, want)
	}
}

// BenchmarkSession is the cost of a request without the network: parse, check, reply.
func BenchmarkSession(b *testing.B) {
	for name, cmd := range map[string]Command{"read4k": CmdRead, "write4k": CmdWrite} {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			data := burst(cmd, 32, 4096)
			b.ResetTimer()
			runBursts(data, b.N/32+1)
		})
	}
}
