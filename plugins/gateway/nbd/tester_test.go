package nbd_test

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"testing"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd"
	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

// The reference implementation's own client for tests, nbd-tester-client (tests/run in its source), is in no Debian
// package. Its matrix and where it is covered here:
//
//	cmd cfg1 cfgmulti cfgnew cfgsize      throughput of reads and writes, one and several exports: TestTesterMatrix
//	write flush                           the same with FLUSH and FUA mixed in: TestTesterMatrix
//	integrity integrityhuge               replay of a trace, every read compared, large requests: TestTesterIntegrity, TestTLSHugeRequests
//	rowrite tree rotree                   a write to what is read-only is refused: TestReadOnly, TestTesterMatrix
//	list dirconfig inetd unix             listing, unix sockets: TestClientNbdClient, all of this package
//	handshake                             options with wrong lengths, unknown ones, names too long: testdata/handshake, TestGarbageHarmsNobody
//	tls tlshuge tlswrongcert              TestClientTLS, TestTLSHugeRequests

// TestTesterMatrix does what the tester's throughput test does: 256 requests of one size in flight, in order, with
// FLUSH and FUA on or off, to a volume that can be written and to one that cannot.
func TestTesterMatrix(t *testing.T) {
	for _, readOnly := range []bool{false, true} {
		for _, write := range []bool{false, true} {
			for _, flags := range []struct{ fua, flush bool }{{}, {fua: true}, {flush: true}, {true, true}} {
				for _, block := range []uint32{512, 1024, 4096, 65536} {
					name := fmt.Sprintf("ro=%t write=%t fua=%t flush=%t block=%d", readOnly, write, flags.fua, flags.flush, block)
					t.Run(name, func(t *testing.T) {
						srv := serve(t, nbdtest.NewMemory(256*65536), func(_ *nbd.Server, e *nbd.Export) { e.ReadOnly = readOnly })
						throughput(t, srv.dial(t, nbdtest.Options{}), block, write, flags.fua, flags.flush, readOnly)
					})
				}
			}
		}
	}
}

func throughput(t *testing.T, c *nbdtest.Client, block uint32, write, fua, flush, readOnly bool) {
	var list []nbdtest.Request
	for i := range uint64(256) {
		r := nbdtest.Request{Cmd: 0, Off: i * uint64(block), Len: block}
		if write {
			r.Cmd, r.Data = 1, bytes.Repeat([]byte{byte(i)}, int(block))
		}
		if fua {
			r.Flags = 1
		}
		list = append(list, r)
		if flush && i%16 == 0 {
			list = append(list, nbdtest.Request{Cmd: 3})
		}
	}
	go func() {
		for _, r := range list {
			if _, err := c.Send(r); err != nil {
				t.Error(err)
				return
			}
		}
	}()
	for range list {
		r := must[nbdtest.Reply](t)(c.Recv())
		var want error
		if readOnly && r.Request.Cmd == 1 {
			want = nbdtest.Errno(1)
		}
		if !errors.Is(r.Err, want) {
			t.Fatalf("command %d answered %v, want %v", r.Request.Cmd, r.Err, want)
		}
	}
	check(t, c.Close())
}

// TestTesterIntegrity replays a trace of a file system's kind on several connections: writes, zeroes and trims that
// overlap, with FLUSH and FUA among them, every read compared with a model.
func TestTesterIntegrity(t *testing.T) {
	const size = 4 * mib
	for name, backend := range clientBackends {
		t.Run(name, func(t *testing.T) {
			srv := serve(t, backend(size))
			conns := []*nbdtest.Client{srv.dial(t, nbdtest.Options{}), srv.dial(t, nbdtest.Options{Meta: true}), srv.dial(t, nbdtest.Options{OldName: true})}
			model := make([]byte, size)
			rng := rand.New(rand.NewPCG(3, 24))
			for step := range 3000 {
				c := conns[rng.IntN(len(conns))]
				n := uint32(1 + rng.IntN(1<<(4+rng.IntN(14))))
				off := rng.Uint64N(size - uint64(n))
				part := model[off : off+uint64(n)]
				var err error
				switch rng.IntN(8) {
				case 0:
					err = c.Flush()
				case 1:
					_, err = c.Do(nbdtest.Request{Cmd: 6, Flags: uint16(rng.IntN(2)), Off: off, Len: n})
					clear(part)
				case 2:
					err = c.Trim(off, n)
					clear(part)
				case 3, 4:
					for i := range part {
						part[i] = byte(rng.Uint32())
					}
					err = c.Write(off, part, rng.IntN(4) == 0)
				default:
					var got []byte
					if got, err = c.Read(off, n); err == nil && !bytes.Equal(got, part) {
						t.Fatalf("step %d: %d bytes at %d differ", step, n, off)
					}
				}
				if err != nil {
					t.Fatalf("step %d: %v", step, err)
				}
			}
		})
	}
}
