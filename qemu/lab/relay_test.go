package lab

import (
	"bytes"
	"io"
	"net"
	"testing"
	"time"
)

// sink takes one connection and gives what came over it once it has ended.
func sink(t *testing.T) (address string, got chan []byte) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	got = make(chan []byte, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			return
		}
		defer c.Close()
		b, _ := io.ReadAll(c)
		got <- b
	}()
	return l.Addr().String(), got
}

func relay(t *testing.T, target string) (*Relay, net.Conn) {
	t.Helper()
	r, err := NewRelay("tcp:" + target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { r.Close() })
	c, err := net.Dial("tcp", r.Address()[len("tcp:"):])
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return r, c
}

var text = bytes.Repeat([]byte("0123456789abcdef"), 64<<10)

func TestRelay(t *testing.T) {
	address, got := sink(t)
	r, c := relay(t, address)
	if _, err := c.Write(text); err != nil {
		t.Fatal(err)
	}
	c.Close()
	if b := <-got; !bytes.Equal(b, text) || r.Bytes() != int64(len(text)) {
		t.Errorf("%d of %d bytes arrived, %d were counted", len(b), len(text), r.Bytes())
	}
}

func TestRelayCuts(t *testing.T) {
	for _, k := range []int64{1, 1000, 65536, 300_001} {
		address, got := sink(t)
		r, c := relay(t, address)
		r.CutAt(k)
		_, _ = c.Write(text)
		// Sent in full or not is the kernel's affair: what the target read is not more than k.
		if b := <-got; int64(len(b)) > k || r.Bytes() != k {
			t.Errorf("cut at %d: %d bytes arrived, %d were counted", k, len(b), r.Bytes())
		}
		c.SetReadDeadline(time.Now().Add(5 * time.Second))
		if _, err := c.Read(make([]byte, 1)); err == nil {
			t.Errorf("cut at %d: the sender was not told", k)
		}
	}
}

func TestRelayStalls(t *testing.T) {
	address, got := sink(t)
	r, c := relay(t, address)
	const k = 70_001
	stalled := r.StallAt(k)
	go func() {
		_, _ = c.Write(text)
		c.Close()
	}()
	<-stalled
	select {
	case <-got:
		t.Fatal("the connection ended")
	default:
	}
	if r.Bytes() != k {
		t.Errorf("stalled at %d, want %d", r.Bytes(), k)
	}
	r.Resume()
	if b := <-got; !bytes.Equal(b, text) {
		t.Errorf("%d of %d bytes arrived", len(b), len(text))
	}
}
