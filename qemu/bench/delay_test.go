package bench

import (
	"bytes"
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// TestDelayProxy sends data there and back: whole, not before a round trip has passed, and counted.
func TestDelayProxy(t *testing.T) {
	echo, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer echo.Close()
	go func() {
		for {
			c, err := echo.Accept()
			if err != nil {
				return
			}
			go func() {
				io.Copy(c, c)
				c.Close()
			}()
		}
	}()
	p, err := startDelay(echo.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer p.stop()
	data := bytes.Repeat([]byte("ratchet "), 1<<16)
	for _, trip := range []time.Duration{0, 40 * time.Millisecond} {
		p.set(trip)
		p.sent.Store(0)
		c, err := net.Dial("tcp", p.Address)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		go func() {
			c.Write(data)
			c.(*net.TCPConn).CloseWrite()
		}()
		got, err := io.ReadAll(c)
		if err != nil || !bytes.Equal(got, data) {
			t.Errorf("round trip %s: %d of %d bytes came back: %v", trip, len(got), len(data), err)
		}
		if took := time.Since(start); took < trip {
			t.Errorf("round trip %s took %s", trip, took)
		}
		if n := p.sent.Load(); n != int64(len(data)) {
			t.Errorf("%d bytes counted, %d were sent", n, len(data))
		}
		c.Close()
	}
	c, err := net.Dial("tcp", p.Address)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	p.stop() // with a connection open
	if _, err := c.Read(make([]byte, 1)); err == nil {
		t.Error("the connection survived the proxy")
	}
}

func TestDelayOrders(t *testing.T) {
	for _, c := range []struct{ name, orders, answers, err string }{
		{"none", "", "", ""},
		{"a round trip and a question", "5ms\nsent\n", "0\n0\n", ""},
		{"garbage", "0s\nfaster\n5ms\n", "0\n", `"faster"`},
	} {
		var out bytes.Buffer
		err := Delay("127.0.0.1:1", strings.NewReader(c.orders), &out)
		_, answers, _ := strings.Cut(out.String(), "\n") // after the address
		if answers != c.answers || (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
			t.Errorf("%s: %q, %v", c.name, answers, err)
		}
	}
}
