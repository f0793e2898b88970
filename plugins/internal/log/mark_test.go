package log

import (
	"bytes"
	"errors"
	"testing"
)

// TestMarkWaitsForRoom sets a mark while the window is full and nothing is open to carry it. The flush makes room first, and
// whoever waited for that is faster than the mark: what it appends must be neither overwritten nor forgotten.
func TestMarkWaitsForRoom(t *testing.T) {
	for _, tc := range []struct {
		name string
		more int // blocks appended as soon as there is room
		m    mutant
	}{
		{name: "nobody is faster"},
		{name: "one block", more: 1},
		{name: "more than a segment", more: 9},
		{name: "all the room there is", more: 100},
		{name: "mutant", more: 1, m: mutantMarkOverGroup},
	} {
		t.Run(tc.name, func(t *testing.T) {
			l, d := newLog(t, Options{Window: AlignedBuffer(testWindow), mutant: tc.m})
			at := map[uint64]int64{} // of each block that was acknowledged
			grow := func(n int) {
				for range n {
					b := uint64(len(at))
					pos, _, err := l.Append(block(b))
					if errors.Is(err, ErrWindowFull) {
						return
					}
					if err != nil {
						t.Fatal(err)
					}
					at[b] = pos
				}
			}
			grow(1000)
			if l.open.active {
				t.Fatal("the group that is open will carry the mark")
			}
			mark := Mark{7}
			if err := l.SetMark(l.Tail(), mark); err != nil {
				t.Fatal(err)
			}
			writes := 0
			d.FailWrites(func() bool { // asked in the middle of the flush: its first write has made room
				if writes++; writes == 2 {
					grow(tc.more)
				}
				return false
			})
			head := l.Head()
			flush(t, l)
			d.FailWrites(nil)
			if l.Durable().Pos < head || l.durable.mark != mark {
				t.Errorf("flushed to %d of %d, mark %v", l.Durable().Pos, head, l.durable.mark)
			}
			grow(1) // into what the log thinks is free
			flush(t, l)

			wrong := 0
			got := AlignedBuffer(BlockSize)
			for b, pos := range at {
				if err := l.Read(got, pos); err != nil {
					t.Fatal(err)
				}
				if !bytes.Equal(got, block(b).Data) {
					wrong++
				}
			}
			found := map[uint64]bool{}
			again, err := Open(d.Kill(), Options{})
			if err != nil {
				t.Fatal(err)
			}
			if err := again.Recover(noState, func(g *Group) error {
				for _, r := range g.Records {
					for i := range r.Len / BlockSize {
						found[uint64(r.Off/BlockSize+i)] = true
					}
				}
				return nil
			}); err != nil {
				t.Fatal(err)
			}
			lost := len(at) - len(found)
			if broken := wrong != 0 || lost != 0; broken != (tc.m != mutantNone) {
				t.Errorf("%d of %d blocks read wrong, %d are lost", wrong, len(at), lost)
			}
			if again.Mark() != mark {
				t.Errorf("recovered mark %v", again.Mark())
			}
		})
	}
}
