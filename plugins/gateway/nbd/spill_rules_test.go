package nbd

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync/atomic"
	"testing"
)

// TestSpillRules: a spill takes what its socket holds up to the bounds of a connection and of all, gives it back in its
// order, its memory as it is consumed, and nothing of it once the connection has ended.
func TestSpillRules(t *testing.T) {
	for name, tc := range map[string]struct {
		others     int64 // bytes that others hold
		sent, want int
	}{
		"nothing":           {},
		"little":            {sent: 1, want: 1},
		"a piece":           {sent: spillPiece, want: spillPiece},
		"some":              {sent: 3*spillPiece + 7, want: 3*spillPiece + 7},
		"too much":          {sent: maxSpilled + 9, want: maxSpilled},
		"too much with all": {others: allSpilled - 2*spillPiece, sent: 3 * spillPiece, want: 2 * spillPiece},
		"all is taken":      {others: allSpilled, sent: 1},
	} {
		t.Run(name, func(t *testing.T) {
			client, server := sockets(t)
			fd := int(server.Fd())
			var all atomic.Int64
			all.Store(tc.others)
			sp := spill{link: new(link), all: &all}
			data := bytes.Repeat([]byte("spilt, "), tc.sent/7+1)[:tc.sent]
			sp.drain(fd)
			for rest := data; len(rest) > 0; rest = rest[min(len(rest), 16<<10):] {
				if _, err := client.Write(rest[:min(len(rest), 16<<10)]); err != nil {
					t.Fatal(err)
				}
				sp.drain(fd)
			}
			if sp.n != tc.want || all.Load() < tc.others+int64(tc.want) || all.Load() > allSpilled {
				t.Fatalf("%d bytes, %d are counted, want %d", sp.n, all.Load()-tc.others, tc.want)
			}
			data = data[:tc.want]
			for _, n := range []int{0, 1, requestLen, spillPiece + 1} {
				if got := sp.tail(n); !bytes.Equal(got, last(data, n)) {
					t.Errorf("the last %d are %d others", n, len(got))
				}
			}
			rd := &reader{src: bytes.NewReader(nil), spill: sp}
			got := make([]byte, tc.want)
			if err := rd.readFull(got); err != nil || !bytes.Equal(got, data) {
				t.Errorf("others are read: %v", err)
			}
			if _, err := rd.read(make([]byte, 1)); !errors.Is(err, io.EOF) || all.Load() != tc.others || len(rd.spill.pieces) > 0 {
				t.Errorf("%v; %d bytes are counted", err, all.Load()-tc.others)
			}
		})
	}
	for name, tc := range map[string]struct {
		end  func(*spill)
		want error
	}{
		"client has left":    {func(sp *spill) { sp.gone = true }, errGone},
		"connection is over": {func(sp *spill) { sp.link.ended = true }, net.ErrClosed},
	} {
		t.Run(name, func(t *testing.T) {
			var all atomic.Int64
			sp := spill{link: new(link), all: &all}
			b := sp.open()
			b.b, sp.n = b.b[:9], 9
			tc.end(&sp)
			if k, err := sp.read(make([]byte, 9)); k > 0 || !errors.Is(err, tc.want) {
				t.Errorf("%d bytes, %v", k, err)
			}
			if sp.close(); all.Load() != 0 || sp.n != 0 {
				t.Errorf("%d bytes are counted", all.Load())
			}
		})
	}
}
