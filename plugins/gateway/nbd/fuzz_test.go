package nbd

import (
	"bytes"
	"context"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
	"time"
)

// script is a connection whose client has sent all it will ever send and reads everything.
type script struct {
	in  *bytes.Reader
	out bytes.Buffer
}

func (s *script) Read(p []byte) (int, error)       { return s.in.Read(p) }
func (s *script) Write(p []byte) (int, error)      { return s.out.Write(p) }
func (s *script) Close() error                     { return nil }
func (s *script) LocalAddr() net.Addr              { return nil }
func (s *script) RemoteAddr() net.Addr             { return nil }
func (s *script) SetDeadline(time.Time) error      { return nil }
func (s *script) SetReadDeadline(time.Time) error  { return nil }
func (s *script) SetWriteDeadline(time.Time) error { return nil }

// FuzzHandshake feeds a client's bytes to the handshake. Whatever they are, it ends without
// a panic, does not choose an export that was not named, and answers in whole frames.
func FuzzHandshake(f *testing.F) {
	f.Add([]byte("\x00\x00\x00\x03IHAVEOPT\x00\x00\x00\x08\x00\x00\x00\x00IHAVEOPT\x00\x00\x00\x07\x00\x00\x00\x0b\x00\x00\x00\x05plain\x00\x00"))
	f.Add([]byte("\x00\x00\x00\x01IHAVEOPT\x00\x00\x00\x01\x00\x00\x00\x02ro"))
	f.Add([]byte("\x00\x00\x00\x03IHAVEOPT\x00\x00\x00\x03\x00\x00\x00\x00IHAVEOPT\x00\x00\x00\x02\x00\x00\x00\x00"))
	f.Add([]byte("\x00\x00\x00\x03IHAVEOPT\x00\x00\x00\x08\x00\x00\x00\x00IHAVEOPT\x00\x00\x00\x0a\x00\x00\x00\x20\x00\x00\x00\x05plain\x00\x00\x00\x01\x00\x00\x00\x0fbase:allocation"))
	exports := testExports()
	f.Fuzz(func(t *testing.T, in []byte) {
		conn := &script{in: bytes.NewReader(in)}
		_, rd, h, err := negotiate(context.Background(), conn, exports, nil, false)
		if err == nil && (h.chosen == nil || rd == nil) {
			t.Fatal("handshake succeeded without an export")
		}
		out := conn.out.Bytes()[18:]
		for len(out) > 0 && be.Uint64(out) == magicOptReply {
			n := int(be.Uint32(out[16:]))
			if n > len(out)-20 {
				t.Fatalf("reply of %d bytes is cut short", n)
			}
			out = out[20+n:]
		}
		if len(out) > 0 && (h == nil || len(out) != 10 && len(out) != 10+oldZeroes) {
			t.Fatalf("%d bytes that are no reply", len(out))
		}
	})
}

// bounds is a backend that fails the test when it is asked for something the server had to refuse.
type bounds struct {
	t    *testing.T
	size uint64
}

func (b bounds) Size() uint64                        { return b.size }
func (b bounds) BlockSize() (uint32, uint32, uint32) { return 1, 4096, 1 << 20 }
func (b bounds) in(off, n uint64) error {
	if n == 0 || off > b.size || n > b.size-off {
		b.t.Errorf("range %d+%d outside the volume", off, n)
	}
	if off&1 != 0 {
		return ErrNoSpace
	}
	return nil
}

func (b bounds) ReadAt(_ context.Context, p []byte, off uint64) error {
	return b.in(off, uint64(len(p)))
}

func (b bounds) WriteAt(_ context.Context, p []byte, off uint64, _ bool) error {
	return b.in(off, uint64(len(p)))
}

func (b bounds) Trim(_ context.Context, off, n uint64, _ bool) error { return b.in(off, n) }

func (b bounds) WriteZeroes(_ context.Context, off, n uint64, _ ZeroFlags) error { return b.in(off, n) }

func (b bounds) Cache(_ context.Context, off, n uint64) error { return b.in(off, n) }
func (b bounds) Flush(context.Context) error                  { return nil }
func (b bounds) BlockStatus(_ context.Context, off, n uint64, _ bool) ([]Extent, error) {
	return []Extent{{Len: 1}, {Len: n, Hole: true}}, b.in(off, n)
}

// FuzzRequest feeds a client's bytes to the transmission phase: every complete request before
// the first broken one is answered once, in frames that can be told apart.
func FuzzRequest(f *testing.F) {
	req := func(flags uint16, cmd Command, cookie, off uint64, n uint32, data ...byte) []byte {
		b := be.AppendUint32(nil, magicRequest)
		b = be.AppendUint16(b, flags)
		b = be.AppendUint16(b, uint16(cmd))
		b = be.AppendUint64(b, cookie)
		b = be.AppendUint64(b, off)
		return append(be.AppendUint32(b, n), data...)
	}
	cat := func(b ...[]byte) []byte { return bytes.Join(b, nil) }
	f.Add(cat(req(0, CmdRead, 1, 0, 512), req(0, CmdDisc, 2, 0, 0)), true)
	f.Add(cat(req(1, CmdWrite, 1, 2, 3, 'a', 'b', 'c'), req(0, CmdFlush, 2, 0, 0)), false)
	f.Add(cat(req(8, CmdBlockStatus, 1, 0, 4096), req(0, CmdTrim, 2, 0, 1<<31), req(18, CmdWriteZeroes, 3, 4, 4)), true)
	f.Add(cat(req(0, CmdCache, 1, 0, 4096), req(0, 77, 2, 0, 0), req(0, CmdRead, 3, 1<<63, 1<<31), req(0, CmdWrite, 4, 0, 5, 1)), true)
	f.Fuzz(func(t *testing.T, in []byte, structured bool) {
		conn := &script{in: bytes.NewReader(in)}
		h := &handshake{structured: structured, selected: selected(structured), chosen: &Export{Name: "v", Backend: bounds{t, 1 << 16}}}
		s := newSession(newLink(conn), conn, &reader{src: conn}, h, new(atomic.Bool), newMemory(allParkedBytes, func(bool) {}))
		err := s.run(context.Background())
		if err == nil || errors.Is(err, io.ErrNoProgress) {
			t.Fatalf("session ended with %v", err)
		}
		complete, reads, unique := countRequests(in)
		if !unique {
			return // replies to two requests of one cookie cannot be told apart, by us or any client
		}
		if got := countReplies(t, conn.out.Bytes(), reads); got != complete {
			t.Fatalf("%d replies to %d requests", got, complete)
		}
	})
}

// countRequests walks the input by the protocol's rules, not by our parser. It also returns the
// length of every READ by cookie, and whether all cookies differ.
func countRequests(in []byte) (n int, reads map[uint64]uint32, unique bool) {
	reads = make(map[uint64]uint32)
	seen := make(map[uint64]bool)
	unique = true
	for len(in) >= requestLen && be.Uint32(in) == magicRequest {
		cmd, size := Command(be.Uint16(in[6:])), be.Uint32(in[24:])
		if cmd == CmdDisc {
			break
		}
		cookie := be.Uint64(in[8:])
		unique = unique && !seen[cookie]
		seen[cookie] = true
		if cmd == CmdRead {
			reads[cookie] = size
		}
		in = in[requestLen:]
		if cmd == CmdWrite {
			if size > MaxRequest || uint64(size) > uint64(len(in)) {
				break
			}
			in = in[size:]
		}
		n++
	}
	return n, reads, unique
}

// countReplies splits the output into replies.
func countReplies(t *testing.T, out []byte, reads map[uint64]uint32) (n int) {
	for len(out) > 0 {
		switch {
		case len(out) >= simpleLen && be.Uint32(out) == magicSimple:
			code, cookie := be.Uint32(out[4:]), be.Uint64(out[8:])
			out = out[simpleLen:]
			if size := reads[cookie]; code == 0 {
				if int(size) > len(out) {
					t.Fatalf("data of a read is cut short")
				}
				out = out[size:]
			}
			n++
		case len(out) >= structuredLen && be.Uint32(out) == magicStructured:
			size := int(be.Uint32(out[16:]))
			if size > len(out)-structuredLen {
				t.Fatalf("chunk of %d bytes is cut short", size)
			}
			if be.Uint16(out[4:])&replyDone != 0 {
				n++
			}
			out = out[structuredLen+size:]
		default:
			t.Fatalf("no reply starts with %x", out[:min(len(out), 20)])
		}
	}
	return n
}

func selected(yes bool) contexts {
	if yes {
		return ctxAllocation
	}
	return 0
}
