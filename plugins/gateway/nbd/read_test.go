package nbd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/ratchetos/ratchet/plugins/gateway/nbd/nbdtest"
)

// TestLongReads reads more than is answered in one piece: each letter of a layout stands for 64 KiB, and what lies behind
// the bar is not at hand and comes later.
func TestLongReads(t *testing.T) {
	const unit = 64 << 10
	for _, tc := range []struct {
		layout        string
		holes, chunks int // of structured replies
	}{
		{"dddddddd|", 0, 4},
		{"ddddddd|", 0, 4},
		{"0000000000000000|", 1, 1},
		{"0000dd0000|", 2, 3},
		{"dd0000dd|", 1, 3},
		{"d0d0|", 2, 4},
		{"|dddd", 0, 1},
		{"ddd|d", 0, 2},
		{"dddd|dddd", 0, 3},
		{"dddd|0000", 1, 3},
		{"0000|dddd", 1, 2},
		{"00dd00|00dd", 3, 5},
	} {
		for name, o := range modes {
			t.Run(tc.layout+" "+name, func(t *testing.T) {
				var want []byte
				var from int
				for i, c := range tc.layout {
					switch c {
					case 'd':
						want = append(want, bytes.Repeat([]byte{byte(i + 1)}, unit)...)
					case '0':
						want = append(want, make([]byte, unit)...)
					case '|':
						from = len(want)
					}
				}
				const at = 3 * 512 // pieces do not begin where blocks do
				gate := nbdtest.NewGate(2*mib, uint64(at+from))
				close(gate.Open)
				srv := serve(t, gate)
				c := srv.dial(t, o)
				check(t, c.Write(at, want, false))
				r := must[nbdtest.Reply](t)(c.Do(nbdtest.Request{Cmd: 0, Off: at, Len: uint32(len(want))}))
				if !bytes.Equal(r.Data, want) {
					t.Error("wrong data")
				}
				if got := fmt.Sprint(r.Holes, r.Chunks); (o.Structured || o.Meta) && got != fmt.Sprint(tc.holes, tc.chunks) {
					t.Errorf("%d holes in %d chunks, want %d in %d", r.Holes, r.Chunks, tc.holes, tc.chunks)
				}
				if s := srv.export.Stats().Snapshot().Read; s.Ops != 1 || s.Bytes != uint64(len(want)) {
					t.Errorf("counted %d reads of %d bytes", s.Ops, s.Bytes)
				}
			})
		}
	}
}

// rotten cannot read what its gate holds back.
type rotten struct{ *nbdtest.Gate }

func (rotten) ReadAt(context.Context, []byte, uint64) error { return errors.New("rotten") }

// TestLongReadFails has an error follow what was sent already: the client must not take that for the whole.
func TestLongReadFails(t *testing.T) {
	gate := nbdtest.NewGate(mib, mib/2)
	c := serve(t, rotten{gate}).dial(t, nbdtest.Options{Structured: true})
	check(t, c.Write(0, bytes.Repeat([]byte{1}, mib), false))
	_, err := c.Do(nbdtest.Request{Cmd: 0, Len: mib})
	var e nbdtest.Errno
	if !errors.As(err, &e) || e != 5 {
		t.Errorf("read of a disk that is half rotten: %v, want EIO", err)
	}
	if p, err := c.Read(0, 4096); err != nil || p[0] != 1 {
		t.Errorf("the next read: %v", err)
	}
}
